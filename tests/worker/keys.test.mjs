// The life of a key: made, shown once, listed, changed, switched off, expired, revoked.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { KEY_HASH_SECRET, startGateway } from './support/harness.mjs';
import { eventually, sleep } from './support/wait.mjs';

let gateway;

const made = async (workspace, fields) => (await gateway.admin('POST', `/workspaces/${workspace}/keys`, fields)).is(201).json;
const listed = async (workspace) => (await gateway.admin('GET', `/workspaces/${workspace}/keys`)).is(200).json.data;
const change = (t, fields, key = t.keyId) => gateway.admin('PATCH', `/workspaces/${t.workspace}/keys/${key}`, fields);
const revoke = (t, key = t.keyId) => gateway.admin('DELETE', `/workspaces/${t.workspace}/keys/${key}`);
const isRevoked = (reply) => reply.is(reply.status === 204 ? 204 : 200);

describe('Keys', { concurrency: 3, timeout: 60_000 }, () => {
  before(async () => {
    gateway = await startGateway();
  });
  after(() => gateway?.stop());

  test('a workspace is made, listed, shown and changed', async () => {
    const workspace = (await gateway.admin('POST', '/workspaces', { name: 'first', limits: { requests_per_minute: 7 } })).is(201).json;
    assert.match(workspace.id, /^ws_[0-9A-Z]{26}$/);
    assert.deepEqual([workspace.name, workspace.limits.requests_per_minute], ['first', 7]);
    const { data } = (await gateway.admin('GET', '/workspaces?limit=100')).is(200).json;
    assert.ok(data.some(({ id }) => id === workspace.id), 'it is in the list');
    (await gateway.admin('PATCH', `/workspaces/${workspace.id}`, { name: 'second' })).is(200);
    const shown = (await gateway.admin('GET', `/workspaces/${workspace.id}`)).is(200).json;
    assert.deepEqual([shown.name, shown.limits.requests_per_minute], ['second', 7], 'what was not named stays');
  });

  test('a key is shown when it is made, never again, and works at once', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const key = await made(t.workspace, { name: 'second', allowed_models: ['test/*'], limits: { requests_per_minute: 9 } });
    assert.match(key.key, /^aisg_[0-9A-Za-z]{49}$/);
    assert.match(key.id, /^key_[0-9A-Z]{26}$/);
    assert.equal(key.name, 'second');
    const list = await listed(t.workspace);
    assert.deepEqual(list.map(({ id }) => id).sort(), [t.keyId, key.id].sort());
    const shown = list.find(({ id }) => id === key.id);
    assert.deepEqual([shown.name, shown.allowed_models, shown.limits.requests_per_minute], ['second', ['test/*'], 9]);
    assert.equal(shown.hint, key.key.slice(-4));
    assert.ok(!JSON.stringify(list).includes(key.key.slice(5, 30)), 'the list does not show the secret');
    (await t.chat({}, { key: key.key })).is(200);
    const own = (await gateway.call('GET', '/v1/key', { key: key.key })).is(200);
    assert.ok(!own.text.includes(key.key), 'not even to its owner');
    assert.equal(own.json.id, key.id);
    assert.equal(own.json.name, 'second');
  });

  test('no store holds the secret, only its keyed hash', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    (await t.chat()).is(200);
    const hash = createHmac('sha256', KEY_HASH_SECRET).update(t.key).digest('hex');
    const kv = await gateway.mf.getKVNamespace('KV');
    const values = [];
    for (let cursor, done = false; !done; ) {
      const page = await kv.list({ prefix: 'key/', cursor });
      for (const { name } of page.keys) values.push(`${name} ${await kv.get(name)}`);
      [cursor, done] = [page.cursor, page.list_complete];
    }
    assert.ok(values.some((value) => value.startsWith(`key/${hash} `)), 'KV has the policy under the hash');
    const tables = (await gateway.d1("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf%' ESCAPE '\\'")).map(({ name }) => name);
    for (const table of tables) values.push(JSON.stringify(await gateway.d1(`SELECT * FROM "${table}"`)));
    assert.ok(values.some((value) => value.startsWith('[') && value.includes(hash)), `D1 has the hash, in one of ${tables}`);
    for (const secret of [t.key, t.key.slice(5, 30)]) assert.ok(!values.join().includes(secret), 'no store has the secret');
    assert.ok(!gateway.log.includes(t.key), 'nor has the log');
  });

  test('a key is switched off and on again', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    (await t.chat()).is(200);
    (await change(t, { disabled: true })).is(200);
    (await t.chat()).fails('unauthenticated');
    (await t.stream()).fails('unauthenticated');
    assert.equal((await listed(t.workspace))[0].disabled, true);
    (await change(t, { disabled: false })).is(200);
    (await t.chat()).is(200);
  });

  test('a key expires at its moment', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const key = await made(t.workspace, { name: 'short', expires_at: new Date(Date.now() + 1500).toISOString() });
    (await t.chat({}, { key: key.key })).is(200);
    await sleep(1600);
    (await t.chat({}, { key: key.key })).fails('unauthenticated');
    const past = await gateway.admin('POST', `/workspaces/${t.workspace}/keys`, { name: 'past', expires_at: '2020-01-01T00:00:00Z' });
    if (past.status === 201) (await t.chat({}, { key: past.json.key })).fails('unauthenticated');
    else past.fails('invalid_input', { param: 'expires_at' });
    (await change(t, { expires_at: new Date(Date.now() + 3_600_000).toISOString() }, key.id)).is(200);
    (await t.chat({}, { key: key.key })).is(200);
  });

  test('name, models and limits of a key are changed at once, and what is not named stays', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    (await t.chat()).is(200);
    (await change(t, { name: 'renamed', allowed_models: ['other/*'] })).is(200);
    (await t.chat()).fails('model_not_allowed');
    (await change(t, { allowed_models: ['test/*'] })).is(200);
    (await t.chat()).is(200);
    (await change(t, { limits: { requests_per_minute: 1 } })).is(200);
    (await t.chat()).fails('rate_limited');
    const [shown] = await listed(t.workspace);
    assert.deepEqual([shown.name, shown.allowed_models, shown.limits.requests_per_minute], ['renamed', ['test/*'], 1]);
  });

  test('after a revocation was answered no request is let in', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    let [revoked, stop] = [false, false];
    const late = [];
    const caller = async () => {
      while (!stop) {
        const isLate = revoked;
        const reply = await t.chat();
        assert.ok([200, 401].includes(reply.status), `${reply.status} ${reply.text}`);
        if (isLate) late.push(reply.status);
      }
    };
    const callers = Array.from({ length: 8 }, caller);
    await sleep(200);
    isRevoked(await revoke(t));
    revoked = true;
    const asked = t.p1.requests.length;
    await eventually(() => late.length >= 20, () => `twenty requests after it, so far ${late.length}`);
    stop = true;
    await Promise.all(callers);
    assert.deepEqual([...new Set(late)], [401]);
    // Those under way when the revocation was answered had been let in before it.
    assert.ok(t.p1.requests.length - asked <= 8, `${t.p1.requests.length - asked} reached the provider after it`);
  });

  test('a revoked key stays revoked, and others go on', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const other = await made(t.workspace, { name: 'other' });
    isRevoked(await revoke(t));
    for (const call of [() => t.chat(), () => t.get('/v1/key'), () => t.get('/v1/credits')]) (await call()).fails('unauthenticated');
    const again = await change(t, { disabled: false });
    assert.ok([200, 400, 404, 409].includes(again.status), `${again.status} ${again.text}`);
    (await t.chat()).fails('unauthenticated');
    (await t.chat({}, { key: other.key })).is(200);
    const twice = await revoke(t);
    assert.ok([200, 204, 404].includes(twice.status), `revoking twice: ${twice.status} ${twice.text}`);
  });

  test('a key is no key of another workspace', async () => {
    const [a, b] = [await gateway.scene(), await gateway.scene()];
    (await gateway.admin('PATCH', `/workspaces/${a.workspace}/keys/${b.keyId}`, { disabled: true })).fails('not_found');
    (await gateway.admin('DELETE', `/workspaces/${a.workspace}/keys/${b.keyId}`)).fails('not_found');
    (await gateway.admin('DELETE', `/workspaces/${a.workspace}/keys/key_00000000000000000000000000`)).fails('not_found');
    (await b.chat()).is(200);
  });

  test('the catalog is listed, and its pointer moves to a snapshot that is there', async () => {
    const { current, snapshots } = (await gateway.admin('GET', '/catalog')).is(200).json;
    assert.equal(current, gateway.snapshot);
    assert.ok(snapshots.some(({ id }) => id === current), JSON.stringify(snapshots));
    (await gateway.admin('POST', '/catalog', { snapshot: current })).is(200);
  });
});
