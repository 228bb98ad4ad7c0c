// Brings a fresh clone to where it can build and run: Rust target, wasm-bindgen, worker-build, npm packages.
// Installs into the project only (.tools, node_modules) and does nothing when all is there.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Stop, at, environment, isMain, longStep, main, readText, run, say, seconds, whenOrphaned, which, withLock } from './lib.mjs';

const TARGET = 'wasm32-unknown-unknown';
const SCHEMATHESIS = '4.32.5';
// The tools run for seconds, but compile for minutes: little optimisation is quicker in all.
const QUICK = {
  CARGO_PROFILE_RELEASE_OPT_LEVEL: '1',
  CARGO_PROFILE_RELEASE_LTO: 'off',
  CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '16',
  CARGO_PROFILE_RELEASE_DEBUG: '0',
};
const nodeMajor = Number(process.versions.node.split('.')[0]);

/** Both command-line tools must be of the versions that Cargo.toml pins for their crates. */
function pinned() {
  const manifest = readText(at('Cargo.toml')) ?? '';
  const version = (pattern) => {
    const found = pattern.exec(manifest);
    if (!found) throw new Stop('Cargo.toml must pin worker and wasm-bindgen to exact versions ("=…").');
    return found[1];
  };
  return [
    { crate: 'wasm-bindgen-cli', bin: 'wasm-bindgen', version: version(/^wasm-bindgen\s*=.*?"=([\d.]+)"/m), about: '2 min' },
    { crate: 'worker-build', bin: 'worker-build', version: version(/^worker\s*=.*?"=([\d.]+)"/m), about: '3 min' },
  ];
}

/**
 * Installs what is missing. Returns the absolute paths of the build tools.
 * `wasm`: Rust target and the two cargo tools; `npm`: packages; `lint`: rustfmt and clippy; `python`: Schemathesis, for the tests.
 */
export async function setup({ wasm = true, npm = true, lint = false, python = false } = {}) {
  if (nodeMajor < 20) throw new Stop(`Node ${process.versions.node} is too old: install Node 20 or newer.`);
  const tools = {};
  if (wasm || lint) await rust({ wasm, lint });
  if (npm) await packages();
  if (python) await schemathesis();
  if (wasm) for (const tool of pinned()) tools[tool.bin] = await cargoTool(tool);
  return tools;
}

async function rust({ wasm, lint }) {
  if (!which('cargo') || !which('rustc')) throw new Stop('Rust is missing: install rustup (https://rustup.rs), then run this again.');
  const channel = /^channel\s*=\s*"(.+?)"/m.exec(readText(at('rust-toolchain.toml')) ?? '')?.[1] ?? 'stable';
  const rustup = async (title, about, args) => {
    if (!which('rustup')) throw new Stop(`rustup is missing, and with it ${args.at(-1)}: install rustup (https://rustup.rs), then run this again.`);
    await withLock('rustup', () => longStep(title, about, which('rustup'), args));
  };
  const sysroot = async () => {
    const { code, output } = await run(which('rustc'), ['--print', 'sysroot'], { capture: true, allowFailure: true });
    return code === 0 ? output.trim().split('\n').at(-1) : undefined;
  };
  let folder = await sysroot();
  if (!folder) {
    await rustup(`installing Rust ${channel}`, '1 min', ['toolchain', 'install', '--profile', 'minimal', channel]);
    folder = await sysroot();
    if (!folder) throw new Stop(`Rust ${channel} does not start: run "rustup toolchain install ${channel}" and see what it says.`);
  }
  if (wasm && !fs.existsSync(path.join(folder, 'lib/rustlib', TARGET))) {
    await rustup(`adding the Rust target ${TARGET}`, '20 s', ['target', 'add', TARGET]);
  }
  if (lint) {
    const missing = Object.entries({ rustfmt: 'rustfmt', clippy: 'cargo-clippy' }).filter(([, bin]) => !fs.existsSync(path.join(folder, 'bin', bin)));
    if (missing.length > 0) await rustup('adding rustfmt and clippy', '20 s', ['component', 'add', ...missing.map(([name]) => name)]);
  }
}

