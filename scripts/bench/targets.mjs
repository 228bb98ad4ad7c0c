// What is measured: the floor, the gateway, and the gateway with an ear on its calls (`shim.worker.js`), each a plain workerd.
import fs from 'node:fs';
import path from 'node:path';
import { randomBytes } from 'node:crypto';
import { Stop, at, environment, filesBelow, readText, run } from '../lib.mjs';
import { largeCatalog } from './large.mjs';
import { MODELS } from './upstream.mjs';
import { ready, startWorkerd } from './processes.mjs';

const here = (name) => at('scripts/bench', name);
export const CREDENTIAL = 'provider-credential'; // what the upstream wants to see, and the client never sends
const UNLIMITED = 2_000_000_000;

/** Compatibility date and flags, from wrangler.toml: the bench must not run another platform than production. */
function platform() {
  const toml = readText(at('wrangler.toml')) ?? '';
  const date = /^compatibility_date\s*=\s*"(.+?)"/m.exec(toml)?.[1];
  const flags = /^compatibility_flags\s*=\s*\[(.*?)\]/m.exec(toml)?.[1] ?? '';
  if (!date) throw new Stop('wrangler.toml has no compatibility_date');
  return { date, flags: [...flags.matchAll(/"(.+?)"/g)].map(([, flag]) => flag) };
}

/** KV and D1, in a process of their own. */
export async function startStore(place, folder) {
  const store = await startWorkerd(place, path.join(folder, 'store'), place.upstream, {
    modules: [['store.js', here('store.worker.js')]],
    bindings: ['(name = "DATABASE", durableObjectNamespace = "Database")'],
    objects: ['Database'],
  });
  const base = `http://127.0.0.1:${store.port}`;
  const send = async (method, route, body) => {
    const response = await fetch(base + route, { method, body });
    const text = await response.text();
    if (!response.ok) throw new Stop(`the store's ${method} ${route} gave ${response.status}: ${text.slice(0, 300)}`);
    return text;
  };
  for (const file of filesBelow(['migrations']).filter((file) => file.endsWith('.sql'))) {
    await send('POST', '/execute', JSON.stringify({ sql: fs.readFileSync(file, 'utf8') }));
  }
  return {
    ...store,
    put: (key, value) => send('PUT', `/${encodeURIComponent(key)}`, value),
    counters: async () => JSON.parse(await send('GET', '/__counters')),
  };
}

/** Compiles the project's catalog with the upstream's models beside it, and publishes that. Faults have a provider of their own: they spoil its health. */
export async function publishCatalog(folder, store, upstreamPort, large) {
  const offer = (name) => ({
    model: `bench/${name}`, upstream: MODELS[name], kind: 'chat', context: 1_000_000, max_output: 8192, can: [],
    prices: { input_tokens: '1', output_tokens: '2' }, as_of: '2026-11-25',
  });
  const provider = (id, names) => ({
    id, name: id, base_url: `http://127.0.0.1:${upstreamPort}/v1`, families: ['openai-chat'], key_env: 'BENCH_CREDENTIAL', offers: names.map(offer),
  });
  const model = (name) => ({ id: `bench/${name}`, name, kind: 'chat', input: ['text'], output: ['text'], context: 1_000_000, max_output: 8192 });
  const files = {
    'providers/bench.json': provider('bench', ['fast', 'paced', 'slow']),
    'providers/bench-messages.json': { ...provider('bench-messages', ['translated']), families: ['anthropic-messages'], auth: { header: 'Authorization', prefix: 'Bearer ' } },
    'providers/bench-cut.json': provider('bench-cut', ['cut']),
    'providers/bench-limited.json': provider('bench-limited', ['limited']),
    'models/bench.json': { organisation: { id: 'bench', name: 'Bench' }, models: Object.keys(MODELS).map(model) },
  };
  const media = largeCatalog(large);
  for (const one of media.providers) files[`providers/${one.id}.json`] = { as_of: '2026-11-25', ...one, offers: one.offers.map((offer) => ({ as_of: '2026-11-25', ...offer })) };
  files['models/large.json'] = { organisation: { id: 'large', name: 'Large' }, models: media.models };
  for (const [name, value] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(folder, 'catalog', name)), { recursive: true });
    fs.writeFileSync(path.join(folder, 'catalog', name), JSON.stringify(value));
  }
  const out = path.join(folder, 'snapshot.json');
  const args = ['run', '--quiet', '--bin', 'catalog', '--', 'compile', '--out', out, at('catalog'), path.join(folder, 'catalog')];
  const { code, output } = await run('cargo', args, { env: environment(), capture: true, allowFailure: true });
  if (code !== 0) throw new Stop(`the bench's catalog does not compile:\n${output}`);
  const { snapshot, pairs } = JSON.parse(fs.readFileSync(out, 'utf8'));
  for (const { key, value } of pairs) await store.put(key, value);
  await store.put('catalog/snapshots', JSON.stringify([{ ...snapshot, published_at: new Date().toISOString() }]));
  await store.put('catalog/current', JSON.stringify({ snapshot: snapshot.id }));
}

