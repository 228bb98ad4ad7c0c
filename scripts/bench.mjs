// What the gateway adds to a request: the built Worker under Miniflare in front of a simulated provider that answers at once,
// next to the same requests sent to that provider directly. Everything on this machine, with a store of its own.
// BENCH_SECONDS (5) is the length of each run, BENCH_CONNECTIONS (1,32) the numbers of connections.
import fs from 'node:fs';
import { randomBytes } from 'node:crypto';
import { fork } from 'node:child_process';
import { Stop, at, main, say } from './lib.mjs';
import { build } from './build.mjs';
import { firstKey, healthy, migrate, simulatedCatalog } from './local.mjs';
import { setup, underNode22 } from './setup.mjs';

const STORE = '.state/bench';

/** The simulated provider in a process of its own, so that it does not share a thread with what is measured. */
function startProvider() {
  const child = fork(at('scripts/simulated/server.mjs'), { env: { ...process.env, SIMULATED_PORT: '0', SIMULATED_DELAY_MS: '0' }, silent: true });
  return new Promise((resolve, reject) => {
    child.once('message', ({ port }) => resolve({ port, child }));
    child.once('exit', (code) => reject(new Stop(`the simulated provider ended with ${code}`)));
  });
}

async function startGateway(operatorToken) {
  const { Miniflare, LogLevel, Log } = await import('miniflare');
  const { unstable_getMiniflareWorkerOptions } = await import('wrangler');
  const { workerOptions } = unstable_getMiniflareWorkerOptions(at('wrangler.toml'));
  const miniflare = new Miniflare({
    ...workerOptions,
    name: 'ai-stats-gateway',
    rootPath: at('build'),
    modulesRoot: at('build'),
    modules: [
      { type: 'ESModule', path: at('build/index.js') },
      { type: 'CompiledWasm', path: at('build/index_bg.wasm') },
    ],
    bindings: { ...workerOptions.bindings, OPERATOR_TOKEN: operatorToken, KEY_HASH_SECRET: randomBytes(32).toString('base64url') },
    defaultPersistRoot: at(STORE, 'v3'),
    host: '127.0.0.1',
    port: 0,
    cf: false,
    log: new Log(LogLevel.WARN),
  });
  return { miniflare, base: (await miniflare.ready).origin };
}

async function measure(autocannon, url, key, model, stream, connections, duration) {
  const result = await autocannon({
    url: `${url}/chat/completions`,
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
    body: JSON.stringify({ model, stream, max_tokens: 8, messages: [{ role: 'user', content: 'Say hello in one sentence.' }] }),
    connections,
    duration,
  });
  return { rate: result.requests.average, p50: result.latency.p50, p99: result.latency.p99, bad: result.non2xx + result.errors };
}

await main(async () => {
  await underNode22(import.meta);
  await setup();
  await build();
  const { default: autocannon } = await import('autocannon');
  const duration = Number(process.env.BENCH_SECONDS || 5);
  const counts = (process.env.BENCH_CONNECTIONS || '1,32').split(',').map(Number);

  const provider = await startProvider();
  let gateway;
  try {
    fs.rmSync(at(STORE), { recursive: true, force: true });
    await migrate(STORE);
    const { publish } = await import('./catalog.mjs');
    await publish({ add: [at(simulatedCatalog(provider.port))], remote: false, persistTo: STORE });
    const token = randomBytes(32).toString('base64url');
    gateway = await startGateway(token);
    await healthy(gateway.base);
    const { key } = await firstKey(gateway.base, token, at(STORE, 'first-key.json'));

    const direct = `http://127.0.0.1:${provider.port}/v1`;
    const through = `${gateway.base}/v1`;
    await measure(autocannon, through, key, 'simulated/echo', false, 4, 2); // warms both up
    say('\n                            requests/s    p50 ms    p99 ms   not 2xx');
    const line = (name, { rate, p50, p99, bad }) =>
      say(`${name.padEnd(28)}${rate.toFixed(0).padStart(10)}${String(p50).padStart(10)}${String(p99).padStart(10)}${String(bad).padStart(10)}`);
    let bad = 0;
    for (const stream of [false, true]) {
      for (const connections of counts) {
        const name = `${stream ? 'stream' : 'plain'}, ${connections} open`;
        line(`${name}, direct`, await measure(autocannon, direct, key, 'echo', stream, connections, duration));
        const result = await measure(autocannon, through, key, 'simulated/echo', stream, connections, duration);
        line(`${name}, gateway`, result);
        bad += result.bad;
      }
    }
    if (bad > 0) throw new Stop(`${bad} requests through the gateway failed`);
  } finally {
    provider.child.removeAllListeners('exit');
    provider.child.kill();
    await gateway?.miniflare.dispose();
    fs.rmSync(at(STORE), { recursive: true, force: true });
  }
});
