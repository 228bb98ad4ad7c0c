// `node scripts/scale.mjs [--rows 10000000]`: activity of that size in the local store, and what the Worker takes to answer from it.
// Rows are spread over 30 days, 12 models, 3 providers and 8 keys of 3 applications, each as long as a real one (`--slim` without its `why`); sums as the flush keeps
// them. Prints size, times over HTTP and query plans. Needs a built Worker; `--folder` keeps the store, and a second call with it only measures.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { parseArgs } from 'node:util';
import { OPERATOR_TOKEN, startGateway } from '../tests/worker/support/harness.mjs';

const { values: options } = parseArgs({ options: { rows: { type: 'string', default: '10000000' }, folder: { type: 'string' }, slim: { type: 'boolean' } } });
const ROWS = Number(options.rows);
const HOUR = 3_600_000;
const DAYS = 30;
const BUCKETS = 40;
const DIGITS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const pick = (list, n) => list[n % list.length];

/** A ULID of a moment and a counter. */
function ulid(at, n) {
  let [time, rest] = ['', ''];
  for (let i = 0; i < 10; i++, at = Math.floor(at / 32)) time = DIGITS[at % 32] + time;
  for (let i = 0; i < 16; i++, n = Math.floor(n / 32)) rest = DIGITS[n % 32] + rest;
  return time + rest;
}

/** The row of a real request, with other values: its text is cut once, at the places where they stand. */
function template(row) {
  const places = ['id', 'at', 'key', 'model', 'provider', 'total', 'session', 'app'];
  const marked = { ...row, id: '<id>', at: '<at>', key: '<key>', model: '<model>', model_asked: '<model>', provider: '<provider>', total_ms: '<total>', session: '<session>', origin: { app: '<app>' } };
  const parts = JSON.stringify(options.slim ? { ...marked, why: undefined } : marked).replaceAll(/"<(at|total)>"/g, '<$1>').split(new RegExp(`<(${places.join('|')})>`));
  return (values) => {
    let text = parts[0];
    for (let i = 1; i < parts.length; i += 2) text += values[parts[i]] + parts[i + 1];
    return text;
  };
}

