// Every paid route of the router's own table: nothing is dispatched without credits, and no number of requests at once passes a balance.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';
import { at } from '../../scripts/lib.mjs';
import { startGateway } from './support/harness.mjs';
import { sleep } from './support/wait.mjs';

/** Requests at once, on each route by itself and then over all of them; `PARALLEL_EACH=50` where time is short. */
const EACH = Number(process.env.PARALLEL_EACH ?? 500);
const ALL = Number(process.env.PARALLEL ?? 500);
const DOLLAR = 1e9;
/** The table as it is written: a route that is added there and not here fails below. */
const PAID = [...fs.readFileSync(at('src/serve/mod.rs'), 'utf8').matchAll(/endpoint\(\s*"(\w+)",\s*"([^"]+)",\s*Caller::\w+,\s*Cost::Paid/g)].map(([, method, path]) => `${method} ${path}`);

const BOUNDARY = 'x-boundary-of-the-tests';
const form = (fields) => Buffer.from(`${Object.entries(fields).map(([name, value]) => (
  `--${BOUNDARY}\r\ncontent-disposition: form-data; name="${name}"${value === sound || value === picture ? '; filename="a"' : ''}\r\n\r\n${value}\r\n`)).join('')}--${BOUNDARY}--\r\n`, 'latin1');
const sound = 'x'.repeat(64);
const picture = `\x89PNG\r\n\x1a\n${sound}`;
const said = 'Say hello.';
/** A request of each route; of the text routes some are streamed. */
const REQUESTS = {
  'POST /v1/chat/completions': (i) => ({ model: 'test/chat', max_tokens: 200, stream: i % 2 === 1, messages: [{ role: 'user', content: said }] }),
  'POST /v1/responses': (i) => ({ model: 'test/chat', max_output_tokens: 200, stream: i % 2 === 1, input: said }),
  'POST /v1/messages': (i) => ({ model: 'test/chat', max_tokens: 200, stream: i % 2 === 1, messages: [{ role: 'user', content: said }] }),
  'POST /v1/embeddings': () => ({ model: 'test/embed', input: 'hello' }),
  'POST /v1/moderations': () => ({ model: 'test/moderation', input: 'hello' }),
  'POST /v1/rerank': () => ({ model: 'test/rank', query: 'a', documents: ['b', 'c'] }),
  'POST /v2/rerank': () => ({ model: 'test/rank', query: 'a', documents: ['b'] }),
  'POST /v1/images/generations': () => ({ model: 'test/picture', prompt: 'a cat' }),
  'POST /v1/images/edits': () => form({ model: 'test/picture', prompt: 'a cat', image: picture }),
  'POST /v1/audio/speech': () => ({ model: 'test/voice', voice: 'alloy', input: 'hello' }),
  'POST /v1/tts/synthesize': () => ({ model_id: 'test/voice', voice_id: 'alloy', text: 'hello' }),
  'POST /v1/audio/transcriptions': () => form({ model: 'test/ear', file: sound }),
  'POST /v1/audio/translations': () => form({ model: 'test/ear', file: sound }),
  'POST /v1/generations': (i) => ({ model: 'test/film', input: { prompt: 'a cat', duration: 4 }, wait: i % 2 }),
  'POST /v1/videos': () => ({ model: 'test/film', prompt: 'a cat', seconds: '4' }),
  'POST /v1/stt/transcribe': () => form({ model_id: 'test/ear', audio: sound }),
};
const EVENTS = ['{"role":"assistant","content":""}', '{"content":"Hello."}'].map((delta) => `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"up","choices":[{"index":0,"delta":${delta},"finish_reason":null}]}\n\n`);
const ENDING = 'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"up","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: {"id":"c","object":"chat.completion.chunk","created":1,"model":"up","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":150,"total_tokens":161}}\n\ndata: [DONE]\n\n';
const usage = { prompt_tokens: 11, completion_tokens: 150, total_tokens: 161 };

/** One host for all: fails now and then, cuts now and then, and is slow. */
async function startHost() {
  const state = { count: 0, faults: false };
  const server = http.createServer(async (request, response) => {
    const chunks = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return; // whoever asked is gone, or was killed
    }
    if (request.method === 'POST') state.count += 1;
    const dice = state.faults ? Math.random() : 1;
    await sleep(Math.random() * 60);
    const text = Buffer.concat(chunks).toString('latin1');
    const json = (value, status = 200) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (dice < 0.1) return json({ error: { message: 'broken', type: 'server_error' } }, 500);
    if (dice < 0.15) return request.socket.destroy();
    const path = request.url;
    if (path.endsWith('/chat/completions')) {
      if (!text.includes('"stream":true')) return json({ id: 'c', object: 'chat.completion', created: 1, model: 'up', choices: [{ index: 0, message: { role: 'assistant', content: 'Hello.' }, finish_reason: 'stop' }], usage });
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(EVENTS.join(''));
      await sleep(20);
      return dice < 0.25 ? request.socket.destroy() : response.end(ENDING);
    }
    // A film is made while nobody looks: the first question about it already gets the end.
    if (path.includes('/videos')) return json({ id: 'video_1', object: 'video', created_at: 1, model: 'up', status: request.method === 'POST' ? 'queued' : 'completed', progress: 0, seconds: '4', size: '720x1280' });
    if (path.endsWith('/embeddings')) return json({ object: 'list', data: [{ object: 'embedding', index: 0, embedding: [1] }], model: 'up', usage: { prompt_tokens: 3, total_tokens: 3 } });
    if (path.endsWith('/rerank')) return json({ results: [{ index: 0, relevance_score: 0.5 }], usage: { total_tokens: 9 } });
    if (path.endsWith('/moderations')) return json({ id: 'm', model: 'up', results: [{ flagged: false, categories: {}, category_scores: {} }] });
    if (path.includes('/images/')) return json({ created: 1, data: [{ b64_json: 'AAAA' }] });
    if (path.endsWith('/audio/speech')) return response.writeHead(200, { 'content-type': 'audio/mpeg' }).end(Buffer.alloc(32));
    return json({ task: 'transcribe', language: 'english', duration: 2, text: 'Hi.', segments: [], words: [] });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { state, url: `http://127.0.0.1:${server.address().port}`, close: () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }) };
}

