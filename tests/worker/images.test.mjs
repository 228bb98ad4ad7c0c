// Images: each family of hosts, generations and edits, links and base64, streamed.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { createOpenAI } from '@ai-sdk/openai';
import { experimental_generateImage as generateImage } from 'ai';
import { authOf, familySecrets, startFamilies } from './support/families.mjs';
import { startGateway } from './support/harness.mjs';
import { CANARY, PICTURE, PNG, catalogOf, costs, events, formOf, json, spared, spares, startHosts } from './support/media.mjs';

let host, account, gateway, t, openai;
const TOKENS = { input_tokens: 10, input_tokens_details: { text_tokens: 10, image_tokens: 0 }, output_tokens: 400, total_tokens: 410 };

function answer(name, path, { body, count, method, url }, response) {
  const link = `${url}/files/${name}.png`;
  const n = Number(body.n ?? 1);
  if (path === 'page.png') return response.writeHead(200, { 'content-type': 'text/html' }).end('<p>');
  if (path.endsWith('.png')) return response.writeHead(200, { 'content-type': 'image/png' }).end(PNG);
  const inline = () => ({ created: 1, data: Array.from({ length: n }, () => ({ b64_json: PICTURE })) });
  switch (name) {
    case 'openai':
      if (body.stream) return events(response, [{ type: 'image_generation.partial_image', b64_json: PICTURE, partial_image_index: 0 }, { type: 'image_generation.completed', b64_json: PICTURE, usage: TOKENS }]);
      return json(response, { ...inline(), ...(body.model === 'gpt-image-x' ? { usage: TOKENS } : {}) });
    case 'xai': return json(response, body.response_format === 'b64_json' ? inline() : { data: [{ url: link }] });
    case 'together': return json(response, body.response_format === 'url' ? { data: [{ index: 0, url: link }] } : { data: [{ index: 0, b64_json: PICTURE }] });
    case 'fireworks':
      if (path.endsWith('/text_to_image')) return response.writeHead(200, { 'content-type': 'image/png' }).end(PNG);
      if (path.endsWith('/get_result')) return json(response, { id: 'r', status: count % 2 ? 'Pending' : 'Ready', result: { sample: link } });
      return json(response, { request_id: 'r' });
    case 'vertex':
      if (!path.startsWith('publishers/google/models/')) return undefined;
    // falls through
    case 'gemini':
      if (path.endsWith(':predict')) return json(response, { predictions: Array.from({ length: body.parameters.sampleCount }, () => ({ mimeType: 'image/png', bytesBase64Encoded: PICTURE })) });
      return json(response, { candidates: [{ content: { parts: [{ text: 'Here.' }, { inlineData: { mimeType: 'image/png', data: PICTURE } }] } }], usageMetadata: { promptTokenCount: 10, candidatesTokenCount: 1300, candidatesTokensDetails: [{ modality: 'IMAGE', tokenCount: 1290 }] } });
    case 'fal': return json(response, { images: [{ url: link, content_type: 'image/png' }], has_nsfw_concepts: [false] });
    case 'replicate':
      if (method === 'GET') return json(response, { id: '1', status: 'succeeded', output: [link], error: null });
      return json(response, { id: '1', status: 'processing', output: null, error: null, urls: { get: `${url}/replicate/predictions/1` } }, 201);
    case 'bfl':
      if (path.startsWith('get_result')) {
        if (path.includes('moderated')) return json(response, { id: '1', status: 'Content Moderated' });
        return json(response, count % 2 ? { id: '1', status: 'Ready', result: { sample: link } } : { id: '1', status: 'Pending' });
      }
      return json(response, { id: '1', polling_url: body.prompt === 'stolen' ? 'https://evil.example/get' : `${url}/bfl/get_result?id=${body.prompt === 'moderated' ? 'moderated' : 1}` });
    case 'stability': return json(response, { image: PICTURE, finish_reason: body.prompt === 'moderated' ? 'CONTENT_FILTERED' : 'SUCCESS', seed: 1 });
    case 'recraft': return json(response, { created: 1, data: [body.response_format === 'b64_json' ? { b64_json: PICTURE } : { url: link }] });
    case 'ideogram': return json(response, { created: '2026', data: [{ url: body.prompt === 'page' ? `${url}/files/page.png` : link, is_image_safe: body.prompt !== 'moderated' }] });
    default: return undefined;
  }
}

