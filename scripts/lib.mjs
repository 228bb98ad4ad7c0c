// What every script needs: the project's root, one way to run a program, locks and content hashes.
// Plain Node 20, no packages: this file also runs before anything is installed.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(fileURLToPath(new URL('..', import.meta.url)));
export const at = (...parts) => path.join(root, ...parts);

/** An error whose message is all that the person needs to see. */
export class Stop extends Error {}

export const say = (line) => process.stdout.write(`${line}\n`);
export const seconds = (since) => `${((Date.now() - since) / 1000).toFixed(1)} s`;
export const isMain = (meta) => process.argv[1] !== undefined && fs.realpathSync(process.argv[1]) === fileURLToPath(meta.url);

/** Runs a script's body; a `Stop` is printed as its one line. */
export async function main(body) {
  try {
    await body();
  } catch (error) {
    process.stderr.write(error instanceof Stop ? `${error.message}\n` : `${error?.stack ?? error}\n`);
    process.exit(1);
  }
}

/** The environment of every program started from here: the project's own binaries first, and nothing that phones home. */
export function environment(extra = {}) {
  const cargoBin = path.join(process.env.CARGO_HOME || path.join(os.homedir(), '.cargo'), 'bin');
  return {
    ...process.env,
    PATH: [at('node_modules/.bin'), process.env.PATH, cargoBin].filter(Boolean).join(path.delimiter),
    WRANGLER_SEND_METRICS: 'false',
    WRANGLER_HIDE_BANNER: 'true', // and with it the look for a newer version
    CLOUDFLARE_CF_FETCH_ENABLED: 'false',
    ...extra,
  };
}

/** First file called `name` on the PATH of `environment()`. */
export function which(name) {
  for (const folder of environment().PATH.split(path.delimiter)) {
    const file = path.join(folder, name);
    try {
      fs.accessSync(file, fs.constants.X_OK);
      if (fs.statSync(file).isFile()) return file;
    } catch {}
  }
  return undefined;
}

/** Programs that `run` has started and that have not ended yet. */
export const running = new Set();

/** Runs a program to its end. `capture` returns its output instead of showing it; otherwise output goes straight through. */
export function run(command, args, { env, cwd = root, capture = false, allowFailure = false } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env: env ?? environment(),
      stdio: capture ? ['ignore', 'pipe', 'pipe'] : ['ignore', 'inherit', 'inherit'],
    });
    running.add(child);
    let output = '';
    child.stdout?.on('data', (data) => (output += data));
    child.stderr?.on('data', (data) => (output += data));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      running.delete(child);
      if (code === 0 || allowFailure) return resolve({ code: code ?? 1, output });
      const error = new Stop(`${path.basename(command)} ${args.join(' ')} ended with ${signal ?? code}`);
      error.output = output;
      reject(error);
    });
  });
}

/** A step that may take minutes: a line before it, a ticking line while it shows nothing itself, a line after it. */
export async function ticking(title, about, body) {
  const since = Date.now();
  say(`${title} (about ${about}) …`);
  const tick = setInterval(() => say(`${title}: still working, ${Math.round((Date.now() - since) / 1000)} s`), 20_000);
  try {
    const result = await body();
    say(`${title}: done in ${seconds(since)}`);
    return result;
  } finally {
    clearInterval(tick);
  }
}

/** Runs a program as such a step. On a terminal it shows its own progress; elsewhere its output is shown when it fails. */
export async function longStep(title, about, command, args, options = {}) {
  if (process.stderr.isTTY) {
    say(`${title} (about ${about}) …`);
    return run(command, args, options);
  }
  try {
    return await ticking(title, about, () => run(command, args, { ...options, capture: true }));
  } catch (error) {
    if (error.output) process.stderr.write(error.output);
    throw error;
  }
}

/** Holds `.state/NAME.lock` while `body` runs, so that two scripts in one tree do not build or install over each other. */
export async function withLock(name, body) {
  const file = at('.state', `${name}.lock`);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  for (let told = false; ; await sleep(200)) {
    try {
      fs.writeFileSync(file, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const owner = Number(readText(file));
    if (owner && alive(owner)) {
      if (!told) say(`waiting for another script here (process ${owner}, ${name}) …`);
      told = true;
    } else if (owner || Date.now() - fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs > 2000) {
      fs.rmSync(file, { force: true });
    }
  }
  const release = () => fs.rmSync(file, { force: true });
  process.once('exit', release);
  try {
    return await body();
  } finally {
    process.removeListener('exit', release);
    release();
  }
}

/** Calls back when the process that started this script ends. npm's shell does not pass a SIGTERM on: its end is all that can be seen. */
export function whenOrphaned(body) {
  if (!process.env.npm_lifecycle_event && !process.env.GATEWAY_HANDED_OVER) return;
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    body();
  }, 250);
  timer.unref();
}

export function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

export function readText(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

export function readJson(file) {
  const text = readText(file);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Writes a file that only its owner can read. */
export function writePrivate(file, text) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, text, { mode: 0o600 });
  fs.chmodSync(file, 0o600);
}

/** Every file below the given files and folders, sorted; what does not exist counts as empty. */
export function filesBelow(paths, skip = () => false) {
  const found = [];
  const visit = (file) => {
    const stat = fs.statSync(file, { throwIfNoEntry: false });
    if (!stat || skip(file)) return;
    if (stat.isDirectory()) for (const name of fs.readdirSync(file).sort()) visit(path.join(file, name));
    else found.push(file);
  };
  for (const item of paths) visit(path.resolve(root, item));
  return found;
}

/** One hash over names and contents. */
export function hashFiles(files, extra = '') {
  const hash = createHash('sha256').update(extra);
  for (const file of files) {
    const data = fs.readFileSync(file);
    hash.update(`\n${path.relative(root, file)}\0${data.length}\0`).update(data);
  }
  return hash.digest('hex');
}

const isFree = (port) =>
  new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });

/** `wanted` when nobody listens there, else the next free port after it. */
export async function freePort(wanted) {
  for (let port = wanted; port < Math.min(wanted + 200, 65_536); port++) if (await isFree(port)) return port;
  throw new Stop(`no free port between ${wanted} and ${wanted + 200}; set PORT to another one`);
}
