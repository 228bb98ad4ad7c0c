// Speech: each family of hosts; the sound comes byte for byte, however the host wraps it.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { createOpenAI } from '@ai-sdk/openai';
import { experimental_generateSpeech as generateSpeech } from 'ai';
import { authOf, familySecrets, startFamilies } from './support/families.mjs';
import { startGateway } from './support/harness.mjs';
import { CANARY, SOUND, catalogOf, costs, events, json, sleep, spared, spares, startHosts } from './support/media.mjs';

let host, tokens, gateway, t, openai;
const BASE64 = SOUND.toString('base64');

async function answer(name, route, { body }, response) {
  if (name === 'cut') {
    response.writeHead(200, { 'content-type': 'audio/mpeg' }).write(SOUND.subarray(0, 100));
    await sleep(150);
    return response.destroy();
  }
  if (name === 'slow') {
    response.writeHead(200, { 'content-type': 'audio/mpeg' }).write(SOUND.subarray(0, 100));
    await sleep(600);
    return response.end(SOUND.subarray(100));
  }
  if (name === 'endless') {
    response.writeHead(200, { 'content-type': 'audio/mpeg' });
    while (!response.destroyed) {
      response.write(SOUND.subarray(0, 100));
      await sleep(20);
    }
    return response;
  }
  if (name === 'page') return response.writeHead(200, { 'content-type': 'text/html' }).end('<html>');
  if (name === 'mistral') return events(response, [{ type: 'speech.audio.delta', audio_data: BASE64.slice(0, 400) }, { type: 'speech.audio.delta', audio_data: BASE64.slice(400) }, { type: 'speech.audio.done', usage: { prompt_tokens: 3 } }]);
  if (name === 'minimax') {
    if (body.voice_setting.voice_id === 'poor') return json(response, { base_resp: { status_code: 1008, status_msg: CANARY } });
    return json(response, { data: { audio: SOUND.toString('hex'), status: 2 }, extra_info: { usage_characters: 5 }, base_resp: { status_code: 0, status_msg: 'success' } });
  }
  if (name === 'vertex' && !route.startsWith('publishers/google/models/')) return undefined;
  if (name === 'gemini' || name === 'vertex') return json(response, { candidates: [{ content: { parts: [{ inlineData: { mimeType: 'audio/L16;codec=pcm;rate=24000', data: BASE64 } }] } }], usageMetadata: { promptTokenCount: 7, candidatesTokenCount: 100 } });
  if (name === 'deepgram') return response.writeHead(200, { 'content-type': 'audio/mpeg', 'dg-char-count': '5' }).end(SOUND);
  if (body.stream_format === 'sse') return events(response, [{ type: 'speech.audio.delta', audio: BASE64.slice(0, 400) }, { type: 'speech.audio.delta', audio: BASE64.slice(400) }, { type: 'speech.audio.done', usage: { input_tokens: 3, output_tokens: 40, total_tokens: 43 } }]);
  return response.writeHead(200, { 'content-type': 'audio/mpeg' }).end(SOUND);
}

