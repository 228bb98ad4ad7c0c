// A job outlives the process: workerd is killed (SIGKILL) twice while a host is at work, and once at each step. It ends once and
// is charged once, and who waits for it sees the end within a second. JOBS_REAL=1: two minutes at real times.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import { SECRETS, provider, startHosts } from './support/jobs.mjs';
import { eventually, sleep } from './support/wait.mjs';

const IS_REAL = process.env.JOBS_REAL === '1';
/** What a host takes, and the times of the gateway: two minutes at default times, or a twentieth of all that. */
const TAKES_MS = IS_REAL ? 120_000 : 6_000;
const TIMES = IS_REAL ? {} : { JOB_POLL_MS: 100, JOB_POLL_MAX_MS: 500, JOB_WATCHED_POLL_MS: 100 };
const PRICE = 500_000_000;
let folder, hosts, gateway, t;

describe('A job and a process that dies', { timeout: IS_REAL ? 600_000 : 150_000 }, () => {
  before(async () => {
    hosts = await startHosts();
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-jobs-'));
    const offers = [{ model: 'test/film', prices: { output_video_seconds: '0.1' } }];
    gateway = await startGateway({
      providers: ['p1'], scenes: 2, persist: folder, vars: { ...TIMES, ALLOW_LOOPBACK: 1, HOLD_MS: 4000, TOTAL_TIMEOUT_MS: 3000 }, secrets: SECRETS,
      extra: { models: [{ id: 'test/film' }], providers: [provider(hosts.url, 'luma', 'host', offers)] },
    });
    t = await gateway.scene({ model: 'test/film', at: [], dollars: '10' });
  });
  after(async () => {
    await gateway?.stop();
    await hosts?.close();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  const order = (prompt = 'a cat') => gateway.open('POST', '/v1/generations', { key: t.key, body: { model: 'test/film', input: { prompt } } });
  const ask = (id, wait) => gateway.open('GET', `/v1/generations/${id}?wait=${wait}`, { key: t.key }).reply;
  /** Waits like a client: again and again, also when its connection dies. */
  const ended = async (id) => {
    for (;;) {
      try {
        const reply = await ask(id, 60);
        if (reply.status === 200 && !['queued', 'running'].includes(reply.json.status)) return { job: reply.json, at: performance.now() };
      } catch {
        await sleep(20);
      }
    }
  };
  /** One charge, one row, and the books add up. */
  const isBookedOnce = async (id, nanos, ending = 'finished') => {
    const row = await t.row(id);
    assert.deepEqual([row.cost_nanos, row.ending], [nanos, ending], JSON.stringify(row));
    const { balance, entries } = await t.ledger();
    assert.equal(entries.filter((entry) => entry.id === id).length, 1, JSON.stringify(entries));
    assert.equal(entries.reduce((sum, entry) => sum + entry.nanos, 0), balance);
    await eventually(async () => (await gateway.d1('SELECT id FROM activity WHERE id = ?', id)).length === 1, 'its row is in D1', { ms: 10_000 });
  };

  test(`a host takes ${TAKES_MS / 1000} seconds, and workerd is killed twice meanwhile`, async () => {
    hosts.takesMs = TAKES_MS;
    const { id } = (await order().reply).is(200).json;
    const upstream = hosts.jobs.at(-1);
    const watched = ended(id);
    for (const share of [0.25, 0.6]) {
      await sleep(Math.max(0, upstream.at + TAKES_MS * share - performance.now()));
      await gateway.crash();
      const held = (await t.credits()).held_nanos;
      assert.ok(held >= PRICE, `${held} held after a crash`);
    }
    const { job, at } = await watched;
    assert.equal(job.status, 'completed', JSON.stringify(job));
    const late = at - upstream.at - TAKES_MS;
    assert.ok(late < 1000, `seen ${Math.round(late)} ms after the end`);
    process.stdout.write(`# seen ${Math.round(late)} ms after the end\n`);
    assert.equal(hosts.submits, 1);
    await isBookedOnce(id, PRICE);
    await t.settled(10_000);
  });

  test('a crash while a host takes it: it is asked again, and charged once', async () => {
    hosts.takesMs = 1000;
    let arrived;
    const arrival = new Promise((resolve) => (arrived = resolve));
    hosts.beforeAnswer = () => (arrived(), new Promise(() => {}));
    const before = hosts.submits;
    const call = order();
    await arrival;
    hosts.beforeAnswer = undefined;
    const listed = await eventually(async () => (await gateway.d1('SELECT id FROM jobs ORDER BY id DESC LIMIT 1'))[0]?.id, 'it is in the list');
    await gateway.crash();
    await call.reply.catch(() => {});
    const { job } = await ended(listed);
    assert.equal(job.status, 'completed', JSON.stringify(job));
    assert.equal(hosts.submits, before + 2, 'the same host, once more');
    const keys = hosts.jobs.slice(-2).map(({ headers }) => headers['idempotency-key']);
    assert.equal(keys[0], keys[1], 'a host that knows the header starts no second one');
    await isBookedOnce(listed, PRICE);
  });

  test('nobody asks: the alarm alone brings it to its end', async () => {
    hosts.takesMs = 1500;
    const { id } = (await order().reply).is(200).json;
    await sleep(300);
    await gateway.crash();
    await eventually(async () => (await gateway.d1('SELECT id FROM activity WHERE id = ?', id)).length === 1, 'it ended by itself', { ms: 20_000, pause: 200 });
    await isBookedOnce(id, PRICE);
  });

  test('killed about when it ends, again and again', async () => {
    for (let round = 0; round < 4; round++) {
      hosts.takesMs = 400;
      // What a crash leaves behind is out of reach for the life of a hold.
      await t.settled(10_000);
      const { id } = (await order().reply).is(200).json;
      const seen = ended(id);
      await sleep(380 + Math.random() * 160);
      await gateway.crash();
      const { job } = await seen;
      assert.equal(job.status, 'completed');
      await isBookedOnce(id, PRICE);
    }
    await t.settled(10_000);
    assert.equal((await t.credits()).balance_nanos, 10e9 - 7 * PRICE);
  });

  test('cancelled, and killed: it stops at its host and costs nothing', async () => {
    hosts.takesMs = undefined;
    await t.settled(10_000);
    const { id } = (await order('hang').reply).is(200).json;
    const upstream = hosts.jobs.at(-1);
    await Promise.all([gateway.open('DELETE', `/v1/generations/${id}`, { key: t.key }).reply.catch(() => {}), sleep(15).then(() => gateway.crash())]);
    // The word may have been lost with the process: then it is said again.
    const { status } = (await gateway.open('DELETE', `/v1/generations/${id}`, { key: t.key }).reply).is(200).json;
    assert.ok(status === undefined || status === 'cancelled');
    await eventually(() => upstream.cancelled, 'it is cancelled at its host', { ms: 20_000 });
    await isBookedOnce(id, 0, 'cancelled');
  });
});
