// Presets act on what is not text too: defaults, model, lists; in JSON, in forms, and in jobs. And a job that a host refuses one
// credential for is ordered with the next.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import { PICTURE, PNG, SOUND, catalogOf, formOf, json, startHosts } from './support/media.mjs';
import { eventually } from './support/wait.mjs';

const VARS = { JOB_POLL_MS: 50, JOB_WATCHED_POLL_MS: 50, ALLOW_LOOPBACK: 1, MEDIA_LOOPBACK: 'allowed' };
let host, gateway, t;
/** What a host says to a submission by its credential. */
const refusals = {};
const keys = [];

function answer(name, path, { body, headers, method, url }, response) {
  if (path.startsWith('images/')) return json(response, { created: 1, data: [{ b64_json: PICTURE }] });
  if (path === 'audio/transcriptions') return json(response, { text: 'Hi.', duration: 1 });
  if (path === 'audio/speech') return response.writeHead(200, { 'content-type': 'audio/mpeg' }).end(SOUND);
  if (path === 'embeddings') return json(response, { data: [{ index: 0, embedding: [1] }], usage: { prompt_tokens: 1 } });
  if (path === 'generations' && method === 'POST') {
    const key = headers.authorization?.replace('Bearer ', '');
    keys.push(key);
    if (refusals[key]) return json(response, { error: { message: 'no' } }, refusals[key], { 'retry-after': '30' });
    return json(response, { id: 'g1', state: 'queued', generation_type: 'video' }, 201);
  }
  if (path === 'generations/g1') return json(response, { id: 'g1', state: 'completed', assets: { video: `${url}/${name}/film.mp4` } });
  return undefined;
}

before(async () => {
  host = await startHosts(answer);
  const image = { kind: 'image', prices: { output_images: '0.04' } };
  gateway = await startGateway({ providers: ['p1'], scenes: 1, vars: VARS, secrets: { FILM_KEY: 'first', FILM_KEY_2: 'second', FILM_KEY_3: 'third' }, extra: catalogOf(host.url, {
    one: { offers: [{ model: 'image', ...image }, { model: 'whisper', kind: 'transcription', prices: { input_audio_seconds: '0.001' } }, { model: 'tts', kind: 'speech', prices: { input_characters: '15' } }, { model: 'embed', kind: 'embedding', prices: { input_tokens: '1' } }] },
    two: { offers: [{ model: 'image', ...image, prices: { output_images: '0.05' } }] },
    films: { families: ['luma'], key_env: 'FILM_KEY', offers: [{ model: 'film', kind: 'video', prices: { output_video_seconds: '0.1' } }] },
    others: { families: ['luma'], offers: [{ model: 'film', kind: 'video', prices: { output_video_seconds: '0.2' } }] },
  }) });
  t = await gateway.scene({ model: 'test/image', at: [], dollars: '100' });
});
after(async () => {
  await gateway?.stop();
  await host?.close();
});

const put = async (slug, preset) => (await gateway.admin('PUT', `/workspaces/${t.workspace}/presets/${slug}`, preset)).is(201);
const post = (route, body) => gateway.call('POST', `/v1/${route}`, { key: t.key, body });
const form = async (route, fields) => gateway.call('POST', `/v1/${route}`, { key: t.key, ...(await formOf(fields)) });