before(async () => {
  host = await startHosts(answer);
  tokens = await startFamilies();
  const speech = (model, dollars, more = {}) => ({ model, kind: 'speech', prices: { input_characters: dollars }, ...more });
  gateway = await startGateway({ providers: ['p1'], scenes: 1, secrets: familySecrets(tokens.url), extra: catalogOf(host.url, {
    broken: { offers: [speech('tts', '1')] },
    openai: { offers: [speech('tts', '15', { voices: ['alloy', 'echo'] }), { model: 'tts-tokens', kind: 'speech', prices: { input_tokens: '1', output_audio_tokens: '10' } }] },
    cut: { offers: [speech('tts-cut', '15')] },
    slow: { offers: [speech('tts-slow', '15')] },
    endless: { offers: [speech('tts-endless', '15')] },
    page: { offers: [speech('tts-page', '15')] },
    groq: { families: ['openai-chat'], offers: [speech('tts-groq', '22', { family: 'groq-speech' })] },
    mistral: { families: ['mistral'], offers: [speech('tts-mistral', '16')] },
    eleven: { families: ['elevenlabs'], offers: [speech('tts-11', '100')] },
    deepgram: { families: ['deepgram'], offers: [speech('tts-dg', '30', { upstream: 'aura-2' })] },
    minimax: { families: ['openai-chat'], offers: [speech('tts-minimax', '50', { family: 'minimax-speech' })] },
    gemini: { families: ['gemini'], offers: [{ model: 'tts-gemini', kind: 'speech', prices: { input_tokens: '1', output_tokens: '20' }, voices: ['Kore', 'Puck'] }] },
    vertex: { families: ['vertex-gemini'], ...authOf('vertex-gemini'), offers: [{ model: 'tts-vertex', kind: 'speech', prices: { input_tokens: '1', output_tokens: '20' }, voices: ['Kore', 'Puck'] }] },
    cartesia: { families: ['cartesia'], offers: [speech('tts-cartesia', '40')] },
  }, ['tts', 'tts-groq', 'tts-mistral', 'tts-11', 'tts-dg', 'tts-minimax', 'tts-cartesia', 'tts-gemini', 'tts-vertex']) });
  t = await gateway.scene({ model: 'test/tts', at: [], dollars: '100' });
  openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: t.key, maxRetries: 0 });
});
after(async () => {
  await gateway?.stop();
  await host?.close();
  await tokens?.close();
});

const post = (route, body, headers) => gateway.call('POST', `/v1/${route}`, { key: t.key, body, headers });
const say = (model, more, headers) => post('audio/speech', { model: `test/${model}`, input: 'Grüße', voice: 'alloy', ...more }, headers);

describe('each family', () => {
  for (const [model, nanos, route, more] of [
    ['tts', 5 * 15_000, 'audio/speech', { provider: { ignore: ['broken'] } }],
    ['tts-groq', 5 * 22_000, 'audio/speech', { response_format: 'mp3' }],
    ['tts-mistral', 5 * 16_000, 'audio/speech', {}],
    ['tts-11', 5 * 100_000, 'text-to-speech/EXAVITQu4vr4xnSDxMaL/stream?output_format=mp3_44100_128', {}],
    ['tts-dg', 5 * 30_000, 'speak?model=aura%2D2%2Dasteria%2Den&encoding=mp3', {}],
    ['tts-minimax', 5 * 50_000, 't2a_v2', {}],
    ['tts-cartesia', 5 * 40_000, 'tts/bytes', {}],
  ]) {
    test(`${model}: the bytes as they are, exact charge, refusal, bad input, failover`, async () => {
      const reply = (await say(model, more)).is(200);
      assert.ok(reply.bytes.equals(SOUND), `${reply.bytes.length} bytes`);
      assert.equal(reply.headers['content-type'], 'audio/mpeg');
      assert.equal(host.asked[reply.headers['x-gateway-provider']].path, route);
      await costs(t, reply, nanos, { header: model !== 'tts-mistral' });
      const refused = (await say(model, { input: 'refuse this', ...more })).fails('invalid_input');
      assert.ok(!JSON.stringify(refused).includes(CANARY));
      assert.equal((await say(model, { input: '' })).fails('invalid_input').param, 'input');
      await spared(t, await say(model, { ...more, ...spares(model) }), nanos, { header: model !== 'tts-mistral' });
    });
  }

  for (const name of ['gemini', 'vertex']) test(`${name}: samples become a WAV file, or go raw; charged by its tokens`, async () => {
    const wav = (await say(`tts-${name}`, { instructions: 'Whisper' })).is(200);
    assert.deepEqual([wav.headers['content-type'], wav.bytes.subarray(0, 4).toString(), wav.bytes.subarray(44).equals(SOUND)], ['audio/wav', 'RIFF', true]);
    assert.equal(host.asked[name].body.generationConfig.speechConfig.voiceConfig.prebuiltVoiceConfig.voiceName, 'Kore');
    await costs(t, wav, 7 * 1_000 + 100 * 20_000);
    await spared(t, await say(`tts-${name}`, spares(`tts-${name}`)), 7 * 1_000 + 100 * 20_000);
    assert.ok((await say(`tts-${name}`, { response_format: 'pcm' })).is(200).bytes.equals(SOUND));
    const error = (await say(`tts-${name}`, { response_format: 'mp3' })).fails('invalid_input');
    assert.deepEqual([error.param, error.message], ['response_format', 'must be one of wav, pcm']);
    const refused = (await say(`tts-${name}`, { input: 'refuse this' })).fails('invalid_input');
    assert.ok(!JSON.stringify(refused).includes(CANARY));
  });

  test('where tokens are charged, the host is asked to count them, and the client gets bytes or events as it asks', async () => {
    const bytes = (await say('tts-tokens')).is(200);
    assert.deepEqual([bytes.bytes.equals(SOUND), host.asked.openai.body.stream_format, bytes.headers['content-type']], [true, 'sse', 'audio/mpeg']);
    await costs(t, bytes, 3 * 1_000 + 40 * 10_000, { header: false });
    const asked = (await say('tts-tokens', { stream_format: 'sse' })).is(200);
    assert.match(asked.text ?? asked.bytes.toString(), /event: speech\.audio\.done\ndata: /);
    await costs(t, asked, 3 * 1_000 + 40 * 10_000, { header: false });
  });
});

