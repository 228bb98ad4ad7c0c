// When a provider fails: the next one serves before the first word, nobody after it, and the client sees one thing only.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { errorEventOf, eventsOf } from './support/client.mjs';
import { startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';
import { closedPort } from './support/upstream.mjs';

const ATTEMPTS_MAX = 3;
const [FIRST_BYTE_MS, KEEP_ALIVE_FIRST_MS, KEEP_ALIVE_MS, IDLE_MS] = [1500, 300, 100, 800];
let gateway;

/** Both ways to ask. */
const WAYS = { plain: {}, streamed: { stream: true, stream_options: { include_usage: true } } };

/** How the first provider fails, and how its attempt is recorded. */
const FAILURES = {
  'answers 500': { does: up.fail(500), attempt: { status: 500, class: 'fault', code: 'provider_error' } },
  'answers 502 with a proxy\'s page': { does: up.reply('<html>Bad gateway</html>', { status: 502, headers: { 'content-type': 'text/html' } }), attempt: { status: 502, class: 'fault', code: 'provider_error' } },
  'answers 503': { does: up.fail(503), attempt: { status: 503, class: 'fault', code: 'provider_unavailable' } },
  'answers 504': { does: up.fail(504), attempt: { status: 504, class: 'fault', code: 'provider_timeout' } },
  'answers 429 with Retry-After in seconds': { does: up.fail(429, { code: 'rate_limit_exceeded' }, { 'retry-after': '7' }), attempt: { status: 429, class: 'busy', code: 'provider_busy', retry_after_ms: 7000 } },
  'answers 429 with a fraction of a second': { does: up.fail(429, {}, { 'retry-after': '1.5' }), attempt: { status: 429, class: 'busy', retry_after_ms: 1500 } },
  'answers 429 with milliseconds': { does: up.fail(429, {}, { 'retry-after-ms': '250', 'retry-after': '9' }), attempt: { status: 429, class: 'busy', retry_after_ms: 250 } },
  'answers 429 with a date that has passed': { does: up.fail(429, {}, { 'retry-after': 'Wed, 21 Oct 2015 07:28:00 GMT' }), attempt: { status: 429, class: 'busy', retry_after_ms: 0 } },
  'answers 429 without a wait': { does: up.fail(429), attempt: { status: 429, class: 'busy', code: 'provider_busy' } },
  'answers 429 because our quota there is used up': { does: up.fail(429, { code: 'insufficient_quota', type: 'insufficient_quota' }), attempt: { status: 429, class: 'credential', code: 'provider_unavailable' } },
  'answers 529': { does: up.fail(529, { type: 'overloaded_error' }), attempt: { status: 529, class: 'busy' } },
  'answers 401': { does: up.fail(401, { code: 'invalid_api_key' }), attempt: { status: 401, class: 'credential', code: 'provider_unavailable' } },
  'answers 402': { does: up.fail(402), attempt: { status: 402, class: 'credential' } },
  'answers 403': { does: up.fail(403), attempt: { status: 403, class: 'credential' } },
  'answers 404': { does: up.fail(404, { code: 'model_not_found' }), attempt: { status: 404, class: 'fault', code: 'provider_unavailable' } },
  'answers 408': { does: up.fail(408), attempt: { status: 408, class: 'fault', code: 'provider_timeout' } },
  'says that the context is too short': { does: up.fail(400, { type: 'invalid_request_error', code: 'context_length_exceeded' }), attempt: { status: 400, class: 'request', code: 'context_length_exceeded' } },
  'redirects': { does: up.reply('', { status: 302, headers: { location: 'http://127.0.0.1:9/' } }), attempt: { status: 302, class: 'fault' } },
  'answers 200 with an error': { does: up.reply({ error: { message: 'x', type: 'server_error', code: null } }), attempt: { status: 200, class: 'fault' } },
  'answers 200 with a busy error': { does: up.reply({ error: { message: 'x', code: 429 } }), attempt: { status: 200, class: 'busy' } },
  'answers 200 with nothing': { does: up.reply(''), attempt: { status: 200, class: 'fault' } },
  'answers 200 with a page': { does: up.reply('<html></html>', { headers: { 'content-type': 'text/html' } }), attempt: { status: 200, class: 'fault' } },
  'cuts the connection before headers': { does: up.cut, attempt: { class: 'fault' } },
  'never answers': { does: up.hang, attempt: { class: 'fault', code: 'provider_timeout' } },
};

/** What only a stream can do before its first word. */
const STREAM_FAILURES = {
  'closes the stream at once': { does: up.sse([]), attempt: { status: 200, class: 'fault' } },
  'cuts the stream at once': { does: up.sse([up.cut]), attempt: { status: 200, class: 'fault' } },
  'cuts the stream after the role': { does: up.sse([up.role(), up.cut]), attempt: { status: 200, class: 'fault' } },
  'ends the stream after the role': { does: up.sse([up.role()]), attempt: { status: 200, class: 'fault' } },
  'sends an error event first': { does: up.sse([up.errorEvent()]), attempt: { status: 200, class: 'fault' } },
  'sends an error event after the role': { does: up.sse([up.role(), up.errorEvent({ type: 'overloaded_error' })]), attempt: { status: 200, class: 'fault', code: 'provider_unavailable' } },
  'sends a busy error event first': { does: up.sse([up.errorEvent({ code: 'rate_limit_exceeded' })]), attempt: { status: 200, class: 'busy' } },
  'sends garbage': { does: up.sse(['data: {"choi\n\n']), attempt: { status: 200, class: 'fault' } },
  'hangs after its headers': { does: up.sse([up.hang]), attempt: { status: 200, class: 'fault', code: 'provider_timeout' } },
  'hangs after the role': { does: up.sse([up.role(), up.hang]), attempt: { status: 200, class: 'fault', code: 'provider_timeout' } },
  'sends comments for ever': { does: up.sse([up.flow(50, () => ': wait\n\n')]), attempt: { status: 200, class: 'fault', code: 'provider_timeout' } },
};

/** Fails unless only the second provider's answer was seen, paid and recorded as served. */
async function servedBySecond(t, reply, attempt) {
  reply.is(200);
  assert.equal(t.p1.requests.length, 1, 'the first provider was asked once');
  assert.equal(t.p2.requests.length, 1, 'the second provider was asked once');
  const isStream = reply.headers['content-type'].startsWith('text/event-stream');
  const content = isStream ? reply.content : reply.json.choices[0].message.content;
  assert.equal(content, 'second', `only the second's words are seen: ${reply.text}`);
  if (isStream) assert.equal(reply.events.at(-1), '[DONE]');
  if (reply.headers['x-gateway-provider'] !== undefined) {
    assert.equal(reply.headers['x-gateway-provider'], 'p2');
    assert.equal(reply.headers['x-gateway-attempts'], '2');
  }
  const row = await t.row(reply.id);
  assert.deepEqual([row.ending, row.provider, row.status], ['finished', 'p2', 200]);
  assert.equal(row.cost_nanos, 11 * 3000 + 7 * 4000, 'only the second is paid');
  assert.equal(row.attempts.length, 2, JSON.stringify(row.attempts));
  const [first, second] = row.attempts;
  for (const [name, value] of Object.entries({ provider: 'p1', upstream: t.name, ...attempt })) {
    assert.equal(first[name], value, `${name} of the first attempt: ${JSON.stringify(first)}`);
  }
  if (!('status' in attempt)) assert.equal(first.status, undefined, JSON.stringify(first));
  assert.deepEqual([second.provider, second.status, second.class], ['p2', 200, undefined]);
  assert.ok(second.start_ms >= first.start_ms + first.ms - 5, `the second began when the first had failed: ${JSON.stringify(row.attempts)}`);
  assert.equal((await t.credits()).balance_nanos, 10e9 - row.cost_nanos);
}

describe('Failover before the first word', { concurrency: 8, timeout: 120_000 }, () => {
  before(async () => {
    const nobody = await closedPort();
    gateway = await startGateway({
      scenes: 140,
      vars: { FIRST_BYTE_TIMEOUT_MS: FIRST_BYTE_MS, PLAIN_TIMEOUT_MS: FIRST_BYTE_MS, KEEP_ALIVE_FIRST_MS: 10_000, ATTEMPTS_MAX },
      extra: { providers: [{ id: 'nobody', base_url: nobody, allScenes: true }] },
    });
  });
  after(() => gateway?.stop());

  for (const [way, body] of Object.entries(WAYS)) {
    for (const [what, { does, attempt }] of Object.entries({ ...FAILURES, ...(way === 'plain' ? {} : STREAM_FAILURES) })) {
      test(`${way}: when the first provider ${what}, the second serves and both attempts are recorded`, async () => {
        const t = await gateway.scene({ at: ['p1', 'p2'] });
        t.p1.does(does);
        t.p2.does(up.answer({ content: 'second' }));
        await servedBySecond(t, await t.chat(body), attempt);
        const [first] = t.p1.requests;
        if (attempt.code === 'provider_timeout' && !attempt.status) await first.closedWithin(1000, first.at);
      });
    }

    test(`${way}: when nobody listens at the first provider, the second serves`, async () => {
      const t = await gateway.scene({ at: ['nobody', 'p2'] });
      t.p2.does(up.answer({ content: 'second' }));
      const reply = (await t.chat(body)).is(200);
      const [first, second] = (await t.row(reply.id)).attempts;
      assert.deepEqual([first.provider, first.status, first.class, first.code], ['nobody', undefined, 'fault', 'provider_unavailable']);
      assert.equal(second.provider, 'p2');
    });

    test(`${way}: X-Gateway-Timeout-Ms shortens the wait for a provider that hangs`, async () => {
      const t = await gateway.scene({ at: ['p1', 'p2'] });
      t.p1.does(up.hang);
      t.p2.does(up.answer({ content: 'second' }));
      const began = performance.now();
      const reply = await t.chat(body, { headers: { 'x-gateway-timeout-ms': '600' } });
      assert.ok(performance.now() - began < 1200, `it took ${Math.round(performance.now() - began)} ms`);
      await servedBySecond(t, reply, { class: 'fault', code: 'provider_timeout' });
    });

    test(`${way}: what a provider calls invalid is not tried elsewhere`, async () => {
      for (const behaviour of [up.fail(400, { type: 'invalid_request_error' }), up.fail(422, { type: 'invalid_request_error' }), up.fail(400, { code: 'content_policy_violation' })]) {
        const t = await gateway.scene({ at: ['p1', 'p2'] });
        t.p1.does(behaviour);
        const reply = await t.chat(body);
        const error = reply.fails('invalid_input');
        assert.deepEqual([t.p1.requests.length, t.p2.requests.length], [1, 0]);
        assert.equal(error.details.attempts.length, 1);
        const row = await t.row(reply.id);
        assert.deepEqual([row.ending, row.status, row.code, row.cost_nanos, row.attempts[0].class], ['attempts_failed', 400, 'invalid_input', 0, 'request']);
        assert.equal((await t.settled()).balance_nanos, 10e9);
      }
    });

    test(`${way}: when all fail there is one envelope with the class of the decisive failure`, async () => {
      for (const [behaviours, code, retryAfter] of [
        [[up.fail(500), up.fail(500)], 'provider_error'],
        [[up.fail(503), up.fail(503)], 'provider_unavailable', true],
        [[up.fail(429, {}, { 'retry-after': '9' }), up.fail(429, {}, { 'retry-after': '4' })], 'provider_busy', [4, 4]],
        [[up.fail(429, {}, { 'retry-after': '0.2' }), up.fail(429, {}, { 'retry-after': '120' })], 'provider_busy', [1, 1]],
        [[up.fail(500), up.fail(429)], 'provider_unavailable', true],
        [[up.fail(401), up.fail(401)], 'provider_unavailable', true],
        [[up.fail(500), up.fail(401)], 'provider_error'],
        [[up.cut, up.cut], 'provider_unavailable', true],
        [[up.hang, up.hang], 'provider_timeout'],
        [[up.reply({ error: { message: 'x' } }), up.reply('')], 'provider_error'],
      ]) {
        const t = await gateway.scene({ at: ['p1', 'p2'] });
        [t.p1, t.p2].forEach((station, i) => station.does(behaviours[i]));
        const reply = await t.chat(body);
        const error = reply.fails(code, { retryAfter });
        // A connection that breaks is tried once more where nobody else is left.
        // So is one that is busy for no more than a second.
        const asked = behaviours[1] === up.cut ? ['p1', 'p2', 'p2'] : retryAfter?.[0] === 1 ? ['p1', 'p2', 'p1'] : ['p1', 'p2'];
        assert.deepEqual(error.details.attempts.map(({ provider }) => provider), asked, reply.text);
        const row = await t.row(reply.id);
        assert.deepEqual([row.ending, row.status, row.code, row.cost_nanos, row.attempts.length], ['attempts_failed', reply.status, code, 0, asked.length]);
        assert.equal((await t.settled()).balance_nanos, 10e9, 'nothing is charged');
      }
    });

    test(`${way}: when nobody listens anywhere, the answer is 503 at once`, async () => {
      const t = await gateway.scene({ at: ['nobody'] });
      const began = performance.now();
      (await t.chat(body)).fails('provider_unavailable', { retryAfter: true });
      assert.ok(performance.now() - began < 1000);
    });
  }

  test('no more attempts are made than ATTEMPTS_MAX allows, and without fallbacks only those in the order', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2', 'p3', 'nobody'] });
    for (const station of [t.p1, t.p2, t.p3]) station.does(up.fail(500));
    const error = (await t.chat()).fails('provider_error');
    assert.deepEqual(error.details.attempts.map(({ provider }) => provider), ['p1', 'p2', 'p3'], `at most ${ATTEMPTS_MAX} attempts`);
    const u = await gateway.scene();
    u.p2.does(up.fail(500));
    (await u.chat({ provider: { order: ['p2'], allow_fallbacks: false } })).fails('provider_error');
    assert.deepEqual([u.p1, u.p2, u.p3].map((station) => station.requests.length), [0, 1, 0]);
  });

  test('a provider that said 429 is asked last until its wait is over', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    t.p1.does(up.fail(429, {}, { 'retry-after': '1' }), up.answer());
    assert.equal((await t.chat()).is(200).headers['x-gateway-provider'], 'p2');
    assert.equal((await t.chat()).is(200).headers['x-gateway-provider'], 'p2', 'it cools down');
    await new Promise((resolve) => setTimeout(resolve, 1100));
    assert.equal((await t.chat()).is(200).headers['x-gateway-provider'], 'p1', 'it is asked again');
    t.p2.does(up.fail(500));
    t.p1.does(up.fail(429, {}, { 'retry-after': '60' }), up.answer());
    (await t.chat()).fails('provider_error');
    assert.equal((await t.chat()).is(200).headers['x-gateway-provider'], 'p1', 'when nobody else can, it is asked even before its wait is over');
  });

  test('a wait until a date that is to come is kept to', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    t.p1.does(up.fail(503, {}, { 'retry-after': new Date(Date.now() + 30_000).toUTCString() }), up.answer());
    const reply = (await t.chat()).is(200);
    const [{ retry_after_ms }] = (await t.row(reply.id)).attempts;
    assert.ok(retry_after_ms > 20_000 && retry_after_ms <= 30_000, String(retry_after_ms));
    t.p2.does(up.fail(500));
    const { p1, p2 } = t;
    (await t.chat()).is(200);
    assert.deepEqual([p1.requests.length, p2.requests.length], [2, 2], 'the one that waits goes last');
  });

  test('a provider that failed five times in a row is asked last', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    t.p1.does(up.fail(500));
    for (let i = 0; i < 8; i++) (await t.chat()).is(200);
    assert.equal(t.p1.requests.length, 5);
  });
});

