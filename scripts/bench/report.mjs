// From measurements to the table of goals.
import { CHUNKS } from './answers.mjs';
import { median } from './measure.mjs';

/** List prices in dollars, as of the design's section on the platform: what a million of each costs past what is included. */
const PRICES = { requests: 0.3, cpu_ms: 0.02, kv_reads: 0.5, object_requests: 0.15, gigabyte_seconds: 12.5, rows: 1.0 };
const OBJECT_GIGABYTES = 0.128;
/** Assumed for the bill: one workspace's traffic, and how often an isolate that takes a tenth of it reads its key and catalog again. */
const OBJECT_REQUESTS_PER_SECOND = 100;
const ISOLATE_REQUESTS_PER_SECOND = 10;
const REFRESH_SECONDS = 30;
const REFRESH_READS = 14; // key, snapshot pointer, and 8 values of health each 20 s
const BILL_CHUNKS = 300;
/** Rows a request, as a goal of 1 is meant: what one request in twenty writes besides does not miss it. */
const ROWS_MAX = 1.05;

export const fixed = (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits) : '–');
const ms = (micros) => (Number.isFinite(micros) ? `${(micros / 1000).toFixed(2)} ms` : '–');
const times = (ratio) => (Number.isFinite(ratio) ? `${ratio.toFixed(2)}×` : 'not measured');
const range = (values, digits = 2) => {
  const all = values.filter(Number.isFinite);
  return all.length > 1 ? ` (${fixed(Math.min(...all), digits)}–${fixed(Math.max(...all), digits)})` : '';
};

/** All rounds' values of `pick(target, floor, direct)` for one scenario. */
function each(rounds, scenario, target, pick) {
  const values = [];
  for (const round of rounds) {
    const runs = round[scenario];
    if (runs?.[target] && runs.floor && runs.direct) values.push(pick(runs[target], runs.floor, runs.direct));
  }
  return values;
}

const cpuRatio = (run, floor) => run.cpu_us / floor.cpu_us;
const rateRatio = (run, floor) => run.per_second / floor.per_second;
const addedRatio = (name) => (run, floor, direct) => (run[name] - direct[name]) / (floor[name] - direct[name]);
const overFloor = (name) => (run, floor) => run[name] - floor[name];

export function bill({ rounds, counts }) {
  const cpuOf = (scenario, target) => median(each(rounds, scenario, target, (run) => run.cpu_us / 1000));
  const plainMs = cpuOf('plain8', 'gateway');
  const chunksMs = (target) => cpuOf('paced8', target) - cpuOf('plain8', target);
  const perChunk = Math.max(0, chunksMs('gateway') - chunksMs('floor')) / CHUNKS;
  const counted = counts?.stream_c8;
  if (!counted || !Number.isFinite(plainMs + perChunk)) return undefined;
  const cpu_ms = plainMs + perChunk * BILL_CHUNKS;
  const kv_reads = Math.max(counted.kv_reads, REFRESH_READS / (REFRESH_SECONDS * ISOLATE_REQUESTS_PER_SECOND));
  const object_requests = counted.object_calls + counted.alarms_run;
  const parts = {
    'Worker requests': PRICES.requests,
    [`CPU, ${fixed(cpu_ms)} ms`]: cpu_ms * PRICES.cpu_ms,
    [`KV reads, ${fixed(kv_reads, 3)}`]: kv_reads * PRICES.kv_reads,
    [`object requests, ${fixed(object_requests)}`]: object_requests * PRICES.object_requests,
    'object duration': (OBJECT_GIGABYTES / OBJECT_REQUESTS_PER_SECOND) * PRICES.gigabyte_seconds,
    [`object rows written, ${fixed(counted.object_rows)}`]: counted.object_rows * PRICES.rows,
    [`D1 rows written, ${fixed(counted.d1_rows_written)}`]: counted.d1_rows_written * PRICES.rows,
  };
  return {
    parts,
    sum: Object.values(parts).reduce((a, b) => a + b, 0),
    assumes:
      `a stream of ${BILL_CHUNKS} chunks: CPU of the whole process for a plain answer at c=8, and for each chunk what it costs above the floor's (moving bytes is the ` +
      'runtime\'s work; paced, c=8); ' +
      `${OBJECT_REQUESTS_PER_SECOND} requests a second for the workspace's object, always active; isolates of ${ISOLATE_REQUESTS_PER_SECOND} a second ` +
      `that read ${REFRESH_READS} KV values each ${REFRESH_SECONDS} s; calls and rows as counted at c=8, flush included; nothing taken off for what is included in the plan`,
  };
}