describe('voices and formats', () => {
  test('an unknown voice is a 400 that lists the known ones, in the names of the front', async () => {
    const error = (await say('tts', { voice: 'frodo', provider: { ignore: ['broken'] } })).fails('invalid_input');
    assert.deepEqual([error.param, error.message], ['voice', 'must be one of alloy, echo']);
    const other = (await post('tts/synthesize', { model_id: 'test/tts-gemini', text: 'x', voice_id: 'frodo' })).fails('invalid_input');
    assert.ok(other.param === 'voice_id' && other.message.startsWith('must be one of Kore, Puck, alloy'), other.message);
    const format = (await post('tts/synthesize', { model_id: 'test/tts-groq', text: 'x', voice_id: 'alloy', format: 'aac' })).fails('invalid_input');
    assert.deepEqual([format.param, format.message], ['format', 'must be one of mp3, opus, flac, wav']);
    assert.match((await say('tts', { response_format: 'midi' })).fails('invalid_input').message, /mp3, opus, aac/);
  });

  test('speed and rate are mapped, and what a host has no words for is named', async () => {
    const reply = (await post('tts/synthesize', { model_id: 'test/tts-11', text: 'Hello', voice_id: 'own-voice', format: 'wav', sample_rate: 22050, speed: 3 })).is(200);
    assert.deepEqual([host.asked.eleven.path, host.asked.eleven.body.voice_settings.speed], ['text-to-speech/own%2Dvoice/stream?output_format=wav_22050', 1.2]);
    assert.ok(reply.bytes.equals(SOUND));
    assert.equal((await say('tts-11', { instructions: 'Whisper' })).is(200).headers['x-gateway-warning'], 'dropped: instructions');
    (await say('tts-11', { instructions: 'Whisper', provider: { require_parameters: true } })).fails('unsupported_parameter');
    (await say('tts-gemini', { speed: 2 })).fails('unsupported_parameter');
  });
});

