// Money: exact to the nano-dollar, the same everywhere, and never more than there is.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { costOf, nanosOf } from './support/client.mjs';
import { PRICES, startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';
import { eventually, sleep } from './support/wait.mjs';

const RICH = {
  input_tokens: '1.25', output_tokens: '10.000000001', cache_read_tokens: '0.125', cache_write_tokens: '1.5625', reasoning_tokens: '12', input_audio_tokens: '40',
  output_audio_tokens: '80', requests: '0.005',
};
const STEPPED = { input_tokens: '1', output_tokens: '2' };
/** Usage as providers report it, and as it is charged. */
const USAGES = [
  [up.usage(1, 1), { input_tokens: 1, output_tokens: 1 }],
  [up.usage(0, 3), { output_tokens: 3 }],
  [up.usage(12_345, 678), { input_tokens: 12_345, output_tokens: 678 }],
  [up.usage(1000, 10, { prompt_tokens_details: { cached_tokens: 900 } }), { input_tokens: 100, cache_read_tokens: 900, output_tokens: 10 }],
  [up.usage(1000, 10, { prompt_tokens_details: { cached_tokens: 300, cache_write_tokens: 500 } }), { input_tokens: 200, cache_read_tokens: 300, cache_write_tokens: 500, output_tokens: 10 }],
  [up.usage(77, 333, { completion_tokens_details: { reasoning_tokens: 300 } }), { input_tokens: 77, output_tokens: 33, reasoning_tokens: 300 }],
  [up.usage(77, 50, { prompt_tokens_details: { audio_tokens: 70 }, completion_tokens_details: { audio_tokens: 40 } }), { input_tokens: 7, input_audio_tokens: 70, output_tokens: 10, output_audio_tokens: 40 }],
];
let gateway;

/** The cost as it stands in a text of JSON: a number that must not be rounded by parsing. */
const costIn = (text) => nanosOf(/"cost":\s*(-?[\d.eE+-]+)/.exec(text)?.[1]);

describe('Money', { concurrency: 3, timeout: 120_000 }, () => {
  before(async () => {
    gateway = await startGateway({
      extra: {
        models: ['rich', 'stepped', 'terms', 'free', 'cheap'].map((name) => ({ id: `test/${name}` })),
        offers: {
          p1: [
            { model: 'test/rich', prices: RICH, context: 1_000_000 },
            { model: 'test/stepped', prices: STEPPED, context: 1_000_000, rules: [
              { when: { input_tokens_over: 1000 }, prices: { input_tokens: '3', output_tokens: '5' } },
              { when: { service_tier: 'priority' }, multiplier: '1.75' },
            ] },
            { model: 'test/terms', prices: { ...STEPPED, requests: '0.005' }, rules: [
              { when: { search_context_size: 'high' }, prices: { requests: '0.012' } },
              { when: { speed: 'fast' }, multiplier: '2' },
            ] },
            { model: 'test/free', prices: {}, free: true },
            { model: 'test/cheap', prices: { input_tokens: '0.000000001', output_tokens: '0.000000001' } },
          ],
        },
      },
    });
  });
  after(() => gateway?.stop());

  test('the cost is usage times prices, rounded up once to a nano-dollar, and one amount everywhere', async () => {
    const t = await gateway.scene({ model: 'test/rich', at: ['p1'], dollars: '100' });
    let spent = 0;
    for (const [usage, quantities] of USAGES) {
      const expected = costOf({ ...quantities, requests: 1 }, RICH);
      t.p1.does(up.answer({ usage }));
      const plain = (await t.chat()).is(200);
      const stream = (await t.stream({ usage: { include: true } })).is(200);
      const what = JSON.stringify(usage);
      assert.equal(nanosOf(plain.headers['x-gateway-cost']), expected, `the header for ${what}`);
      assert.equal(costIn(plain.text), expected, `the body for ${what}`);
      assert.equal(costIn(stream.text), expected, `the stream for ${what}`);
      for (const reply of [plain, stream]) {
        const row = await t.row(reply.id);
        assert.equal(row.cost_nanos, expected, `the row for ${what}`);
        assert.equal(costIn(JSON.stringify(row)), expected);
        assert.deepEqual(row.usage, quantities);
        assert.equal(row.is_estimated, false);
        const recomputed = row.lines.reduce((sum, { quantity, price }) => sum + BigInt(quantity) * BigInt(price), 0n);
        assert.equal(Number((recomputed + 999_999n) / 1_000_000n), expected, `the receipt recomputed: ${JSON.stringify(row.lines)}`);
        const listed = (await t.activity()).find(({ id }) => id === reply.id);
        assert.deepEqual(listed, row, 'the list shows the same row');
        spent += expected;
      }
      const credits = await t.settled();
      assert.equal(credits.balance_nanos, 100e9 - spent, 'the balance went down by exactly the sum');
      assert.equal(nanosOf(credits.balance), credits.balance_nanos);
      assert.equal(credits.available_nanos, credits.balance_nanos);
    }
    const { balance, entries } = await t.ledger();
    assert.equal(balance, 100e9 - spent);
    assert.equal(entries.filter((entry) => entry.kind === 'charge').length, 2 * USAGES.length);
  });

  test('rules of the price card apply, and the row says which', async () => {
    const t = await gateway.scene({ model: 'test/stepped', at: ['p1'] });
    for (const [usage, tier, expected] of [
      [up.usage(1000, 10), undefined, 1000 * 1000 + 10 * 2000],
      [up.usage(1001, 10), undefined, 1001 * 3000 + 10 * 5000],
      [up.usage(1000, 10), 'priority', 1000 * 1750 + 10 * 3500],
      [up.usage(1001, 10), 'priority', 1001 * 5250 + 10 * 8750],
    ]) {
      t.p1.does(up.answer({ usage, ...(tier ? { service_tier: tier } : {}) }));
      const reply = (await t.chat(tier ? { service_tier: tier } : {})).is(200);
      const row = await t.row(reply.id);
      assert.equal(row.cost_nanos, expected, `${JSON.stringify(usage)} ${tier}: ${JSON.stringify(row)}`);
      assert.equal(nanosOf(reply.headers['x-gateway-cost']), expected);
    }
    // A stream too says what the tier costs that served, in every dialect.
    const events = (reply) => reply.events.filter((event) => event !== '[DONE]').map((event) => JSON.parse(event));
    for (const [asked, served, expected] of [['priority', 'default', 1000 * 1000 + 10 * 2000], ['auto', 'priority', 1000 * 1750 + 10 * 3500]]) {
      t.p1.does(up.answer({ usage: up.usage(1000, 10), service_tier: served }));
      const only = { provider: { only: ['p1'] }, service_tier: asked, stream: true };
      const chat = (await t.chat({ ...only, usage: { include: true } })).is(200);
      const responses = (await gateway.call('POST', '/v1/responses', { key: t.key, body: { ...only, model: t.model, input: 'x' } })).is(200);
      const told = [events(chat).findLast(({ usage }) => usage).usage, events(responses).findLast(({ response }) => response?.usage).response.usage];
      for (const [reply, usage] of [[chat, told[0]], [responses, told[1]]]) {
        const row = await t.row(reply.headers['x-request-id']);
        assert.deepEqual([Math.round(usage.cost * 1e9), row.cost_nanos], [expected, expected], `${asked} asked, ${served} served: ${JSON.stringify(usage)}`);
      }
    }
  });

  test('what a host says it did is charged, else what it was asked for; what it was not sent is not', async () => {
    const t = await gateway.scene({ model: 'test/terms', at: ['p1'] });
    const plain = 1000 * 1000 + 10 * 2000;
    const [usual, high] = [5_000_000, 12_000_000];
    for (const [asked, told, expected, basis] of [
      ['high', undefined, plain + high, { search_context_size: 'high' }],
      ['high', 'low', plain + usual, { search_context_size: 'low' }],
      [undefined, 'high', plain + high, { search_context_size: 'high' }],
    ]) {
      t.p1.does(up.answer({ usage: { ...up.usage(1000, 10), ...(told ? { search_context_size: told } : {}) } }));
      const body = asked ? { web_search_options: { search_context_size: asked } } : {};
      for (const reply of [(await t.chat(body)).is(200), (await t.stream({ ...body, usage: { include: true } })).is(200)]) {
        const row = await t.row(reply.id);
        assert.deepEqual([row.cost_nanos, costIn(reply.text)], [expected, expected], `${asked} asked, ${told} told: ${JSON.stringify(row)}`);
        assert.deepEqual(row.basis, { offer: row.basis.offer, ...basis });
      }
    }
    // The host speaks chat, so a speed of the messages dialect does not reach it.
    t.p1.does(up.answer({ usage: up.usage(1000, 10) }));
    const body = { model: t.model, max_tokens: 50, speed: 'fast', messages: [{ role: 'user', content: 'x' }], provider: { only: ['p1'] } };
    const reply = (await gateway.call('POST', '/v1/messages', { key: t.key, body })).is(200);
    assert.match(reply.headers['x-gateway-warning'], /speed/);
    const row = await t.row(reply.headers['x-request-id']);
    assert.deepEqual([row.cost_nanos, row.basis.speed], [plain + usual, undefined]);
  });

  test('what costs less than a nano-dollar costs one, and what is free costs nothing', async () => {
    const cheap = await gateway.scene({ model: 'test/cheap', at: ['p1'] });
    assert.equal((await cheap.row((await cheap.chat()).is(200).id)).cost_nanos, 1);
    const free = await gateway.scene({ model: 'test/free', at: ['p1'], dollars: '0' });
    const row = await free.row((await free.chat()).is(200).id);
    assert.deepEqual([row.cost_nanos, row.completion_tokens], [0, 7]);
  });

  test('who serves is who is paid: a plain answer and a stream cost the same at each provider', async () => {
    const t = await gateway.scene();
    for (const provider of ['p1', 'p2', 'p3']) {
      const expected = costOf({ input_tokens: 11, output_tokens: 7 }, PRICES[provider]);
      for (const way of [{}, { stream: true }, { stream: true, stream_options: { include_usage: true } }, { stream: true, usage: { include: true } }]) {
        const reply = (await t.chat({ ...way, provider: { only: [provider] } })).is(200);
        assert.equal((await t.row(reply.id)).cost_nanos, expected, `${provider} ${JSON.stringify(way)}`);
      }
    }
  });

  test('usage that nobody reported is estimated, flagged, and never zero', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const words = Array.from({ length: 40 }, (_, i) => `word${i} `);
    t.p1.does(up.answer({ words, usage: null }));
    const costs = new Map();
    for (const [way, body] of Object.entries({ plain: {}, native: { stream: true, stream_options: { include_usage: true } }, filtered: { stream: true } })) {
      const reply = (await t.chat(body)).is(200);
      const row = await t.row(reply.id);
      assert.deepEqual([row.ending, row.is_estimated], ['finished', true], `${way}: ${JSON.stringify(row)}`);
      assert.ok(row.prompt_tokens > 0 && row.completion_tokens > 0 && row.cost_nanos > 0, `${way}: ${JSON.stringify(row)}`);
      assert.ok(row.cost_nanos <= row.held_nanos);
      costs.set(way, row.completion_tokens);
    }
    assert.equal(costs.get('native'), costs.get('filtered'), 'the estimate does not depend on how the bytes were moved');
    const [balance, rows] = [(await t.settled()).balance_nanos, await t.activity()];
    assert.equal(balance, 10e9 - rows.reduce((sum, row) => sum + row.cost_nanos, 0));
  });

  test('usage beyond what was held takes what there is, and never more', async () => {
    const t = await gateway.scene({ at: ['p1'], dollars: '0.01' });
    t.p1.does(up.answer({ usage: up.usage(50_000_000, 50_000_000) }));
    const row = await t.row((await t.chat({ max_tokens: 10 })).is(200).id);
    const credits = await t.settled();
    assert.ok(credits.balance_nanos >= 0, JSON.stringify(credits));
    assert.equal(credits.balance_nanos, 10_000_000 - row.cost_nanos, `the row shows what was charged: ${JSON.stringify(row)}`);
    const { entries } = await t.ledger();
    assert.equal(entries.reduce((sum, entry) => sum + entry.nanos, 0), credits.balance_nanos, JSON.stringify(entries));
  });

  test('two hundred requests at once against a balance for twenty: twenty are served, the balance ends at zero', async () => {
    const t = await gateway.scene({ at: ['p1'], dollars: '0' });
    await gateway.grant(t.workspace, '1');
    const body = { max_tokens: 1000 };
    const first = await t.row((await t.chat(body)).is(200).id);
    const prompt = (first.held_nanos - 1000 * 2000) / 1000; // the prompt's upper bound, in tokens
    const balance = (await t.settled()).balance_nanos;
    // Leaves exactly twenty times what one request sets aside.
    const rest = balance - 20 * first.held_nanos;
    await gateway.grant(t.workspace, `-${(rest / 1e9).toFixed(9)}`);
    assert.equal((await t.credits()).available_nanos, 20 * first.held_nanos, 'the balance is for twenty');
    const open = up.gate();
    t.p1.does(up.after(open, up.answer({ usage: up.usage(prompt, 1000) })));
    const before = t.p1.requests.length;
    const calls = Array.from({ length: 200 }, (_, i) => t.open(i % 2 ? body : { ...body, x: 0 }));
    let refused = 0;
    for (const call of calls) call.reply.then((reply) => (refused += reply.status === 402), () => {});
    await eventually(() => refused >= 180, () => `180 are refused, so far ${refused}`, { ms: 20_000 });
    open.open();
    const replies = await Promise.all(calls.map((call) => call.reply));
    const served = replies.filter((reply) => reply.status === 200);
    assert.ok(served.length <= 20, `${served.length} were served`);
    assert.equal(t.p1.requests.length - before, served.length, 'the provider was asked for no more');
    for (const reply of replies) if (reply.status !== 200) reply.fails('insufficient_credits');
    const credits = await t.settled();
    assert.ok(credits.balance_nanos >= 0);
    const rows = await t.activity();
    assert.equal(rows.filter((row) => row.cost_nanos > 0).length, served.length + 1);
    assert.equal(credits.balance_nanos, 1e9 - rest - rows.reduce((sum, row) => sum + row.cost_nanos, 0));
  });

  test('two hundred at once that settle while others ask: what was charged and what is left add up', async () => {
    const t = await gateway.scene({ at: ['p1'], dollars: '0.05' });
    t.p1.does(async (exchange) => {
      await sleep(Math.random() * 50);
      await up.answer({ usage: up.usage(20 + Math.floor(Math.random() * 50), Math.floor(Math.random() * 1000)) })(exchange);
    });
    const replies = await Promise.all(Array.from({ length: 200 }, (_, i) => t.chat({ max_tokens: 1000, ...(i % 2 ? { stream: true } : {}) })));
    const served = replies.filter((reply) => reply.status === 200);
    for (const reply of replies) if (reply.status !== 200) reply.fails('insufficient_credits');
    assert.ok(served.length >= 20, `only ${served.length} were served`);
    const credits = await t.settled();
    const charged = (await t.activity()).reduce((sum, row) => sum + row.cost_nanos, 0);
    assert.equal(credits.balance_nanos, 50_000_000 - charged);
    assert.ok(credits.balance_nanos >= 0);
  });

  test('a grant counts once however often it is sent, and the ledger tells all', async () => {
    const workspace = await gateway.newWorkspace({ dollars: '0' });
    const send = () => gateway.admin('POST', `/workspaces/${workspace}/credits`, { amount: '7.000000001', reason: 'first', idempotency_key: 'one' });
    const replies = [await send(), ...(await Promise.all([send(), send(), send(), send()]))];
    for (const reply of replies) assert.ok([200, 201].includes(reply.status), `${reply.status} ${reply.text}`);
    assert.equal(new Set(replies.map((reply) => reply.json.entry.id)).size, 1, 'every answer is the first one\'s entry');
    await gateway.grant(workspace, '1', 'two');
    await gateway.grant(workspace, '-0.5', 'three');
    const { balance, entries } = await gateway.ledger(workspace, 2);
    assert.equal(balance, 7_500_000_001);
    assert.deepEqual(entries.map(({ nanos }) => nanos), [-500_000_000, 1_000_000_000, 7_000_000_001]);
    assert.deepEqual(entries.map((entry) => entry.balance), [7_500_000_001, 8_000_000_001, 7_000_000_001]);
  });

  test('a workspace that slept a while wakes up with all its credits', async () => {
    const t = await gateway.scene({ at: ['p1'], dollars: '0.2' });
    const row = await t.row((await t.chat({ max_tokens: 100 })).is(200).id);
    await t.settled();
    await sleep(14_000); // workerd puts an object to sleep after ten idle seconds
    const credits = await t.credits();
    assert.equal(credits.balance_nanos, 200_000_000 - row.cost_nanos);
    assert.equal(credits.available_nanos, credits.balance_nanos, `nothing was under way, so nothing is held: ${JSON.stringify(credits)}`);
    (await t.chat({ max_tokens: 100 })).is(200);
  });

  test('without max_tokens the output limit is lowered to what the credits cover, and the provider and the client are told', async () => {
    const t = await gateway.scene({ at: ['p1'], dollars: '0.003' });
    t.p1.does(up.hang);
    const call = t.open();
    const { body } = await t.p1.arrival();
    const limit = body.max_completion_tokens ?? body.max_tokens;
    assert.ok(limit > 1000 && limit < 1500, `the provider is asked for at most ${limit} tokens`);
    const held = (await t.credits()).held_nanos;
    assert.ok(held <= 3_000_000 && held >= limit * 2000, `${held} is held`);
    call.reset();
    await t.settled();
    t.p1.does(up.answer());
    for (const way of [{}, { stream: true }]) {
      const reply = (await t.chat(way)).is(200);
      assert.equal(Number(reply.headers['x-gateway-max-tokens']), t.p1.last.body.max_completion_tokens ?? t.p1.last.body.max_tokens);
    }
    assert.ok((await t.credits()).balance_nanos >= 0);
  });

  test('with credits enough nothing is lowered', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const reply = (await t.chat()).is(200);
    assert.equal(reply.headers['x-gateway-max-tokens'], undefined);
    assert.deepEqual([t.p1.last.body.max_tokens, t.p1.last.body.max_completion_tokens], [undefined, undefined]);
  });

  test('a stated max_tokens is never lowered: the answer is 402', async () => {
    const t = await gateway.scene({ at: ['p1'], dollars: '0.003' });
    for (const fields of [{ max_tokens: 4000 }, { max_completion_tokens: 4000 }, { max_tokens: 1000, n: 3 }]) (await t.chat(fields)).fails('insufficient_credits');
    (await t.chat({ max_tokens: 1000 })).is(200);
    const poor = await gateway.scene({ at: ['p1'], dollars: '0.0001' });
    (await poor.chat()).fails('insufficient_credits');
    assert.equal(poor.p1.requests.length, 0);
  });

  test('two output limits in one request are no way around the credits', async () => {
    const t = await gateway.scene({ at: ['p1'], dollars: '0.003' });
    const reply = await t.chat({ max_completion_tokens: 1, max_tokens: 4000 });
    if (reply.status === 402) return;
    reply.is(200);
    const { body } = t.p1.last;
    const most = Math.max(body.max_tokens ?? 0, body.max_completion_tokens ?? 0);
    const { held_nanos } = await t.row(reply.id);
    assert.ok(held_nanos >= most * 2000, `${held_nanos} was held although the provider may write ${most} tokens`);
  });

  test('a fallback that the credits do not cover is not asked', async () => {
    const t = await gateway.scene({ at: ['p1', 'p3'], dollars: '0.004' });
    t.p1.does(up.fail(500));
    const reply = await t.chat({ max_tokens: 1000 }); // p1 would cost 0.002, p3 0.006
    if (reply.status === 200) assert.fail(`p3 was paid with a balance that does not cover it: ${JSON.stringify(await t.row(reply.id))}`);
    assert.equal(t.p3.requests.length, 0, 'nobody is asked whom the credits do not cover');
    assert.equal((await t.settled()).balance_nanos, 4_000_000);
  });
});

