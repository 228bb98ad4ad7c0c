// What is measured, and how one measurement is taken.
import { setTimeout as sleep } from 'node:timers/promises';
import { readText } from '../lib.mjs';
import { question } from './answers.mjs';
import { drive, leave, newSeq, once } from './client.mjs';
import { cpu } from './processes.mjs';
import { MODELS, RETRY_AFTER } from './upstream.mjs';

const PROMPT_LARGE = 256 * 1024;
/** Silence after which the gateway has settled and flushed what it answered (it flushes after 2 s). */
export const QUIET_MS = 2_600;

const plain = { name: 'fast', upstream: MODELS.fast };
const streamed = { ...plain, stream: true, usage: true };
const paced = { name: 'paced', upstream: MODELS.paced, stream: true, usage: true, isPaced: true };

/**
 * `rows` of the table need it. `duration` in ms. `also`: the gateway without its ledger is measured too. "Hidden" streams are those
 * of clients that did not ask for usage: the gateway asks for itself and takes the usage out again, so its script sees every chunk.
 */
export const SCENARIOS = {
  plain1: { title: 'plain, c=1', ask: plain, connections: 1, duration: 1200, rows: [4, 12] },
  plain8: { title: 'plain, c=8', ask: plain, connections: 8, duration: 1500, rows: [1, 2, 3, 12, 15], also: true },
  plain64: { title: 'plain, c=64', ask: plain, connections: 64, duration: 1200, rows: [12] },
  once1: { title: 'stream at once, c=1', ask: streamed, connections: 1, duration: 1200, rows: [12] },
  once8: { title: 'stream at once, c=8', ask: streamed, connections: 8, duration: 1500, rows: [8, 12], also: true },
  once64: { title: 'stream at once, c=64', ask: streamed, connections: 64, duration: 1200, rows: [12] },
  once8hidden: { title: 'stream at once, usage hidden, c=8', ask: { ...streamed, usage: false }, connections: 8, duration: 1500, rows: [8, 12] },
  paced8: { title: 'stream paced, c=8', ask: paced, connections: 8, duration: 2700, rows: [5, 6, 7, 12, 15], also: true },
  paced8hidden: { title: 'stream paced, usage hidden, c=8', ask: { ...paced, usage: false }, connections: 8, duration: 2700, rows: [5, 6, 7, 12] },
  translated8: { title: 'stream translated, paced, c=8', ask: { ...paced, name: 'translated', upstream: MODELS.translated }, connections: 8, duration: 2700, rows: [9, 12] },
  large4: { title: '256 KB prompt, c=4', ask: { ...plain, size: PROMPT_LARGE }, connections: 4, duration: 1500, rows: [10, 12], also: true },
};

export const sorted = (values) => [...values].sort((a, b) => a - b);
export function quantile(values, part) {
  const all = sorted(values);
  return all.length === 0 ? undefined : all[Math.min(all.length - 1, Math.floor(all.length * part))];
}
export function median(values) {
  const all = sorted(values.filter((value) => Number.isFinite(value)));
  if (all.length === 0) return undefined;
  return all.length % 2 === 1 ? all[(all.length - 1) / 2] : (all[all.length / 2 - 1] + all[all.length / 2]) / 2;
}

/** Time that a core was busy so far, in milliseconds. */
function coreBusy(core) {
  const line = core === undefined ? undefined : new RegExp(`^cpu${core} (.*)$`, 'm').exec(readText('/proc/stat') ?? '')?.[1];
  if (!line) return undefined;
  const [user, nice, system, , , irq, softirq] = line.split(' ').map(Number);
  return (user + nice + system + irq + softirq) * 10;
}

/**
 * One run of one scenario against one target. CPU counts what comes after the answers too (settlement, flush): it is read when
 * `close` is called, after the other targets' turns.
 */
export async function run(target, scenario, { upstream, place, factor = 1, count }) {
  await upstream.ask('/__reset');
  const before = target.pid && cpu(target.pid);
  const busy = coreBusy(place.target);
  const limits = { connections: scenario.connections, duration: scenario.duration * factor, ...(count && { count, duration: Infinity }) };
  const result = await drive(target, scenario.ask, limits);
  const during = target.pid && cpu(target.pid) - before;
  const foreign = target.pid && busy !== undefined ? Math.max(0, coreBusy(place.target) - busy - during) : undefined;
  const calls = await upstream.ask('/__calls');
  const { requests, wrong, faults, verbatim, latencies, firstTexts, delays, elapsed } = result;
  const record = {
    requests, wrong, faults, verbatim,
    calls: calls.total, calls_broken: calls.broken, calls_most: calls.most,
    per_second: (requests / elapsed) * 1e6,
    p50_us: quantile(latencies, 0.5), p99_us: quantile(latencies, 0.99),
    first_text_us: quantile(firstTexts, 0.5),
    chunk_p50_us: quantile(delays, 0.5), chunk_p99_us: quantile(delays, 0.99),
    foreign_percent: foreign === undefined ? undefined : (foreign / (elapsed / 1000)) * 100,
  };
  const close = () => {
    if (!target.pid) return;
    record.cpu_us = ((cpu(target.pid) - before) * 1000) / requests;
    record.cpu_during_us = (during * 1000) / requests;
  };
  return { record, close };
}

const body = (target, name, extra) => {
  const seq = newSeq();
  return [seq, question({ model: target.model(name), seq, ...extra })];
};

/** The client leaves; how many ms later the upstream's connection is closed. Infinity: not within 3 s. */
async function leaving(target, upstream, name, extra, how) {
  await upstream.ask('/__reset');
  const [seq, text] = body(target, name, extra);
  const { at } = await leave(target, text, extra.stream ? { after: 5, how } : { wait_ms: 300, how });
  for (let waited = 0; waited < 3000; waited += 25) {
    const { at: closedAt, called } = await upstream.ask(`/__closed?seq=${seq}`);
    if (closedAt) return (closedAt - at) / 1000;
    if (!called && waited > 1000) return undefined; // it never got there
    await sleep(25);
  }
  return Infinity;
}

/** Row 13: how a target behaves when one side does not keep to the plan. */
export async function faults(target, upstream) {
  const leaves = {};
  for (const [title, extra, how] of [
    ['stream, reset', { stream: true, usage: true }, 'reset'],
    ['stream, closed', { stream: true, usage: true }, 'close'],
    ['stream with usage hidden, reset', { stream: true }, 'reset'],
    ['stream with usage hidden, closed', { stream: true }, 'close'],
    ['plain, reset', {}, 'reset'],
  ]) {
    const all = [];
    for (let i = 0; i < 3 && !all.includes(Infinity); i++) all.push(await leaving(target, upstream, 'slow', extra, how));
    leaves[title] = all.includes(Infinity) ? 'never' : (median(all) ?? 'not called');
  }
  const cut = {};
  for (const [title, usage] of [['stream', true], ['stream with usage hidden', false]]) {
    const answer = await once(target, body(target, 'cut', { stream: true, usage })[1]);
    const text = answer.text();
    const isDone = text.includes('data: [DONE]');
    cut[title] = { seen: !isDone && (answer.error !== undefined || text.includes('data: {"error"')), status: answer.status, connection_broke: answer.error !== undefined, error_event: text.includes('data: {"error"'), done: isDone };
  }
  const limited = await once(target, body(target, 'limited', {})[1]);
  const retry_after = { kept: limited.status === 429 && limited.header('retry-after') === RETRY_AFTER, status: limited.status, value: limited.header('retry-after') ?? null };
  return { leaves, cut, retry_after };
}