function fill(file, workspace, sample, end) {
  const db = new DatabaseSync(file);
  db.exec('PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -400000;');
  const insert = db.prepare('INSERT INTO activity (workspace, id, at, key, model, provider, status, ending, cost_nanos, prompt_tokens, completion_tokens, row) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
  const names = Array.from({ length: BUCKETS }, (_, i) => `h${i}`);
  const add = db.prepare(`INSERT INTO rollups (workspace, span, start, model, provider, key, app, requests, failures, prompt_tokens, completion_tokens, cost_nanos, ${names.join(', ')}) VALUES (${Array(12 + BUCKETS).fill('?').join(', ')})`);
  const models = Array.from({ length: 12 }, (_, i) => `organisation-${i % 4}/model-${i}`);
  const providers = ['provider-a', 'provider-b', 'provider-c'];
  const keys = Array.from({ length: 8 }, (_, i) => `key_${ulid(end, i)}`);
  const apps = ['', 'Console', 'Support bot'];
  const sums = { hour: new Map(), day: new Map() };
  const text = template(sample);
  const start = end - DAYS * 24 * HOUR;
  const step = (DAYS * 24 * HOUR) / ROWS;
  db.exec('BEGIN');
  for (let n = 0; n < ROWS; n++) {
    const at = Math.floor(start + n * step);
    const id = `gen_${ulid(at, n)}`;
    const total = 80 + ((n * 7919) % 9000);
    const [model, provider, key, app] = [pick(models, n), pick(providers, n >> 2), pick(keys, n >> 4), pick(apps, (n >> 4) % keys.length)];
    const [status, cost, prompt, completion] = [n % 50 ? 200 : 502, 1000 + (n % 5000), 50 + (n % 900), 20 + (n % 300)];
    insert.run(workspace, id, at, key, model, provider, status, 'finished', cost, prompt, completion, text({ id, at, key, model, provider, total, app, session: `session-${n % 5000}` }));
    for (const [span, ms] of [['hour', HOUR], ['day', 24 * HOUR]]) {
      const begins = at - (at % ms);
      const name = `${begins}|${model}|${provider}|${key}|${app}`;
      let sum = sums[span].get(name);
      if (!sum) sums[span].set(name, (sum = { values: [workspace, span, begins, model, provider, key, app], counts: [0, 0, 0, 0, 0], buckets: Array(BUCKETS).fill(0) }));
      [1, Number(status > 399), prompt, completion, cost].forEach((value, i) => (sum.counts[i] += value));
      sum.buckets[Math.min(BUCKETS - 1, Math.floor(2 * Math.log2(total)))] += 1;
    }
    if (n % 500_000 === 499_999) {
      db.exec('COMMIT; BEGIN');
      process.stderr.write(`${n + 1} rows\n`);
    }
  }
  for (const span of Object.values(sums)) for (const { values, counts, buckets } of span.values()) add.run(...values, ...counts, ...buckets);
  db.exec('COMMIT');
  console.log(`sums: ${sums.hour.size} by hour, ${sums.day.size} by day`);
  db.close();
  return { model: models[5], key: keys[3], bytes: text({ id: `gen_${ulid(end, 0)}`, at: end, key: keys[0], model: models[0], provider: providers[0], total: 1000, session: 'session-1000', app: 'Console' }).length };
}

/** Asks over HTTP as a dashboard does: the first time, and the median of nine after it. */
async function timed(gateway, { workspace, label, route, slowest }) {
  const times = [];
  let found;
  for (let i = 0; i < 10; i++) {
    const began = performance.now();
    const reply = await gateway.open('GET', `/v1/admin/workspaces/${workspace}/${route}`, { key: OPERATOR_TOKEN }).reply;
    times.push(performance.now() - began);
    found = reply.is(200).json.data.length;
  }
  const median = times.slice(1).toSorted((a, b) => a - b)[4];
  slowest.push(median);
  console.log(`| ${label} | ${times[0].toFixed(0)} | ${median.toFixed(0)} | ${found} |`);
}

/** The plans of the statements behind them, as `src/activity/question.rs` and `src/analytics/rollup.rs` write them. */
async function plans(gateway, workspace) {
  const range = "FROM activity WHERE workspace = '?' AND id >= 'gen_' AND id < 'gen_~' ORDER BY id DESC";
  const sums = (group) => `SELECT start, ${group} AS name, sum(requests) FROM rollups WHERE workspace = '?' AND span = 'day' AND start >= 0 AND start < 9e15 GROUP BY start, ${group} ORDER BY start, ${group} LIMIT 10001`;
  for (const [label, statement] of Object.entries({
    'a page': `SELECT id, cost_nanos, row ${range} LIMIT 101`,
    'a filtered page': `SELECT id, cost_nanos, row FROM (SELECT * ${range} LIMIT 8000) WHERE model IN ('m') AND row ->> '$.session' IN ('s') ORDER BY id DESC LIMIT 101`,
    'where its scan ended': `SELECT id ${range} LIMIT 1 OFFSET 7999`,
    'analytics by model': sums('model'),
    'analytics by key': sums('key'),
  })) {
    const steps = await gateway.d1(`EXPLAIN QUERY PLAN ${statement.replaceAll("'?'", `'${workspace}'`)}`);
    console.log(`${label}: ${steps.map(({ detail }) => detail).join(' · ')}`);
  }
}

async function measure(folder, { workspace, model, key, end }) {
  const gateway = await startGateway({ persist: folder, providers: ['p1', 'p2', 'p3'], scenes: 2, migrate: false });
  const slowest = [];
  try {
    await gateway.open('GET', `/v1/admin/workspaces/${workspace}`, { key: OPERATOR_TOKEN }).reply;
    console.log('| what | first ms | median ms | entries |\n| --- | --: | --: | --: |');
    const ask = (label, route) => timed(gateway, { workspace, label, route, slowest });
    for (const group of ['model', 'provider', 'key', 'app']) await ask(`analytics, 30 days by ${group}`, `analytics?group_by=${group}`);
    await ask('analytics, 7 days by hour and model', `analytics?interval=hour&group_by=model&since=${new Date(end - 7 * 24 * HOUR).toISOString()}`);
    await ask('newest page of 100', 'activity?limit=100');
    await ask('page of one model and key', `activity?limit=100&model=${model}&key=${key}`);
    await ask('page of one day, a month back', `activity?limit=100&until=${new Date(end - 29 * 24 * HOUR).toISOString()}`);
    await ask('page of failures that took long', 'activity?limit=100&status_min=500&total_ms_min=8000');
    await ask('page of one session', 'activity?limit=100&session=session-77');
    await ask('page of what is not there (a scan to its limit)', 'activity?limit=100&user=nobody');
    await plans(gateway, workspace);
    console.log(Math.max(...slowest) < 200 ? 'each under 200 ms' : 'not each under 200 ms');
  } finally {
    await gateway.stop();
  }
}

/** Fills the store with rows like one that the gateway wrote itself. */
async function made(folder) {
  const gateway = await startGateway({ persist: folder, providers: ['p1', 'p2', 'p3'], scenes: 2 });
  const scene = await gateway.scene({});
  const { id } = (await scene.chat({ user: 'user-1', session_id: 'session-1' })).is(200);
  const { prompt_tokens, completion_tokens, cost, cost_nanos, created_at, object, ...sample } = await scene.row(id);
  await new Promise((resolve) => setTimeout(resolve, 4_000));
  await gateway.stop();
  const files = fs.readdirSync(path.join(folder, 'd1'), { recursive: true }).filter((name) => name.endsWith('.sqlite') && !name.includes('metadata'));
  const file = path.join(folder, 'd1', files[0]);
  const small = fs.statSync(file).size;
  const end = Date.now();
  const { model, key, bytes } = fill(file, scene.workspace, sample, end);
  const size = fs.statSync(file).size;
  console.log(`${ROWS} rows of ${bytes} bytes of JSON: ${(size / 1e9).toFixed(2)} GB, ${((size - small) / ROWS).toFixed(0)} bytes a row, sums included`);
  return { workspace: scene.workspace, model, key, end };
}

const folder = options.folder ?? fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-scale-'));
const about = path.join(folder, 'scale.json');
try {
  if (!fs.existsSync(about)) fs.writeFileSync(about, JSON.stringify(await made(folder)));
  await measure(folder, JSON.parse(fs.readFileSync(about, 'utf8')));
} finally {
  if (!options.folder) fs.rmSync(folder, { recursive: true, force: true });
}
