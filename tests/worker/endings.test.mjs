// The fault matrix: every ending of the README's table × every text family × plain and streamed. What is charged is what the table
// says, and answer, lookup, list, ledger and balance say one number.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { nanosOf } from './support/client.mjs';
import { startGateway } from './support/harness.mjs';
import { FAMILIES, TEXT, authOf, familySecrets, startFamilies } from './support/families.mjs';
import { eventually, sleep } from './support/wait.mjs';

const prices = { input_tokens: '1', cache_read_tokens: '0.5', output_tokens: '2' };
/** 7 fresh, 4 cached, 7 out. */
const COST = 7 * 1000 + 4 * 500 + 7 * 2000;
const families = Object.keys(FAMILIES);
const model = (family) => `test/m-${family}`;
let upstream, gateway;

/** The cost that an answer names, plain (in its header and its body) or streamed; undefined where it names none. */
function told(reply, stream) {
  const [body, header] = [/"cost":\s*(-?[\d.eE+-]+)/.exec(reply.text)?.[1], reply.headers['x-gateway-cost']];
  if (!stream && body !== undefined) assert.equal(nanosOf(body), nanosOf(header), 'body and header name one cost');
  const named = stream ? body : header;
  return named === undefined ? undefined : nanosOf(named);
}
/** Where an answer without a word and a reason has no end mark either: streamed it cannot be told from one that was cut. */
const NO_MARK = /gemini|cohere|watsonx/;
/** Where being done is the reason, so that an answer never lacks one. */
const ALWAYS_REASON = /responses/;
/** Where nothing is ever refused without a word. */
const NEVER_REFUSED = /cohere/;

/** Endings by what is asked for: what the client does, and what must be in the row. */
const ENDINGS = {
  finished: {
    prompt: 'say hello',
    async run(call, stream) {
      const reply = (await call.reply).is(200);
      assert.equal(told(reply, stream), COST);
      return reply;
    },
    holds: (row) => row.ending === 'finished' && row.cost_nanos === COST && !row.is_estimated,
  },
  'finished, usage not reported': {
    prompt: 'tell no usage',
    run: async (call) => (await call.reply).is(200),
    holds: (row) => row.ending === 'finished' && row.is_estimated && row.cost_nanos > 0 && row.cost_nanos <= row.held_nanos,
  },
  'refused before any output': {
    prompt: 'be refused',
    isTried: (family) => !NEVER_REFUSED.test(family),
    async run(call, stream) {
      const reply = (await call.reply).is(200);
      assert.equal(told(reply, stream), 0, reply.text);
      return reply;
    },
    holds: (row) => row.ending === 'empty' && row.cost_nanos === 0 && row.finish_reason === 'content_filter' && row.usage.input_tokens + row.usage.cache_read_tokens === 11,
  },
  'no output and no reason': {
    prompt: 'say nothing',
    isTried: (family) => !ALWAYS_REASON.test(family),
    async run(call, stream, family) {
      const reply = await call.reply;
      if (stream && NO_MARK.test(family)) return reply.fails('provider_error');
      assert.equal(told(reply.is(200), stream), 0, reply.text);
      return reply;
    },
    holds: (row, stream, family) => row.ending === (stream && NO_MARK.test(family) ? 'attempts_failed' : 'empty') && row.cost_nanos === 0,
  },
  'every attempt failed': {
    prompt: 'fail with 429',
    async run(call) {
      (await call.reply).fails('provider_busy');
    },
    holds: (row) => row.ending === 'attempts_failed' && row.cost_nanos === 0,
  },
  'the provider broke off': {
    prompt: 'cut in the middle',
    async run(call, stream) {
      const reply = await call.reply;
      if (stream) assert.ok(!reply.text.includes('[DONE]') || reply.text.includes('"error"'), reply.text.slice(-300));
      else assert.ok(reply.status >= 500, `${reply.status} ${reply.text}`);
    },
    holds: (row, stream) => row.ending === (stream ? 'upstream_failed' : 'attempts_failed') && row.cost_nanos === 0,
  },
  'the client left': {
    prompt: 'hang in the middle',
    async run(call, stream, family) {
      if (stream) await call.until(TEXT[0].trim());
      else await eventually(() => JSON.stringify(upstream.asked.get(family)?.body ?? '').includes('hang in the middle'), 'the provider was asked');
      await sleep(50);
      call.reset();
    },
    // Gemini says with every piece what it used so far: then that is charged, and nothing is estimated.
    holds: (row, stream, family) => row.ending === 'client_left' && row.cost_nanos > 0 && row.cost_nanos <= row.held_nanos && row.is_estimated === !(stream && family.includes('gemini')),
  },
};

const start = (vars) => startGateway({
  providers: ['p1'], scenes: 1, vars, secrets: familySecrets(upstream.url),
  extra: {
    models: families.map((family) => ({ id: model(family) })),
    providers: families.map((family) => ({
      id: `f-${family}`, base_url: `${upstream.url}/${family}`, families: [family], ...authOf(family, upstream.url),
      offers: [{ model: model(family), upstream: FAMILIES[family].auth ? 'up:0' : 'up', prices, context: 32768, max_output: 4096 }],
    })),
  },
});