export function table(data) {
  const { rounds, counts, faults, startup, sizes } = data;
  const rows = [];
  const add = (row, what, goal, measured, met) => rows.push({ row, what, goal, measured, met: met === undefined ? '–' : met ? 'yes' : 'no' });
  const ratio = (row, what, goal, limit, [scenario, target, pick], isAtLeast = false, note = '') => {
    const values = each(rounds, scenario, target, pick);
    const value = median(values);
    if (value === undefined) return;
    add(row, what, goal, `${times(value)}${range(values)}${note}`, goal === '–' ? undefined : isAtLeast ? value >= limit : value <= limit);
  };
  const delay = (row, what, goal, limit_ms, [scenario, target, name]) => {
    const values = each(rounds, scenario, target, overFloor(name)).map((micros) => micros / 1000);
    const value = median(values);
    if (value === undefined) return;
    add(row, what, goal, `floor's ${value < 0 ? '−' : '+'} ${fixed(Math.abs(value))} ms${range(values)}`, goal === '–' ? undefined : value <= limit_ms);
  };
  const autocannon = each(rounds, 'autocannon', 'noledger', rateRatio);
  const said = autocannon.length > 0 ? `; autocannon: ${fixed(median(autocannon))} of floor` : '';
  ratio('1', 'plain c=8, key + catalog + route, no ledger: CPU', '≤ 2.0×', 2, ['plain8', 'noledger', cpuRatio]);
  ratio('2', 'the same, req/s', '≥ 0.50 of floor', 0.5, ['plain8', 'noledger', rateRatio], true, said);
  ratio('3', 'plain c=8, full: CPU', '≤ 4.5×', 4.5, ['plain8', 'gateway', cpuRatio]);
  ratio('3b', 'the same, req/s', '–', 0, ['plain8', 'gateway', rateRatio], true);
  ratio('3c', 'plain c=64, full: CPU', '–', Infinity, ['plain64', 'gateway', cpuRatio]);
  ratio('4', 'plain c=1, full: added p50', '≤ 4×', 4, ['plain1', 'gateway', addedRatio('p50_us')]);
  ratio('5', 'stream as it is, paced c=8: added per chunk p50', '≤ 1.5×', 1.5, ['paced8', 'gateway', addedRatio('chunk_p50_us')]);
  ratio('5b', 'the same, usage hidden from the client (every chunk seen)', '–', Infinity, ['paced8hidden', 'gateway', addedRatio('chunk_p50_us')]);
  delay('6', 'row 5, p99', "≤ floor's + 1 ms", 1, ['paced8', 'gateway', 'chunk_p99_us']);
  delay('6b', 'row 5b, p99', '–', Infinity, ['paced8hidden', 'gateway', 'chunk_p99_us']);
  delay('7', 'row 5, first text, no ledger', "≤ floor's + 1 ms", 1, ['paced8', 'noledger', 'first_text_us']);
  delay('7b', 'row 5, first text, full', '–', Infinity, ['paced8', 'gateway', 'first_text_us']);
  delay('7c', 'row 5b, first text, full', '–', Infinity, ['paced8hidden', 'gateway', 'first_text_us']);
  ratio('7d', 'row 5, CPU, full', '–', Infinity, ['paced8', 'gateway', cpuRatio]);
  ratio('7e', 'row 5b, CPU, full', '–', Infinity, ['paced8hidden', 'gateway', cpuRatio]);
  ratio('8', 'stream as it is, c=8 at once, full: CPU', '≤ 3.6×', 3.6, ['once8', 'gateway', cpuRatio]);
  ratio('8b', 'the same, usage hidden from the client', '–', Infinity, ['once8hidden', 'gateway', cpuRatio]);
  ratio('8c', 'row 8, c=64', '–', Infinity, ['once64', 'gateway', cpuRatio]);
  ratio('9', 'stream translated (Anthropic to OpenAI), paced c=8: added per chunk p50', '≤ 4.2×', 4.2, ['translated8', 'gateway', addedRatio('chunk_p50_us')]);
  ratio('9b', 'the same, CPU, full', '–', Infinity, ['translated8', 'gateway', cpuRatio]);
  ratio('10', '256 KB prompt c=4, no ledger: CPU', '≤ 2.2×', 2.2, ['large4', 'noledger', cpuRatio]);
  ratio('10b', 'the same, full', '–', Infinity, ['large4', 'gateway', cpuRatio]);
  if (sizes) {
    const kib = sizes.gzip / 1024;
    add('11', 'bundle gz', '≤ 400 KiB', `${fixed(kib, 0)} KiB (wasm ${fixed(sizes.wasm_gzip / 1024, 0)}, JavaScript ${fixed(sizes.js_gzip / 1024, 0)})`, kib <= 400);
  }
  if (startup) {
    const value = startup.gateway - startup.floor;
    add('11', "ready less floor's", '≤ 30 ms', `${fixed(value, 0)} ms (${fixed(startup.gateway, 0)} less ${fixed(startup.floor, 0)})`, value <= 30);
  }
  for (const [row, what, goal, one, met] of [
    ['16', 'cold isolate, whole catalog: first answer of a model', 'model: ≤ 2 KV values, ≤ 64 KB', data.cold?.model, data.cold && data.cold.model.reads <= 3 && data.cold.model.bytes <= 65_536],
    ['16b', 'cold isolate: first chat request of a key', '–', data.cold?.chat, undefined],
  ]) {
    if (one) add(row, what, goal, `${fixed(one.ms, 0)} ms after the process began (floor ${fixed(data.cold.floor, 0)}); ${one.reads} KV values, ${fixed(one.bytes / 1024, 1)} KiB`, met);
  }
  if (data.ranking) add('17', 'ranking 64 candidates in wasm; the whole decision with filters and bounds', '≤ 50 µs', `${fixed(data.ranking.rank_us, 1)} µs; ${fixed(data.ranking.plan_us, 0)} µs`, data.ranking.rank_us <= 50);
  for (const [place, [name, one]] of Object.entries(data.memory ?? {}).entries()) {
    const mb = (bytes) => fixed(bytes / 1024 / 1024, 0);
    add(`18${['', 'b', 'c', 'd'][place]}`, `${name}, ten at once: most that the isolate holds`, '< 128 MB', `${mb(one.most)} MB (wasm ${mb(one.wasm)}, heap ${mb(one.heap)}, buffers ${mb(one.buffers)}), ${fixed(one.ms / 1000, 1)} s`, one.most < 128 * 1024 * 1024);
  }
  const load = underLoad(rounds);
  if (load.requests > 0) {
    const good = load.wrong === 0 && load.calls === load.requests && load.most <= 1;
    const measured = `${load.wrong} of ${load.requests}; ${(load.calls / load.requests).toFixed(4)}; ${load.verbatim} of ${load.streams} streams`;
    add('12', 'under load: wrong answers; upstream calls a request; pass-through', '0; 1.00; verbatim', measured, good && load.verbatim === load.streams);
  }
  if (faults) {
    const { leaves, cut, retry_after } = faults.gateway;
    const values = Object.values(leaves);
    const text = Object.entries(leaves).map(([name, value]) => `${name} ${typeof value === 'number' && Number.isFinite(value) ? fixed(value, 0) : value}`);
    add('13', 'client leaves: upstream ended after', '≤ 200 ms', `ms: ${text.join(', ')}`, values.every((value) => typeof value === 'number' && value <= 200));
    const seen = Object.values(cut).every((one) => one.seen);
    add('13', 'cut upstream: seen by the client', 'yes', seen ? 'yes' : 'no', seen);
    add('13', 'Retry-After kept', 'yes', retry_after.kept ? 'yes' : `no (status ${retry_after.status}, ${retry_after.value})`, retry_after.kept);
  }
  for (const [name, title] of [['plain_c1', 'plain c=1'], ['stream_c1', 'stream c=1'], ['plain_c64', 'plain c=64'], ['stream_c8', 'stream c=8']]) {
    const one = counts?.[name];
    if (!one) continue;
    const { hot } = one;
    const counted = [fixed(hot.kv_reads, 3), fixed(hot.d1_calls, 3), `${fixed(hot.before)} / ${fixed(hot.after)}`, fixed(hot.object_rows)];
    // Behind the hot path, and in the bill of row 15: what the object's alarms write, and the flush that brings each row to D1.
    const behind = `later: ${fixed(one.object_rows - hot.object_rows)} rows by alarms, ${fixed(one.d1_rows_written)} in D1 by ${fixed(one.d1_calls, 3)} calls`;
    const measured = `${counted.join('; ')} (${behind})`;
    // A KV value that grew old meanwhile is read once, by whoever comes next.
    const met = hot.kv_reads * one.requests <= REFRESH_READS && hot.d1_calls === 0 && hot.before <= 1 && hot.after <= 1 && hot.object_rows <= ROWS_MAX;
    add('14', `${title}, ${one.requests} requests: KV reads; D1 calls; object calls before / after; SQL rows written, each a request`, '0; 0; ≤ 1 / ≤ 1; ≤ 1', measured, met);
  }
  if (data.bill) {
    const parts = Object.entries(data.bill.parts).map(([name, value]) => `${name} $${fixed(value)}`);
    add('15', 'paper cost of a million streamed requests', '≤ $2.00', `$${fixed(data.bill.sum)}: ${parts.join('; ')}`, data.bill.sum <= 2);
  }
  return rows;
}

