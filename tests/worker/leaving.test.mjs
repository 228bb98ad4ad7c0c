// When the client leaves: the provider's connection closes with it, at every stage, and the row says what it cost.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';
import { sleep } from './support/wait.mjs';

const WITHIN_MS = 1000;
let gateway;

/** Ways of a stream: the bytes are moved natively, or each event is looked at. */
const STREAMS = {
  'native stream': { stream: true, stream_options: { include_usage: true } },
  'filtered stream': { stream: true },
  'priced stream': { stream: true, stream_options: { include_usage: true }, usage: { include: true } },
};

/** Fails unless the provider's connection closed in time and the row tells of a client that left. Returns the row. */
async function left(t, call, exchange, since) {
  const ms = await exchange.closedWithin(WITHIN_MS, since);
  assert.ok(ms <= WITHIN_MS, `the upstream connection closed after ${Math.round(ms)} ms`);
  const { balance_nanos } = await t.settled();
  const rows = await t.activity();
  assert.equal(rows.length, 1, `one row: ${JSON.stringify(rows)}`);
  const [row] = rows;
  if (call.id) assert.equal(row.id, call.id);
  assert.equal(row.ending, 'client_left', JSON.stringify(row));
  assert.equal(row.is_estimated, row.cost_nanos > 0, `what is charged is flagged as an estimate: ${JSON.stringify(row)}`);
  assert.ok(row.cost_nanos <= row.held_nanos, 'no more than was held');
  assert.equal(balance_nanos, 10e9 - row.cost_nanos, 'the balance went down by what the row says');
  return row;
}

