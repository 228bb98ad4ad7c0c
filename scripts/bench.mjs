// `npm run bench`: what the gateway adds to a request, as ratios to the least that a Worker can do (the floor), in one run on one
// machine. Prints the rows of the design's table of goals and keeps them in .state/bench.md and .state/bench.json.
//
//   npm run bench -- [--quick] [--rows 1,3,5]
//
// Upstream, floor and gateway are processes of their own: the last two plain workerd, on a core that nothing else uses. In every
// round each scenario runs against gateway, upstream directly and floor in turns; ratios are taken within a round, and the median of
// the rounds is shown. Every answer is checked; the exit code is 1 when one was wrong, never because of a time.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { Stop, at, environment, main, run as runProgram, say, seconds, whenOrphaned } from './lib.mjs';
import { build } from './build.mjs';
import { setup, underNode22 } from './setup.mjs';
import { isolateOf, whileWatched } from './bench/memory.mjs';
import { question } from './bench/answers.mjs';
import { LARGE, startLargeHosts } from './bench/large.mjs';
import { QUIET_MS, SCENARIOS, faults, median, run } from './bench/measure.mjs';
import { pinSelf, places, ready, startUpstream } from './bench/processes.mjs';
import { bill, details, markdown, table, underLoad } from './bench/report.mjs';
import { CREDENTIAL, gatewayTarget, ownCounters, plainTarget, publishCatalog, startFloor, startGateway, startStore } from './bench/targets.mjs';

const ROWS = Array.from({ length: 18 }, (_, index) => index + 1);
const ROUNDS = 4;
const QUICK = { rounds: 1, factor: 0.6, starts: 3 };
const WARM_REQUESTS = 200;
/** How long each kind of request runs before it is measured: V8 compiles wasm well only where it has run for a while. */
const WARM_MS = 3_000;
const DRAIN_MS_MAX = 20_000;

function options() {
  const usage = 'usage: npm run bench -- [--quick] [--rows 1,3,5]';
  try {
    const { values } = parseArgs({ options: { quick: { type: 'boolean' }, rows: { type: 'string' } } });
    const wanted = values.rows ? values.rows.split(',').map((row) => Number.parseInt(row, 10)) : ROWS;
    if (wanted.some((row) => !ROWS.includes(row))) throw new Error(`rows are ${ROWS[0]} to ${ROWS.at(-1)}`);
    return { quick: values.quick ?? false, wants: (...rows) => rows.some((row) => wanted.includes(row)) };
  } catch (error) {
    throw new Stop(`${error.message}\n${usage}`);
  }
}

/** Sizes as uploaded: the wasm and the JavaScript, each gzipped. */
function bundle() {
  const gzip = (file) => gzipSync(fs.readFileSync(at(file)), { level: 9 }).length;
  const [wasm_gzip, js_gzip] = [gzip('build/index_bg.wasm'), gzip('build/index.js')];
  return { wasm_gzip, js_gzip, gzip: wasm_gzip + js_gzip };
}

/** Milliseconds from the start of a process to its first 200: medians of fresh starts of both, in turns. */
async function starts(times, { floor, gateway }) {
  const all = { floor: [], gateway: [] };
  for (let i = 0; i < times; i++) {
    for (const [name, start] of Object.entries({ floor, gateway })) {
      const worker = await start(`start-${name}-${i}`);
      all[name].push(await ready(worker));
      await worker.stop();
    }
  }
  return { floor: median(all.floor), gateway: median(all.gateway), all };
}

/**
 * Milliseconds from the start of a process to its first answer of a model and, in another process, of a chat request; what was read
 * from KV for it. The key, its workspace and the snapshot are there from before.
 */
