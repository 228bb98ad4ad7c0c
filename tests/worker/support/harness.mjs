// The built Worker under workerd (Miniflare's own API), with providers that tests script, a catalog made for them, and fresh
// workspaces. Real HTTP on loopback at both ends.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { execFile, execFileSync } from 'node:child_process';
import { promisify } from 'node:util';
import { Miniflare, Log, LogLevel } from 'miniflare';
import { at, environment, filesBelow } from '../../../scripts/lib.mjs';
import { Call, SECRET } from './client.mjs';
import { checkerOf } from './interface.mjs';
import { Upstream } from './upstream.mjs';
import { isolateOf, whileWatched } from '../../../scripts/bench/memory.mjs';
import { eventually } from './wait.mjs';

export const OPERATOR_TOKEN = `operator-${SECRET}`;
export const KEY_HASH_SECRET = `pepper-${SECRET}`;
/** Prices of each provider's offers of the tests' models, in dollars for a million tokens: who served can be read off the cost. */
export const PRICES = {
  p1: { input_tokens: '1', output_tokens: '2' },
  p2: { input_tokens: '3', output_tokens: '4' },
  p3: { input_tokens: '5', output_tokens: '6' },
};
const PUTS_AT_ONCE = 64;
const BUILD = at('build');
const run = promisify(execFile);

// ── Catalog ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The catalog command, built where it is missing or older than the sources. */
export async function catalogCommand() {
  if (process.env.GATEWAY_CATALOG_BIN) return process.env.GATEWAY_CATALOG_BIN;
  const built = path.join(process.env.CARGO_TARGET_DIR || at('target'), 'debug/catalog');
  const time = (file) => fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const newest = Math.max(...filesBelow(['src/bin', 'src/catalog', 'src/catalog.rs', 'src/activity', 'src/ledger', 'src/money.rs', 'src/usage.rs', 'Cargo.lock']).map(time));
  if (time(built) < newest) {
    try {
      await run('cargo', ['build', '--quiet', '--bin', 'catalog'], { cwd: at('.'), env: environment(), maxBuffer: 1 << 26 });
    } catch (error) {
      throw new Error(`the catalog command does not build:\n${error.stderr ?? error.message}`);
    }
  }
  return built;
}

