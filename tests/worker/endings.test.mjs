// The fault matrix: every ending a request can have with a provider × every text family × plain and streamed. What is charged is
// what the table of endings says, and answer, lookup, list, ledger and balance say one number.
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

/** The cost that an answer names, plain or streamed. */
const told = (reply, stream) => nanosOf(stream ? /"cost":\s*(-?[\d.eE+-]+)/.exec(reply.text)?.[1] : reply.headers['x-gateway-cost']);

/** Endings by what is asked for: what the client does, and what must be in the row. */
const ENDINGS = {
  finished: {
    prompt: 'say hello',
    async run(call, stream) {
      const reply = (await call.reply).is(200);
      assert.equal(told(reply, stream), COST);
    },
    holds: (row) => row.ending === 'finished' && row.cost_nanos === COST && !row.is_estimated,
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

describe('Endings', { timeout: 180_000 }, () => {
  before(async () => {
    upstream = await startFamilies();
    gateway = await startGateway({
      providers: ['p1'], scenes: 1, secrets: familySecrets(upstream.url),
      extra: {
        models: families.map((family) => ({ id: model(family) })),
        providers: families.map((family) => ({
          id: `f-${family}`, base_url: `${upstream.url}/${family}`, families: [family], ...authOf(family),
          offers: [{ model: model(family), upstream: FAMILIES[family].auth ? 'up:0' : 'up', prices, context: 32768, max_output: 4096 }],
        })),
      },
    });
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
        for (const [ending, { prompt, run, holds }] of Object.entries(ENDINGS)) {
          const body = { model: model(family), max_tokens: 500, messages: [{ role: 'user', content: prompt }], ...(stream ? { stream, usage: { include: true } } : {}) };
          const before = (await get('/v1/activity?limit=1')).data[0]?.id;
          await run(gateway.open('POST', '/v1/chat/completions', { key, body }), stream, family);
          const listed = await eventually(async () => {
            const [row] = (await get('/v1/activity?limit=1')).data;
            return row && row.id !== before && row;
          }, `the row of ${ending}`);
          assert.ok(holds(listed, stream, family), `${ending}: ${JSON.stringify(listed)}`);
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