async function cold(times, { floor, gateway, store }) {
  const first = await gateway();
  const target = await gatewayTarget(first);
  const [model, chat] = [`/v1/models/${target.model('fast')}`, { method: 'POST', headers: { authorization: `Bearer ${target.credential}`, 'content-type': 'application/json' }, body: question({ model: target.model('fast'), seq: 0 }) }];
  const ask = async (worker, route, init) => {
    const { kv_reads, kv_bytes_read } = await store.counters();
    const response = await fetch(`http://127.0.0.1:${worker.port}${route}`, init);
    const text = await response.text();
    const ms = performance.now() - worker.since;
    if (!response.ok) throw new Stop(`${route} gave ${response.status} from a cold isolate: ${text.slice(0, 300)}`);
    const after = await store.counters();
    return { ms, reads: after.kv_reads - kv_reads, bytes: after.kv_bytes_read - kv_bytes_read };
  };
  await ask(first, '/v1/chat/completions', chat);
  await sleep(QUIET_MS);
  await first.stop();
  const all = { floor: [], model: [], chat: [] };
  for (let i = 0; i < times; i++) {
    const empty = await floor(`cold-floor-${i}`);
    all.floor.push({ ms: await ready(empty) });
    await empty.stop();
    for (const [name, args] of [['model', [model]], ['chat', ['/v1/chat/completions', chat]]]) {
      const worker = await gateway();
      all[name].push(await ask(worker, ...args));
      await worker.stop();
    }
  }
  const of = (name) => ({ ...all[name].at(-1), ms: median(all[name].map(({ ms }) => ms)) });
  return { floor: of('floor').ms, model: of('model'), chat: of('chat') };
}

/** Microseconds of ranking 64 candidates, and of the whole decision, in wasm; of each the median over batches, warmed up. */
async function ranking() {
  const { output } = await runProgram('cargo', ['build', '--release', '--target', 'wasm32-unknown-unknown', '--example', 'ranking', '--message-format=json', '--quiet'], { env: environment(), capture: true });
  const file = output.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line)).flatMap(({ target, filenames }) => (target?.name === 'ranking' ? filenames : [])).at(-1);
  const module = await WebAssembly.compile(fs.readFileSync(file));
  // The Worker's own glue is linked in, and never called.
  const imports = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) (imports[from] ??= {})[name] = () => 0;
  const { exports } = await WebAssembly.instantiate(module, imports);
  const cost = (call) => {
    for (const until = performance.now() + 1_500; performance.now() < until; ) call(100);
    const batches = Array.from({ length: 30 }, () => {
      const since = performance.now();
      call(200);
      return ((performance.now() - since) * 1000) / 200;
    });
    return median(batches);
  };
  return { rank_us: cost(exports.rank_again), plan_us: cost(exports.plan_again), sum: exports.plan_again(10) };
}

/** What the isolate holds at most while ten large requests of a kind are under way at once, each in a fresh process. */
async function memory(hosts, start) {
  const all = {};
  for (const [name, one] of Object.entries(LARGE.kinds)) {
    const worker = await start();
    const target = await gatewayTarget(worker);
    const call = async (seq) => {
      const { route, body, headers, isRight } = await one(hosts, seq);
      const response = await fetch(`http://127.0.0.1:${worker.port}/v1/${route}`, { method: 'POST', headers: { authorization: `Bearer ${target.credential}`, ...headers }, body });
      return isRight(await response.text());
    };
    const since = performance.now();
    const { heap, buffers, most, before, looks, result } = await whileWatched(await isolateOf(worker.ports.inspector), () => Promise.all(Array.from({ length: LARGE.atOnce }, (_, seq) => call(seq))));
    const { wasm_bytes: wasm } = await ownCounters(worker);
    // The inspector leaves wasm's memory out; it never shrinks, so what it is now is its most.
    all[name] = { heap, buffers, most: most + wasm, before, wasm, looks, ms: performance.now() - since, wrong: result.filter((isRight) => !isRight).length };
    await worker.stop();
  }
  return all;
}

