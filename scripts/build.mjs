// Builds the Worker into build/ with worker-build; a stamp in build/ lets later calls (wrangler's own build step, tests) return at once.
import fs from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { Stop, at, environment, filesBelow, hashFiles, isMain, main, readJson, readText, root, run, say, seconds, withLock } from './lib.mjs';
import { node22, setup } from './setup.mjs';

const stampFile = at('build/.stamp.json');
const products = ['build/index.js', 'build/index_bg.wasm'];

/** GATEWAY_BUILD=fast is for the loop of editing and trying: the same code, larger and slower, built in a fraction of the time. */
const isFast = process.env.GATEWAY_BUILD === 'fast';
const quick = {
  CARGO_PROFILE_RELEASE_LTO: 'off',
  CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '16',
  CARGO_PROFILE_RELEASE_INCREMENTAL: 'true',
  CARGO_PROFILE_RELEASE_OPT_LEVEL: '1',
};

/** What the Worker is made of. `src/bin` is native commands only. `also` are files that the last build read besides (`include_str!` and such). */
const sources = (also = []) => {
  const files = filesBelow(['src', 'build.rs', '.cargo', 'Cargo.toml', 'rust-toolchain.toml'], (file) => file === at('src/bin'));
  return [...new Set([...files, ...filesBelow(also)])];
};
const lock = () => `${readText(at('Cargo.lock')) ?? ''}${isFast ? 'fast' : ''}`;

/** Builds when something changed, or always with `force`. Resolves to the sizes in bytes. */
export async function build({ force = false } = {}) {
  const tools = await setup();
  return withLock('build', async () => {
    const last = readJson(stampFile);
    const built = products.every((file) => fs.existsSync(at(file)));
    if (!force && last && built && last.hash === hashFiles(sources(last.also), lock())) {
      say(`worker: unchanged, ${sizes(last)}`);
      return last;
    }
    const since = Date.now();
    say(`building the worker (about 10 s, the first time about 2 min) …`);
    const before = sources();
    const contents = hashFiles(before);
    fs.rmSync(stampFile, { force: true });
    await run(tools['worker-build'], isFast ? ['--release', '--no-opt'] : ['--release'], {
      // worker-build would download these three; it takes them from here instead.
      env: environment({ WASM_BINDGEN_BIN: tools['wasm-bindgen'], WASM_OPT_BIN: wasmOpt(), ESBUILD_BIN: esbuild(), ...(isFast && quick) }),
    });
    await bundle();
    const wasm = fs.readFileSync(at('build/index_bg.wasm'));
    const stamp = { hash: '', wasm: wasm.length, gzip: gzipSync(wasm, { level: 9 }).length, also: await included(before) };
    // A source that changed during the build leaves no stamp, so the next call builds again.
    if (contents === hashFiles(sources())) {
      stamp.hash = hashFiles(sources(stamp.also), lock());
      fs.writeFileSync(stampFile, JSON.stringify(stamp));
    }
    say(`worker: ${sizes(stamp)}, built in ${seconds(since)}`);
    return stamp;
  });
}

const kib = (bytes) => `${Math.round(bytes / 1024)} KiB`;
const sizes = ({ wasm, gzip }) => `${kib(wasm)} of wasm, ${kib(gzip)} gzipped`;

/** Puts what the platform sees (src/host/worker.js) around what worker-build made, into the same file. */
async function bundle() {
  const [made, whole] = [at('build/index.js'), at('build/whole.js')];
  // The imports of glue.js stand there once for each function; every bundler after this would warn of that.
  const once = fs.readFileSync(made, 'utf8').replace(/("\.\/snippets\/[^"]+":[\w$]+)(?:,\1)+/g, '$1');
  fs.writeFileSync(made, once);
  const flags = ['--bundle', '--format=esm', '--minify', '--log-level=warning', '--external:cloudflare:*', '--external:./index_bg.wasm'];
  await run(esbuild(), [at('src/host/worker.js'), `--alias:gateway=${made}`, `--outfile=${whole}`, ...flags]);
  fs.renameSync(whole, made);
}

/** esbuild's native binary: worker-build resolves links and starts the file itself. */
function esbuild() {
  const windows = process.platform === 'win32';
  const file = at('node_modules/@esbuild', `${process.platform}-${process.arch}`, windows ? 'esbuild.exe' : 'bin/esbuild');
  if (!fs.existsSync(file)) throw new Stop(`esbuild has no binary for ${process.platform}-${process.arch} among the npm packages.`);
  return file;
}

/** binaryen's npm package is JavaScript: a launcher starts it under the Node that knows the WebAssembly it uses. */
function wasmOpt() {
  const file = at('.tools/wasm-opt');
  const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  // worker-build always asks for the names of functions to be kept; they are a tenth of the bundle.
  const unnamed = 'for a; do shift; [ "$a" = --debuginfo ] || set -- "$@" "$a"; done';
  const text = `#!/bin/sh\n${unnamed}\nexec ${quote(node22())} ${quote(at('node_modules/binaryen/bin/wasm-opt'))} "$@"\n`;
  if (readText(file) !== text) {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text, { mode: 0o755 });
  }
  return file;
}

/** Files outside of src that rustc read, from the dependency file that cargo wrote. */
async function included(known) {
  const { output } = await run('cargo', ['metadata', '--no-deps', '--format-version', '1', '--offline'], { capture: true, allowFailure: true });
  const metadata = JSON.parse(/^\{.*\}$/m.exec(output)?.[0] ?? '{}');
  if (!metadata.target_directory) return [];
  const name = metadata.packages[0].targets.find((target) => target.kind.includes('cdylib'))?.name.replaceAll('-', '_');
  const list = readText(path.join(metadata.target_directory, 'wasm32-unknown-unknown/release', `${name}.d`)) ?? '';
  const files = list.split('\n', 1)[0].replace(/^.*?:\s/, '').split(/(?<!\\) /).map((file) => path.resolve(root, file.replaceAll('\\ ', ' ')));
  return files.filter((file) => file.startsWith(root + path.sep) && !known.includes(file)).map((file) => path.relative(root, file)).sort();
}

if (isMain(import.meta)) await main(() => build({ force: process.argv.includes('--force') }));