let host, gateway;

describe('Every paid route', { timeout: 900_000 }, () => {
  before(async () => {
    host = await startHost();
    const offer = (name, kind, prices) => ({ model: `test/${name}`, upstream: name, kind, prices });
    const offers = [
      { ...offer('chat', 'chat', { input_tokens: '20', output_tokens: '100' }), context: 32768, max_output: 4096 },
      offer('embed', 'embedding', { input_tokens: '5000' }), offer('moderation', 'moderation', { input_tokens: '5000' }),
      offer('rank', 'rerank', { input_tokens: '3000' }), offer('picture', 'image', { output_images: '0.04' }),
      offer('voice', 'speech', { input_characters: '6000' }), offer('ear', 'transcription', { input_audio_seconds: '0.02' }),
      offer('film', 'video', { output_video_seconds: '0.005' }),
    ];
    const kinds = Object.fromEntries(offers.map(({ model, kind }) => [model, kind]));
    gateway = await startGateway({
      providers: ['p1'], scenes: 1, vars: { JOB_POLL_MS: 60, JOB_POLL_MAX_MS: 300 },
      extra: { models: Object.entries(kinds).map(([id, kind]) => ({ id, kind })), providers: [
        { id: 'openai-like', base_url: `${host.url}/v1`, families: ['openai-chat'], offers: offers.filter(({ kind }) => kind !== 'rerank' && kind !== 'video') },
        { id: 'film-maker', base_url: `${host.url}/v1`, families: ['openai-videos'], offers: offers.filter(({ kind }) => kind === 'video') },
        { id: 'jina-like', base_url: `${host.url}/v1`, families: ['jina'], offers: offers.filter(({ kind }) => kind === 'rerank') },
      ] },
    });
  });
  after(async () => {
    await gateway?.stop();
    await host?.close();
  });

  const open = (route, key, i = 0, headers = {}) => {
    const [method, path] = route.split(' ');
    const body = REQUESTS[route](i);
    const kind = Buffer.isBuffer(body) ? { 'content-type': `multipart/form-data; boundary=${BOUNDARY}` } : {};
    return gateway.open(method, path, { key, headers: { ...kind, ...headers }, body });
  };
  const account = async (dollars) => {
    const workspace = await gateway.newWorkspace({ dollars });
    return { workspace, ...(await gateway.newKey(workspace)) };
  };
  /** Waits until nothing is held, then: no credit too many, and ledger, rows and balance agree. */
  const adds = async ({ workspace, key }, granted) => {
    let credits;
    for (const until = Date.now() + 20_000; Date.now() < until; await sleep(100)) {
      credits = (await gateway.call('GET', '/v1/credits', { key })).is(200).json;
      if (credits.held_nanos === 0) break;
    }
    assert.equal(credits.held_nanos, 0, 'every hold has ended');
    assert.ok(credits.balance_nanos >= 0 && credits.settled_nanos <= granted, JSON.stringify(credits));
    assert.equal(credits.balance_nanos, granted - credits.settled_nanos);
    const books = (await gateway.admin('POST', `/workspaces/${workspace}/reconcile`)).is(200).json;
    assert.deepEqual([books.differences, books.activity_nanos, books.balance_nanos], [[], credits.settled_nanos, credits.balance_nanos]);
    return { credits, books };
  };

  test('the table has them, and each has a request here', () => {
    assert.ok(PAID.length >= 13, JSON.stringify(PAID));
    for (const route of PAID) assert.ok(REQUESTS[route], `${route} is paid and not tried here`);
  });

  for (const route of PAID) {
    test(`${route}: not one call without credits, one with them`, async () => {
      const poor = await account('0');
      const before = host.state.count;
      const refused = await open(route, poor.key).reply;
      assert.equal(refused.status, 402, refused.text);
      assert.equal(host.state.count, before, 'nobody was asked');
      await adds(poor, 0);
      const rich = await account('1');
      (await open(route, rich.key).reply).is(200);
      assert.equal(host.state.count, before + 1);
      const { credits, books } = await adds(rich, DOLLAR);
      assert.ok(credits.settled_nanos > 0 && books.rows === 1, JSON.stringify(credits));
    });
  }

  /** Many at once, mixed: plain, streamed, given up by the client, failing at the provider. */
  const storm = async (who, count, routeOf) => {
    host.state.faults = true;
    const statuses = {};
    await Promise.all(Array.from({ length: count }, async (_, i) => {
      const call = open(routeOf(i), who.key, Math.floor(i / 2));
      if (i % 7 === 3) setTimeout(() => call.reset(), Math.random() * 80);
      try {
        const { status } = await call.reply;
        statuses[status] = (statuses[status] ?? 0) + 1;
      } catch {
        statuses.left = (statuses.left ?? 0) + 1;
      }
    }));
    host.state.faults = false;
    return statuses;
  };

  for (const route of PAID) {
    test(`${route}: ${EACH} at once against a dollar, in under a minute`, async (t) => {
      const who = await account('1');
      const began = Date.now();
      const statuses = await storm(who, EACH, () => route);
      const { credits, books } = await adds(who, DOLLAR);
      const ms = Date.now() - began;
      t.diagnostic(`${ms} ms, settled $${credits.settled}: ${JSON.stringify(statuses)}`);
      assert.ok(ms < 60_000, `it took ${ms} ms`);
      assert.ok(statuses[402] > 0 && statuses[200] > 0 && credits.settled_nanos > 0, JSON.stringify(statuses));
      // Every one that was let in has its row, whatever became of it.
      assert.ok(books.rows >= statuses[200], JSON.stringify(books));
    });
  }

  test(`${ALL} at once over all of them against a dollar, in under a minute`, async (t) => {
    const who = await account('1');
    const began = Date.now();
    const statuses = await storm(who, ALL, (i) => PAID[i % PAID.length]);
    const { credits } = await adds(who, DOLLAR);
    t.diagnostic(`${Date.now() - began} ms, settled $${credits.settled}: ${JSON.stringify(statuses)}`);
    assert.ok(statuses[200] > 20 && credits.settled_nanos > 0, JSON.stringify(statuses));
    assert.ok(Date.now() - began < 60_000, `it took ${Date.now() - began} ms`);
  });
});
