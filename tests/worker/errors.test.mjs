// Every way to say no: one envelope, the right code, and nothing that was meant to stay inside.
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { OPERATOR_TOKEN, startGateway } from './support/harness.mjs';
import { SECRET } from './support/client.mjs';
import * as up from './support/upstream.mjs';

const LIMIT = 32 * 1024 * 1024;
const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
let gateway;

/** A key of the right form that nobody has. */
function strangersKey() {
  const base62 = (number, digits) => Array.from({ length: digits }, (_, i) => DIGITS[Number((number / 62n ** BigInt(digits - 1 - i)) % 62n)]).join('');
  const body = base62(BigInt(`0x${randomBytes(32).toString('hex')}`), 43);
  return `aisg_${body}${base62(BigInt(crc32(body)), 6)}`;
}

/** A right request whose body is exactly `size` bytes. */
function sized(scene, size) {
  const body = JSON.stringify(scene.body({ messages: [{ role: 'user', content: '' }], max_tokens: 1 }));
  const at = body.indexOf('"content":""') + '"content":"'.length;
  return Buffer.concat([Buffer.from(body.slice(0, at)), Buffer.alloc(size - body.length, 'x'), Buffer.from(body.slice(at))]);
}

describe('Errors', { concurrency: 3, timeout: 60_000 }, () => {
  before(async () => {
    gateway = await startGateway({
      extra: {
        models: [{ id: 'test/huge' }, { id: 'test/priceless' }, { id: 'test/keyless' }, { id: 'test/blind' }, { id: 'test/free' }],
        offers: {
          p1: [
            { model: 'test/huge', prices: { input_tokens: '0.01', output_tokens: '0.01' }, context: 100_000_000 },
            { model: 'test/priceless', prices: { input_tokens: '1' } },
            { model: 'test/blind', prices: { input_tokens: '1', output_tokens: '1' }, can: ['streaming'], context: 1000 },
            { model: 'test/free', upstream: 'free', prices: {}, free: true },
          ],
        },
        providers: [{ id: 'keyless', base_url: 'http://127.0.0.1:9/v1', key_env: 'NOBODY_KEY', offers: [{ model: 'test/keyless', prices: { input_tokens: '1', output_tokens: '1' } }] }],
      },
    });
  });
  after(() => gateway?.stop());

  test('what is not there is 404, whatever the method', async () => {
    for (const [method, route] of [
      ['GET', '/'], ['GET', '/v1'], ['POST', '/v1/nothing'], ['DELETE', '/favicon.ico'], ['PUT', '/v1/chat'], ['GET', '/v1/chat/completions/x'],
      ['GET', '/v1/admin/nothing'], ['PATCH', '/v2/models'], ['GET', '/v1/models/'], ['GET', '//v1/models'],
    ]) {
      (await gateway.call(method, route, { key: OPERATOR_TOKEN })).fails('not_found');
    }
    (await gateway.call('GET', '/v1/models/test/none')).fails('model_not_found');
    (await gateway.admin('GET', '/workspaces/ws_00000000000000000000000000')).fails('not_found');
    (await gateway.admin('GET', '/workspaces/nonsense')).fails('not_found');
  });

  test('a method that a path does not take is 405 and says which it takes', async () => {
    const key = (await gateway.scene()).key;
    for (const [method, route, allowed] of [
      ['GET', '/v1/chat/completions', 'POST'], ['PUT', '/v1/chat/completions', 'POST'], ['DELETE', '/v1/chat/completions', 'POST'], ['POST', '/v1/models', 'GET'],
      ['DELETE', '/v1/models/test/s001', 'GET'], ['POST', '/v1/health', 'GET'], ['POST', '/v1/key', 'GET'], ['PUT', '/v1/credits', 'GET'],
      ['POST', '/v1/activity', 'GET'], ['PATCH', '/v1/generation', 'GET'], ['DELETE', '/v1/admin/workspaces', 'GET'],
    ]) {
      const reply = await gateway.call(method, route, { key });
      reply.fails('method_not_allowed');
      assert.match(reply.headers.allow ?? '', new RegExp(`\\b${allowed}\\b`), `${method} ${route}: Allow is ${reply.headers.allow}`);
    }
  });

  test('what anyone may GET answers a HEAD with the same headers and no body', async () => {
    for (const path of ['/v1/health', '/v1/models', '/docs']) {
      const [head, get] = await Promise.all(['HEAD', 'GET'].map((method) => fetch(gateway.url + path, { method })));
      assert.deepEqual([head.status, await head.text()], [200, ''], path);
      for (const name of ['content-type', 'cache-control', 'etag']) assert.equal(head.headers.get(name), get.headers.get(name), `${path} ${name}`);
      assert.ok((await get.text()).length > 0);
    }
    const refused = await fetch(`${gateway.url}/v1/key`, { method: 'HEAD' });
    assert.deepEqual([refused.status, refused.headers.get('allow')], [405, 'GET, OPTIONS']);
  });

  test('without a key that is known and right there is 401 on every endpoint that needs one', async () => {
    const { key } = await gateway.scene();
    const wrong = `${key.slice(0, -1)}${key.endsWith('a') ? 'b' : 'a'}`;
    for (const [method, route] of [
      ['POST', '/v1/chat/completions'], ['GET', '/v1/key'], ['GET', '/v1/credits'], ['GET', '/v1/activity'], ['GET', '/v1/generation?id=x'],
      ['GET', '/v1/generations?id=x'],
    ]) {
      for (const [what, headers] of Object.entries({
        'no key': {}, 'a key that is none': { authorization: 'Bearer sk-123' }, 'a key with one letter wrong': { authorization: `Bearer ${wrong}` },
        'a stranger\'s key': { authorization: `Bearer ${strangersKey()}` }, 'an empty key': { authorization: 'Bearer ' }, 'another scheme': { authorization: `Basic ${key}` },
        'the operator\'s token': { authorization: `Bearer ${OPERATOR_TOKEN}` }, 'a key with letters of others': { authorization: `Bearer ${key}%C3%BC` },
      })) {
        const reply = await gateway.call(method, route, { headers, ...(method === 'POST' ? { body: {} } : {}) });
        assert.equal(reply.status, 401, `${method} ${route} with ${what}: ${reply.status} ${reply.text}`);
        reply.fails('unauthenticated');
      }
    }
    (await gateway.call('GET', '/v1/key', { headers: { authorization: `bearer ${key}` } })).is(200);
  });

  test('the operator\'s endpoints are for the operator', async () => {
    const { key, workspace } = await gateway.scene();
    const routes = ['/workspaces', `/workspaces/${workspace}`, `/workspaces/${workspace}/keys`, `/workspaces/${workspace}/credits`, '/catalog'];
    for (const route of routes) {
      (await gateway.call('GET', `/v1/admin${route}`)).fails('unauthenticated');
      (await gateway.call('GET', `/v1/admin${route}`, { key: `${OPERATOR_TOKEN}x` })).fails('unauthenticated');
      (await gateway.call('GET', `/v1/admin${route}`, { key })).fails('forbidden');
      (await gateway.admin('GET', route)).is(200);
    }
    (await gateway.call('POST', `/v1/admin/workspaces/${workspace}/credits`, { key, body: { amount: '1', reason: 'mine', idempotency_key: 'x' } })).fails('forbidden');
  });

  test('a body that is no JSON object is invalid input', async () => {
    const t = await gateway.scene();
    for (const body of ['', '{', '{"model":', '[]', '"text"', 'null', '{"a":1}}', 'model=x', '{"model":"a","model"}', Buffer.from([0x7b, 0xff, 0xfe, 0x7d])]) {
      (await t.chat(body)).fails('invalid_input');
    }
    assert.equal(t.p1.requests.length, 0);
  });

  test('what a string may not hold is found at every place of a block of vectors, and what is escaped arrives', async () => {
    const t = await gateway.scene();
    const whole = JSON.stringify(t.body({ messages: [{ role: 'user', content: '@' }] }));
    const [begin, end] = whole.split('@');
    for (let at = 0; at < 36; at++) {
      const text = (middle) => `${begin}${'é'.repeat(at % 2)}${'x'.repeat(at)}${middle}${'y'.repeat(40 - at)}${end}`;
      for (const bad of ['\n', '\u0000', '\u001f', '\\x', '"']) (await t.chat(text(bad))).fails('invalid_input');
      const good = text('\\"\\\\\\n\\u00e9\u007f\u0080');
      (await t.chat(good)).is(200);
      assert.equal(t.p1.last.body.messages[0].content, JSON.parse(good).messages[0].content);
    }
    assert.equal(t.p1.requests.length, 36);
  });

  test('a field that is missing or of the wrong type is named', async () => {
    const t = await gateway.scene();
    const message = { role: 'user', content: 'x' };
    for (const [fields, param] of [
      [{ model: undefined }, 'model'], [{ model: 7 }, 'model'], [{ model: '' }, 'model'], [{ model: null }, 'model'],
      [{ messages: undefined }, 'messages'], [{ messages: [] }, 'messages'], [{ messages: 'hi' }, 'messages'], [{ messages: [7] }, 'messages[0]'],
      [{ messages: [{ content: 'x' }] }, 'messages[0].role'], [{ messages: [message, { role: 'user' }] }, 'messages[1].content'],
      [{ messages: [{ role: 'user', content: 5 }] }, 'messages[0].content'], [{ messages: [{ role: 'user', content: [{ text: 'x' }] }] }, 'messages[0].content[0]'],
      [{ messages: [{ role: 'tool', content: 'x' }] }, 'messages[0].tool_call_id'],
      [{ temperature: 'hot' }, 'temperature'], [{ max_tokens: 0 }, 'max_tokens'], [{ max_tokens: -5 }, 'max_tokens'], [{ max_completion_tokens: 1.5 }, 'max_completion_tokens'],
      [{ n: 0 }, 'n'], [{ stream: 'yes' }, 'stream'], [{ stream_options: { include_usage: true } }, 'stream_options'], [{ tools: {} }, 'tools'],
      [{ response_format: 'json' }, 'response_format'], [{ provider: { order: 'p1' } }, 'provider.order'], [{ provider: { sort: 'luck' } }, 'provider.sort'],
      [{ provider: { max_price: { prompt: 'cheap' } } }, 'provider.max_price.prompt'], [{ models: 'x' }, 'models'], [{ user: 5 }, 'user'],
      [{ session_id: 'x'.repeat(5000) }, 'session_id'],
    ]) {
      const reply = await t.chat(fields);
      assert.equal(reply.status, 400, `${JSON.stringify(fields).slice(0, 100)}: ${reply.status} ${reply.text}`);
      reply.fails('invalid_input', { param });
    }
    assert.equal(t.p1.requests.length, 0, 'nothing reached a provider');
    assert.equal((await t.credits()).held_nanos, 0, 'nothing is held');
    (await t.chat({ temperature: null, max_tokens: null, stream: null, tools: null, user: null })).is(200);
  });

  test('the operator\'s mistakes are named too', async () => {
    const workspace = await gateway.newWorkspace();
    for (const [route, body, param] of [
      ['/workspaces', {}, 'name'], ['/workspaces', { name: 5 }, 'name'], ['/workspaces', { name: 'x', limits: { requests_per_minute: -1 } }, 'limits.requests_per_minute'],
      ['/workspaces', { name: 'x', limits: { requests_per_minuet: 1 } }, undefined],
      [`/workspaces/${workspace}/keys`, {}, 'name'], [`/workspaces/${workspace}/keys`, { name: 'k', expires_at: 'tomorrow' }, 'expires_at'],
      [`/workspaces/${workspace}/keys`, { name: 'k', allowed_models: 'a/b' }, 'allowed_models'],
      [`/workspaces/${workspace}/credits`, { reason: 'r', idempotency_key: 'k' }, 'amount'], [`/workspaces/${workspace}/credits`, { amount: 'ten', reason: 'r', idempotency_key: 'k' }, 'amount'],
      [`/workspaces/${workspace}/credits`, { amount: '1.0000000001', reason: 'r', idempotency_key: 'k' }, 'amount'],
      [`/workspaces/${workspace}/credits`, { amount: '99999999999999', reason: 'r', idempotency_key: 'k' }, undefined],
      [`/workspaces/${workspace}/credits`, { amount: '1', reason: 'r' }, 'idempotency_key'],
    ]) {
      const reply = await gateway.admin('POST', route, body);
      assert.equal(reply.status, 400, `POST ${route} ${JSON.stringify(body)}: ${reply.status} ${reply.text}`);
      reply.fails('invalid_input', { param });
    }
    (await gateway.admin('POST', '/workspaces', '{')).fails('invalid_input');
    const unknown = await gateway.admin('POST', '/catalog', { snapshot: 'none' });
    unknown.fails(unknown.status === 404 ? 'not_found' : 'invalid_input');
    (await gateway.admin('POST', '/workspaces/ws_00000000000000000000000000/credits', { amount: '1', reason: 'r', idempotency_key: 'k' })).fails('not_found');
    (await gateway.admin('POST', '/workspaces/ws_00000000000000000000000000/keys', { name: 'k' })).fails('not_found');
  });

  test('a body of 32 MiB is taken, one of a byte more is 413, whether it says its length or not', async () => {
    const t = await gateway.scene({ model: 'test/huge', at: ['p1'] });
    (await t.chat(sized(t, LIMIT))).is(200);
    assert.ok(t.p1.last.body.messages[0].content.length > LIMIT - 1000, 'all of it reached the provider');
    // The answer comes before the body is read. When the connection is then closed on a client that still writes, its reset can
    // overtake the answer: such a try says nothing, so there is another.
    const tooLarge = async (body) => {
      for (let tries = 1; ; tries++) {
        const reply = await gateway.call('POST', '/v1/chat/completions', { key: t.key, body: body() }).catch((error) => {
          if (!/ECONNRESET|EPIPE/.test(error.message) || tries === 10) throw error;
        });
        if (reply) return reply.fails('payload_too_large');
      }
    };
    await tooLarge(() => sized(t, LIMIT + 1));
    await tooLarge(() => Readable.from([sized(t, LIMIT + 1)]));
    assert.equal(t.p1.requests.length, 1, 'the too large ones reached no provider');
  });

  test('a model that nobody knows is 404 model_not_found, also beside provider wishes', async () => {
    const t = await gateway.scene();
    for (const model of ['test/none', 'none', 'p1:test/none', 'a/b/c']) (await t.chat({ model })).fails('model_not_found', { param: 'model' });
    for (const model of ['test/s001:turbo', 'bad name', 'x'.repeat(300)]) {
      const reply = await t.chat({ model });
      assert.ok([400, 404].includes(reply.status), `${model.slice(0, 40)}: ${reply.status} ${reply.text}`);
      reply.fails(reply.status === 400 ? 'invalid_input' : 'model_not_found', { param: 'model' });
    }
  });

  test('when rules leave no provider, the answer names each candidate and its rule', async () => {
    const t = await gateway.scene();
    const rules = async (body, code = 'no_eligible_provider') => {
      const { removed } = (await t.chat(body)).fails(code).details;
      return removed.map(({ provider, rule }) => `${provider} ${rule}`).sort();
    };
    const all = (rule) => ['p1', 'p2', 'p3'].map((provider) => `${provider} ${rule}`);
    assert.deepEqual(await rules({ provider: { only: ['nobody'] } }), all('not_in_list'));
    assert.deepEqual(await rules({ provider: { ignore: ['p1', 'p2', 'p3'] } }), all('ignored'));
    assert.deepEqual(await rules({ provider: { order: ['nobody'], allow_fallbacks: false } }), all('not_in_list'));
    assert.deepEqual(await rules({ provider: { zdr: true } }), all('privacy'));
    assert.deepEqual(await rules({ provider: { data_collection: 'deny' } }), all('privacy'));
    assert.deepEqual(await rules({ provider: { regions: ['moon'] } }), all('region'));
    assert.deepEqual(await rules({ provider: { max_price: { prompt: 0.5 } } }), all('max_price'));
    assert.deepEqual(await rules({ model: `${t.model}:free`, provider: undefined }), all('not_free'));
    assert.deepEqual(await rules({ model: `nobody:${t.model}`, provider: undefined }), all('pinned'));
    assert.deepEqual(await rules({ model: 'test/priceless', provider: undefined }), ['p1 no_price']);
    assert.deepEqual(await rules({ model: 'test/keyless', provider: undefined }), ['keyless no_credential']);
    const image = [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'https://example.com/a.png' } }] }];
    assert.deepEqual(await rules({ model: 'test/blind', provider: undefined, messages: image }), ['p1 capability']);
    assert.deepEqual(await rules({ model: 'test/blind', provider: undefined, messages: [{ role: 'user', content: 'x'.repeat(20_000) }] }, 'context_length_exceeded'), ['p1 context_length']);
    const mixed = await rules({ provider: { ignore: ['p1'], max_price: { prompt: 3 }, only: ['p1', 'p3'] } });
    assert.deepEqual(mixed, ['p1 ignored', 'p2 not_in_list', 'p3 max_price']);
    assert.equal(t.p1.requests.length + t.p2.requests.length + t.p3.requests.length, 0);
    assert.equal((await t.credits()).held_nanos, 0);
  });

  test('a model that the key may not call is 403', async () => {
    const t = await gateway.scene({ key: { allowed_models: ['test/s999', 'other/*'] } });
    (await t.chat()).fails('model_not_allowed');
    const { key } = await gateway.newKey(t.workspace, { allowed_models: ['test/*'] });
    (await t.chat({}, { key })).is(200);
  });

  test('without credits there is 402, except for what is free', async () => {
    const t = await gateway.scene({ dollars: '0' });
    const { details } = (await t.chat()).fails('insufficient_credits');
    (await t.stream()).fails('insufficient_credits');
    // A tool of the client's own is no search of the host's, whatever it is called.
    const tools = [{ type: 'function', function: { name: 'search_docs' } }];
    const tooled = (await t.chat({ tools })).fails('insufficient_credits').details;
    const searched = (await t.chat({ web_search_options: {} })).fails('insufficient_credits').details;
    assert.ok(tooled.needed_nanos > details.needed_nanos && searched.needed_nanos > 20 * tooled.needed_nanos, JSON.stringify([details, tooled, searched]));
    assert.equal(t.p1.requests.length, 0);
    const { key } = t;
    (await gateway.call('POST', '/v1/chat/completions', { key, body: t.body({ model: 'test/free', provider: undefined }) })).is(200);
    assert.equal((await t.credits()).balance_nanos, 0);
  });

  test('over the rate limit there is 429 with Retry-After', async () => {
    const t = await gateway.scene({ key: { limits: { requests_per_minute: 1 } } });
    (await t.chat()).is(200);
    (await t.chat()).fails('rate_limited', { retryAfter: [1, 60] });
  });

  test('a suspended workspace is 403, and works again when it is let back', async () => {
    const t = await gateway.scene();
    (await gateway.admin('PATCH', `/workspaces/${t.workspace}`, { suspended: true })).is(200);
    (await t.chat()).fails('forbidden');
    (await gateway.admin('PATCH', `/workspaces/${t.workspace}`, { suspended: false })).is(200);
    (await t.chat()).is(200);
  });

  test('a browser may call from anywhere', async () => {
    const headers = { origin: 'https://app.example', 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization,content-type' };
    for (const route of ['/v1/chat/completions', '/v1/models', '/v1/credits']) {
      const reply = await gateway.call('OPTIONS', route, { headers });
      assert.ok([200, 204].includes(reply.status), `${route}: ${reply.status} ${reply.text}`);
      assert.match(reply.headers['access-control-allow-methods'], route.endsWith('completions') ? /POST/ : /GET/);
      assert.match(reply.headers['access-control-allow-headers'], /authorization/i);
      assert.equal(reply.text, '');
    }
    (await gateway.call('OPTIONS', '/v1/nothing', { headers })).fails('not_found');
    const t = await gateway.scene();
    for (const reply of [await t.chat(), await t.stream(), await t.chat({ model: 'test/none' }), await gateway.call('POST', '/v1/chat/completions')]) {
      assert.match(reply.headers['access-control-expose-headers'] ?? '', /x-request-id/i, `${reply.status} exposes X-Request-Id`);
    }
  });

  test('every answer has its own id, of the one form', async () => {
    const t = await gateway.scene();
    const replies = await Promise.all([t.chat(), t.stream(), t.chat({ model: 'test/none' }), t.get('/v1/credits'), t.get('/v1/nothing'), gateway.call('GET', '/v1/models'), gateway.call('OPTIONS', '/v1/models'), gateway.call('DELETE', '/v1/models')]);
    const ids = replies.map((reply) => reply.id);
    assert.equal(new Set(ids).size, ids.length, ids.join(' '));
    // That each is of the right form, and stands in the envelope, is checked in every test by the client itself.
  });

  test('what a provider says when it fails is shown to nobody: not in the answer, not in the row, not in the log', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    for (const behaviour of [
      up.fail(400, { type: 'invalid_request_error', param: up.CANARY, code: up.CANARY }), up.fail(401, { message: `Incorrect API key: ${SECRET}` }), up.fail(403), up.fail(404), up.fail(413),
      up.fail(422), up.fail(429), up.fail(500), up.fail(503), up.reply(`<html>${up.CANARY}</html>`, { status: 502, headers: { 'content-type': 'text/html' } }),
      up.reply({ error: { message: up.CANARY } }), up.reply(up.CANARY), up.reply({ detail: up.CANARY }, { status: 400 }), up.sse([up.errorEvent()]), up.sse([`data: ${up.CANARY}\n\n`]),
    ]) {
      t.p1.does(behaviour);
      for (const body of [{}, { stream: true }]) {
        const reply = await t.chat(body);
        assert.ok(reply.status >= 400, `${reply.status} ${reply.text}`);
        assert.ok(!reply.text.includes(up.CANARY) && !reply.text.includes(SECRET), reply.text);
        const row = JSON.stringify(await t.row(reply.id));
        assert.ok(!row.includes(up.CANARY) && !row.includes(SECRET), row);
      }
    }
    for (const canary of [up.CANARY, SECRET]) assert.ok(!gateway.log.includes(canary), `the log shows ${canary}`);
  });

  test('prompts and answers are in no row, no log and no store', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const [prompt, word] = ['canary-prompt-73', 'canary-answer-73'];
    t.p1.does(up.answer({ content: word }));
    const ids = [];
    for (const body of [{}, { stream: true }]) ids.push((await t.chat({ ...body, messages: [{ role: 'user', content: prompt }] })).is(200).id);
    for (const id of ids) await t.row(id);
    const rows = JSON.stringify(await t.activity());
    for (const canary of [prompt, word, t.key]) {
      assert.ok(!rows.includes(canary), `activity shows ${canary}: ${rows}`);
      assert.ok(!gateway.log.includes(canary), `the log shows ${canary}`);
    }
  });

  test('what a provider calls the client\'s mistake is the client\'s: a 400 that names the field it sent', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    t.p1.does(up.fail(400, { type: 'invalid_request_error', param: 'temperature', code: 'invalid_value' }));
    (await t.chat({ temperature: 9 })).fails('invalid_input', { param: 'temperature' });
    t.p1.does(up.fail(400, { type: 'invalid_request_error', code: 'context_length_exceeded' }));
    t.p2.does(up.fail(400, { type: 'invalid_request_error', code: 'context_length_exceeded' }));
    (await t.chat()).fails('context_length_exceeded');
    t.p1.does(up.fail(400, { type: 'invalid_request_error', param: 'logit_bias', code: 'unsupported_parameter' }));
    t.p2.does(up.fail(400, { type: 'invalid_request_error', param: 'logit_bias', code: 'unsupported_parameter' }));
    (await t.chat({ logit_bias: {} })).fails('unsupported_parameter', { param: 'logit_bias' });
    t.p1.does(up.fail(413));
    (await t.chat()).fails('payload_too_large');
    for (const p of [t.p1, t.p2]) p.does(up.fail(403, { type: 'request_forbidden', code: 'unsupported_country_region_territory' }));
    (await t.chat()).fails('region_unavailable');
    assert.equal((await t.credits()).balance_nanos, 10e9, 'none of these cost anything');
  });

  test('pages of activity take a limit and a cursor that are right', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const ids = [];
    for (let i = 0; i < 5; i++) ids.unshift((await t.chat()).is(200).id);
    for (const id of ids) await t.row(id);
    assert.deepEqual((await t.activity(2)).map((row) => row.id), ids, 'newest first, page by page');
    for (const query of ['limit=0', 'limit=x', 'limit=-1', 'limit=1000000']) (await t.get(`/v1/activity?${query}`)).fails('invalid_input', { param: 'limit' });
    (await t.get('/v1/activity?cursor=nonsense')).fails('invalid_input', { param: 'cursor' });
    const below = `/workspaces/${t.workspace}`;
    for (const list of ['/workspaces', '/audit', ...['keys', 'management-keys', 'webhooks', 'byok', 'audit', 'credits'].map((name) => `${below}/${name}`)]) {
      for (const cursor of ['nonsense', '', ids[0]]) (await gateway.admin('GET', `${list}?cursor=${cursor}`)).fails('invalid_input', { param: 'cursor' });
    }
    (await t.get('/v1/generation')).fails('invalid_input', { param: 'id' });
    (await t.get('/v1/generation?id=gen_00000000000000000000000000')).fails('not_found');
    const other = await gateway.scene();
    (await other.get(`/v1/generation?id=${ids[0]}`)).fails('not_found');
  });
});
