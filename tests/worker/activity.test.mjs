// Activity: what a row says, how rows are found, exported and added up.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';
import { eventually } from './support/wait.mjs';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const HEADERS = { 'x-title': 'My app', 'http-referer': 'https://app.dev/chat?token=private', 'x-session-id': 'session-1', traceparent: `00-${TRACE}-b7ad6b7169203331-01` };
let gateway;

describe('Activity', { concurrency: 3, timeout: 120_000 }, () => {
  before(async () => {
    gateway = await startGateway();
  });
  after(() => gateway?.stop());

  /** Waits until every row of a workspace is in D1. */
  const flushed = (t, count) => eventually(async () => {
    const [{ n }] = await gateway.d1('SELECT count(*) AS n FROM activity WHERE workspace = ?1', t.workspace);
    return n === count;
  }, `${count} rows are in D1`, { ms: 15_000 });
  const list = async (t, query) => (await t.get(`/v1/activity?${query}`)).is(200).json;
  const rowsOf = (text) => text.trimEnd().split('\n').map((line) => JSON.parse(line));

  test('a row says where the request came from, and nothing private of it', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const reply = (await t.chat({ user: 'u1' }, { headers: HEADERS })).is(200);
    const row = await t.row(reply.id);
    assert.equal(row.app, 'My app');
    assert.equal(row.referer, 'https://app.dev/chat');
    assert.equal(row.trace_id, TRACE);
    assert.equal(row.parent_span_id, 'b7ad6b7169203331');
    assert.equal(row.session, 'session-1');
    assert.equal(row.user, 'u1');
    assert.equal(row.key, t.keyId);
    for (const name of ['model_asked', 'model', 'provider', 'dialect', 'status', 'ending', 'finish_reason', 'usage', 'cost', 'paid_by', 'first_byte_ms', 'total_ms', 'gateway_ms', 'attempts']) {
      assert.notEqual(row[name], undefined, name);
    }
    assert.equal('origin' in row, false);
    await flushed(t, 1);
    assert.deepEqual(await t.row(reply.id), row, 'the same from D1');
  });

  test('every filter finds its rows, before and after they are flushed', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    const other = await gateway.newKey(t.workspace);
    const ids = {};
    ids.plain = (await t.chat({ provider: { only: ['p1'] } })).is(200).id;
    ids.app = (await t.chat({ user: 'u2', provider: { only: ['p2'] } }, { headers: HEADERS })).is(200).id;
    ids.stream = (await t.stream({ provider: { only: ['p1'] } }, { key: other.key })).is(200).id;
    t.p1.does(up.fail(400));
    ids.failed = (await t.chat({ provider: { only: ['p1'] } })).is(400).id;
    for (const id of Object.values(ids)) await t.row(id);
    const name = (id) => Object.keys(ids).find((key) => ids[key] === id);
    const check = async () => {
      for (const [query, expected] of [
        ['', ['failed', 'stream', 'app', 'plain']],
        [`key=${other.id}`, ['stream']],
        ['provider=p2', ['app']],
        ['provider=p2&provider=p1&status=200', ['stream', 'app', 'plain']],
        ['status_min=400', ['failed']],
        ['status_max=399&stream=false', ['app', 'plain']],
        ['code=invalid_input', ['failed']],
        ['ending=finished', ['stream', 'app', 'plain']],
        ['finish_reason=stop&dialect=chat', ['stream', 'app', 'plain']],
        ['user=u2', ['app']],
        ['session=session-1', ['app']],
        ['app=My+app', ['app']],
        [`trace_id=${TRACE}`, ['app']],
        [`referer=${encodeURIComponent('https://app.dev/chat')}`, ['app']],
        [`model=${t.model}&cost_min=0.000000001&prompt_tokens_min=1&total_ms_min=0`, ['stream', 'app', 'plain']],
        ['cost_max=0', ['failed']],
        ['paid_by=credits&is_estimated=false&limit=1', ['failed']],
        ['model=other', []],
        [`id=${ids.app}&id=${ids.plain}`, ['app', 'plain']],
        ['input_tokens=11&output_tokens_min=7&cache_read_tokens_max=0', ['stream', 'app', 'plain']],
        ['cache_read_tokens_min=1', []],
        ['since=2020-01-01T00:00:00Z&until=2020-02-01T00:00:00Z', []],
        ['since=2020-01-01T00:00:00Z', ['failed', 'stream', 'app', 'plain']],
      ]) {
        const { data } = await list(t, query);
        assert.deepEqual(data.map(({ id }) => name(id)), expected, query);
        const admin = (await gateway.admin('GET', `/workspaces/${t.workspace}/activity?${query}`)).is(200).json;
        assert.deepEqual(admin.data, data, query);
      }
    };
    await check();
    await flushed(t, 4);
    await check();
    for (const [query, param] of [['colour=red', 'colour'], ['status=ok', 'status'], ['since=yesterday', 'since'], ['cursor=x', 'cursor'], ['limit=0', 'limit'], ['format=xml', 'format']]) {
      assert.equal((await t.get(`/v1/activity?${query}`)).is(400).json.error.param, param, query);
    }
  });

  test('pages and exports show each row once while rows are added and flushed', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const first = (await Promise.all(Array.from({ length: 30 }, () => t.chat()))).map((reply) => reply.is(200).id);
    for (const id of first) await t.row(id);
    let busy = true;
    const adding = (async () => {
      while (busy) (await t.chat()).is(200);
    })();
    try {
      for (let round = 0; round < 6; round++) {
        const seen = [];
        let cursor = '';
        do {
          const page = await list(t, `limit=7${cursor && `&cursor=${cursor}`}`);
          seen.push(...page.data.map(({ id }) => id));
          cursor = page.next_cursor ?? '';
        } while (cursor);
        const lines = rowsOf((await t.get('/v1/activity?format=jsonl')).is(200).text).map(({ id }) => id);
        const csv = (await gateway.call('GET', '/v1/activity', { key: t.key, headers: { accept: 'text/csv' } })).is(200);
        assert.match(csv.headers['content-type'], /^text\/csv/);
        const [head, ...rows] = csv.text.trimEnd().split('\r\n');
        assert.match(head, /^id,created_at,key,/);
        for (const found of [seen, lines, rows.map((row) => row.split(',')[0])]) {
          assert.equal(new Set(found).size, found.length, 'no row twice');
          assert.deepEqual(found, found.toSorted().reverse(), 'newest first');
          assert.deepEqual(first.filter((id) => !found.includes(id)), [], 'none is missing');
        }
      }
    } finally {
      busy = false;
      await adding;
    }
  });

  test('sums agree with the rows, count a row once, and have quantiles', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    t.p2.does(up.fail(400));
    await Promise.all(Array.from({ length: 12 }, (_, i) => t.chat({ provider: { only: ['p1'] } }, { headers: i % 3 ? {} : HEADERS })));
    (await t.chat({ provider: { only: ['p2'] } })).is(400);
    await t.settled();
    await flushed(t, 13);
    const rows = await t.activity();
    const sums = async (query) => (await gateway.admin('GET', `/workspaces/${t.workspace}/analytics?${query}`)).is(200).json;
    const sum = (list, field) => list.reduce((total, one) => total + (one[field] ?? 0), 0);
    for (const [interval, group] of ['hour', 'day'].flatMap((interval) => ['', 'model', 'provider', 'key', 'app'].map((group) => [interval, group]))) {
      const { data } = await sums(`interval=${interval}${group && `&group_by=${group}`}`);
      for (const field of ['prompt_tokens', 'completion_tokens', 'cost_nanos']) assert.equal(sum(data, field), sum(rows, field), `${interval} ${group} ${field}`);
      assert.equal(sum(data, 'requests'), 13);
      assert.equal(sum(data, 'failures'), 1);
      for (const one of data) assert.ok(one.latency_ms.p50 > 0 && one.latency_ms.p95 >= one.latency_ms.p50);
    }
    const { data: apps } = await sums('group_by=app');
    assert.deepEqual(apps.map(({ app, requests }) => [app, requests]), [[null, 9], ['My app', 4]]);
    assert.equal(sum((await sums('provider=p1')).data, 'requests'), 12);
    assert.equal(sum((await sums('provider=p1&app=My+app&interval=hour')).data, 'requests'), 4);
    assert.deepEqual((await sums('since=2020-01-01T00:00:00Z&until=2020-02-01T00:00:00Z')).data, []);
    for (const [query, param] of [['interval=week', 'interval'], ['group_by=user', 'group_by'], ['since=2020-01-01T00:00:00Z', 'since'], ['x=1', 'x'], ['until=now', 'until']]) {
      assert.equal((await gateway.admin('GET', `/workspaces/${t.workspace}/analytics?${query}`)).is(400).json.error.param, param, query);
    }
  });

  test('sums and rows come to D1 together or not at all, and a row that is there counts no more', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const db = await gateway.mf.getD1Database('DB');
    await db.prepare(`CREATE TRIGGER refuse BEFORE INSERT ON activity WHEN NEW.workspace = '${t.workspace}' BEGIN SELECT RAISE(ABORT, 'refused by the test'); END`).run();
    const counted = async () => (await gateway.d1("SELECT coalesce(sum(requests), 0) AS n FROM rollups WHERE workspace = ?1 AND span = 'day'", t.workspace))[0].n;
    const ids = [(await t.chat()).is(200).id, (await t.chat()).is(200).id];
    await eventually(() => gateway.log.includes('refused by the test'), 'a flush has failed', { ms: 15_000 });
    assert.equal(await counted(), 0, 'what was not inserted is not counted');
    for (const id of ids) assert.equal((await t.row(id)).id, id, 'and is shown all the same');
    await db.batch([
      db.prepare('DROP TRIGGER refuse'),
      db.prepare("INSERT INTO activity (workspace, id, at, key, status, ending, cost_nanos, row) VALUES (?1, ?2, 0, 'k', 200, 'finished', 0, '{}')").bind(t.workspace, ids[0]),
    ]);
    await flushed(t, 2);
    assert.equal(await counted(), 1, 'the one that was there already is not counted again');
  });
});
