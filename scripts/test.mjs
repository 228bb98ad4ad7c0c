// All tests: the crate's own (cargo), then the built Worker's under workerd (node --test). `--only rust|worker` runs one half.
// The last line is the sum, alone on its line.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { Stop, at, environment, main, root, say } from './lib.mjs';
import { build } from './build.mjs';
import { node22, setup } from './setup.mjs';

const total = { passed: 0, failed: 0, skipped: 0 };

/** Runs a program, shows what it prints and returns that too. Its errors and progress go to the terminal untouched. */
function watch(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, env: environment(), stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (data) => {
      output += data;
      process.stdout.write(data);
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code: code ?? 1, output }));
  });
}

async function rust() {
  say('cargo test (compiling takes about 2 min the first time) …');
  const { code, output } = await watch('cargo', ['test', '--workspace', '--no-fail-fast']);
  let failed = 0;
  for (const [, passed, broken, ignored] of output.matchAll(/^test result: .*? (\d+) passed; (\d+) failed; (\d+) ignored/gm)) {
    total.passed += Number(passed);
    total.skipped += Number(ignored);
    failed += Number(broken);
  }
  // A crate that does not compile, or a test that ends its process, has no line of its own.
  total.failed += code !== 0 && failed === 0 ? 1 : failed;
}

async function worker() {
  const folder = at('tests/worker');
  const files = fs.existsSync(folder) ? fs.readdirSync(folder).filter((name) => name.endsWith('.test.mjs')).sort() : [];
  if (files.length === 0) return say('no tests/worker/*.test.mjs yet');
  try {
    await build();
  } catch (error) {
    if (!(error instanceof Stop)) throw error;
    say(`the worker does not build: ${error.message}`);
    total.failed += 1;
    return;
  }
  const folderForTap = fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-tests-'));
  const tap = path.join(folderForTap, 'tap');
  try {
    const { code } = await watch(node22(), [
      '--test', '--test-concurrency=2',
      '--test-reporter=spec', '--test-reporter-destination=stdout',
      '--test-reporter=tap', `--test-reporter-destination=${tap}`,
      ...files.map((name) => path.join('tests/worker', name)),
    ]);
    const summary = fs.readFileSync(tap, 'utf8');
    const count = (name) => Number(new RegExp(`^# ${name} (\\d+)$`, 'm').exec(summary)?.[1] ?? 0);
    total.passed += count('pass');
    total.skipped += count('skipped') + count('todo');
    const failed = count('fail') + count('cancelled');
    total.failed += code !== 0 && failed === 0 ? 1 : failed;
  } finally {
    fs.rmSync(folderForTap, { recursive: true, force: true });
  }
}

await main(async () => {
  const halves = { rust, worker };
  const place = process.argv.findIndex((argument) => argument === '--only' || argument.startsWith('--only='));
  const only = place < 0 ? undefined : (process.argv[place].split('=')[1] ?? process.argv[place + 1]);
  if (place >= 0 && !Object.hasOwn(halves, only)) throw new Stop('usage: npm test -- [--only rust|worker]');
  await setup({ python: only !== 'rust' });
  for (const [name, half] of Object.entries(halves)) if (!only || only === name) await half();
  const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : '';
  say(`\n${total.passed} passed, ${total.failed} failed${skipped}`);
  if (total.failed > 0 || total.passed === 0) process.exitCode = 1;
});