before(async () => {
  host = await startHosts(answer);
  account = await startFamilies();
  const image = (model, more = {}) => ({ model, kind: 'image', prices: { output_images: '0.04' }, ...more });
  const tokens = { prices: { input_tokens: '5', input_image_tokens: '10', output_image_tokens: '40', output_images: '0.5' } };
  gateway = await startGateway({ providers: ['p1'], scenes: 1, secrets: familySecrets(account.url), vars: { MEDIA_LOOPBACK: 'allowed' }, extra: catalogOf(host.url, {
    broken: { offers: [image('openai', { prices: { output_images: '0.01' } })] },
    openai: { offers: [
      image('openai', { upstream: 'dall-e-x', rules: [{ when: { quality: 'hd', size: '1024x1792' }, prices: { output_images: '0.12' } }, { when: { quality: 'hd' }, prices: { output_images: '0.08' } }] }),
      image('gpt', { upstream: 'gpt-image-x', ...tokens }), image('unpriced', { prices: { output_videos: '1' } }), image('pixels', { upstream: 'px', prices: { output_megapixels: '0.01' } }),
    ] },
    xai: { families: ['openai-chat'], offers: [image('xai', { family: 'xai-images' })] },
    together: { families: ['openai-chat'], offers: [image('together', { family: 'together-images' })] },
    fireworks: { families: ['openai-chat', 'fireworks-images'], offers: [image('fireworks', { family: 'fireworks-images', upstream: 'a/flux' }), image('fireworks-kontext', { family: 'fireworks-images', upstream: 'a/flux-kontext' })] },
    gemini: { families: ['gemini'], offers: [image('imagen'), image('banana', { prices: { input_tokens: '1', output_tokens: '2', output_image_tokens: '30' } })] },
    vertex: { families: ['vertex-gemini'], ...authOf('vertex-gemini'), offers: [image('vertex-imagen', { upstream: 'imagen-4' }), image('vertex-banana', { upstream: 'banana', prices: { input_tokens: '1', output_tokens: '2', output_image_tokens: '30' } })] },
    fal: { families: ['fal-queue', 'fal-run'], offers: [image('fal', { upstream: 'fal-ai/flux/dev' })] },
    replicate: { families: ['replicate'], offers: [image('replicate', { upstream: 'owner/name' })] },
    bfl: { families: ['bfl'], offers: [image('bfl', { upstream: 'flux-kontext-pro' })] },
    stability: { families: ['stability'], offers: [image('stability', { upstream: 'sd3-large' })] },
    recraft: { families: ['recraft'], offers: [image('recraft')] },
    ideogram: { families: ['ideogram'], offers: [image('ideogram', { upstream: 'ideogram-v3' })] },
  }, FAMILIES) });
  t = await gateway.scene({ model: 'test/openai', at: [], dollars: '100' });
  openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: t.key, maxRetries: 0 });
});
after(async () => {
  await gateway?.stop();
  await host?.close();
  await account?.close();
});

const generate = (model, more, headers) => gateway.call('POST', '/v1/images/generations', { key: t.key, body: { model: `test/${model}`, prompt: 'a cat', ...more }, headers });
const edit = async (model, more = {}) => gateway.call('POST', '/v1/images/edits', { key: t.key, ...(await formOf({ model: `test/${model}`, prompt: 'a hat', image: PNG, ...more })) });

const FAMILIES = ['openai', 'xai', 'together', 'fireworks', 'fireworks-kontext', 'imagen', 'banana', 'vertex-imagen', 'vertex-banana', 'fal', 'replicate', 'bfl', 'stability', 'recraft', 'ideogram'];
const TOLD = 10 * 1000 + 1290 * 30_000 + 10 * 2000;
const NANOS = { banana: TOLD, 'vertex-banana': TOLD };
const ignored = { provider: { ignore: ['broken'] } };

