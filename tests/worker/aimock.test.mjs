// Providers as others have written them: aimock (@copilotkit/aimock) speaks the shapes of many, checks what it is asked, and knows
// nothing of this gateway. Each family that it covers is asked for an answer, plain and streamed, and charged by what it told.
// Left out: Bedrock's invoke, whose stream it sends without AWS's base64 in `bytes`, and Gemini's batches of embeddings, which it has not.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { LLMock } from '@copilotkit/aimock';
import OpenAI, { toFile } from 'openai';
import { startGateway } from './support/harness.mjs';
import { authOf, familySecrets, startFamilies } from './support/families.mjs';
import { PICTURE, SOUND, costs } from './support/media.mjs';
import { eventually, sleep } from './support/wait.mjs';

const SAID = 'A word from somebody else, and änother – “one”.';
const ARGUMENTS = '{"city":"Bern","deg":1.5}';
const TEXT = { input_tokens: '1', output_tokens: '2' };
let mock, tokens, gateway, t, openai, anthropic;

/** Text families: where they begin at aimock, and what a model is called there. */
const FAMILIES = {
  'openai-chat': ['/v1', 'gpt-4o'],
  'openai-responses': ['/v1', 'gpt-4o'],
  'azure-openai': ['/openai/v1', 'gpt-4o'],
  'anthropic-messages': ['/v1', 'claude-sonnet-4-5'],
  gemini: ['/v1beta', 'gemini-2.5-flash'],
  'vertex-gemini': ['/v1/projects/p/locations/l', 'gemini-2.5-flash'],
  'cohere-v2': ['/v2', 'command-r'],
  'bedrock-converse': ['', 'anthropic.claude-3-5-sonnet-20241022-v2:0'],
};
const ALL = Object.keys(FAMILIES);

/** Media by name: families, where they begin, and the offer. */
const MEDIA = {
  embed: [['openai-chat'], '/v1', { upstream: 'text-embedding-3-small', kind: 'embedding', prices: { input_tokens: '2' } }],
  'embed-cohere': [['cohere-v2'], '/v2', { upstream: 'embed-v4.0', kind: 'embedding', prices: { input_tokens: '2' } }],
  rank: [['cohere-v2'], '/v2', { upstream: 'rerank-v3.5', kind: 'rerank', prices: { search_units: '0.002' } }],
  mod: [['openai-chat'], '/v1', { upstream: 'omni-moderation-latest', kind: 'moderation', free: true }],
  image: [['openai-chat'], '/v1', { upstream: 'gpt-image-1', kind: 'image', prices: { output_images: '0.04' } }],
  imagen: [['gemini'], '/v1beta', { upstream: 'imagen-4.0-generate-001', kind: 'image', prices: { output_images: '0.04' } }],
  speech: [['openai-chat'], '/v1', { upstream: 'tts-1', kind: 'speech', prices: { input_characters: '15' } }],
  whisper: [['openai-chat'], '/v1', { upstream: 'whisper-1', kind: 'transcription', prices: { input_audio_seconds: '0.001' } }],
  'film-openai': [['openai-videos'], '/v1', { upstream: 'sora-2', kind: 'video', prices: { output_video_seconds: '0.1' } }],
  'film-veo': [['gemini'], '/v1beta', { upstream: 'veo-3.0-generate-001', kind: 'video', prices: { output_video_seconds: '0.1' } }],
  'film-grok': [['xai-video'], '/v1', { upstream: 'grok-imagine-video', kind: 'video', prices: { output_video_seconds: '0.1' } }],
};