/** Compiles a catalog `{providers: […], models: […]}` as its files would be written, with folders `beside` it; returns `{snapshot, pairs}`. */
export async function compileCatalog({ providers, models }, beside = []) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-catalog-'));
  try {
    const write = (file, value) => {
      fs.mkdirSync(path.dirname(path.join(folder, file)), { recursive: true });
      fs.writeFileSync(path.join(folder, file), JSON.stringify(value, null, 1));
    };
    for (const provider of providers) write(`providers/${provider.id}.json`, provider);
    for (const organisation of new Set(models.map((model) => model.id.split('/')[0]))) {
      const own = models.filter((model) => model.id.startsWith(`${organisation}/`));
      write(`models/${organisation}.json`, { organisation: { id: organisation }, models: own });
    }
    const out = path.join(folder, 'snapshot.out');
    await run(await catalogCommand(), ['compile', '--out', out, folder, ...beside], { maxBuffer: 1 << 26 });
    return JSON.parse(fs.readFileSync(out, 'utf8'));
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

const offer = (model, upstream, prices, more = {}) => ({
  model, upstream, context: 32768, max_output: 4096, can: ['tools', 'vision', 'structured_output'],
  prices, as_of: '2026-11-25', sources: ['test'], ...more,
});

/** The catalog of a test file: `scenes` models that every provider offers, and what `extra` adds. */
function catalogOf(upstreams, scenes, extra) {
  const names = Array.from({ length: scenes }, (_, i) => `s${String(i + 1).padStart(3, '0')}`);
  const models = [...names.map((name) => ({ id: `test/${name}` })), ...(extra.models ?? [])];
  const providers = Object.values(upstreams).map((upstream) => ({
    id: upstream.name,
    base_url: upstream.url,
    key_env: `${upstream.name.toUpperCase()}_KEY`,
    offers: [
      ...names.map((name) => offer(`test/${name}`, name, PRICES[upstream.name])),
      ...(extra.offers?.[upstream.name] ?? []).map(({ model, upstream: name, prices, ...more }) => offer(model, name ?? model, prices, more)),
    ],
    ...extra.about?.[upstream.name],
  }));
  const more = (extra.providers ?? []).map(({ offers, allScenes, ...provider }) => ({
    ...provider,
    offers: [
      ...(allScenes ? names.map((name) => offer(`test/${name}`, name, PRICES.p1)) : []),
      ...(offers ?? []).map(({ model, upstream: name, prices, ...more }) => offer(model, name ?? model, prices, more)),
    ],
  }));
  return { providers: [...providers, ...more], models };
}

// ── Gateway ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** SQL statements of a migration. Trigger bodies are kept whole. */
function statementsOf(sql) {
  const lines = sql.split('\n').map((line) => line.replace(/^\s*--.*$/, ''));
  const statements = [];
  let current = '';
  for (const line of lines) {
    current += `${line}\n`;
    const isTrigger = /^\s*CREATE\s+(TEMP\s+)?TRIGGER/i.test(current);
    if (/;\s*(--.*)?$/.test(line) && (!isTrigger || /\bEND\s*;\s*$/i.test(current))) {
      statements.push(current.trim());
      current = '';
    }
  }
  if (current.trim()) statements.push(current.trim());
  return statements;
}

function modules() {
  const index = path.join(BUILD, 'index.js');
  if (!fs.existsSync(index)) throw new Error(`${index} is not there: run "node scripts/build.mjs" first`);
  const wasm = fs.readdirSync(BUILD).filter((name) => name.endsWith('.wasm'));
  return [{ type: 'ESModule', path: index }, ...wasm.map((name) => ({ type: 'CompiledWasm', path: path.join(BUILD, name) }))];
}

/**
 * Starts everything.
 *
 * `vars`: Worker variables; `secrets`: replaces secrets (null leaves one out); `providers`: names of scripted providers;
 * `scenes`: how many scenes the file may ask for; `extra`: more of the catalog, see `catalogOf`; `persist`: a folder that outlives it;
 * `archive`: whether a bucket for old rows is bound; `inspector`: whether the isolate's memory can be looked at;
 * `beside`: further catalog folders; `upstreams` and `migrate: false`: for a second start on the same folder.
 */
export async function startGateway({ vars = {}, secrets = {}, providers = ['p1', 'p2', 'p3'], scenes = 60, extra = {}, beside = [], persist, upstreams, migrate = true, archive = false, inspector = false } = {}) {
  const own = upstreams ?? Object.fromEntries(await Promise.all(providers.map(async (name) => [name, await Upstream.start(name)])));
  const gateway = new Gateway(own, upstreams === undefined);
  try {
    const more = typeof extra === 'function' ? await extra(own) : extra;
    const catalog = await compileCatalog(catalogOf(own, scenes, more), beside);
    await gateway.start({ vars, secrets, persist, catalog, migrate, archive, inspector });
  } catch (error) {
    await gateway.release();
    throw error;
  }
  return gateway;
}

class Gateway {
  /** What workerd wrote: console output, uncaught errors. */
  log = '';
  #sceneCount = 0;
  #ownsUpstreams;
  #restarts = [];

  constructor(upstreams, ownsUpstreams) {
    this.upstreams = upstreams;
    this.#ownsUpstreams = ownsUpstreams;
  }

  /** @internal */
  async start({ vars, secrets, persist, catalog, migrate, archive, inspector }) {
    const providerKeys = Object.keys(this.upstreams).map((name) => [`${name.toUpperCase()}_KEY`, providerKey(name)]);
    const bindings = { OPERATOR_TOKEN, KEY_HASH_SECRET, BYOK_SECRETS: `test:${SECRET}`, ...Object.fromEntries(providerKeys), ...vars, ...secrets };
    this.mf = new Miniflare({
      name: 'ai-stats-gateway',
      rootPath: BUILD,
      modulesRoot: BUILD,
      modules: modules(),
      compatibilityDate: '2026-07-01',
      compatibilityFlags: ['enable_request_signal'],
      bindings: Object.fromEntries(Object.entries(bindings).filter(([, value]) => value !== null).map(([name, value]) => [name, String(value)])),
      kvNamespaces: { KV: 'kv' },
      d1Databases: { DB: 'db' },
      ...(archive ? { r2Buckets: { ARCHIVE: 'archive' } } : {}),
      durableObjects: { WORKSPACE: { className: 'Workspace', useSQLite: true }, REPLAY: { className: 'Replay', useSQLite: true }, HEALTH: { className: 'Health', useSQLite: true }, COURIER: { className: 'Courier', useSQLite: true }, GENERATION: { className: 'Generation', useSQLite: true } },
      ...(persist ? { defaultPersistRoot: persist } : {}),
      host: '127.0.0.1',
      port: 0,
      cf: false,
      ...(inspector ? { inspectorPort: 0 } : {}),
      log: new Log(LogLevel.ERROR),
      handleRuntimeStdio: (stdout, stderr) => {
        for (const stream of [stdout, stderr]) {
          stream.on('data', (data) => {
            this.log += data;
            if (process.env.GATEWAY_TEST_LOG) process.stderr.write(data);
          });
        }
      },
      unsafeHandleRuntimeRestart: () => this.#restarts.splice(0).forEach((resolve) => resolve()),
    });
    this.url = (await this.mf.ready).origin;
    if (migrate) await this.migrate();
    await this.publish(catalog);
  }

  /** Applies every migration to the empty database. */
  async migrate() {
    const db = await this.mf.getD1Database('DB');
    const files = filesBelow(['migrations']).filter((file) => file.endsWith('.sql'));
    const statements = files.flatMap((file) => statementsOf(fs.readFileSync(file, 'utf8')));
    if (statements.length === 0) throw new Error('there are no migrations/*.sql');
    await db.batch(statements.map((statement) => db.prepare(statement)));
  }

  /** Writes a compiled catalog to KV and points to it. */
  async publish({ snapshot, pairs }) {
    const kv = await this.mf.getKVNamespace('KV');
    // All at once, more than a thousand connections wait for a busy machine, and some of them too long.
    for (let at = 0; at < pairs.length; at += PUTS_AT_ONCE) await Promise.all(pairs.slice(at, at + PUTS_AT_ONCE).map(({ key, value }) => kv.put(key, value)));
    const listed = { ...snapshot, published_at: new Date().toISOString() };
    const earlier = JSON.parse((await kv.get('catalog/snapshots')) ?? '[]');
    await kv.put('catalog/snapshots', JSON.stringify([listed, ...earlier.filter((other) => other.id !== snapshot.id)]));
    await kv.put('catalog/current', JSON.stringify({ snapshot: snapshot.id }));
    this.snapshot = snapshot.id;
  }

  /** Ends everything, also what did not start. */
  async release() {
    await this.mf?.dispose().catch(() => {});
    if (this.#ownsUpstreams) await Promise.all(Object.values(this.upstreams).map((upstream) => upstream.close()));
  }

  /** The same at the end of a test file: the Worker's log must be free of errors. */
  async stop() {
    await this.release();
    const bad = this.log.match(/^.*(?:panicked at|Uncaught|RuntimeError|hung|exceeded).*$/gim);
    assert.equal(bad, null, `the Worker's log has errors:\n${this.log.slice(0, 4000)}`);
  }

  /** What the isolate holds at most while `work` is done, in bytes: `{heap, buffers, most, result}`. Wants `inspector`. */
  async memory(work) {
    return whileWatched(await isolateOf(new URL(await this.mf.getInspectorURL()).port), work);
  }

  /** Kills workerd as a crash would, and waits until Miniflare has started it again on the same stores. */
  async crash() {
    const restarted = new Promise((resolve) => this.#restarts.push(resolve));
    const pid = workerdOf(process.pid);
    process.kill(pid, 'SIGKILL');
    await eventually(() => workerdOf(process.pid) !== pid, 'the killed workerd is gone');
    await restarted;
    this.url = (await this.mf.ready).origin;
  }

  /** Any request. */
  open(method, route, { headers = {}, body, key } = {}) {
    const authorization = key === undefined ? {} : { authorization: `Bearer ${key}` };
    return new Call(`${this.url}${route}`, { method, headers: { ...authorization, ...headers }, body });
  }

  /** The same, to its end, and held against the gateway's own description of itself. */
  async call(method, route, options) {
    const reply = await this.open(method, route, options).reply;
    this.checker ??= checkerOf((await this.open('GET', '/v1/openapi.json').reply).is(200).json);
    this.checker.answer(method, route, reply);
    return reply;
  }

  /** A request of the operator. */
  admin(method, route, body, headers = {}) {
    return this.call(method, `/v1/admin${route}`, { key: OPERATOR_TOKEN, body, headers });
  }

  /** A workspace with credits: its id. */
  async newWorkspace({ dollars = '10', limits, name = 'test' } = {}) {
    const { id } = (await this.admin('POST', '/workspaces', { name, ...(limits ? { limits } : {}) })).is(201).json;
    if (Number(dollars) > 0) await this.grant(id, dollars);
    return id;
  }

  async grant(workspace, dollars, idempotency_key = `grant-${Math.random()}`) {
    return (await this.admin('POST', `/workspaces/${workspace}/credits`, { amount: String(dollars), reason: 'test', idempotency_key })).is(201).json;
  }

  /** A key: its id and secret. */
  async newKey(workspace, options = {}) {
    const { id, key } = (await this.admin('POST', `/workspaces/${workspace}/keys`, { name: 'test', ...options })).is(201).json;
    return { id, key };
  }

  /** All ledger entries of a workspace, newest first, page by page, with the balance. */
  async ledger(workspace, limit = 100) {
    const entries = [];
    let [cursor, balance] = ['', undefined];
    do {
      const page = (await this.admin('GET', `/workspaces/${workspace}/credits?limit=${limit}${cursor && `&cursor=${encodeURIComponent(cursor)}`}`)).is(200).json;
      balance ??= page.credits.balance_nanos;
      entries.push(...page.data);
      cursor = page.next_cursor ?? '';
      assert.ok(entries.length < 500_000, 'the pages of the ledger do not end');
    } while (cursor);
    return { balance, entries };
  }

  /** One turn of the schedule. */
  async schedule() {
    const worker = await this.mf.getWorker();
    const { outcome } = await worker.scheduled({ cron: '17 * * * *', scheduledTime: new Date() });
    assert.equal(outcome, 'ok');
  }

  /** Rows of a statement on D1. */
  async d1(statement, ...values) {
    const db = await this.mf.getD1Database('DB');
    return (await db.prepare(statement).bind(...values).all()).results;
  }

  /**
   * A stage of one test's own: a fresh workspace with a key, and a model that no other test uses. `at` names who may serve, in order.
   */
  async scene({ at: providers = Object.keys(this.upstreams), dollars = '10', limits, key: keyOptions, model } = {}) {
    const name = model ? undefined : `s${String(++this.#sceneCount).padStart(3, '0')}`;
    const workspace = await this.newWorkspace({ dollars, limits });
    const { id: keyId, key } = await this.newKey(workspace, keyOptions);
    const stations = Object.fromEntries(Object.entries(this.upstreams).map(([id, upstream]) => [id, upstream.station(name ?? model)]));
    return new Scene({ gateway: this, model: model ?? `test/${name}`, name: name ?? model, providers, workspace, keyId, key, ...stations });
  }
}

/** The pid of workerd among the children of a process. */
function workerdOf(parent) {
  if (!fs.existsSync('/proc/self/stat')) {
    const list = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,comm='], { encoding: 'utf8' });
    const line = list.split('\n').map((text) => text.trim().split(/\s+/)).find(([, ppid, command]) => Number(ppid) === parent && command?.endsWith('workerd'));
    return line && Number(line[0]);
  }
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const [, ppid] = /\) \S (\d+) /.exec(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'));
      const isWorkerd = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')[0].endsWith('workerd');
      if (Number(ppid) === parent && isWorkerd) return Number(pid);
    } catch {}
  }
  return undefined;
}

/** The secret the gateway calls a provider with. */
export const providerKey = (name) => `sk-${name}-${SECRET}`;

/** See `Gateway.scene`. Has the stations of the model at each provider as `p1`, `p2`, …. */
class Scene {
  constructor(fields) {
    Object.assign(this, fields);
  }

  /** The body of a request, with the scene's model and providers. */
  body(more = {}) {
    return {
      model: this.model,
      messages: [{ role: 'user', content: 'Say hello.' }],
      provider: { order: this.providers, only: this.providers },
      ...more,
    };
  }

  /** A chat request under way. */
  open(body = {}, { headers = {}, key = this.key } = {}) {
    return this.gateway.open('POST', '/v1/chat/completions', { key, headers, body: typeof body === 'string' || Buffer.isBuffer(body) ? body : this.body(body) });
  }

  /** The same, to its end. */
  chat(body, options) {
    return this.open(body, options).reply;
  }

  /** A streamed one; the client asks for usage unless told otherwise. */
  stream(body = {}, options) {
    return this.chat(streamed(body), options);
  }

  openStream(body = {}, options) {
    return this.open(streamed(body), options);
  }

  get(route) {
    return this.gateway.call('GET', route, { key: this.key });
  }

  async credits() {
    return (await this.get('/v1/credits')).is(200).json;
  }

  /** The activity row of a request, as soon as it is there. */
  async row(id) {
    return eventually(async () => {
      const reply = await this.get(`/v1/generation?id=${id}`);
      return reply.status === 200 && reply.json;
    }, `GET /v1/generation?id=${id} has the row`);
  }

  /** All activity rows, newest first, page by page. */
  async activity(limit = 100) {
    const rows = [];
    let cursor = '';
    do {
      const page = (await this.get(`/v1/activity?limit=${limit}${cursor && `&cursor=${encodeURIComponent(cursor)}`}`)).is(200).json;
      assert.equal(page.object, 'list');
      rows.push(...page.data);
      cursor = page.next_cursor ?? '';
      assert.ok(rows.length < 500_000, 'the pages of activity do not end');
    } while (cursor);
    return rows;
  }

  ledger(limit) {
    return this.gateway.ledger(this.workspace, limit);
  }

  /** Waits until nothing is held any more; returns the credits. */
  async settled(ms = 5000) {
    let last;
    return eventually(async () => {
      last = await this.credits();
      return last.held_nanos === 0 && last;
    }, () => `every hold is released, but ${last?.held_nanos} nano-dollars are still held`, { ms });
  }
}

const streamed = (body) => (typeof body === 'string' ? body : { stream: true, stream_options: { include_usage: true }, ...body });
