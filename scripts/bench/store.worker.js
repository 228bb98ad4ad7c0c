// What stands in for KV and D1, in a process of its own: the measured process holds the gateway alone, as in production.
// KV speaks what workerd's KV binding sends, D1 what `cloudflare-internal:d1-api` sends. Both count.
import { DurableObject } from 'cloudflare:workers';

const values = new Map();
const counters = { kv_reads: 0, kv_bytes_read: 0, kv_writes: 0, kv_lists: 0, d1_calls: 0, d1_rows_written: 0, d1_rows_read: 0 };

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    if (url.pathname === '/__counters') return Response.json(counters);
    if (url.pathname === '/query' || url.pathname === '/execute') return env.DATABASE.getByName('database').fetch(request);
    return kv(request, url);
  },
};

async function kv(request, url) {
  const name = decodeURIComponent(url.pathname.slice(1));
  if (request.method === 'PUT') {
    counters.kv_writes += 1;
    values.set(name, { value: await request.arrayBuffer(), metadata: request.headers.get('CF-KV-Metadata') });
    return new Response();
  }
  if (request.method === 'DELETE') {
    counters.kv_writes += 1;
    values.delete(name);
    return new Response();
  }
  if (request.method === 'POST') {
    const { keys, type } = await request.json();
    counters.kv_reads += keys.length;
    for (const key of keys) counters.kv_bytes_read += values.get(key)?.value.byteLength ?? 0;
    const text = (key) => new TextDecoder().decode(values.get(key).value);
    return Response.json(Object.fromEntries(keys.map((key) => [key, !values.has(key) ? null : type === 'json' ? JSON.parse(text(key)) : text(key)])));
  }
  if (name === '') {
    counters.kv_lists += 1;
    const prefix = url.searchParams.get('prefix') ?? '';
    const limit = Number(url.searchParams.get('key_count_limit') ?? 1000);
    const after = url.searchParams.get('cursor') ?? '';
    const names = [...values.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
    const page = names.slice(0, limit);
    const rest = names.length > limit ? { list_complete: false, cursor: page.at(-1) } : { list_complete: true };
    return Response.json({ keys: page.map((key) => ({ name: key })), ...rest, cacheStatus: null });
  }
  counters.kv_reads += 1;
  const found = values.get(name);
  if (!found) return new Response('Not Found', { status: 404 });
  counters.kv_bytes_read += found.value.byteLength;
  return new Response(found.value, { headers: found.metadata ? { 'CF-KV-Metadata': found.metadata } : {} });
}

export class Database extends DurableObject {
  async fetch(request) {
    const body = await request.json();
    const format = new URL(request.url).searchParams.get('resultsFormat');
    const queries = Array.isArray(body) ? body : [body];
    counters.d1_calls += 1;
    const { storage } = this.ctx;
    try {
      const results = storage.transactionSync(() => queries.map((query) => this.#query(query, format)));
      return Response.json(results);
    } catch (error) {
      return Response.json({ success: false, error: String(error?.message ?? error) }, { status: 500 });
    }
  }

  #query({ sql, params }, format) {
    const changes = () => this.ctx.storage.sql.exec('SELECT total_changes() AS n, last_insert_rowid() AS last').one();
    const before = changes();
    const values = (params ?? []).map((value) => (Array.isArray(value) ? new Uint8Array(value) : value));
    const cursor = this.ctx.storage.sql.exec(sql, ...values);
    const columns = cursor.columnNames;
    const plain = (value) => (value instanceof ArrayBuffer ? [...new Uint8Array(value)] : value);
    const rows = [...cursor.raw()].map((row) => row.map(plain));
    const after = changes();
    counters.d1_rows_written += cursor.rowsWritten;
    counters.d1_rows_read += cursor.rowsRead;
    const results = format === 'ROWS_AND_COLUMNS' ? { columns, rows } : rows.map((row) => Object.fromEntries(columns.map((name, i) => [name, row[i]])));
    const meta = {
      served_by: 'bench', duration: 0, changes: after.n - before.n, last_row_id: after.last, changed_db: after.n !== before.n,
      size_after: this.ctx.storage.sql.databaseSize, rows_read: cursor.rowsRead, rows_written: cursor.rowsWritten,
    };
    return { success: true, results, meta };
  }
}
