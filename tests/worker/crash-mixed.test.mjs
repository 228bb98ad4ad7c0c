// Mixed load of every kind while workerd is killed (SIGKILL) again and again: plain, streamed, given up by the client, embeddings,
// pictures, speech, own keys with a fee, idempotent ones, and jobs. Afterwards every invariant of the books holds.
// `CRASH_SECONDS=240` goes on for that long; `CRASH_SEED` draws the same requests, faults and moments again: all of them come from
// the seed and a number, whatever the order in which things happen.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { booksAddUp } from './support/books.mjs';
import { nanosOf } from './support/client.mjs';
import { startGateway } from './support/harness.mjs';
import { SECRETS, provider, startHosts } from './support/jobs.mjs';
import { sleep } from './support/wait.mjs';

const seed = Number(process.env.CRASH_SEED ?? Math.floor(Math.random() * 2 ** 31));
const seconds = Number(process.env.CRASH_SECONDS ?? 0);
const HOLD_MS = 4000;
const FEE = 500;
const OWN = 'sk-own-key-of-the-crash-test';
const GRANT = 2;
const FILM_NANOS = 5 * 1_000_000;
/** What a request of each kind costs where it is served, and its share of the load. */
const USAGE = { prompt_tokens: 11, completion_tokens: 150, total_tokens: 161 };
const CHAT_NANOS = 11 * 1_000 + 150 * 2_000;

/** A draw from 0 to 1 that depends on the seed and what it is for. */
function draw(...what) {
  let hash = seed | 0;
  for (const char of what.join('/')) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  hash = Math.imul(hash ^ (hash >>> 12), 0x297a2d39);
  return ((hash ^ (hash >>> 15)) >>> 0) / 2 ** 32;
}
const pick = (list, ...what) => list[Math.floor(draw(...what) * list.length)];

/** One host for everything but films. What it does to a request depends on the number in it, and how often that was asked. */
async function startHost() {
  const calls = new Map();
  const server = http.createServer(async (request, response) => {
    const chunks = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return; // whoever asked is gone, or was killed
    }
    const text = Buffer.concat(chunks).toString('latin1');
    const number = /number (\w+)/.exec(text)?.[1] ?? 'none';
    const call = (calls.get(number) ?? 0) + 1;
    calls.set(number, call);
    const fate = draw('fate', number, call);
    await sleep(draw('delay', number, call) * 60);
    if (response.destroyed) return;
    const json = (value, status = 200) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (fate < 0.08) return json({ error: { message: 'broken', type: 'server_error' } }, 500);
    if (fate < 0.12) return request.socket.destroy();
    // Which call it was stands in the answer: two answers that are alike come from one call.
    const said = `answer ${number} ${call}`;
    if (request.url.endsWith('/chat/completions')) {
      if (!text.includes('"stream":true')) return json({ id: 'c', object: 'chat.completion', created: 1, model: 'up', choices: [{ index: 0, message: { role: 'assistant', content: said }, finish_reason: 'stop' }], usage: USAGE });
      const event = (value) => response.write(`data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', created: 1, model: 'up', ...value })}\n\n`);
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      for (const content of said.split(/(?= )/)) {
        event({ choices: [{ index: 0, delta: { content }, finish_reason: null }] });
        await sleep(draw('pace', number, call) * 20);
      }
      if (fate < 0.2) return request.socket.destroy();
      event({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] });
      event({ choices: [], usage: USAGE });
      return response.end('data: [DONE]\n\n');
    }
    if (request.url.endsWith('/embeddings')) return json({ object: 'list', data: [{ object: 'embedding', index: 0, embedding: [1] }], model: 'up', usage: { prompt_tokens: 3, total_tokens: 3 } });
    if (request.url.includes('/images/')) return json({ created: 1, data: [{ b64_json: 'AAAA' }] });
    response.writeHead(200, { 'content-type': 'audio/mpeg' });
    for (let i = 0; i < 4; i++) {
      response.write(Buffer.alloc(64));
      await sleep(5);
    }
    response.end();
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { calls, url: `http://127.0.0.1:${server.address().port}`, close: () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }) };
}

