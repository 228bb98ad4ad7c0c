// Prompts that a workspace keeps: nothing unless it says so, never under zero retention, sealed, cut, gone on time.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import { startFamilies } from './support/families.mjs';
import * as up from './support/upstream.mjs';
import { eventually } from './support/wait.mjs';

const HEADER = 'x-gateway-prompt-logging';
const DAY = 24 * 3600 * 1000;
let gateway, families, forms;

const own = (t, rest = '') => `/workspaces/${t.workspace}${rest}`;
const set = async (t, prompt_logging) => (await gateway.admin('PATCH', own(t, '/settings'), { prompt_logging })).is(200).json.prompt_logging;
const rows = (t) => gateway.d1('SELECT id, at, until, sealed FROM prompts WHERE workspace = ?1 ORDER BY id', t.workspace);
const read = (t, id) => gateway.admin('GET', own(t, `/prompts/${id}`));
const kept = (t, id) => eventually(async () => {
  const reply = await read(t, id);
  return reply.status === 200 && reply.json;
}, `the prompt of ${id} is kept`);

/** A workspace that keeps prompts. */
async function keeper(setting = {}, scene = {}) {
  const t = await gateway.scene(scene);
  assert.equal((await set(t, { enabled: true, ...setting })).enabled, true);
  return t;
}

/** A host of one answer for forms, and of sound. */
async function startForms() {
  const server = http.createServer(async (request, response) => {
    for await (const _ of request);
    if (request.url.includes('speech')) return response.writeHead(200, { 'content-type': 'audio/mpeg' }).end(Buffer.alloc(5000, 0xff));
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ text: 'What was heard.', usage: { type: 'tokens', input_tokens: 4, output_tokens: 5, total_tokens: 9 } }));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  forms = { url: `http://127.0.0.1:${server.address().port}`, close: () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }) };
}