/** Sums over every run of every target but the upstream asked directly. */
export function underLoad(rounds, names = ['gateway', 'noledger']) {
  const sum = { requests: 0, wrong: 0, calls: 0, most: 0, streams: 0, verbatim: 0 };
  for (const round of rounds) {
    for (const [scenario, runs] of Object.entries(round)) {
      for (const name of names) {
        const run = runs[name];
        if (!run || run.calls === undefined) continue;
        sum.requests += run.requests;
        sum.wrong += run.wrong;
        sum.calls += run.calls;
        sum.most = Math.max(sum.most, run.calls_most);
        if (/^(once|paced)/.test(scenario)) {
          sum.streams += run.requests;
          sum.verbatim += run.verbatim;
        }
      }
    }
  }
  return sum;
}

/** Medians of every scenario and target, for who wants to see what the ratios are made of. */
export function details(rounds, scenarios) {
  const lines = [
    '| scenario | target | requests | req/s | p50 | p99 | first text | chunk p50 | chunk p99 | CPU a request |',
    '|---|---|--:|--:|--:|--:|--:|--:|--:|--:|',
  ];
  for (const [name, { title }] of Object.entries(scenarios)) {
    for (const target of ['direct', 'floor', 'gateway', 'noledger']) {
      const runs = rounds.map((round) => round[name]?.[target]).filter(Boolean);
      if (runs.length === 0) continue;
      const of = (field) => median(runs.map((run) => run[field]));
      const cells = [
        title, target === 'noledger' ? 'gateway, no ledger' : target, runs.reduce((sum, run) => sum + run.requests, 0), fixed(of('per_second'), 0),
        ms(of('p50_us')), ms(of('p99_us')), ms(of('first_text_us')), ms(of('chunk_p50_us')), ms(of('chunk_p99_us')),
        Number.isFinite(of('cpu_us')) ? `${fixed(of('cpu_us'), 0)} µs` : '–',
      ];
      lines.push(`| ${cells.join(' | ')} |`);
    }
  }
  return lines.join('\n');
}

export const markdown = (rows) =>
  ['| row | what | goal | measured | met |', '|--:|---|--:|---|--:|', ...rows.map(({ row, what, goal, measured, met }) => `| ${row} | ${what} | ${goal} | ${measured} | ${met} |`)].join('\n');
