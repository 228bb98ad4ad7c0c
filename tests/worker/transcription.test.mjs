// Transcription and translation: each family of hosts, every format, streamed and whole.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { createOpenAI } from '@ai-sdk/openai';
import { experimental_transcribe as transcribe } from 'ai';
import { startGateway } from './support/harness.mjs';
import { CANARY, SOUND, catalogOf, costs, events, formOf, json, sleep, spared, spares, startHosts } from './support/media.mjs';

let host, gateway, t, openai;
const LONG = { task: 'transcribe', language: 'english', duration: 2.4, text: 'Hi there.', segments: [{ id: 0, start: 0, end: 2.4, text: ' Hi there.' }], words: [{ word: 'Hi', start: 0, end: 1 }, { word: 'there.', start: 1, end: 2.4 }] };
const USAGE = { type: 'tokens', input_tokens: 40, input_token_details: { audio_tokens: 30, text_tokens: 10 }, output_tokens: 5, total_tokens: 45 };

let isDown = false;

function answer(name, path, { body, count, method }, response) {
  if (isDown && path === 'transcript/t1') {
    isDown = false;
    return json(response, { error: CANARY }, 503);
  }
  if (body.prompt === 'wait for ever') return true;
  if (name === 'mistral') {
    if (body.stream) return events(response, [{ type: 'transcription.language', audio_language: 'en' }, { type: 'transcription.text.delta', text: 'Hi ' }, { type: 'transcription.text.delta', text: 'there.' }, { type: 'transcription.done', text: 'Hi there.', usage: { prompt_audio_seconds: 3 } }]);
    return json(response, { model: 'up', text: 'Hi there.', language: 'en', segments: [{ text: 'Hi there.', start: 0, end: 2.4 }], usage: { prompt_audio_seconds: 3, prompt_tokens: 9 } });
  }
  if (path.startsWith('audio/')) {
    if (body.stream) return events(response, [{ type: 'transcript.text.delta', delta: 'Hi ' }, { type: 'transcript.text.delta', delta: 'there.' }, { type: 'transcript.text.done', text: 'Hi there.', usage: USAGE }]);
    return json(response, body.response_format === 'verbose_json' ? LONG : { text: 'Hi there.', usage: USAGE });
  }
  if (path.startsWith('listen?')) return json(response, { metadata: { duration: 2.4 }, results: { channels: [{ detected_language: 'en', alternatives: [{ transcript: 'Hi there.', confidence: 0.98, words: [{ word: 'hi', punctuated_word: 'Hi', start: 0, end: 1, confidence: 0.9 }, { word: 'there', punctuated_word: 'there.', start: 1, end: 2.4 }] }] }] } });
  if (path === 'speech-to-text') return json(response, { language_code: 'en', text: 'Hi there.', words: [{ text: 'Hi', start: 0, end: 1, type: 'word' }, { text: ' ', type: 'spacing' }, { text: 'there.', start: 1, end: 2.4, type: 'word' }] });
  if (path === 'upload') return json(response, { upload_url: 'https://cdn.assemblyai.com/u/1' });
  if (path === 'transcript') return json(response, { id: 't1', status: body.language_code === 'xx' ? 'error' : 'queued', error: body.language_code === 'xx' ? CANARY : undefined });
  if (path === 'transcript/t1' && method === 'GET') return json(response, count % 2 ? { id: 't1', status: 'processing' } : { id: 't1', status: 'completed', text: 'Hi there.', audio_duration: 2.4, language_code: 'en', words: [{ text: 'Hi', start: 0, end: 1000 }, { text: 'there.', start: 1000, end: 2400 }] });
  return undefined;
}

const FAMILIES = ['whisper', 'voxtral', 'dg', 'scribe', 'best'];

before(async () => {
  host = await startHosts(answer);
  const seconds = (model, dollars = '0.001') => ({ model, kind: 'transcription', prices: { input_audio_seconds: dollars } });
  gateway = await startGateway({ providers: ['p1'], scenes: 1, extra: catalogOf(host.url, {
    broken: { offers: [seconds('whisper', '0.0001')] },
    openai: { offers: [seconds('whisper'), { model: 'gpt-4o-transcribe', kind: 'transcription', prices: { input_audio_seconds: '0.5', input_audio_tokens: '6', input_tokens: '2.5', output_tokens: '10' } }] },
    mistral: { families: ['mistral'], offers: [seconds('voxtral')] },
    deep: { families: ['deepgram'], offers: [seconds('dg')] },
    eleven: { families: ['elevenlabs'], offers: [seconds('scribe')] },
    assembly: { families: ['assemblyai'], offers: [seconds('best')] },
  }, FAMILIES) });
  t = await gateway.scene({ model: 'test/whisper', at: [], dollars: '1000' });
  openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: t.key, maxRetries: 0 });
});
after(async () => {
  await gateway?.stop();
  await host?.close();
});