describe('The way to D1', { timeout: 90_000 }, () => {
  before(async () => {
    gateway = await startGateway();
  });
  after(() => gateway?.stop());

  test('what happened reaches D1 within seconds', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const ids = [];
    for (const body of [{}, { stream: true }]) ids.push((await t.chat(body)).is(200).id);
    await inD1(ids);
    assert.deepEqual((await t.activity()).map(({ id }) => id).sort(), ids.sort(), 'no row is shown twice');
  });

  test('what happened while D1 failed reaches it when it is back, once', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    await gateway.d1('ALTER TABLE activity RENAME TO activity_gone');
    const ids = [];
    try {
      for (let i = 0; i < 3; i++) ids.push((await t.chat()).is(200).id);
      await sleep(3000);
      for (const id of ids) assert.equal((await t.row(id)).id, id, 'the row can be looked up all the same');
    } finally {
      await gateway.d1('ALTER TABLE activity_gone RENAME TO activity');
    }
    await inD1(ids, 30_000);
    assert.equal((await t.activity()).length, 3);
  });
});

/** Waits until D1 has one row for each id. */
async function inD1(ids, ms = 8000) {
  await eventually(async () => {
    const rows = await gateway.d1(`SELECT id FROM activity WHERE id IN (${ids.map(() => '?').join(',')})`, ...ids);
    assert.deepEqual(rows.map(({ id }) => id).sort(), [...ids].sort());
    return true;
  }, 'D1 has the rows', { ms, pause: 100 });
}
