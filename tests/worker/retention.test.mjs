// Retention: what is over its time goes to the archive and then away; what could not be written stays.
import assert from 'node:assert/strict';
import zlib from 'node:zlib';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import { eventually } from './support/wait.mjs';

const DAY = 24 * 3600 * 1000;
const DIGITS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
let count = 0;
/** An id of that moment. */
function idAt(at) {
  let [time, text] = [at, ''];
  for (let n = 0; n < 10; n++) [text, time] = [DIGITS[time % 32] + text, Math.floor(time / 32)];
  return `gen_${text}${String(++count).padStart(16, '0')}`;
}

for (const archive of [true, false, 'broken']) {
  describe(`Retention, ${archive === true ? 'with' : archive ? 'with a broken' : 'without an'} archive`, { timeout: 60_000 }, () => {
    let gateway;
    before(async () => {
      // A variable in place of a bucket: nothing can be written there.
      gateway = await startGateway({ providers: ['p1'], archive: archive === true, ...(archive === 'broken' ? { vars: { ARCHIVE: 'no bucket' } } : {}) });
    });
    after(() => gateway?.stop());

    const seed = async (workspace, ages) => {
      const db = await gateway.mf.getD1Database('DB');
      const rows = ages.map((days) => ({ id: idAt(Math.round(Date.now() - days * DAY)), at: Math.round(Date.now() - days * DAY), days }));
      for (let from = 0; from < rows.length; from += 100) {
        await db.batch(rows.slice(from, from + 100).map(({ id, at, days }) =>
          db.prepare("INSERT INTO activity (workspace, id, at, key, status, ending, cost_nanos, row) VALUES (?1, ?2, ?3, 'k', 200, 'finished', 7, ?4)").bind(workspace, id, at, JSON.stringify({ id, at, days, text: 'ü' }))));
      }
      return rows;
    };
    const left = async (workspace) => (await gateway.d1('SELECT id FROM activity WHERE workspace = ?1 ORDER BY id', workspace)).map(({ id }) => id);

    test('rows over their time are swept, oldest first, each workspace by its own days', async () => {
      const [own, usual, forever, fresh] = await Promise.all([1, 2, 3, 4].map(() => gateway.newWorkspace({ dollars: '0' })));
      const route = (workspace) => `/workspaces/${workspace}/retention`;
      assert.deepEqual((await gateway.admin('GET', route(own))).is(200).json, { object: 'retention', workspace: own, days: 30, default_days: 30, is_default: true, is_archived: Boolean(archive) });
      (await gateway.admin('PUT', route(own), { days: 2 })).is(200);
      assert.equal((await gateway.admin('PUT', route(forever), { days: 0 })).is(200).json.days, 0);
      const many = Array.from({ length: 600 }, (_, n) => 3 + n / 1000);
      const rows = { own: await seed(own, [...many, 1.9, 0.1]), usual: await seed(usual, [31, 29]), forever: await seed(forever, [3000]), fresh: await seed(fresh, [1]) };
      await gateway.schedule();
      const ids = (list, keep) => list.filter(keep).map(({ id }) => id).sort();
      if (archive === 'broken') {
        assert.equal((await left(own)).length, 602, 'nothing is deleted that was not written');
        assert.equal((await left(usual)).length, 2);
        assert.match(gateway.log, /old activity rows are not swept/);
        return;
      }
      assert.deepEqual(await left(own), ids(rows.own, ({ days }) => days < 2));
      assert.deepEqual(await left(usual), ids(rows.usual, ({ days }) => days < 30));
      assert.equal((await left(forever)).length + (await left(fresh)).length, 2);
      if (!archive) return;
      const bucket = await gateway.mf.getR2Bucket('ARCHIVE');
      const { objects } = await bucket.list({ prefix: `activity/${own}/` });
      assert.equal(objects.length, 2, 'one for each batch of 500');
      const written = [];
      for (const { key } of objects) {
        const bytes = Buffer.from(await (await bucket.get(key)).arrayBuffer());
        const lines = zlib.gunzipSync(bytes).toString('utf8').trimEnd().split('\n').map((line) => JSON.parse(line));
        assert.equal(key, `activity/${own}/${lines[0].id}-${lines.at(-1).id}.jsonl.gz`);
        written.push(...lines);
      }
      const swept = rows.own.filter(({ days }) => days > 2);
      assert.deepEqual(written.map(({ id }) => id).sort(), ids(swept, () => true));
      for (const { id, at, days } of swept) assert.deepEqual(written.find((one) => one.id === id), { workspace: own, id, cost_nanos: 7, row: { id, at, days, text: 'ü' } });
      assert.equal((await gateway.admin('PUT', route(own), { days: null })).is(200).json.is_default, true);
      for (const body of [{ days: -1 }, { days: 4000 }, { days: 'x' }]) (await gateway.admin('PUT', route(own), body)).fails('invalid_input', { param: 'days' });
    });

    if (archive === true) test('what D1 does not delete is there twice rather than not at all, and goes with the next turn', async () => {
      const workspace = await gateway.newWorkspace({ dollars: '0' });
      const [row] = await seed(workspace, [40]);
      const db = await gateway.mf.getD1Database('DB');
      await db.prepare("CREATE TRIGGER keep BEFORE DELETE ON activity BEGIN SELECT RAISE(ABORT, 'kept by the test'); END").run();
      await gateway.schedule();
      assert.deepEqual(await left(workspace), [row.id]);
      await db.prepare('DROP TRIGGER keep').run();
      await gateway.schedule();
      assert.deepEqual(await left(workspace), []);
      const { objects } = await (await gateway.mf.getR2Bucket('ARCHIVE')).list({ prefix: `activity/${workspace}/` });
      assert.equal(objects.length, 1);
    });

    if (archive === false) test('a swept row is gone from activity, its sums stay', async () => {
      const t = await gateway.scene();
      const { id } = (await t.chat()).is(200);
      await t.settled();
      await eventually(async () => (await left(t.workspace)).length === 1, 'the row is in D1', { ms: 15_000 });
      await gateway.d1("UPDATE activity SET at = at - 40 * 86400000, id = ?2 WHERE id = ?1", id, idAt(Date.now() - 40 * DAY));
      await gateway.schedule();
      assert.deepEqual((await t.activity()).length, 0);
      const { data } = (await gateway.admin('GET', `/workspaces/${t.workspace}/analytics`)).is(200).json;
      assert.equal(data[0].requests, 1);
    });
  });
}
