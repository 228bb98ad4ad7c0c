// The official OpenAI SDK with nothing changed but its address and its key.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';

let gateway;
const messages = [{ role: 'user', content: 'Say hello.' }];
const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } } }];

/** A scene, a client for it, and the request most tests send. */
async function setup(options = {}, client = {}) {
  const t = await gateway.scene({ at: ['p1'], ...options });
  const openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: t.key, maxRetries: 0, ...client });
  const create = (more = {}, request) => openai.chat.completions.create({ model: t.model, messages, provider: { only: t.providers }, ...more }, request);
  return { t, openai, create };
}

describe('OpenAI SDK', { concurrency: 4, timeout: 60_000 }, () => {
  before(async () => {
    gateway = await startGateway({ vars: { FIRST_BYTE_TIMEOUT_MS: 1000, PLAIN_TIMEOUT_MS: 1000, KEEP_ALIVE_FIRST_MS: 300, KEEP_ALIVE_MS: 100 } });
  });
  after(() => gateway?.stop());

  test('a plain answer', async () => {
    const { create } = await setup();
    const answer = await create();
    assert.equal(answer.choices[0].message.content, 'Hello from upstream.');
    assert.equal(answer.choices[0].finish_reason, 'stop');
    assert.equal(answer.usage.total_tokens, 18);
    assert.match(answer._request_id, /^gen_/);
  });

  test('a stream, with usage and without', async () => {
    const { create } = await setup();
    for (const include of [true, false]) {
      let [content, usage] = ['', undefined];
      for await (const chunk of await create({ stream: true, ...(include ? { stream_options: { include_usage: true } } : {}) })) {
        content += chunk.choices[0]?.delta?.content ?? '';
        usage = chunk.usage ?? usage;
      }
      assert.equal(content, 'Hello from upstream.');
      assert.equal(usage?.total_tokens, include ? 18 : undefined);
    }
  });

  test('a stream with a silence before its first word', async () => {
    const { t, create } = await setup();
    t.p1.does(up.sse([600, ...up.story()]));
    let content = '';
    for await (const chunk of await create({ stream: true })) content += chunk.choices[0]?.delta?.content ?? '';
    assert.equal(content, 'Hello from upstream.');
  });

  test('the stream helper puts a tool call together', async () => {
    const { t, openai } = await setup();
    t.p1.does(up.sse([
      up.role(), up.toolCall({ id: 'call_1', type: 'function', function: { name: 'weather', arguments: '' } }),
      up.toolCall({ function: { arguments: '{"city":' } }), up.toolCall({ function: { arguments: ' "Köln"}' } }), up.finish('tool_calls'), up.usageEvent(up.USAGE), up.DONE,
    ]));
    const runner = openai.chat.completions.stream({ model: t.model, messages, tools, provider: { only: ['p1'] } });
    const { choices } = await runner.finalChatCompletion();
    const [call] = choices[0].message.tool_calls;
    assert.deepEqual([choices[0].finish_reason, call.id, call.function.name, JSON.parse(call.function.arguments)], ['tool_calls', 'call_1', 'weather', { city: 'Köln' }]);
  });

  test('a plain answer with tools', async () => {
    const { t, create } = await setup();
    const call = { id: 'call_1', type: 'function', function: { name: 'weather', arguments: '{"city":"Köln"}' } };
    t.p1.does(up.reply(up.completion({ message: { content: null, tool_calls: [call] }, finish_reason: 'tool_calls' })));
    const { choices } = await create({ tools, tool_choice: 'auto' });
    assert.deepEqual(choices[0].message.tool_calls, [call]);
    assert.deepEqual(t.p1.last.body.tools, tools);
  });

  test('an image part and a response format', async () => {
    const { t, openai, create } = await setup();
    const parts = [{ type: 'text', text: 'What is this?' }, { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }];
    const format = { type: 'json_schema', json_schema: { name: 'n', strict: true, schema: { type: 'object', properties: { a: { type: 'number' } } } } };
    t.p1.does(up.answer({ content: '{"a":1}' }));
    const answer = await create({ messages: [{ role: 'user', content: parts }], response_format: format });
    assert.equal(answer.choices[0].message.content, '{"a":1}');
    assert.deepEqual(t.p1.last.body.messages[0].content, parts);
    assert.deepEqual(t.p1.last.body.response_format, format);
    const parsed = await openai.chat.completions.parse({ model: t.model, messages, response_format: format, provider: { only: ['p1'] } });
    assert.deepEqual(parsed.choices[0].message.parsed, { a: 1 });
  });

  test('models are listed and retrieved', async () => {
    const { openai } = await setup();
    const ids = [];
    for await (const model of openai.models.list()) ids.push(model.id);
    assert.ok(ids.includes('test/s001'), ids.join());
    const model = await openai.models.retrieve('test/s001');
    assert.deepEqual([model.id, model.object, model.owned_by], ['test/s001', 'model', 'test']);
    await assert.rejects(openai.models.retrieve('test/none'), OpenAI.NotFoundError);
  });

  test('each refusal is the SDK\'s own exception', async () => {
    const { t, openai, create } = await setup();
    const { InternalServerError, AuthenticationError, BadRequestError, NotFoundError, PermissionDeniedError, RateLimitError, APIError } = OpenAI;
    const rejects = async (promise, kind, status, code) => {
      const error = await promise.then(() => assert.fail(`it should be refused with ${code}`), (error) => error);
      assert.equal(error.constructor, kind, `${code}: ${error.stack}`);
      assert.deepEqual([error.status, error.code], [status, code], error.message);
      assert.match(error.requestID ?? '', /^gen_/);
      assert.ok(error.message.length > 4);
      return error;
    };
    const stranger = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: 'sk-nobody', maxRetries: 0 });
    await rejects(stranger.chat.completions.create({ model: t.model, messages }), AuthenticationError, 401, 'unauthenticated');
    const error = await rejects(create({ temperature: 'hot' }), BadRequestError, 400, 'invalid_input');
    assert.deepEqual([error.param, error.type], ['temperature', 'invalid_request_error']);
    await rejects(create({ model: 'test/none' }), NotFoundError, 404, 'model_not_found');
    await rejects(create({ provider: { only: ['nobody'] } }), NotFoundError, 404, 'no_eligible_provider');
    await rejects(openai.get('/nothing'), NotFoundError, 404, 'not_found');
    await rejects(openai.get('/chat/completions'), APIError, 405, 'method_not_allowed');

    const poor = await setup({ dollars: '0' });
    await rejects(poor.create(), APIError, 402, 'insufficient_credits');
    await rejects(poor.create({ stream: true }), APIError, 402, 'insufficient_credits');
    const narrow = await setup({ key: { allowed_models: ['other/*'] } });
    await rejects(narrow.create(), PermissionDeniedError, 403, 'model_not_allowed');
    const slow = await setup({ key: { limits: { requests_per_minute: 1 } } });
    await slow.create();
    const limited = await rejects(slow.create(), RateLimitError, 429, 'rate_limited');
    assert.ok(Number(limited.headers.get('retry-after')) >= 1);

    for (const stream of [false, true]) {
      for (const [behaviour, kind, status, code] of [
        [up.fail(400, { type: 'invalid_request_error' }), BadRequestError, 400, 'invalid_input'],
        [up.fail(429), RateLimitError, 429, 'provider_busy'],
        [up.fail(500), InternalServerError, 502, 'provider_error'],
        [up.fail(401), InternalServerError, 503, 'provider_unavailable'],
      ]) {
        t.p1.does(behaviour);
        await rejects(create({ stream }), kind, status, code);
      }
    }
    t.p1.does(up.hang);
    await rejects(create(), InternalServerError, 504, 'provider_timeout');
  });

  test('a stream that breaks raises an exception with our code after the words that came', async () => {
    const { t, create } = await setup();
    t.p1.does(up.sse([up.role(), up.text('half'), up.cut]));
    for (const options of [{}, { stream_options: { include_usage: true } }]) {
      let content = '';
      const error = await (async () => {
        for await (const chunk of await create({ stream: true, ...options })) content += chunk.choices[0]?.delta?.content ?? '';
      })().then(() => undefined, (error) => error);
      assert.equal(content, 'half');
      assert.ok(error instanceof OpenAI.APIError, `${error?.stack}`);
      assert.equal(error.code, 'provider_error');
    }
  });

  test('the SDK\'s own retries find a gateway that works again', async () => {
    const { t, create } = await setup({}, { maxRetries: 2 });
    t.p1.does(up.fail(503, {}, { 'retry-after': '0' }), up.answer());
    assert.equal((await create()).choices[0].message.content, 'Hello from upstream.');
    assert.equal(t.p1.requests.length, 2);
  });

  test('an aborted stream closes the provider\'s connection and is charged as what was delivered', async () => {
    const { t, create } = await setup();
    for (const [n, options] of [{}, { stream_options: { include_usage: true } }].entries()) {
      t.p1.does(up.sse([up.role(), up.flow(10)]));
      const stream = await create({ stream: true, ...options });
      let words = 0;
      for await (const chunk of stream) {
        if (chunk.choices[0]?.delta?.content && ++words === 5) break; // Leaving the loop aborts.
      }
      await t.p1.requests[n].closedWithin(1000, performance.now());
    }
    await t.settled();
    const rows = await t.activity();
    assert.deepEqual(rows.map((row) => [row.ending, row.is_estimated]), [['client_left', true], ['client_left', true]]);
  });

  test('an abort by signal is the SDK\'s own exception', async () => {
    const { t, create } = await setup();
    t.p1.does(up.sse([up.role(), up.flow(10)]));
    const abort = new AbortController();
    const stream = await create({ stream: true }, { signal: abort.signal });
    let words = 0;
    for await (const chunk of stream) if (chunk.choices[0]?.delta?.content && ++words === 3) abort.abort();
    await t.p1.last.closedWithin(1000, performance.now());
  });

  test('the raw response has our headers', async () => {
    const { openai, t } = await setup();
    const { response } = await openai.chat.completions.create({ model: t.model, messages, provider: { only: ['p1'] } }).withResponse();
    assert.equal(response.headers.get('x-gateway-provider'), 'p1');
    assert.ok(response.headers.get('x-ratelimit-limit-requests'));
  });
});
