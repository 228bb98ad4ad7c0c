// The books of a workspace held against each other: balance, ledger, activity, D1, and the gateway's own reconciliation.
import assert from 'node:assert/strict';
import { eventually } from './wait.mjs';

const sum = (list, pick) => list.reduce((total, item) => total + pick(item), 0);

/**
 * Waits for what may still come (the end of holds, the flush to D1), then checks every invariant. `granted`: nano-dollars of
 * all grants; `mustHave`: ids that were shown once and must be there. Returns the balance, the rows, and charges by request.
 */
export async function booksAddUp(t, granted, { mustHave = [], ms = 8000 } = {}) {
  const credits = await t.settled(ms);
  const { balance, entries } = await t.ledger();
  assert.equal(balance, credits.balance_nanos, 'one balance');
  assert.ok(balance >= 0, `the balance is ${balance}`);
  assert.equal(credits.available_nanos, balance, 'nothing is held, so all of it is available');
  assert.equal(sum(entries, (entry) => entry.nanos), balance, 'the ledger adds up to the balance');
  let running = 0;
  for (const entry of entries.toReversed()) {
    running += entry.nanos;
    assert.equal(entry.balance, running, `the running balance at ${entry.id}`);
    assert.ok(running >= 0 && (entry.lost ?? 0) >= 0, JSON.stringify(entry));
  }
  assert.equal(sum(entries.filter((entry) => entry.kind === 'grant'), (entry) => entry.nanos), granted, 'the grants are what was granted');
  const charges = new Map();
  for (const entry of entries.filter(({ kind }) => kind === 'charge' || kind === 'fee')) {
    assert.ok(!charges.has(entry.id), `${entry.id} is charged twice`);
    assert.ok(entry.nanos <= 0, JSON.stringify(entry));
    charges.set(entry.id, 0 - entry.nanos);
  }
  const rows = await t.activity();
  const ids = rows.map((row) => row.id);
  assert.equal(new Set(ids).size, ids.length, 'no row is there twice');
  for (const row of rows) {
    assert.ok(charges.has(row.id), `the row ${row.id} (${row.ending}) has no charge`);
    assert.equal(row.cost_nanos, charges.get(row.id), `row and charge of ${row.id} agree`);
  }
  assert.deepEqual([...charges.keys()].sort(), [...ids].sort(), 'every charge has its row');
  assert.equal(sum(rows, (row) => row.cost_nanos), granted - balance, 'the rows add up to what is gone');
  for (const id of new Set(mustHave)) assert.ok(charges.has(id), `${id} was shown before the crash and is not in the books`);
  await eventually(async () => {
    const stored = await t.gateway.d1('SELECT id FROM activity WHERE workspace = ?', t.workspace);
    assert.deepEqual(stored.map(({ id }) => id).sort(), [...ids].sort());
    return true;
  }, 'D1 has every row once', { ms: 10_000, pause: 100 });
  const books = (await t.gateway.admin('POST', `/workspaces/${t.workspace}/reconcile`)).is(200).json;
  assert.deepEqual([books.differences, books.agrees, books.activity_nanos], [[], true, granted - balance], 'the gateway finds the same');
  return { balance, rows, entries, charges };
}
