// Hosts of media work in their own shapes: by the first part of the path, so that a provider is a base URL.
import http from 'node:http';
import assert from 'node:assert/strict';

export const SOUND = Buffer.from(Array.from({ length: 5000 }, (_, i) => i % 251));
/** Begins as a PNG does: what is fetched is looked at. */
export const PNG = Buffer.concat([Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]), Buffer.from('a picture')]);
export const PICTURE = PNG.toString('base64');
export const CANARY = 'canary-of-the-provider';
export const json = (response, value, status = 200, headers = {}) => response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
export const events = (response, list) => response.writeHead(200, { 'content-type': 'text/event-stream' }).end(list.map((one) => `data: ${JSON.stringify(one)}\n\n`).join(''));
export const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Fields of a form, files as buffers; a repeated one is a list. */
async function form(request, bytes) {
  const parsed = await new Response(bytes, { headers: { 'content-type': request.headers['content-type'] } }).formData();
  const out = {};
  for (const [name, value] of parsed) {
    const one = typeof value === 'string' ? value : Buffer.from(await value.arrayBuffer());
    out[name] = name in out ? [].concat(out[name], [one]) : one;
  }
  return out;
}

/**
 * Starts hosts. `answer(host, path, ask, response)` answers for one, `ask` is `{body, headers, method, count, url}`; a host
 * named `broken` or `dead-…` fails, and whoever is asked to `refuse this` refuses. The last question to each is kept, and all of them.
 */
export async function startHosts(answer) {
  const asked = {};
  const all = [];
  const server = http.createServer(async (request, response) => {
    const chunks = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return; // whoever asked is gone, or was killed
    }
    const bytes = Buffer.concat(chunks);
    const [, name, ...rest] = request.url.split('/');
    const path = rest.join('/');
    const kind = request.headers['content-type'] ?? '';
    const body = kind.startsWith('multipart/') ? await form(request, bytes) : kind.startsWith('application/json') && bytes.length ? JSON.parse(bytes) : bytes;
    const ask = { path, body, headers: request.headers, method: request.method, count: (asked[name]?.count ?? 0) + 1, url, host: name };
    asked[name] = ask;
    all.push(ask);
    if (name === 'broken' || name.startsWith('dead-')) return json(response, { error: { message: CANARY, type: 'server_error' } }, 500);
    const text = body instanceof Buffer ? '' : JSON.stringify(body, (_, value) => (value?.type === 'Buffer' ? undefined : value));
    if (text.includes('refuse this') || /refuse(%20|\+)this/.test(path)) return json(response, { error: { message: CANARY, type: 'invalid_request_error', code: 'content_policy_violation' } }, 400);
    if ((await answer(name, path, ask, response)) === undefined && !response.writableEnded && !response.headersSent) json(response, { error: { message: `no ${path}` } }, 404);
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const url = `http://127.0.0.1:${server.address().port}`;
  return { url, asked, all, close: () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }) };
}

/**
 * A catalog of providers, each `id: {families, offers: [{model, kind, prices, …}]}`; models are named `test/{model}`. Each of
 * `spared` is there once more as `after-{model}`, where a provider of its own, `dead-{model}`, fails: see `spares`.
 */
export function catalogOf(url, providers, spared = []) {
  const after = ({ model, ...offer }) => ({ ...offer, model: `after-${model}`, upstream: offer.upstream ?? model });
  const known = Object.entries(providers).map(([id, { offers, ...more }]) => [id, { ...more, offers: [...offers, ...offers.filter(({ model }) => id !== 'broken' && spared.includes(model)).map(after)] }]);
  const dead = spared.map((model) => {
    const { kind, prices, free } = Object.values(providers).flatMap(({ offers }) => offers).find((offer) => offer.model === model);
    return [`dead-${model}`, { offers: [{ model: `after-${model}`, kind, prices, free }] }];
  });
  const list = [...known, ...dead].map(([id, { offers, ...more }]) => ({
    id, base_url: `${url}/${id}`, ...more,
    offers: offers.map(({ model, ...offer }) => ({ model: `test/${model}`, upstream: offer.upstream ?? model, ...offer })),
  }));
  const models = [...new Set(list.flatMap(({ offers }) => offers.map(({ model }) => model)))].map((id) => ({ id }));
  return { models, providers: list };
}

/** What to ask for so that a host fails first, and what the answer says then. */
export const spares = (model) => ({ model: `test/after-${model}`, provider: { order: [`dead-${model}`] } });
export async function spared(scene, reply, nanos, options) {
  reply.is(200);
  const row = await scene.row(reply.headers['x-request-id']);
  assert.deepEqual([row.attempts.length, row.attempts[0].code, row.attempts[1].provider], [2, 'provider_error', reply.headers['x-gateway-provider']]);
  await costs(scene, reply, nanos, options);
}

/** The charge in answer, header, row and ledger: one number. */
export async function costs(scene, reply, nanos, { header = true, estimated = false } = {}) {
  const row = await scene.row(reply.headers['x-request-id']);
  assert.deepEqual([row.cost_nanos, row.status, row.ending, Boolean(row.is_estimated)], [nanos, 200, 'finished', estimated], JSON.stringify(row));
  if (header) assert.equal(Math.round(Number(reply.headers['x-gateway-cost']) * 1e9), nanos);
  const entry = (await scene.ledger()).entries.find(({ id }) => id === row.id);
  assert.ok(nanos === 0 ? !entry || Math.abs(entry.nanos) === 0 : entry.nanos === -nanos, JSON.stringify(entry));
}

/** A form as the bytes and the type that a raw call needs. */
export async function formOf(fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    for (const one of [].concat(value)) {
      if (one instanceof Uint8Array) body.append(name, new Blob([one], { type: name.startsWith('image') || name === 'mask' ? 'image/png' : 'audio/mpeg' }), 'a.bin');
      else body.append(name, one);
    }
  }
  const raw = new Response(body);
  return { headers: { 'content-type': raw.headers.get('content-type') }, body: Buffer.from(await raw.arrayBuffer()) };
}
