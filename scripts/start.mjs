// `npm start`: the gateway on this machine, ready to be called. Sets up, builds, prepares the local store, publishes the catalog,
// makes a first key and prints a request that works when pasted. Runs until Ctrl-C.
import fs from 'node:fs';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Stop, alive, at, environment, filesBelow, freePort, hashFiles, main, readJson, readText, root, run, running, say, seconds, ticking,
  whenOrphaned, writePrivate,
} from './lib.mjs';
import { build } from './build.mjs';
import { SIMULATED_PORT, firstKey, healthy, migrate, simulatedCatalog } from './local.mjs';
import { setup, underNode22 } from './setup.mjs';

const STORE = '.wrangler/state';
const DEV_VARS = '.dev.vars';
const KEYS_FILE = '.state/provider-keys.env';

// ---- secrets -------------------------------------------------------------------------------------------------------

/** The values that are set in a vars file: NAME=VALUE, quotes optional. */
export function parseVars(text) {
  const vars = {};
  for (const line of text.split('\n')) {
    const found = /^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$/.exec(line);
    if (!found) continue;
    const quoted = /^(['"`])(.*)\1/.exec(found[2]);
    vars[found[1]] = quoted ? quoted[2] : found[2].replace(/\s+#.*$/, '').replace(/^#.*$/, '');
  }
  return vars;
}

/** Makes .dev.vars, or adds what it lacks: the two secrets of a gateway, and a commented line for each provider's key. */
function devVars(keyNames) {
  const before = readText(at(DEV_VARS));
  const vars = parseVars(before ?? '');
  const secret = () => randomBytes(32).toString('base64url');
  const lines = ['OPERATOR_TOKEN', 'KEY_HASH_SECRET'].filter((name) => !vars[name]).map((name) => `${name}=${secret()}`);
  if (!vars.BYOK_SECRETS) lines.push(`BYOK_SECRETS=local:${secret()}`);
  const mentioned = (name) => new RegExp(`^\\s*#?\\s*(?:export\\s+)?${name}\\s*=`, 'm').test(before ?? '');
  const commented = keyNames.filter((name) => !mentioned(name)).map((name) => `# ${name}=`);
  if (commented.length > 0) lines.push('', '# Provider keys. Each one that is set opens that provider; with none, a simulated provider answers.', ...commented);
  if (lines.length === 0) return vars;
  const head = before === undefined ? '# Secrets of the gateway on this machine. Never committed.\n' : before.replace(/\n*$/, '\n');
  writePrivate(at(DEV_VARS), `${head}${lines.join('\n')}\n`);
  say(before === undefined ? `made ${DEV_VARS} with new secrets` : `added to ${DEV_VARS} what it lacked`);
  return parseVars(readText(at(DEV_VARS)));
}

/** Provider keys from the environment, in a file that only wrangler reads: on its command line they would be printed. */
function passOn(keys) {
  fs.rmSync(at(KEYS_FILE), { force: true });
  if (Object.keys(keys).length === 0) return [];
  const quote = (value) => {
    const mark = ["'", '"', '`'].find((candidate) => !value.includes(candidate));
    if (!mark || value.includes('\n')) throw new Stop('a provider key in the environment holds quotes or line ends; put it into .dev.vars instead');
    return `${mark}${value.replaceAll('$', '\\$')}${mark}`;
  };
  writePrivate(at(KEYS_FILE), Object.entries(keys).map(([name, value]) => `${name}=${quote(value)}\n`).join(''));
  say(`provider keys from the environment: ${Object.keys(keys).join(', ')}`);
  return [KEYS_FILE];
}

// ---- catalog -------------------------------------------------------------------------------------------------------

function readProviders() {
  const files = filesBelow(['catalog/providers']).filter((file) => file.endsWith('.json'));
  return files.map((file) => {
    const provider = readJson(file);
    if (!provider?.id) throw new Stop(`${path.relative(root, file)} is not a provider: run "npm run catalog:check"`);
    return { ...provider, keys: [provider.key_env ?? []].flat() };
  });
}

/** A chat model to greet with, pinned to a provider whose key is set: the newest that is current, takes tools and costs little. */
function greetingModel(providers, keys) {
  const models = filesBelow(['catalog/models']).flatMap((file) => readJson(file)?.models ?? []);
  const released = new Map(models.map((model) => [model.id, model.released ?? '']));
  const chat = providers
    .filter((provider) => provider.keys.some((name) => keys[name]))
    .flatMap((provider) => provider.offers.map((offer) => ({ ...offer, provider: provider.id, price: Number(offer.prices?.output_tokens) })))
    .filter((offer) => offer.kind === 'chat' && offer.price >= 0);
  const current = chat.filter((offer) => !offer.status && !offer.variant && !offer.retires && !offer.snapshot && !offer.free);
  const good = current.filter((offer) => offer.can?.includes('tools') && offer.price <= 5);
  const [best] = [good, current, chat]
    .find((list) => list.length > 0)
    ?.sort((a, b) => released.get(b.model)?.localeCompare(released.get(a.model) ?? '') || a.price - b.price) ?? [];
  return best && `${best.provider}:${best.model}`;
}

/** Runs `body` only when its inputs are not those of last time, or when the store was removed since. */
async function unlessSame(name, hash, folder, body) {
  const file = at('.state', `${name}.hash`);
  if (readText(file) === hash && fs.existsSync(at(STORE, 'v3', folder))) return say(`${name}: unchanged`);
  fs.rmSync(file, { force: true });
  await body();
  fs.mkdirSync(at('.state'), { recursive: true });
  fs.writeFileSync(file, hash);
}

// ---- the gateway ---------------------------------------------------------------------------------------------------

const stops = [];
let stopping;

/** Ends everything that was started here, newest first, then this process. */
function stop(code) {
  stopping ??= (async () => {
    for (const child of running) child.kill('SIGTERM');
    for (const end of stops.reverse()) await end();
    process.exit(code);
  })();
  return stopping;
}

function startWrangler(port, varsFiles) {
  const args = [
    'dev', '--local', '--ip', '127.0.0.1', '--port', String(port), '--persist-to', STORE, '--show-interactive-dev-session=false',
    ...varsFiles.flatMap((file) => ['--env-file', file]),
  ];
  const child = spawn(process.execPath, [at('node_modules/wrangler/bin/wrangler.js'), ...args], {
    cwd: root,
    detached: true, // its own group: Ctrl-C reaches this script, which then ends wrangler and workerd in order
    env: environment({ CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV: 'true' }),
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const ended = new Promise((resolve) => child.once('close', (code, signal) => resolve(signal ?? code)));
  const signalGroup = (signal) => {
    try {
      return process.kill(-child.pid, signal);
    } catch {
      return false; // nobody left in it
    }
  };
  stops.push(async () => {
    child.kill('SIGTERM');
    for (const until = Date.now() + 5_000; signalGroup(0) && Date.now() < until; ) await sleep(50);
    signalGroup('SIGKILL');
    await ended;
  });
  process.on('exit', () => signalGroup('SIGKILL'));
  const failed = ended.then((how) => {
    if (!stopping) throw new Stop(`wrangler ended (${how}); its own lines above say why`);
  });
  failed.catch(() => {});
  return failed;
}

function printReady({ base, key, workspace, fresh, model, simulated, since }) {
  const body = (extra) => JSON.stringify({ model, ...extra, messages: [{ role: 'user', content: 'Say hello in one sentence.' }] });
  const chat = (flags, extra) =>
    `curl ${flags}${base}/v1/chat/completions -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' -d '${body(extra)}'`;
  const get = (route) => `curl ${base}${route} -H 'Authorization: Bearer ${key}'`;
  say(`
The gateway is ready at ${base}/v1 (${seconds(since)})
  key        ${key}
  workspace  ${workspace}${fresh ? ', with $10.00 of credits' : ''}
  model      ${model}${simulated ? `  (simulated: it costs nothing and echoes; set a provider key in ${DEV_VARS} for a real one)` : ''}

Ask it:
${chat('', {})}

The same as a stream:
${chat('-N ', { stream: true })}

What was asked, and what is left:
${get('/v1/activity')}
${get('/v1/credits')}

Ctrl-C stops it. The operator's token is in ${DEV_VARS}.
`);
}

await main(async () => {
  const since = Date.now();
  await underNode22(import.meta);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => stop(0));
  whenOrphaned(() => stop(0));

  const runningFile = at('.state/running.json');
  const other = readJson(runningFile);
  if (other && other.pid !== process.pid && alive(other.pid)) {
    throw new Stop(`the gateway of this folder already runs at ${other.base} (process ${other.pid}); two cannot share its store`);
  }

  await setup();
  const stamp = await build();

  const providers = readProviders();
  const keyNames = [...new Set(providers.flatMap((provider) => provider.keys))].sort();
  const vars = devVars(keyNames);
  const fromEnvironment = Object.fromEntries(keyNames.filter((name) => process.env[name]).map((name) => [name, process.env[name]]));
  const keys = { ...Object.fromEntries(keyNames.filter((name) => vars[name]).map((name) => [name, vars[name]])), ...fromEnvironment };
  const simulated = Object.keys(keys).length === 0;

  const wantedPort = Number(process.env.PORT || 8787);
  const port = await freePort(wantedPort);
  if (port !== wantedPort) say(`port ${wantedPort} is busy; using ${port}`);
  const base = `http://127.0.0.1:${port}`;
  writePrivate(runningFile, JSON.stringify({ pid: process.pid, base }));
  process.on('exit', () => {
    fs.rmSync(runningFile, { force: true });
    fs.rmSync(at(KEYS_FILE), { force: true });
  });

  await unlessSame('migrations', hashFiles(filesBelow(['migrations', 'wrangler.toml'])), 'd1', () => migrate(STORE));

  const add = [];
  if (simulated) {
    const { start } = await import('./simulated/server.mjs');
    const provider = await start({
      port: await freePort(Number(process.env.SIMULATED_PORT || SIMULATED_PORT)),
      delay: Number(process.env.SIMULATED_DELAY_MS || 30),
    });
    stops.push(provider.close);
    say(`no provider key is set: a simulated provider runs at ${provider.url}`);
    add.push(simulatedCatalog(provider.port));
  }
  const published = hashFiles(filesBelow(['catalog', ...add, 'scripts/catalog.mjs', 'src/bin']), stamp.hash);
  await unlessSame('catalog', published, 'kv', async () => {
    const { publish } = await import('./catalog.mjs');
    const to = { add: add.map((folder) => at(folder)), remote: false, persistTo: STORE };
    await ticking('compiling and publishing the catalog', '20 s, the first time 1 min', () => publish(to));
  });

  const wrangler = startWrangler(port, [DEV_VARS, ...passOn(fromEnvironment)]);
  await Promise.race([healthy(base), wrangler]);
  const first = await firstKey(base, vars.OPERATOR_TOKEN, at('.state/first-key.json'));
  const model = simulated ? 'simulated/echo' : (greetingModel(providers, keys) ?? 'ONE_OF_/v1/models');
  printReady({ base, ...first, model, simulated, since });
  await wrangler;
});