describe('Streams that keep quiet or break', { concurrency: 8, timeout: 60_000 }, () => {
  before(async () => {
    gateway = await startGateway({
      scenes: 80,
      vars: { FIRST_BYTE_TIMEOUT_MS: FIRST_BYTE_MS, PLAIN_TIMEOUT_MS: FIRST_BYTE_MS, IDLE_TIMEOUT_MS: IDLE_MS, KEEP_ALIVE_FIRST_MS, KEEP_ALIVE_MS },
    });
  });
  after(() => gateway?.stop());

  const comments = (call) => call.text.split('\n').filter((line) => line.startsWith(':'));
  const views = { 'with usage': {}, 'without usage': { stream_options: undefined }, 'with cost': { usage: { include: true } } };

  for (const [view, options] of Object.entries(views)) {
    test(`${view}: while the provider is silent before its first word, the client gets headers and comments`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      const gate = up.gate();
      t.p1.does(up.after(gate, up.answer({ content: 'late' })));
      const call = t.openStream(options);
      await call.head;
      assert.ok(call.headAt - call.began >= KEEP_ALIVE_FIRST_MS - 50, 'not before the first silence is over');
      assert.ok(call.headAt - call.began < KEEP_ALIVE_FIRST_MS + 500, `the headers came after ${Math.round(call.headAt - call.began)} ms`);
      await new Promise((resolve) => setTimeout(resolve, 4 * KEEP_ALIVE_MS + 50));
      assert.ok(comments(call).length >= 3, `comments: ${call.text}`);
      assert.deepEqual(eventsOf(call.text), [], 'nothing but comments yet');
      gate.open();
      const reply = (await call.reply).is(200);
      assert.equal(reply.content, 'late');
      assert.equal(reply.events.at(-1), '[DONE]');
      assert.equal((await t.row(reply.id)).ending, 'finished');
    });

    test(`${view}: a provider that fails after comments went out is followed by the next one`, async () => {
      for (const behaviour of [up.fail(500), up.cut, up.sse([up.errorEvent()]), up.hang]) {
        const t = await gateway.scene({ at: ['p1', 'p2'] });
        const gate = up.gate();
        t.p1.does(behaviour === up.hang ? up.hang : up.after(gate, behaviour));
        t.p2.does(up.answer({ content: 'second' }));
        const call = t.openStream(options);
        await call.until(':', 2000);
        gate.open();
        await servedBySecond(t, await call.reply, behaviour === up.hang ? { class: 'fault', code: 'provider_timeout' } : { ...(await firstAttempt(t, call)) });
      }
    });

    test(`${view}: when all fail after comments went out, the stream ends with one error event`, async () => {
      const t = await gateway.scene({ at: ['p1', 'p2'] });
      const gate = up.gate();
      t.p1.does(up.after(gate, up.fail(500)));
      t.p2.does(up.fail(500));
      const call = t.openStream(options);
      await call.until(':', 2000);
      gate.open();
      const reply = (await call.reply).is(200);
      const error = errorEventOf(reply, 'provider_error');
      assert.equal(error.details.attempts.length, 2);
      const row = await t.row(reply.id);
      assert.deepEqual([row.ending, row.code, row.cost_nanos], ['attempts_failed', 'provider_error', 0]);
      assert.equal((await t.settled()).balance_nanos, 10e9);
    });

    const breaks = {
      'is cut': [[up.cut], 'provider_error'],
      'ends without a finish': [[], 'provider_error'],
      'ends with [DONE] but without a finish': [[up.DONE], 'provider_error'],
      'has an error event': [[up.errorEvent(), up.text('more')], 'provider_error'],
      'has an overload event': [[up.errorEvent({ type: 'overloaded_error' })], 'provider_unavailable'],
      'has an error beside half a character': [[`data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"}}],"error":{"message":"${up.CANARY}","type":"overloaded_error"}}\n\n`, up.text('more')], 'provider_unavailable'],
      'is cut inside an event': [['data: {"choices":[{"index":0,"delta":{"con', up.cut], 'provider_error'],
      'ends inside an event': [['data: {"choices":[{"index":0,"delta":{"con'], 'provider_error'],
      'has garbage': [['data: {"choi\n\n', up.text('more')], 'provider_error'],
      'is cut inside tool arguments': [[up.toolCall({ id: 'c', type: 'function', function: { name: 'f', arguments: '{"a' } }), up.cut], 'provider_error'],
      'goes silent': [[up.hang], 'provider_timeout'],
    };
    for (const [what, [parts, code]] of Object.entries(breaks)) {
      // A client that asked for usage gets the provider's bytes from the runtime: what the provider said itself cannot be taken back.
      const passed = view === 'with usage' && ['ends with [DONE] but without a finish', 'has an error event', 'has an overload event', 'has an error beside half a character', 'has garbage'].includes(what);
      if (passed) {
        test(`${view}: a stream that ${what} after its first word passes as the provider wrote it, and costs nothing`, async () => {
          const t = await gateway.scene({ at: ['p1', 'p2'] });
          t.p1.does(up.sse([up.role(), up.text('half '), up.text('said'), 30, ...parts.map((part) => (typeof part === 'string' ? part.replaceAll(up.CANARY, 'words') : part))]));
          const reply = (await t.stream(options)).is(200);
          assert.equal(t.p2.requests.length, 0, 'nobody else is asked after the first word');
          const row = await t.row(reply.id);
          assert.deepEqual([row.ending, row.code, row.cost_nanos], ['upstream_failed', code, 0]);
          assert.equal((await t.settled()).balance_nanos, 10e9, 'nothing is charged');
        });
        continue;
      }
      test(`${view}: a stream that ${what} after its first word ends with one error event, no end mark, and costs nothing`, async () => {
        const t = await gateway.scene({ at: ['p1', 'p2'] });
        t.p1.does(up.sse([up.role(), up.text('half '), up.text('said'), 30, ...parts]));
        const began = performance.now();
        const reply = (await t.stream(options)).is(200);
        assert.ok(reply.text.includes('half ') && reply.text.includes('said'), reply.text);
        errorEventOf(reply, code, { torn: view === 'with usage' });
        assert.ok(!reply.text.includes('more'), 'nothing after the error');
        assert.equal(t.p2.requests.length, 0, 'nobody else is asked after the first word');
        if (code === 'provider_timeout') {
          assert.ok(performance.now() - began < IDLE_MS + 1000, `it took ${Math.round(performance.now() - began)} ms`);
          await t.p1.last.closedWithin(1000, performance.now());
        }
        const row = await t.row(reply.id);
        assert.deepEqual([row.ending, row.cost_nanos, row.provider], ['upstream_failed', 0, 'p1']);
        assert.equal((await t.settled()).balance_nanos, 10e9, 'nothing is charged');
      });
    }

    test(`${view}: while the provider is silent in mid-stream, comments keep the stream alive`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      const gate = up.gate();
      t.p1.does(up.sse([up.role(), up.text('one'), gate, up.text('two'), up.finish(), up.usageEvent(up.USAGE), up.DONE]));
      const call = t.openStream(options);
      await call.until('one');
      await new Promise((resolve) => setTimeout(resolve, 5 * KEEP_ALIVE_MS));
      assert.ok(comments(call).length >= 2, `comments: ${call.text}`);
      gate.open();
      const reply = (await call.reply).is(200);
      assert.equal(reply.content, 'onetwo');
      assert.equal(reply.events.at(-1), '[DONE]');
      assert.equal((await t.row(reply.id)).ending, 'finished');
    });

    test(`${view}: a comment never falls into an event that came in parts`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      const [a, b] = [up.text('slow').slice(0, 60), up.text('slow').slice(60)];
      t.p1.does(up.sse([up.role(), up.text('first '), a, 3 * KEEP_ALIVE_MS, b, up.finish(), up.usageEvent(up.USAGE), up.DONE]));
      const reply = (await t.stream(options)).is(200);
      assert.equal(reply.content, 'first slow', reply.text);
      assert.equal(reply.events.at(-1), '[DONE]');
      assert.equal((await t.row(reply.id)).ending, 'finished');
    });
  }

  test('a plain answer that breaks off in its middle is not passed on: the next provider serves', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    t.p1.does((exchange) => {
      exchange.response.writeHead(200, { 'content-type': 'application/json', 'content-length': 1000 });
      exchange.response.write('{"choices":[', () => up.cut(exchange));
    });
    t.p2.does(up.answer({ content: 'second' }));
    await servedBySecond(t, await t.chat(), { status: 200, class: 'fault', code: 'provider_error' });
  });

  test('a provider that keeps its connection open after the end mark does not hold the client up', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    for (const options of Object.values(views)) {
      t.p1.does(up.sse([...up.story(), up.hang]));
      const began = performance.now();
      const reply = (await t.stream(options)).is(200);
      assert.ok(performance.now() - began < 2 * IDLE_MS, `it took ${Math.round(performance.now() - began)} ms`);
      assert.equal(reply.events.at(-1), '[DONE]', reply.text);
      assert.equal((await t.row(reply.id)).ending, 'finished');
    }
  });

  test('a stream that breaks after its end mark is still finished', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    t.p1.does(up.sse([up.role(), up.text('all'), up.finish(), up.usageEvent(up.USAGE), up.DONE, 20, up.cut]));
    const reply = (await t.stream()).is(200);
    assert.equal(reply.content, 'all');
    const row = await t.row(reply.id);
    assert.deepEqual([row.ending, row.cost_nanos], ['finished', 11 * 1000 + 7 * 2000]);
  });

  test('an answer without any words or reason costs nothing', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    t.p1.does(up.sse([up.role(), up.DONE]));
    const reply = await t.stream();
    const row = await t.row(reply.id);
    assert.equal(row.cost_nanos, 0, JSON.stringify(row));
    assert.equal((await t.settled()).balance_nanos, 10e9);
  });
});

/** The recorded first attempt itself: used where only the second's success matters. */
async function firstAttempt(t, call) {
  const reply = await call.reply;
  const { class: kind, status } = (await t.row(reply.id)).attempts[0];
  assert.equal(kind, 'fault');
  return status === undefined ? { class: kind } : { class: kind, status };
}
