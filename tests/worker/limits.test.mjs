// Requests and tokens per minute, and requests at once, of a key and of its workspace.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';

let gateway;

const statuses = (replies) => replies.map((reply) => reply.status).sort();
const counts = (replies) => [replies.filter((reply) => reply.status === 200).length, replies.filter((reply) => reply.status === 429).length];

/** A scene with limits on its key or on its workspace. */
const limited = (holder, limits) => gateway.scene({ at: ['p1'], ...(holder === 'key' ? { key: { limits } } : { limits }) });
const relimit = (t, holder, limits) =>
  gateway.admin('PATCH', holder === 'key' ? `/workspaces/${t.workspace}/keys/${t.keyId}` : `/workspaces/${t.workspace}`, { limits });

describe('Limits', { concurrency: 4, timeout: 60_000 }, () => {
  before(async () => {
    gateway = await startGateway({ vars: { KEEP_ALIVE_FIRST_MS: 200, KEEP_ALIVE_MS: 100 } });
  });
  after(() => gateway?.stop());

  for (const holder of ['key', 'workspace']) {
    test(`requests per minute of a ${holder}: exactly as many as allowed pass, also at once`, async () => {
      const t = await limited(holder, { requests_per_minute: 10 });
      const replies = await Promise.all(Array.from({ length: 30 }, (_, i) => t.chat(i % 2 ? {} : { stream: true })));
      assert.deepEqual(counts(replies), [10, 20]);
      for (const reply of replies) if (reply.status === 429) reply.fails('rate_limited', { retryAfter: [1, 60] });
      assert.equal(t.p1.requests.length, 10);
    });

    test(`a limit of zero of a ${holder} lets nothing pass`, async () => {
      for (const limits of [{ requests_per_minute: 0 }, { tokens_per_minute: 0 }, { parallel_requests: 0 }]) {
        const t = await limited(holder, limits);
        (await t.chat()).fails('rate_limited', { retryAfter: [1, 60] });
        assert.equal(t.p1.requests.length, 0);
      }
    });

    test(`requests per minute of a ${holder}: what was refused consumed nothing`, async () => {
      const t = await limited(holder, { requests_per_minute: 2 });
      assert.deepEqual(statuses([await t.chat(), await t.chat()]), [200, 200]);
      for (let i = 0; i < 5; i++) (await t.chat()).fails('rate_limited');
      const { balance_nanos } = await t.settled();
      assert.equal(balance_nanos, 10e9 - 2 * 25_000, 'only two were paid');
      (await relimit(t, holder, { requests_per_minute: 3 })).is(200);
      (await t.chat()).is(200);
      (await t.chat()).fails('rate_limited');
    });

    test(`requests per minute of a ${holder}: the headers count down`, async () => {
      const t = await limited(holder, { requests_per_minute: 3 });
      for (const remaining of ['2', '1', '0']) {
        const { headers } = (await t.chat()).is(200);
        assert.equal(headers['x-ratelimit-limit-requests'], '3');
        assert.equal(headers['x-ratelimit-remaining-requests'], remaining);
        assert.match(headers['x-ratelimit-reset-requests'], /^(\d+(\.\d+)?s|\d+ms)$/);
      }
      const { headers } = await t.chat();
      assert.deepEqual([headers['x-ratelimit-limit-requests'], headers['x-ratelimit-remaining-requests']], ['3', '0']);
    });

    test(`tokens per minute of a ${holder}: what was used counts, what was refused does not`, async () => {
      const t = await limited(holder, { tokens_per_minute: 1000 });
      t.p1.does(up.answer({ usage: up.usage(300, 100) }));
      for (let i = 0; i < 2; i++) {
        const reply = (await t.chat({ max_tokens: 20 })).is(200);
        assert.equal(reply.headers['x-ratelimit-limit-tokens'], '1000');
        await t.row(reply.id);
      }
      const third = (await t.chat({ max_tokens: 20 })).is(200); // 800 are used, this one is expected to take few
      assert.ok(Number(third.headers['x-ratelimit-remaining-tokens']) <= 200, JSON.stringify(third.headers));
      await t.row(third.id);
      for (let i = 0; i < 3; i++) (await t.chat({ max_tokens: 20 })).fails('rate_limited', { retryAfter: [1, 60] });
      (await relimit(t, holder, { tokens_per_minute: 1500 })).is(200);
      (await t.chat({ max_tokens: 20 })).is(200);
    });

    test(`requests at once of a ${holder}: one more waits for another's end`, async () => {
      const t = await limited(holder, { parallel_requests: 3 });
      const gates = [up.gate(), up.gate(), up.gate()];
      t.p1.does(...gates.map((gate) => up.after(gate, up.answer())), up.answer());
      const calls = [t.open(), t.open({ stream: true }), t.openStream()];
      await t.p1.arrival(3);
      for (let i = 0; i < 3; i++) (await t.chat()).fails('rate_limited', { retryAfter: [1, 60] });
      gates.forEach((gate) => gate.open());
      const [first] = await Promise.all(calls.map((call) => call.reply));
      await t.row(first.id);
      await t.settled();
      (await t.chat()).is(200);
      assert.equal(t.p1.requests.length, 4, 'the refused reached nobody');
    });

    test(`requests at once of a ${holder}: of many at the same moment exactly as many as allowed pass`, async () => {
      const t = await limited(holder, { parallel_requests: 5 });
      const gate = up.gate();
      t.p1.does(up.after(gate, up.answer()));
      const calls = Array.from({ length: 20 }, () => t.open());
      const refused = [];
      for (const call of calls) call.reply.then((reply) => reply.status === 429 && refused.push(reply), () => {});
      await t.p1.arrival(5);
      while (refused.length < 15) await new Promise((resolve) => setTimeout(resolve, 20));
      gate.open();
      assert.deepEqual(counts(await Promise.all(calls.map((call) => call.reply))), [5, 15]);
    });

    test(`requests at once of a ${holder}: a failed request, an invalid one and a client that left give their place back`, async () => {
      const t = await limited(holder, { parallel_requests: 1 });
      t.p1.does(up.fail(500), up.fail(400, { type: 'invalid_request_error' }), up.sse([up.role(), up.text('x'), up.cut]), up.hang, up.answer());
      (await t.chat()).fails('provider_error');
      await t.settled();
      (await t.chat()).fails('invalid_input');
      await t.settled();
      (await t.stream()).is(200);
      await t.settled();
      const call = t.open();
      await t.p1.arrival(4);
      call.reset();
      await t.settled();
      (await t.chat({ temperature: 'hot' })).fails('invalid_input');
      (await t.chat()).is(200);
    });
  }

  test('the keys of a workspace share its limit, and each has its own', async () => {
    const t = await gateway.scene({ at: ['p1'], limits: { requests_per_minute: 5 }, key: { limits: { requests_per_minute: 3 } } });
    const { key: other } = await gateway.newKey(t.workspace);
    const own = [];
    for (let i = 0; i < 4; i++) own.push(await t.chat());
    assert.deepEqual(statuses(own), [200, 200, 200, 429]);
    const others = [];
    for (let i = 0; i < 3; i++) others.push(await t.chat({}, { key: other }));
    assert.deepEqual(statuses(others), [200, 200, 429]);
  });

  test('the tighter of two limits is the one in the headers', async () => {
    const t = await gateway.scene({ at: ['p1'], limits: { requests_per_minute: 50 }, key: { limits: { requests_per_minute: 3 } } });
    assert.equal((await t.chat()).headers['x-ratelimit-limit-requests'], '3');
    const u = await gateway.scene({ at: ['p1'], limits: { requests_per_minute: 3 }, key: { limits: { requests_per_minute: 50 } } });
    assert.equal((await u.chat()).headers['x-ratelimit-limit-requests'], '3');
  });

  test('other endpoints are not limited', async () => {
    const t = await limited('key', { requests_per_minute: 1, parallel_requests: 1 });
    (await t.chat()).is(200);
    for (let i = 0; i < 5; i++) for (const route of ['/v1/key', '/v1/credits', '/v1/activity', '/v1/models']) (await t.get(route)).is(200);
  });
});
