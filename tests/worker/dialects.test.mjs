// Every dialect against every family, plain and streamed, through the official SDKs, in the running Worker.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { startGateway } from './support/harness.mjs';
import { CALLS, FAMILIES, FREE, LINK, OBJECT, RESULT, TEXT, THOUGHT, authOf, familySecrets, startFamilies } from './support/families.mjs';

const SAID = TEXT.join('');
const prices = { input_tokens: '1', cache_read_tokens: '0.5', output_tokens: '2' };
/** 7 fresh, 4 cached, 7 out. */
const COST = 7 * 1000 + 4 * 500 + 7 * 2000;
const model = (family) => `test/m-${family}`;
const city = { type: 'object', properties: { city: { type: 'string' } } };
const form = { type: 'object', properties: { city: { type: 'string' }, deg: { type: 'number', description: 'zebra' } }, required: ['city', 'deg'], additionalProperties: false };
const PICTURE = 'iVBORw0KGgo=';
/** Requests of the matrix: dialects × families × plain and streamed × five prompts. */
const PAIRS = 3 * Object.keys(FAMILIES).length * 2 * 5;
let upstream, gateway, key, openai, anthropic;

before(async () => {
  upstream = await startFamilies();
  const families = Object.keys(FAMILIES);
  gateway = await startGateway({
    providers: ['p1'],
    scenes: 1,
    secrets: familySecrets(upstream.url),
    extra: {
      models: [...families, 'picky'].map((family) => ({ id: model(family), capabilities: { reasoning: true, structured_output: true, tools: true, vision: true } })),
      providers: [...families.map((family) => ({
        id: `f-${family}`, base_url: `${upstream.url}/${family}`, families: [family], ...authOf(family, upstream.url),
        offers: [{ model: model(family), upstream: FAMILIES[family].auth ? 'up:0' : 'up', prices, context: 32768, max_output: 4096, can: ['tools', 'vision', 'structured_output', 'reasoning'] }],
      })), {
        id: 'f-picky', base_url: `${upstream.url}/openai-chat`, families: ['openai-chat'], ...authOf('openai-chat', upstream.url),
        quirks: [{ drop: ['seed', 'n', 'store'] }, 'no_message_name'],
        offers: [{ model: model('picky'), upstream: 'up', prices, context: 32768, max_output: 4096 }],
      }],
    },
  });
  const workspace = await gateway.newWorkspace({ dollars: '100' });
  ({ key } = await gateway.newKey(workspace));
  openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key, maxRetries: 0 });
  anthropic = new Anthropic({ baseURL: gateway.url, apiKey: key, maxRetries: 0 });
});
after(async () => {
  await gateway?.stop();
  await upstream?.close();
});

const chatTools = CALLS.map(({ name }) => ({ type: 'function', function: { name, description: name, parameters: city } }));
const sameCalls = (calls) => {
  assert.deepEqual(calls.map(({ name, args }) => [name, JSON.parse(args)]), CALLS.map(({ name, args }) => [name, JSON.parse(args)]));
  assert.equal(new Set(calls.map(({ id }) => id)).size, CALLS.length, 'ids differ');
};