const chat = (number, more = {}) => ['POST', '/v1/chat/completions', { model: 'test/chat', max_tokens: 200, user: /^[if]/.test(number) ? number : `n${number}`, messages: [{ role: 'user', content: `number ${number} end` }], ...more }];
const priced = { stream: true, usage: { include: true } };
/** Kinds: the request with a number. `leaves`: the client gives up; `own`: in the workspace with a key of its own. */
const KINDS = {
  plain: (n) => ({ request: chat(n), nanos: CHAT_NANOS }),
  streamed: (n) => ({ request: chat(n, priced), nanos: CHAT_NANOS }),
  'streamed as it is': (n) => ({ request: chat(n, { stream: true, stream_options: { include_usage: true } }), nanos: CHAT_NANOS }),
  'given up': (n) => ({ request: chat(n, draw('way', n) < 0.5 ? { stream: true } : {}), leaves: draw('leaves', n) * 90 }),
  embeddings: (n) => ({ request: ['POST', '/v1/embeddings', { model: 'test/embed', input: `number ${n} end` }], nanos: 3 * 100 }),
  picture: (n) => ({ request: ['POST', '/v1/images/generations', { model: 'test/picture', prompt: `number ${n} end` }], nanos: 400_000 }),
  speech: (n) => ({ request: ['POST', '/v1/audio/speech', { model: 'test/voice', voice: 'alloy', input: `number ${n} end` }], nanos: (11 + String(n).length) * 1_000 }),
  'own key': (n) => ({ request: chat(n, draw('way', n) < 0.5 ? priced : {}), own: true, nanos: (CHAT_NANOS * FEE) / 10_000 }),
  // Few names, so that the same one is asked at once, in a row, and across a crash.
  idempotent(n, round) {
    const name = `i${round}x${Math.floor(draw('name', n) * 8)}`;
    return { request: chat(name, draw('stream', name) < 0.5 ? priced : {}), name, nanos: CHAT_NANOS, leaves: draw('lost', n) < 0.2 ? draw('leaves', n) * 60 : undefined };
  },
  'idempotent film': (n, round) => ({ request: ['POST', '/v1/generations', { model: 'test/film', user: `f${round}`, input: { prompt: `a cat, number f${round} end` } }], name: `f${round}`, leaves: draw('lost', n) < 0.3 ? draw('leaves', n) * 60 : undefined }),
  film: (n) => ({ request: ['POST', '/v1/generations', { model: 'test/film', user: `n${n}`, input: { prompt: `a cat, number n${n} end` } }] }),
};
const LOAD = [...Array(3).fill(['plain', 'streamed', 'streamed as it is', 'given up', 'own key', 'idempotent']).flat(), 'embeddings', 'picture', 'speech', 'film', 'idempotent film', 'idempotent'];

