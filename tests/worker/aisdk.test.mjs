// The Vercel AI SDK, and the helpers of the official SDKs that go round by themselves, each over models of every family.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import Anthropic from '@anthropic-ai/sdk';
import { generateObject, generateText, jsonSchema, stepCountIs, streamObject, streamText, tool } from 'ai';
import OpenAI from 'openai';
import { startGateway } from './support/harness.mjs';
import { CALLS, FAMILIES, LINK, RESULT, TEXT, authOf, familySecrets, startFamilies } from './support/families.mjs';

const SAID = TEXT.join('');
const PLACE = { city: 'Bern', deg: 21 };
const PICTURE = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==';
const prices = { input_tokens: '1', cache_read_tokens: '0.5', output_tokens: '2' };
const can = ['tools', 'vision', 'structured_output', 'reasoning'];
const model = (family) => `test/m-${family}`;
const families = Object.keys(FAMILIES);
const schema = { type: 'object', properties: { city: { type: 'string' }, deg: { type: 'number' } }, required: ['city', 'deg'], additionalProperties: false };
let upstream, gateway, key;

before(async () => {
  upstream = await startFamilies();
  gateway = await startGateway({
    providers: ['p1'],
    scenes: 1,
    secrets: familySecrets(upstream.url),
    extra: {
      models: families.map((family) => ({ id: model(family), capabilities: { reasoning: true, structured_output: true, tools: true, vision: true } })),
      providers: families.map((family) => ({
        id: `f-${family}`, base_url: `${upstream.url}/${family}`, families: [family], ...authOf(family, upstream.url),
        offers: [{ model: model(family), upstream: FAMILIES[family].auth ? 'up:0' : 'up', prices, context: 32768, max_output: 4096, can }],
      })),
    },
  });
  ({ key } = await gateway.newKey(await gateway.newWorkspace({ dollars: '100' })));
});
after(async () => {
  await gateway?.stop();
  await upstream?.close();
});

/** The AI SDK's providers, by what they speak. */
const PROVIDERS = {
  '@ai-sdk/openai, chat': (id) => createOpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key }).chat(id),
  '@ai-sdk/openai, responses': (id) => createOpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key }).responses(id),
  '@ai-sdk/openai-compatible': (id) => createOpenAICompatible({ name: 'gateway', baseURL: `${gateway.url}/v1`, apiKey: key, includeUsage: true, supportsStructuredOutputs: true })(id),
  '@ai-sdk/anthropic': (id) => createAnthropic({ baseURL: `${gateway.url}/v1`, apiKey: key })(id),
};

/** The gateway keeps no state, so Responses send whole items rather than references to kept ones. */
const OPTIONS = { openai: { store: false } };

/** Tools that are called once each, the first with an answer that ends the calls. */
function tools(called) {
  const one = (name) => tool({
    description: name, inputSchema: jsonSchema({ type: 'object', properties: { city: { type: 'string' }, deg: { type: 'number' } } }),
    execute: async (input) => {
      called.push([name, input]);
      return RESULT;
    },
  });
  return Object.fromEntries(CALLS.map(({ name }) => [name, one(name)]));
}
const inOrder = (calls) => calls.sort(([a], [b]) => a.localeCompare(b));
const wanted = inOrder(CALLS.map(({ name, args }) => [name, JSON.parse(args)]));