/** Each dialect: asks, and gives back what was said in one form. */
const DIALECTS = {
  chat: async ({ family, prompt, stream, image, schema }) => {
    const content = image ? [{ type: 'text', text: prompt }, { type: 'image_url', image_url: { url: image } }] : prompt;
    const response_format = schema && { type: 'json_schema', json_schema: { name: 'place', strict: true, schema } };
    const request = { model: model(family), messages: [{ role: 'system', content: 'Be kind.' }, { role: 'user', content }], response_format, max_completion_tokens: 2000, tools: prompt === 'use tools' ? chatTools : undefined, reasoning_effort: prompt === 'think first' ? 'low' : undefined };
    const answer = stream
      ? await openai.chat.completions.stream({ ...request, stream_options: { include_usage: true } }).finalChatCompletion()
      : await openai.chat.completions.create(request);
    const { message, finish_reason } = answer.choices[0];
    return {
      text: message.content ?? '', thought: message.reasoning_content, finish: finish_reason,
      calls: (message.tool_calls ?? []).map((call) => ({ id: call.id, name: call.function.name, args: call.function.arguments })),
      usage: [answer.usage.prompt_tokens, answer.usage.prompt_tokens_details.cached_tokens, answer.usage.completion_tokens],
    };
  },
  responses: async ({ family, prompt, stream, image, schema }) => {
    const input = image ? [{ role: 'user', content: [{ type: 'input_text', text: prompt }, { type: 'input_image', image_url: image, detail: 'auto' }] }] : prompt;
    const text = schema && { format: { type: 'json_schema', name: 'place', strict: true, schema } };
    const request = { model: model(family), instructions: 'Be kind.', input, text, max_output_tokens: 2000, tools: prompt === 'use tools' ? CALLS.map(({ name }) => ({ type: 'function', name, parameters: city, strict: false })) : undefined, reasoning: prompt === 'think first' ? { effort: 'low', summary: 'auto' } : undefined };
    const answer = stream ? await openai.responses.stream(request).finalResponse() : await openai.responses.create(request);
    assert.equal(answer.status, 'completed');
    return {
      text: answer.output_text,
      thought: answer.output.filter(({ type }) => type === 'reasoning').flatMap(({ summary }) => summary.map(({ text }) => text)).join('') || undefined,
      finish: answer.output.some(({ type }) => type === 'function_call') ? 'tool_calls' : 'stop',
      calls: answer.output.filter(({ type }) => type === 'function_call').map((call) => ({ id: call.call_id, name: call.name, args: call.arguments })),
      usage: [answer.usage.input_tokens, answer.usage.input_tokens_details.cached_tokens, answer.usage.output_tokens],
    };
  },
  messages: async ({ family, prompt, stream, image, schema }) => {
    const source = image?.startsWith('data:') ? { type: 'base64', media_type: 'image/png', data: PICTURE } : { type: 'url', url: image };
    const content = image ? [{ type: 'text', text: prompt }, { type: 'image', source }] : prompt;
    const output_config = schema && { format: { type: 'json_schema', schema } };
    const request = { model: model(family), system: 'Be kind.', max_tokens: 2000, messages: [{ role: 'user', content }], output_config, tools: prompt === 'use tools' ? CALLS.map(({ name }) => ({ name, input_schema: city })) : undefined, thinking: prompt === 'think first' ? { type: 'enabled', budget_tokens: 1024 } : undefined };
    const answer = stream ? await anthropic.messages.stream(request).finalMessage() : await anthropic.messages.create(request);
    const of = (kind) => answer.content.filter(({ type }) => type === kind);
    return {
      text: of('text').map(({ text }) => text).join(''), thought: of('thinking').map(({ thinking }) => thinking).join('') || undefined,
      finish: { end_turn: 'stop', tool_use: 'tool_calls' }[answer.stop_reason],
      calls: of('tool_use').map((call) => ({ id: call.id, name: call.name, args: JSON.stringify(call.input) })),
      usage: [answer.usage.input_tokens + answer.usage.cache_read_input_tokens, answer.usage.cache_read_input_tokens, answer.usage.output_tokens],
    };
  },
};

for (const [dialect, ask] of Object.entries(DIALECTS)) {
  describe(dialect, () => {
    for (const family of Object.keys(FAMILIES)) {
      for (const stream of [false, true]) {
        const how = stream ? 'streamed' : 'plain';
        test(`${family}, ${how}: text, tools in parallel, reasoning, a picture, a form, and the same charge`, async () => {
          const text = await ask({ family, prompt: 'say hello', stream });
          assert.deepEqual(text, { text: SAID, thought: undefined, finish: 'stop', calls: [], usage: [11, 4, 7] });
          const tools = await ask({ family, prompt: 'use tools', stream });
          assert.equal(tools.finish, 'tool_calls');
          sameCalls(tools.calls);
          const thought = await ask({ family, prompt: 'think first', stream });
          assert.deepEqual([thought.text, thought.thought], [SAID, THOUGHT]);
          const { asked } = upstream;
          const seen = await ask({ family, prompt: 'look', stream, image: `data:image/png;base64,${PICTURE}` });
          assert.equal(seen.text, SAID);
          assert.ok(JSON.stringify(asked.get(family).body).includes(PICTURE), 'the picture goes along');
          const object = await ask({ family, prompt: 'say it as an object', stream, schema: form });
          assert.deepEqual([object.text, object.finish], [OBJECT.join(''), 'stop']);
          assert.ok(JSON.stringify(asked.get(family).body).includes('zebra'), 'the schema goes along');
          assert.ok(!JSON.stringify(asked.get(family)).includes(key), 'our key is not the provider\'s');
        });
      }
    }
  });
}

