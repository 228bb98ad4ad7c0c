// Checks the catalog, or publishes it: compiles `catalog/` and added folders into one snapshot and writes that to KV.
//
//   node scripts/catalog.mjs check   [--add FOLDER]...
//   node scripts/catalog.mjs publish [--add FOLDER]... [--remote] [--persist-to DIR]
//   node scripts/catalog.mjs receipt [--remote] [--persist-to DIR] ROW
//
// A snapshot's keys hold its id, so writing one never changes what is in use. Order of writing: its values, its manifest (which
// says that all values are there), the list of snapshots, and last the pointer `catalog/current`.
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Stop, at, environment, isMain, main, root, running, say, which } from './lib.mjs';
import { node22, setup } from './setup.mjs';

const CURRENT = 'catalog/current';
const SNAPSHOTS = 'catalog/snapshots';
const SNAPSHOTS_MAX = 50;
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

/** Runs a program and returns what it wrote to both streams, apart. `running` lets a parent script end it. */
function output(command, args) {
  return new Promise((resolve, reject) => {
    const options = { cwd: root, env: environment({ CI: 'true' }), maxBuffer: OUTPUT_BYTES_MAX };
    const child = execFile(command, args, options, (error, stdout, stderr) => {
      running.delete(child);
      if (error && typeof error.code !== 'number') return reject(error);
      resolve({ code: error?.code ?? 0, stdout, stderr });
    });
    running.add(child);
  });
}

/** Builds the catalog command natively and returns its path. What cargo says is shown only when it fails. */
async function buildCommand() {
  const cargo = which('cargo');
  if (!cargo) throw new Stop('cargo is missing: install Rust from https://rustup.rs');
  const { code, stdout, stderr } = await output(cargo, ['build', '--bin', 'catalog', '--message-format=json-render-diagnostics']);
  if (code !== 0) throw new Stop(`the catalog command does not build:\n${stderr.trim()}`);
  const messages = stdout.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  const built = messages.find((message) => message.target?.name === 'catalog' && message.executable);
  if (!built) throw new Stop('cargo built no catalog command');
  return built.executable;
}

/** The folders to compile, named from the project's root where they lie in it: so are the files in problems. */
function folders(add) {
  const named = add.map((folder) => {
    const full = path.resolve(folder);
    const inside = path.relative(root, full);
    return inside.startsWith('..') || path.isAbsolute(inside) ? full : inside;
  });
  return ['catalog', ...named];
}

async function runCommand(args) {
  const { code, stdout, stderr } = await output(await buildCommand(), args);
  if (code !== 0) throw new Stop(stderr.trim());
  return stdout.trim();
}

/** Checks `catalog/` and added folders; a problem is a `Stop` with a line for each. Returns a summary line. */
export const check = async ({ add = [] } = {}) => runCommand(['check', ...folders(add)]);

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Reads and writes the KV namespace with wrangler, on this machine or in the account. */
function store({ remote, persistTo, scratch }) {
  const node = node22();
  const wrangler = at('node_modules/wrangler/bin/wrangler.js');
  if (!node || !fs.existsSync(wrangler)) throw new Stop('wrangler is missing: run "npm run setup"');
  const where = ['--binding', 'KV', ...(remote ? ['--remote'] : ['--local', ...(persistTo ? ['--persist-to', path.resolve(root, persistTo)] : [])])];
  const call = (...args) => output(node, [wrangler, 'kv', ...args, ...where]);
  const failed = (what, { stdout, stderr }) => new Stop(`${what} failed:\n${`${stderr}\n${stdout}`.trim()}`);
  let files = 0;
  return {
    /** The JSON under `key`; undefined where there is none. */
    async read(key) {
      const result = await call('key', 'get', key, '--text');
      const said = `${result.stdout}\n${result.stderr}`;
      const value = parseJson(result.stdout);
      if (result.code === 0 && value !== undefined) return value;
      if (/\bnot found\b/i.test(said)) return undefined; // "Value not found" on this machine, "404: key not found" in the account
      throw failed(`reading ${key}`, result);
    },
    /** Writes `[{key, value}]`. */
    async write(pairs) {
      files += 1;
      const file = path.join(scratch, `pairs-${files}.json`);
      fs.writeFileSync(file, JSON.stringify(pairs));
      const result = await call('bulk', 'put', file);
      if (result.code !== 0) throw failed('writing to KV', result);
    },
  };
}

