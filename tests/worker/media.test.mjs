// Embeddings, rerank, moderation, images, speech and transcription: through the official SDK, against hosts of each shape.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { startGateway } from './support/harness.mjs';

let host, gateway, t, openai;
const SOUND = Buffer.from(Array.from({ length: 5000 }, (_, i) => i % 251));
const PICTURE = Buffer.from('a picture').toString('base64');
const json = (response, value, status = 200, headers = {}) => response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
const vector = (seed) => [seed, -0.5, 0.25];
const LONG = { task: 'transcribe', language: 'english', duration: 2.4, text: 'Hi there.', segments: [{ id: 0, start: 0, end: 2.4, text: ' Hi there.' }], words: [{ word: 'Hi', start: 0, end: 1 }, { word: 'there.', start: 1, end: 2.4 }] };

/** Fields of a form, files as buffers. */
async function form(request, bytes) {
  const parsed = await new Response(bytes, { headers: { 'content-type': request.headers['content-type'] } }).formData();
  const out = {};
  for (const [name, value] of parsed) out[name] = typeof value === 'string' ? value : Buffer.from(await value.arrayBuffer());
  return out;
}

/** Hosts by the first part of the path; the last request of each is kept. */
async function startHosts() {
  const asked = {};
  const server = http.createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const bytes = Buffer.concat(chunks);
    const [, name, ...rest] = request.url.split('/');
    const path = rest.join('/');
    const isForm = request.headers['content-type']?.startsWith('multipart/');
    const isJson = request.headers['content-type']?.startsWith('application/json');
    const body = isForm ? await form(request, bytes) : isJson ? JSON.parse(bytes) : bytes;
    asked[name] = { path, body, headers: request.headers, count: (asked[name]?.count ?? 0) + 1 };
    if (name === 'broken') return json(response, { error: { message: 'canary-of-the-provider', type: 'server_error' } }, 500);
    if (JSON.stringify(body).includes('refuse this')) return json(response, { error: { message: 'canary-of-the-provider', type: 'invalid_request_error', param: 'prompt', code: 'content_policy_violation' } }, 400);
    const texts = [].concat(body.input ?? body.texts ?? []);
    if (path === 'embeddings') {
      const data = texts.map((_, index) => ({ object: 'embedding', index, embedding: body.encoding_format === 'base64' && name === 'openai' ? Buffer.from(Float32Array.from(vector(index)).buffer).toString('base64') : vector(index) }));
      return json(response, { object: 'list', data: data.reverse(), model: 'up', usage: name === 'voyage' ? { total_tokens: 7 } : { prompt_tokens: 7, total_tokens: 7 } });
    }
    if (path === 'embed') return json(response, { id: 'e', embeddings: { float: texts.map((_, i) => vector(i)) }, meta: { billed_units: { input_tokens: 7 } } });
    if (path.endsWith(':batchEmbedContents')) return json(response, { embeddings: body.requests.map((_, i) => ({ values: vector(i) })), usageMetadata: { promptTokenCount: 7 } });
    if (path === 'rerank') {
      const results = [{ index: 1, relevance_score: 0.9 }, { index: 0, relevance_score: 0.1 }];
      return json(response, name === 'voyage' ? { data: results, usage: { total_tokens: 30 } } : name === 'cohere' ? { id: 'r', results, meta: { billed_units: { search_units: 1 } } } : { results, usage: { total_tokens: 30 } });
    }
    if (path === 'moderations') return json(response, { id: 'modr', model: 'up', results: [{ flagged: true, categories: { hate: true }, category_scores: { hate: 0.9 } }] });
    if (path === 'images/generations' || path === 'images/edits') {
      const n = Number(body.n ?? 1);
      const usage = name === 'tokens' ? { usage: { input_tokens: 10, input_tokens_details: { text_tokens: 10, image_tokens: 0 }, output_tokens: 400, total_tokens: 410 } } : {};
      return json(response, { created: 1, data: Array.from({ length: n }, () => ({ b64_json: PICTURE })), ...usage });
    }
    if (path.includes(':predict')) return json(response, { predictions: [{ mimeType: 'image/png', bytesBase64Encoded: PICTURE }] });
    if (path === 'audio/speech' || path.startsWith('text-to-speech/') || path.startsWith('speak?')) return response.writeHead(200, { 'content-type': 'audio/mpeg' }).end(SOUND);
    if (path.startsWith('audio/')) {
      if (body.response_format === 'text') return response.writeHead(200, { 'content-type': 'text/plain' }).end('Hi there.\n');
      return json(response, body.response_format === 'verbose_json' ? LONG : { text: 'Hi there.', usage: { type: 'tokens', input_tokens: 40, input_token_details: { audio_tokens: 30, text_tokens: 10 }, output_tokens: 5, total_tokens: 45 } });
    }
    if (path.startsWith('listen?')) return json(response, { metadata: { duration: 2.4 }, results: { channels: [{ detected_language: 'en', alternatives: [{ transcript: 'Hi there.', confidence: 0.98, words: [{ word: 'hi', punctuated_word: 'Hi', start: 0, end: 1, confidence: 0.9 }] }] }] } });
    if (path === 'speech-to-text') return json(response, { language_code: 'en', text: 'Hi there.', words: [{ text: 'Hi', start: 0, end: 1, type: 'word' }, { text: ' ', type: 'spacing' }, { text: 'there.', start: 1, end: 2.4, type: 'word' }] });
    json(response, { error: { message: `no ${path}` } }, 404);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, asked, close: () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }) };
}

