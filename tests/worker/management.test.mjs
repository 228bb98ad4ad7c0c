// Management keys: each administrator's route with the list of routes made from the router itself.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';

let gateway, routes;

const RESOURCES = ['workspace', 'keys', 'management-keys', 'credits', 'presets', 'settings', 'byok', 'activity', 'analytics', 'webhooks', 'audit'];
const everything = Object.fromEntries(RESOURCES.map((name) => [name, 'write']));
const make = (workspace, scopes, { by, ...more } = {}) => {
  const body = { name: 'managing', scopes, ...more };
  return by ? gateway.call('POST', `/v1/admin/workspaces/${workspace}/management-keys`, { key: by, body }) : gateway.admin('POST', `/workspaces/${workspace}/management-keys`, body);
};
const made = async (...args) => (await make(...args)).is(201).json;

describe('Management keys', { timeout: 90_000 }, () => {
  before(async () => {
    gateway = await startGateway({ providers: ['p1'] });
    const { paths } = (await gateway.call('GET', '/v1/openapi.json')).is(200).json;
    routes = Object.entries(paths).filter(([path]) => path.startsWith('/v1/admin')).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { security }]) => ({ method: method.toUpperCase(), path, scope: security.find((one) => one.management)?.management[0] })));
  });
  after(() => gateway?.stop());

  /** A route of a workspace; what else is in its path is nobody's. */
  const at = ({ path }, workspace) => path.replace(/workspaces\/\{id\}/, `workspaces/${workspace}`).replace(/\{\w+\}/g, 'none');
  const call = (route, workspace, key) => gateway.call(route.method, at(route, workspace), { key, body: ['POST', 'PUT', 'PATCH'].includes(route.method) ? {} : undefined });

  test('every route below /v1/admin refuses strangers, inference keys, and every management key without its scope', async () => {
    const t = await gateway.scene();
    assert.ok(routes.length > 30 && routes.filter(({ scope }) => scope).length > 20, `${routes.length} routes`);
    for (const route of routes) {
      const about = `${route.method} ${route.path}`;
      assert.equal((await call(route, t.workspace)).status, 401, about);
      assert.equal((await call(route, t.workspace, 'aisgm_wrong')).status, 401, about);
      assert.equal((await call(route, t.workspace, t.key)).status, 403, about);
    }
    const keyWithout = {};
    for (const route of routes) {
      const about = `${route.method} ${route.path} (${route.scope})`;
      const [resource, access] = (route.scope ?? ':').split(':');
      // The widest key that lacks just this: without the resource, or with reading where writing is asked for.
      const without = { ...everything };
      if (access === 'write') without[resource] = 'read';
      else delete without[resource];
      keyWithout[`${resource}:${access}`] ??= (await made(t.workspace, without)).key;
      const error = (await call(route, t.workspace, keyWithout[`${resource}:${access}`])).fails('forbidden');
      if (route.scope) assert.ok(error.message.includes(`\`${resource}: ${access}\``), about);
    }
  });

  test('with its scope alone a key passes, in its own workspace and in no other', async () => {
    const [own, other] = [await gateway.scene(), await gateway.scene()];
    const keys = {};
    for (const route of routes.filter(({ scope }) => scope)) {
      const about = `${route.method} ${route.path}`;
      const [resource, access] = route.scope.split(':');
      keys[route.scope] ??= (await made(own.workspace, { [resource]: access })).key;
      const reply = await call(route, own.workspace, keys[route.scope]);
      assert.ok(![401, 403].includes(reply.status) && reply.status < 500, `${about} answered ${reply.status}: ${reply.text}`);
      (await call(route, other.workspace, keys[route.scope])).fails('not_found');
    }
    (await other.chat()).is(200);
  });

  test('it manages keys and sees what it may; the operator stays with what is the operator\'s', async () => {
    const t = await gateway.scene();
    const { key } = await made(t.workspace, { keys: 'write', credits: 'read', workspace: 'write' });
    const as = (method, rest, body) => gateway.call(method, `/v1/admin/workspaces/${t.workspace}${rest}`, { key, body });
    const created = (await as('POST', '/keys', { name: 'by manager' })).is(201).json;
    (await t.chat({}, { key: created.key })).is(200);
    (await as('GET', '/credits')).is(200);
    (await as('POST', '/credits', { amount: '5', reason: 'own', idempotency_key: 'x' })).fails('forbidden');
    assert.equal((await as('PATCH', '', { name: 'renamed' })).is(200).json.name, 'renamed');
    assert.equal((await as('PATCH', '', { suspended: true })).fails('forbidden').param, 'suspended');
    assert.equal((await as('PATCH', '', { limits: {} })).fails('forbidden').param, 'limits');
    (await gateway.call('GET', '/v1/admin/workspaces', { key })).fails('forbidden');
    (await as('GET', '/activity')).fails('forbidden');
    const rows = await gateway.d1('SELECT actor, action FROM audit WHERE workspace = ? AND actor LIKE ? ORDER BY id', t.workspace, 'mk_%');
    assert.deepEqual(rows.map(({ action }) => action), ['keys.create', 'workspace.change']);
    (await gateway.call('POST', '/v1/chat/completions', { key, body: t.body() })).fails('unauthenticated');
  });

  test('it makes none that may more than itself, and revoking it revokes what it made', async () => {
    const t = await gateway.scene();
    const parent = await made(t.workspace, { 'management-keys': 'write', keys: 'read' }, { expires_at: '2100-01-01T00:00:00Z' });
    const until = { expires_at: '2099-01-01T00:00:00Z', by: parent.key };
    assert.equal((await make(t.workspace, { keys: 'write' }, until)).fails('forbidden').param, 'scopes.keys');
    assert.equal((await make(t.workspace, { presets: 'read' }, until)).fails('forbidden').param, 'scopes.presets');
    assert.equal((await make(t.workspace, { keys: 'read' }, { by: parent.key })).fails('forbidden').param, 'expires_at');
    const child = await made(t.workspace, { 'management-keys': 'write', keys: 'read' }, until);
    const grandchild = await made(t.workspace, { keys: 'read' }, { ...until, by: child.key });
    assert.equal(grandchild.created_by, child.id);
    const list = (await gateway.admin('GET', `/workspaces/${t.workspace}/management-keys?limit=2`)).is(200).json;
    assert.deepEqual([list.data.map(({ id }) => id), list.next_cursor], [[grandchild.id, child.id], child.id]);
    assert.ok(!JSON.stringify(list).includes(child.key));
    const wide = await made(t.workspace, everything);
    (await gateway.call('DELETE', `/v1/admin/workspaces/${t.workspace}/management-keys/${wide.id}`, { key: parent.key })).fails('forbidden');
    const keysOf = (key) => gateway.call('GET', `/v1/admin/workspaces/${t.workspace}/keys`, { key });
    for (const { key } of [parent, child, grandchild]) (await keysOf(key)).is(200);
    assert.equal((await gateway.admin('DELETE', `/workspaces/${t.workspace}/management-keys/${parent.id}`)).is(200).json.revoked, true);
    for (const { key } of [parent, child, grandchild]) (await keysOf(key)).fails('unauthenticated');
    (await keysOf(wide.key)).is(200);
    (await gateway.call('POST', '/v1/keys/leaked', { body: `export KEY=${wide.key}` })).is(202);
    (await keysOf(wide.key)).fails('unauthenticated');
  });

  test('what is no cursor of a list is a mistake, not an empty page', async () => {
    const t = await gateway.scene();
    const own = `/workspaces/${t.workspace}`;
    const lists = ['/workspaces', '/audit', ...['keys', 'management-keys', 'presets', 'webhooks', 'byok', 'audit', 'activity', 'credits'].map((list) => `${own}/${list}`)];
    for (const list of lists) {
      (await gateway.admin('GET', list)).is(200);
      for (const cursor of ['Not-One!', t.keyId.replace('key_', 'xyz_')]) {
        const reply = await gateway.admin('GET', `${list}?cursor=${cursor}`);
        assert.equal(reply.status, 400, `${list}: ${reply.text}`);
        reply.fails('invalid_input', { param: 'cursor' });
      }
    }
  });

  test('an expired key is refused, and mistakes name their field', async () => {
    const t = await gateway.scene();
    const old = await made(t.workspace, { keys: 'read' }, { expires_at: '2020-01-01T00:00:00Z' });
    (await gateway.call('GET', `/v1/admin/workspaces/${t.workspace}/keys`, { key: old.key })).fails('unauthenticated');
    for (const [scopes, more, param] of [[{}, {}, 'scopes'], [{ keys: 'all' }, {}, 'scopes.keys'], [{ keys: 'read' }, { expires_at: 'soon' }, 'expires_at'], [{ keys: 'read' }, { name: ' ' }, 'name']]) {
      assert.equal((await make(t.workspace, scopes, more)).fails('invalid_input').param, param);
    }
    (await make(t.workspace, { everything: 'write' })).fails('invalid_input');
  });
});
