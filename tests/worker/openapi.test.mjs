// The OpenAPI document: whole, valid, with examples that fit, and true of what the Worker answers.
import assert from 'node:assert/strict';
import zlib from 'node:zlib';
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/harness.mjs';
import { checkerOf } from './support/interface.mjs';

let gateway, document;

describe('The OpenAPI document', { timeout: 60_000 }, () => {
  before(async () => {
    gateway = await startGateway({ providers: ['p1'] });
    document = (await gateway.call('GET', '/v1/openapi.json')).is(200).json;
  });
  after(() => gateway?.stop());

  const operations = () => Object.entries(document.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ path, method, operation })));

  test('it is OpenAPI 3.1, and each of its schemas is a JSON Schema', () => {
    assert.match(document.openapi, /^3\.1\.\d$/);
    assert.ok(document.info.title && document.info.version && Object.keys(document.paths).length > 30);
    const checker = checkerOf(document);
    for (const name of Object.keys(document.components.schemas)) {
      // Any value will do: a schema that is none fails to compile.
      try {
        checker.fits(`/components/schemas/${name}`, {}, name);
      } catch (error) {
        assert.ok(error instanceof assert.AssertionError, `${name}: ${error.message}`);
      }
    }
  });

  test('each operation says who may call it, what it takes and every way it ends; examples fit', () => {
    const checker = checkerOf(document);
    const ids = new Set();
    for (const { path, method, operation } of operations()) {
      const about = `${method} ${path}`;
      ids.add(operation.operationId);
      assert.ok(operation.summary && operation.tags.length === 1, about);
      assert.deepEqual(Object.keys(operation.security[0] ?? {}), path.startsWith('/v1/admin') ? ['operator'] : operation.security.length ? ['key'] : [], about);
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      assert.deepEqual(operation.parameters.filter((one) => one.in === 'path').map(({ name }) => name), inPath, about);
      const statuses = Object.keys(operation.responses);
      assert.ok(statuses.some((status) => status < 300) && statuses.includes('500'), about);
      const json = operation.requestBody?.content['application/json'];
      if (json) {
        const pointer = `/paths/${path.replaceAll('~', '~0').replaceAll('/', '~1')}/${method}/requestBody/content/application~1json/schema`;
        checker.fits(pointer, json.example, `${about}, its example`);
        assert.throws(() => checker.fits(pointer, 5, about), assert.AssertionError);
      }
    }
    assert.equal(ids.size, operations().length);
  });

  test('a client that has it is told so, and people get a page', async () => {
    const { headers } = (await gateway.call('GET', '/v1/openapi.json')).is(200);
    (await gateway.call('GET', '/v1/openapi.json', { headers: { 'if-none-match': headers.etag } })).is(304);
    const page = (await gateway.call('GET', '/docs')).is(200);
    assert.match(page.headers['content-type'], /^text\/html/);
    assert.match(page.headers['content-security-policy'], /default-src 'none'/);
    assert.ok(page.text.includes('/v1/openapi.json'));
    // Nothing of it comes from elsewhere, and the policy would not let it.
    assert.ok(!/(src|href)="(https?:)?\/\//.test(page.text) && !/https?:/.test(page.headers['content-security-policy']));
    const [, source, hash] = /src="([^"]+)" integrity="sha384-([A-Za-z0-9+/]{64})"/.exec(page.text);
    const script = (await gateway.call('GET', source)).is(200);
    assert.deepEqual([script.headers['content-type'], script.headers['content-encoding']], ['text/javascript; charset=utf-8', 'gzip']);
    const code = zlib.gunzipSync(script.bytes);
    assert.equal(createHash('sha384').update(code).digest('base64'), hash, 'the page takes exactly these bytes');
    assert.ok(code.includes('openapi-explorer') && code.length > 500_000);
  });

  test('an answer that is not described is found', async () => {
    const checker = checkerOf(document);
    const whole = { headers: { 'content-type': 'application/json' } };
    assert.throws(() => checker.answer('GET', '/v1/health', { ...whole, status: 418, text: '{}' }), /does not know/);
    assert.throws(() => checker.answer('GET', '/v1/health', { ...whole, status: 200, text: '{"status":"good"}' }), assert.AssertionError);
    assert.throws(() => checker.answer('GET', '/v1/health', { headers: { 'content-type': 'text/html' }, status: 200, text: '' }), /does not know/);
    checker.answer('GET', '/v1/health', { ...whole, status: 200, text: '{"status":"ok","catalog":"x"}' });
  });
});