describe('The client leaves', { concurrency: 6, timeout: 60_000 }, () => {
  before(async () => {
    gateway = await startGateway({ vars: { KEEP_ALIVE_FIRST_MS: 300, KEEP_ALIVE_MS: 100, FIRST_BYTE_TIMEOUT_MS: 20_000, IDLE_TIMEOUT_MS: 20_000 } });
  });
  after(() => gateway?.stop());

  for (const [way, body] of Object.entries({ plain: {}, ...STREAMS })) {
    test(`${way}: with a reset while the provider has not answered yet`, async () => {
      const t = await gateway.scene({ at: ['p1', 'p2'] });
      t.p1.does(up.hang);
      const call = t.open(body);
      const exchange = await t.p1.arrival();
      await sleep(50);
      const row = await left(t, call, exchange, call.reset());
      assert.equal(row.completion_tokens ?? 0, 0, 'no output was delivered');
      assert.equal(t.p2.requests.length, 0, 'nobody else is asked for a client that left');
    });

    test(`${way}: with a reset at any moment of a quick answer: settled at once, charged no more than was held`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      const calls = Array.from({ length: 40 }, async (_, index) => {
        const call = t.open(body);
        await sleep(index * 0.5);
        call.reset();
      });
      await Promise.all(calls);
      await sleep(100);
      const { balance_nanos } = await t.settled(2000);
      const rows = await t.activity();
      assert.ok(rows.every((row) => row.cost_nanos <= row.held_nanos && ['client_left', 'finished'].includes(row.ending)), JSON.stringify(rows));
      assert.equal(balance_nanos, 10e9 - rows.reduce((sum, row) => sum + row.cost_nanos, 0));
    });

    test(`${way}: with a reset between two attempts, when nobody is being asked: nothing is charged`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      t.p1.does(up.fail(429, {}, { 'retry-after-ms': '900' }), up.hang);
      const call = t.open({ ...body, provider: { only: ['p1'] } });
      const exchange = await t.p1.arrival();
      await exchange.closed;
      await sleep(150);
      call.reset();
      const { balance_nanos } = await t.settled();
      const [row] = await t.activity();
      assert.deepEqual([row.ending, row.cost_nanos, balance_nanos, row.attempts.length, t.p1.requests.length], ['client_left', 0, 10e9, 1, 1], JSON.stringify(row));
    });

    test(`${way}: with a reset while the second provider has not answered yet`, async () => {
      const t = await gateway.scene({ at: ['p1', 'p2'] });
      t.p1.does(up.fail(500));
      t.p2.does(up.hang);
      const call = t.open(body);
      const exchange = await t.p2.arrival();
      await sleep(50);
      const row = await left(t, call, exchange, call.reset());
      assert.equal(row.attempts[0].provider, 'p1');
    });
  }

  test('plain: with a reset while the provider is in the middle of its answer', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    t.p1.does((exchange) => {
      exchange.response.writeHead(200, { 'content-type': 'application/json' });
      exchange.response.write('{"id":"x","choices":[');
      return exchange.closed;
    });
    const call = t.open();
    const exchange = await t.p1.arrival();
    await sleep(100);
    await left(t, call, exchange, call.reset());
  });

  for (const [way, body] of Object.entries(STREAMS)) {
    for (const [stage, parts] of Object.entries({ 'its headers': [up.hang], 'the role': [up.role(), up.hang] })) {
      for (const manner of ['reset', 'leave']) {
        test(`${way}: ${manner === 'reset' ? 'with a reset' : 'like an SDK does'} after ${stage} of the provider, before the first word`, async () => {
          const t = await gateway.scene({ at: ['p1', 'p2'] });
          t.p1.does(up.sse(parts));
          const call = t.open(body);
          const exchange = await t.p1.arrival();
          await call.until(':', 3000); // The keep-alive has begun: its next write finds out.
          const row = await left(t, call, exchange, call[manner]());
          assert.equal(row.completion_tokens ?? 0, 0, 'no output was delivered');
          assert.equal(t.p2.requests.length, 0);
        });
      }
    }

    for (const manner of ['reset', 'leave']) {
      const how = manner === 'reset' ? 'with a reset' : 'like an SDK does';
      test(`${way}: ${how} in the middle of a flowing stream`, async () => {
        const t = await gateway.scene({ at: ['p1'] });
        t.p1.does(up.sse([up.role(), up.flow(10)]));
        const call = t.open(body);
        await call.until('word5');
        const row = await left(t, call, t.p1.last, call[manner]());
        assert.ok(row.completion_tokens > 0, `delivered words are counted: ${JSON.stringify(row)}`);
        assert.ok(row.prompt_tokens > 0 && row.cost_nanos > 0, JSON.stringify(row));
      });

      test(`${way}: ${how} while a stream is silent in its middle`, async () => {
        const t = await gateway.scene({ at: ['p1'] });
        t.p1.does(up.sse([up.role(), up.text('some words that were delivered'), up.hang]));
        const call = t.open(body);
        await call.until('delivered');
        await sleep(20);
        const row = await left(t, call, t.p1.last, call[manner]());
        assert.ok(row.completion_tokens > 0 && row.cost_nanos > 0, JSON.stringify(row));
      });
    }

    test(`${way}: with a reset while only half of an event has come`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      t.p1.does(up.sse([up.role(), up.text('some words that were delivered'), up.text('never').slice(0, 60), up.hang]));
      const call = t.open(body);
      await call.until('delivered');
      await sleep(50);
      const row = await left(t, call, t.p1.last, call.reset());
      assert.ok(row.completion_tokens > 0 && row.cost_nanos > 0, JSON.stringify(row));
    });

    test(`${way}: after everything was delivered, which is a normal end`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      t.p1.does(up.sse([...up.story(), 200]));
      const call = t.open(body);
      await call.until('[DONE]');
      call.leave();
      const row = await t.row(call.id);
      assert.deepEqual([row.ending, row.is_estimated, row.cost_nanos], ['finished', false, 11 * 1000 + 7 * 2000]);
      await t.settled();
    });
  }

  test('fifty clients at once, at any moment: every provider connection closes and every hold is released', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    t.p1.does(up.sse([up.role(), up.flow(5)]));
    const ways = Object.values(STREAMS);
    const calls = Array.from({ length: 50 }, (_, i) => t.open(ways[i % ways.length]));
    await Promise.all(calls.map(async (call, i) => {
      await sleep(100 + i * 7);
      call[i % 2 ? 'reset' : 'leave']();
    }));
    const since = performance.now();
    for (const exchange of t.p1.requests) await exchange.closedWithin(2 * WITHIN_MS, since);
    const { balance_nanos } = await t.settled();
    const rows = await t.activity();
    assert.equal(rows.length, t.p1.requests.length, 'each request has its row');
    assert.ok(rows.every((row) => row.ending === 'client_left'), JSON.stringify(rows.map((row) => row.ending)));
    assert.equal(balance_nanos, 10e9 - rows.reduce((sum, row) => sum + row.cost_nanos, 0));
  });
});

