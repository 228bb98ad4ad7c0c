// Snapshots of the catalog: published, rolled back and published again while requests run; announced prices; broken snapshots.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { compileCatalog, startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';
import { eventually } from './support/wait.mjs';

let gateway;

const day = 24 * 3600 * 1000;
const moment = (ms) => new Date(Date.now() + ms).toISOString();

/** A catalog with one model at the scripted provider, at `input` dollars for a million tokens of prompt. */
const priced = (input, offer = {}) => compileCatalog({
  providers: [{ id: 'p1', base_url: gateway.upstreams.p1.url, key_env: 'P1_KEY', offers: [
    { model: 'test/moving', upstream: 'moving', context: 32768, max_output: 4096, prices: { input_tokens: input, output_tokens: '2' }, as_of: '2026-11-25', ...offer },
  ] }],
  models: [{ id: 'test/moving' }],
});
const rollTo = (snapshot) => gateway.admin('POST', '/catalog', { snapshot });

describe('Publishing the catalog', { timeout: 60_000 }, () => {
  before(async () => {
    gateway = await startGateway({
      vars: { CATALOG_REFRESH_MS: 100 },
      providers: ['p1'],
      extra: { models: [{ id: 'test/announced' }], offers: { p1: [
        { model: 'test/announced', upstream: 'announced', prices: { input_tokens: '1', output_tokens: '1' },
          changes: [{ from: moment(-2 * day), prices: { input_tokens: '5', output_tokens: '5' } }, { from: moment(-day), prices: { input_tokens: '7', output_tokens: '9' } }, { from: moment(day), prices: { input_tokens: '100', output_tokens: '100' } }] },
      ] } },
    });
  });
  after(() => gateway?.stop());

  test('an announced price is charged from its moment on, the latest that has come and nothing that is ahead', async () => {
    const announced = await gateway.scene({ at: ['p1'], model: 'test/announced' });
    const paid = async (t) => (await t.row((await t.chat()).is(200).headers['x-request-id'])).cost_nanos;
    assert.equal(await paid(announced), 11 * 7000 + 7 * 9000);
    const [offer] = (await gateway.call('GET', '/v1/models/test/announced/endpoints')).is(200).json.data;
    assert.equal(offer.price_changes.length, 3);
    assert.equal(offer.price_changes[2].pricing.input_tokens?.usd ?? offer.price_changes[2].pricing.prompt, '100');
  });

  test('a price changes at its moment also where the model is already known', async () => {
    await gateway.publish(await priced('1', { changes: [{ from: moment(2500), prices: { input_tokens: '3', output_tokens: '3' } }] }));
    const t = await gateway.scene({ at: ['p1'], model: 'test/moving' });
    await eventually(async () => (await t.chat()).status === 200, 'the snapshot is in use');
    const [before, dearer] = [11 * 1000 + 7 * 2000, 18 * 3000];
    const seen = [];
    while (seen.at(-1) !== dearer && seen.length < 100) {
      seen.push((await t.row((await t.chat()).is(200).headers['x-request-id'])).cost_nanos);
      await sleep(50);
    }
    assert.deepEqual([...new Set(seen)], [before, dearer]);
  });

  test('published, rolled back and published again under load: no request fails, and each receipt names what priced it', async () => {
    const [cheap, dear] = [await priced('1'), await priced('10')];
    await gateway.publish(cheap);
    const t = await gateway.scene({ at: ['p1'], model: 'test/moving' });
    const inUse = async () => (await gateway.call('GET', '/v1/health')).json.catalog;
    await eventually(async () => (await inUse()) === cheap.snapshot.id, 'the first snapshot is in use');
    let isOver = false;
    const replies = [];
    const client = async (stream) => {
      while (!isOver) {
        replies.push(stream ? await t.stream({ usage: { include: true } }) : await t.chat());
        await sleep(5);
      }
    };
    const clients = [client(false), client(true), client(false)];
    await sleep(300);
    await gateway.publish(dear);
    await sleep(500);
    (await rollTo(cheap.snapshot.id)).is(200);
    await sleep(500);
    await gateway.publish(dear);
    await sleep(500);
    isOver = true;
    await Promise.all(clients);
    assert.deepEqual([...new Set(replies.map((reply) => reply.status))], [200]);
    await t.settled();
    const rows = await t.activity();
    const expected = { [cheap.snapshot.id]: 11 * 1000 + 7 * 2000, [dear.snapshot.id]: 11 * 10_000 + 7 * 2000 };
    const order = [];
    for (const row of rows.reverse()) {
      assert.equal(row.cost_nanos, expected[row.snapshot], JSON.stringify(row));
      if (order.at(-1) !== (row.snapshot)) order.push(row.snapshot);
    }
    assert.ok(order.filter((id) => id === dear.snapshot.id).length >= 2 && order.filter((id) => id === cheap.snapshot.id).length >= 2, `both were in use twice: ${order}`);
    assert.ok(rows.length >= replies.length);
  });

  test('a snapshot that is not whole is never put in use', async () => {
    const broken = await priced('2');
    const kv = await gateway.mf.getKVNamespace('KV');
    const manifest = `catalog/${broken.snapshot.id}/manifest`;
    for (const { key, value } of broken.pairs) if (key !== manifest) await kv.put(key, value);
    const before = (await gateway.call('GET', '/v1/health')).is(200).json.catalog;
    (await rollTo(broken.snapshot.id)).fails('not_found');
    (await rollTo('0000000000000000')).fails('not_found');
    assert.equal((await gateway.call('GET', '/v1/health')).is(200).json.catalog, before);
    // The pointer itself may be moved by hand: an isolate looks at the manifest before it follows.
    await kv.put('catalog/current', JSON.stringify({ snapshot: broken.snapshot.id }));
    await sleep(400);
    const t = await gateway.scene({ at: ['p1'], model: 'test/moving' });
    for (let i = 0; i < 5; i++) {
      (await t.chat()).is(200);
      await sleep(60);
    }
    assert.equal((await gateway.call('GET', '/v1/health')).is(200).json.catalog, before);
    await kv.put('catalog/current', 'not json');
    await sleep(400);
    (await t.chat()).is(200);
    await sleep(60);
    (await t.chat()).is(200);
  });
});
