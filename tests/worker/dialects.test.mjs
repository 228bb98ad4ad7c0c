// Every dialect against every family, plain and streamed, through the official SDKs, in the running Worker.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { startGateway } from './support/harness.mjs';
import { CALLS, FAMILIES, TEXT, THOUGHT, authOf, familySecrets, startFamilies } from './support/families.mjs';

const SAID = TEXT.join('');
const prices = { input_tokens: '1', cache_read_tokens: '0.5', output_tokens: '2' };
/** 7 fresh, 4 cached, 7 out. */
const COST = 7 * 1000 + 4 * 500 + 7 * 2000;
const model = (family) => `test/m-${family}`;
const schema = { type: 'object', properties: { city: { type: 'string' } } };
/** Requests of the matrix: dialects × families × plain and streamed × three prompts. */
const PAIRS = 3 * Object.keys(FAMILIES).length * 2 * 3;
let upstream, gateway, key, openai, anthropic;

before(async () => {
  upstream = await startFamilies();
  const families = Object.keys(FAMILIES);
  gateway = await startGateway({
    providers: ['p1'],
    scenes: 1,
    secrets: familySecrets(upstream.url),
    extra: {
      models: families.map((family) => ({ id: model(family), capabilities: { reasoning: true, structured_output: true, tools: true, vision: true } })),
      providers: families.map((family) => ({
        id: `f-${family}`, base_url: `${upstream.url}/${family}`, families: [family], ...authOf(family),
        offers: [{ model: model(family), upstream: FAMILIES[family].auth ? 'up:0' : 'up', prices, context: 32768, max_output: 4096, can: ['tools', 'vision', 'structured_output', 'reasoning'] }],
      })),
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

const chatTools = CALLS.map(({ name }) => ({ type: 'function', function: { name, description: name, parameters: schema } }));
const sameCalls = (calls) => {
  assert.deepEqual(calls.map(({ name, args }) => [name, JSON.parse(args)]), CALLS.map(({ name, args }) => [name, JSON.parse(args)]));
  assert.equal(new Set(calls.map(({ id }) => id)).size, CALLS.length, 'ids differ');
};

/** Each dialect: asks, and gives back what was said in one form. */
const DIALECTS = {
  chat: async ({ family, prompt, stream }) => {
    const request = { model: model(family), messages: [{ role: 'system', content: 'Be kind.' }, { role: 'user', content: prompt }], max_completion_tokens: 2000, tools: prompt === 'use tools' ? chatTools : undefined, reasoning_effort: prompt === 'think first' ? 'low' : undefined };
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
  responses: async ({ family, prompt, stream }) => {
    const request = { model: model(family), instructions: 'Be kind.', input: prompt, max_output_tokens: 2000, tools: prompt === 'use tools' ? CALLS.map(({ name }) => ({ type: 'function', name, parameters: schema, strict: false })) : undefined, reasoning: prompt === 'think first' ? { effort: 'low', summary: 'auto' } : undefined };
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
  messages: async ({ family, prompt, stream }) => {
    const request = { model: model(family), system: 'Be kind.', max_tokens: 2000, messages: [{ role: 'user', content: prompt }], tools: prompt === 'use tools' ? CALLS.map(({ name }) => ({ name, input_schema: schema })) : undefined, thinking: prompt === 'think first' ? { type: 'enabled', budget_tokens: 1024 } : undefined };
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
        test(`${family}, ${how}: text, tools in parallel, reasoning, and the same charge`, async () => {
          const text = await ask({ family, prompt: 'say hello', stream });
          assert.deepEqual(text, { text: SAID, thought: undefined, finish: 'stop', calls: [], usage: [11, 4, 7] });
          const tools = await ask({ family, prompt: 'use tools', stream });
          assert.equal(tools.finish, 'tool_calls');
          sameCalls(tools.calls);
          const thought = await ask({ family, prompt: 'think first', stream });
          assert.deepEqual([thought.text, thought.thought], [SAID, THOUGHT]);
          const { asked } = upstream;
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
});