before(async () => {
  host = await startHosts();
  const provider = (id, families, offers) => ({ id, base_url: `${host.url}/${id}`, families, offers: offers.map(({ model, ...offer }) => ({ model: `test/${model}`, upstream: model, ...offer })) });
  const embed = (model) => ({ model, kind: 'embedding', prices: { input_tokens: '2' } });
  const seconds = { input_audio_seconds: '0.001' };
  gateway = await startGateway({ providers: ['p1'], scenes: 1, extra: {
    models: ['embed', 'embed-cohere', 'embed-gemini', 'embed-voyage', 'embed-jina', 'embed-chars', 'rank', 'rank-cohere', 'rank-voyage', 'mod', 'picture', 'picture-tokens', 'imagen-x', 'tts', 'tts-11', 'tts-dg', 'whisper', 'gpt-4o-transcribe', 'dg', 'scribe', 'unpriced']
      .map((name) => ({ id: `test/${name}` })),
    providers: [
      provider('broken', ['openai-chat'], [{ ...embed('embed'), prices: { input_tokens: '1' } }, { model: 'tts', kind: 'speech', prices: { input_characters: '1' } }]),
      provider('openai', ['openai-chat'], [
        embed('embed'), { model: 'rank', kind: 'rerank', prices: { input_tokens: '1' } }, { model: 'mod', kind: 'moderation', free: true },
        { model: 'picture', kind: 'image', prices: { output_images: '0.04' }, rules: [{ when: { quality: 'hd', size: '1024x1792' }, prices: { output_images: '0.12' } }, { when: { quality: 'hd' }, prices: { output_images: '0.08' } }] },
        { model: 'tts', kind: 'speech', prices: { input_characters: '15' } }, { model: 'whisper', kind: 'transcription', prices: seconds },
        { model: 'gpt-4o-transcribe', kind: 'transcription', prices: { input_audio_tokens: '6', input_tokens: '2.5', output_tokens: '10' } },
        { model: 'unpriced', kind: 'image', prices: { output_videos: '1' } },
      ]),
      provider('tokens', ['openai-chat'], [{ model: 'picture-tokens', kind: 'image', prices: { input_tokens: '5', input_image_tokens: '10', output_image_tokens: '40' } }]),
      provider('cohere', ['cohere-v2'], [embed('embed-cohere'), { model: 'rank-cohere', kind: 'rerank', prices: { search_units: '0.002' } }]),
      provider('gemini', ['gemini'], [embed('embed-gemini'), { model: 'imagen-x', kind: 'image', prices: { output_images: '0.04' } }]),
      provider('voyage', ['voyage'], [embed('embed-voyage'), { model: 'rank-voyage', kind: 'rerank', prices: { input_tokens: '1' } }]),
      provider('jina', ['jina'], [embed('embed-jina')]),
      provider('eleven', ['elevenlabs'], [{ model: 'tts-11', kind: 'speech', prices: { input_characters: '100' } }, { model: 'scribe', kind: 'transcription', prices: seconds }]),
      provider('deep', ['deepgram'], [{ model: 'tts-dg', kind: 'speech', prices: { input_characters: '30' } }, { model: 'dg', kind: 'transcription', prices: seconds }]),
    ],
  } });
  t = await gateway.scene({ model: 'test/embed', at: [], dollars: '100' });
  openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: t.key, maxRetries: 0 });
});
after(async () => {
  await gateway?.stop();
  await host?.close();
});

