// Nothing is lost: workerd is killed (SIGKILL) at every stage of a request, and afterwards the books still add up.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { booksAddUp } from './support/books.mjs';
import { startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';
import { eventually, sleep } from './support/wait.mjs';

const HOLD_MS = 4000;
/** Until then holds that nobody speaks of have expired. */
const BOOKS_MS = HOLD_MS + 4000;
const seed = Number(process.env.CRASH_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** How long the random part goes on at least, in seconds; a few rounds where nothing else is said. */
const seconds = Number(process.env.CRASH_SECONDS ?? 0);
const random = mulberry32(seed);
let folder;
let gateway;

function mulberry32(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Keeps sending requests of all kinds until stopped. */
function traffic(t, workers) {
  let stop = false;
  const ways = [{}, { stream: true }, { stream: true, stream_options: { include_usage: true } }];
  const work = async () => {
    while (!stop) {
      const call = t.open({ max_tokens: 50, ...ways[Math.floor(random() * 3)] });
      try {
        const reply = await call.reply;
        if (reply.status === 402) await sleep(50);
      } catch {
        await sleep(20);
      }
    }
  };
  const all = Array.from({ length: workers }, work);
  return { end: () => ((stop = true), Promise.all(all)) };
}

/** Waits until each answered request can be looked up: its settlement is done then, and durable. */
const shown = (t, replies) => Promise.all(replies.map(({ id }) => t.row(id)));

describe(`Crashes (CRASH_SEED=${seed}${seconds ? ` CRASH_SECONDS=${seconds}` : ''})`, { timeout: 150_000 + seconds * 2000 }, () => {
  before(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-crash-'));
    gateway = await startGateway({ persist: folder, vars: { HOLD_MS, TOTAL_TIMEOUT_MS: 3000 } });
  });
  after(async () => {
    await gateway?.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  const points = {
    'while the provider has the request': async (t) => {
      t.p1.does(up.hang);
      t.open();
      await t.p1.arrival();
    },
    'in the middle of a stream': async (t) => {
      t.p1.does(up.sse([up.role(), up.flow(5)]));
      const calls = [t.open({ stream: true }), t.openStream()];
      await Promise.all(calls.map((call) => call.until('word3')));
    },
    'the moment the client has a whole answer': async (t) => {
      await Promise.all([t.chat(), t.stream(), t.chat({ stream: true })]);
    },
    'after the settlement, before the flush': async (t) => {
      const replies = await Promise.all([t.chat(), t.stream(), t.chat({ stream: true })]);
      await shown(t, replies);
      return replies.map((reply) => reply.id);
    },
    'about when the flush is under way': async (t) => {
      const replies = await Promise.all([t.chat(), t.stream(), t.chat({ stream: true })]);
      await shown(t, replies);
      await sleep(1900 + random() * 250);
      return replies.map((reply) => reply.id);
    },
    'right after a grant was answered': async (t) => {
      await gateway.grant(t.workspace, '2');
      t.granted += 2e9;
    },
  };

  test('at each stage of a request', async () => {
    const scenes = [];
    for (const [point, run] of Object.entries(points)) {
      const t = Object.assign(await gateway.scene({ at: ['p1'] }), { granted: 10e9, point });
      // A first request, so that there are books to lose.
      t.mustHave = [(await t.chat()).is(200).id];
      await t.row(t.mustHave[0]);
      t.mustHave.push(...((await run(t)) ?? []));
      await gateway.crash();
      scenes.push(t);
    }
    for (const t of scenes) {
      try {
        await booksAddUp(t, t.granted, { mustHave: t.mustHave, ms: BOOKS_MS });
        t.p1.does(up.answer());
        (await t.chat()).is(200);
      } catch (error) {
        throw new Error(`killed ${t.point}: ${error.message}`, { cause: error });
      }
    }
  });

  test('at random moments under load, again and again', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'], dollars: '0.5' });
    t.p1.does(async (exchange) => {
      const chance = random();
      await sleep(random() * 30);
      if (chance < 0.1) return up.fail(500)(exchange);
      if (chance < 0.2 && exchange.body.stream) return up.sse([up.role(), up.text('half'), up.cut])(exchange);
      return up.answer({ usage: up.usage(1 + Math.floor(random() * 20), 1 + Math.floor(random() * 40)) })(exchange);
    });
    const mustHave = [];
    let granted = 0.5e9;
    const until = performance.now() + seconds * 1000;
    for (let round = 0; round < 6 || performance.now() < until; round++) {
      // A long run must not end for want of credits.
      if (round > 0 && round % 6 === 0) {
        await gateway.grant(t.workspace, '0.5');
        granted += 0.5e9;
      }
      const load = traffic(t, 6);
      await sleep(500 + random() * 1000);
      // What was shown once must stay, however soon after that the end comes; how long a settlement takes is the machine's affair.
      mustHave.push(...(await t.get('/v1/activity?limit=100')).is(200).json.data.map(({ id }) => id));
      await sleep(random() * 300);
      await gateway.crash();
      await sleep(200);
      await load.end();
    }
    assert.ok(mustHave.length > 50, `only ${mustHave.length} requests were in the books before a crash`);
    await booksAddUp(t, granted, { mustHave, ms: BOOKS_MS });
  });

  test('against a small balance: crashes create no credits', async () => {
    const t = await gateway.scene({ at: ['p1'], dollars: '0.002' });
    t.p1.does(up.answer({ usage: up.usage(20, 50) }));
    for (let round = 0; round < 3; round++) {
      const load = traffic(t, 4);
      await sleep(200 + random() * 300);
      await gateway.crash();
      await load.end();
      const { balance_nanos, available_nanos } = await t.credits();
      assert.ok(available_nanos <= balance_nanos && balance_nanos >= 0);
    }
    await booksAddUp(t, 2_000_000, { ms: BOOKS_MS });
  });

  test('an orderly restart keeps keys, limits, credits and the books', async () => {
    const t = await gateway.scene({ at: ['p1'], limits: { parallel_requests: 7 } });
    const id = (await t.chat()).is(200).id;
    const row = await t.row(id);
    const { upstreams } = gateway;
    await gateway.mf.dispose();
    const again = await startGateway({ persist: folder, upstreams, vars: { HOLD_MS, TOTAL_TIMEOUT_MS: 3000 }, migrate: false });
    gateway.mf = again.mf;
    gateway.url = again.url;
    assert.deepEqual(await t.row(id), row);
    (await t.chat()).is(200);
    const workspace = (await gateway.admin('GET', `/workspaces/${t.workspace}`)).is(200).json;
    assert.equal(workspace.limits.parallel_requests, 7);
    await booksAddUp(t, 10e9, { mustHave: [id], ms: BOOKS_MS });
  });
});
