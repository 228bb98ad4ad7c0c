// What a key, and all keys of a workspace together, may spend.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';

let gateway;
/** One request of the tests costs this: 11 tokens in and 7 out at p1's prices. */
const COST = 11 * 1000 + 7 * 2000;

describe('Budgets', { timeout: 60_000 }, () => {
  before(async () => {
    gateway = await startGateway({ providers: ['p1'] });
  });
  after(() => gateway?.stop());

  const scene = (budget) => gateway.scene({ at: ['p1'], key: { budget } });

  test('a key shows what it spent, what is left and when the budget starts anew', async () => {
    const t = await scene({ day: '1', month: 20, total: '100.5' });
    (await t.chat({ max_tokens: 10 })).is(200);
    await t.settled();
    const key = (await t.get('/v1/key')).is(200).json;
    assert.deepEqual(key.budget, { day: '1', week: null, month: '20', total: '100.5' });
    assert.deepEqual([key.requests, key.spend.day.spent_nanos, key.spend.week.spent_nanos, key.spend.total.spent_nanos], [1, COST, COST, COST]);
    assert.deepEqual([key.spend.day.remaining, key.spend.week.remaining], ['0.999975', null]);
    const midnight = new Date(); midnight.setUTCHours(24, 0, 0, 0);
    assert.equal(new Date(key.spend.day.resets_at).getTime(), midnight.getTime());
    assert.equal(key.spend.total.resets_at, null);
    assert.ok(Math.abs(Date.now() - new Date(key.last_used_at)) < 10_000);
  });

  for (const period of ['day', 'week', 'month', 'total']) {
    test(`the budget of a ${period}: when it is spent there is a 429, and nothing is sent`, async () => {
      // Enough for one answer of ten tokens in its worst case, and not for two.
      const t = await scene({ [period]: '0.00045' });
      (await t.chat({ max_tokens: 10 })).is(200);
      let replies = 1;
      let last;
      do { last = await t.chat({ max_tokens: 10 }); replies += 1; } while (last.status === 200 && replies < 50);
      last.fails('budget_exceeded', { retryAfter: true });
      assert.equal(t.p1.requests.length, replies - 1);
      const { spend } = (await t.get('/v1/key')).is(200).json;
      assert.ok(spend[period].spent_nanos <= 450_000 && spend[period].spent_nanos === COST * (replies - 1));
      const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: t.key, maxRetries: 0 });
      await assert.rejects(client.chat.completions.create({ model: t.model, max_tokens: 1000, messages: [{ role: 'user', content: 'x' }] }), OpenAI.RateLimitError);
      // Raised, it serves again at once.
      (await gateway.admin('PATCH', `/workspaces/${t.workspace}/keys/${t.keyId}`, { budget: { [period]: '1' } })).is(200);
      (await t.chat({ max_tokens: 10 })).is(200);
    });
  }

  test('side by side: what is held counts, so a hundred requests cannot pass it together', async () => {
    const t = await scene({ day: '0.002' });
    t.p1.does(up.reply(up.completion(), { delay: 50 }));
    const replies = await Promise.all(Array.from({ length: 100 }, () => t.chat({ max_tokens: 100 })));
    const served = replies.filter(({ status }) => status === 200).length;
    assert.ok(served > 0 && served < 100, `${served}`);
    for (const reply of replies) if (reply.status !== 200) reply.fails('budget_exceeded', { retryAfter: true });
    await t.settled();
    const { spend } = (await t.get('/v1/key')).is(200).json;
    assert.equal(spend.day.spent_nanos, served * COST);
    assert.ok(spend.day.spent_nanos <= 2_000_000);
  });

  test('a limit that the client did not state is lowered to what the budget covers', async () => {
    const t = await scene({ day: '0.002' });
    const reply = (await t.chat()).is(200);
    const limit = Number(reply.headers['x-gateway-max-tokens']);
    assert.ok(limit > 0 && limit < 4096, `${limit}`);
    assert.equal(t.p1.requests[0].body.max_tokens ?? t.p1.requests[0].body.max_completion_tokens, limit);
  });

  test('the workspace has a budget over all its keys, and both survive a crash', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    (await gateway.admin('PATCH', `/workspaces/${t.workspace}`, { budget: { total: '0.0004' } })).is(200);
    const { key } = await gateway.newKey(t.workspace);
    (await t.chat({ max_tokens: 10 })).is(200);
    (await t.chat({ max_tokens: 10 }, { key })).is(200);
    await t.settled();
    await gateway.crash();
    let last;
    for (let i = 0; i < 30 && (last = await t.chat({ max_tokens: 10 }, i % 2 ? { key } : {})).status === 200; i++);
    last.fails('budget_exceeded');
    const charges = (await t.ledger()).entries.filter(({ kind }) => kind === 'charge');
    assert.ok(charges.reduce((sum, { nanos }) => sum - nanos, 0) <= 400_000);
  });

  test('a budget that is none is a 400 that names it', async () => {
    const workspace = await gateway.newWorkspace();
    for (const [budget, param] of [[{ day: 'much' }, 'budget.day'], [{ total: '-1' }, 'budget.total'], [{ month: true }, 'budget.month'], [{ hour: '1' }, 'budget.hour']]) {
      const error = (await gateway.admin('POST', `/workspaces/${workspace}/keys`, { name: 'k', budget })).fails('invalid_input');
      assert.equal(error.param, param);
    }
  });
});