/** Requests a second by a generator that others wrote, as a second opinion on ours. */
async function autocannon(target, duration) {
  const { default: cannon } = await import('autocannon');
  const result = await cannon({
    url: `http://127.0.0.1:${target.port}/v1/chat/completions`,
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${target.credential}` },
    body: question({ model: target.model('fast'), seq: 0 }),
    verifyBody: (body) => body.toString().includes('"content":"answer 0: '),
    connections: 8,
    duration,
  });
  return { per_second: result.requests.total / result.duration, requests: result.requests.total, wrong: result.non2xx + result.errors + result.mismatches };
}

/** Waits until a target has done what comes after its last answers, and only then takes that run's CPU. */
async function quiet(title, { quietAt, close }) {
  const pause = (quietAt[title] ?? 0) - performance.now();
  if (pause > 0) await sleep(pause);
  close[title]?.();
  delete close[title];
}

/** One round: every scenario against every target, in turns. */
async function round(scenarios, targets, context) {
  const results = {};
  for (const [name, scenario] of Object.entries(scenarios)) {
    const runs = {};
    // The gateway's flush falls into the turn of the upstream, which does not use the measured core.
    for (const [title, target] of Object.entries(targets)) {
      if (title === 'noledger' && !scenario.also) continue;
      await quiet(title, context);
      const factor = context.factor * (title === 'direct' ? 0.6 : 1);
      const { record, close } = await run(target, scenario, { ...context, factor });
      runs[title] = record;
      if (title === 'gateway') {
        context.close[title] = close;
        context.quietAt[title] = performance.now() + QUIET_MS;
      } else {
        close();
      }
    }
    results[name] = runs;
  }
  return results;
}

/** What a request costs in calls and rows, counted from outside: by the shim in the isolate, by the store, by the gateway itself. */
async function count(target, store, scenario, requests, context) {
  const snapshot = async () => {
    const shim = await (await fetch(`http://127.0.0.1:${target.ports.bench}/`)).json();
    const { kv_reads, kv_writes, d1_calls, d1_rows_written } = await store.counters();
    // setAlarm writes a row.
    return { ...shim, object_rows: shim.rows_written + shim.alarms_set, kv_reads, kv_writes, d1_calls, d1_rows_written, own: await ownCounters(target) };
  };
  const drained = async () => {
    let last;
    for (let since = performance.now(), until = since + DRAIN_MS_MAX; performance.now() - since < QUIET_MS && performance.now() < until; await sleep(200)) {
      const { d1_rows_written } = await store.counters();
      if (d1_rows_written !== last) [last, since] = [d1_rows_written, performance.now()];
    }
  };
  await run(target, scenario, { ...context, count: 10 });
  await drained();
  const before = await snapshot();
  const { record } = await run(target, scenario, { ...context, count: requests });
  await sleep(250); // what is settled after the answer
  const hot = await snapshot();
  await drained();
  const after = await snapshot();
  const less = (late) => {
    const each = (a, b) => Object.fromEntries(Object.keys(b).filter((key) => typeof b[key] === 'number').map((key) => [key, (b[key] - (a[key] ?? 0)) / requests]));
    return { ...each(before, late), own: each(before.own, late.own) };
  };
  const counted = less(hot);
  // The gateway tells its calls apart itself; the order of calls tells only where each request settles on its own.
  const { object_admits, object_settles } = counted.own;
  if (object_admits !== undefined) [counted.before, counted.after] = [object_admits, object_settles];
  return { requests, wrong: record.wrong, faults: record.faults, calls: record.calls, calls_most: record.calls_most, hot: counted, ...less(after) };
}

async function bench({ quick, wants }, folder, stops) {
  const since = Date.now();
  const started = { load: os.loadavg()[0] };
  const place = places();
  pinSelf(place);
  const keep = (process) => {
    stops.push(() => process.stop());
    return process;
  };
  const data = {
    at: new Date().toISOString(), quick, cores: place.cores, is_pinned: place.taskset !== undefined, node: process.versions.node,
    cpu: os.cpus()[0]?.model, rounds: [], sizes: wants(11) ? bundle() : undefined,
  };

  const upstream = keep(await startUpstream(place));
  const store = keep(await startStore(place, folder));
  const hosts = await startLargeHosts(LARGE.picture);
  stops.push(() => hosts.close());
  await publishCatalog(folder, store, upstream.port, hosts.url);
  await upstream.ask(`/__reset?credential=${CREDENTIAL}`);
  const floorOf = (name) => startFloor(place, folder, upstream.port, name);
  const gatewayOf = (name, isShimmed = false) => startGateway(place, folder, store, { name, isShimmed });
  const secrets = { OPERATOR_TOKEN: 'operator-of-the-cold-starts-0123456789', KEY_HASH_SECRET: 'secret-of-the-cold-starts-0123456789abcdef' };

  if (wants(11)) {
    say('measuring starts …');
    data.startup = await starts(quick ? QUICK.starts : 11, { floor: floorOf, gateway: gatewayOf });
  }
  if (wants(17)) {
    say('ranking in wasm (building takes about 2 min the first time) …');
    data.ranking = await ranking();
    if (data.ranking.sum !== 640) throw new Stop(`the bench of the ranking ranked ${data.ranking.sum / 10} candidates`);
  }
  if (wants(16)) {
    say('measuring cold isolates …');
    const gateway = () => startGateway(place, folder, store, { name: 'cold', secrets });
    data.cold = await cold(quick ? QUICK.starts : 5, { floor: floorOf, gateway, store });
  }

  if (wants(18)) {
    say('holding much …');
    data.memory = await memory(hosts, () => startGateway(place, folder, store, { name: 'memory', inspector: true }));
  }

  const floor = keep(await floorOf('floor'));
  await ready(floor);
  const gateway = await gatewayTarget(keep(await gatewayOf('gateway')));
  const shimmed = await gatewayTarget(keep(await gatewayOf('shimmed', true)));
  const mode = (name) => fetch(`http://127.0.0.1:${shimmed.ports.bench}/?mode=${name}`).then((response) => response.json());
  const context = { upstream, place, factor: quick ? QUICK.factor : 1, close: {}, quietAt: {} };

  const scenarios = Object.fromEntries(Object.entries(SCENARIOS).filter(([, { rows }]) => wants(...rows)));
  if (wants(14, 15)) {
    say('counting calls and rows …');
    data.counts = {};
    for (const name of ['plain8', 'once8']) await run(shimmed, SCENARIOS[name], { ...context, count: WARM_REQUESTS });
    const kinds = [
      ['plain_c1', { ...SCENARIOS.plain8, connections: 1 }, 100],
      ['stream_c1', { ...SCENARIOS.once8, connections: 1 }, 100],
      ['plain_c64', SCENARIOS.plain64, 300],
      ['stream_c8', SCENARIOS.once8, 300],
    ];
    for (const [name, scenario, requests] of quick ? [kinds[0], kinds[3]] : kinds) {
      data.counts[name] = await count(shimmed, store, scenario, requests, context);
    }
  }

  const direct = plainTarget(upstream);
  if (Object.keys(scenarios).length > 0) {
    say('warming up …');
    const ms = quick ? WARM_MS / 3 : WARM_MS;
    for (const target of [direct, plainTarget(floor), gateway, shimmed]) {
      const kinds = target === direct || target === shimmed ? ['plain8', 'once8'] : ['plain8', 'once8', 'once8hidden'];
      for (const name of kinds) await run(target, { ...SCENARIOS[name], duration: target === direct ? ms / 3 : ms }, { ...context, factor: 1 });
      await run(target, SCENARIOS.large4, { ...context, count: 40 });
    }
  }

  if (Object.keys(scenarios).length > 0) {
    await mode('record');
    for (const name of ['plain8', 'once8']) await run(shimmed, SCENARIOS[name], { ...context, count: 50 });
    data.replayed = (await mode('replay')).recorded;
    const targets = { gateway, noledger: shimmed, direct, floor: plainTarget(floor) };
    const total = quick ? QUICK.rounds : ROUNDS;
    for (let index = 0; index < total; index++) {
      say(`round ${index + 1} of ${total} (${seconds(since)}) …`);
      const results = await round(scenarios, targets, context);
      if (wants(2)) {
        await quiet('gateway', context);
        results.autocannon = { direct: { per_second: 0 } };
        for (const title of ['floor', 'noledger', 'gateway']) results.autocannon[title] = await autocannon(targets[title], context.factor);
        context.quietAt.gateway = performance.now() + QUIET_MS;
      }
      data.rounds.push(results);
    }
    await quiet('gateway', context);
    await mode('off');
  }

  if (wants(13)) {
    say('breaking things …');
    data.faults = { floor: await faults(plainTarget(floor), upstream), gateway: await faults(gateway, upstream) };
  }
  data.own = await ownCounters(gateway);
  data.credits = await gateway.credits().catch((error) => error.message);
  if (wants(15)) data.bill = bill(data);
  data.seconds = (Date.now() - since) / 1000;
  data.load = [started.load, os.loadavg()[0]];
  return data;
}

function show(data) {
  const rows = (data.rows = table(data));
  const foreign = data.rounds.flatMap((results) => Object.values(results)).flatMap((runs) => Object.values(runs)).map((one) => one.foreign_percent).filter(Number.isFinite);
  const lines = [
    markdown(rows),
    '',
    `${data.at}, ${data.seconds.toFixed(0)} s, ${data.rounds.length} rounds${data.quick ? ' (quick)' : ''}, ${data.cores} cores of ${data.cpu}, Node ${data.node}. ` +
      (data.is_pinned ? 'Target on a core of its own. ' : 'Nothing is pinned to a core here: expect noise. ') +
      (foreign.length > 0 ? `Others used ${median(foreign).toFixed(0)} % of that core (median; at most ${Math.max(...foreign).toFixed(0)} %).` : ''),
    '',
    '× is against the floor in the same round, medians of the rounds (least–most). CPU is of the whole workerd process, the object\'s share and what comes after the ' +
      'answer included; KV and D1 stand in another process. "No ledger": object calls are answered inside the isolate with recorded replies. ' +
      '"Usage hidden": a client that did not ask for usage, so that the gateway takes its own chunk out and sees all of them.',
  ];
  if (data.bill) lines.push('', `The bill assumes ${data.bill.assumes}.`);
  if (data.rounds.length > 0) lines.push('', details(data.rounds, SCENARIOS));
  const report = `${lines.join('\n')}\n`;
  fs.mkdirSync(at('.state'), { recursive: true });
  fs.writeFileSync(at('.state/bench.md'), report);
  fs.writeFileSync(at('.state/bench.json'), JSON.stringify(data, null, 1));
  say(`\n${report}`);
  say('kept in .state/bench.md and .state/bench.json');
}

/** Everything that was wrong, in words. */
function wrongs(data) {
  const found = [];
  const { gateway } = data.faults ?? {};
  const all = underLoad(data.rounds, ['gateway', 'noledger', 'direct', 'floor']);
  if (all.wrong > 0) found.push(`${all.wrong} wrong answers under load`);
  if (all.calls !== all.requests || all.most > 1) found.push(`${all.calls} upstream calls for ${all.requests} requests, at most ${all.most} for one`);
  for (const results of data.rounds) {
    for (const [scenario, runs] of Object.entries(results)) {
      for (const [target, one] of Object.entries(runs)) for (const fault of one.faults ?? []) found.push(`${scenario}, ${target}: ${fault}`);
      if (scenario === 'autocannon') for (const [target, one] of Object.entries(runs)) if (one.wrong > 0) found.push(`autocannon, ${target}: ${one.wrong} wrong`);
    }
  }
  for (const [name, one] of Object.entries(data.memory ?? {})) if (one.wrong > 0) found.push(`${one.wrong} wrong answers of ${name}`);
  for (const [name, one] of Object.entries(data.counts ?? {})) if (one.wrong > 0) found.push(`counting ${name}: ${one.faults.join('; ')}`);
  for (const [name, one] of Object.entries(gateway?.cut ?? {})) if (!one.seen) found.push(`a cut ${name} looks whole to the client`);
  if (gateway && !gateway.retry_after.kept) found.push('Retry-After is not kept');
  return found;
}

await main(async () => {
  await underNode22(import.meta);
  const wanted = options();
  await setup();
  await build();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-bench-'));
  const stops = [];
  const end = async () => {
    for (const stop of stops.splice(0).reverse()) await stop();
    fs.rmSync(folder, { recursive: true, force: true });
  };
  const leave = () => end().finally(() => process.exit(1));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, leave);
  whenOrphaned(leave);
  try {
    const data = await bench(wanted, folder, stops);
    show(data);
    const found = wrongs(data);
    if (found.length > 0) throw new Stop(`WRONG:\n${[...new Set(found)].slice(0, 40).join('\n')}`);
  } finally {
    await end();
  }
});
