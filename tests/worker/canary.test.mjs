// Secrets planted everywhere, then looked for everywhere: in each store as bytes, the log, exports, traces, metrics, webhooks
// and answers. Each may be where it was meant for, and nowhere else.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { OPERATOR_TOKEN, startGateway } from './support/harness.mjs';
import { SECRET } from './support/client.mjs';
import { Receiver } from './support/receiver.mjs';
import * as up from './support/upstream.mjs';
import { eventually, sleep } from './support/wait.mjs';

const canary = (name) => `canary-${name}-7f3a9c51e0`;
const NAMES = ['prompt', 'system', 'tool', 'own-key', 'error', 'file', 'metadata', 'answer', 'argument', 'header'];
const CANARIES = Object.fromEntries(NAMES.map((name) => [name, canary(name)]));
const [PROMPT, SYSTEM, TOOL, OWN, ERROR, FILE, METADATA, ANSWER, ARGUMENT, HEADER] = NAMES.map((name) => CANARIES[name]);
/** As a store may hold it: as it is, or in base64 at any of three places. */
const formsOf = (text) => [text, ...[0, 1, 2].map((shift) => Buffer.from('x'.repeat(shift) + text).toString('base64').slice(shift ? 4 : 0, -4))];

let gateway, folder, receiver, forms, t, hook;
const answers = [];

/** A host for forms: it fails or answers, with canaries in either. */
async function startForms() {
  const server = http.createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    forms.got.push(Buffer.concat(parts).toString('latin1'));
    const fails = request.url.startsWith('/broken');
    const body = fails ? { error: { message: ERROR, type: 'server_error', param: FILE } } : { text: ANSWER, usage: { type: 'tokens', input_tokens: 4, output_tokens: 5, total_tokens: 9 } };
    response.writeHead(fails ? 500 : 200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  forms = { url: `http://127.0.0.1:${server.address().port}`, got: [], close: () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }) };
}

