// Embeddings, rerank and moderation: each family of hosts, through the official SDKs.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { createOpenAI } from '@ai-sdk/openai';
import { embed, embedMany } from 'ai';
import { startGateway } from './support/harness.mjs';
import { CANARY, PICTURE, PNG, catalogOf, costs, json, sleep, spared, spares, startHosts } from './support/media.mjs';

let host, gateway, t, openai;
const vector = (text) => [String(text).length, -0.5, 0.25];
const texts = (body) => [].concat(body.input ?? body.texts ?? body.inputs ?? []);

function answer(name, path, { body }, response) {
  if (path === 'a.png') return response.writeHead(200, { 'content-type': 'image/png' }).end(PNG);
  if (path === 'page') return response.writeHead(200, { 'content-type': 'text/html' }).end('<p>');
  if (path === 'moved') return response.writeHead(302, { location: `/${name}/a.png` }).end();
  if (path === 'embeddings' || path === 'multimodalembeddings') {
    const list = Array.isArray(body.input) && typeof body.input[0] === 'number' ? [body.input] : texts(body);
    const wants = body.encoding_format === 'base64' && name === 'openai';
    const data = list.map((one, index) => ({ object: 'embedding', index, embedding: wants ? Buffer.from(Float32Array.from(vector(one)).buffer).toString('base64') : vector(one) }));
    const tokens = list.length * 2;
    return json(response, { object: 'list', data: data.reverse(), model: 'up', usage: name === 'silent' ? undefined : name === 'voyage' ? { total_tokens: tokens } : { prompt_tokens: tokens, total_tokens: tokens } });
  }
  if (path === 'embed') return json(response, { id: 'e', embeddings: { float: texts(body).map(vector) }, meta: { billed_units: { input_tokens: texts(body).length * 2, ...(body.inputs ? { images: 1 } : {}) } } });
  if (path.endsWith(':batchEmbedContents')) return json(response, { embeddings: body.requests.map(({ content }) => ({ values: vector(content.parts[0].text) })), usageMetadata: { promptTokenCount: body.requests.length * 2 } });
  if (path.endsWith(':predict')) return json(response, { predictions: body.instances.map(({ content }) => ({ embeddings: { values: vector(content), statistics: { token_count: 2, truncated: false } } })) });
  if (path.includes('titan')) return json(response, { embedding: vector(body.inputText), inputTextTokenCount: 2 });
  if (path.includes('cohere%2Eembed')) return json(response, { embeddings: body.texts.map(vector), response_type: 'embeddings_floats' }, 200, { 'x-amzn-bedrock-input-token-count': String(body.texts.length * 2) });
  if (path === 'rerank' || path.includes('rerank')) {
    const results = [{ index: 1, relevance_score: 0.9 }, { index: 0, relevance_score: 0.1 }];
    if (name === 'voyage') return json(response, { data: results, usage: { total_tokens: 30 } });
    return json(response, ['cohere', 'bedrock'].includes(name) ? { id: 'r', results, meta: { billed_units: { search_units: 1 } } } : { results, usage: { total_tokens: 30 } });
  }
  if (path === 'moderations') {
    if (name === 'mistral') return json(response, { id: 'm', results: [].concat(body.input).map(() => ({ categories: { selfharm: true, pii: false }, category_scores: { selfharm: 0.9, pii: 0.1 } })), usage: { prompt_tokens: 4 } });
    return json(response, { id: 'modr', model: 'up', results: [{ flagged: true, categories: { hate: true }, category_scores: { hate: 0.9 } }] });
  }
  return undefined;
}

/** Does not answer who asks it to wait. */
const slow = (name, path, ask, response) => (JSON.stringify(ask.body).includes('wait for ever') ? true : answer(name, path, ask, response));

const EMBEDDINGS = ['embed', 'embed-mistral', 'embed-cohere', 'embed-gemini', 'embed-vertex', 'embed-voyage', 'embed-jina', 'embed-titan', 'embed-bedrock'];
const RERANKS = [['rank', 30_000], ['rank-voyage', 30_000], ['rank-jina', 30_000], ['rank-cohere', 2_000_000], ['rank-bedrock', 2_000_000]];

