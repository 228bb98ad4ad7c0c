// Customers' own credentials: used first or last, never paid with credits unless that is switched on, and found nowhere.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { providerKey, startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';
import { eventually } from './support/wait.mjs';

let gateway, folder;
const ASKED_PORT = {};
const OWN = 'sk-own-credential-0123456789-canary';
const COST = { p1: 11 * 1000 + 7 * 2000, p2: 11 * 3000 + 7 * 4000 };

describe('Own keys', { timeout: 90_000 }, () => {
  before(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-byok-'));
    const asked = await up.closedPort();
    ASKED_PORT.port = new URL(asked).port;
    const variables = { account: { env: 'ASKED_ACCOUNT' }, host: { env: 'ASKED_HOST', default: '127.0.0.1', allowed: ['127.0.0.1'] } };
    const provider = { id: 'asked', base_url: `http://{host}:${ASKED_PORT.port}/{account}`, key_env: 'ASKED_KEY', variables, verify: '/models' };
    const extra = {
      models: [{ id: 'test/asked' }],
      providers: [{ ...provider, offers: [{ model: 'test/asked', prices: { input_tokens: '1', output_tokens: '2' } }] }],
    };
    gateway = await startGateway({ persist: folder, extra, secrets: { BYOK_SECRETS: 'new:second-secret,old:first-secret', P3_KEY: null } });
  });
  after(async () => {
    await gateway?.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  const add = async (t, provider, more = {}) => (await gateway.admin('POST', `/workspaces/${t.workspace}/byok/${provider}`, { key: OWN, ...more })).is(201).json;
  const credential = (station, at = -1) => station.requests.at(at).headers.authorization;
  const used = (reply) => [reply.headers['x-gateway-provider'], reply.headers['x-gateway-paid-by']];

  test('an own key is used first, costs nothing, and its row says who paid', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    const made = await add(t, 'p2', { name: 'ours' });
    assert.ok(!JSON.stringify(made).includes(OWN) && made.hint === 'nary' && made.name === 'ours' && made.use === 'first', JSON.stringify(made));
    for (const body of [{}, { stream: true, usage: { include: true } }]) {
      const reply = (await t.chat(body)).is(200);
      assert.deepEqual(used(reply), ['p2', 'byok']);
      assert.equal(credential(t.p2), `Bearer ${OWN}`);
      const row = await t.row(reply.headers['x-request-id']);
      assert.deepEqual([row.paid_by, row.cost_nanos], ['byok', 0]);
    }
    assert.equal(t.p1.requests.length, 0);
    assert.equal((await t.settled()).balance_nanos, 10e9);
  });

  test('it works without any credits, and for a provider that the gateway has no key for', async () => {
    const t = await gateway.scene({ at: ['p3'], dollars: '0' });
    (await t.chat()).fails('no_eligible_provider');
    await add(t, 'p3');
    assert.deepEqual(used((await t.chat()).is(200)), ['p3', 'byok']);
  });

  test('failing, with fallback off: one error, and no call with a key of the gateway anywhere', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    await add(t, 'p1');
    for (const [behaviour, code] of [[up.fail(401), 'provider_unavailable'], [up.fail(500), 'provider_error']]) {
      t.p1.does(behaviour);
      (await t.chat()).fails(code);
    }
    assert.equal(t.p2.requests.length, 0);
    assert.ok(t.p1.requests.every(({ headers }) => headers.authorization === `Bearer ${OWN}`));
    assert.equal((await t.settled()).balance_nanos, 10e9);
    const [shown] = (await gateway.admin('GET', `/workspaces/${t.workspace}/byok/p1`)).is(200).json.data;
    assert.deepEqual([shown.state, Boolean(shown.refused_at)], ['refused', true]);
    // A new name changes nothing about that; to switch it on is to say that it is good again.
    const patch = async (change) => (await gateway.admin('PATCH', `/workspaces/${t.workspace}/byok/p1/${shown.id}`, change)).is(200).json;
    assert.deepEqual([(await patch({ name: 'renamed' })).state, (await patch({ enabled: true })).state], ['refused', 'unverified']);
  });

  test('failing, with fallback on: the next attempt says credits paid', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    await add(t, 'p1');
    (await gateway.admin('PATCH', `/workspaces/${t.workspace}/settings`, { fallback_to_credits: true })).is(200);
    t.p1.does(async (exchange) => (t.p1.requests.at(-1).headers.authorization === `Bearer ${OWN}` ? up.fail(401) : up.answer())(exchange));
    const reply = (await t.chat()).is(200);
    assert.deepEqual([...used(reply), reply.headers['x-gateway-attempts']], ['p1', 'credits', '2']);
    assert.deepEqual([credential(t.p1, 0), credential(t.p1, 1)], [`Bearer ${OWN}`, `Bearer ${providerKey('p1')}`]);
    assert.equal((await t.settled()).balance_nanos, 10e9 - COST.p1);
  });

  test('as a fallback it is used when the gateway\'s own failed', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    await add(t, 'p1', { use: 'fallback' });
    assert.deepEqual(used((await t.chat()).is(200)), ['p1', 'credits']);
    t.p1.does(async (exchange) => (t.p1.requests.at(-1).headers.authorization === `Bearer ${OWN}` ? up.answer() : up.fail(429))(exchange));
    assert.deepEqual(used((await t.chat()).is(200)), ['p1', 'byok']);
  });

  test('several in order, each only for its models and keys, switched off at once', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const second = `${OWN}-second`;
    await add(t, 'p1', { models: ['other/*'] });
    const { id } = await add(t, 'p1', { key: second, keys: [t.keyId] });
    (await t.chat()).is(200);
    assert.equal(credential(t.p1), `Bearer ${second}`);
    const { key } = await gateway.newKey(t.workspace);
    (await t.chat({}, { key })).is(200);
    assert.equal(credential(t.p1), `Bearer ${providerKey('p1')}`);
    (await gateway.admin('PATCH', `/workspaces/${t.workspace}/byok/p1/${id}`, { enabled: false })).is(200);
    (await t.chat()).is(200);
    assert.equal(credential(t.p1), `Bearer ${providerKey('p1')}`);
    (await gateway.admin('DELETE', `/workspaces/${t.workspace}/byok/p2/${id}`)).fails('not_found');
    (await gateway.admin('DELETE', `/workspaces/${t.workspace}/byok/p1/${id}`)).is(200);
    assert.equal((await gateway.admin('GET', `/workspaces/${t.workspace}/byok`)).is(200).json.data.length, 1);
  });

  test('a rotation seals everything under the newest secret', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const { id } = await add(t, 'p1');
    const [{ sealed }] = await gateway.d1('SELECT sealed FROM byok WHERE id = ?', id);
    assert.ok(sealed.startsWith('new:'));
    const { current, rotated, unreadable } = (await gateway.admin('POST', '/byok/rotate')).is(200).json;
    assert.ok(current >= 1 && rotated === 0 && unreadable === 0);
    (await t.chat()).is(200);
  });

  test('a secret is replaced without losing a credential', async () => {
    const store = fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-rotation-'));
    // The same store under one secret, then under two, then under the new one alone.
    const under = async (secrets, step) => {
      const other = await startGateway({ persist: store, providers: ['p1'], scenes: 1, secrets: { BYOK_SECRETS: secrets }, migrate: secrets === 'old:first-secret' });
      try {
        return await step(other);
      } finally {
        await other.stop();
      }
    };
    const owner = (other, workspace) => async () => (await other.d1('SELECT sealed FROM byok WHERE workspace = ?', workspace))[0].sealed;
    try {
      const workspace = await under('old:first-secret', async (other) => {
        const made = await other.newWorkspace({ dollars: '1' });
        (await other.admin('POST', `/workspaces/${made}/byok/p1`, { key: OWN })).is(201);
        assert.match(await owner(other, made)(), /^old:/);
        return made;
      });
      await under('new:second-secret,old:first-secret', async (other) => {
        const done = (await other.admin('POST', '/byok/rotate')).is(200).json;
        assert.deepEqual([done.rotated, done.current, done.unreadable, done.next_cursor], [1, 0, 0, null]);
        assert.match(await owner(other, workspace)(), /^new:/);
      });
      await under('new:second-secret', async (other) => {
        const done = (await other.admin('POST', '/byok/rotate')).is(200).json;
        assert.deepEqual([done.rotated, done.current, done.unreadable], [0, 1, 0]);
      });
      await under('third:unrelated-secret', async (other) => {
        const done = (await other.admin('POST', '/byok/rotate')).is(200).json;
        assert.deepEqual([done.rotated, done.unreadable], [0, 1], 'what cannot be opened is said, and left as it is');
      });
    } finally {
      fs.rmSync(store, { recursive: true, force: true });
    }
  });

  test('a fee is what answer, stream, row and ledger say, and stands alone', async () => {
    const other = await startGateway({ vars: { BYOK_FEE_BASIS_POINTS: 500 }, providers: ['p1'], scenes: 2 });
    try {
      const t = await other.scene({ at: ['p1'] });
      (await other.admin('POST', `/workspaces/${t.workspace}/byok/p1`, { key: OWN })).is(201);
      const FEE = COST.p1 * 0.05;
      const plain = (await t.chat()).is(200);
      const streamed = (await t.chat({ stream: true, usage: { include: true } })).is(200);
      for (const [reply, usage] of [[plain, plain.json.usage], [streamed, streamed.chunks.findLast((chunk) => chunk.usage).usage]]) {
        assert.deepEqual([usage.cost, usage.cost_details], [FEE / 1e9, { fee: FEE / 1e9 }]);
        const row = await t.row(reply.headers['x-request-id']);
        assert.deepEqual([row.cost_nanos, row.paid_by, row.fee, row.lines], [FEE, 'byok', { basis_points: 500, of_nanos: COST.p1 }, undefined]);
      }
      assert.equal((await t.settled()).balance_nanos, 10e9 - 2 * FEE);
    } finally {
      await other.stop();
    }
  });

  test('a credential is shown to its provider before it is kept, where that costs nothing', async () => {
    const t = await gateway.scene({ model: 'test/asked', at: ['p2'] });
    const said = [];
    const other = http.createServer((request, response) => {
      said.push([request.method, request.url, request.headers.authorization, request.headers['content-length']]);
      response.writeHead(status, { 'content-type': 'application/json' }).end('{"error":{"message":"the key sk-own-credential is wrong"}}');
    });
    let status = 401;
    await new Promise((resolve) => other.listen(ASKED_PORT.port, '127.0.0.1', resolve));
    try {
      const post = (body) => gateway.admin('POST', `/workspaces/${t.workspace}/byok/asked`, { key: OWN, variables: { account: 'acme' }, ...body });
      const refused = (await post()).fails('invalid_input');
      assert.equal(refused.param, 'key');
      assert.match(refused.message, /refused by its provider \(401/);
      assert.deepEqual(said, [['GET', '/acme/models', `Bearer ${OWN}`, undefined]]);
      assert.equal((await gateway.admin('GET', `/workspaces/${t.workspace}/byok`)).json.data.length, 0, 'it is not kept');
      status = 503;
      const unsure = (await post()).is(201).json;
      assert.deepEqual([unsure.state, unsure.reason, unsure.verified_at], ['unverified', 'the provider answered 503', null]);
      status = 200;
      const good = (await post()).is(201).json;
      assert.deepEqual([good.state, good.reason, Boolean(good.verified_at)], ['verified', null, true]);
      // PATCH replaces, and asks again.
      const patch = (change) => gateway.admin('PATCH', `/workspaces/${t.workspace}/byok/asked/${good.id}`, change);
      const sealed = async () => (await gateway.d1('SELECT sealed FROM byok WHERE id = ?', good.id))[0].sealed;
      const before = await sealed();
      status = 401;
      assert.equal((await patch({ key: `${OWN}-replaced-wxyz` })).fails('invalid_input').param, 'key');
      assert.equal(await sealed(), before, 'a refused one does not take the place of a good one');
      status = 200;
      const changed = (await patch({ key: `${OWN}-replaced-wxyz` })).is(200).json;
      assert.deepEqual([changed.hint, changed.state], ['wxyz', 'verified']);
      (await patch({ variables: { account: 'other' } })).is(200);
      assert.deepEqual(said.at(-1).slice(1, 3), ['/other/models', `Bearer ${OWN}-replaced-wxyz`], 'the key stays where only the variables are new');
      (await gateway.admin('DELETE', `/workspaces/${t.workspace}/byok/asked/${unsure.id}`)).is(200);
      other.removeAllListeners('request');
      other.on('request', (request, response) => {
        said.push([request.method, request.url, request.headers.authorization]);
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(up.completion()));
      });
      (await t.chat({ provider: { only: ['asked'] } })).is(200);
      assert.deepEqual(said.at(-1), ['POST', '/other/chat/completions', `Bearer ${OWN}-replaced-wxyz`]);
    } finally {
      other.closeAllConnections();
      await new Promise((resolve) => other.close(resolve));
    }
    const gone = (await gateway.admin('POST', `/workspaces/${t.workspace}/byok/asked`, { key: OWN, variables: { account: 'acme' } })).is(201).json;
    assert.deepEqual([gone.state, gone.reason], ['unverified', 'the provider could not be reached']);
  });

  test('what a provider wants beside the key is checked', async () => {
    const workspace = await gateway.newWorkspace();
    const param = async (variables) => (await gateway.admin('POST', `/workspaces/${workspace}/byok/asked`, { key: OWN, variables })).fails('invalid_input').param;
    assert.equal(await param(undefined), 'variables.account');
    assert.equal(await param({ account: 'a', region: 'eu' }), 'variables.region');
    assert.equal(await param({ account: '../admin' }), 'variables.account');
    assert.equal(await param({ account: 'a', host: 'evil.example' }), 'variables.host');
  });

  test('a credential that is refused in use says why', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const { id } = await add(t, 'p1');
    t.p1.does(up.fail(403));
    const reply = await t.chat();
    reply.fails('provider_unavailable');
    const [shown] = (await gateway.admin('GET', `/workspaces/${t.workspace}/byok/p1`)).is(200).json.data;
    assert.deepEqual([shown.id, shown.state, shown.reason], [id, 'refused', '403: it may not do that there']);
    assert.deepEqual((await t.row(reply.id)).attempts.map(({ paid_by }) => paid_by), ['byok']);
    // A new key is a new start.
    t.p1.does(up.answer());
    const fresh = (await gateway.admin('PATCH', `/workspaces/${t.workspace}/byok/p1/${id}`, { key: `${OWN}-fresh` })).is(200).json;
    assert.deepEqual([fresh.state, fresh.refused_at], ['unverified', null]);
    (await t.chat()).is(200);
    assert.equal(credential(t.p1), `Bearer ${OWN}-fresh`);
  });

  test('without a secret that seals nothing is kept, and the answer says which is missing', async () => {
    const other = await startGateway({ providers: ['p1'], scenes: 1, secrets: { BYOK_SECRETS: null } });
    try {
      const t = await other.scene({ at: ['p1'] });
      const said = (await other.admin('POST', `/workspaces/${t.workspace}/byok/p1`, { key: OWN })).fails('internal');
      assert.match(said.message, /BYOK_SECRETS/);
    } finally {
      await other.stop();
    }
  });

  test('what is wrong is named', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const post = (provider, body) => gateway.admin('POST', `/workspaces/${t.workspace}/byok/${provider}`, body);
    assert.equal((await post('p1', { key: '' })).fails('invalid_input').param, 'key');
    assert.equal((await post('p1', { key: 'a b' })).fails('invalid_input').param, 'key');
    assert.equal((await post('p1', { key: 'sk-ключ-1234567890' })).fails('invalid_input').param, 'key');
    assert.equal((await post('p1', { key: OWN, variables: { region: 'evil.example/' } })).fails('invalid_input').param, 'variables.region');
    assert.equal((await post('p1', { key: OWN, use: 'sometimes' })).fails('invalid_input').param, 'use');
    (await post('nobody', { key: OWN })).fails('not_found');
  });

  test('the plain credential is found nowhere: not in the stores, not in the log', async () => {
    const files = fs.readdirSync(folder, { recursive: true }).map((name) => path.join(folder, name)).filter((file) => fs.statSync(file).isFile());
    assert.ok(files.length > 3);
    await eventually(async () => (await gateway.d1('SELECT count(*) AS n FROM activity'))[0].n > 5, 'rows are in D1');
    for (const file of files) assert.ok(!fs.readFileSync(file).includes('sk-own-credential'), `${file} holds the credential`);
    assert.ok(!gateway.log.includes('sk-own-credential'));
  });
});
