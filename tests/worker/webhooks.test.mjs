// Webhooks: what is told, signed how, again when, and to whom never.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import { Receiver } from './support/receiver.mjs';
import * as up from './support/upstream.mjs';
import { eventually, sleep } from './support/wait.mjs';

/** Answers as the first part of a path says. */
const WAYS = { hang: () => undefined, flaky: (earlier) => (earlier < 2 ? 503 : 200) };
const answer = (request, earlier) => {
  const way = request.url.split('/')[1];
  return WAYS[way] ? WAYS[way](earlier) : Number(way);
};

/** As a receiver verifies by the specification. */
function isSigned({ headers, body }, secret) {
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  const expected = crypto.createHmac('sha256', key).update(`${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`).digest('base64');
  return headers['webhook-signature'].split(' ').includes(`v1,${expected}`);
}

let gateway, receiver;

describe('Webhooks', { concurrency: 4, timeout: 120_000 }, () => {
  before(async () => {
    receiver = await Receiver.start(answer);
    gateway = await startGateway({ vars: { ALLOW_LOOPBACK: '1', WEBHOOK_RETRY_MS: '20', WEBHOOK_TIMEOUT_MS: '1500' } });
  });
  after(async () => {
    await gateway?.stop();
    await receiver?.close();
  });

  let count = 0;
  /** A webhook with a path of its own. */
  const hook = async (workspace, more = {}, way = '204') => {
    const path = `/${way}/${++count}`;
    const made = (await gateway.admin('POST', `/workspaces/${workspace}/webhooks`, { url: receiver.url + path, ...more })).is(201).json;
    return { ...made, path, route: `/workspaces/${workspace}/webhooks/${made.id}` };
  };
  const arrived = async (path, type, n = 1) => {
    const found = () => receiver.of(path).filter(({ body }) => !type || JSON.parse(body).type === type);
    await eventually(() => found().length >= n, () => `${n} of ${type} at ${path}: ${JSON.stringify(receiver.of(path).map(({ body }) => body))}`, { ms: 15_000 });
    return found();
  };
  const deliveries = async (one) => (await gateway.admin('GET', `${one.route}/deliveries`)).is(200).json.data;

  test('a revoked key, a low balance and a budget are told, once each, signed', async () => {
    const t = await gateway.scene({ at: ['p1'], dollars: '0.0005', key: { budget: { day: '0.0003' } } });
    const one = await hook(t.workspace, { events: ['balance.low', 'budget.reached', 'key.revoked'] });
    (await gateway.admin('PATCH', `/workspaces/${t.workspace}/settings`, { alerts: { balance_low: '0.0004' } })).is(200);
    const body = { max_tokens: 5 };
    t.p1.does(up.answer({ usage: up.usage(80, 40) }));
    (await t.chat(body)).is(200);
    await t.settled();
    const [low] = await arrived(one.path, 'balance.low');
    const [half] = await arrived(one.path, 'budget.reached');
    assert.deepEqual(JSON.parse(half.body).data, { workspace: t.workspace, key: t.keyId, period: 'day', percent: 50, budget: '0.0003', spent: '0.00016' });
    assert.equal(JSON.parse(low.body).data.threshold, '0.0004');
    (await t.chat(body)).fails('budget_exceeded');
    (await t.chat(body)).fails('budget_exceeded');
    const reached = await arrived(one.path, 'budget.reached', 2);
    assert.equal(JSON.parse(reached[1].body).data.percent, 100);
    (await gateway.admin('DELETE', `/workspaces/${t.workspace}/keys/${t.keyId}`)).is(200);
    (await gateway.admin('DELETE', `/workspaces/${t.workspace}/keys/${t.keyId}`)).is(200);
    const [revoked] = await arrived(one.path, 'key.revoked');
    assert.equal(JSON.parse(revoked.body).data.key, t.keyId);
    await sleep(2_500);
    const all = receiver.of(one.path);
    assert.deepEqual(all.map(({ body }) => JSON.parse(body).type).sort(), ['balance.low', 'budget.reached', 'budget.reached', 'key.revoked']);
    for (const got of all) {
      assert.ok(isSigned(got, one.secret), JSON.stringify(got));
      assert.ok(Math.abs(Number(got.headers['webhook-timestamp']) - Date.now() / 1000) < 60);
      assert.equal(got.headers['content-type'], 'application/json');
    }
    assert.equal(new Set(all.map(({ headers }) => headers['webhook-id'])).size, 4);
    assert.deepEqual((await deliveries(one)).map(({ state, tries, status }) => [state, tries, status]), Array(4).fill(['delivered', 1, 204]));
    const settings = (await gateway.admin('GET', `/workspaces/${t.workspace}/settings`)).is(200).json;
    assert.deepEqual(settings.alerts, { balance_low: '0.0004', budget_percents: [50, 80, 100] });
    for (const [alerts, param] of [[{ balance_low: '-1' }, 'alerts.balance_low'], [{ budget_percents: [0] }, 'alerts.budget_percents'], [{ colour: 1 }, 'alerts.colour']]) {
      (await gateway.admin('PATCH', `/workspaces/${t.workspace}/settings`, { alerts })).fails('invalid_input', { param });
    }
  });

  test('an outage of a provider is told to those that listen, once', async () => {
    const t = await gateway.scene({ at: ['p2'] });
    const [hears, deaf] = [await hook(t.workspace, { events: ['provider.outage'] }), await hook(t.workspace, { events: ['key.revoked'] })];
    const other = await hook(await gateway.newWorkspace());
    t.p2.does(up.fail(500));
    // Isolates report while they are asked.
    await eventually(async () => {
      await t.chat();
      return receiver.of(hears.path).length > 0;
    }, 'the outage is told', { ms: 20_000, pause: 200 });
    const [told] = await arrived(hears.path, 'provider.outage');
    assert.deepEqual(JSON.parse(told.body).data, { provider: 'p2', upstream_models: [t.name] });
    await arrived(other.path, 'provider.outage');
    for (let n = 0; n < 8; n++) await t.chat();
    await sleep(6_000);
    // At least once: a delivery may come twice, an event has one id.
    assert.equal(new Set(receiver.of(hears.path).map(({ headers }) => headers['webhook-id'])).size, 1);
    assert.equal(receiver.of(deaf.path).length, 0);
  });

  test('what does not arrive is tried again, then it is dead and shown so', async () => {
    const workspace = await gateway.newWorkspace();
    // None that other tests bring about come between: a test event reaches every webhook.
    const hooks = Object.fromEntries(await Promise.all(['flaky', '500', '302', '410', 'hang'].map(async (way) => [way, await hook(workspace, { events: ['balance.low'] }, way)])));
    for (const one of Object.values(hooks)) (await gateway.admin('POST', `${one.route}/test`)).is(202);
    const first = async (way) => (await deliveries(hooks[way]))[0];
    await eventually(async () => (await first('flaky')).state === 'delivered', 'the third try arrives', { ms: 15_000 });
    assert.deepEqual([(await first('flaky')).tries, (await first('flaky')).status], [3, 200]);
    const tries = receiver.of(hooks.flaky.path);
    assert.equal(new Set(tries.map(({ headers }) => headers['webhook-id'])).size, 1, 'the same id each time');
    assert.ok(tries.every((got) => isSigned(got, hooks.flaky.secret)));
    await eventually(async () => (await first('410')).state === 'dead', 'a receiver that is gone is not tried again');
    assert.equal((await gateway.admin('GET', hooks[410].route)).is(200).json.state, 'gone');
    (await gateway.admin('POST', `${hooks[410].route}/test`)).fails('invalid_input');
    assert.equal((await gateway.admin('PATCH', hooks[410].route, { enabled: true })).is(200).json.state, 'enabled');
    for (const [way, reason] of [['500', 'answered 500'], ['302', 'answered 302; redirects are not followed'], ['hang', 'did not answer in time']]) {
      await eventually(async () => (await first(way)).tries >= 3, `${way} is tried again`, { ms: 15_000 });
      const waiting = await first(way);
      assert.deepEqual([waiting.state, waiting.reason], ['waiting', reason]);
      assert.ok(Date.parse(waiting.next_try_at) > Date.now() - 1000);
    }
    assert.equal(receiver.of('/204/elsewhere').length, 0, 'no redirect is followed');
    (await gateway.admin('PATCH', hooks[500].route, { enabled: false })).is(200);
    await eventually(async () => (await first('500')).state === 'dead', 'what waits for one that is switched off is dead', { ms: 60_000 });
    assert.equal((await first('500')).reason, 'the webhook is gone or switched off');
  });

  test('a secret is rotated with an overlap, and never shown again', async () => {
    const workspace = await gateway.newWorkspace();
    const one = await hook(workspace, { name: 'ours' });
    assert.match(one.secret, /^whsec_[A-Za-z0-9+/]{43}=$/);
    const renewed = (await gateway.admin('POST', `${one.route}/secret`, { overlap_hours: 1 })).is(200).json;
    assert.notEqual(renewed.secret, one.secret);
    (await gateway.admin('POST', `${one.route}/test`)).is(202);
    const [got] = await arrived(one.path, 'webhook.test');
    assert.ok(isSigned(got, one.secret) && isSigned(got, renewed.secret), 'both sign');
    const last = (await gateway.admin('POST', `${one.route}/secret`, { overlap_hours: 0 })).is(200).json;
    (await gateway.admin('POST', `${one.route}/test`)).is(202);
    const [, again] = await arrived(one.path, 'webhook.test', 2);
    assert.ok(isSigned(again, last.secret) && !isSigned(again, one.secret) && !isSigned(again, renewed.secret), 'the new one alone signs');
    const shown = [(await gateway.admin('GET', one.route)).text, (await gateway.admin('GET', `/workspaces/${workspace}/webhooks`)).text, JSON.stringify(await gateway.d1('SELECT * FROM webhooks'))].join();
    assert.ok(!shown.includes('whsec_') && !shown.includes(last.secret.slice(6)));
    assert.equal((await gateway.admin('DELETE', one.route)).is(200).json.deleted, true);
    (await gateway.admin('GET', one.route)).fails('not_found');
  });

  test('what is wrong is named, and no inner address is called', async () => {
    const workspace = await gateway.newWorkspace();
    const make = (body) => gateway.admin('POST', `/workspaces/${workspace}/webhooks`, body);
    for (const url of ['http://hooks.dev/x', 'https://10.0.0.1/x', 'https://169.254.169.254/latest', 'https://u:p@hooks.dev/', 'https://hooks.dev:22/', 'https://intranet/', 'file:///etc/passwd', '', 'x'.repeat(3000)]) {
      (await make({ url })).fails('invalid_input', { param: 'url' });
    }
    (await make({ url: 'https://hooks.dev/x', events: ['key.revoked', 'sunrise'] })).fails('invalid_input', { param: 'events[1]' });
    (await make({ url: 'https://hooks.dev/x', colour: 'red' })).fails('invalid_input', { param: 'colour' });
    const one = await hook(workspace);
    (await gateway.admin('PATCH', one.route, { url: 'https://127.0.0.1.nip.io/' })).fails('invalid_input', { param: 'url' });
    (await gateway.admin('POST', `${one.route}/secret`, { overlap_hours: 1000 })).fails('invalid_input', { param: 'overlap_hours' });
    (await gateway.admin('GET', `${one.route}/deliveries?cursor=x`)).fails('invalid_input', { param: 'cursor' });
    // All that are asked for at the same moment: the twentieth gets the last place, whoever that is.
    const made = await Promise.all(Array.from({ length: 30 }, (_, n) => make({ url: `https://hooks.dev/${n}` })));
    assert.equal(made.filter(({ status }) => status === 201).length, 19);
    for (const reply of made.filter(({ status }) => status !== 201)) reply.fails('invalid_input', { param: 'url' });
    (await make({ url: 'https://hooks.dev/x' })).fails('invalid_input', { param: 'url' });
    (await gateway.admin('GET', `/workspaces/${await gateway.newWorkspace()}/webhooks/${one.id}`)).fails('not_found');
  });
});