describe('each family', () => {
  for (const model of FAMILIES) {
    test(`${model}: base64 and a link as asked, exact charge, refusal, bad input, failover`, async () => {
      const inline = (await generate(model, { response_format: 'b64_json', size: '1024x1024', ...ignored })).is(200);
      assert.deepEqual(inline.json.data.map(({ b64_json }) => b64_json), [PICTURE]);
      await costs(t, inline, NANOS[model] ?? 40_000_000);
      assert.equal(inline.json.usage.cost, Number(inline.headers['x-gateway-cost']));
      const linked = (await generate(model, { response_format: 'url', ...ignored })).is(200);
      const { url } = linked.json.data[0];
      assert.ok(url.startsWith(host.url) || url === `data:image/png;base64,${PICTURE}`, url);
      const refused = (await generate(model, { prompt: 'refuse this', ...ignored })).fails('invalid_input');
      assert.ok(!JSON.stringify(refused).includes(CANARY));
      assert.equal((await generate(model, { n: 0 })).fails('invalid_input').param, 'n');
      await spared(t, await generate(model, { size: '1024x1024', ...spares(model) }), NANOS[model] ?? 40_000_000);
    });
  }

  for (const model of ['openai', 'gpt', 'xai', 'together', 'fireworks-kontext', 'banana', 'vertex-banana', 'fal', 'replicate', 'bfl', 'stability', 'recraft', 'ideogram']) {
    test(`${model}: an edit, as a form and as JSON, exact charge, refusal, bad input, failover`, async () => {
      const format = { response_format: 'b64_json' };
      assert.equal((await edit(model, format)).is(200).json.data[0].b64_json, PICTURE);
      const body = { model: `test/${model}`, prompt: 'a hat', image: `data:image/png;base64,${PICTURE}`, ...format };
      assert.equal((await gateway.call('POST', '/v1/images/edits', { key: t.key, body })).is(200).json.data[0].b64_json, PICTURE);
      const linked = { ...body, image: [{ image_url: `${host.url}/files/a.png` }] };
      assert.equal((await gateway.call('POST', '/v1/images/edits', { key: t.key, body: linked })).is(200).json.data[0].b64_json, PICTURE);
      const refused = (await edit(model, { prompt: 'refuse this', provider: JSON.stringify({ ignore: ['broken'] }) })).fails('invalid_input');
      assert.ok(!JSON.stringify(refused).includes(CANARY));
      assert.equal((await gateway.call('POST', '/v1/images/edits', { key: t.key, body: { model: `test/${model}`, prompt: 'a hat' } })).fails('invalid_input').param, 'image');
      if (FAMILIES.includes(model)) await spared(t, await gateway.call('POST', '/v1/images/edits', { key: t.key, body: { ...body, ...spares(model) } }), NANOS[model] ?? 40_000_000);
    });
  }
});

test('by picture with the rule for quality and size, by token, by megapixel, and by the dearest bound', async () => {
  const { data } = await openai.images.generate({ model: 'test/openai', prompt: 'a cat', n: 2, ...ignored });
  assert.deepEqual(data.map(({ b64_json }) => b64_json), [PICTURE, PICTURE]);
  await costs(t, (await generate('openai', { n: 2, ...ignored })).is(200), 80_000_000);
  await costs(t, (await generate('openai', { quality: 'hd', ...ignored })).is(200), 80_000_000);
  await costs(t, (await generate('openai', { quality: 'hd', size: '1024x1792', ...ignored })).is(200), 120_000_000);
  await costs(t, (await generate('gpt')).is(200), 10 * 5000 + 400 * 40_000);
  await costs(t, (await generate('pixels', { size: '2048x1024' })).is(200), 3 * 10_000_000);
  await costs(t, (await generate('banana', { n: 2 })).is(200), 2 * NANOS.banana);
  (await generate('gpt', { provider: { max_price: { image: 0.1 } } })).fails('no_eligible_provider');
});