describe('Canaries', { timeout: 180_000 }, () => {
  before(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-canary-'));
    receiver = await Receiver.start(() => 200);
    await startForms();
    const speech = (id) => ({ id, base_url: `${forms.url}/${id}`, key_env: 'P1_KEY', offers: [{ model: 'test/listen', upstream: 'listen', kind: 'transcription', prices: { input_audio_seconds: '0.001', input_tokens: '1', output_tokens: '1' } }] });
    gateway = await startGateway({
      persist: folder,
      archive: true,
      vars: { ALLOW_LOOPBACK: '1', OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, WEBHOOK_RETRY_MS: '50' },
      secrets: { BYOK_SECRETS: 'one:first-secret' },
      extra: { models: [{ id: 'test/listen', kind: 'transcription' }], providers: [speech('broken'), speech('listens')] },
    });
    t = await gateway.scene({ at: ['p1', 'p2', 'p3'], dollars: '5' });
    hook = (await gateway.admin('POST', `/workspaces/${t.workspace}/webhooks`, { url: `${receiver.url}/hook` })).is(201).json;
    (await gateway.admin('PATCH', `/workspaces/${t.workspace}/settings`, { alerts: { balance_low: '5' } })).is(200);
  });
  after(async () => {
    await gateway?.release();
    await receiver?.close();
    await forms?.close();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  const headers = { 'x-title': 'My app', 'http-referer': `https://app.dev/chat?token=${HEADER}#${HEADER}`, 'x-unknown': HEADER, cookie: `session=${HEADER}` };
  const tools = { name: 'look', description: ARGUMENT, parameters: { type: 'object', properties: { a: { type: 'string', description: ARGUMENT } } } };
  const provider = () => ({ order: t.providers, only: t.providers });
  const rest = () => ({ model: t.model, metadata: { secret: METADATA }, provider: provider() });
  const DIALECTS = {
    'chat/completions': () => ({
      ...rest(), max_tokens: 20, tools: [{ type: 'function', function: tools }],
      messages: [
        { role: 'system', content: SYSTEM }, { role: 'user', content: PROMPT, name: 'person' },
        { role: 'assistant', content: null, tool_calls: [{ id: 'c1', type: 'function', function: { name: 'look', arguments: JSON.stringify({ a: ARGUMENT }) } }] },
        { role: 'tool', tool_call_id: 'c1', content: TOOL },
      ],
    }),
    responses: () => ({
      ...rest(), max_output_tokens: 20, instructions: SYSTEM, tools: [{ type: 'function', ...tools }],
      input: [{ role: 'user', content: PROMPT }, { type: 'function_call', call_id: 'c1', name: 'look', arguments: JSON.stringify({ a: ARGUMENT }) }, { type: 'function_call_output', call_id: 'c1', output: TOOL }],
    }),
    messages: () => ({
      ...rest(), max_tokens: 20, system: SYSTEM, tools: [{ name: 'look', description: ARGUMENT, input_schema: tools.parameters }],
      messages: [{ role: 'user', content: PROMPT }, { role: 'assistant', content: [{ type: 'tool_use', id: 'c1', name: 'look', input: { a: ARGUMENT } }] }, { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'c1', content: TOOL }] }],
    }),
  };
  const failure = (status) => up.reply({ error: { message: ERROR, type: ERROR, param: ERROR, code: ERROR } }, { status, headers: { 'x-error': ERROR } });
  const broken = () => up.sse([up.role(), up.text('Hel'), up.errorEvent({ message: ERROR, code: ERROR })]);
  /** What the three providers do, and whether the answer is the completion. */
  const TURNS = {
    'all is well': [[up.answer({ content: ANSWER })], [up.answer({ content: ANSWER })], [up.answer({ content: ANSWER })]],
    'the first fails': [[failure(500)], [failure(401)], [up.answer({ content: ANSWER })]],
    'all fail': [[failure(500)], [failure(429)], [failure(503)]],
    'the request is refused': [[failure(400)], [failure(400)], [failure(400)]],
    'it breaks': [[broken()], [broken()], [broken()]],
    'no JSON comes': [[up.reply(`<html>${ERROR}</html>`)], [up.reply(ERROR)], [up.reply(`{"choices": ${ERROR}`)]],
  };
  const ask = async (route, body, more = {}) => {
    const reply = await gateway.open('POST', `/v1/${route}`, { key: t.key, headers: { ...headers, ...more }, body }).reply;
    answers.push({ about: `${route} ${JSON.stringify(more).slice(0, 60)} ${reply.status}`, reply });
    return reply;
  };
  const kept = async () => eventually(async () => {
    const [{ n }] = await gateway.d1('SELECT count(*) AS n FROM activity WHERE workspace = ?1', t.workspace);
    return n === (await t.activity()).length && n > 0;
  }, 'every row is in D1', { ms: 20_000 });

  test('every dialect, plain and streamed, well and broken; own keys, forms, presets; replays', async () => {
    (await gateway.admin('PUT', `/workspaces/${t.workspace}/presets/quiet`, { system: 'Be brief.', parameters: { temperature: 0 } })).is(201);
    let count = 0;
    for (const [turn, behaviours] of Object.entries(TURNS)) {
      for (const [route, body] of Object.entries(DIALECTS)) {
        for (const stream of [false, true]) {
          ['p1', 'p2', 'p3'].forEach((name, i) => t[name].does(...behaviours[i]));
          const more = count++ % 2 ? { 'idempotency-key': `once-${count}`, 'x-gateway-explain': '1' } : {};
          const reply = await ask(route, { ...body(), ...(stream ? { stream: true } : {}) }, more);
          if (turn === 'all is well') assert.ok(reply.is(200).text.includes(ANSWER), 'the answer is where it is meant to be');
          if (more['idempotency-key']) await ask(route, { ...body(), ...(stream ? { stream: true } : {}) }, more);
        }
      }
    }
    assert.ok([t.p1, t.p2, t.p3].some((station) => station.requests.some(({ raw }) => [PROMPT, SYSTEM, TOOL, ARGUMENT].every((text) => raw.includes(text)))), 'and so are the prompts');
    // A client that is wrong in the places where secrets are.
    for (const body of [{ ...DIALECTS['chat/completions'](), messages: [{ role: PROMPT, content: PROMPT }] }, { model: t.model, messages: PROMPT }, `{"model": "${PROMPT}`, { model: `${PROMPT}/x`, messages: [] }]) await ask('chat/completions', body);
    // An own key: used, refused, replaced by nothing.
    const own = await gateway.call('POST', `/v1/admin/workspaces/${t.workspace}/byok/p1`, { key: OPERATOR_TOKEN, body: { key: OWN, name: 'ours' } });
    answers.push({ about: 'byok', reply: own.is(201) });
    for (const behaviour of [up.answer({ content: ANSWER }), failure(401), failure(500)]) {
      t.p1.does(behaviour);
      for (const stream of [false, true]) await ask('chat/completions', { ...DIALECTS['chat/completions'](), stream, provider: { only: ['p1'] } });
    }
    // Forms, with a secret for a file name.
    const boundary = 'a-border';
    const part = (name, value, more = '') => `--${boundary}\r\ncontent-disposition: form-data; name="${name}"${more}\r\n\r\n${value}\r\n`;
    for (const only of [['broken'], ['listens'], ['broken', 'listens']]) {
      const form = [part('model', 'test/listen'), part('prompt', PROMPT), part('provider', JSON.stringify({ order: only, only })), part('file', 'RIFF', `; filename="${FILE}.wav"`), `--${boundary}--\r\n`].join('');
      await ask('audio/transcriptions', form, { 'content-type': `multipart/form-data; boundary=${boundary}` });
    }
    assert.ok(forms.got.length >= 3);
    // Wrong keys, of the right form and of none.
    for (const key of [OWN, `${t.key.slice(0, -1)}${t.key.endsWith('a') ? 'b' : 'a'}`]) answers.push({ about: 'a wrong key', reply: await gateway.open('GET', '/v1/key', { key }).reply });
    await t.settled(15_000);
    await kept();
    assert.deepEqual(await gateway.d1('SELECT id FROM prompts'), [], 'nothing is kept where nobody asked for it');
  });

  test('a workspace that keeps prompts: they are there for whoever may read them, and nowhere in plain', async () => {
    const setting = (enabled) => gateway.admin('PATCH', `/workspaces/${t.workspace}/settings`, { prompt_logging: { enabled } });
    (await setting(true)).is(200);
    const asked = [];
    for (const turn of ['all is well', 'the first fails', 'all fail', 'it breaks']) {
      for (const [route, body] of Object.entries(DIALECTS)) {
        for (const stream of [false, true]) {
          ['p1', 'p2', 'p3'].forEach((name, i) => t[name].does(...TURNS[turn][i]));
          const reply = await ask(route, { ...body(), ...(stream ? { stream: true } : {}) }, { 'x-gateway-explain': '1' });
          assert.equal(reply.headers['x-gateway-prompt-logging'], 'on');
          asked.push({ id: reply.id, answers: reply.text.includes(ANSWER) });
        }
      }
    }
    const secret = (await ask('chat/completions', { ...DIALECTS['chat/completions'](), provider: { only: ['p1'], zdr: true } })).id;
    await t.settled(15_000);
    await kept();
    const rows = () => gateway.d1('SELECT id FROM prompts');
    await eventually(async () => (await rows()).length === asked.length, 'every prompt is kept', { ms: 15_000 });
    assert.ok(!(await rows()).some(({ id }) => id === secret));
    for (const { id, answers } of asked) {
      const { request, answer } = (await gateway.admin('GET', `/workspaces/${t.workspace}/prompts/${id}`)).is(200).json;
      for (const text of [PROMPT, SYSTEM, TOOL, ARGUMENT]) assert.ok(request.text.includes(text), 'it is where it was meant for');
      assert.equal(answer.text.includes(ANSWER), answers);
      for (const text of [OWN, ERROR, HEADER, t.key]) assert.ok(!JSON.stringify({ request, answer }).includes(text), 'and holds nothing else');
    }
    (await setting(false)).is(200);
  });

  test('no answer shows what was not meant for its reader', async () => {
    const { key: id } = t;
    for (const { about, reply } of answers) {
      const shown = `${JSON.stringify(reply.headers)}${reply.text}`;
      for (const [name, text] of Object.entries(CANARIES)) {
        // A completion is for its client; so is the name of a role or a model that it got wrong.
        // A response repeats what it was asked with, to the one who asked.
        const isRepeated = about.startsWith('responses') && reply.status === 200 && ['system', 'argument', 'metadata'].includes(name);
        const isMeant = name === 'answer' || isRepeated || (name === 'prompt' && reply.status < 500 && reply.status >= 400);
        if (!isMeant) assert.ok(!shown.includes(text), `${about} shows "${name}": ${shown.slice(0, 2000)}`);
      }
      assert.ok(!shown.includes(id), `${about} shows the key`);
    }
  });

  test('no export, list, metric, trace or webhook has any', async () => {
    (await gateway.admin('DELETE', `/workspaces/${t.workspace}/keys/${(await gateway.newKey(t.workspace)).id}`)).is(200);
    const texts = {};
    const read = async (route, accept) => {
      const reply = await gateway.call('GET', route, { key: route.startsWith('/v1/admin') ? OPERATOR_TOKEN : t.key, headers: accept ? { accept } : {} });
      texts[`${route} ${accept ?? ''}`] = JSON.stringify(reply.headers) + reply.is(200).text;
    };
    const own = `/v1/admin/workspaces/${t.workspace}`;
    for (const route of ['/v1/activity?limit=100', '/v1/key', '/v1/credits', '/v1/metrics/models', `${own}`, `${own}/activity`, `${own}/analytics?group_by=app`, `${own}/byok`, `${own}/keys`, `${own}/credits`, `${own}/settings`, `${own}/export`, `${own}/audit?limit=200`, `${own}/presets`, `${own}/webhooks`, `${own}/webhooks/${hook.id}/deliveries`, '/v1/admin/metrics', '/v1/admin/health']) await read(route);
    for (const accept of ['text/csv', 'application/x-ndjson']) await read('/v1/activity', accept);
    await eventually(() => receiver.of('/hook').length >= 2, 'webhooks have arrived', { ms: 15_000 });
    await eventually(() => receiver.of('/v1/traces').length >= 2, 'traces have arrived', { ms: 15_000 });
    receiver.got.forEach(({ path, headers, body }, n) => (texts[`${path} #${n}`] = JSON.stringify(headers) + body));
    texts.log = gateway.log;
    for (const [where, text] of Object.entries(texts)) {
      for (const [name, value] of Object.entries(CANARIES)) assert.ok(!text.includes(value), `${where} has "${name}": ${text.slice(Math.max(0, text.indexOf(value) - 200), text.indexOf(value) + 100)}`);
      for (const secret of [t.key, SECRET, hook.secret]) assert.ok(!text.includes(secret), `${where} has a secret`);
    }
  });

  test('no store has any, in any form', async () => {
    // Rows that are over their time go to the archive: that is a store too.
    await gateway.d1('UPDATE workspaces SET retention_days = 1');
    await gateway.d1("UPDATE activity SET at = at - 3 * 86400000, id = 'gen_01A' || substr(id, 8)");
    await gateway.schedule();
    await sleep(500);
    await gateway.stop();
    const files = fs.readdirSync(folder, { recursive: true }).map((name) => path.join(folder, name)).filter((file) => fs.statSync(file).isFile());
    const stores = ['d1', 'kv', 'do', 'r2'].filter((store) => files.some((file) => path.relative(folder, file).split(path.sep)[0] === store));
    assert.deepEqual(stores, ['d1', 'kv', 'do', 'r2'], files.join('\n'));
    let bytes = 0;
    for (const file of files) {
      const content = fs.readFileSync(file);
      bytes += content.length;
      for (const [name, value] of [...Object.entries(CANARIES), ['key', t.key], ['signing secret', hook.secret.slice(6)]]) {
        for (const form of formsOf(value)) assert.equal(content.indexOf(form), -1, `${path.relative(folder, file)} has "${name}" at ${content.indexOf(form)}: ${content.subarray(Math.max(0, content.indexOf(form) - 200), content.indexOf(form) + 100).toString('latin1')}`);
      }
    }
    assert.ok(bytes > 100_000 && files.length > 5, 'there was something to look at');
  });
});
