// Several credentials of the gateway for one provider: spread over, rotated within a request, cooling down each by itself.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { providerKey, startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';
import { eventually } from './support/wait.mjs';

const SECOND = 'sk-second-credential';
const THIRD = 'sk-third-credential';
const KEYS = [providerKey('p1'), SECOND, THIRD].map((key) => `Bearer ${key}`);
let gateway;

const sent = (station) => station.requests.map(({ headers }) => headers.authorization);
/** A provider that answers by credential; the others get a good answer. */
const by = (answers) => (exchange) => (answers[exchange.headers.authorization] ?? up.answer())(exchange);

describe('A pool of credentials', { timeout: 90_000 }, () => {
  before(async () => {
    gateway = await startGateway({ providers: ['p1', 'p2'], secrets: { P1_KEY_2: SECOND, P1_KEY_7: THIRD } });
  });
  after(() => gateway?.stop());

  test('requests are spread over all of them, and every key serves', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    for (let i = 0; i < 30; i++) (await t.chat()).is(200);
    const counts = KEYS.map((key) => sent(t.p1).filter((one) => one === key).length);
    assert.equal(counts.reduce((sum, count) => sum + count), 30);
    assert.ok(counts.every((count) => count >= 2), JSON.stringify(counts));
  });

  for (const [what, status] of [['busy', 429], ['refused', 401]]) {
    test(`one that is ${what} leaves its place within the request, and is left out after that`, async () => {
      const t = await gateway.scene({ at: ['p1', 'p2'] });
      const bad = KEYS[1];
      t.p1.does(by({ [bad]: up.fail(status, {}, status === 429 ? { 'retry-after': '60' } : {}) }));
      const replies = [];
      for (let i = 0; i < 12; i++) replies.push((await t.chat({ stream: i % 2 === 1 })).is(200));
      assert.equal(t.p2.requests.length, 0, 'the other provider is not needed');
      const asked = sent(t.p1);
      assert.equal(asked.filter((key) => key === bad).length, 1, JSON.stringify(asked));
      const rotated = replies.find((reply) => reply.headers['x-gateway-attempts'] === '2');
      const row = await t.row(rotated.id);
      assert.deepEqual(row.attempts.map((attempt) => [attempt.provider, attempt.class, attempt.paid_by]), [['p1', status === 429 ? 'busy' : 'credential', 'credits'], ['p1', undefined, 'credits']]);
      assert.equal(row.attempts[0].slot, 2);
      assert.equal(row.cost_nanos, 11 * 1000 + 7 * 2000, 'and it is charged once');
      assert.ok(!JSON.stringify(row).includes('sk-'));
    });
  }

  test('all of them busy: the next provider, and the offer goes behind it', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    t.p1.does(up.fail(429, {}, { 'retry-after': '60' }));
    const first = (await t.chat()).is(200);
    assert.deepEqual([first.headers['x-gateway-provider'], first.headers['x-gateway-attempts']], ['p2', '4']);
    assert.deepEqual([...sent(t.p1)].sort(), [...KEYS].sort());
    assert.deepEqual([(await t.chat()).is(200).headers['x-gateway-attempts'], t.p1.requests.length], ['1', 3]);
  });

  test('a host that fails is not asked again with another credential', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    t.p1.does(up.fail(500));
    const reply = (await t.chat()).is(200);
    assert.deepEqual([reply.headers['x-gateway-provider'], reply.headers['x-gateway-attempts'], t.p1.requests.length], ['p2', '2', 1]);
  });

  test('a failing host that names a wait is left alone with every credential', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    t.p1.does(up.fail(503, {}, { 'retry-after': '60' }));
    const first = (await t.chat()).is(200);
    assert.deepEqual([first.headers['x-gateway-provider'], t.p1.requests.length], ['p2', 1]);
    t.p1.does(up.answer());
    // Each of these would begin at any of the three credentials.
    for (let i = 0; i < 12; i++) assert.equal((await t.chat()).is(200).headers['x-gateway-provider'], 'p2');
    assert.equal(t.p1.requests.length, 1);
  });

  test('a conversation keeps its credential', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    for (let i = 0; i < 6; i++) (await t.chat({ session_id: 'one' })).is(200);
    assert.equal(new Set(sent(t.p1)).size, 1);
  });

  test('work that is no text rotates as well', async () => {
    const other = await startGateway({
      providers: ['p1'], secrets: { P1_KEY_2: SECOND },
      extra: { models: [{ id: 'test/embed', kind: 'embedding' }], offers: { p1: [{ model: 'test/embed', kind: 'embedding', prices: { input_tokens: '1' } }] } },
    });
    try {
      const t = await other.scene({ model: 'test/embed', at: ['p1'] });
      const good = up.reply({ object: 'list', data: [{ object: 'embedding', index: 0, embedding: [0.5, 1] }], model: 'up', usage: { prompt_tokens: 3, total_tokens: 3 } });
      t.p1.does((exchange) => (exchange.headers.authorization === `Bearer ${SECOND}` ? up.fail(429, {}, { 'retry-after': '60' }) : good)(exchange));
      for (let i = 0; i < 8; i++) (await other.call('POST', '/v1/embeddings', { key: t.key, body: { model: 'test/embed', input: 'hello' } })).is(200);
      assert.equal(sent(t.p1).filter((key) => key === `Bearer ${SECOND}`).length, 1, JSON.stringify(sent(t.p1)));
    } finally {
      await other.stop();
    }
  });
});

// By itself: a crash kills the one workerd of this process.
describe('A pool that starts anew', { timeout: 60_000 }, () => {
  test('an isolate that starts anew leaves the credential alone that another one was told to', async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-pool-'));
    const other = await startGateway({ persist: folder, providers: ['p1'], scenes: 2, secrets: { P1_KEY_2: SECOND } });
    try {
      const t = await other.scene({ at: ['p1'] });
      t.p1.does(by({ [`Bearer ${SECOND}`]: up.fail(429, {}, { 'retry-after': '90' }) }));
      await eventually(async () => {
        (await t.chat()).is(200);
        return sent(t.p1).includes(`Bearer ${SECOND}`);
      }, 'the second credential is asked');
      const kv = await other.mf.getKVNamespace('KV');
      await eventually(async () => {
        (await t.chat()).is(200); // reports go with requests
        const keys = (await kv.list({ prefix: 'health/' })).keys;
        const texts = await Promise.all(keys.map(({ name }) => kv.get(name)));
        return texts.some((text) => JSON.parse(text)[1].some(([provider, , numbers]) => provider === 'p1' && numbers[12] === 2 && numbers[13] > Date.now() + 30_000));
      }, 'the wait is published', { ms: 20_000, pause: 500 });
      await other.crash();
      const before = t.p1.requests.length;
      for (let i = 0; i < 20; i++) (await t.chat()).is(200);
      assert.deepEqual([...new Set(sent(t.p1).slice(before))], [`Bearer ${providerKey('p1')}`]);
    } finally {
      await other.stop();
      fs.rmSync(folder, { recursive: true, force: true });
    }
  });
});