describe('presets', () => {
  test('in JSON: its parameters where there are none, its model, its lists', async () => {
    await put('posters', { model: 'test/image', parameters: { size: '1024x1792', quality: 'hd' }, narrowing: { allow_providers: ['two'] } });
    const reply = (await post('images/generations', { model: '@posters', prompt: 'a cat', quality: 'standard' })).is(200);
    assert.equal(reply.headers['x-gateway-provider'], 'two');
    const { model, size, quality, preset } = host.asked.two.body;
    assert.deepEqual([model, size, quality, preset], ['image', '1024x1792', 'standard', undefined]);
    (await post('images/generations', { model: 'test/image', preset: 'posters', prompt: 'a cat', provider: { only: ['one'] } })).fails('no_eligible_provider');
    assert.equal((await post('images/generations', { model: '@nobody', prompt: 'a cat' })).fails('not_found').param, 'model');
    await put('narrow', { narrowing: { allow_models: ['other/*'] } });
    assert.ok((await post('embeddings', { model: 'test/embed@narrow', input: 'x' })).status >= 400);
    (await post('embeddings', { model: 'test/embed', input: 'x' })).is(200);
  });

  test('in forms, and where a model is called model_id', async () => {
    await put('english', { model: 'test/whisper', parameters: { language: 'en', temperature: 0.5 } });
    (await form('audio/transcriptions', { model: '@english', file: SOUND, temperature: '0' })).is(200);
    assert.deepEqual([host.asked.one.body.language, host.asked.one.body.temperature, host.asked.one.body.file.equals(SOUND)], ['en', '0', true]);
    (await form('stt/transcribe', { model_id: 'test/whisper@english', audio: SOUND })).is(200);
    assert.equal(host.asked.one.body.language, 'en');
    await put('hats', { parameters: { size: '512x512' } });
    (await form('images/edits', { model: 'test/image@hats', prompt: 'a hat', image: PNG })).is(200);
    // Either of the two may be asked.
    assert.equal(host.all.findLast(({ path }) => path === 'images/edits').body.size, '512x512');
    await put('slow', { parameters: { speed: 0.5 } });
    (await post('tts/synthesize', { model_id: 'test/tts@slow', text: 'x', voice_id: 'alloy' })).is(200);
    assert.equal(host.asked.one.body.speed, 0.5);
  });

  test('in jobs: in the input of a generation, and beside the prompt of a video', async () => {
    await put('films', { model: 'test/film', parameters: { duration: 9, aspect_ratio: '9:16', wait: 20 }, narrowing: { ignore_providers: ['films'] } });
    const job = (await post('generations', { model: '@films', input: { prompt: 'a cat', aspect_ratio: '1:1' } })).is(200);
    assert.deepEqual([job.json.status, job.headers['x-gateway-provider'], job.headers['x-gateway-cost']], ['completed', 'others', '1.8']);
    assert.deepEqual([host.asked.others.path, job.headers['x-gateway-warning']], ['generations/g1', undefined]);
    const { body } = host.all.find(({ host: name, path }) => name === 'others' && path === 'generations');
    assert.deepEqual([body.duration, body.aspect_ratio], ['9s', '1:1']);
    await put('videos', { parameters: { seconds: '9' } });
    const video = (await form('videos', { model: 'test/film@videos', prompt: 'a cat' })).is(200);
    assert.equal(video.json.seconds, '9');
    assert.equal((await post('generations', { model: '@none', input: { prompt: 'x' } })).fails('not_found').param, 'model');
  });
});

describe('credentials of a job', () => {
  for (const status of [401, 429]) {
    test(`${status}: the same host is asked with the next one, and with that to the end`, async () => {
      keys.length = 0;
      Object.assign(refusals, { first: status, second: status, third: undefined });
      const job = (await post('generations', { model: 'test/film', provider: { only: ['films'] }, input: { prompt: 'a cat' }, wait: 20 })).is(200);
      assert.deepEqual([job.json.status, keys.at(-1)], ['completed', 'third']);
      const asked = host.all.filter(({ host: name, path }) => name === 'films' && path === 'generations/g1');
      assert.equal(asked.at(-1).headers.authorization, 'Bearer third', 'a job is known by the account it was ordered from');
      const row = await eventually(() => t.row(job.json.id), 'its row');
      assert.equal(row.ending, 'finished');
      assert.ok(row.attempts.length >= 1 && row.attempts.at(-1).slot === 3, JSON.stringify(row.attempts));
    });
  }

  test('one that all credentials are refused for goes to the next host', async () => {
    Object.assign(refusals, { first: 401, second: 401, third: 401 });
    const job = (await post('generations', { model: 'test/film', provider: { order: ['films', 'others'] }, input: { prompt: 'a cat' }, wait: 20 })).is(200);
    assert.deepEqual([job.json.status, job.headers['x-gateway-provider']], ['completed', 'others']);
  });
});