export const startFloor = (place, folder, upstreamPort, name = 'floor') =>
  startWorkerd(place, path.join(folder, name), place.target, {
    ...platform(),
    modules: [['floor.js', here('floor.worker.js')]],
    bindings: [`(name = "UPSTREAM", text = "http://127.0.0.1:${upstreamPort}")`],
  });

/** Starts the gateway; with `isShimmed`, behind the module that listens to it. */
export async function startGateway(place, folder, store, { name, isShimmed = false, secrets = {}, inspector = false }) {
  const token = secrets.OPERATOR_TOKEN ?? randomBytes(32).toString('base64url');
  const vars = {
    OPERATOR_TOKEN: token, KEY_HASH_SECRET: randomBytes(32).toString('base64url'), BENCH_CREDENTIAL: CREDENTIAL, MEDIA_LOOPBACK: 'allowed',
    DEFAULT_REQUESTS_PER_MINUTE: String(UNLIMITED), DEFAULT_TOKENS_PER_MINUTE: String(UNLIMITED), DEFAULT_PARALLEL_REQUESTS: '100000', ...secrets,
  };
  const own = [['index.js', at('build/index.js')], ['index_bg.wasm', at('build/index_bg.wasm')]];
  const gateway = await startWorkerd(place, path.join(folder, name), place.target, {
    ...platform(),
    modules: isShimmed ? [['shim.js', here('shim.worker.js')], ...own] : own,
    bindings: [
      '(name = "KV", kvNamespace = "store")',
      '(name = "DB", wrapped = (moduleName = "cloudflare-internal:d1-api", innerBindings = [(name = "fetcher", service = "store")]))',
      '(name = "WORKSPACE", durableObjectNamespace = "Workspace")',
      '(name = "REPLAY", durableObjectNamespace = "Replay")',
      '(name = "HEALTH", durableObjectNamespace = "Health")',
      '(name = "COURIER", durableObjectNamespace = "Courier")',
      '(name = "GENERATION", durableObjectNamespace = "Generation")',
      ...Object.entries(vars).map(([name, value]) => `(name = "${name}", text = ${JSON.stringify(value)})`),
    ],
    objects: ['Workspace', 'Replay', 'Health', 'Courier', 'Generation'],
    inspector,
    entrypoints: isShimmed ? { bench: 'bench' } : {},
    services: [`(name = "store", external = (address = "127.0.0.1:${store.port}", http = ()))`],
  });
  return { ...gateway, token };
}

/** A call of the gateway that is no measurement. */
async function call({ port, said }, credential, method, route, body) {
  const response = await fetch(`http://127.0.0.1:${port}/v1/${route}`, {
    method,
    headers: { authorization: `Bearer ${credential}`, 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok) throw new Stop(`${method} /v1/${route} gave ${response.status}: ${text.slice(0, 500)}\n${said()}`);
  return JSON.parse(text);
}

/** What the gateway says it did; empty where it does not say. */
export async function ownCounters(gateway) {
  try {
    return (await call(gateway, gateway.token, 'GET', 'admin/health')).counters ?? {};
  } catch {
    return {};
  }
}

/** A workspace with credits and a key; the gateway as a target of `drive`. */
export async function gatewayTarget(gateway) {
  await ready(gateway);
  const admin = (route, body) => call(gateway, gateway.token, 'POST', `admin/${route}`, body);
  const limits = { requests_per_minute: UNLIMITED, tokens_per_minute: UNLIMITED, parallel_requests: 100_000 };
  const workspace = await admin('workspaces', { name: 'bench', limits });
  await admin(`workspaces/${workspace.id}/credits`, { amount: '100000.00', reason: 'bench', idempotency_key: `bench-${workspace.id}` });
  const { key } = await admin(`workspaces/${workspace.id}/keys`, { name: 'bench', limits });
  return { ...gateway, credential: key, charges: true, model: (name) => `bench/${name}`, credits: () => call(gateway, key, 'GET', 'credits') };
}

export const plainTarget = ({ port, pid }) => ({ port, pid, credential: CREDENTIAL, model: (name) => MODELS[name] });