describe('Endings', { timeout: 180_000 }, () => {
  before(async () => {
    upstream = await startFamilies();
    gateway = await start({});
  });
  after(async () => {
    await gateway?.stop();
    await upstream?.close();
  });

  for (const family of families) {
    for (const stream of [false, true]) {
      test(`${family}, ${stream ? 'streamed' : 'plain'}: each ending costs what the table says, everywhere`, async () => {
        const workspace = await gateway.newWorkspace({ dollars: '1' });
        const { key } = await gateway.newKey(workspace);
        upstream.asked.delete(family);
        const get = async (route) => (await gateway.call('GET', route, { key })).is(200).json;
        let spent = 0;
        for (const [ending, { prompt, run, holds, isTried = () => true }] of Object.entries(ENDINGS)) {
          if (!isTried(family)) continue;
          const body = { model: model(family), max_tokens: 500, messages: [{ role: 'user', content: prompt }], ...(stream ? { stream, usage: { include: true } } : {}) };
          const before = (await get('/v1/activity?limit=1')).data[0]?.id;
          const reply = await run(gateway.open('POST', '/v1/chat/completions', { key, body }), stream, family);
          const listed = await eventually(async () => {
            const [row] = (await get('/v1/activity?limit=1')).data;
            return row && row.id !== before && row;
          }, `the row of ${ending}`);
          assert.ok(holds(listed, stream, family), `${ending}: ${JSON.stringify(listed)}`);
          const named = reply?.status === 200 ? told(reply, stream) : undefined;
          assert.ok(named === undefined || named === listed.cost_nanos, `${ending}: the answer says ${named}, the row ${JSON.stringify(listed)}`);
          assert.deepEqual(await get(`/v1/generation?id=${listed.id}`), listed, 'lookup and list are one');
          const { entries, balance } = await gateway.ledger(workspace);
          const own = entries.filter(({ id }) => id === listed.id);
          spent += listed.cost_nanos;
          assert.deepEqual([own.length, Math.abs(own[0].nanos), own[0].kind], [1, listed.cost_nanos, 'charge'], `${ending}: ${JSON.stringify(own)}`);
          assert.equal(balance, 1e9 - spent, ending);
        }
        const books = (await gateway.admin('POST', `/workspaces/${workspace}/reconcile`)).is(200).json;
        assert.deepEqual([books.agrees, books.activity_nanos], [true, spent], JSON.stringify(books));
      });
    }
  }
});

// A hold that runs out while nobody says a word: a time far shorter than the request's own stands for an isolate that died.
describe('Endings that nobody tells of', { timeout: 120_000, concurrency: true }, () => {
  before(async () => {
    upstream = await startFamilies();
    gateway = await start({ HOLD_MS: 1500 });
  });
  after(async () => {
    await gateway?.stop();
    await upstream?.close();
  });

  for (const family of families) {
    for (const stream of [false, true]) {
      test(`${family}, ${stream ? 'streamed' : 'plain'}: a hold that ran out costs nothing, and late news is the gateway's loss`, async () => {
        const workspace = await gateway.newWorkspace({ dollars: '1' });
        const { key } = await gateway.newKey(workspace);
        const get = async (route) => (await gateway.call('GET', route, { key })).is(200).json;
        const body = { model: model(family), max_tokens: 500, messages: [{ role: 'user', content: 'hang in the middle' }], ...(stream ? { stream } : {}) };
        const call = gateway.open('POST', '/v1/chat/completions', { key, body });
        const rowOf = async () => (await get('/v1/activity?limit=5')).data;
        const [row] = await eventually(async () => {
          const rows = await rowOf();
          return rows.length > 0 && rows;
        }, 'the row of the hold that ran out', { ms: 15_000, pause: 100 });
        assert.deepEqual([row.ending, row.cost_nanos, row.is_estimated ?? false], ['expired', 0, false], JSON.stringify(row));
        assert.ok(row.held_nanos > 0);
        call.reset();
        const own = async () => (await gateway.ledger(workspace)).entries.filter(({ id }) => id === row.id);
        const late = await eventually(async () => {
          const entries = await own();
          return entries.length === 2 && entries;
        }, 'what comes too late is in the books', { ms: 15_000, pause: 100 });
        assert.deepEqual(late.map(({ kind, nanos }) => [kind, Math.abs(nanos)]), [['loss', 0], ['charge', 0]]);
        assert.ok(late[0].lost > 0, JSON.stringify(late));
        assert.deepEqual(await get(`/v1/generation?id=${row.id}`), row, 'lookup and list are one, and late news changes neither');
        assert.equal((await rowOf()).length, 1);
        const books = (await gateway.admin('POST', `/workspaces/${workspace}/reconcile`)).is(200).json;
        assert.deepEqual([books.agrees, books.activity_nanos, books.balance_nanos], [true, 0, 1e9], JSON.stringify(books));
      });
    }
  }
});
