// Why a request went where it went, and what the gateway saw of those it asked.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';

let gateway;

describe('Explanations', { timeout: 60_000 }, () => {
  before(async () => {
    gateway = await startGateway({ extra: { models: [{ id: 'test/channels' }], offers: { p1: [{ model: 'test/channels', upstream: 'channels', prices: { input_tokens: '1', output_tokens: '1' }, channel: 'beta' }] } } });
  });
  after(() => gateway?.stop());

  test('an answer that asks for it names candidates, factors and removals; the row has them too', async () => {
    const t = await gateway.scene({});
    for (const body of [{}, { stream: true }]) {
      const reply = (await t.chat({ ...body, provider: { ignore: ['p3'], sort: 'price' } }, { headers: { 'x-gateway-explain': '1' } })).is(200);
      const why = JSON.parse(reply.headers['x-gateway-explanation']);
      assert.deepEqual([why.mode, why.candidate_count, why.candidates[0].provider], ['price', 2, 'p1']);
      assert.deepEqual(why.removed.map(({ provider, rule }) => [provider, rule]), [['p3', 'ignored']]);
      for (const { factors, score, tier, state } of why.candidates) {
        assert.ok(score > 0 && factors.price > 0 && factors.price <= 1 && tier === 'first' && state === 'closed', JSON.stringify(why));
      }
      const row = await t.row(reply.id ?? reply.headers['x-request-id']);
      const { attempts, ...decision } = why;
      assert.deepEqual(row.why, decision);
      assert.deepEqual(attempts, row.attempts);
    }
    const silent = (await t.chat()).is(200);
    assert.equal(silent.headers['x-gateway-explanation'], undefined);
    assert.ok((await t.row(silent.headers['x-request-id'])).why.candidates.length > 0);
    t.p1.does(up.fail(503));
    const { attempts } = JSON.parse((await t.chat({ provider: { order: ['p1', 'p2'] } }, { headers: { 'x-gateway-explain': '1' } })).is(200).headers['x-gateway-explanation']);
    assert.deepEqual(attempts.map(({ provider, status, class: kind }) => [provider, status, kind]), [['p1', 503, 'fault'], ['p2', 200, undefined]]);
    for (const { start_ms, ms } of attempts) assert.ok(start_ms >= 0 && ms >= 0);
    for (const provider of [t.p2, t.p3]) provider.does(up.fail(500));
    const failed = await t.chat({}, { headers: { 'x-gateway-explain': '1' } });
    failed.fails('provider_error');
    const all = JSON.parse(failed.headers['x-gateway-explanation']);
    assert.equal(all.attempts.length, 3);
  });

  test('nobody left: each is named with its rule, a channel among them', async () => {
    const t = await gateway.scene({ model: 'test/channels', at: ['p1'] });
    const error = (await t.chat()).fails('no_eligible_provider');
    assert.deepEqual(error.details.removed.map(({ provider, rule, detail }) => [provider, rule, detail]), [['p1', 'channel', 'beta']]);
  });

  test('what was seen is public by model, and the operator sees breakers', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    t.p1.does(up.fail(500));
    for (let i = 0; i < 20; i++) (await t.chat({ stream: true })).is(200);
    const { data } = (await gateway.call('GET', '/v1/metrics/models')).is(200).json;
    const of = (provider) => data.find((one) => one.model === t.model && one.provider === provider);
    assert.ok(of('p1').failure_rate > 0.3 && of('p1').state === 'open', JSON.stringify(of('p1')));
    assert.ok(of('p2').failure_rate < 0.02 && of('p2').latency_ms.p50 >= 0 && of('p2').state === 'closed', JSON.stringify(of('p2')));
    const { offers, counters } = (await gateway.admin('GET', '/health')).is(200).json;
    const open = offers.filter(({ state }) => state === 'open');
    assert.deepEqual(open.map(({ provider, upstream }) => [provider, upstream]), [['p1', t.name]], 'that offer and nothing else');
    assert.ok(open[0].until && counters.requests > 20);
  });

  test('twenty mistakes of clients move no score', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    t.p1.does(up.fail(400, { type: 'invalid_request_error' }));
    for (let i = 0; i < 20; i++) (await t.chat()).fails('invalid_input');
    const { offers } = (await gateway.admin('GET', '/health')).is(200).json;
    const seen = offers.find(({ upstream }) => upstream === t.name);
    assert.ok(seen === undefined || (seen.failure_rate <= 0.0101 && seen.state === 'closed'), JSON.stringify(seen));
  });
});