describe('Prompts that are kept', { timeout: 120_000 }, () => {
  before(async () => {
    families = await startFamilies();
    await startForms();
    const policy = (retention_days, zero_retention) => ({ data_policy: { trains_on_api_data: 'no', retention_days, zero_retention } });
    const price = { input_tokens: '1', output_tokens: '1' };
    gateway = await startGateway({
      extra: {
        about: { p1: policy(0, 'default'), p2: policy(30, 'none') },
        models: [{ id: 'test/claude' }, { id: 'test/listen', kind: 'transcription' }, { id: 'test/speak', kind: 'speech' }, { id: 'test/vector', kind: 'embedding' }],
        providers: [
          { id: 'claude', base_url: `${families.url}/anthropic-messages`, families: ['anthropic-messages'], offers: [{ model: 'test/claude', upstream: 'up', prices: price, context: 32768, max_output: 4096 }] },
          { id: 'listens', base_url: forms.url, key_env: 'P1_KEY', offers: [
            { model: 'test/listen', upstream: 'listen', kind: 'transcription', prices: { input_audio_seconds: '0.001', ...price } },
            { model: 'test/speak', upstream: 'speak', kind: 'speech', prices: { input_characters: '1' } },
          ] },
        ],
      },
    });
  });
  after(async () => {
    await gateway?.stop();
    await families?.close();
    await forms?.close();
  });

  test('by default nothing is kept, and no answer says anything', async () => {
    const t = await gateway.scene();
    const { prompt_logging } = (await gateway.admin('GET', own(t, '/settings'))).is(200).json;
    assert.deepEqual(prompt_logging, { enabled: false, retention_days: 7, bytes_max: 65_536 });
    const replies = [(await t.chat()).is(200), (await t.stream()).is(200), await t.get('/v1/key'), await t.chat('{')];
    for (const { headers } of replies) assert.equal(headers[HEADER], undefined);
    await t.settled();
    assert.deepEqual(await rows(t), []);
    (await read(t, replies[0].id)).fails('not_found');
  });

  test('switched on, every answer says so, and request and answer are kept, plain and streamed, in every dialect', async () => {
    const t = await keeper();
    const question = 'A question for the log.';
    const messages = [{ role: 'user', content: question }];
    const seen = [];
    for (const [about, call] of Object.entries({
      plain: () => t.chat({ messages }),
      native: () => t.stream({ messages }),
      'without usage': () => t.stream({ messages, stream_options: undefined }),
      priced: () => t.stream({ messages, usage: { include: true } }),
      'kept for its key': () => t.stream({ messages }, { headers: { 'idempotency-key': 'once' } }),
      responses: () => gateway.call('POST', '/v1/responses', { key: t.key, body: { model: t.model, input: question, provider: { only: ['p1'] } } }),
      'responses, streamed': () => gateway.call('POST', '/v1/responses', { key: t.key, body: { model: t.model, input: question, stream: true, provider: { only: ['p1'] } } }),
      'messages, translated': () => gateway.call('POST', '/v1/messages', { key: t.key, body: { model: t.model, max_tokens: 20, messages, stream: true, provider: { only: ['p1'] } } }),
    })) {
      const reply = (await call()).is(200);
      assert.equal(reply.headers[HEADER], 'on', about);
      const one = await kept(t, reply.id);
      assert.deepEqual([one.object, one.id, one.workspace], ['prompt', reply.id, t.workspace], about);
      assert.ok(one.request.text.includes(question) && !one.request.is_truncated, `${about}: ${one.request.text}`);
      const comments = (text) => text.split('\n\n').filter((part) => !part.startsWith(':')).join('\n\n');
      assert.equal(comments(one.answer.text), comments(reply.text), `${about}: what is kept is what the client got`);
      assert.deepEqual([one.answer.status, one.answer.is_truncated, one.answer.bytes], [200, false, Buffer.byteLength(one.answer.text)], about);
      assert.equal(Date.parse(one.expires_at) - Date.parse(one.created_at), 7 * DAY, about);
      seen.push(reply.id);
    }
    const again = (await t.stream({ messages }, { headers: { 'idempotency-key': 'once' } })).is(200);
    assert.deepEqual([again.headers['x-gateway-idempotent-replay'], again.headers[HEADER]], ['true', 'on']);
    const stored = await rows(t);
    assert.deepEqual(stored.map(({ id }) => id), seen.sort(), 'one for each, and a kept answer that is given again is none');
    for (const { sealed } of stored) assert.ok(!Buffer.from(sealed, 'base64').toString('latin1').includes('question'), 'sealed');
  });

  test('a stream passes as it comes, nothing is written before its end; what a client that left had got is kept', async () => {
    const t = await keeper({}, { at: ['p1'] });
    for (const body of [{}, { stream_options: undefined }, { usage: { include: true } }]) {
      const gate = up.gate();
      t.p1.does(up.sse([up.role(), up.text('First '), gate, up.text('second.'), up.finish(), up.usageEvent(up.USAGE), up.DONE]));
      const before = (await rows(t)).length;
      const call = t.openStream(body);
      await call.until('First ');
      assert.equal((await rows(t)).length, before, 'the answer is under way, and nothing is written');
      gate.open();
      const reply = (await call.reply).is(200);
      const { answer } = await kept(t, reply.id);
      assert.equal(answer.text, reply.text);
    }
    const gate = up.gate();
    t.p1.does(up.sse([up.role(), up.text('First '), gate, up.text('second.'), up.finish(), up.usageEvent(up.USAGE), up.DONE]));
    const call = t.openStream();
    await call.until('First ');
    call.reset();
    const { answer } = await kept(t, call.id);
    gate.open();
    assert.ok(answer.text.includes('First ') && !answer.text.includes('second'));
  });

  test('a preset is in what is kept; failures and refusals say so too; what was never let in is not kept', async () => {
    const t = await keeper({}, { at: ['p1'] });
    (await gateway.admin('PUT', own(t, '/presets/kind'), { system: 'Be kind.' })).is(201);
    const { id } = (await t.chat({ preset: 'kind' })).is(200);
    assert.ok((await kept(t, id)).request.text.includes('Be kind.'));
    t.p1.does(up.fail(500), up.fail(500), up.fail(500), up.fail(500));
    const failed = await t.chat();
    assert.deepEqual([failed.status >= 500, failed.headers[HEADER]], [true, 'on']);
    const one = await kept(t, failed.id);
    assert.deepEqual([one.answer.status, JSON.parse(one.answer.text).error.code], [failed.status, failed.json.error.code]);
    t.p1.does(up.sse([up.role(), up.text('Hel'), up.cut]));
    const broken = await t.stream();
    assert.ok((await kept(t, broken.id)).answer.text.includes('"error"'), 'a stream that was cut, with its last event');
    for (const reply of [await t.chat('{'), await t.chat({ messages: 5 }), await t.get('/v1/key'), await t.get('/v1/activity'), await t.chat({ model: 'no/such' })]) {
      assert.equal(reply.headers[HEADER], 'on', reply.about);
      (await read(t, reply.id)).fails('not_found');
    }
    assert.equal((await rows(t)).length, 3);
  });

  test('forms are kept as their fields, sound as its size', async () => {
    const t = await keeper();
    const boundary = 'a-border';
    const part = (name, value, more = '') => `--${boundary}\r\ncontent-disposition: form-data; name="${name}"${more}\r\n\r\n${value}\r\n`;
    const form = [part('model', 'test/listen'), part('prompt', 'A name that is hard to hear.'), part('file', 'RIFF-the-sound', '; filename="a.wav"'), `--${boundary}--\r\n`].join('');
    const heard = await gateway.call('POST', '/v1/audio/transcriptions', { key: t.key, headers: { 'content-type': `multipart/form-data; boundary=${boundary}` }, body: form });
    assert.equal(heard.is(200).headers[HEADER], 'on');
    const one = await kept(t, heard.id);
    assert.equal(JSON.parse(one.request.text).prompt, 'A name that is hard to hear.');
    assert.ok(!JSON.stringify(one).includes('RIFF-the-sound'));
    assert.equal(JSON.parse(one.answer.text).text, 'What was heard.');
    const spoken = await gateway.open('POST', '/v1/audio/speech', { key: t.key, body: { model: 'test/speak', input: 'Say this.', voice: 'alloy' } }).reply;
    assert.equal(spoken.is(200).headers[HEADER], 'on');
    const sound = await kept(t, spoken.id);
    assert.equal(JSON.parse(sound.request.text).input, 'Say this.');
    assert.deepEqual([sound.answer.text, sound.answer.content_type], ['', 'audio/mpeg']);
  });

  test('what is longer than the limit is cut where everybody can see it', async () => {
    const t = await keeper({ bytes_max: 256 });
    const content = 'ü'.repeat(2000);
    for (const stream of [false, true]) {
      t.p1.does(stream ? up.sse(up.story({ words: Array.from({ length: 50 }, () => 'wörter ') })) : up.answer({ content }));
      const body = { messages: [{ role: 'user', content }], stream };
      const reply = (await t.chat(body)).is(200);
      const { request, answer } = await kept(t, reply.id);
      assert.ok(request.is_truncated && answer.is_truncated);
      assert.ok([255, 256].includes(Buffer.byteLength(request.text)) && [255, 256].includes(Buffer.byteLength(answer.text)), `${request.text.length} ${answer.text.length}`);
      assert.ok(JSON.stringify(t.body(body)).startsWith(request.text) && reply.text.startsWith(answer.text), 'the begin of each');
      assert.deepEqual([request.bytes, answer.bytes], [Buffer.byteLength(JSON.stringify(t.body(body))), Buffer.byteLength(reply.text)]);
    }
  });

  test('a request under zero retention is never kept, whoever asked for it', async () => {
    const t = await keeper();
    const provider = (more) => ({ provider: { order: ['p1', 'p2'], ...more } });
    (await gateway.admin('PUT', own(t, '/presets/quiet'), { narrowing: { zdr: true } })).is(201);
    (await gateway.admin('PUT', own(t, '/presets/days'), { narrowing: { retention_days_max: 0 } })).is(201);
    const skipped = [(await t.chat(provider({ zdr: true }))).is(200), (await t.stream(provider({ zdr: true }))).is(200), (await t.chat({ ...provider(), preset: 'quiet' })).is(200), (await t.chat({ ...provider(), preset: 'days' })).is(200)];
    for (const { headers } of skipped) assert.deepEqual([headers[HEADER], headers['x-gateway-provider']], ['skipped', 'p1']);
    const { id } = (await t.chat(provider())).is(200);
    await kept(t, id);
    (await gateway.admin('PATCH', own(t, '/settings'), { narrowing: { zdr: true } })).is(200);
    skipped.push((await t.chat(provider())).is(200), await t.chat('{'));
    assert.deepEqual(skipped.slice(-2).map(({ headers }) => headers[HEADER]), ['skipped', 'skipped']);
    // An isolate that has not heard yet keeps nothing either: the record decides.
    (await gateway.admin('PATCH', own(t, '/settings'), { narrowing: { zdr: false } })).is(200);
    await kept(t, (await t.chat(provider())).is(200).id);
    await gateway.d1(`UPDATE workspaces SET routing = json_set(routing, '$.narrowing.zdr', json('true')) WHERE id = ?1`, t.workspace);
    const late = (await t.chat(provider())).is(200);
    assert.equal(late.headers[HEADER], 'on', 'it believed that it would be');
    await gateway.d1(`UPDATE workspaces SET routing = json_set(routing, '$.narrowing.zdr', json('false'), '$.prompt_logging.enabled', json('false')) WHERE id = ?1`, t.workspace);
    const later = (await t.chat(provider())).is(200);
    await t.settled();
    await gateway.schedule();
    for (const one of [...skipped, late, later]) (await read(t, one.id)).fails('not_found');
    assert.equal((await rows(t)).length, 2);
  });

  test('providers that keep prompts too long are left out where the workspace says so', async () => {
    const t = await gateway.scene();
    const asked = async (retention_days_max) => {
      (await gateway.admin('PATCH', own(t, '/settings'), { narrowing: { retention_days_max } })).is(200);
      const reply = await t.chat({ provider: { order: ['p3', 'p2', 'p1'] } });
      return reply.status === 200 ? reply.headers['x-gateway-provider'] : reply.fails('no_eligible_provider');
    };
    assert.equal(await asked(null), 'p3');
    assert.equal(await asked(30), 'p2', 'of p3 nobody knows');
    assert.equal(await asked(29), 'p1');
    assert.equal(await asked(0), 'p1');
    const none = await t.chat({ provider: { only: ['p2', 'p3'] } });
    assert.deepEqual([...new Set(none.fails('no_eligible_provider').details.removed.map(({ rule }) => rule))], ['not_in_list', 'privacy']);
  });

  test('it is gone on time: unreadable at the moment, deleted by the schedule; a shorter time holds at once', async () => {
    const t = await keeper({ retention_days: 30 });
    const ids = [];
    for (let n = 0; n < 3; n += 1) ids.push((await t.chat()).is(200).id);
    for (const id of ids) await kept(t, id);
    const [{ at, until }] = await rows(t);
    assert.equal(until - at, 30 * DAY);
    await gateway.d1('UPDATE prompts SET until = ?2 WHERE id = ?1', ids[0], Date.now() - 1);
    (await read(t, ids[0])).fails('not_found');
    assert.equal((await rows(t)).length, 3, 'it is still there');
    await gateway.schedule();
    assert.deepEqual((await rows(t)).map(({ id }) => id), ids.slice(1).sort());
    await set(t, { retention_days: 2 });
    for (const row of await rows(t)) assert.equal(row.until - row.at, 2 * DAY);
    await set(t, { retention_days: 90 });
    for (const row of await rows(t)) assert.equal(row.until - row.at, 2 * DAY, 'and what was promised stays');
    (await gateway.admin('DELETE', own(t, `/prompts/${ids[1]}`))).is(200);
    (await gateway.admin('DELETE', own(t, `/prompts/${ids[1]}`))).fails('not_found');
    (await read(t, ids[1])).fails('not_found');
    await set(t, { enabled: false });
    const off = (await t.chat()).is(200);
    assert.equal(off.headers[HEADER], undefined);
    await t.settled();
    assert.deepEqual((await rows(t)).map(({ id }) => id), [ids[2]]);
    (await read(t, ids[2])).is(200);
  });

  test('who reads one leaves a row; a management key needs the scope; a neighbour has none', async () => {
    const t = await keeper();
    const other = await keeper();
    const { id } = (await t.chat()).is(200);
    await kept(t, id);
    (await read(other, id)).fails('not_found');
    const manager = async (scopes) => (await gateway.admin('POST', own(t, '/management-keys'), { name: 'm', scopes })).is(201).json;
    const as = (one, method = 'GET') => gateway.call(method, `/v1/admin${own(t, `/prompts/${id}`)}`, { key: one.key });
    const [reads, other_scope] = [await manager({ prompts: 'read' }), await manager({ activity: 'write', settings: 'write' })];
    (await as(other_scope)).fails('forbidden');
    (await as(reads)).is(200);
    (await as(reads, 'DELETE')).fails('forbidden');
    (await gateway.call('GET', `/v1/admin${own(t, `/prompts/${id}`)}`, { key: t.key })).fails('forbidden');
    const { data } = (await gateway.admin('GET', own(t, `/audit?subject=${id}`))).is(200).json;
    assert.deepEqual([...new Set(data.map(({ action, actor, before, after }) => `${action} ${actor} ${before} ${after}`))].sort(), [`prompts.read ${reads.id} null null`, 'prompts.read operator null null']);
  });

  test('a log that cannot be written costs nobody an answer', async () => {
    const t = await keeper();
    const db = await gateway.mf.getD1Database('DB');
    await db.prepare("CREATE TRIGGER deaf BEFORE INSERT ON prompts BEGIN SELECT RAISE(ABORT, 'not today'); END").run();
    const replies = [(await t.chat()).is(200), (await t.stream()).is(200)];
    for (const { id } of replies) assert.equal((await t.row(id)).status, 200);
    await eventually(() => gateway.log.includes('a prompt is not kept'), 'the operator is told');
    await db.prepare('DROP TRIGGER deaf').run();
    for (const { id } of replies) (await read(t, id)).fails('not_found');
  });

  test('mistakes are named, null is the default, and the setting has a tag and a row like any other', async () => {
    const t = await keeper({ retention_days: 3 });
    for (const [bad, param] of [[{ retention_days: 0 }, 'prompt_logging.retention_days'], [{ retention_days: 91 }, 'prompt_logging.retention_days'], [{ bytes_max: 1 }, 'prompt_logging.bytes_max'], [{ enabled: 'yes' }, 'prompt_logging.enabled'], [{ days: 1 }, 'prompt_logging.days']]) {
      assert.equal((await gateway.admin('PATCH', own(t, '/settings'), { prompt_logging: bad })).fails('invalid_input').param, param);
    }
    assert.deepEqual(await set(t, { retention_days: null }), { enabled: true, retention_days: 7, bytes_max: 65_536 });
    const [row] = (await gateway.admin('GET', own(t, '/audit?action=settings.change&limit=1'))).is(200).json.data;
    assert.deepEqual([row.before.prompt_logging.retention_days, row.after.prompt_logging.retention_days], [3, 7]);
    assert.equal((await set(t, null)).enabled, false);
    for (const id of ['gen_00000000000000000000000000', 'x']) (await read(t, id)).fails('not_found');
  });
});