const post = (route, body, headers) => gateway.call('POST', `/v1/${route}`, { key: t.key, body, headers });
/** The charge in answer, header, row and ledger: one number. */
async function costs(reply, nanos) {
  const row = await t.row(reply.headers['x-request-id']);
  assert.deepEqual([row.cost_nanos, row.status, row.ending], [nanos, 200, 'finished'], JSON.stringify(row));
  assert.equal(Math.round(Number(reply.headers['x-gateway-cost']) * 1e9), nanos);
  const entry = (await t.ledger()).entries.find(({ id }) => id === row.id);
  assert.ok(nanos === 0 ? !entry || Math.abs(entry.nanos) === 0 : entry.nanos === -nanos, JSON.stringify(entry));
}

describe('Embeddings', () => {
  for (const family of ['', '-cohere', '-gemini', '-voyage', '-jina']) {
    test(`embed${family}: texts in order, floats and base64 alike, exact charge`, async () => {
      const model = `test/embed${family}`;
      const { data, usage, model: named } = await openai.embeddings.create({ model, input: ['a', 'b', 'c'] });
      assert.deepEqual(data.map(({ embedding, index }) => [index, Array.from(embedding)]), [[0, vector(0)], [1, vector(1)], [2, vector(2)]]);
      assert.deepEqual([usage.prompt_tokens, usage.cost, named], [7, 0.000014, model]);
      const floats = (await post('embeddings', { model, input: 'a', encoding_format: 'float', dimensions: 3 })).is(200);
      assert.deepEqual(floats.json.data[0].embedding, vector(0));
      await costs(floats, 14_000);
    });
  }

  test('tokens go to hosts that take them, and nowhere else', async () => {
    (await post('embeddings', { model: 'test/embed', input: [[1, 2], [3]] })).is(200);
    assert.deepEqual(host.asked.openai.body.input, [[1, 2], [3]]);
    (await post('embeddings', { model: 'test/embed-cohere', input: [1, 2] })).fails('unsupported_parameter');
  });

  test('a host that fails is followed by the next, a mistake is not', async () => {
    const before = host.asked.openai.count;
    const reply = (await post('embeddings', { model: 'test/embed', input: 'x', provider: { order: ['broken', 'openai'] } })).is(200);
    assert.deepEqual([reply.headers['x-gateway-provider'], reply.headers['x-gateway-attempts']], ['openai', '2']);
    assert.equal(host.asked.openai.count, before + 1);
    assert.equal((await post('embeddings', { model: 'test/embed', input: 'refuse this' })).fails('invalid_input').message.includes('canary'), false);
    assert.equal((await post('embeddings', { model: 'test/embed' })).fails('invalid_input').param, 'input');
    (await post('embeddings', { model: 'test/picture', input: 'x' })).fails('no_eligible_provider');
    (await post('embeddings', { model: 'no/such', input: 'x' })).fails('model_not_found');
  });
});

test('rerank: one shape before three hosts', async () => {
  for (const [model, nanos] of [['rank', 30_000], ['rank-voyage', 30_000], ['rank-cohere', 2_000_000]]) {
    const reply = (await post('rerank', { model: `test/${model}`, query: 'q', documents: ['a', { text: 'b' }], top_n: 2, return_documents: true })).is(200);
    assert.deepEqual(reply.json.results, [{ index: 1, relevance_score: 0.9, document: { text: 'b' } }, { index: 0, relevance_score: 0.1, document: { text: 'a' } }]);
    await costs(reply, nanos);
  }
  assert.equal((await post('rerank', { model: 'test/rank', documents: ['a'] })).fails('invalid_input').param, 'query');
});

test('moderation, with text and pictures', async () => {
  const { results } = await openai.moderations.create({ model: 'test/mod', input: [{ type: 'text', text: 'x' }, { type: 'image_url', image_url: { url: 'https://x.example/a.png' } }] });
  assert.deepEqual([results[0].flagged, results[0].categories.hate], [true, true]);
  await costs((await post('moderations', { model: 'test/mod', input: 'x' })).is(200), 0);
});