before(async () => {
  host = await startHosts(slow);
  const embedding = (model, more = {}) => ({ model, kind: 'embedding', prices: { input_tokens: '2' }, ...more });
  const rerank = (model, prices) => ({ model, kind: 'rerank', prices });
  gateway = await startGateway({ providers: ['p1'], scenes: 1, vars: { MEDIA_LOOPBACK: 'allowed' }, extra: catalogOf(host.url, {
    broken: { offers: [embedding('embed', { prices: { input_tokens: '1' } }), rerank('rank', { input_tokens: '0.5' })] },
    openai: { offers: [embedding('embed', { batch_max: 2 }), rerank('rank', { input_tokens: '1' }), { model: 'mod', kind: 'moderation', free: true }] },
    silent: { offers: [embedding('embed-silent')] },
    mistral: { families: ['mistral'], offers: [embedding('embed-mistral'), { model: 'mod-mistral', kind: 'moderation', prices: { input_tokens: '10' } }] },
    cohere: { families: ['cohere-v2'], offers: [embedding('embed-cohere', { batch_max: 2, prices: { input_tokens: '2', input_images: '0.001' } }), rerank('rank-cohere', { search_units: '0.002' })] },
    gemini: { families: ['gemini'], offers: [embedding('embed-gemini', { prices: { input_tokens: '2', input_image_tokens: '2' } })] },
    vertex: { families: ['vertex-gemini'], offers: [embedding('embed-vertex', { batch_max: 1 })] },
    voyage: { families: ['voyage'], offers: [embedding('embed-voyage'), rerank('rank-voyage', { input_tokens: '1' })] },
    jina: { families: ['jina'], offers: [embedding('embed-jina'), rerank('rank-jina', { input_tokens: '1' })] },
    bedrock: { families: ['bedrock-invoke'], offers: [embedding('embed-titan', { upstream: 'amazon.titan-embed-text-v2:0' }), embedding('embed-bedrock', { upstream: 'cohere.embed-multilingual-v3' }), { ...rerank('rank-bedrock', { search_units: '0.002' }), upstream: 'cohere.rerank-v3-5:0' }] },
  }, [...EMBEDDINGS, ...RERANKS.map(([model]) => model), 'mod', 'mod-mistral']) });
  t = await gateway.scene({ model: 'test/embed', at: [], dollars: '100' });
  openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: t.key, maxRetries: 0 });
});
after(async () => {
  await gateway?.stop();
  await host?.close();
});

const post = (route, body, headers) => gateway.call('POST', `/v1/${route}`, { key: t.key, body, headers });

