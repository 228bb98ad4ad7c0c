// Who may serve, how long it may take, and who joins in: what a request says about its own routing.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';

let gateway;

describe('Routing', { concurrency: 4, timeout: 60_000 }, () => {
  before(async () => {
    const offers = (quantization, more) => [{ model: 'test/q', upstream: 'q', prices: { input_tokens: '1', output_tokens: '2' }, quantization, ...more }];
    gateway = await startGateway({
      vars: { FIRST_BYTE_TIMEOUT_MS: 5000, PLAIN_TIMEOUT_MS: 5000, KEEP_ALIVE_FIRST_MS: 4000 },
      extra: {
        models: [{ id: 'test/q' }],
        offers: { p1: offers('fp8'), p2: offers('bf16'), p3: offers() },
        about: { p1: { regions: ['us'] }, p2: { quirks: [{ drop: ['logit_bias'] }], regions: ['eu-west-1'] } },
      },
    });
  });
  after(() => gateway?.stop());

  test('a request lowers each span by itself; none is raised, and nonsense is named', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    t.p2.does(up.answer({ content: 'second' }));
    const timed = async (header, does, body = { stream: true }) => {
      t.p1.does(does);
      const reply = (await t.chat(body, { headers: { 'x-gateway-timeout-ms': header } })).is(200);
      const [first] = (await t.row(reply.headers['x-request-id'])).attempts;
      return [first.provider, first.code, first.ms];
    };
    for (const [header, does, body] of [
      ['connect=300', up.hang],
      ['first_byte=300', up.sse([up.role(), up.hang])],
      ['first_byte=300', up.hang, {}],
    ]) {
      const [provider, code, ms] = await timed(header, does, body);
      assert.deepEqual([provider, code], ['p1', 'provider_timeout'], header);
      assert.ok(ms >= 250 && ms < 3000, `${header}: ${ms} ms`);
    }
    const other = await gateway.scene({ at: ['p1'] });
    other.p1.does(up.sse([up.role(), up.text('half'), up.hang]));
    const idle = (await other.chat({ stream: true }, { headers: { 'x-gateway-timeout-ms': 'idle=300, total=20000' } })).is(200);
    assert.match(idle.text, /provider_timeout/);
    for (const wrong of ['soon', '99', 'first=500', 'idle=-1']) {
      const error = (await t.chat({}, { headers: { 'x-gateway-timeout-ms': wrong } })).fails('invalid_input');
      assert.equal(error.param, 'X-Gateway-Timeout-Ms', wrong);
    }
  });

  test('quantizations and required parameters are filters; what is not known does not pass the first', async () => {
    const t = await gateway.scene({ model: 'test/q', at: ['p1', 'p2', 'p3'] });
    const only = (provider) => ({ provider: { only: t.providers, ...provider } });
    const served = async (body) => (await t.chat(body, { headers: { 'x-gateway-explain': '1' } })).is(200);
    const q = await served(only({ quantizations: ['bf16'] }));
    assert.equal(q.headers['x-gateway-provider'], 'p2');
    const rules = (reply) => JSON.parse(reply.headers['x-gateway-explanation']).removed.map(({ provider, rule, detail }) => [provider, rule, detail]);
    assert.deepEqual(rules(q), [['p1', 'quantization', undefined], ['p3', 'quantization', undefined]]);
    const kept = await served({ ...only({ require_parameters: true, order: ['p2', 'p1'] }), logit_bias: { 5: 1 } });
    assert.equal(kept.headers['x-gateway-provider'], 'p1');
    assert.deepEqual(rules(kept), [['p2', 'parameter', 'logit_bias']]);
    assert.equal((await served(only({ require_parameters: true, order: ['p2', 'p1'] }))).headers['x-gateway-provider'], 'p2', 'it was not asked for');
  });

  test('an area holds its regions; a wish that nobody knows is named, a ceiling that nobody knows refused', async () => {
    const t = await gateway.scene({ model: 'test/q', at: ['p1', 'p2', 'p3'] });
    for (const [region, by] of [['eu', 'p2'], ['eu-west-1', 'p2'], ['us', 'p1']]) {
      assert.equal((await t.chat({ provider: { regions: [region] } })).is(200).headers['x-gateway-provider'], by);
    }
    (await t.chat({ provider: { regions: ['eu-west'] } })).fails('no_eligible_provider');
    (await gateway.admin('PATCH', `/workspaces/${t.workspace}/settings`, { narrowing: { regions: ['eu'] } })).is(200);
    assert.equal((await t.chat({ provider: { order: ['p1'] } })).is(200).headers['x-gateway-provider'], 'p2');
    const told = (await t.chat({ provider: { data_colection: 'deny', hedge: false } })).is(200).headers['x-gateway-warning'];
    assert.equal(told, 'dropped: provider.data_colection');
    // As Python writes it.
    const body = JSON.stringify(t.body({ provider: { max_price: { prompt: 'PRICE' } } }));
    (await t.chat(body.replace('"PRICE"', '9.9e+01'))).is(200);
    (await t.chat(body.replace('"PRICE"', '1.1e-05'))).fails('no_eligible_provider');
    (await t.chat({ provider: { max_price: { input: 1 } } })).fails('invalid_input', { param: 'provider.max_price.input' });
  });

  test('nobody left: the smallest change is named, with whom it brings back, and it helps', async () => {
    const t = await gateway.scene({ model: 'test/q', at: ['p1', 'p2', 'p3'] });
    const provider = { only: ['p1', 'p2'], ignore: ['p1', 'p2'], quantizations: ['bf16'] };
    const { details } = (await t.chat({ provider })).fails('no_eligible_provider');
    assert.deepEqual(details.removed.map(({ provider, rule, also }) => [provider, rule, also]), [
      ['p1', 'ignored', [{ rule: 'quantization' }]], ['p2', 'ignored', undefined], ['p3', 'not_in_list', [{ rule: 'quantization' }]],
    ]);
    const { model, providers, changes } = details.smallest_change;
    assert.deepEqual([model, providers, changes.map(({ rule, by, field }) => [rule, by, field])], ['test/q', ['p2'], [['ignored', 'request', 'provider.ignore']]]);
    const reply = (await t.chat({ provider: { ...provider, ignore: ['p1'] } })).is(200);
    assert.equal(reply.headers['x-gateway-provider'], 'p2');
  });

  test('everybody failed: the attempts are named, and who could not be asked at all', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    t.p1.does(up.fail(503));
    const error = (await t.chat({ provider: { order: ['p1'], ignore: ['p2', 'p3'] } })).fails('provider_unavailable');
    assert.deepEqual(error.details.attempts.map(({ provider, status, class: kind }) => [provider, status, kind]), [['p1', 503, 'fault']]);
    assert.deepEqual(error.details.removed.map(({ provider, rule }) => [provider, rule]), [['p2', 'ignored'], ['p3', 'ignored']]);
  });

  test('hedging, where it is asked for: the first to commit wins, the other is cancelled, one of them is charged', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    const ask = (hedge) => t.stream({ provider: { order: t.providers, only: t.providers, hedge } });
    t.p2.does(up.answer({ content: 'second' }));
    for (let i = 0; i < 5; i++) (await ask(true)).is(200);
    assert.equal(t.p2.requests.length, 0, 'nobody joins who is not late');
    const slow = up.sse([up.role(), 1200, ...up.story({ words: ['first'] })]);
    t.p1.does(slow);
    const patient = (await ask(false)).is(200);
    assert.deepEqual([patient.content, t.p2.requests.length], ['first', 0]);
    const before = (await t.settled()).balance_nanos;
    const hedged = (await ask(true)).is(200);
    assert.equal(hedged.content, 'second');
    assert.equal(await t.p1.last.closed, 'gateway', 'the slow one is cancelled');
    const row = await t.row(hedged.id);
    assert.deepEqual(row.attempts.map(({ provider, class: kind }) => [provider, kind]), [['p2', undefined], ['p1', 'cancelled']]);
    assert.equal(row.cost_nanos, 11 * 3000 + 7 * 4000, 'the winner\'s price');
    assert.equal(before - (await t.settled()).balance_nanos, row.cost_nanos, 'charged once');
    t.p2.does(up.fail(500));
    const fallen = (await ask(true)).is(200);
    assert.equal(fallen.content, 'first', 'who joins and fails takes nobody down');
    assert.deepEqual((await t.row(fallen.id)).attempts.map(({ provider, class: kind }) => [provider, kind]), [['p2', 'fault'], ['p1', undefined]]);
    t.p1.does(up.sse([300, up.cut]));
    t.p2.does(up.sse([600, ...up.story({ words: ['second'] })]));
    assert.equal((await ask(true)).is(200).content, 'second', 'and the other way round');
  });
});
