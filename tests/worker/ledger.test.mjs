// The books: adjustments, exports, reconciliation, compaction of the journal, and receipts that anybody can make again.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { at } from '../../scripts/lib.mjs';
import { OPERATOR_TOKEN, catalogCommand, startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';
import { eventually, sleep } from './support/wait.mjs';

const COST = 11 * 1000 + 7 * 2000;
const OWN = 'sk-own-credential-0123456789';
const VARS = { HOLD_MS: 1500, TOTAL_TIMEOUT_MS: 1400, JOURNAL_KEEP_MS: 1500, FREE_REQUESTS_PER_MINUTE: 3, BYOK_FEE_BASIS_POINTS: 250 };
const EXTRA = {
  models: [{ id: 'test/free' }, { id: 'test/both' }, { id: 'test/tiered' }, { id: 'test/embed', kind: 'embedding' }],
  offers: {
    p1: [
      { model: 'test/free', prices: {}, free: true },
      { model: 'test/both', prices: {}, free: true },
      { model: 'test/tiered', prices: { input_tokens: '1.000000001', output_tokens: '2' }, rules: [{ when: { service_tier: 'priority' }, multiplier: '1.75' }] },
      { model: 'test/embed', kind: 'embedding', prices: { input_tokens: '0.02' } },
    ],
    p2: [{ model: 'test/both', prices: { input_tokens: '3', output_tokens: '4' } }],
  },
};
let gateway;

describe('The books', { timeout: 120_000 }, () => {
  before(async () => {
    gateway = await startGateway({ providers: ['p1', 'p2'], vars: VARS, extra: EXTRA });
  });
  after(() => gateway?.stop());

  const post = (t, route, body) => gateway.admin('POST', `/workspaces/${t.workspace}${route}`, body);
  const reconcile = async (t) => (await post(t, '/reconcile')).is(200).json;
  const exported = async (t, format) => {
    const reply = await gateway.open('GET', `/v1/admin/workspaces/${t.workspace}/credits?format=${format}`, { key: OPERATOR_TOKEN }).reply;
    return reply.is(200).text;
  };

  test('credits say what is available, held and settled; an adjustment counts once and names its request', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const { id } = (await t.chat()).is(200);
    await t.row(id);
    const credits = await t.settled();
    assert.deepEqual([credits.settled_nanos, credits.balance_nanos, credits.available_nanos, credits.settled], [COST, 10e9 - COST, 10e9 - COST, '0.000025']);
    const adjustment = { amount: '0.000025', reason: 'an outage', idempotency_key: 'ticket-1', request_id: id };
    const replies = await Promise.all([1, 2, 3].map(() => post(t, '/credits/adjustments', adjustment)));
    assert.equal(new Set(replies.map((reply) => reply.is(201).json.entry.id)).size, 1);
    assert.equal((await post(t, '/credits/adjustments', { ...adjustment, amount: '1' })).fails('idempotency_conflict').param, 'idempotency_key');
    assert.equal((await post(t, '/credits/adjustments', { ...adjustment, request_id: 'x' })).fails('invalid_input').param, 'request_id');
    assert.equal((await post(t, '/credits/adjustments', { ...adjustment, idempotency_key: 'zero', amount: '0' })).fails('invalid_input').param, 'amount');
    const { entries, balance } = await t.ledger(1);
    assert.deepEqual(entries.map(({ kind, nanos, request }) => [kind, nanos, request]), [['adjustment', COST, id], ['charge', -COST, undefined], ['grant', 10e9, undefined]]);
    assert.equal(balance, 10e9);
    assert.ok((await reconcile(t)).agrees);
  });

  test('an export has every entry, as lines and as a table', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    for (let i = 0; i < 5; i++) (await t.chat()).is(200);
    await t.settled();
    const { entries } = await t.ledger(2);
    const lines = (await exported(t, 'jsonl')).trim().split('\n').map((line) => JSON.parse(line));
    assert.deepEqual(lines, entries);
    const [head, ...rows] = (await exported(t, 'csv')).trim().split('\r\n').map((line) => line.split(','));
    assert.deepEqual(head.slice(0, 5), ['id', 'created_at', 'kind', 'nanos', 'balance']);
    assert.deepEqual(rows.map((row) => [row[0], Number(row[3]), Number(row[4])]), entries.map((entry) => [entry.id, entry.nanos, entry.balance]));
    (await gateway.admin('GET', `/workspaces/${t.workspace}/credits?format=xml`)).fails('invalid_input');
  });

  test('a reconciliation names each difference by its request', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const ids = [];
    for (let i = 0; i < 4; i++) ids.push((await t.chat(i % 2 ? { stream: true } : {})).is(200).id);
    await t.settled();
    const good = await reconcile(t);
    assert.deepEqual([good.agrees, good.entries, good.rows, good.activity_nanos, good.ledger_nanos], [true, 5, 4, 4 * COST, 10e9 - 4 * COST], JSON.stringify(good));
    await eventually(async () => (await gateway.d1('SELECT count(*) AS n FROM activity WHERE workspace = ?', t.workspace))[0].n === 4, 'the rows are in D1');
    await gateway.d1('DELETE FROM activity WHERE workspace = ? AND id = ?', t.workspace, ids[1]);
    await gateway.d1('UPDATE activity SET cost_nanos = cost_nanos + 5 WHERE workspace = ? AND id = ?', t.workspace, ids[2]);
    await gateway.d1('INSERT INTO activity SELECT workspace, ?3, at, key, model, provider, status, ending, cost_nanos, prompt_tokens, completion_tokens, row FROM activity WHERE workspace = ?1 AND id = ?2', t.workspace, ids[0], `${ids[0].slice(0, -4)}ZZZZ`);
    const bad = await reconcile(t);
    assert.equal(bad.agrees, false);
    const found = Object.fromEntries(bad.differences.map(({ id, what }) => [id, what]));
    assert.deepEqual(found, { [ids[1]]: 'no_row', [ids[2]]: 'amount', [`${ids[0].slice(0, -4)}ZZZZ`]: 'no_entry' });
    const amount = bad.differences.find(({ what }) => what === 'amount');
    assert.deepEqual([amount.ledger_nanos, amount.other_nanos, bad.sums_agree], [COST, COST + 5, true]);
  });

  test('the journal is compacted, and nobody can tell from the ledger', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const first = (await t.chat()).is(200).id;
    for (let i = 0; i < 210; i++) await gateway.grant(t.workspace, '0.000000001', `small-${i}`);
    await t.settled();
    const before = await t.ledger(100);
    assert.equal(before.entries.length, 212);
    await sleep(VARS.JOURNAL_KEEP_MS + 200);
    // The next request's flush finds rows that are old enough.
    const last = (await t.chat()).is(200).id;
    await eventually(async () => (await gateway.d1('SELECT count(*) AS n FROM ledger WHERE workspace = ?', t.workspace))[0].n === 1, 'a page is in D1', { ms: 15_000, pause: 200 });
    const [page] = await gateway.d1('SELECT first, last, entries FROM ledger WHERE workspace = ?', t.workspace);
    assert.ok(JSON.parse(page.entries).length >= 200 && !page.entries.includes('"row"'), 'entries without their rows');
    for (const limit of [7, 100, 200]) {
      const { entries, balance } = await t.ledger(limit);
      assert.equal(entries.length, 213, `by ${limit}`);
      assert.deepEqual(entries.slice(1), before.entries);
      assert.deepEqual([entries[0].id, entries[0].balance], [last, balance]);
    }
    assert.equal((await exported(t, 'jsonl')).trim().split('\n').length, 213);
    const books = await reconcile(t);
    assert.ok(books.agrees && books.is_whole && books.entries === 213, JSON.stringify(books));
    const credits = await t.settled();
    assert.deepEqual([credits.settled_nanos, credits.balance_nanos], [2 * COST, 10e9 + 210 - 2 * COST]);
    assert.equal((await t.row(first)).id, first);
  });

  test('free offers serve without credits under a limit of their own, and then those that are paid', async () => {
    const t = await gateway.scene({ model: 'test/free', at: ['p1'], dollars: '0' });
    for (let i = 0; i < VARS.FREE_REQUESTS_PER_MINUTE; i++) assert.equal((await t.row((await t.chat(i % 2 ? { stream: true } : {})).is(200).id)).cost_nanos, 0);
    const refused = (await t.chat()).fails('rate_limited');
    assert.deepEqual(refused.details, { limit: 'FREE_REQUESTS_PER_MINUTE' });
    assert.match(refused.message, /free/);
    const both = await gateway.scene({ model: 'test/both', at: ['p1', 'p2'] });
    const served = [];
    for (let i = 0; i < VARS.FREE_REQUESTS_PER_MINUTE + 1; i++) served.push((await both.chat()).is(200).headers['x-gateway-provider']);
    assert.deepEqual(served, ['p1', 'p1', 'p1', 'p2']);
    assert.equal((await both.settled()).balance_nanos, 10e9 - (11 * 3000 + 7 * 4000));
  });

  test('a receipt is made again from the published catalog, and a difference fails', async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-receipt-'));
    try {
      const kv = await gateway.mf.getKVNamespace('KV');
      const rows = [];
      const tiered = await gateway.scene({ model: 'test/tiered', at: ['p1'] });
      rows.push(['plain', await tiered.row((await tiered.chat()).is(200).id)]);
      rows.push(['streamed', await tiered.row((await tiered.stream({ usage: { include: true } })).is(200).id)]);
      tiered.p1.does(up.answer({ usage: up.usage(1001, 10, { prompt_tokens_details: { cached_tokens: 300 } }), service_tier: 'priority' }));
      rows.push(['of another tier', await tiered.row((await tiered.chat({ service_tier: 'priority' })).is(200).id)]);
      const own = await gateway.scene({ at: ['p1'] });
      (await post(own, '/byok/p1', { key: OWN })).is(201);
      rows.push(['with an own key', await own.row((await own.chat()).is(200).id)]);
      const embed = await gateway.scene({ model: 'test/embed', at: ['p1'] });
      embed.p1.does(up.reply({ object: 'list', data: [{ object: 'embedding', index: 0, embedding: [1] }], model: 'up', usage: { prompt_tokens: 333, total_tokens: 333 } }));
      const media = (await gateway.call('POST', '/v1/embeddings', { key: embed.key, body: { model: 'test/embed', input: 'hello' } })).is(200);
      rows.push(['of embeddings', await embed.row(media.headers['x-request-id'])]);
      const failed = await gateway.scene({ at: ['p1'] });
      failed.p1.does(up.fail(500));
      rows.push(['that failed', await failed.row((await failed.chat()).id)]);
      const command = await catalogCommand();
      const made = (row) => {
        const snapshot = path.join(folder, 'snapshot.json');
        const file = path.join(folder, 'row.json');
        fs.writeFileSync(file, JSON.stringify(row));
        return execFileSync(command, ['receipt', '--snapshot', snapshot, file], { cwd: at('.'), encoding: 'utf8', stdio: 'pipe' });
      };
      for (const [what, row] of rows) {
        const key = `catalog/${row.snapshot}/model/${row.model ?? row.model_asked}`;
        const value = await kv.get(key);
        assert.ok(value, `${what}: ${key}`);
        fs.writeFileSync(path.join(folder, 'snapshot.json'), JSON.stringify({ snapshot: { id: row.snapshot }, pairs: [{ key, value }] }));
        const text = made(row);
        assert.match(text, new RegExp(`\\(${row.cost_nanos} nano-dollars\\)`), `${what}: ${text}`);
        assert.ok(text.includes(`paid by ${row.paid_by}`), text);
        assert.throws(() => made({ ...row, cost_nanos: row.cost_nanos + 1 }), /was charged/, what);
      }
      const [, plain] = rows[0];
      fs.writeFileSync(path.join(folder, 'snapshot.json'), JSON.stringify({ snapshot: { id: plain.snapshot }, pairs: [{ key: `catalog/${plain.snapshot}/model/test/tiered`, value: await kv.get(`catalog/${plain.snapshot}/model/test/tiered`) }] }));
      assert.throws(() => made({ ...plain, usage: { ...plain.usage, output_tokens: 8 } }), /lines/);
      assert.throws(() => made({ ...plain, snapshot: '0123456789abcdef' }), /snapshot/);
      assert.equal(rows[3][1].fee.basis_points, 250);
      assert.ok(rows[2][1].rules.length === 1 && rows[2][1].basis.service_tier === 'priority');
      const entries = (await own.ledger()).entries.map(({ kind }) => kind);
      assert.deepEqual(entries, ['fee', 'grant']);
    } finally {
      fs.rmSync(folder, { recursive: true, force: true });
    }
  });
});