describe('embeddings', () => {
  for (const model of EMBEDDINGS) {
    test(`${model}: success through the SDK, in order, floats and base64 alike, exact charge, refusal, bad input, failover`, async () => {
      const named = `test/${model}`;
      const only = model === 'embed' ? { provider: { only: ['openai'] } } : {};
      const { data, usage } = await openai.embeddings.create({ model: named, input: ['a', 'bb', 'ccc'], ...only });
      assert.deepEqual(data.map(({ embedding, index }) => [index, Array.from(embedding)]), [[0, vector('a')], [1, vector('bb')], [2, vector('ccc')]]);
      assert.deepEqual([usage.prompt_tokens, usage.cost], [6, 0.000012]);
      const floats = (await post('embeddings', { model: named, input: 'abcd', encoding_format: 'float', ...only })).is(200);
      assert.deepEqual(floats.json.data[0].embedding, vector('abcd'));
      await costs(t, floats, 2 * 2_000);
      const refused = (await post('embeddings', { model: named, input: 'refuse this', ...only })).fails('invalid_input');
      assert.ok(!JSON.stringify(refused).includes(CANARY));
      assert.equal((await post('embeddings', { model: named, input: ['a', 5] })).fails('invalid_input').param, 'input[1]');
      await spared(t, await post('embeddings', { ...spares(model), input: 'abcd' }), 2 * 2_000);
    });
  }

  test('a batch is split to what the host takes, joined in order and charged once', async () => {
    const before = host.all.length;
    const reply = (await post('embeddings', { model: 'test/embed', input: ['a', 'bb', 'ccc', 'dddd', 'eeeee'], provider: { only: ['openai'] } })).is(200);
    // The parts go at once, so they arrive in any order.
    const sizes = host.all.slice(before).map(({ body }) => body.input.length).sort().reverse();
    assert.deepEqual([sizes, reply.json.data.map(({ embedding }) => embedding[0])], [[2, 2, 1], [1, 2, 3, 4, 5]]);
    await costs(t, reply, 10 * 2_000);
  });

  test('tokens, pictures and texts with pictures go to hosts that take them', async () => {
    (await post('embeddings', { model: 'test/embed', input: [[1, 2], [3]], provider: { only: ['openai'] } })).is(200);
    assert.deepEqual(host.asked.openai.body.input, [[1, 2], [3]]);
    (await post('embeddings', { model: 'test/embed-cohere', input: [1, 2] })).fails('unsupported_parameter');
    const input = [{ content: [{ type: 'text', text: 'x' }, { type: 'image_url', image_url: { url: `${host.url}/files/moved` } }] }];
    const pictured = (await post('embeddings', { model: 'test/embed-cohere', input })).is(200);
    assert.deepEqual(host.asked.cohere.body.inputs[0].content[1], { type: 'image_url', image_url: { url: `data:image/png;base64,${PICTURE}` } });
    await costs(t, pictured, 2 * 2_000 + 1_000_000);
    (await post('embeddings', { model: 'test/embed-gemini', input })).is(200);
    assert.deepEqual(host.asked.gemini.body.requests[0].content.parts[1], { inlineData: { mimeType: 'image/png', data: PICTURE } });
    for (const url of [`${host.url}/files/page`, 'https://169.254.169.254/a.png', 'http://10.0.0.1/a.png']) {
      (await post('embeddings', { model: 'test/embed-gemini', input: [{ image_url: { url } }] })).fails('invalid_input');
    }
    (await post('embeddings', { model: 'test/embed', input })).fails('unsupported_parameter');
  });

  test('a client that leaves while a host is asked pays for what was sent, as far as that can be known', async () => {
    for (const [route, body, nanos] of [
      ['embeddings', { model: 'test/embed', input: 'wait for ever'.padEnd(40, '.'), provider: { only: ['openai'] } }, 10 * 2_000],
      ['rerank', { model: 'test/rank-cohere', query: 'wait for ever', documents: ['a', 'b'] }, 0],
    ]) {
      const alone = await gateway.scene({ model: body.model, at: [], dollars: '1' });
      const before = host.all.length;
      const call = gateway.open('POST', `/v1/${route}`, { key: alone.key, body });
      while (host.all.length === before) await sleep(10);
      call.reset();
      const { balance_nanos } = await alone.settled();
      const [row] = await alone.activity();
      assert.deepEqual([row.ending, row.status, row.cost_nanos, row.is_estimated, balance_nanos], ['client_left', 499, nanos, true, 1e9 - nanos], JSON.stringify(row));
      assert.ok(row.held_nanos >= nanos);
    }
  });

  test('a host that fails is followed by the next; who does not count is estimated; what is left out is named', async () => {
    const reply = (await post('embeddings', { model: 'test/embed', input: 'x', input_type: 'query', provider: { order: ['broken', 'openai'] } }, { 'x-gateway-explain': '1' })).is(200);
    assert.deepEqual([reply.headers['x-gateway-provider'], reply.headers['x-gateway-attempts'], reply.headers['x-gateway-warning']], ['openai', '2', 'dropped: input_type']);
    assert.ok(JSON.parse(reply.headers['x-gateway-explanation']).candidates.length >= 2);
    const silent = (await post('embeddings', { model: 'test/embed-silent', input: 'x'.repeat(40) })).is(200);
    await costs(t, silent, 10 * 2_000, { estimated: true });
    (await post('embeddings', { model: 'test/embed', input: 'x', provider: { max_price: { prompt: 1.5 }, only: ['openai'] } })).fails('no_eligible_provider');
    (await post('embeddings', { model: 'test/mod', input: 'x' })).fails('no_eligible_provider');
    (await post('embeddings', { model: 'no/such', input: 'x' })).fails('model_not_found');
  });

  test('the Vercel AI SDK', async () => {
    const sdk = createOpenAI({ baseURL: `${gateway.url}/v1`, apiKey: t.key });
    const { embedding, usage } = await embed({ model: sdk.textEmbeddingModel('test/embed-gemini'), value: 'hello' });
    assert.deepEqual([embedding, usage.tokens], [vector('hello'), 2]);
    const { embeddings } = await embedMany({ model: sdk.textEmbeddingModel('test/embed-titan'), values: ['a', 'bb'] });
    assert.deepEqual(embeddings, [vector('a'), vector('bb')]);
  });
});

