// The operator's metrics: a text that a strict reader takes, and numbers that agree with the rows.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import { parse, sumOf } from './support/prometheus.mjs';
import * as up from './support/upstream.mjs';
import { eventually } from './support/wait.mjs';

let gateway;

describe('Metrics', { timeout: 60_000 }, () => {
  before(async () => {
    gateway = await startGateway();
  });
  after(() => gateway?.stop());

  const read = async () => {
    const reply = (await gateway.admin('GET', '/metrics')).is(200);
    assert.match(reply.headers['content-type'], /^text\/plain; version=0\.0\.4/);
    return parse(reply.text);
  };

  test('before the first request there is a whole text without samples', async () => {
    const families = await read();
    assert.equal(Object.keys(families).length, 10);
    assert.equal(families.ai_gateway_requests_total.samples.length, 0);
    assert.equal(sumOf(families.ai_gateway_outboxes_unanswered), 0);
  });

  test('counters agree with the rows, count a row once, and never fall', async () => {
    const scenes = [await gateway.scene({ at: ['p1', 'p2'] }), await gateway.scene({ at: ['p3'] })];
    const [t, other] = scenes;
    t.p1.does(up.fail(500), up.answer());
    for (let n = 0; n < 4; n++) (await t.chat()).is(200);
    (await t.stream({ stream: true })).is(200);
    other.p3.does(up.fail(400), up.answer());
    (await other.chat()).is(400);
    (await other.chat()).is(200);
    const depth = sumOf((await read()).ai_gateway_outbox_rows);
    assert.ok(depth <= 7, 'no more than there are');
    await Promise.all(scenes.map((scene) => scene.settled()));
    await eventually(async () => (await gateway.d1('SELECT count(*) AS n FROM activity'))[0].n === 7, 'every row is in D1', { ms: 15_000 });
    const rows = (await Promise.all(scenes.map((scene) => scene.activity()))).flat();
    const families = await read();
    const sum = (field) => rows.reduce((total, row) => total + (row[field] ?? 0), 0);
    assert.equal(sumOf(families.ai_gateway_requests_total), 7);
    assert.equal(sumOf(families.ai_gateway_requests_total, { provider: 'p3', code: 'invalid_input' }), 1);
    assert.equal(sumOf(families.ai_gateway_requests_total, { code: '' }), 6);
    assert.equal(sumOf(families.ai_gateway_attempts_total), rows.reduce((n, row) => n + row.attempts.length, 0));
    assert.equal(sumOf(families.ai_gateway_attempts_total, { provider: 'p1', code: 'provider_error' }), rows.flatMap(({ attempts }) => attempts).filter(({ provider, code }) => provider === 'p1' && code === 'provider_error').length);
    assert.ok(sumOf(families.ai_gateway_attempts_total, { code: 'provider_error' }) >= 1);
    assert.equal(sumOf(families.ai_gateway_tokens_total, { kind: 'prompt' }), sum('prompt_tokens'));
    assert.equal(sumOf(families.ai_gateway_tokens_total, { kind: 'completion' }), sum('completion_tokens'));
    assert.equal(Math.round(sumOf(families.ai_gateway_cost_dollars_total) * 1e9), sum('cost_nanos'));
    assert.equal(sumOf(families.ai_gateway_request_duration_seconds, {}, '_count'), 7);
    assert.equal(Math.round(sumOf(families.ai_gateway_request_duration_seconds, {}, '_sum') * 1000), sum('total_ms'));
    assert.deepEqual(families.ai_gateway_outbox_rows.samples.map(({ labels, value }) => [labels.workspace, value]).sort(), scenes.map(({ workspace }) => [workspace, 0]).sort());
    const again = await read();
    for (const name of Object.keys(families).filter((name) => families[name].type === 'counter')) assert.equal(sumOf(again[name]), sumOf(families[name]), name);
  });

  test('offers and waiting deliveries are shown', async () => {
    const t = await gateway.scene({ at: ['p2'] });
    t.p2.does(up.fail(500));
    const families = await eventually(async () => {
      await t.chat();
      const families = await read();
      return sumOf(families.ai_gateway_offer_state, { provider: 'p2', upstream: t.name, state: 'open' }) === 1 && families;
    }, 'the breaker is shown open', { ms: 20_000, pause: 100 });
    const offers = families.ai_gateway_offer_state.samples;
    assert.ok(offers.every(({ labels }) => ['closed', 'ramping', 'half_open', 'silent', 'cooling', 'open'].includes(labels.state)));
    // A name that is public, and that nobody has: what is sent there waits.
    const { id } = (await gateway.admin('POST', `/workspaces/${t.workspace}/webhooks`, { url: 'https://no-such-host.aistats-gateway-tests.dev/' })).is(201).json;
    (await gateway.admin('POST', `/workspaces/${t.workspace}/webhooks/${id}/test`)).is(202);
    await eventually(async () => sumOf((await read()).ai_gateway_webhook_deliveries_waiting, { workspace: t.workspace }) === 1, 'a delivery waits', { ms: 10_000 });
    (await gateway.call('GET', '/v1/admin/metrics', { key: t.key })).fails('forbidden');
  });
});
