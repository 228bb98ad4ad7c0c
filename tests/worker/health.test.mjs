// What isolates tell each other of providers through the health objects, and what the operator says about a provider.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';
import { eventually } from './support/wait.mjs';

let gateway;
const persist = fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-health-'));

describe('Health', { timeout: 60_000 }, () => {
  before(async () => {
    gateway = await startGateway({ persist, vars: { HEALTH_REFRESH_MS: '200' } });
  });
  after(async () => {
    await gateway?.stop();
    fs.rmSync(persist, { recursive: true, force: true });
  });

  const health = async () => (await gateway.admin('GET', '/health')).is(200).json;

  test('what isolates see is reported off the path, published when it changed, and where a cold isolate begins', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    const provider = { only: t.providers, order: t.providers };
    t.p1.does(up.fail(500));
    const seen = await eventually(async () => {
      (await t.chat({ stream: true, provider })).is(200);
      const { shared } = await health();
      const of = (id) => shared.find((one) => one.provider === id && one.upstream === t.name);
      return of('p1')?.openings > 0 && of('p2')?.attempts > 3 && of;
    }, 'the objects know of both offers', { ms: 15_000, pause: 100 });
    assert.ok(seen('p1').failure_rate > 0.2 && seen('p2').failure_rate < 0.02, JSON.stringify([seen('p1'), seen('p2')]));
    const kv = await gateway.mf.getKVNamespace('KV');
    const published = () => eventually(async () => {
      const { keys } = await kv.list({ prefix: 'health/' });
      const texts = await Promise.all(keys.map(({ name }) => kv.get(name)));
      const entries = texts.flatMap((text) => JSON.parse(text)[1]);
      return entries.filter(([, upstream]) => upstream === t.name).length === 2 && texts;
    }, 'snapshots with both offers are in KV', { ms: 15_000 });
    for (const text of await published()) assert.ok(!text.includes(t.key) && !text.includes(t.workspace), 'nothing of a client in it');
    await gateway.crash();
    const { data } = (await gateway.call('GET', '/v1/metrics/models')).is(200).json;
    const cold = data.find((one) => one.model === t.model && one.provider === 'p2');
    assert.ok(cold?.attempts > 1 && cold.latency_ms.p50 >= 0, JSON.stringify(data));
    const answer = (await t.chat({ stream: true, provider }, { headers: { 'x-gateway-explain': '1' } })).is(200);
    const { candidates } = JSON.parse(answer.headers['x-gateway-explanation']);
    assert.ok(candidates.find(({ provider }) => provider === 'p2').latency_ms !== null, 'it ranks by what others saw');
  });

  test('the operator disables, deranks and enables a provider: at once here, and in the explanation', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    const ask = async (more = {}) => {
      const reply = (await t.chat({ provider: { only: t.providers, sort: 'price' }, ...more }, { headers: { 'x-gateway-explain': '1' } })).is(200);
      return [reply.headers['x-gateway-provider'], JSON.parse(reply.headers['x-gateway-explanation'])];
    };
    assert.equal((await ask())[0], 'p1', 'the cheaper one');
    const off = (await gateway.admin('PATCH', '/providers/p1', { routing: 'off', reason: 'invoices do not add up' })).is(200).json;
    assert.deepEqual([off.id, off.routing, off.reason], ['p1', 'off', 'invoices do not add up']);
    const [served, why] = await ask();
    assert.equal(served, 'p2');
    assert.deepEqual(why.removed.find(({ provider }) => provider === 'p1'), { provider: 'p1', model: t.model, rule: 'switched_off', detail: 'by the operator' });
    const error = (await t.chat({ provider: { only: ['p1'] } })).fails('no_eligible_provider');
    assert.equal(error.details.removed.find(({ provider }) => provider === 'p1').rule, 'switched_off');
    assert.ok(!JSON.stringify([why, error]).includes('invoices'), 'the reason is the operator\'s own');
    assert.ok((await health()).switches.some(({ provider, routing }) => provider === 'p1' && routing === 'off'));

    await gateway.crash();
    assert.equal((await ask())[0], 'p2', 'a cold isolate knows it too');
    (await gateway.admin('PATCH', '/providers/p1', { routing: 'last' })).is(200);
    const [behind, deranked] = await ask();
    assert.equal(behind, 'p2');
    assert.deepEqual(deranked.candidates.map(({ provider, is_behind }) => [provider, is_behind]), [['p2', false], ['p1', true]]);
    t.p2.does(up.fail(500));
    assert.equal((await ask())[0], 'p1', 'last, not out');
    t.p2.does(up.answer());
    (await gateway.admin('PATCH', '/providers/p1', { routing: 'on' })).is(200);
    assert.equal((await ask())[0], 'p1');
    const shown = (await gateway.admin('GET', '/providers/p1')).is(200).json;
    assert.deepEqual([shown.routing, shown.reason], ['on', null]);
  });

  test('a client that waits for nobody says nothing about who is late', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    for (const station of [t.p1, t.p2]) station.does(up.hang);
    const hurried = { headers: { 'x-gateway-timeout-ms': '150' } };
    for (let i = 0; i < 15; i++) (await t.chat(i % 2 ? { stream: true } : {}, hurried)).fails('provider_timeout');
    for (const station of [t.p1, t.p2]) station.does(up.answer());
    const { candidates } = JSON.parse((await t.chat({ stream: true }, { headers: { 'x-gateway-explain': '1' } })).is(200).headers['x-gateway-explanation']);
    assert.deepEqual(candidates.map(({ state }) => state), ['closed', 'closed'], JSON.stringify(candidates));
    const { offers, shared } = await health();
    const blamed = [...offers, ...shared].filter(({ upstream, openings, failure_rate }) => upstream === t.name && (openings > 0 || failure_rate > 0.02));
    assert.deepEqual(blamed, []);
  });

  test('mistakes are named, and strangers kept out', async () => {
    const switched = (body, id = 'p1') => gateway.admin('PATCH', `/providers/${id}`, body);
    (await switched({ routing: 'off' }, 'nobody')).fails('not_found');
    assert.match((await switched({ routing: 'sideways' })).fails('invalid_input').param ?? '', /routing/);
    (await switched({ routing: 'off', reasons: 'x' })).fails('invalid_input');
    (await switched({ routing: 'off', reason: 'x'.repeat(300) })).fails('invalid_input');
    const t = await gateway.scene();
    (await gateway.call('PATCH', '/v1/admin/providers/p1', { key: t.key, body: { routing: 'off' } })).fails('forbidden');
    (await gateway.call('GET', '/v1/admin/providers/p1')).fails('unauthenticated');
  });
});