before(async () => {
  mock = new LLMock({ port: 0, strict: true });
  mock.onMessage('Say it.', { content: SAID });
  mock.onMessage('Use it.', { toolCalls: [{ name: 'weather', arguments: ARGUMENTS }] });
  mock.onMessage('Think.', { content: SAID, reasoning: 'Let me see.' });
  mock.onMessage('Refuse.', { error: { message: 'a canary of the provider', type: 'invalid_request_error', code: 'invalid_request' }, status: 400 });
  mock.onEmbedding(/^word/, { embedding: [0.25, -0.5, 1] });
  mock.onRerank(/.*/, [{ index: 1, relevance_score: 0.9 }, { index: 0, relevance_score: 0.2 }]);
  mock.onModerate(/bad/, { flagged: true, categories: { violence: true }, category_scores: { violence: 0.9 } });
  mock.onModerate(/.*/, { flagged: false });
  mock.onImage('a cat', { image: { b64Json: PICTURE } });
  mock.onSpeech('Hello', { audio: SOUND.toString('base64'), format: 'mp3' });
  mock.onTranscription({ transcription: { text: 'Hi there.', language: 'english', duration: 2.4, segments: [{ id: 0, text: 'Hi there.', start: 0, end: 2.4 }], words: [{ word: 'Hi', start: 0, end: 1 }, { word: 'there.', start: 1, end: 2.4 }] } });
  mock.onTranslation({ transcription: { text: 'Hi there.', language: 'english', duration: 2.4 } });
  await mock.start();
  mock.onVideo('a cat', { video: { id: 'v1', status: 'completed', url: `${mock.url}/film.mp4`, b64: SOUND.toString('base64'), duration: 8 } });
  tokens = await startFamilies();
  const text = ALL.map((family) => ({
    id: `f-${family}`, base_url: `${mock.url}${FAMILIES[family][0]}`, families: [family], ...authOf(family),
    offers: [{ model: `test/${family}`, upstream: FAMILIES[family][1], prices: TEXT, context: 32768, max_output: 4096, can: ['tools', 'reasoning'] }],
  }));
  const media = Object.entries(MEDIA).map(([name, [families, path, offer]]) => ({ id: `m-${name}`, base_url: `${mock.url}${path}`, families, offers: [{ model: `test/${name}`, ...offer }] }));
  const broken = { id: 'broken', base_url: 'http://127.0.0.1:9/v1', families: ['openai-chat'], offers: ['openai-chat', 'speech'].map((name) => ({ model: `test/${name}`, upstream: 'x', ...(MEDIA[name]?.[2] ?? { context: 32768, max_output: 4096 }), prices: name === 'speech' ? { input_characters: '1' } : TEXT })) };
  gateway = await startGateway({
    providers: ['p1'], scenes: 1, secrets: familySecrets(tokens.url), vars: { JOB_POLL_MS: 50, JOB_WATCHED_POLL_MS: 50, ALLOW_LOOPBACK: 1, MEDIA_LOOPBACK: 'allowed' },
    extra: { models: [...ALL, ...Object.keys(MEDIA)].map((name) => ({ id: `test/${name}`, capabilities: { reasoning: true, tools: true } })), providers: [...text, ...media, broken] },
  });
  t = await gateway.scene({ model: 'test/openai-chat', at: [], dollars: '100' });
  openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: t.key, maxRetries: 0 });
  anthropic = new Anthropic({ baseURL: gateway.url, apiKey: t.key, maxRetries: 0 });
});
after(async () => {
  await gateway?.stop();
  await tokens?.close();
  await mock?.stop();
});

const only = { provider: { ignore: ['broken'] } };
const question = (family, text, more = {}) => ({ model: `test/${family}`, max_tokens: 100, messages: [{ role: 'user', content: text }], ...only, ...more });
const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' }, deg: { type: 'number' } } } } }];

describe('text', () => {
  for (const family of ALL) {
    test(`${family}: plain and streamed, a call, a refusal, exact charge`, async () => {
      const { data: plain, response } = await openai.chat.completions.create(question(family, 'Say it.')).withResponse();
      assert.equal(plain.choices[0].message.content, SAID);
      const { prompt_tokens, completion_tokens, cost } = plain.usage;
      const row = await t.row(response.headers.get('x-request-id'));
      // A host that counts nothing is charged by an estimate, and the row says so.
      if (!row.is_estimated) assert.equal(Math.round(cost * 1e9), prompt_tokens * 1000 + completion_tokens * 2000);
      assert.equal(row.cost_nanos, Math.round(cost * 1e9));
      let said = '';
      for await (const chunk of await openai.chat.completions.create(question(family, 'Say it.', { stream: true }))) said += chunk.choices[0]?.delta?.content ?? '';
      assert.equal(said, SAID);
      for (const stream of [false, true]) {
        const call = stream
          ? (await openai.chat.completions.stream(question(family, 'Use it.', { tools, stream: true })).finalMessage()).tool_calls[0]
          : (await openai.chat.completions.create(question(family, 'Use it.', { tools }))).choices[0].message.tool_calls[0];
        assert.deepEqual([call.function.name, JSON.parse(call.function.arguments)], ['weather', JSON.parse(ARGUMENTS)]);
      }
      await assert.rejects(openai.chat.completions.create(question(family, 'Refuse.')), (error) => error instanceof OpenAI.BadRequestError && !JSON.stringify(error.error).includes('canary'));
    });

    test(`${family}: the other dialects`, async () => {
      const response = await openai.responses.create({ model: `test/${family}`, input: 'Say it.', store: false, ...only });
      assert.equal(response.output_text, SAID);
      const message = await anthropic.messages.create(question(family, 'Say it.'));
      assert.equal(message.content.map(({ text }) => text).join(''), SAID);
    });
  }

  test('failover, and what aimock says instead of an answer: a limit, an overload, a connection that breaks', async () => {
    const reply = (await gateway.call('POST', '/v1/chat/completions', { key: t.key, body: { ...question('openai-chat', 'Say it.'), provider: { order: ['broken', 'f-openai-chat'] } } })).is(200);
    assert.equal(reply.headers['x-gateway-provider'], 'f-openai-chat');
    for (const [family, status, code] of [['gemini', 429, 'provider_busy'], ['anthropic-messages', 529, 'provider_unavailable'], ['cohere-v2', 503, 'provider_unavailable']]) {
      mock.nextRequestError(status, { message: 'a canary of the provider' });
      const failed = await gateway.call('POST', '/v1/chat/completions', { key: t.key, body: { ...question(family, 'Say it.'), provider: { allow_fallbacks: false } } });
      assert.ok(failed.status >= 400 ? failed.fails(code) : failed.headers['x-gateway-attempts'] > 1);
    }
    mock.setChaos({ disconnectRate: 1 });
    const broken = await gateway.call('POST', '/v1/chat/completions', { key: t.key, body: question('openai-responses', 'Say it.') });
    mock.clearChaos();
    assert.ok([502, 503].includes(broken.status), broken.text);
  });
});