/** The tool of exactly this version: in .tools, on the PATH, in cargo's own folder, or built now. */
async function cargoTool({ crate, bin, version, about }) {
  const cargoHome = process.env.CARGO_HOME || path.join(os.homedir(), '.cargo');
  const own = at('.tools/bin', bin);
  for (const file of [own, which(bin), path.join(cargoHome, 'bin', bin)]) {
    if (!file || !fs.existsSync(file)) continue;
    const { output } = await run(file, ['--version'], { capture: true, allowFailure: true });
    if (output.trim().split(/\s+/).at(-1) === version) return file;
  }
  return withLock('cargo-install', async () => {
    if (!fs.existsSync(own) || !(await run(own, ['--version'], { capture: true, allowFailure: true })).output.trim().endsWith(version)) {
      await longStep(`building ${crate} ${version} into .tools`, about, which('cargo'), [
        'install', '--locked', '--force', '--root', at('.tools'), '--version', version, '--bin', bin, crate,
      ], { env: environment(QUICK) });
    }
    return own;
  });
}

/** Schemathesis of exactly this version, in an environment of its own. */
async function schemathesis() {
  const program = at('.tools/python/bin/schemathesis');
  const isThere = async () => {
    if (!fs.existsSync(program)) return false;
    const { output } = await run(program, ['--version'], { capture: true, allowFailure: true });
    return output.trim().endsWith(SCHEMATHESIS);
  };
  if (await isThere()) return;
  const python = which('python3');
  if (!python) throw new Stop('Python is missing: install Python 3.11 or newer (the tests draw requests with Schemathesis).');
  await withLock('python', async () => {
    if (await isThere()) return;
    await longStep('making .tools/python', '5 s', python, ['-m', 'venv', '--clear', at('.tools/python')]);
    await longStep(`installing schemathesis ${SCHEMATHESIS}`, '15 s', at('.tools/python/bin/python'), [
      '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', `schemathesis==${SCHEMATHESIS}`,
    ]);
  });
}

const lockFile = () => at('package-lock.json');
const stampFile = () => at('node_modules/.setup-stamp');
const packagesKey = () =>
  createHash('sha256').update(fs.readFileSync(lockFile())).update(`${process.platform}-${process.arch}`).digest('hex');

/** `npm ci` when node_modules is missing or was made from another lock file. */
async function packages() {
  const current = () => fs.existsSync(lockFile()) && readText(stampFile()) === packagesKey();
  if (!current()) {
    await withLock('npm', async () => {
      if (current()) return;
      const args = [fs.existsSync(lockFile()) ? 'ci' : 'install', '--loglevel=error', '--no-audit', '--no-fund'];
      // Inside `npm start` the running npm names itself; elsewhere it is the one on the PATH.
      const self = process.env.npm_execpath;
      if (self?.endsWith('.js')) await longStep('installing npm packages', '30 s', process.execPath, [self, ...args], { env: process.env });
      else if (which('npm')) await longStep('installing npm packages', '30 s', which('npm'), args, { env: process.env });
      else throw new Stop('npm is missing: install Node 20 or newer with npm.');
      fs.writeFileSync(stampFile(), packagesKey());
    });
  }
  if (!node22()) throw new Stop(`there is no packaged Node 22 for ${process.platform}-${process.arch}: install Node 22 or newer.`);
}

/** A Node of at least 22, which wrangler and miniflare need: the running one, or the one among the npm packages. */
export function node22() {
  if (nodeMajor >= 22) return process.execPath;
  const file = at('node_modules/.bin/node');
  return fs.existsSync(file) ? fs.realpathSync(file) : undefined;
}

/** Starts the calling script again under Node 22 where the running Node is older; returns only when it is new enough. */
export async function underNode22(meta) {
  if (nodeMajor >= 22) return;
  await setup({ wasm: false });
  process.exit(await handOver(node22(), [fileURLToPath(meta.url), ...process.argv.slice(2)]));
}

/** Runs a program in this one's place: same streams, signals passed on. */
export function handOver(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: 'inherit', env: environment({ GATEWAY_HANDED_OVER: '1' }) });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
    whenOrphaned(() => child.kill('SIGTERM'));
    child.on('error', reject);
    child.on('close', (code) => resolve(code ?? 1));
  });
}

if (isMain(import.meta)) {
  await main(async () => {
    const since = Date.now();
    await setup({ lint: true });
    say(`everything is set up (${seconds(since)})`);
  });
}
