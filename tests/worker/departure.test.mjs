// The end of a workspace, concurrent edits, and what was done by whom.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { OPERATOR_TOKEN, startGateway } from './support/harness.mjs';
import { eventually, sleep } from './support/wait.mjs';

let gateway;
const DAY = 24 * 3600 * 1000;
const DIGITS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
/** An id of that moment. */
const idAt = (at, n) => {
  let [time, text] = [at, ''];
  for (let i = 0; i < 10; i += 1) [text, time] = [DIGITS[time % 32] + text, Math.floor(time / 32)];
  return `gen_${text}${String(n).padStart(16, '0')}`;
};

const own = (t, rest = '') => `/workspaces/${t.workspace}${rest}`;
const schedule = async () => (await gateway.mf.getWorker()).scheduled({ cron: '*/10 * * * *' });
const exported = async (t, key = OPERATOR_TOKEN) => {
  const reply = (await gateway.call('GET', `/v1/admin${own(t, '/export')}`, { key })).is(200);
  assert.match(reply.headers['content-type'], /^application\/x-ndjson/);
  const lines = reply.text.trim().split('\n').map((line) => JSON.parse(line));
  assert.deepEqual(lines.at(-1), { object: 'end', lines: lines.length - 1 });
  return { lines, text: reply.text, of: (object) => lines.filter((line) => line.object === object) };
};
const audit = async (t, query = '') => (await gateway.admin('GET', own(t, `/audit?${query}`))).is(200).json.data;

/** Everything of a workspace: settings, presets with versions, an own key, a management key, requests. */
async function furnished() {
  const t = await gateway.scene();
  (await gateway.admin('PATCH', own(t, '/settings'), { mode: 'price' })).is(200);
  for (const system of ['One.', 'A canary-system-prompt.']) (await gateway.admin('PUT', own(t, '/presets/kind'), { system })).is(201);
  (await gateway.admin('POST', own(t, '/byok/p1'), { key: 'sk-canary-own-key-0123456789', use: 'fallback' })).is(201);
  const manager = (await gateway.admin('POST', own(t, '/management-keys'), { name: 'm', scopes: { workspace: 'read', keys: 'read' } })).is(201).json;
  (await gateway.admin('POST', own(t, '/webhooks'), { url: 'http://127.0.0.1:9/hook', events: ['key.revoked'] })).is(201);
  (await gateway.admin('PATCH', own(t, '/settings'), { prompt_logging: { enabled: true } })).is(200);
  (await t.chat()).is(200);
  (await t.stream()).is(200);
  await t.settled();
  return { ...t, t, manager, chat: (...args) => t.chat(...args) };
}

