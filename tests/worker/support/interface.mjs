// Holds answers against the gateway's own OpenAPI document: a status, a media type or a body that it does not know fails the test.
import assert from 'node:assert/strict';
import Ajv2020 from 'ajv/dist/2020.js';
import formats from 'ajv-formats';

/** What checks answers; `document` is the parsed OpenAPI document. */
export function checkerOf(document) {
  const ajv = new Ajv2020({ strict: true, strictTypes: false, allErrors: false, validateFormats: true });
  formats(ajv);
  // OpenAPI's words around its schemas are none of JSON Schema's.
  for (const word of ['openapi', 'info', 'servers', 'paths', 'components']) ajv.addKeyword(word);
  ajv.addSchema(document, 'api');
  const compiled = new Map();
  const schemaAt = (pointer) => {
    if (!compiled.has(pointer)) compiled.set(pointer, ajv.compile({ $ref: `api#${pointer}` }));
    return compiled.get(pointer);
  };
  const escape = (part) => part.replaceAll('~', '~0').replaceAll('/', '~1');
  const paths = Object.keys(document.paths).map((path) => ({ path, pattern: patternOf(path) }));
  // The one with more words of its own comes first: `/v1/models/{id}/endpoints` before `/v1/models/{id}`.
  paths.sort((a, b) => b.path.replace(/\{\w+\}/g, '').length - a.path.replace(/\{\w+\}/g, '').length);

  /** The operation's pointer, where the document knows method and path. */
  const find = (method, route) => {
    const known = paths.find(({ pattern }) => pattern.test(route.split('?')[0]));
    return known && document.paths[known.path][method.toLowerCase()] && `/paths/${escape(known.path)}/${method.toLowerCase()}`;
  };
  const valueAt = (pointer) => pointer.split('/').slice(1).reduce((value, part) => value?.[part.replaceAll('~1', '/').replaceAll('~0', '~')], document);

  return {
    find,
    /** Fails when `value` does not fit the schema at a pointer into the document. */
    fits(pointer, value, about) {
      const validate = schemaAt(encodeURI(pointer).replaceAll('#', '%23'));
      assert.ok(validate(value), `${about}: ${ajv.errorsText(validate.errors)} in ${JSON.stringify(value)?.slice(0, 2000)}`);
    },
    /** Fails when the answer is not one that the document describes. */
    answer(method, route, { status, headers, text }) {
      const operation = find(method, route);
      if (!operation) return;
      const about = `${method} ${route} answered ${status}`;
      const described = valueAt(`${operation}/responses/${status}`);
      assert.ok(described, `${about}, which the document does not know`);
      const type = (headers['content-type'] ?? '').split(';')[0];
      if (!described.content || Object.keys(described.content).length === 0) return;
      const media = [type, `${type.split('/')[0]}/*`].find((name) => described.content[name]);
      assert.ok(media, `${about} with ${type || 'no media type'}, which the document does not know`);
      if (media === 'application/json') this.fits(`${operation}/responses/${status}/content/application~1json/schema`, JSON.parse(text), about);
    },
  };
}

function patternOf(path) {
  // A model's id has a slash in it.
  const pattern = path.replace(/[.]/g, '\\.').replace(/\{(\w+)\}/g, path.startsWith('/v1/models/') ? '.+' : '[^/]+');
  return new RegExp(`^${pattern}$`);
}