const file = () => toFile(SOUND, 'a.mp3', { type: 'audio/mpeg' });
const only = { provider: JSON.stringify({ ignore: ['broken'] }) };
const ask = async (model, response_format, more = {}) => openai.audio.transcriptions.create({ file: await file(), model: `test/${model}`, response_format, ...only, ...more });
const send = async (route, fields) => gateway.call('POST', `/v1/${route}`, { key: t.key, ...(await formOf(fields)) });
const NANOS = 3 * 1_000_000;

for (const model of FAMILIES) {
  test(`${model}: every format through the SDK, exact charge, refusal, bad input, failover`, async () => {
    assert.equal((await ask(model, 'json')).text, 'Hi there.');
    assert.equal(await ask(model, 'text'), 'Hi there.\n');
    const long = await ask(model, 'verbose_json', { timestamp_granularities: ['word'] });
    assert.deepEqual([long.text, long.words[0].start, long.duration], ['Hi there.', 0, model === 'voxtral' ? 3 : 2.4]);
    assert.equal(await ask(model, 'srt'), '1\n00:00:00,000 --> 00:00:02,400\nHi there.\n\n');
    assert.equal(await ask(model, 'vtt'), 'WEBVTT\n\n00:00:00.000 --> 00:00:02.400\nHi there.\n\n');
    const reply = (await send('audio/transcriptions', { model: `test/${model}`, file: SOUND, ...only })).is(200);
    await costs(t, reply, NANOS);
    const sent = { whisper: 'openai', voxtral: 'mistral', dg: 'deep', scribe: 'eleven', best: 'assembly' }[model];
    const sound = host.all.filter((one) => one.host === sent).map(({ body }) => (body instanceof Buffer ? body : body.file)).find((one) => one?.length);
    assert.ok(sound.equals(SOUND), 'the sound goes on byte for byte');
    const refused = (await send('audio/transcriptions', { model: `test/${model}`, language: 'refuse this', file: SOUND, ...only })).fails('invalid_input');
    assert.ok(!JSON.stringify(refused).includes(CANARY));
    assert.equal((await send('audio/transcriptions', { model: `test/${model}` })).fails('invalid_input').param, 'file');
    assert.equal((await send('audio/transcriptions', { model: `test/${model}`, file: SOUND, temperature: 'hot' })).fails('invalid_input').param, 'temperature');
    const { provider, ...after } = spares(model);
    await spared(t, await send('audio/transcriptions', { ...after, provider: JSON.stringify(provider), file: SOUND }), NANOS);
  });
}

test('charged by what the host told: tokens where it tells tokens, though the card knows seconds', async () => {
  const reply = (await send('audio/transcriptions', { model: 'test/gpt-4o-transcribe', file: SOUND })).is(200);
  await costs(t, reply, 30 * 6000 + 10 * 2500 + 5 * 10_000);
  await assert.rejects(ask('gpt-4o-transcribe', 'srt'), (error) => error.param === 'response_format');
});

describe('streams', () => {
  for (const [model, deltas, nanos] of [['gpt-4o-transcribe', 2, 30 * 6000 + 10 * 2500 + 5 * 10_000], ['voxtral', 2, NANOS], ['dg', 1, NANOS]]) {
    test(`${model}: OpenAI's events, exact charge`, async () => {
      const seen = [];
      for await (const event of await ask(model, 'json', { stream: true })) seen.push(event);
      assert.equal(seen.filter(({ type }) => type === 'transcript.text.delta').length, deltas);
      assert.deepEqual([seen.at(-1).type, seen.at(-1).text], ['transcript.text.done', 'Hi there.']);
      const reply = (await send('audio/transcriptions', { model: `test/${model}`, file: SOUND, stream: 'true' })).is(200);
      await costs(t, reply, nanos, { header: false });
    });
  }
});

test('translations, and the other front', async () => {
  assert.equal((await openai.audio.translations.create({ file: await file(), model: 'test/whisper', ...only })).text, 'Hi there.');
  assert.equal(host.asked.openai.path, 'audio/translations');
  (await send('audio/translations', { model: 'test/dg', file: SOUND })).fails('unsupported_parameter');
  for (const model of ['whisper', 'dg', 'scribe', 'best', 'voxtral']) {
    const reply = (await send('stt/transcribe', { model_id: `test/${model}`, audio: SOUND, ...only })).is(200);
    assert.deepEqual([reply.json.text, reply.json.model], ['Hi there.', `test/${model}`]);
    await costs(t, reply, NANOS);
  }
  assert.equal((await send('stt/transcribe', { audio: SOUND })).fails('invalid_input').param, 'model_id');
});

