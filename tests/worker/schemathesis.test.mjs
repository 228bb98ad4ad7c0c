// Schemathesis draws requests from the OpenAPI document, right and wrong ones: no fault of the gateway, and no answer that the
// document does not know.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { execFile } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { at } from '../../scripts/lib.mjs';
import { OPERATOR_TOKEN, startGateway } from './support/harness.mjs';

const SEED = process.env.SCHEMATHESIS_SEED ?? '8';
const EXAMPLES = process.env.SCHEMATHESIS_EXAMPLES ?? '10';
const CHECKS = 'not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance';
const program = process.env.SCHEMATHESIS ?? at('.tools/python/bin/schemathesis');

let gateway, workspace, key, folder;
let selected = 0;

describe('Schemathesis', { timeout: 600_000 }, () => {
  before(async () => {
    gateway = await startGateway({ providers: ['p1'] });
    workspace = await gateway.newWorkspace();
    ({ key } = await gateway.newKey(workspace));
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-schemathesis-'));
  });
  after(async () => {
    await gateway?.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  /** Runs it on the paths of one caller. Paths name a workspace that is there, so that what comes after it is reached. */
  async function run(token, include, exclude = []) {
    const { id } = (await gateway.admin('POST', '/workspaces', { name: 'drawn' })).is(201).json;
    const config = path.join(folder, 'schemathesis.toml');
    fs.writeFileSync(config, [
      '[[operations]]', 'include-path-regex = "^/v1/admin/workspaces/"', `parameters = { "path.id" = "${id}" }`,
      '[[operations]]', 'include-path-regex = "byok/."', `parameters = { "path.id" = "${id}", "path.provider" = "p1" }`,
      '[[operations]]', 'include-path-regex = "^/v1/admin/providers/"', 'parameters = { "path.id" = "p1" }',
      '',
    ].join('\n'));
    const args = [
      '--config-file', config, 'run', `${gateway.url}/v1/openapi.json`, '--header', `Authorization: Bearer ${token}`,
      '--checks', CHECKS, '--phases', 'examples,coverage,fuzzing', '--max-examples', EXAMPLES, '--seed', SEED, '--no-shrink',
      '--continue-on-failure', '--request-timeout', '20', '--suppress-health-check', 'all', '--warnings', 'off',
      '--include-path-regex', include, ...exclude.flatMap((one) => ['--exclude-path-regex', one]),
    ];
    const { code, output } = await new Promise((resolve) => {
      execFile(program, args, { cwd: folder, maxBuffer: 1 << 26, env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', NO_COLOR: '1' } }, (error, stdout, stderr) => resolve({ code: error ? error.code : 0, output: stdout + stderr }));
    });
    assert.equal(code, 0, output.slice(-8000));
    const count = Number(/(\d+) generated/.exec(output)?.[1] ?? 0);
    if (process.env.GATEWAY_TEST_LOG) console.log(output);
    selected += Number(/(\d+) selected/.exec(output)?.[1] ?? 0);
    assert.ok(count > 100, `only ${count} requests were drawn:\n${output.slice(-2000)}`);
  }

  test('what anybody or a key may call', () => run(key, '^/(v[12]/(?!admin)|docs)'));
  test('what the operator may call', () => run(OPERATOR_TOKEN, '^/v1/admin'));
  test('that was the whole document', async () => {
    const { paths } = (await gateway.call('GET', '/v1/openapi.json')).is(200).json;
    assert.equal(selected, Object.values(paths).flatMap(Object.keys).length);
  });
});
