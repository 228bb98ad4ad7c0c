// Traces: spans at a scripted collector, below the client's own; and rows that do not depend on it.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import { Receiver } from './support/receiver.mjs';
import * as up from './support/upstream.mjs';
import { eventually, sleep } from './support/wait.mjs';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';

/** Attributes as an object. */
const attributesOf = (span) => Object.fromEntries(span.attributes.map(({ key, value }) => [key, value.stringValue ?? (value.intValue === undefined ? value.boolValue ?? value.arrayValue.values.map((one) => one.stringValue) : Number(value.intValue))]));
const spansOf = ({ body }) => JSON.parse(body).resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));

describe('Traces', { timeout: 90_000 }, () => {
  let gateway, collector;
  let status = 200;
  before(async () => {
    collector = await Receiver.start(() => status);
    gateway = await startGateway({
      vars: { OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.url}/otlp/`, OTEL_TRACES_SAMPLER_ARG: '1' },
      secrets: { OTEL_EXPORTER_OTLP_HEADERS: 'x-api-key=collector%20key,x-tenant=7' },
    });
  });
  after(async () => {
    await gateway?.stop();
    await collector?.close();
  });
  const spansFor = (id) => eventually(() => {
    const spans = collector.got.flatMap(spansOf);
    const root = spans.find((span) => span.attributes.some(({ key, value }) => key === 'gen_ai.response.id' && value.stringValue === id));
    return root && [root, ...spans.filter(({ parentSpanId }) => parentSpanId === root.spanId)];
  }, `the spans of ${id} are at the collector`, { ms: 15_000 });

  test('a request is a span with its attempts, below the span of its client', async () => {
    const t = await gateway.scene({ at: ['p1', 'p2'] });
    t.p1.does(up.fail(500));
    const reply = (await t.chat({}, { headers: { traceparent: `00-${TRACE}-${PARENT}-01`, 'x-session-id': 'session-7', 'x-title': 'My app' } })).is(200);
    const row = await t.row(reply.id);
    const [root, ...calls] = await spansFor(reply.id);
    assert.deepEqual([root.traceId, root.parentSpanId, root.kind, root.name], [TRACE, PARENT, 2, `chat ${t.model}`]);
    const own = attributesOf(root);
    assert.deepEqual(
      { ...own, 'gateway.first_byte_ms': 0 },
      {
        'gen_ai.operation.name': 'chat', 'gen_ai.request.model': t.model, 'gen_ai.response.model': t.model, 'gen_ai.provider.name': 'p2', 'gen_ai.response.id': reply.id,
        'gen_ai.conversation.id': 'session-7', 'gen_ai.usage.input_tokens': 11, 'gen_ai.usage.output_tokens': 7, 'gen_ai.response.finish_reasons': ['stop'], 'http.response.status_code': 200,
        'gateway.workspace': t.workspace, 'gateway.key': t.keyId, 'gateway.app': 'My app', 'gateway.dialect': 'chat', 'gateway.ending': 'finished', 'gateway.paid_by': 'credits',
        'gateway.cost_usd': (row.cost_nanos / 1e9).toFixed(9).replace(/0+$/, ''), 'gateway.first_byte_ms': 0, 'gateway.stream': false,
      },
    );
    assert.equal(Number((BigInt(root.endTimeUnixNano) - BigInt(root.startTimeUnixNano)) / 1_000_000n), row.total_ms);
    assert.deepEqual(calls.map((span) => [span.kind, attributesOf(span)['gen_ai.provider.name'], attributesOf(span)['http.response.status_code'], attributesOf(span)['error.type'], span.status.code]), row.attempts.map(({ provider, status, code }) => [3, provider, status, code, code ? 2 : undefined]));
    assert.equal(calls.at(-1).status.code, undefined);
    assert.ok(calls.length >= 2 && calls.every((span) => span.traceId === TRACE && BigInt(span.startTimeUnixNano) >= BigInt(root.startTimeUnixNano)));
    const [sent] = collector.got;
    assert.deepEqual([sent.path, sent.headers['content-type'], sent.headers['x-api-key'], sent.headers['x-tenant']], ['/otlp/v1/traces', 'application/json', 'collector key', '7']);
  });

  test('a failure is an error, and requests that end together leave together', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    t.p1.does(up.fail(400), up.answer());
    const failed = (await t.chat()).is(400);
    const replies = await Promise.all(Array.from({ length: 20 }, () => t.stream()));
    const [root] = await spansFor(failed.id);
    assert.deepEqual([root.status.code, attributesOf(root)['error.type'], attributesOf(root)['http.response.status_code']], [2, 'invalid_input', 400]);
    assert.ok(!('parentSpanId' in root));
    for (const { id } of replies) await spansFor(id);
    const batches = collector.got.filter((one) => replies.some(({ id }) => one.body.includes(id)));
    assert.ok(batches.length <= 4, `${batches.length} exports for 20 requests`);
    const ids = collector.got.flatMap(spansOf).map(({ spanId }) => spanId);
    assert.equal(new Set(ids).size, ids.length, 'no span twice');
    assert.ok(!collector.got.some(({ body }) => body.includes('Say hello.') || body.includes('Hello from upstream')), 'no prompt and no completion');
  });

  test('a collector that fails costs traces and nothing else', async () => {
    status = 503;
    const t = await gateway.scene({ at: ['p1'] });
    const { id } = (await t.chat()).is(200);
    await eventually(async () => (await gateway.d1('SELECT count(*) AS n FROM activity WHERE id = ?1', id))[0].n === 1, 'the row is in D1', { ms: 15_000 });
    await eventually(() => gateway.log.includes('not taken by the collector'), 'the operator is told');
    status = 200;
    const next = (await t.chat()).is(200);
    await spansFor(next.id);
  });
});

describe('Traces, off or sampled', { timeout: 60_000 }, () => {
  test('without a share none is sent', async () => {
    const collector = await Receiver.start(() => 200);
    const gateway = await startGateway({ providers: ['p1'], vars: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_TRACES_SAMPLER_ARG: '0.5' } });
    try {
      const t = await gateway.scene();
      const send = (trace) => t.chat({}, { headers: { traceparent: `00-${trace}-${PARENT}-01` } });
      const [low, high] = [`${TRACE.slice(0, 18)}00000000000001`, `${TRACE.slice(0, 18)}ffffffffffffff`];
      const ids = [(await send(high)).is(200).id, (await send(low)).is(200).id];
      await eventually(() => collector.got.some(({ body }) => body.includes(ids[1])), 'the sampled one arrives', { ms: 15_000 });
      await sleep(2_500);
      assert.ok(!collector.got.some(({ body }) => body.includes(ids[0])));
    } finally {
      await gateway.stop();
      await collector.close();
    }
  });
});