test('a client that leaves while a host listens pays for the sound as it is guessed', async () => {
  const alone = await gateway.scene({ model: 'test/whisper', at: [], dollars: '1' });
  const before = host.all.length;
  const form = await formOf({ model: 'test/whisper', prompt: 'wait for ever', file: SOUND, provider: JSON.stringify({ only: ['openai'] }) });
  const call = gateway.open('POST', '/v1/audio/transcriptions', { key: alone.key, ...form });
  while (host.all.length === before) await sleep(10);
  call.reset();
  const { balance_nanos } = await alone.settled();
  const [row] = await alone.activity();
  // 5,000 bytes are less than a second of a compressed sound.
  assert.deepEqual([row.ending, row.cost_nanos, row.is_estimated, balance_nanos], ['client_left', 1_000_000, true, 1e9 - 1_000_000], JSON.stringify(row));
});

test('failover, an order that fails, and a provider that is named', async () => {
  const reply = (await send('audio/transcriptions', { model: 'test/whisper', file: SOUND, provider: JSON.stringify({ order: ['broken', 'openai'] }) })).is(200);
  assert.deepEqual([reply.headers['x-gateway-provider'], reply.headers['x-gateway-attempts']], ['openai', '2']);
  const failed = await send('audio/transcriptions', { model: 'test/best', file: SOUND, language: 'xx' });
  assert.ok(failed.status >= 400 && !JSON.stringify(failed.json).includes(CANARY));
  (await send('stt/transcribe', { model_id: 'test/whisper', audio: SOUND, provider_id: 'mistral' })).fails('no_eligible_provider');
});

test('a transcript under way is asked for again, not ordered again', async () => {
  isDown = true;
  const before = host.all.filter(({ path }) => path === 'transcript').length;
  const reply = (await send('audio/transcriptions', { model: 'test/best', file: SOUND })).is(200);
  assert.deepEqual([isDown, reply.json.text, host.all.filter(({ path }) => path === 'transcript').length - before], [false, 'Hi there.', 1]);
  await costs(t, reply, NANOS);
});

test('a form that is sent again with its key is the same whatever its boundary', async () => {
  const fields = { model: 'test/scribe', file: SOUND };
  const again = async (more) => {
    const { headers, body } = await formOf({ ...fields, ...more });
    return gateway.call('POST', '/v1/audio/transcriptions', { key: t.key, body, headers: { ...headers, 'idempotency-key': 'form-1' } });
  };
  const first = (await again()).is(200);
  await t.settled();
  const second = (await again()).is(200);
  assert.deepEqual([second.headers['x-gateway-idempotent-replay'], second.text], ['true', first.text]);
  (await again({ language: 'de' })).fails('idempotency_conflict');
});

test('who said what, of a host that tells words and their speakers', async () => {
  const reply = (await send('audio/transcriptions', { model: 'test/dg', file: SOUND, response_format: 'diarized_json' })).is(200);
  assert.deepEqual(reply.json.segments, [{ type: 'transcript.text.segment', id: 'seg_0', start: 0, end: 2.4, speaker: 'A', text: 'Hi there.' }]);
  assert.match(host.asked.deep.path, /diarize=true/);
});

test('a file of 25 MB goes through byte for byte, one byte more does not', async () => {
  const large = Buffer.alloc(25 * 1024 * 1024, 7);
  large.write('--boundary-like\r\n', 1000);
  const reply = (await send('audio/transcriptions', { model: 'test/scribe', file: large })).is(200);
  assert.equal(reply.json.text, 'Hi there.');
  assert.ok(host.asked.eleven.body.file.equals(large));
  (await send('audio/transcriptions', { model: 'test/scribe', file: Buffer.alloc(25 * 1024 * 1024 + 1) })).fails('payload_too_large');
});

test('a file cannot smuggle in fields of its own', async () => {
  const evil = Buffer.from('x\r\n--gateway-\r\ncontent-disposition: form-data; name="model"\r\n\r\ndear\r\n');
  (await send('audio/transcriptions', { model: 'test/whisper', file: evil, ...only })).is(200);
  assert.deepEqual([host.asked.openai.body.model, host.asked.openai.body.file.equals(evil)], ['whisper', true]);
  (await gateway.call('POST', '/v1/audio/transcriptions', { key: t.key, body: { model: 'test/whisper' } })).fails('unsupported_media_type');
});

test('the Vercel AI SDK', async () => {
  const sdk = createOpenAI({ baseURL: `${gateway.url}/v1`, apiKey: t.key });
  const { text } = await transcribe({ model: sdk.transcription('test/scribe'), audio: SOUND });
  assert.equal(text, 'Hi there.');
});