test('the SDK edits with several files; they go on as they are', async () => {
  const image = [await toFile(PNG, 'a.png', { type: 'image/png' }), await toFile(PNG, 'b.png', { type: 'image/png' })];
  const { data } = await openai.images.edit({ model: 'test/gpt', prompt: 'a hat', image, n: 1 });
  assert.equal(data[0].b64_json, PICTURE);
  assert.deepEqual([host.asked.openai.body.model, host.asked.openai.body.prompt, host.asked.openai.body['image[]'].map((one) => one.equals(PNG))], ['gpt-image-x', 'a hat', [true, true]]);
  assert.equal((await edit('gpt', { image: Buffer.from('no picture') })).fails('invalid_input').param, 'image');
  assert.equal((await gateway.call('POST', '/v1/images/edits', { key: t.key, body: { model: 'test/gpt', prompt: 'p', image: 'x' } })).fails('invalid_input').param, 'image');
});

test('streams: partial pictures where the host has them, one event elsewhere', async () => {
  const seen = [];
  for await (const event of await openai.images.generate({ model: 'test/gpt', prompt: 'a cat', stream: true, partial_images: 1 })) seen.push(event.type);
  assert.deepEqual(seen, ['image_generation.partial_image', 'image_generation.completed']);
  await costs(t, (await generate('gpt', { stream: true })).is(200), 10 * 5000 + 400 * 40_000, { header: false });
  const whole = [];
  for await (const event of await openai.images.generate({ model: 'test/fal', prompt: 'a cat', stream: true })) whole.push([event.type, event.b64_json]);
  assert.deepEqual(whole, [['image_generation.completed', PICTURE]]);
});

test('what a host withholds is a refusal, and no other is asked', async () => {
  for (const model of ['bfl', 'stability', 'ideogram']) {
    const reply = (await generate(model, { prompt: 'moderated' })).fails('invalid_input');
    assert.ok(!JSON.stringify(reply).includes('Moderated'));
  }
});

test('a credential stays with its host, and a link is followed to pictures alone', async () => {
  (await generate('bfl', { prompt: 'stolen' })).fails('provider_error');
  (await generate('ideogram', { prompt: 'page', response_format: 'b64_json' })).fails('provider_error');
  const body = { model: 'test/banana', prompt: 'p', image: 'https://192.168.0.1/a.png' };
  (await gateway.call('POST', '/v1/images/edits', { key: t.key, body })).fails('invalid_input');
});

test('failover, a warning, and what cannot be measured', async () => {
  const reply = (await generate('openai', { provider: { order: ['broken', 'openai'] } })).is(200);
  assert.deepEqual([reply.headers['x-gateway-provider'], reply.headers['x-gateway-attempts']], ['openai', '2']);
  assert.equal((await generate('together', { quality: 'hd' })).is(200).headers['x-gateway-warning'], 'dropped: quality');
  assert.deepEqual((await generate('unpriced')).fails('no_eligible_provider').details.removed.map(({ rule }) => rule), ['no_price']);
});

test('no credits, no dispatch: on every paid route', async () => {
  const poor = await gateway.newWorkspace({ dollars: '0' });
  const { key } = await gateway.newKey(poor);
  const before = host.all.length;
  (await gateway.call('POST', '/v1/images/generations', { key, body: { model: 'test/gpt', prompt: 'x' } })).fails('insufficient_credits');
  (await gateway.call('POST', '/v1/images/edits', { key, ...(await formOf({ model: 'test/gpt', prompt: 'x', image: PNG })) })).fails('insufficient_credits');
  assert.equal(host.all.length, before);
});

test('the Vercel AI SDK', async () => {
  const sdk = createOpenAI({ baseURL: `${gateway.url}/v1`, apiKey: t.key });
  const { image } = await generateImage({ model: sdk.image('test/stability'), prompt: 'a cat', size: '1024x1024' });
  assert.ok(Buffer.from(image.uint8Array).equals(PNG));
});