/** Publishes `catalog/` and added folders, moves the pointer, and returns `{id, models, offers, providers}`. */
export async function publish({ add = [], remote = false, persistTo } = {}) {
  if (remote && persistTo) throw new Stop('--persist-to is for the local store: it does not go with --remote');
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'catalog-'));
  try {
    const kv = store({ remote, persistTo, scratch });
    const compiled = path.join(scratch, 'snapshot.json');
    await runCommand(['compile', '--out', compiled, ...folders(add)]);
    const { snapshot, pairs } = JSON.parse(fs.readFileSync(compiled, 'utf8'));
    const manifestKey = `catalog/${snapshot.id}/manifest`;
    // One after the other: two wranglers that open the same local store at once can lock each other out.
    const isThere = (await kv.read(manifestKey)) !== undefined;
    const earlier = (await kv.read(SNAPSHOTS)) ?? [];
    const published = { id: snapshot.id, published_at: new Date().toISOString() };
    const listed = { ...published, models: snapshot.models, offers: snapshot.offers, providers: snapshot.providers };
    const list = [listed, ...earlier.filter((other) => other.id !== snapshot.id)].slice(0, SNAPSHOTS_MAX);
    // What is of no snapshot (the reader of /docs) comes with a new version of the Worker too.
    const isLast = ({ key }) => key === manifestKey || !key.startsWith(`catalog/${snapshot.id}/`);
    if (!isThere) await kv.write(pairs.filter((pair) => !isLast(pair)));
    await kv.write([...pairs.filter(isLast), { key: SNAPSHOTS, value: JSON.stringify(list) }]);
    await kv.write([{ key: CURRENT, value: JSON.stringify({ snapshot: snapshot.id }) }]);
    say(`published ${snapshot.id}: ${snapshot.models} models, ${snapshot.offers} offers, ${snapshot.providers} providers`);
    return snapshot;
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
  }
}

/**
 * Recomputes a generation's cost from the published catalog: `row` is a file with the answer of `GET /v1/generation?id=`. Returns the
 * receipt; a difference is a `Stop` that says which.
 */
export async function receipt({ row, remote = false, persistTo } = {}) {
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'receipt-'));
  try {
    const { snapshot, model } = parseJson(fs.readFileSync(row, 'utf8')) ?? {};
    const key = `catalog/${snapshot}/model/${model}`;
    const value = snapshot && model ? await store({ remote, persistTo, scratch }).read(key) : undefined;
    const file = path.join(scratch, 'snapshot.json');
    fs.writeFileSync(file, JSON.stringify({ snapshot: { id: snapshot ?? '' }, pairs: value ? [{ key, value: JSON.stringify(value) }] : [] }));
    return await runCommand(['receipt', '--snapshot', file, path.resolve(row)]);
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
  }
}

const USAGE = `usage: node scripts/catalog.mjs check [--add FOLDER]...
       node scripts/catalog.mjs publish [--add FOLDER]... [--remote] [--persist-to DIR]
       node scripts/catalog.mjs receipt [--remote] [--persist-to DIR] ROW`;

function parse(args) {
  const options = { add: { type: 'string', multiple: true }, remote: { type: 'boolean' }, 'persist-to': { type: 'string' } };
  try {
    const { values, positionals } = parseArgs({ args, options, allowPositionals: true });
    const persistTo = values['persist-to'];
    const [command, row, ...more] = positionals;
    const fits = more.length === 0 && (row !== undefined) === (command === 'receipt');
    return { command: fits ? command : undefined, row, add: values.add, remote: values.remote, persistTo };
  } catch (error) {
    throw new Stop(`${error.message}\n${USAGE}`);
  }
}

if (isMain(import.meta)) {
  await main(async () => {
    const { command, ...options } = parse(process.argv.slice(2));
    if (command === 'check') return say(await check(options));
    if (command !== 'publish' && command !== 'receipt') throw new Stop(USAGE);
    await setup({ wasm: false });
    if (options.persistTo) options.persistTo = path.resolve(options.persistTo);
    if (command === 'receipt') return say(await receipt(options));
    await publish(options);
  });
}
