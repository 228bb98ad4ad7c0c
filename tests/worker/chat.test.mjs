// What goes to the provider and what comes back, when all goes well.
import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { after, before, describe, test } from 'node:test';
import { eventsOf, nanosOf } from './support/client.mjs';
import { providerKey, startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';

let gateway;

/** Three ways to ask for a stream: untouched bytes, without usage, with the cost. */
const VIEWS = {
  'with usage': { stream_options: { include_usage: true } },
  'without usage': { stream_options: undefined },
  'with cost': { stream_options: { include_usage: true }, usage: { include: true } },
};

/** What a stream without its usage chunk looks like. */
const withoutUsage = (parts) => parts.filter((part) => !part.includes('"choices":[],"usage"')).join('');

/** Fails unless `stream` is `parts` as a client with that view must see it. */
function isStory(reply, parts, view, normal = (text) => text) {
  if (view === 'with usage') return assert.equal(reply.text, parts.join(''), 'the bytes are the provider\'s');
  if (view === 'without usage') return assert.equal(normal(reply.text), normal(withoutUsage(parts)), 'only the usage chunk is taken out');
  const usage = reply.chunks.filter((chunk) => chunk.usage);
  assert.equal(usage.length, 1, `one chunk has usage: ${reply.text}`);
  assert.ok(usage[0].usage.cost > 0, `the usage has a cost: ${reply.text}`);
  const others = eventsOf(reply.text).filter((data) => !data.includes('"usage":{'));
  assert.deepEqual(others, eventsOf(withoutUsage(parts)));
}

describe('Chat completions', { concurrency: 4, timeout: 60_000 }, () => {
  before(async () => {
    gateway = await startGateway({ extra: { providers: [{ id: 'open', base_url: 'http://127.0.0.1:9/v1' }] } });
  });
  after(() => gateway?.stop());

  test('a plain answer has the provider\'s bytes, with nothing but the cost added to its usage', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const head = '{ "id" : "x",\n "object":"chat.completion", "created": 1.0e9, "new_field":[1,2, 3], "usage": {"prompt_tokens":11, "completion_tokens":7,"total_tokens":18 ';
    const tail = '},"choices":[{"index":0,"message":{"role":"assistant","content":"Gr\\u00fc\\u00dfe \\/ 🦀"},"finish_reason":"stop"}] }\n';
    t.p1.does(up.reply(head + tail));
    const reply = (await t.chat()).is(200);
    assert.match(reply.headers['content-type'], /^application\/json/);
    assert.ok(reply.text.startsWith(head.trimEnd()), `before the cost: ${reply.text}`);
    assert.ok(reply.text.endsWith(tail), `after the cost: ${reply.text}`);
    const { usage } = reply.json;
    assert.equal(usage.cost, 0.000025, '11 × $1 + 7 × $2 for a million');
    assert.equal(usage.price_snapshot, gateway.snapshot);
    assert.ok(usage.cost_details, 'usage has cost_details');
  });

  test('an answer says who served, under which name, after how many attempts, at what cost and how fast', async () => {
    const t = await gateway.scene({ at: ['p2'] });
    const { headers } = (await t.chat()).is(200);
    assert.equal(headers['x-gateway-provider'], 'p2');
    assert.equal(headers['x-gateway-model'], t.model);
    assert.equal(headers['x-gateway-attempts'], '1');
    assert.equal(headers['x-gateway-paid-by'], 'credits');
    assert.equal(nanosOf(headers['x-gateway-cost']), 11 * 3000 + 7 * 4000);
    assert.match(headers['server-timing'], /gateway;dur=[\d.]+/);
    assert.match(headers['server-timing'], /provider;dur=[\d.]+/);
    for (const name of ['limit', 'remaining', 'reset']) {
      for (const what of ['requests', 'tokens']) assert.ok(headers[`x-ratelimit-${name}-${what}`], `X-RateLimit-${name}-${what} is there`);
    }
    const stream = (await t.stream()).is(200);
    assert.match(stream.headers['content-type'], /^text\/event-stream/);
    assert.equal(stream.headers['x-gateway-provider'], 'p2');
    assert.equal(stream.headers['x-gateway-model'], t.model);
    assert.equal(stream.headers['x-gateway-attempts'], '1');
    assert.equal(stream.headers['x-gateway-paid-by'], 'credits');
    assert.ok(stream.headers['server-timing'], 'Server-Timing is there');
  });

  for (const [view, options] of Object.entries(VIEWS)) {
    test(`a stream asked for ${view} is the provider's, apart from that`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      const parts = up.story();
      t.p1.does(up.sse(parts));
      isStory((await t.stream(options)).is(200), parts, view);
    });

    test(`a stream asked for ${view} that comes byte by byte is the same`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      const parts = up.story({ words: ['Grüße ', '🦀 ', 'ende'] });
      t.p1.does(up.sse(up.pieces(parts.join(''), 1)));
      const reply = (await t.stream(options)).is(200);
      isStory(reply, parts, view);
      assert.equal(reply.content, 'Grüße 🦀 ende');
    });

    test(`a stream asked for ${view} that is cut inside characters, or has several events in one piece, is the same`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      const parts = up.story({ words: ['日本', '語🦀', 'ü'] });
      const bytes = Buffer.from(parts.join(''));
      const crab = bytes.indexOf(Buffer.from('🦀'));
      t.p1.does(up.sse(up.pieces(bytes, [bytes.indexOf(Buffer.from('日')) + 1, crab + 1, crab + 3])), up.sse([parts.join('')]));
      for (const reply of [await t.stream(options), await t.stream(options)]) {
        isStory(reply.is(200), parts, view);
        assert.equal(reply.content, '日本語🦀ü');
      }
    });

    test(`a stream asked for ${view} may have comments, CRLF, and no space behind the colon`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      const parts = [': waiting\r\n\r\n', ...up.story().map((part) => part.replaceAll('\n', '\r\n').replace('data: {', 'data:{'))];
      t.p1.does(up.sse(parts));
      const reply = (await t.stream(options)).is(200);
      isStory(reply, parts, view, (text) => text.replaceAll('\r', ''));
      assert.equal(reply.content, 'Hello from upstream.');
      assert.equal(reply.events.at(-1), '[DONE]');
    });

    test(`a stream asked for ${view} gets the end mark that the provider forgot`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      t.p1.does(up.sse(up.story({ done: false })));
      const reply = (await t.stream(options)).is(200);
      isStory(reply, up.story(), view);
      const row = await t.row(reply.id);
      assert.equal(row.ending, 'finished');
      assert.equal(row.is_estimated, false);
    });

    test(`a stream asked for ${view} whose last event has no blank line ends right`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      const whole = up.story().join('');
      t.p1.does(up.sse([whole.trimEnd()]));
      const reply = (await t.stream(options)).is(200);
      assert.ok(reply.text.endsWith('data: [DONE]\n\n'), `the end is whole: ${JSON.stringify(reply.text.slice(-60))}`);
      assert.equal(reply.content, 'Hello from upstream.');
      assert.equal((await t.row(reply.id)).ending, 'finished');
    });

    test(`tool calls in a stream asked for ${view} pass byte for byte`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      const pieces = ['{\\"a\\" : 1.50, ', '\\"b\\":\\"\\\\u00e9\\\\/\\", ', '\\"c\\":[ ]', '} trailing'];
      const call = (rest) => `data: {"id":"x","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,${rest}}]},"finish_reason":null}]}\n\n`;
      const parts = [
        up.role(), call('"id":"call_1","type":"function","function":{"name":"get","arguments":""}'),
        ...pieces.map((piece) => call(`"function":{"arguments":"${piece}"}`)), up.finish('tool_calls'), up.usageEvent(up.USAGE), up.DONE,
      ];
      t.p1.does(up.sse(parts));
      const reply = (await t.stream({ ...options, tools: [{ type: 'function', function: { name: 'get', parameters: {} } }] })).is(200);
      for (const piece of pieces) assert.ok(reply.text.includes(`"arguments":"${piece}"`), `${piece} in ${reply.text}`);
      const put = reply.chunks.flatMap((c) => c.choices ?? []).flatMap((c) => c.delta?.tool_calls ?? []).map((c) => c.function.arguments).join('');
      assert.equal(put, '{"a" : 1.50, "b":"\\u00e9\\/", "c":[ ]} trailing');
      assert.equal((await t.row(reply.id)).finish_reason, 'tool_calls');
    });

    test(`a provider that answers a request for a stream ${view} with one JSON body still serves a stream`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      t.p1.does(up.reply(up.completion({ content: 'All at once.' })));
      const reply = (await t.stream(options)).is(200);
      assert.match(reply.headers['content-type'], /^text\/event-stream/);
      assert.equal(reply.content, 'All at once.');
      assert.equal(reply.events.at(-1), '[DONE]');
      assert.equal(reply.chunks.some((chunk) => chunk.usage), view !== 'without usage', reply.text);
      const row = await t.row(reply.id);
      assert.deepEqual([row.ending, row.prompt_tokens, row.completion_tokens], ['finished', 11, 7]);
    });
  }

  test('asking for the cost alone gives the usage chunk with the cost', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const reply = (await t.stream({ stream_options: undefined, usage: { include: true } })).is(200);
    const usage = reply.chunks.find((chunk) => chunk.usage)?.usage;
    assert.equal(usage?.cost, 0.000025, reply.text);
    assert.equal(usage.prompt_tokens, 11);
    assert.equal(reply.events.at(-1), '[DONE]');
  });

  test('usage that comes with the finish, or with every chunk, counts once', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const chunk = (delta, usage, finish_reason = null) => up.event({ choices: [{ index: 0, delta, finish_reason }], usage });
    t.p1.does(
      up.sse([chunk({ content: 'a' }, null), chunk({}, up.usage(5, 3), 'stop'), up.DONE]),
      up.sse([chunk({ content: 'a' }, up.usage(5, 1)), chunk({ content: 'b' }, up.usage(5, 2)), chunk({}, up.usage(5, 3), 'stop'), up.DONE]),
    );
    for (const body of [{}, { stream_options: undefined }]) {
      const reply = (await t.stream(body)).is(200);
      const row = await t.row(reply.id);
      assert.deepEqual([row.prompt_tokens, row.completion_tokens, row.is_estimated], [5, 3, false]);
      assert.equal(row.cost_nanos, 5 * 1000 + 3 * 2000);
    }
  });

  test('reasoning passes, and counts as content', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const thought = up.event({ choices: [{ index: 0, delta: { reasoning_content: 'hm' }, finish_reason: null }] });
    const parts = [up.role(), thought, up.text('yes'), up.finish(), up.usageEvent(up.usage(4, 9, { completion_tokens_details: { reasoning_tokens: 6 } })), up.DONE];
    t.p1.does(up.sse(parts));
    const reply = (await t.stream()).is(200);
    assert.equal(reply.text, parts.join(''));
    assert.deepEqual((await t.row(reply.id)).usage, { input_tokens: 4, output_tokens: 3, reasoning_tokens: 6 });
  });

  test('the provider gets the client\'s bytes: only the model is renamed and the gateway\'s own fields are taken out', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const sent = `{ "brand_new" : {"deep":[1.0, 1e3, 12345678901234567890, "\\u00fc\\/"]}, "model":"${t.model}",\n`
      + '"messages":[ {"role":"user", "content":"hi","name":"ann" ,"odd":1} ], "provider":{"only":["p1"]}, "models":[], "session_id":"s1",'
      + '"usage":{"include":true}, "temperature": 0.70, "user":"u-1", "metadata":{"k":"v"}, "seed":-1 , "stop":["a"]}';
    (await t.chat(sent)).is(200);
    const { raw, body } = t.p1.last;
    for (const piece of ['"brand_new" : {"deep":[1.0, 1e3, 12345678901234567890, "\\u00fc\\/"]}', '"messages":[ {"role":"user", "content":"hi","name":"ann" ,"odd":1} ]', '"temperature": 0.70', '"seed":-1']) {
      assert.ok(raw.toString().includes(piece), `${piece} in ${raw}`);
    }
    assert.equal(body.model, t.name, 'the model has its upstream name');
    assert.deepEqual(Object.keys(body).sort(), ['brand_new', 'messages', 'metadata', 'model', 'seed', 'stop', 'temperature', 'user']);
  });

  test('the provider is asked with its own key, and learns nothing else of the client', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const headers = { cookie: 'a=b', 'x-forwarded-for': '1.2.3.4', 'openai-organization': 'org-1', 'x-session-id': 's-1', 'x-odd': 'odd' };
    (await t.chat({}, { headers })).is(200);
    const { method, path, headers: seen } = t.p1.last;
    assert.deepEqual([method, path], ['POST', '/v1/chat/completions']);
    assert.equal(seen.authorization, `Bearer ${providerKey('p1')}`);
    assert.match(seen['content-type'], /^application\/json/);
    for (const name of ['cookie', 'x-forwarded-for', 'openai-organization', 'x-session-id', 'x-odd', 'x-api-key', 'cf-connecting-ip']) {
      assert.equal(seen[name], undefined, `${name} reached the provider`);
    }
    assert.ok(!JSON.stringify(seen).includes(t.key), 'the client\'s key reached the provider');
  });

  test('the provider of a stream is always asked for usage, and other stream options stay', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    for (const [asked, expected] of [
      [undefined, { include_usage: true }],
      [null, { include_usage: true }],
      [{}, { include_usage: true }],
      [{ include_usage: false, include_obfuscation: false }, { include_obfuscation: false, include_usage: true }],
      [{ include_usage: true, x: 1 }, { include_usage: true, x: 1 }],
    ]) {
      (await t.stream({ stream_options: asked })).is(200);
      assert.deepEqual(t.p1.last.body.stream_options, expected, `asked for ${JSON.stringify(asked)}`);
    }
    (await t.chat()).is(200);
    assert.equal(t.p1.last.body.stream_options, undefined, 'a plain request has no stream options');
  });

  test('image parts, tools and response formats reach the provider as they are', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const fields = {
      messages: [
        { role: 'developer', content: 'Be brief.' },
        { role: 'user', content: [
          { type: 'text', text: 'What is this?' },
          { type: 'image_url', image_url: { url: `data:image/png;base64,${'A'.repeat(4000)}`, detail: 'low' } },
          { type: 'image_url', image_url: { url: 'https://example.com/a.png' } },
        ] },
        { role: 'assistant', content: null, tool_calls: [{ id: 'call_1', type: 'function', function: { name: 'f', arguments: '{ "a":1 }' } }] },
        { role: 'tool', tool_call_id: 'call_1', content: 'yes' },
      ],
      tools: [{ type: 'function', function: { name: 'f', description: 'd', parameters: { type: 'object', properties: { a: { type: 'number' } } }, strict: true } }],
      tool_choice: { type: 'function', function: { name: 'f' } },
      parallel_tool_calls: false,
      response_format: { type: 'json_schema', json_schema: { name: 'n', schema: { type: 'object' }, strict: true } },
      logit_bias: { 50256: -100 },
    };
    (await t.chat(fields)).is(200);
    const { model, ...seen } = t.p1.last.body;
    assert.deepEqual(seen, fields);
  });

  test('tool calls of a plain answer pass byte for byte', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const call = '{"id":"call_a","type":"function","function":{"name":"get","arguments":"{ \\"city\\" : \\"M\\\\u00fcnchen\\", \\"n\\":1.0 "}}';
    t.p1.does(up.reply(`{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[${call}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`));
    const reply = (await t.chat()).is(200);
    assert.ok(reply.text.includes(call), reply.text);
    assert.equal((await t.row(reply.id)).finish_reason, 'tool_calls');
  });

  test('an answer that is compressed, or has no length, is read all the same', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const bytes = gzipSync(JSON.stringify(up.completion({ content: 'unzipped' })));
    t.p1.does(
      up.reply(bytes, { headers: { 'content-encoding': 'gzip' } }),
      (exchange) => {
        exchange.response.writeHead(200, { 'content-type': 'application/json' });
        exchange.response.write(JSON.stringify(up.completion({ content: 'chunked' })).slice(0, 40));
        setTimeout(() => exchange.response.end(JSON.stringify(up.completion({ content: 'chunked' })).slice(40)), 20);
      },
    );
    for (const content of ['unzipped', 'chunked']) assert.equal((await t.chat()).is(200).json.choices[0].message.content, content);
  });

  test('a stream flows: each event is there when the provider sent it, not at the end', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    for (const options of Object.values(VIEWS)) {
      const gates = [up.gate(), up.gate()];
      t.p1.does(up.sse([up.role(), up.text('one'), gates[0], up.text('two'), gates[1], up.finish(), up.usageEvent(up.USAGE), up.DONE]));
      const call = t.openStream(options);
      await call.until('one', 2000);
      gates[0].open();
      await call.until('two', 2000);
      gates[1].open();
      (await call.reply).is(200);
    }
  });

  test('several choices pass', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const parts = [0, 1].flatMap((index) => [
      up.event({ choices: [{ index, delta: { role: 'assistant', content: `c${index}` }, finish_reason: null }] }),
      up.event({ choices: [{ index, delta: {}, finish_reason: 'stop' }] }),
    ]);
    t.p1.does(up.sse([...parts, up.usageEvent(up.USAGE), up.DONE]));
    const reply = (await t.stream({ n: 2 })).is(200);
    assert.deepEqual(reply.chunks.flatMap((c) => c.choices).map((c) => c.index), [0, 0, 1, 1]);
    assert.equal((await t.row(reply.id)).ending, 'finished');
  });

  test('a model can be named with a provider in front, and `models` are alternatives', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2', 'p3'] });
    (await t.chat({ model: `p3:${t.model}`, provider: undefined })).is(200);
    assert.equal(t.p3.requests.length, 1);
    const other = await gateway.scene();
    other.p1.does(up.fail(500));
    const reply = (await t.chat({ model: other.model, models: [t.model], provider: { only: ['p1'] } })).is(200);
    assert.equal(reply.headers['x-gateway-model'], t.model);
    assert.equal(reply.headers['x-gateway-attempts'], '2');
  });

  test('the order of providers is the client\'s, and the cheapest is first when it asks for price', async () => {
    const t = await gateway.scene();
    for (const order of [['p3', 'p1'], ['p2', 'p3'], ['p1']]) {
      assert.equal((await t.chat({ provider: { order } })).is(200).headers['x-gateway-provider'], order[0]);
    }
    assert.equal((await t.chat({ provider: { ignore: ['p1', 'p2'] } })).is(200).headers['x-gateway-provider'], 'p3');
    assert.equal((await t.chat({ provider: { sort: 'price' } })).is(200).headers['x-gateway-provider'], 'p1');
    assert.equal((await t.chat({ provider: { sort: 'price', max_price: { prompt: 1 } } })).is(200).headers['x-gateway-provider'], 'p1');
  });

  test('x-api-key is as good as a bearer token', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const reply = await gateway.call('POST', '/v1/chat/completions', { headers: { 'x-api-key': t.key }, body: t.body() });
    reply.is(200);
  });

  test('models are listed as OpenAI lists them, one is found by its id, and health is public', async () => {
    const list = (await gateway.call('GET', '/v1/models')).is(200).json;
    assert.equal(list.object, 'list');
    const model = list.data.find(({ id }) => id === 'test/s001');
    assert.equal(model?.object, 'model');
    assert.equal(model.owned_by, 'test');
    assert.ok(Number.isInteger(model.created));
    const one = (await gateway.call('GET', '/v1/models/test/s001')).is(200).json;
    assert.equal(one.id, 'test/s001');
    (await gateway.call('GET', '/v1/models/test%2Fs001')).is(200);
    (await gateway.call('GET', '/v1/health')).is(200);
  });

  test('a row of activity tells the request\'s whole story', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const reply = (await t.stream({ user: 'ann', session_id: 'chat-7', max_tokens: 50 })).is(200);
    const row = await t.row(reply.id);
    assert.equal(row.id, reply.id);
    assert.equal(row.key, t.keyId);
    assert.deepEqual([row.model_asked, row.model, row.provider], [t.model, t.model, 'p1']);
    assert.deepEqual([row.stream, row.status, row.ending, row.finish_reason, row.is_estimated], [true, 200, 'finished', 'stop', false]);
    assert.deepEqual([row.prompt_tokens, row.completion_tokens, row.paid_by, row.snapshot], [11, 7, 'credits', gateway.snapshot]);
    assert.deepEqual(row.usage, { input_tokens: 11, output_tokens: 7 });
    assert.deepEqual(row.lines.map(({ meter, quantity }) => [meter, quantity]), [['input_tokens', 11], ['output_tokens', 7]]);
    assert.deepEqual([row.user, row.session], ['ann', 'chat-7']);
    assert.equal(row.attempts.length, 1);
    assert.deepEqual([row.attempts[0].provider, row.attempts[0].upstream, row.attempts[0].status, row.attempts[0].class], ['p1', t.name, 200, undefined]);
    assert.ok(Math.abs(row.at - Date.now()) < 60_000, 'at is now, in milliseconds');
    assert.ok(row.total_ms >= row.first_byte_ms && row.first_byte_ms >= 0, JSON.stringify(row));
    assert.ok(row.held_nanos >= row.cost_nanos);
  });
});