test('plain and streamed cost the same in every pair, and the rows say the dialect', async () => {
  const rows = [];
  let cursor = '';
  for (let waits = 0; waits < 100 && rows.length < PAIRS; waits++) {
    rows.length = 0;
    do {
      const page = (await gateway.call('GET', `/v1/activity?limit=100${cursor && `&cursor=${encodeURIComponent(cursor)}`}`, { key })).is(200).json;
      rows.push(...page.data);
      cursor = page.next_cursor ?? '';
    } while (cursor);
    if (rows.length < PAIRS) await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.equal(rows.length, PAIRS);
  for (const row of rows) assert.equal(row.cost_nanos, COST, `${row.dialect} at ${row.provider}, stream ${row.stream}`);
  assert.deepEqual([...new Set(rows.map(({ dialect }) => dialect))].sort(), ['chat', 'messages', 'responses']);
});

test('a picture by its link goes along, or is refused where the family takes none', async () => {
  const image = 'https://a.example/picture.png';
  for (const [dialect, ask] of Object.entries(DIALECTS)) {
    for (const family of Object.keys(FAMILIES)) {
      const asked = ask({ family, prompt: 'look', stream: false, image });
      if (family === 'bedrock-converse') {
        await assert.rejects(asked, ({ status, error }) => status === 400 && (error.error ?? error).code === 'unsupported_parameter', dialect);
        continue;
      }
      assert.equal((await asked).text, SAID, `${dialect} ${family}`);
      assert.ok(JSON.stringify(upstream.asked.get(family).body).includes(image), `${dialect} ${family}`);
    }
  }
});

test('what an answer cites is told in every dialect, plain and streamed', async () => {
  const place = { start_index: TEXT[0].length, end_index: TEXT[0].length + TEXT[1].length };
  for (const family of Object.keys(FAMILIES)) {
    for (const stream of [false, true]) {
      const what = `${family}, stream ${stream}`;
      const messages = [{ role: 'user', content: 'cite it' }];
      if (stream) {
        const annotations = [];
        for await (const chunk of await openai.chat.completions.create({ model: model(family), messages, stream })) annotations.push(...(chunk.choices[0]?.delta.annotations ?? []));
        assert.deepEqual(annotations.map(({ url_citation: { url, title } }) => ({ url, title })), [LINK], what);
      } else {
        const { annotations } = (await openai.chat.completions.create({ model: model(family), messages })).choices[0].message;
        const { url, title, start_index, end_index } = annotations[0].url_citation;
        assert.deepEqual([annotations.length, { url, title }, { start_index, end_index }], [1, LINK, place], what);
      }
      const request = { model: model(family), input: 'cite it' };
      const added = [];
      const answer = stream
        ? await openai.responses.stream(request).on('response.output_text.annotation.added', (event) => added.push(event.annotation)).finalResponse()
        : await openai.responses.create(request);
      const { annotations } = answer.output.find(({ type }) => type === 'message').content.at(-1);
      assert.deepEqual(annotations.map(({ type, url, title, start_index, end_index }) => ({ type, url, title, start_index, end_index })), [{ type: 'url_citation', ...LINK, ...place }], what);
      assert.equal(added.length, stream ? 1 : 0, what);
      const asked = { model: model(family), max_tokens: 99, messages };
      const said = stream ? await anthropic.messages.stream(asked).finalMessage() : await anthropic.messages.create(asked);
      const citations = said.content.flatMap((block) => block.citations ?? []);
      assert.deepEqual(citations.map(({ type, url, title }) => ({ type, url, title })), [{ type: 'web_search_result_location', ...LINK }], what);
      assert.equal(said.content.map(({ text }) => text).join(''), SAID, what);
    }
  }
});

test('tools that take free text do so over every family, turn after turn', async () => {
  for (const family of Object.keys(FAMILIES)) {
    const tools = [{ type: 'custom', custom: { name: 'query', description: 'SQL' } }];
    for (const stream of [false, true]) {
      const what = `${family}, stream ${stream}`;
      const messages = [{ role: 'user', content: 'use free text' }];
      let call;
      if (stream) {
        call = { custom: { input: '' } };
        for await (const chunk of await openai.chat.completions.create({ model: model(family), messages, tools, stream })) {
          for (const piece of chunk.choices[0]?.delta.tool_calls ?? []) {
            if (piece.id) call = { ...call, id: piece.id, type: piece.type, custom: { ...call.custom, name: piece.custom.name } };
            call.custom.input += piece.custom.input;
          }
        }
      } else {
        [call] = (await openai.chat.completions.create({ model: model(family), messages, tools })).choices[0].message.tool_calls;
      }
      // Hosts of the chat family get the client's own bytes, and their answers come back as they are.
      const isPassed = /^(openai-chat|azure-openai)$/.test(family);
      assert.deepEqual([call.type, call.custom.name, call.custom.input], ['custom', 'query', FREE], what);
      const back = await openai.chat.completions.create({ model: model(family), tools, messages: [...messages, { role: 'assistant', tool_calls: [call] }, { role: 'tool', tool_call_id: call.id, content: RESULT }] });
      assert.equal(back.choices[0].message.content, SAID, what);
      const body = JSON.stringify(upstream.asked.get(family).body);
      assert.equal(body.includes('"custom"'), isPassed || family === 'openai-responses', what);
      assert.ok(body.includes('Zürich'), what);

      const request = { model: model(family), input: [{ role: 'user', content: 'use free text' }], tools: [{ type: 'custom', name: 'query', description: 'SQL' }] };
      const deltas = [];
      const answer = stream
        ? await openai.responses.stream(request).on('response.custom_tool_call_input.delta', ({ delta }) => deltas.push(delta)).finalResponse()
        : await openai.responses.create(request);
      const item = answer.output.find(({ type }) => type === 'custom_tool_call');
      assert.deepEqual([item.name, item.input], ['query', FREE], what);
      assert.equal(deltas.join(''), stream ? FREE : '', what);
      const next = await openai.responses.create({ ...request, input: [...request.input, item, { type: 'custom_tool_call_output', call_id: item.call_id, output: RESULT }] });
      assert.equal(next.output_text, SAID, what);
    }
  }
});

test('a turn with tools goes back and forth between dialects', async () => {
  for (const family of Object.keys(FAMILIES)) {
    await openai.chat.completions.create({
      model: model(family), messages: [
        { role: 'user', content: [{ type: 'text', text: 'look' }, { type: 'image_url', image_url: { url: 'data:image/png;base64,iVBORw0KGgo=' } }] },
        { role: 'assistant', content: null, tool_calls: [{ id: 'call_one1', type: 'function', function: { name: 'weather', arguments: '{"city":"Bern","deg": 1.50}' } }] },
        { role: 'tool', tool_call_id: 'call_one1', content: 'sunny' },
      ], tools: chatTools,
    });
    const sent = JSON.stringify(upstream.asked.get(family).body);
    for (const part of ['iVBORw0KGgo=', 'weather', 'sunny', 'Bern']) assert.ok(sent.includes(part), `${family}: ${part}`);
  }
});

test('what one issuer sealed or signed goes to no other, also where the client\'s bytes pass', async () => {
  const foreign = 'gw1.gemini-v1.FOREIGN';
  const turn = [{ type: 'thinking', thinking: 'hm', signature: foreign }, { type: 'redacted_thinking', data: foreign }, { type: 'text', text: 'kept' }];
  const question = { role: 'user', content: 'x' };
  const detail = { type: 'reasoning.text', text: 'hm', signature: 'FOREIGN', format: 'gemini-v1', index: 0 };
  const requests = [
    ['/v1/messages', { max_tokens: 9, messages: [question, { role: 'assistant', content: turn }, question] }],
    ['/v1/responses', { input: [question, { type: 'reasoning', id: 'rs_gen_x_0', summary: [], encrypted_content: foreign }, { role: 'assistant', content: 'kept' }, question] }],
    ['/v1/chat/completions', { messages: [question, { role: 'assistant', content: 'kept', reasoning_details: [detail] }, question] }],
  ];
  for (const family of Object.keys(FAMILIES).filter((name) => !name.includes('gemini'))) {
    for (const [route, body] of requests) {
      (await gateway.call('POST', route, { key, body: { ...body, model: model(family) } })).is(200);
      const sent = JSON.stringify(upstream.asked.get(family).body);
      assert.ok(sent.includes('kept') && !sent.includes('FOREIGN'), `${route} ${family}: ${sent}`);
    }
  }
});

test('betas go to hosts that speak the dialect, and are named in a warning elsewhere', async () => {
  const body = { max_tokens: 9, messages: [{ role: 'user', content: 'x' }] };
  const headers = { 'anthropic-beta': 'one-2025-01-01,two' };
  for (const family of Object.keys(FAMILIES)) {
    const reply = (await gateway.call('POST', '/v1/messages', { key, headers, body: { ...body, model: model(family) } })).is(200);
    const isPassed = family === 'anthropic-messages';
    assert.equal(reply.headers['x-gateway-warning'], isPassed ? undefined : 'dropped: anthropic-beta', family);
    assert.equal(upstream.asked.get(family).headers['anthropic-beta'], isPassed ? headers['anthropic-beta'] : undefined, family);
  }
  const chat = await gateway.call('POST', '/v1/chat/completions', { key, headers, body: { model: model('gemini'), messages: body.messages } });
  assert.equal(chat.is(200).headers['x-gateway-warning'], undefined);
  const bad = await gateway.call('POST', '/v1/messages', { key, headers: { 'anthropic-beta': 'a=b' }, body: { ...body, model: model('gemini') } });
  assert.deepEqual([bad.status, bad.json.error.code, bad.json.error.param], [400, 'invalid_input', 'anthropic-beta']);
});

test('a refusal says what cannot be sent', async () => {
  const content = [{ type: 'image', source: { type: 'base64', media_type: 'image/png', data: PICTURE } }];
  const messages = [{ role: 'user', content: 'x' }, { role: 'assistant', content: [{ type: 'tool_use', id: 't', name: 'f', input: {} }] }, { role: 'user', content: [{ type: 'tool_result', tool_use_id: 't', content }] }];
  const { status, json } = await gateway.call('POST', '/v1/messages', { key, body: { model: model('openai-chat'), max_tokens: 9, messages } });
  assert.deepEqual([status, json.error.code, json.error.param], [400, 'unsupported_parameter', 'messages[2]']);
  assert.match(json.error.message, /image in a tool result/);
});

test('structured output reaches families that have it', async () => {
  for (const family of Object.keys(FAMILIES)) {
    await openai.chat.completions.create({ model: model(family), messages: [{ role: 'user', content: 'x' }], response_format: { type: 'json_schema', json_schema: { name: 'n', schema: { type: 'object', properties: { zebra: { type: 'string' } } } } } });
    assert.ok(JSON.stringify(upstream.asked.get(family).body).includes('zebra'), family);
  }
});

test('what cannot be sent is dropped with a warning, or excludes the offer', async () => {
  const body = { model: model('anthropic-messages'), messages: [{ role: 'user', content: 'x' }], seed: 7 };
  const reply = (await gateway.call('POST', '/v1/chat/completions', { key, body })).is(200);
  assert.equal(reply.headers['x-gateway-warning'], 'dropped: seed');
  const strict = await gateway.call('POST', '/v1/chat/completions', { key, body: { ...body, provider: { require_parameters: true } } });
  assert.deepEqual([strict.status, strict.json.error.code, strict.json.error.param], [400, 'unsupported_parameter', 'seed']);
});

test('a host of the client\'s own dialect that refuses fields: they are left out and named, or exclude it', async () => {
  const said = { role: 'user', name: 'Ann', content: 'x' };
  for (const stream of [false, true]) {
    for (const [fields, message, warning] of [
      [{ seed: 7, n: 2, store: false }, said, 'dropped: seed, n, name'],
      [{ seed: 7 }, { role: 'user', content: 'x' }, 'dropped: seed'],
      [{ seed: null, n: 1, store: true, user: 'u' }, { role: 'user', content: 'x' }, undefined],
    ]) {
      const body = { model: model('picky'), messages: [message], stream, ...fields };
      const reply = (await gateway.call('POST', '/v1/chat/completions', { key, body })).is(200);
      assert.equal(reply.headers['x-gateway-warning'], warning);
      const sent = upstream.asked.get('openai-chat').body;
      assert.deepEqual([sent.seed, sent.n, sent.store, sent.user, sent.messages[0].name], [undefined, undefined, undefined, fields.user, undefined]);
    }
    const strict = { model: model('picky'), messages: [{ role: 'user', content: 'x' }], stream, provider: { require_parameters: true } };
    (await gateway.call('POST', '/v1/chat/completions', { key, body: strict })).is(200);
    const asked = upstream.asked.get('openai-chat');
    for (const [more, status, code, param] of [
      [{ seed: 7 }, 404, 'no_eligible_provider', 'model'],
      [{ messages: [said] }, 400, 'unsupported_parameter', 'name'],
    ]) {
      const refused = await gateway.call('POST', '/v1/chat/completions', { key, body: { ...strict, ...more } });
      assert.deepEqual([refused.status, refused.json.error.code, refused.json.error.param], [status, code, param]);
    }
    assert.equal(upstream.asked.get('openai-chat'), asked, 'the host is not asked');
  }
});

test('errors come in the dialect\'s own form and as the SDKs\' own classes', async () => {
  for (const family of Object.keys(FAMILIES)) {
    await assert.rejects(anthropic.messages.create({ model: model(family), max_tokens: 9, messages: [{ role: 'user', content: 'fail with 429' }] }), (error) => {
      assert.ok(error instanceof Anthropic.RateLimitError, `${family}: ${error}`);
      assert.deepEqual([error.error.type, error.error.error.type, error.error.error.code], ['error', 'rate_limit_error', 'provider_busy']);
      return true;
    });
    await assert.rejects(openai.responses.create({ model: model(family), input: 'fail with 429' }), OpenAI.RateLimitError);
  }
  await assert.rejects(anthropic.messages.create({ model: 'no/such', max_tokens: 9, messages: [{ role: 'user', content: 'x' }] }), Anthropic.NotFoundError);
  await assert.rejects(anthropic.messages.create({ model: model('gemini'), messages: [{ role: 'user', content: 'x' }] }), (error) => error instanceof Anthropic.BadRequestError && error.error.error.param === 'max_tokens');
  await assert.rejects(openai.responses.create({ model: model('gemini'), input: 'x', previous_response_id: 'resp_1' }), (error) => error instanceof OpenAI.BadRequestError && error.param === 'previous_response_id');
  const stranger = new Anthropic({ baseURL: gateway.url, apiKey: 'sk-wrong', maxRetries: 0 });
  await assert.rejects(stranger.messages.create({ model: 'm', max_tokens: 9, messages: [{ role: 'user', content: 'x' }] }), Anthropic.AuthenticationError);
});

test('tokens are counted for nothing', async () => {
  const { input_tokens } = await anthropic.messages.countTokens({ model: model('gemini'), messages: [{ role: 'user', content: 'x'.repeat(400) }] });
  assert.ok(input_tokens > 50 && input_tokens < 400, `${input_tokens}`);
});

test('one access token a provider served every request of the service account', () => {
  // How many providers share the account is the catalog's; each asks for a token of its own, once.
  const holders = Object.values(FAMILIES).filter(({ auth }) => auth === 'google');
  assert.deepEqual(upstream.tokens, holders.map(() => true));
  assert.deepEqual(upstream.iam, [true]);
});