describe('the way', () => {
  test('the SDK streams to a file, byte-identical', async () => {
    const response = await openai.audio.speech.create({ model: 'test/tts-slow', input: 'Grüße', voice: 'alloy' });
    const file = path.join(os.tmpdir(), `speech-${process.pid}.mp3`);
    await pipeline(Readable.fromWeb(response.body), fs.createWriteStream(file));
    assert.ok(fs.readFileSync(file).equals(SOUND));
    fs.rmSync(file);
  });

  test('the first bytes are there before the last', async () => {
    const response = await fetch(`${gateway.url}/v1/audio/speech`, { method: 'POST', headers: { authorization: `Bearer ${t.key}`, 'content-type': 'application/json' }, body: JSON.stringify({ model: 'test/tts-slow', input: 'x', voice: 'v' }) });
    const reader = response.body.getReader();
    const began = Date.now();
    const first = await reader.read();
    assert.ok(first.value.byteLength <= 200 && Date.now() - began < 400, `${first.value.byteLength} bytes after ${Date.now() - began} ms`);
    while (!(await reader.read()).done);
  });

  test('failover before the first byte; what breaks off later costs nothing', async () => {
    const reply = (await say('tts', { provider: { order: ['broken', 'openai'] } })).is(200);
    assert.deepEqual([reply.bytes.equals(SOUND), reply.headers['x-gateway-provider'], reply.headers['x-gateway-attempts']], [true, 'openai', '2']);
    const cut = await fetch(`${gateway.url}/v1/audio/speech`, { method: 'POST', headers: { authorization: `Bearer ${t.key}`, 'content-type': 'application/json' }, body: JSON.stringify({ model: 'test/tts-cut', input: 'x', voice: 'v' }) });
    await cut.arrayBuffer().catch(() => {});
    const row = await t.row(cut.headers.get('x-request-id'));
    assert.deepEqual([row.ending, row.cost_nanos], ['upstream_failed', 0]);
    (await say('tts-minimax', { voice: 'poor' })).fails('provider_unavailable');
  });

  test('a client that leaves in the middle has had it; the page of a proxy is no sound', async () => {
    const call = gateway.open('POST', '/v1/audio/speech', { key: t.key, body: { model: 'test/tts-endless', input: 'x', voice: 'v' } });
    call.reply.catch(() => {});
    await call.until('\u0001', 5000);
    call.leave();
    const row = await t.row(call.id);
    assert.deepEqual([row.ending, row.cost_nanos], ['client_left', 15_000]);
    (await say('tts-page')).fails('provider_error');
  });

  test('Mistral streams in OpenAI\'s words, and a voice of the account\'s own is in no list', async () => {
    const { text } = (await say('tts-mistral', { stream_format: 'sse' })).is(200);
    assert.ok(text.includes('"audio":') && text.includes('"input_tokens":3') && !text.includes('audio_data'), text);
    (await say('tts', { voice: { id: 'voice_1' }, provider: { ignore: ['broken'] } })).is(200);
    assert.deepEqual(host.asked.openai.body.voice, { id: 'voice_1' });
  });

  test('a word of the client about itself that no row could hold is refused, on every route', async () => {
    for (const name of ['user', 'session_id']) {
      assert.equal((await say('tts-11', { [name]: 'x'.repeat(257) })).fails('invalid_input').param, name);
      assert.equal((await post('generations', { model: 'test/tts-11', input: { prompt: 'x' }, [name]: 'x'.repeat(257) })).fails('invalid_input').param, name);
      (await say('tts-11', { [name]: 'x'.repeat(256) })).is(200);
    }
  });

  test('a field whose name cannot stand in a header is dropped like any other', async () => {
    const reply = (await say('tts-11', { 'a\r\nx-evil: 1': 1, 'b\u0000x-evil\u00001': 1, 'ü\u007f': 1 })).is(200);
    assert.equal(reply.headers['x-gateway-warning'], 'dropped: a??x-evil: 1, b?x-evil?1, ??');
    assert.equal(reply.headers['x-evil'], undefined);
  });

  test('the same Idempotency-Key is one call, of bytes too', async () => {
    const first = (await say('tts-11', { input: 'once' }, { 'idempotency-key': 'speech-1' })).is(200);
    const before = host.asked.eleven.count;
    await t.settled();
    const second = (await say('tts-11', { input: 'once' }, { 'idempotency-key': 'speech-1' })).is(200);
    assert.ok(second.bytes.equals(first.bytes) && second.headers['x-gateway-idempotent-replay'] === 'true');
    assert.equal(host.asked.eleven.count, before);
  });

  test('the Vercel AI SDK', async () => {
    const sdk = createOpenAI({ baseURL: `${gateway.url}/v1`, apiKey: t.key });
    const { audio } = await generateSpeech({ model: sdk.speech('test/tts-cartesia'), text: 'Hello', voice: 'alloy' });
    assert.ok(Buffer.from(audio.uint8Array).equals(SOUND));
  });
});