describe('Images', () => {
  test('generations: by picture, with the rule for quality and size, by token, and by predictor', async () => {
    const { data } = await openai.images.generate({ model: 'test/picture', prompt: 'a cat', n: 2 });
    assert.deepEqual(data.map(({ b64_json }) => b64_json), [PICTURE, PICTURE]);
    await costs((await post('images/generations', { model: 'test/picture', prompt: 'x', n: 2 })).is(200), 80_000_000);
    await costs((await post('images/generations', { model: 'test/picture', prompt: 'x', quality: 'hd' })).is(200), 80_000_000);
    await costs((await post('images/generations', { model: 'test/picture', prompt: 'x', quality: 'hd', size: '1024x1792' })).is(200), 120_000_000);
    await costs((await post('images/generations', { model: 'test/picture-tokens', prompt: 'x' })).is(200), 10 * 5000 + 400 * 40_000);
    await costs((await post('images/generations', { model: 'test/imagen-x', prompt: 'x', size: '1024x1792' })).is(200), 40_000_000);
    assert.deepEqual(host.asked.gemini.body, { instances: [{ prompt: 'x' }], parameters: { sampleCount: 1, aspectRatio: '9:16' } });
    const linked = (await post('images/generations', { model: 'test/picture', prompt: 'x', response_format: 'url' })).is(200);
    assert.equal(linked.json.data[0].url, `data:image/png;base64,${PICTURE}`);
  });

  test('edits: the files go on as they are', async () => {
    const image = await toFile(Buffer.from('\x89PNG\r\n--not-a-boundary\r\n'), 'a.png', { type: 'image/png' });
    const { data } = await openai.images.edit({ model: 'test/picture', prompt: 'a hat', image, n: 1 });
    assert.equal(data[0].b64_json, PICTURE);
    assert.deepEqual([host.asked.openai.body.model, host.asked.openai.body.prompt, host.asked.openai.body.image.toString('latin1')], ['picture', 'a hat', Buffer.from('\x89PNG\r\n--not-a-boundary\r\n').toString('latin1')]);
  });

  test('what cannot be measured is not served, what is wrong is named', async () => {
    assert.deepEqual((await post('images/generations', { model: 'test/unpriced', prompt: 'x' })).fails('no_eligible_provider').details.removed.map(({ rule }) => rule), ['no_price']);
    assert.equal((await post('images/generations', { model: 'test/picture' })).fails('invalid_input').param, 'prompt');
    (await post('images/generations', { model: 'test/picture', prompt: 'refuse this' })).fails('invalid_input');
  });
});

describe('Speech', () => {
  for (const [model, nanos, path] of [['tts', 5 * 15_000, 'audio/speech'], ['tts-11', 5 * 100_000, 'text-to-speech/alloy?output_format=mp3_44100_128'], ['tts-dg', 5 * 30_000, 'speak?model=tts%2Ddg&encoding=mp3']]) {
    test(`${model}: bytes come as they are, charged by characters`, async () => {
      const answer = await openai.audio.speech.create({ model: `test/${model}`, input: 'Grüße', voice: 'alloy', provider: { ignore: ['broken'] } });
      assert.deepEqual(Buffer.from(await answer.arrayBuffer()), SOUND);
      assert.equal(answer.headers.get('content-type'), 'audio/mpeg');
      const reply = (await post('audio/speech', { model: `test/${model}`, input: 'Grüße', voice: 'alloy', provider: { ignore: ['broken'] } })).is(200);
      await costs(reply, nanos);
      assert.equal(host.asked[reply.headers['x-gateway-provider']].path, path);
    });
  }

  test('the other front, failover, and a format that nobody knows', async () => {
    const reply = (await post('tts/synthesize', { model_id: 'test/tts', text: 'Hello', voice_id: 'alloy', format: 'wav', speed: 1.5, provider: { order: ['broken', 'openai'] } })).is(200);
    assert.deepEqual([reply.bytes.equals(SOUND), reply.headers['x-gateway-attempts'], host.asked.openai.body.response_format, host.asked.openai.body.speed], [true, '2', 'wav', 1.5]);
    const error = (await post('audio/speech', { model: 'test/tts', input: 'x', voice: 'alloy', response_format: 'midi' })).fails('invalid_input');
    assert.ok(error.param === 'response_format' && error.message.includes('mp3, opus'), error.message);
    assert.equal((await post('tts/synthesize', { model_id: 'test/tts', voice_id: 'alloy' })).fails('invalid_input').param, 'text');
  });
});