for (const [name, of] of Object.entries(PROVIDERS)) {
  describe(name, { concurrency: 2, timeout: 120_000 }, () => {
    for (const family of families) {
      test(`${family}: text, stream, object, tools in a loop`, async () => {
        const common = { model: of(model(family)), maxRetries: 0, maxOutputTokens: 2000, providerOptions: OPTIONS };
        const plain = await generateText({ ...common, prompt: 'say hello' });
        assert.deepEqual([plain.text, plain.finishReason, plain.usage.outputTokens], [SAID, 'stop', 7]);
        const stream = streamText({ ...common, prompt: 'say hello', onError: ({ error }) => assert.fail(String(error)) });
        let text = '';
        for await (const piece of stream.textStream) text += piece;
        assert.deepEqual([text, await stream.finishReason, (await stream.usage).outputTokens], [SAID, 'stop', 7]);

        const object = { ...common, schema: jsonSchema(schema), schemaName: 'place', prompt: 'say it as an object' };
        // Anthropic's provider asks by a tool for models whose name it does not know, or by a form where it is told to.
        const ways = name === '@ai-sdk/anthropic' ? ['jsonTool', 'outputFormat'] : [undefined];
        for (const structuredOutputMode of ways) {
          const asked = { ...object, providerOptions: { ...OPTIONS, anthropic: { structuredOutputMode } } };
          assert.deepEqual((await generateObject(asked)).object, PLACE, structuredOutputMode);
          const made = streamObject({ ...asked, onError: ({ error }) => assert.fail(String(error)) });
          let partial;
          for await (const one of made.partialObjectStream) partial = one;
          assert.deepEqual([partial, await made.object], [PLACE, PLACE], structuredOutputMode);
        }

        const look = (image) => generateText({ ...common, messages: [{ role: 'user', content: [{ type: 'text', text: 'look' }, { type: 'image', image }] }] });
        assert.equal((await look(Buffer.from(PICTURE, 'base64'))).text, SAID);
        assert.ok(JSON.stringify(upstream.asked.get(family).body).includes(PICTURE));
        // The compatible provider fetches pictures by itself and sends their bytes.
        if (name !== '@ai-sdk/openai-compatible') {
          const link = new URL('https://a.example/picture.png');
          if (family === 'bedrock-converse') await assert.rejects(look(link), ({ statusCode, responseBody }) => statusCode === 400 && responseBody.includes('"unsupported_parameter"'));
          else {
            assert.equal((await look(link)).text, SAID);
            assert.ok(JSON.stringify(upstream.asked.get(family).body).includes(link.href));
          }
        }

        // The compatible provider reads no annotations, and Anthropic's takes links from its own search only; both take answers with them.
        const cited = await generateText({ ...common, prompt: 'cite it' });
        assert.equal(cited.text, SAID);
        if (name.startsWith('@ai-sdk/openai,')) assert.deepEqual(cited.sources.map(({ url, title }) => ({ url, title })), [LINK]);

        for (const isStream of [false, true]) {
          const called = [];
          const loop = { ...common, tools: tools(called), stopWhen: stepCountIs(3), prompt: 'use tools' };
          let steps;
          if (isStream) {
            const result = streamText({ ...loop, onError: ({ error }) => assert.fail(String(error)) });
            await result.consumeStream();
            steps = await result.steps;
          } else {
            ({ steps } = await generateText(loop));
          }
          assert.deepEqual(inOrder(called), wanted, `${isStream}`);
          assert.deepEqual([steps.length, steps.at(-1).text], [2, SAID]);
        }
      });
    }
  });
}

describe('helpers that go round by themselves', { concurrency: 2, timeout: 120_000 }, () => {
  for (const family of families) {
    test(`${family}: Anthropic's tool runner, and OpenAI's`, async () => {
      const anthropic = new Anthropic({ baseURL: gateway.url, apiKey: key, maxRetries: 0 });
      for (const stream of [false, true]) {
        const called = [];
        const runner = anthropic.beta.messages.toolRunner({
          model: model(family), max_tokens: 2000, stream, messages: [{ role: 'user', content: 'use tools' }],
          tools: CALLS.map(({ name }) => ({
            name, description: name, input_schema: { type: 'object', properties: { city: { type: 'string' } } },
            parse: (input) => input,
            run: async (input) => {
              called.push([name, input]);
              return RESULT;
            },
          })),
        });
        const last = await runner.runUntilDone();
        assert.deepEqual(inOrder(called), wanted);
        assert.equal(last.content.filter(({ type }) => type === 'text').map(({ text }) => text).join(''), SAID);
      }
      const openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key, maxRetries: 0 });
      for (const stream of [false, true]) {
        const called = [];
        const runner = openai.chat.completions.runTools({
          model: model(family), stream, messages: [{ role: 'user', content: 'use tools' }],
          tools: CALLS.map(({ name }) => ({
            type: 'function',
            function: {
              name, description: name, parameters: { type: 'object', properties: { city: { type: 'string' } } }, parse: JSON.parse,
              function: async (input) => {
                called.push([name, input]);
                return RESULT;
              },
            },
          })),
        });
        assert.equal(await runner.finalContent(), SAID);
        assert.deepEqual(inOrder(called), wanted);
      }
    });

    test(`${family}: OpenAI's parse, in chat and responses`, async () => {
      const openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key, maxRetries: 0 });
      const format = { type: 'json_schema', name: 'place', strict: true, schema };
      const { type, ...json_schema } = format;
      const chat = await openai.chat.completions.parse({ model: model(family), messages: [{ role: 'user', content: 'say it as an object' }], response_format: { type, json_schema } });
      assert.deepEqual(JSON.parse(chat.choices[0].message.content), PLACE);
      const answer = await openai.responses.parse({ model: model(family), input: 'say it as an object', text: { format } });
      assert.deepEqual(JSON.parse(answer.output_text), PLACE);
    });
  }
});
