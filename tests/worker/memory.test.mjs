// An isolate has 128 MB for all its requests. Ten uploads of 25 MB at once and ten pictures of 20 MB at once go through it, byte
// for byte, and what workerd holds meanwhile is measured; who comes when it is full waits, and who waits too long is told so.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import { costs } from './support/media.mjs';
import { MB, largeCatalog, picture, startLargeHosts, sum, uploadOf } from '../../scripts/bench/large.mjs';
import { eventually, sleep } from './support/wait.mjs';

const AT_ONCE = 10;
const SOUND_BYTES = 25 * MB;
const PICTURE_BYTES = 20 * MB;
const ISOLATE_BYTES = 128 * MB;
const NANOS = { scribe: 1_000_000, picture: 40_000_000 };
let host, gateway, t;

before(async () => {
  host = await startLargeHosts(PICTURE_BYTES);
  gateway = await startGateway({ providers: ['p1'], scenes: 1, inspector: true, vars: { MEDIA_LOOPBACK: 'allowed' }, extra: largeCatalog(host.url) });
  t = await gateway.scene({ model: 'large/scribe', at: [], dollars: '1000' });
});
after(async () => {
  await gateway?.stop();
  await host?.close();
});

const only = { provider: JSON.stringify({ ignore: ['large-broken'] }) };
const transcribe = (upload, headers = {}) => gateway.call('POST', '/v1/audio/transcriptions', { key: t.key, body: upload.body, headers: { ...upload.headers, ...headers } });
const draw = (model, more = {}, headers = {}) => gateway.call('POST', '/v1/images/generations', { key: t.key, body: { model: `large/${model}`, prompt: 'a cat', ...more }, headers });

/** What came of `work`; fails where the isolate held more meanwhile than the platform lets it. */
async function within(work) {
  const { result, heap, buffers, most } = await gateway.memory(work);
  // The inspector leaves wasm's memory out; it never shrinks, so what it is now is its most.
  const { wasm_bytes: wasm } = (await gateway.admin('GET', '/health')).is(200).json.counters;
  const mb = (bytes) => (bytes / MB).toFixed(0);
  process.stdout.write(`# at most ${mb(most + wasm)} MB (${mb(wasm)} of wasm, ${mb(heap)} of heap, ${mb(buffers)} of buffers)\n`);
  assert.ok(most + wasm < ISOLATE_BYTES, `${mb(most + wasm)} MB`);
  return result;
}

describe('ten at once', () => {
  test('uploads of 25 MB', async () => {
    const files = Array.from({ length: AT_ONCE }, (_, i) => Buffer.alloc(SOUND_BYTES, i + 1));
    const uploads = await Promise.all(files.map((file) => uploadOf(file, { model: 'large/scribe', ...only })));
    (await transcribe(uploads[0])).is(200);
    host.delayMs = 300;
    const result = await within(() => Promise.all(uploads.map((upload) => transcribe(upload))));
    host.delayMs = 0;
    result.forEach((reply, i) => assert.equal(reply.is(200).json.text, sum(files[i])));
    await costs(t, result[0], NANOS.scribe);
  });

  for (const [model, more, count] of [['openai', {}, AT_ONCE], ['fal', { response_format: 'b64_json' }, AT_ONCE], ['gemini', {}, 1], ['gemini', { response_format: 'url' }, 2], ['fireworks', { response_format: 'b64_json' }, 2]]) {
    test(`pictures of 20 MB: ${count} of ${model} ${more.response_format ?? ''}`, async () => {
      const result = await within(() => Promise.all(Array.from({ length: count }, () => draw(model, more))));
      for (const reply of result) {
        const [one] = reply.is(200).json.data;
        const base64 = more.response_format === 'url' ? one.url.replace('data:image/png;base64,', '') : one.b64_json;
        assert.ok(base64 === host.base64, 'the picture is whole');
        assert.ok(reply.json.usage.cost > 0);
      }
      if (model === 'openai') assert.deepEqual([result[0].json.data[0].revised_prompt, result[0].json.size, result[0].json.created], ['a "cat"', '4096x4096', 7]);
      await costs(t, result[0], NANOS.picture, { header: false });
      assert.equal(result[0].json.usage.cost, 0.04);
      });
  }
});

test('an upload of 25 MB is sent again to the next provider', async () => {
  const file = picture(SOUND_BYTES);
  const reply = (await transcribe(await uploadOf(file, { model: 'large/scribe', provider: JSON.stringify({ order: ['large-broken', 'large-openai'] }) }))).is(200);
  assert.deepEqual([reply.json.text, reply.headers['x-gateway-attempts']], [sum(file), '2']);
});

test('a picture that breaks off is seen to, and costs nothing', async () => {
  await assert.rejects(draw('cut'));
  await eventually(async () => {
    const rows = await gateway.d1("SELECT ending, cost_nanos FROM activity WHERE model = 'large/cut'");
    assert.deepEqual(rows, [{ ending: 'upstream_failed', cost_nanos: 0 }]);
    return true;
  }, 'its row', { ms: 10_000 });
});

test('with a key of its own a picture too long to be kept is drawn and paid once', async () => {
  const headers = { 'idempotency-key': 'a-large-picture' };
  const first = (await draw('openai', {}, headers)).is(200);
  assert.ok(first.json.data[0].b64_json === host.base64);
  await t.settled(10_000);
  const asked = host.asked;
  (await draw('openai', {}, headers)).fails('idempotency_conflict');
  assert.equal(host.asked, asked);
});

describe('when there is no room', () => {
  let small, scene;
  before(async () => {
    small = await startGateway({ providers: ['p1'], scenes: 1, vars: { BODY_ROOM_BYTES: 30 * MB, BODY_WAIT_MS: 1200 }, extra: largeCatalog(host.url) });
    scene = await small.scene({ model: 'large/scribe', at: [], dollars: '1000' });
  });
  after(() => small?.stop());
  const upload = (body, headers) => small.call('POST', '/v1/audio/transcriptions', { key: scene.key, body, headers });

  test('who waits too long is told when to come again; small requests pass by; then it goes on', async () => {
    const { body, headers } = await uploadOf(Buffer.alloc(20 * MB, 1), { model: 'large/scribe', ...only });
    host.delayMs = 3000;
    const first = upload(body, headers);
    await eventually(() => host.inFlight === 1, 'the first is there', { ms: 10_000 });
    const late = await upload(body, headers);
    assert.ok(Number(late.headers['retry-after']) >= 1);
    late.fails('overloaded');
    (await small.call('GET', '/v1/credits', { key: scene.key })).is(200);
    (await first).is(200);
    host.delayMs = 0;
    (await upload(body, headers)).is(200);
  });

  test('a client that leaves in the middle of its upload leaves nothing behind', async () => {
    const { body, headers } = await uploadOf(Buffer.alloc(20 * MB, 1), { model: 'large/scribe', ...only });
    for (let round = 0; round < 4; round++) {
      const request = http.request(`${small.url}/v1/audio/transcriptions`, { method: 'POST', agent: false, headers: { ...headers, authorization: `Bearer ${scene.key}`, 'content-length': body.length } });
      request.on('error', () => {});
      request.write(body.subarray(0, 8 * MB));
      await sleep(150);
      request.destroy();
    }
    (await upload(body, headers)).is(200);
  });
});
