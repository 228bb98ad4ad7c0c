// The life of a workspace, told through the administrator's routes alone: nothing looks into a store.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import { eventually } from './support/wait.mjs';

let gateway, workspace, key, station;
const model = 'test/s001';

const admin = (method, rest, body, headers) => gateway.admin(method, `/workspaces/${workspace.id}${rest}`, body, headers);
const ask = (fields = {}, { with: secret = key.key } = {}) =>
  gateway.call('POST', '/v1/chat/completions', { key: secret, body: { model, messages: [{ role: 'user', content: 'Say hello.' }], ...fields } });
const balance = async () => (await admin('GET', '/credits')).is(200).json.credits;
const rowOf = ({ id }) => eventually(async () => (await admin('GET', '/activity?limit=100')).is(200).json.data.find((row) => row.id === id), `the row of ${id}`);

describe('The life of a workspace', { timeout: 90_000 }, () => {
  before(async () => {
    gateway = await startGateway({ providers: ['p1', 'p2'] });
    station = Object.fromEntries(Object.entries(gateway.upstreams).map(([name, upstream]) => [name, upstream.station('s001')]));
  });
  after(() => gateway?.stop());

  test('it is made, and is empty', async () => {
    workspace = (await gateway.admin('POST', '/workspaces', { name: 'Acme' })).is(201).json;
    assert.deepEqual([workspace.name, workspace.suspended, workspace.deleted_at], ['Acme', false, null]);
    assert.equal((await balance()).balance, '0');
    assert.deepEqual((await admin('GET', '/keys')).is(200).json.data, []);
  });

  test('it is given credits, once, however often the grant is sent', async () => {
    const grant = { amount: '2', reason: 'prepaid', idempotency_key: 'invoice-1' };
    for (let n = 0; n < 2; n += 1) (await admin('POST', '/credits', grant)).is(201);
    assert.equal((await balance()).balance, '2');
  });

  test('it gets a key, and the key is served', async () => {
    key = (await admin('POST', '/keys', { name: 'app', allowed_models: ['test/*'] })).is(201).json;
    const answer = (await ask()).is(200);
    assert.equal((await rowOf(answer)).key, key.id);
  });

  test('it writes down a preset, and requests that name it follow it', async () => {
    (await admin('PUT', '/presets/kind', { model, system: 'Be kind.', parameters: { temperature: 0.5 } })).is(201);
    const answer = (await ask({ model: '@kind' })).is(200);
    const { body } = station[answer.headers['x-gateway-provider']].requests.at(-1);
    assert.deepEqual([body.messages[0].content, body.temperature], ['Be kind.', 0.5]);
  });

  test('it chooses the cheapest way, and goes it', async () => {
    (await admin('PATCH', '/settings', { mode: 'price' })).is(200);
    for (let n = 0; n < 3; n += 1) assert.equal((await ask()).is(200).headers['x-gateway-provider'], 'p1');
  });

  test('it brings its own key, and pays with that', async () => {
    const own = (await admin('POST', '/byok/p2', { key: 'sk-acme-own-0123456789abcdef', use: 'first' })).is(201).json;
    const before = await balance();
    const answer = (await ask({ provider: { only: ['p2'] } })).is(200);
    assert.deepEqual([answer.headers['x-gateway-paid-by'], answer.headers['x-gateway-provider']], ['byok', 'p2']);
    assert.equal(station.p2.requests.at(-1).headers.authorization, 'Bearer sk-acme-own-0123456789abcdef');
    const row = await rowOf(answer);
    assert.deepEqual([row.paid_by, row.cost_nanos], ['byok', 0]);
    assert.equal((await balance()).balance_nanos, before.balance_nanos);
    (await admin('DELETE', `/byok/p2/${own.id}`)).is(200);
  });

  test('its requests are in the activity, and the sums agree with the ledger', async () => {
    const { data: rows } = (await admin('GET', '/activity?limit=100')).is(200).json;
    assert.equal(rows.length, 6);
    assert.ok(rows.every((row) => row.status === 200 && row.key === key.id));
    const spent = rows.reduce((sum, row) => sum + row.cost_nanos, 0);
    assert.equal((await balance()).balance_nanos, 2_000_000_000 - spent);
    const [shown] = (await admin('GET', '/keys')).is(200).json.data;
    assert.deepEqual([shown.requests, shown.spend.total.spent_nanos], [6, spent]);
    const sums = await eventually(async () => {
      const { data } = (await admin('GET', '/analytics?group_by=model')).is(200).json;
      return data.reduce((sum, one) => sum + one.requests, 0) === 6 && data;
    }, 'analytics have every request');
    assert.equal(sums.reduce((sum, one) => sum + one.cost_nanos, 0), spent);
  });

  test('its key reaches its budget and is stopped there; raised, it goes on', async () => {
    const [{ spend }] = (await admin('GET', '/keys')).is(200).json.data;
    (await admin('PATCH', `/keys/${key.id}`, { budget: { total: spend.total.spent } })).is(200);
    const refused = (await ask()).fails('budget_exceeded');
    assert.match(refused.message, /budget/);
    (await admin('PATCH', `/keys/${key.id}`, { budget: { total: '1' } })).is(200);
    (await ask()).is(200);
  });

  test('its key is rotated, then revoked, and stops at once', async () => {
    const old = key.key;
    key = (await admin('POST', `/keys/${key.id}/rotate`, { overlap_seconds: 60 })).is(200).json;
    for (const secret of [old, key.key]) (await ask({}, { with: secret })).is(200);
    (await admin('DELETE', `/keys/${key.id}`)).is(200);
    for (const secret of [old, key.key]) (await ask({}, { with: secret })).fails('unauthenticated');
  });

  test('it takes everything with it', async () => {
    const lines = (await admin('GET', '/export')).is(200).text.trim().split('\n').map((line) => JSON.parse(line));
    const count = (object) => lines.filter((line) => line.object === object).length;
    assert.deepEqual(['workspace', 'key', 'preset', 'generation', 'end'].map(count), [1, 1, 1, 9, 1]);
    assert.equal(count('entry'), 10, 'a grant and nine charges');
    assert.ok(!JSON.stringify(lines).includes(key.key) && !JSON.stringify(lines).includes('sk-acme'));
  });

  test('it is deleted, comes back, and goes for good', async () => {
    (await admin('DELETE', '')).is(200);
    (await admin('POST', '/restore')).is(200);
    key = (await admin('POST', '/keys', { name: 'again' })).is(201).json;
    (await ask()).is(200);
    (await admin('DELETE', '?grace_seconds=0')).is(200);
    (await ask()).fails('unauthenticated');
    const worker = await gateway.mf.getWorker();
    await eventually(async () => {
      await worker.scheduled({ cron: '*/10 * * * *' });
      return (await admin('GET', '')).status === 404;
    }, 'the schedule erased it');
    (await admin('GET', '/keys')).fails('not_found');
    const [last] = (await gateway.admin('GET', `/audit?subject=${workspace.id}`)).is(200).json.data;
    assert.deepEqual([last.actor, last.action, last.before, last.after], ['schedule', 'workspace.erase', null, null]);
  });
});