describe('The end of a workspace, and changes', { timeout: 90_000 }, () => {
  before(async () => {
    gateway = await startGateway({ providers: ['p1'], archive: true, vars: { ALLOW_LOOPBACK: '1' } });
  });
  after(() => gateway?.stop());

  test('what was archived of a workspace is erased with it, however much it is; a neighbour keeps its own', async () => {
    const [t, bystander] = [await gateway.scene(), await gateway.scene()];
    const bucket = await gateway.mf.getR2Bucket('ARCHIVE');
    const db = await gateway.mf.getD1Database('DB');
    const at = Date.now() - 40 * DAY;
    for (const { workspace } of [t, bystander]) {
      const insert = db.prepare("INSERT INTO activity (workspace, id, at, key, status, ending, cost_nanos, row) VALUES (?1, ?2, ?3, 'k', 200, 'finished', 7, '{}')");
      await db.batch(Array.from({ length: 5 }, (_, n) => insert.bind(workspace, idAt(at, n), at)));
    }
    await schedule();
    const under = async ({ workspace }) => (await bucket.list({ prefix: `activity/${workspace}/`, limit: 1000 })).objects.length;
    assert.deepEqual([await under(t), await under(bystander)], [1, 1], 'the sweep has written them');
    // More than one list of the bucket, and than one call that deletes, can hold.
    const more = Array.from({ length: 1100 }, (_, n) => `activity/${t.workspace}/${idAt(at, n)}-${idAt(at, n)}.jsonl.gz`);
    for (let from = 0; from < more.length; from += 100) await Promise.all(more.slice(from, from + 100).map((name) => bucket.put(name, 'x')));
    assert.equal(await under(t), 1000);
    // Rows that are over their time, but not in the archive yet, do not get there any more.
    await db.prepare("INSERT INTO activity (workspace, id, at, key, status, ending, cost_nanos, row) VALUES (?1, ?2, ?3, 'k', 200, 'finished', 7, '{}')").bind(t.workspace, idAt(at, 77), at).run();
    (await gateway.admin('DELETE', own(t, '?grace_seconds=0'))).is(200);
    await eventually(async () => {
      await schedule();
      return (await gateway.admin('GET', own(t))).status === 404;
    }, 'it is erased');
    assert.deepEqual([await under(t), await under(bystander)], [0, 1]);
    assert.deepEqual(await gateway.d1('SELECT id FROM activity WHERE workspace = ?', t.workspace), []);
  });

  test('a deleted workspace lets nobody in, and is whole when it is restored', async () => {
    const t = await furnished();
    const before = (await gateway.admin('GET', own(t, '/credits'))).is(200).json.credits;
    const deleted = (await gateway.admin('DELETE', own(t))).is(200).json;
    const days = (Date.parse(deleted.erase_at) - Date.parse(deleted.deleted_at)) / 86_400_000;
    assert.equal(days, 30);
    (await t.chat()).fails('unauthenticated');
    (await gateway.call('GET', '/v1/credits', { key: t.key })).fails('unauthenticated');
    (await gateway.call('GET', `/v1/admin${own(t, '/keys')}`, { key: t.manager.key })).is(200);
    assert.equal((await gateway.admin('DELETE', own(t))).is(200).json.erase_at, deleted.erase_at, 'a second time changes nothing');
    await schedule();
    const restored = (await gateway.admin('POST', own(t, '/restore'))).is(200).json;
    assert.deepEqual([restored.deleted_at, restored.erase_at], [null, null]);
    (await t.chat()).is(200);
    await t.t.settled();
    const after = (await gateway.admin('GET', own(t, '/credits'))).is(200).json.credits;
    assert.ok(after.balance_nanos > 0 && after.balance_nanos < before.balance_nanos);
    const actions = (await audit(t)).map(({ action }) => action);
    assert.deepEqual(actions.slice(0, 2), ['workspace.restore', 'workspace.delete']);
    assert.equal((await gateway.admin('DELETE', own(t, '?grace_seconds=-1'))).fails('invalid_input').param, 'grace_seconds');
  });

  test('past its time it is erased: no store knows it any more', async () => {
    const t = await furnished();
    const bystander = await furnished();
    await eventually(async () => (await gateway.d1('SELECT 1 FROM activity WHERE workspace = ?', t.workspace)).length === 2, 'the rows are in D1');
    (await gateway.admin('DELETE', own(t, '?grace_seconds=0'))).is(200);
    (await gateway.admin('POST', own(t, '/restore'))).fails('not_found');
    await eventually(async () => {
      await schedule();
      return (await gateway.admin('GET', own(t))).status === 404;
    }, 'it is erased');
    const tables = (await gateway.d1("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf%' ESCAPE '\\'")).map(({ name }) => name);
    for (const table of tables) {
      const rows = JSON.stringify((await gateway.d1(`SELECT * FROM "${table}"`)).filter((row) => !(table === 'audit' && row.action === 'workspace.erase')));
      for (const word of [t.workspace, t.keyId, t.manager.id]) assert.ok(!rows.includes(word), `${table} knows ${word}`);
    }
    const kv = await gateway.mf.getKVNamespace('KV');
    for (const prefix of ['workspace/', 'byok/', 'preset/', 'key/']) {
      for (const { name } of (await kv.list({ prefix })).keys) assert.ok(!`${name} ${await kv.get(name)}`.includes(t.workspace), name);
    }
    const objects = await gateway.mf.getDurableObjectNamespace('WORKSPACE');
    const object = objects.get(objects.idFromName(t.workspace));
    const ledger = await (await object.fetch('https://workspace/ledger', { method: 'POST', body: '{"limit":10}' })).json();
    assert.deepEqual(ledger, [[], null, null]);
    (await t.chat()).fails('unauthenticated');
    const [row] = (await gateway.admin('GET', `/audit?subject=${t.workspace}`)).is(200).json.data;
    assert.deepEqual([row.actor, row.action, row.workspace], ['schedule', 'workspace.erase', null]);
    (await bystander.chat()).is(200);
    assert.equal((await exported(bystander)).of('preset').length, 2, 'a neighbour keeps everything');
  });

  test('an export holds everything and no secret; a management key gets what it may read', async () => {
    const t = await furnished();
    const whole = await exported(t);
    const count = (object) => whole.of(object).length;
    const sums = await eventually(async () => {
      const { of } = await exported(t);
      const requests = (interval) => of('sum').reduce((sum, one) => sum + (one.interval === interval ? one.requests : 0), 0);
      return requests('day') === 2 && requests('hour') === 2 && of('sum');
    }, 'the sums of the day');
    assert.deepEqual([...new Set(sums.map(({ key, model, provider }) => `${key} ${model} ${provider}`))], [`${t.keyId} ${t.model} p1`]);
    const objects = ['workspace', 'settings', 'retention', 'key', 'management_key', 'preset', 'credential', 'webhook', 'credits', 'entry', 'generation', 'prompt'];
    assert.deepEqual(objects.map(count), [1, 1, 1, 1, 1, 2, 1, 1, 1, 3, 2, 0]);
    assert.ok(!whole.text.includes('whsec_'));
    assert.deepEqual(whole.of('preset').map(({ version, in_use }) => [version, in_use]), [[1, false], [2, true]]);
    const actions = whole.of('change').map(({ action }) => action);
    assert.deepEqual(actions, ['workspace.create', 'credits.create', 'keys.create', 'settings.change', 'presets.put', 'presets.put', 'byok.create', 'management-keys.create', 'webhooks.create', 'settings.change']);
    for (const secret of [t.key, t.key.slice(5, 30), t.manager.key, 'canary-own-key']) assert.ok(!whole.text.includes(secret), secret);
    const narrow = await exported(t, t.manager.key);
    assert.deepEqual([...new Set(narrow.lines.map(({ object }) => object))], ['workspace', 'key', 'end']);
  });

  test('each resource has a tag; with a stale one nothing is changed, by nobody', async () => {
    const t = await furnished();
    const [credential] = (await gateway.admin('GET', own(t, '/byok'))).is(200).json.data;
    const byok = `/byok/p1/${credential.id}`;
    const [webhook] = (await gateway.admin('GET', own(t, '/webhooks'))).is(200).json.data;
    const hook = `/webhooks/${webhook.id}`;
    const cases = [
      ['', 'PATCH', { name: 'new name' }], [`/keys/${t.keyId}`, 'PATCH', { name: 'new name' }], ['/settings', 'PATCH', { mode: 'latency' }],
      ['/presets/kind', 'PUT', { system: 'Three.' }], ['/presets/kind', 'PATCH', { version: 1 }], [byok, 'PATCH', { name: 'new name' }],
      [hook, 'PATCH', { enabled: false }], [hook, 'PATCH', { events: [], name: 'all' }], ['/retention', 'PUT', { days: 3 }],
      ['/settings', 'PATCH', { prompt_logging: { retention_days: 3 } }],
    ];
    for (const [rest, method, body] of cases) {
      const about = `${method} ${rest}`;
      const { etag } = (await gateway.admin('GET', own(t, rest))).is(200).headers;
      assert.match(etag, /^"[0-9a-f]{24}"$/, about);
      assert.equal((await gateway.admin('GET', own(t, rest))).headers.etag, etag, `${about}: it stays`);
      assert.equal((await gateway.admin(method, own(t, rest), body, { 'if-match': '"stale"' })).fails('idempotency_conflict').param, 'if-match');
      assert.equal((await gateway.admin('GET', own(t, rest), undefined, { 'if-match': '"stale"' })).fails('idempotency_conflict').param, 'if-match');
      assert.equal((await gateway.admin('GET', own(t, rest))).headers.etag, etag, `${about}: refused, nothing changed`);
      const changed = await gateway.admin(method, own(t, rest), body, { 'if-match': etag });
      assert.ok([200, 201].includes(changed.status) && changed.headers.etag !== etag, `${about} ${changed.status} ${changed.headers.etag}`);
      assert.equal((await gateway.admin('GET', own(t, rest))).headers.etag, changed.headers.etag, about);
      (await gateway.admin(method, own(t, rest), body, { 'if-match': etag })).fails('idempotency_conflict');
    }
    for (const rest of ['/presets/kind', byok, hook, `/keys/${t.keyId}`, '']) {
      const { etag } = (await gateway.admin('GET', own(t, rest))).is(200).headers;
      (await gateway.admin('DELETE', own(t, rest), undefined, { 'if-match': '"stale"' })).fails('idempotency_conflict');
      (await gateway.admin('DELETE', own(t, rest), undefined, { 'if-match': etag })).is(200);
    }
    assert.equal((await gateway.admin('PUT', own(t, '/presets/new'), {}, { 'if-match': '"any"' })).fails('idempotency_conflict').param, 'if-match');
  });

  test('every list of the administrator has a limit and a cursor', async () => {
    const { paths, components } = (await gateway.call('GET', '/v1/openapi.json')).is(200).json;
    const lists = [];
    for (const [path, { get }] of Object.entries(paths).filter(([path, { get }]) => path.startsWith('/v1/admin') && get)) {
      const name = get.responses[200].content['application/json']?.schema.$ref?.split('/').at(-1);
      const { object, data } = components.schemas[name]?.properties ?? {};
      if (object?.const !== 'list' || data?.type !== 'array') continue;
      const names = get.parameters.filter((one) => one.in === 'query').map((one) => one.name);
      lists.push(path);
      // Sums are of a range with a longest length.
      if (!path.endsWith('/analytics')) assert.ok(names.includes('limit') && names.includes('cursor'), `${path}: ${names}`);
    }
    assert.ok(lists.length >= 9, lists.join());
    const t = await gateway.scene();
    for (let n = 0; n < 3; n += 1) (await gateway.admin('POST', own(t, '/byok/p1'), { key: `sk-own-key-0123456789-${n}`, name: `k${n}` })).is(201);
    const first = (await gateway.admin('GET', own(t, '/byok?limit=2'))).is(200).json;
    const second = (await gateway.admin('GET', own(t, `/byok/p1?limit=2&cursor=${first.next_cursor}`))).is(200).json;
    assert.deepEqual([first.data.map(({ name }) => name), second.data.map(({ name }) => name), second.next_cursor], [['k0', 'k1'], ['k2'], null]);
    assert.equal((await gateway.admin('GET', own(t, '/byok?cursor=none'))).fails('invalid_input').param, 'cursor');
  });

  test('edits at the same moment lose nothing, and each leaves its row', async () => {
    const t = await gateway.scene();
    const key = own(t, `/keys/${t.keyId}`);
    const edits = [{ name: 'a' }, { limits: { requests_per_minute: 500 } }, { allowed_models: ['test/*'] }, { budget: { total: '5' } }, { expires_at: '2100-01-01T00:00:00Z' }];
    const lists = [{ ignore_providers: ['p9'] }, { regions: ['eu'] }, { allow_models: ['test/*'] }, { no_training: true }];
    const replies = await Promise.all([
      ...edits.map((edit) => gateway.admin('PATCH', key, edit)),
      ...lists.map((narrowing) => gateway.admin('PATCH', own(t, '/settings'), { narrowing })),
      ...Array.from({ length: 4 }, (_, n) => gateway.admin('PUT', own(t, '/presets/p'), { system: `v${n}` })),
    ]);
    const { id: hook } = (await gateway.admin('POST', own(t, '/webhooks'), { url: 'http://127.0.0.1:9/hook' })).is(201).json;
    const hooked = [{ name: 'b' }, { events: ['key.revoked'] }, { enabled: false }, { url: 'http://127.0.0.1:9/other' }];
    const turns = await Promise.all([...hooked.map((edit) => gateway.admin('PATCH', own(t, `/webhooks/${hook}`), edit)), gateway.admin('POST', own(t, `/webhooks/${hook}/secret`), {})]);
    for (const turn of turns) turn.is(200);
    const at = (await gateway.admin('GET', own(t, `/webhooks/${hook}`))).is(200).json;
    assert.deepEqual([at.name, at.events, at.state, at.url], ['b', ['key.revoked'], 'disabled', 'http://127.0.0.1:9/other']);
    assert.equal(JSON.parse((await gateway.d1('SELECT secrets FROM webhooks WHERE id = ?', hook))[0].secrets).length, 2, 'and the new secret is there');
    for (const reply of replies) assert.ok([200, 201].includes(reply.status), `${reply.status} ${reply.text}`);
    const shown = (await gateway.admin('GET', key)).is(200).json;
    assert.deepEqual([shown.name, shown.limits.requests_per_minute, shown.allowed_models, shown.budget.total, shown.expires_at.slice(0, 4)], ['a', 500, ['test/*'], '5', '2100']);
    const { narrowing } = (await gateway.admin('GET', own(t, '/settings'))).is(200).json;
    assert.deepEqual([narrowing.ignore_providers, narrowing.regions, narrowing.allow_models, narrowing.no_training], [['p9'], ['eu'], ['test/*'], true]);
    const preset = (await gateway.admin('GET', own(t, '/presets/p'))).is(200).json;
    assert.deepEqual(preset.versions.map(({ version }) => version), [4, 3, 2, 1]);
    assert.deepEqual(replies.filter(({ status }) => status === 201).map(({ json }) => json.version).sort(), [1, 2, 3, 4]);
    const rows = await audit(t, 'limit=100');
    const counted = (action) => rows.filter((row) => row.action === action).length;
    assert.deepEqual(['keys.change', 'settings.change', 'presets.put'].map(counted), [5, 4, 4]);
    // What came after is what the one before left: a chain, nothing left out.
    const chain = rows.filter((row) => row.action === 'keys.change').reverse();
    for (let n = 1; n < chain.length; n += 1) assert.deepEqual(chain[n].before, chain[n - 1].after);
    // Only one of many with the same tag gets through.
    const { etag } = (await gateway.admin('GET', key)).headers;
    const raced = await Promise.all(Array.from({ length: 6 }, (_, n) => gateway.admin('PATCH', key, { name: `n${n}` }, { 'if-match': etag })));
    assert.deepEqual(raced.map(({ status }) => status).sort(), [200, 409, 409, 409, 409, 409]);
  });

  test('a revocation wins over every other edit of the same moment', async () => {
    const t = await gateway.scene();
    (await t.chat()).is(200);
    const key = own(t, `/keys/${t.keyId}`);
    const replies = await Promise.all([...Array.from({ length: 6 }, (_, n) => gateway.admin('PATCH', key, { name: `n${n}`, disabled: false })), gateway.admin('DELETE', key)]);
    replies.at(-1).is(200);
    for (let n = 0; n < 3; n += 1) (await t.chat()).fails('unauthenticated');
    await sleep(300);
    (await t.chat()).fails('unauthenticated');
  });

  test('what an object and the read copies were not told, the schedule tells them', async () => {
    const t = await gateway.scene();
    const [{ policy }] = await gateway.d1('SELECT policy FROM keys WHERE id = ?', t.keyId);
    (await gateway.admin('DELETE', own(t, `/keys/${t.keyId}`))).is(200);
    const [{ policy: revoked, hash }] = await gateway.d1('SELECT policy, hash FROM keys WHERE id = ?', t.keyId);
    // As if the news had been lost on its way: the object and KV have the key as it was.
    const stale = JSON.stringify({ ...JSON.parse(policy), version: JSON.parse(revoked).version });
    const objects = await gateway.mf.getDurableObjectNamespace('WORKSPACE');
    const object = objects.get(objects.idFromName(t.workspace));
    await (await object.fetch('https://workspace/command', { method: 'POST', body: `{"set_key":${stale}}` })).text();
    const kv = await gateway.mf.getKVNamespace('KV');
    await kv.put(`key/${hash}`, stale);
    (await t.chat()).is(200);
    await schedule();
    (await t.chat()).fails('unauthenticated');
    assert.equal(JSON.parse(await kv.get(`key/${hash}`)).revoked, true);
  });

  test('every change has its row, also where it is not kept in D1; rows are filtered and paged', async () => {
    const t = await furnished();
    const reply = await gateway.admin('PATCH', own(t), { budget: { day: '5' } });
    const [row] = await audit(t, `request=${reply.id}`);
    assert.deepEqual([row.actor, row.action, row.subject, row.before.budget.day, row.after.budget.day], ['operator', 'workspace.change', t.workspace, null, '5']);
    assert.ok(Math.abs(Date.parse(row.at) - Date.now()) < 60_000);
    const [grant] = await audit(t, 'action=credits.create');
    assert.deepEqual([grant.before, grant.after.entry.kind, grant.after.entry.nanos], [null, 'grant', 10_000_000_000]);
    const put = await audit(t, 'action=presets.put&subject=kind');
    assert.deepEqual(put.map(({ before, after }) => [before?.version ?? null, after.version]), [[1, 2], [null, 1]]);
    assert.ok(!JSON.stringify(await audit(t, 'limit=200')).includes('canary'), 'neither a secret nor a system prompt');
    const switched = await gateway.admin('PATCH', '/providers/p1', { routing: 'on', reason: 'test' });
    const [outside] = (await gateway.admin('GET', `/audit?request=${switched.id}`)).is(200).json.data;
    assert.deepEqual([outside.action, outside.subject, outside.workspace, outside.after.routing], ['providers.change', 'p1', null, 'on']);
    (await gateway.admin('PATCH', own(t), { name: '' })).fails('invalid_input');
    const all = await audit(t, 'limit=200');
    assert.equal(all.filter(({ action }) => action === 'workspace.change').length, 1, 'what was refused leaves none');
    const paged = [];
    for (let cursor = ''; cursor !== null; ) {
      const page = (await gateway.admin('GET', own(t, `/audit?limit=3${cursor && `&cursor=${cursor}`}`))).is(200).json;
      paged.push(...page.data);
      cursor = page.next_cursor;
    }
    assert.deepEqual(paged, all);
    const middle = all[Math.floor(all.length / 2)];
    const until = await audit(t, `limit=200&until=${encodeURIComponent(middle.at)}`);
    const since = await audit(t, `limit=200&since=${encodeURIComponent(middle.at)}`);
    assert.equal(until.length + since.length, all.length);
    assert.equal((await gateway.admin('GET', own(t, '/audit?who=me'))).fails('invalid_input').param, 'who');
  });
});