describe('Who takes too little time or none', { concurrency: 6, timeout: 60_000 }, () => {
  let gateway;
  before(async () => {
    gateway = await startGateway({ vars: { IDLE_TIMEOUT_MS: 1500, TOTAL_TIMEOUT_MS: 20_000, KEEP_ALIVE_MS: 300 } });
  });
  after(() => gateway?.release());

  const ALL = { ...STREAMS, 'kept stream': STREAMS['native stream'] };
  const headersOf = (way) => (way === 'kept stream' ? { 'idempotency-key': 'one' } : {});

  for (const [way, body] of Object.entries(ALL)) {
    test(`${way}: the time that a request allows is over in mid-stream: it pays as one that leaves, and nobody is to blame`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      t.p1.does(up.sse([up.role(), up.flow(10)]));
      const reply = (await t.chat(body, { headers: { 'x-gateway-timeout-ms': 'total=2000', ...headersOf(way) } })).is(200);
      assert.match(reply.text.trim().split('\n').at(-1), /^data: \{"error":\{"code":"provider_timeout"/);
      const row = await t.row(reply.id);
      assert.deepEqual([row.ending, row.code, row.is_estimated], ['client_left', 'provider_timeout', true], JSON.stringify(row));
      assert.ok(row.completion_tokens > 5 && row.cost_nanos > 0, JSON.stringify(row));
      const { balance_nanos } = await t.settled();
      assert.equal(balance_nanos, 10e9 - row.cost_nanos);
      const { offers } = (await gateway.admin('GET', '/health')).json;
      assert.ok(offers.find(({ upstream }) => upstream === t.name).failure_rate < 0.02, JSON.stringify(offers));
    });
  }

  for (const way of ['filtered stream', 'priced stream', 'kept stream']) {
    test(`${way}: a client that takes nothing any more is not waited for, and pays`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      t.p1.does(up.sse([up.role(), ...Array.from({ length: 4000 }, () => up.text('y'.repeat(8000))), up.finish(), up.usageEvent(up.USAGE), up.DONE]));
      const call = t.open(ALL[way], { headers: headersOf(way) });
      const response = await new Promise((resolve) => call.request.once('response', resolve));
      await call.until('yyy');
      response.pause();
      const row = await t.row(call.id);
      const { balance_nanos } = await t.settled();
      const isKept = way === 'kept stream';
      assert.deepEqual([row.ending, row.is_estimated], [isKept ? 'finished' : 'client_left', !isKept], JSON.stringify(row));
      assert.ok(row.cost_nanos > 0 && balance_nanos === 10e9 - row.cost_nanos, JSON.stringify(row));
      response.resume();
      const reply = await call.reply;
      assert.match(reply.text.slice(-300), /"code":"provider_timeout","message":"the answer was not taken in time"/);
      const { offers } = (await gateway.admin('GET', '/health')).json;
      assert.ok(offers.find(({ upstream }) => upstream === t.name).failure_rate < 0.02, JSON.stringify(offers));
    });
  }
});