describe('media', () => {
  for (const model of ['embed', 'embed-cohere']) {
    test(`embeddings: ${model}`, async () => {
      const { data } = await openai.embeddings.create({ model: `test/${model}`, input: ['word one', 'word two'], encoding_format: 'float' });
      assert.deepEqual(data.map(({ index, embedding }) => [index, embedding]), [[0, [0.25, -0.5, 1]], [1, [0.25, -0.5, 1]]]);
    });
  }

  test('rerank', async () => {
    const reply = (await gateway.call('POST', '/v1/rerank', { key: t.key, body: { model: 'test/rank', query: 'q', documents: ['a', 'b'], top_n: 2 } })).is(200);
    assert.deepEqual(reply.json.results.map(({ index }) => index), [1, 0]);
    // It bills no search units, and what a host tells is charged.
    await costs(t, reply, 0);
  });

  test('moderation', async () => {
    const { results } = await openai.moderations.create({ model: 'test/mod', input: 'something bad' });
    assert.deepEqual([results[0].flagged, results[0].categories.violence], [true, true]);
    assert.equal((await openai.moderations.create({ model: 'test/mod', input: 'fine' })).results[0].flagged, false);
  });

  for (const model of ['image', 'imagen']) {
    test(`images: ${model}`, async () => {
      const { data } = await openai.images.generate({ model: `test/${model}`, prompt: 'a cat', n: 1 });
      assert.equal(data[0].b64_json, PICTURE);
      const reply = (await gateway.call('POST', '/v1/images/generations', { key: t.key, body: { model: `test/${model}`, prompt: 'a cat' } })).is(200);
      await costs(t, reply, 40_000_000);
      if (model === 'image') assert.equal((await openai.images.edit({ model: 'test/image', prompt: 'a cat', image: await toFile(Buffer.from(PICTURE, 'base64'), 'a.png', { type: 'image/png' }) })).data[0].b64_json, PICTURE);
    });
  }

  for (const model of ['speech']) {
    test(`speech: ${model}`, async () => {
      const response = await openai.audio.speech.create({ model: `test/${model}`, input: 'Hello', voice: 'alloy', response_format: 'mp3', ...only });
      assert.ok(Buffer.from(await response.arrayBuffer()).equals(SOUND));
      const reply = (await gateway.call('POST', '/v1/audio/speech', { key: t.key, body: { model: `test/${model}`, input: 'Hello', voice: 'alloy', ...only } })).is(200);
      await costs(t, reply, 5 * 15_000);
    });
  }

  test('transcription and translation', async () => {
    const file = () => toFile(SOUND, 'a.mp3', { type: 'audio/mpeg' });
    for (const [format, wanted] of [['json', { text: 'Hi there.' }], ['verbose_json', { text: 'Hi there.', duration: 2.4 }]]) {
      const heard = await openai.audio.transcriptions.create({ file: await file(), model: 'test/whisper', response_format: format });
      for (const [name, value] of Object.entries(wanted)) assert.equal(heard[name], value);
    }
    assert.equal(await openai.audio.transcriptions.create({ file: await file(), model: 'test/whisper', response_format: 'srt' }), '1\n00:00:00,000 --> 00:00:02,400\nHi there.\n\n');
    assert.equal((await openai.audio.translations.create({ file: await file(), model: 'test/whisper' })).text, 'Hi there.');
  });

  for (const model of ['film-openai', 'film-veo', 'film-grok']) {
    test(`video: ${model}`, async () => {
      let video = await openai.videos.create({ model: `test/${model}`, prompt: 'a cat', seconds: '8' });
      for (const until = performance.now() + 15_000; !['completed', 'failed'].includes(video.status); video = await openai.videos.retrieve(video.id)) {
        assert.ok(performance.now() < until, JSON.stringify(video));
        await sleep(100);
      }
      assert.equal(video.status, 'completed', JSON.stringify(video));
      const row = await eventually(() => t.row(video.id), 'its row', { ms: 10_000 });
      assert.deepEqual([row.cost_nanos, row.ending], [800_000_000, 'finished'], JSON.stringify(row));
    });
  }
});