describe('Transcription', () => {
  const file = () => toFile(SOUND, 'a.mp3', { type: 'audio/mpeg' });
  const NANOS = 3 * 1_000_000;

  test('every format through the SDK', async () => {
    const ask = async (response_format, more = {}) => openai.audio.transcriptions.create({ file: await file(), model: 'test/whisper', response_format, ...more });
    assert.equal((await ask('json')).text, 'Hi there.');
    assert.deepEqual(await ask('verbose_json', { timestamp_granularities: ['word'] }), LONG);
    assert.equal(await ask('text'), 'Hi there.\n');
    assert.equal(await ask('srt'), '1\n00:00:00,000 --> 00:00:02,400\nHi there.\n\n');
    assert.equal(await ask('vtt'), 'WEBVTT\n\n00:00:00.000 --> 00:00:02.400\nHi there.\n\n');
    assert.ok(host.asked.openai.body.file.equals(SOUND), 'the sound goes on byte for byte');
    assert.equal((await openai.audio.translations.create({ file: await file(), model: 'test/whisper' })).text, 'Hi there.');
    assert.equal(host.asked.openai.path, 'audio/translations');
    assert.equal((await openai.audio.transcriptions.create({ file: await file(), model: 'test/gpt-4o-transcribe' })).text, 'Hi there.');
  });

  test('other hosts, the other front, and the exact charge', async () => {
    for (const [model, nanos] of [['whisper', NANOS], ['dg', NANOS], ['scribe', NANOS], ['gpt-4o-transcribe', 30 * 6000 + 10 * 2500 + 5 * 10_000]]) {
      const body = new FormData();
      body.set('audio', new Blob([SOUND], { type: 'audio/mpeg' }), 'a.mp3');
      body.set('model_id', `test/${model}`);
      const raw = new Response(body);
      const reply = (await gateway.call('POST', '/v1/stt/transcribe', { key: t.key, body: Buffer.from(await raw.clone().arrayBuffer()), headers: { 'content-type': raw.headers.get('content-type') } })).is(200);
      assert.deepEqual([reply.json.text, reply.json.model], ['Hi there.', `test/${model}`]);
      if (model !== 'gpt-4o-transcribe') {
        assert.equal(reply.json.duration, 2.4);
        assert.equal(reply.json.words[0].word, 'Hi');
        await costs(reply, nanos);
      }
    }
  });

  test('what is missing is named, and JSON is no form', async () => {
    await assert.rejects(openai.audio.transcriptions.create({ file: await file(), model: '' }), (error) => error instanceof OpenAI.BadRequestError);
    (await post('audio/transcriptions', { model: 'test/whisper' })).fails('unsupported_media_type');
  });
});

test('no credits, no dispatch: on every paid route', async () => {
  const poor = await gateway.newWorkspace({ dollars: '0' });
  const { key } = await gateway.newKey(poor);
  const counts = () => Object.values(host.asked).reduce((sum, { count }) => sum + count, 0);
  const before = counts();
  for (const [route, body] of [['embeddings', { model: 'test/embed', input: 'x' }], ['rerank', { model: 'test/rank', query: 'q', documents: ['a'] }], ['images/generations', { model: 'test/picture', prompt: 'x' }], ['audio/speech', { model: 'test/tts', input: 'x', voice: 'v' }]]) {
    (await gateway.call('POST', `/v1/${route}`, { key, body })).fails('insufficient_credits');
  }
  assert.equal(counts(), before);
});

test('the same Idempotency-Key is one call, of bytes too', async () => {
  const headers = { 'idempotency-key': 'speech-1' };
  const body = { model: 'test/tts', input: 'once', voice: 'alloy', provider: { ignore: ['broken'] } };
  const first = (await post('audio/speech', body, headers)).is(200);
  const before = host.asked.openai.count;
  await t.settled();
  const second = (await post('audio/speech', body, headers)).is(200);
  assert.ok(second.bytes.equals(first.bytes) && second.headers['x-gateway-idempotent-replay'] === 'true');
  assert.equal(host.asked.openai.count, before);
});
