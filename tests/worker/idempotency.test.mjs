// Idempotency-Key: one dispatch, one charge, the same answer.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startGateway } from './support/harness.mjs';
import * as up from './support/upstream.mjs';
import { eventually } from './support/wait.mjs';

let gateway, folder;
const COST = 11 * 1000 + 7 * 2000;
const WAYS = { plain: {}, streamed: { stream: true }, 'streamed with usage': { stream: true, stream_options: { include_usage: true } }, 'streamed with cost': { stream: true, usage: { include: true } } };
let count = 0;
const named = (name = `key-${++count}`) => ({ headers: { 'idempotency-key': name } });

describe('Idempotency', { timeout: 90_000 }, () => {
  before(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-replay-'));
    gateway = await startGateway({ persist: folder, providers: ['p1', 'p2'], vars: { KEEP_ALIVE_FIRST_MS: 100, KEEP_ALIVE_MS: 50 } });
  });
  after(async () => {
    await gateway?.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  for (const [way, body] of Object.entries(WAYS)) {
    test(`${way}: twice in a row is one call, one charge and the same bytes`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      const key = named();
      const first = (await t.chat(body, key)).is(200);
      await t.settled();
      const second = (await t.chat(body, key)).is(200);
      assert.equal(second.text, first.text);
      assert.deepEqual([first.headers['x-gateway-idempotent-replay'], second.headers['x-gateway-idempotent-replay']], [undefined, 'true']);
      for (const name of ['content-type', 'x-gateway-provider', 'x-gateway-model', 'x-gateway-cost']) assert.equal(second.headers[name], first.headers[name], name);
      assert.notEqual(second.headers['x-request-id'], first.headers['x-request-id']);
      assert.equal(t.p1.requests.length, 1);
      assert.equal((await t.settled()).balance_nanos, 10e9 - COST);
    });

    test(`${way}: at once, the second waits for the first`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      t.p1.does(async (exchange) => { await sleep(400); return up.answer()(exchange); });
      const key = named();
      const replies = await Promise.all(Array.from({ length: 4 }, () => t.chat(body, key)));
      const texts = replies.map((reply) => reply.is(200).text.replaceAll(/^: ?.*\n/gm, ''));
      assert.equal(new Set(texts).size, 1, texts.join('\n---\n'));
      assert.equal(t.p1.requests.length, 1);
      assert.equal((await t.settled()).balance_nanos, 10e9 - COST);
    });

    test(`${way}: a client that leaves at any moment, also before anybody was asked, gets its answer when it comes again`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      const again = Array.from({ length: 40 }, async (_, index) => {
        const key = named();
        const call = t.open(body, key);
        await sleep(index * 0.5);
        call.reset();
        await sleep(50);
        return (await t.chat(body, key)).is(200);
      });
      await Promise.all(again);
      const { balance_nanos } = await t.settled();
      assert.equal(balance_nanos, 10e9 - 40 * COST, 'each was charged once');
    });

    test(`${way}: a client that lost its connection gets the answer when it comes again`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      t.p1.does(async (exchange) => {
        if (!body.stream) { await sleep(300); return up.answer()(exchange); }
        return up.sse([up.role(), up.text('Hello '), 300, up.text('from '), up.text('upstream.'), up.finish(), ...(exchange.request?.body?.stream_options ? [up.usageEvent(up.USAGE)] : [up.usageEvent(up.USAGE)]), up.DONE])(exchange);
      });
      const key = named();
      const call = t.open({ ...body }, key);
      await eventually(() => t.p1.requests.length === 1, 'the provider is asked');
      await sleep(100);
      call.leave();
      const again = (await t.chat(body, key)).is(200);
      assert.equal(body.stream ? again.content : again.json.choices[0].message.content, 'Hello from upstream.');
      assert.equal(t.p1.requests.length, 1, 'the provider was asked once');
      assert.equal((await t.settled()).balance_nanos, 10e9 - COST);
    });

    test(`${way}: a failure is not pinned`, async () => {
      const t = await gateway.scene({ at: ['p1'] });
      t.p1.does(up.fail(500));
      const key = named();
      (await t.chat(body, key)).fails('provider_error');
      t.p1.does(up.answer());
      await eventually(async () => (await t.chat(body, key)).status === 200, 'the key is free again');
      assert.equal((await t.settled()).balance_nanos, 10e9 - COST);
    });
  }

  test('the same key with another body or another path is a conflict, in another workspace it is another key', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const key = named('shared');
    (await t.chat({}, key)).is(200);
    const error = (await t.chat({ temperature: 0.5 }, key)).fails('idempotency_conflict');
    assert.equal(error.param, 'Idempotency-Key');
    (await gateway.call('POST', '/v1/responses', { key: t.key, headers: key.headers, body: { model: t.model, input: 'x' } })).fails('idempotency_conflict');
    const other = await gateway.scene({ at: ['p1'] });
    (await other.chat({}, key)).is(200);
    assert.deepEqual([t.p1.requests.length, other.p1.requests.length], [1, 1]);
  });

  test('what was refused before it was sent gives the key free', async () => {
    const t = await gateway.scene({ at: ['p1'], dollars: '0' });
    const key = named();
    (await t.chat({}, key)).fails('insufficient_credits');
    (await t.chat({ model: 'no/such' }, key)).fails('model_not_found');
    await gateway.grant(t.workspace, '1');
    (await t.chat({}, key)).is(200);
  });

  test('a key that is none is a 400', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const error = (await t.chat({}, named('x'.repeat(300)))).fails('invalid_input');
    assert.equal(error.param, 'Idempotency-Key');
  });

  test('what is kept is sealed: the words are nowhere in the stores', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    t.p1.does(up.answer({ content: 'a-secret-word-of-the-model' }));
    const key = named('a-name-of-the-client');
    (await t.chat({}, key)).is(200);
    await t.settled();
    assert.equal((await t.chat({}, key)).is(200).headers['x-gateway-idempotent-replay'], 'true');
    const files = fs.readdirSync(folder, { recursive: true }).map((name) => path.join(folder, name)).filter((file) => fs.statSync(file).isFile());
    assert.ok(files.some((file) => file.includes('Replay')), files.join('\n'));
    for (const file of files) {
      const bytes = fs.readFileSync(file);
      for (const word of ['a-secret-word-of-the-model', 'a-name-of-the-client', 'Say hello.']) assert.ok(!bytes.includes(word), `${file} holds ${word}`);
    }
  });
});