describe('rerank', () => {
  for (const [model, nanos] of RERANKS) {
    test(`${model}: one shape, exact charge, refusal, bad input, failover`, async () => {
      const provider = model === 'rank' ? { order: ['broken', 'openai'] } : {};
      const reply = (await post('rerank', { model: `test/${model}`, query: 'q', documents: ['a', { text: 'b' }], top_n: 2, return_documents: true, provider })).is(200);
      assert.deepEqual(reply.json.results, [{ index: 1, relevance_score: 0.9, document: { text: 'b' } }, { index: 0, relevance_score: 0.1, document: { text: 'a' } }]);
      assert.equal(reply.headers['x-gateway-attempts'], model === 'rank' ? '2' : '1');
      await costs(t, reply, nanos);
      (await post('rerank', { model: `test/${model}`, query: 'refuse this', documents: ['a'] })).fails('invalid_input');
      assert.equal((await post('rerank', { model: `test/${model}`, documents: ['a'] })).fails('invalid_input').param, 'query');
      await spared(t, await post('rerank', { ...spares(model), query: 'q', documents: ['a', 'b'] }), nanos);
    });
  }
});

describe('moderation', () => {
  test('openai: texts and pictures; free', async () => {
    const { results } = await openai.moderations.create({ model: 'test/mod', input: [{ type: 'text', text: 'x' }, { type: 'image_url', image_url: { url: 'https://x.example/a.png' } }] });
    assert.deepEqual([results[0].flagged, results[0].categories.hate], [true, true]);
    await costs(t, (await post('moderations', { model: 'test/mod', input: 'x' })).is(200), 0, { estimated: true });
    const refused = (await post('moderations', { model: 'test/mod', input: 'refuse this' })).fails('invalid_input');
    assert.ok(!JSON.stringify(refused).includes(CANARY));
    await spared(t, await post('moderations', { ...spares('mod'), input: 'x' }), 0, { estimated: true });
  });
  test('mistral: its categories in OpenAI words, no pictures, exact charge', async () => {
    const { results } = await openai.moderations.create({ model: 'test/mod-mistral', input: 'x' });
    assert.deepEqual([results[0].flagged, results[0].categories['self-harm']], [true, true]);
    await costs(t, (await post('moderations', { model: 'test/mod-mistral', input: ['x'] })).is(200), 4 * 10_000);
    (await post('moderations', { model: 'test/mod-mistral', input: [{ type: 'image_url', image_url: { url: 'https://x.example/a.png' } }] })).fails('unsupported_parameter');
    assert.equal((await post('moderations', { model: 'test/mod-mistral', input: 5 })).fails('invalid_input').param, 'input');
    (await post('moderations', { model: 'test/mod-mistral', input: 'refuse this' })).fails('invalid_input');
    await spared(t, await post('moderations', { ...spares('mod-mistral'), input: ['x'] }), 4 * 10_000);
  });
});

describe('presets of other work than text', () => {
  const put = (slug, preset) => gateway.admin('PUT', `/workspaces/${t.workspace}/presets/${slug}`, preset);

  test('its model, its lists and its mode count; one that cannot be followed is an error, never passed over', async () => {
    (await put('vectors', { model: 'test/embed', narrowing: { ignore_providers: ['broken'] } })).is(201);
    (await put('nobody', { narrowing: { allow_providers: ['voyage'] } })).is(201);
    for (const fields of [{ model: '@vectors' }, { model: 'test/embed@vectors' }, { model: 'test/embed', preset: 'vectors' }]) {
      const reply = (await post('embeddings', { input: 'a', ...fields })).is(200);
      assert.deepEqual([reply.headers['x-gateway-provider'], reply.headers['x-gateway-model'], reply.headers['x-gateway-attempts']], ['openai', 'test/embed', '1']);
    }
    (await post('embeddings', { input: 'a', model: 'test/embed', preset: 'nobody' })).fails('no_eligible_provider');
    (await post('rerank', { model: 'test/rank', query: 'q', documents: ['a', 'b'], preset: 'nobody' })).fails('no_eligible_provider');
    for (const [fields, code, param] of [[{ preset: 'none' }, 'not_found', 'preset'], [{ preset: 5 }, 'invalid_input', 'preset'], [{ model: 'test/embed@vectors', preset: 'nobody' }, 'invalid_input', 'preset'], [{ model: '@nobody' }, 'invalid_input', 'model']]) {
      assert.equal((await post('embeddings', { input: 'a', model: 'test/embed', ...fields })).fails(code).param, param);
    }
  });
});
