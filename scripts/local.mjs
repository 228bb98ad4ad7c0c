// A gateway on this machine: the steps that `npm start` and `npm run bench` share.
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Stop, at, environment, readJson, run, say, writePrivate } from './lib.mjs';

export const SIMULATED_PORT = 8799; // the one in the simulated catalog's base_url
const SIMULATED = 'scripts/simulated/catalog';

/** Brings the local database in `store` to the newest migration. */
export async function migrate(store) {
  say('applying the database migrations …');
  try {
    await run(process.execPath, [at('node_modules/wrangler/bin/wrangler.js'), 'd1', 'migrations', 'apply', 'DB', '--local', '--persist-to', store], {
      env: environment({ CI: 'true' }), // no question, just apply
      capture: true,
    });
  } catch (error) {
    throw new Stop(`the migrations do not apply:\n${error.output ?? error.message}`);
  }
}

/** The simulated provider's catalog; a copy with the right address when it listens on another port than the one written there. */
export function simulatedCatalog(port) {
  if (port === SIMULATED_PORT) return SIMULATED;
  const copy = '.state/simulated-catalog';
  fs.rmSync(at(copy), { recursive: true, force: true });
  fs.cpSync(at(SIMULATED), at(copy), { recursive: true });
  const file = at(copy, 'providers/simulated.json');
  const provider = readJson(file);
  provider.base_url = `http://127.0.0.1:${port}/v1`;
  fs.writeFileSync(file, JSON.stringify(provider, null, 2));
  return copy;
}

/** Waits until GET /v1/health answers 200. */
export async function healthy(base) {
  const until = Date.now() + 60_000;
  let last = 'no answer';
  while (Date.now() < until) {
    try {
      const response = await fetch(`${base}/v1/health`, { signal: AbortSignal.timeout(5_000) });
      if (response.status === 200) return;
      last = `status ${response.status}: ${(await response.text()).slice(0, 300)}`;
    } catch {}
    await sleep(100);
  }
  throw new Stop(`the gateway is not healthy after 60 s: GET /v1/health gave ${last}`);
}

/** The key in `file` when it still works, else a new workspace with credits and a key, noted there. */
export async function firstKey(base, operatorToken, file) {
  const known = readJson(file);
  if (known?.key) {
    const { status } = await fetch(`${base}/v1/key`, { headers: { authorization: `Bearer ${known.key}` } });
    if (status === 200) return { ...known, fresh: false };
    if (status >= 500) throw new Stop(`GET /v1/key answered ${status}; see the log above`);
  }
  const post = async (route, body) => {
    const response = await fetch(`${base}/v1/admin/${route}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${operatorToken}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    const text = await response.text();
    if (response.status !== 201) throw new Stop(`POST /v1/admin/${route} answered ${response.status}: ${text.slice(0, 300)}`);
    return JSON.parse(text);
  };
  const workspace = await post('workspaces', { name: 'My workspace' });
  await post(`workspaces/${workspace.id}/credits`, { amount: '10.00', reason: 'first grant', idempotency_key: `first-grant-${workspace.id}` });
  const key = await post(`workspaces/${workspace.id}/keys`, { name: 'first key' });
  const made = { workspace: workspace.id, key_id: key.id, key: key.key };
  writePrivate(file, `${JSON.stringify(made, null, 2)}\n`);
  return { ...made, fresh: true };
}
