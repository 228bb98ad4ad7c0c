// What can be done with a key besides making it: shown with what it spent, rotated with an overlap, reported as leaked, revoked
// under load.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { KEY_HASH_SECRET, startGateway } from './support/harness.mjs';
import { eventually, sleep } from './support/wait.mjs';

let gateway;

const path = (t, rest = '') => `/workspaces/${t.workspace}/keys/${t.keyId}${rest}`;
const shown = async (t) => (await gateway.admin('GET', path(t))).is(200).json;
const rotate = (t, body = {}) => gateway.admin('POST', path(t, '/rotate'), body);
const report = (body, headers) => gateway.call('POST', '/v1/keys/leaked', { body, headers });

describe('Rotation, leaks and revocation of keys', { timeout: 90_000 }, () => {
  before(async () => {
    gateway = await startGateway({ providers: ['p1'] });
  });
  after(() => gateway?.stop());

  test('one key is shown with its spend, its requests and its last use, without a D1 write for each request', async () => {
    const t = await gateway.scene();
    const fresh = await shown(t);
    assert.deepEqual([fresh.requests, fresh.last_used_at, fresh.spend.total.spent_nanos], [0, null, 0]);
    const other = await gateway.newKey(t.workspace, { name: 'other' });
    const costs = [];
    for (let i = 0; i < 3; i += 1) costs.push((await t.row((await t.chat()).is(200).id)).cost_nanos);
    const used = await shown(t);
    const sum = costs.reduce((a, b) => a + b, 0);
    assert.deepEqual([used.requests, used.spend.total.spent_nanos], [3, sum]);
    assert.ok(sum > 0 && Math.abs(Date.now() - Date.parse(used.last_used_at)) < 60_000, used.last_used_at);
    const { data } = (await gateway.admin('GET', `/workspaces/${t.workspace}/keys`)).is(200).json;
    assert.deepEqual(data.map((key) => [key.id, key.requests, key.spend.total.spent_nanos]), [[other.id, 0, 0], [t.keyId, 3, sum]]);
    const [row] = await gateway.d1('SELECT policy FROM keys WHERE id = ?', t.keyId);
    assert.ok(!row.policy.includes('requests"'), 'the record does not count');
    (await gateway.admin('GET', `/workspaces/${t.workspace}/keys/key_00000000000000000000000000`)).fails('not_found');
  });

  test('keys are listed page by page', async () => {
    const t = await gateway.scene();
    for (let i = 0; i < 4; i += 1) await gateway.newKey(t.workspace, { name: `k${i}` });
    const names = [];
    for (let cursor = ''; cursor !== null; ) {
      const page = (await gateway.admin('GET', `/workspaces/${t.workspace}/keys?limit=2${cursor && `&cursor=${cursor}`}`)).is(200).json;
      assert.ok(page.data.length <= 2);
      names.push(...page.data.map(({ name }) => name));
      cursor = page.next_cursor;
    }
    assert.deepEqual(names, ['k3', 'k2', 'k1', 'k0', 'test']);
    assert.equal((await gateway.admin('GET', `/workspaces/${t.workspace}/keys?limit=0`)).fails('invalid_input').param, 'limit');
  });

  test('while they overlap both secrets work; then the old one stops, at its moment', async () => {
    const t = await gateway.scene();
    (await t.chat()).is(200);
    const began = Date.now();
    const rotated = (await rotate(t, { overlap_seconds: 3 })).is(200).json;
    assert.match(rotated.key, /^aisg_[0-9A-Za-z]{49}$/);
    assert.notEqual(rotated.key, t.key);
    assert.deepEqual([rotated.id, rotated.hint], [t.keyId, rotated.key.slice(-4)]);
    const stops = Date.parse(rotated.old_secret_expires_at);
    assert.ok(Math.abs(stops - began - 3000) < 1000, rotated.old_secret_expires_at);
    for (const key of [t.key, rotated.key]) {
      (await t.chat({}, { key })).is(200);
      assert.equal((await gateway.call('GET', '/v1/key', { key })).is(200).json.id, t.keyId, 'it is one key');
    }
    await eventually(async () => (await t.chat()).status === 401, 'the old secret is refused', { ms: 6000, pause: 50 });
    const late = Date.now() - stops;
    assert.ok(late > -50 && late < 1500, `it stopped ${late} ms after its moment`);
    (await gateway.call('GET', '/v1/key', { key: t.key })).fails('unauthenticated');
    (await t.chat({}, { key: rotated.key })).is(200);
    assert.equal((await shown(t)).requests >= 4, true, 'and counts as one');
  });

  test('without an overlap, and with a second rotation, older secrets stop at once', async () => {
    const t = await gateway.scene();
    (await t.chat()).is(200);
    const second = (await rotate(t)).is(200).json.key;
    (await t.chat()).fails('unauthenticated');
    (await t.chat({}, { key: second })).is(200);
    const bare = (await gateway.admin('POST', path(t, '/rotate'))).is(200).json.key;
    (await t.chat({}, { key: second })).fails('unauthenticated');
    const third = (await rotate(t, { overlap_seconds: 600 })).is(200).json.key;
    (await t.chat({}, { key: bare })).is(200);
    const fourth = (await rotate(t, { overlap_seconds: 600 })).is(200).json.key;
    (await t.chat({}, { key: bare })).fails('unauthenticated');
    for (const key of [third, fourth]) (await t.chat({}, { key })).is(200);
    (await gateway.admin('DELETE', path(t))).is(200);
    for (const key of [t.key, second, third, fourth]) (await t.chat({}, { key })).fails('unauthenticated');
    (await rotate(t)).fails('not_found');
  });

  test('an overlap has its bounds', async () => {
    const t = await gateway.scene();
    for (const overlap_seconds of [604_801, -1, 1.5, 'long']) {
      assert.equal((await rotate(t, { overlap_seconds })).fails('invalid_input').param, 'overlap_seconds');
    }
    (await rotate(t, { overlap_seconds: 604_800 })).is(200);
  });

  test('a report is answered the same whatever it holds, and what it finds is revoked', async () => {
    const [a, b, c] = [await gateway.scene(), await gateway.scene(), await gateway.scene()];
    const unknown = `${a.key.slice(0, -1)}${a.key.endsWith('0') ? '1' : '0'}`;
    const answers = [];
    for (const body of [{ key: unknown }, 'no json', '', '[[[', { key: 5 }, Buffer.from([0xff, 0xfe]), 'x'.repeat(100_000)]) answers.push(await report(body));
    (await a.chat()).is(200);
    answers.push(await report({ key: a.key }), await report({ key: a.key }));
    (await a.chat()).fails('unauthenticated');
    (await a.get('/v1/credits')).fails('unauthenticated');
    // The form in which a code host reports, and a log.
    answers.push(await report([{ token: b.key, type: 'aisg', url: 'https://host/repo' }]));
    answers.push(await report(`GET / Authorization: Bearer ${c.key}\n`, { 'content-type': 'text/plain' }));
    for (const t of [b, c]) (await t.chat()).fails('unauthenticated');
    for (const answer of answers) {
      answer.is(202);
      assert.equal(answer.text, answers[0].text);
    }
    assert.equal((await shown(a)).revoked, true);
    const rows = await gateway.d1('SELECT actor, action, before, after FROM audit WHERE subject = ? AND actor = ?', a.keyId, 'leak_report');
    assert.deepEqual(rows.map(({ actor, action, before, after }) => [actor, action, JSON.parse(before).revoked, JSON.parse(after).revoked]), [['leak_report', 'keys.leaked', false, true]]);
  });

  test('an edge that still believes in a revoked key gives it nothing: no answer, no kept answer, no look', async () => {
    const t = await gateway.scene();
    const headers = { 'idempotency-key': 'once' };
    (await t.chat({}, { headers })).is(200);
    await eventually(async () => (await t.chat({}, { headers })).headers['x-gateway-idempotent-replay'] === 'true', 'the answer is kept');
    const kv = await gateway.mf.getKVNamespace('KV');
    const copy = `key/${createHmac('sha256', KEY_HASH_SECRET).update(t.key).digest('hex')}`;
    const old = await kv.get(copy);
    (await gateway.admin('DELETE', path(t))).is(200);
    // What an isolate far away remembers, or reads from a place that has not heard yet.
    await kv.put(copy, old);
    const asked = t.p1.requests.length;
    for (const answer of [await t.chat({}, { headers }), await t.chat(), await t.stream(), ...(await Promise.all(['/v1/key', '/v1/credits', '/v1/activity'].map((route) => t.get(route))))]) {
      answer.fails('unauthenticated');
    }
    assert.equal(t.p1.requests.length, asked);
  });

  test('a leaked secret that was replaced already is stopped alone', async () => {
    const t = await gateway.scene();
    const { key } = (await rotate(t, { overlap_seconds: 600 })).is(200).json;
    (await report({ key: t.key })).is(202);
    (await t.chat()).fails('unauthenticated');
    (await t.chat({}, { key })).is(200);
  });

  test('at fifty requests a second none is admitted after the revocation has returned', async () => {
    const t = await gateway.scene({ limits: { requests_per_minute: 10_000 } });
    (await t.chat()).is(200);
    let revokedAt = Infinity;
    const sent = [];
    const began = performance.now();
    // A request leaves every 20 ms, whatever becomes of those before it, plain and streamed by turns.
    for (let n = 0; n < 150; n += 1) {
      const due = began + n * 20;
      if (due > performance.now()) await sleep(due - performance.now());
      const at = performance.now();
      const call = n % 2 ? t.openStream() : t.open();
      sent.push(call.reply.then((reply) => ({ at, n, reply })));
      if (n === 60) void gateway.admin('DELETE', path(t)).then((reply) => {
        reply.is(200);
        revokedAt = performance.now();
      });
    }
    const rate = sent.length / ((performance.now() - began) / 1000);
    const answers = await Promise.all(sent);
    const late = answers.filter(({ at }) => at > revokedAt);
    const early = answers.filter(({ n }) => n < 60);
    assert.ok(rate > 40, `${rate} requests a second`);
    assert.ok(late.length >= 40 && early.every(({ reply }) => reply.status === 200), `${late.length} came after it`);
    for (const { reply } of late) reply.fails('unauthenticated');
    const rows = [];
    for (let cursor = ''; cursor !== null; ) {
      const page = (await gateway.admin('GET', `/workspaces/${t.workspace}/activity?limit=100${cursor && `&cursor=${cursor}`}`)).is(200).json;
      rows.push(...page.data);
      cursor = page.next_cursor;
    }
    assert.equal(rows.length, answers.filter(({ reply }) => reply.status === 200).length + 1, 'each answer has its row, and nobody else');
  });
});