describe(`Crashes under mixed load (CRASH_SEED=${seed}${seconds ? ` CRASH_SECONDS=${seconds}` : ''})`, { timeout: 200_000 + seconds * 2000 }, () => {
  let folder, host, films, gateway, t, own;

  before(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-crash-'));
    [host, films] = await Promise.all([startHost(), startHosts()]);
    films.takesMs = 1200;
    const offer = (name, kind, prices, more = {}) => ({ model: `test/${name}`, upstream: name, kind, prices, ...more });
    const offers = [
      offer('chat', 'chat', { input_tokens: '1', output_tokens: '2' }, { context: 32768, max_output: 4096 }), offer('embed', 'embedding', { input_tokens: '0.1' }),
      offer('picture', 'image', { output_images: '0.0004' }), offer('voice', 'speech', { input_characters: '1' }),
    ];
    gateway = await startGateway({
      providers: ['p1'], scenes: 1, persist: folder, secrets: SECRETS,
      vars: { HOLD_MS, TOTAL_TIMEOUT_MS: 3000, BYOK_FEE_BASIS_POINTS: FEE, JOB_POLL_MS: 80, JOB_POLL_MAX_MS: 400, ALLOW_LOOPBACK: 1 },
      extra: {
        models: [...offers.map(({ model, kind }) => ({ id: model, kind })), { id: 'test/film' }],
        providers: [
          { id: 'one', base_url: `${host.url}/v1`, families: ['openai-chat'], offers },
          provider(films.url, 'luma', 'films', [{ model: 'test/film', prices: { output_video_seconds: '0.001' } }]),
        ],
      },
    });
    t = await gateway.scene({ model: 'test/chat', at: ['one'], dollars: GRANT });
    own = await gateway.scene({ model: 'test/chat', at: ['one'], dollars: GRANT });
    (await gateway.admin('POST', `/workspaces/${own.workspace}/byok/one`, { key: OWN })).is(201);
  });
  after(async () => {
    await gateway?.stop();
    await Promise.all([host?.close(), films?.close()]);
    fs.rmSync(folder, { recursive: true, force: true });
  });

  test('every invariant holds', async (context) => {
    const [told, answers, counts] = [new Map(), new Map(), {}];
    let [number, round, stop, granted, crashes] = [0, 0, false, GRANT * 1e9, 0];
    const mustHave = { true: new Set(), false: new Set() };
    /** One request; what came of it is remembered. */
    const one = async (n) => {
      const kind = pick(LOAD, 'kind', n);
      const { request: [method, route, body], leaves, own: isOwn, name, nanos } = KINDS[kind](n, round);
      const call = gateway.open(method, route, { key: (isOwn ? own : t).key, body, headers: name ? { 'idempotency-key': name } : {} });
      if (leaves !== undefined) setTimeout(() => call.leave(), leaves);
      const count = (what) => (counts[`${kind}: ${what}`] = (counts[`${kind}: ${what}`] ?? 0) + 1);
      try {
        const reply = await call.reply;
        count(reply.status);
        if (reply.status !== 200) return reply.status === 429 || reply.status === 402 || reply.status === 409 ? sleep(30) : undefined;
        const isWhole = !body.stream || (reply.text.includes('[DONE]') && !reply.text.includes('"error"'));
        if (!isWhole) return undefined;
        if (name) {
          const said = route.endsWith('generations') ? reply.json.id : /answer \w+ \d+/.exec(body.stream ? reply.content : reply.text)[0];
          if (!answers.has(name)) answers.set(name, new Set());
          answers.get(name).add(said);
        }
        const cost = body.stream ? /"cost":\s*([\d.eE+-]+)/.exec(reply.text)?.[1] : reply.headers['x-gateway-cost'];
        if (cost === undefined || nanos === undefined) return undefined;
        assert.equal(nanosOf(cost), nanos, `${kind} tells its price: ${reply.text}`);
        if (!reply.headers['x-gateway-idempotent-replay']) told.set(reply.id, nanos);
      } catch (error) {
        if (error.code === 'ERR_ASSERTION') throw error;
        count('broken off');
        await sleep(10);
      }
    };
    const shown = async (isOwn) => {
      const { data } = (await (isOwn ? own : t).get('/v1/activity?limit=100')).is(200).json;
      data.forEach(({ id }) => mustHave[isOwn].add(id));
    };
    const until = performance.now() + seconds * 1000;
    for (; round < 6 || performance.now() < until; round++) {
      if (round > 0 && round % 8 === 0) {
        for (const scene of [t, own]) await gateway.grant(scene.workspace, GRANT);
        granted += GRANT * 1e9;
      }
      stop = false;
      const failures = [];
      const workers = Array.from({ length: 8 }, async () => {
        while (!stop) await one(number++).catch((error) => failures.push(error));
      });
      await sleep(700 + draw('load', round) * 1300);
      await Promise.all([shown(true), shown(false)]);
      await sleep(draw('moment', round) * 400);
      await gateway.crash();
      crashes += 1;
      await sleep(150);
      stop = true;
      await Promise.all(workers);
      if (failures.length > 0) throw failures[0];
    }
    // What was ordered is made and charged, crash or not.
    const { rows: ownRows, entries: ownEntries } = await booksAddUp(own, granted, { mustHave: [...mustHave.true], ms: HOLD_MS + 8000 });
    const { rows, entries } = await booksAddUp(t, granted, { mustHave: [...mustHave.false], ms: HOLD_MS + 30_000 });
    assert.ok(ownEntries.every(({ kind }) => ['fee', 'grant', 'loss'].includes(kind) || kind === 'charge'), 'own keys pay a fee');
    for (const row of ownRows) assert.ok(row.cost_nanos === 0 || (row.paid_by === 'byok' && row.fee), JSON.stringify(row));
    for (const row of [...rows, ...ownRows]) {
      if (told.has(row.id)) assert.equal(row.cost_nanos, told.get(row.id), `the answer of ${row.id} told another cost: ${JSON.stringify(row)}`);
      assert.ok(row.cost_nanos <= Math.max(row.held_nanos, 0), `no more than was held: ${JSON.stringify(row)}`);
    }
    // One name: one answer, one charge.
    const charged = new Map();
    for (const row of rows) if (/^[if]\d/.test(row.user ?? '') && row.cost_nanos > 0) charged.set(row.user, [...(charged.get(row.user) ?? []), row.id]);
    for (const [name, said] of answers) assert.equal(said.size, 1, `${name} was answered with ${[...said].join(' and ')}`);
    for (const [name, ids] of charged) {

      assert.equal(ids.length, 1, `${name} was charged ${ids.length} times: ${ids}`);
    }
    // Jobs: what a host made is charged once and for what it costs.
    const jobs = rows.filter(({ dialect, ending }) => dialect === 'video' && ending === 'finished');
    assert.ok(jobs.every(({ cost_nanos }) => cost_nanos === FILM_NANOS), JSON.stringify(jobs.map(({ cost_nanos }) => cost_nanos)));
    const perJob = new Set(films.jobs.map(({ body }) => body.prompt));
    assert.ok(jobs.length <= perJob.size, `${jobs.length} films were charged, ${perJob.size} were ordered`);
    const endings = {};
    for (const { ending } of [...rows, ...ownRows]) endings[ending] = (endings[ending] ?? 0) + 1;
    context.diagnostic(`${number} requests, ${crashes} crashes, ${rows.length + ownRows.length} rows ${JSON.stringify(endings)}, losses ${entries.filter(({ kind }) => kind === 'loss').length}`);
    context.diagnostic(JSON.stringify(counts));
    assert.ok(mustHave.true.size + mustHave.false.size > 50 && (endings.finished ?? 0) > 100, JSON.stringify(endings));
    for (const kind of Object.keys(KINDS)) assert.ok(Object.keys(counts).some((key) => key === `${kind}: 200`) || kind === 'given up', `${kind} was never served: ${JSON.stringify(counts)}`);
  });
});
