// The processes of a measurement, each on its core: upstream and store beside the load generator, what is measured alone.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { execFileSync, fork, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { Stop, at, readText, which } from '../lib.mjs';

const here = (name) => at('scripts/bench', name);

/** However this script ends, what it started ends with it. */
const children = new Set();
process.on('exit', () => children.forEach((child) => child.kill('SIGKILL')));

/** Which core runs what. With two cores, generator, upstream and store share the first. */
export function places() {
  const taskset = which('taskset');
  const cores = os.availableParallelism();
  if (!taskset || cores < 2) return { taskset: undefined, cores };
  return { taskset, cores, generator: 0, upstream: cores > 2 ? 1 : 0, target: cores - 1 };
}

export function pinSelf(place) {
  if (place.taskset) execFileSync(place.taskset, ['-a', '-cp', String(place.generator), String(process.pid)], { stdio: 'ignore' });
}

export async function startUpstream(place) {
  const child = fork(here('upstream.mjs'), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  children.add(child);
  const port = await new Promise((resolve, reject) => {
    child.once('message', (message) => resolve(message.port));
    child.once('exit', (code) => reject(new Stop(`the upstream ended with ${code}`)));
  });
  if (place.taskset) execFileSync(place.taskset, ['-a', '-cp', String(place.upstream), String(child.pid)], { stdio: 'ignore' });
  const ask = async (route) => (await fetch(`http://127.0.0.1:${port}${route}`)).json();
  return { port, ask, stop: () => child.kill() };
}

const text = (value) => JSON.stringify(value); // capnp's text form has JSON's escapes

/** The capnp text of one Worker with its bindings. */
function config({ modules, bindings, flags, date, objects, sockets, services }) {
  const kind = (file) => (file.endsWith('.wasm') ? 'wasm' : 'esModule');
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = (
      modules = [${modules.map(([name]) => `(name = ${text(name)}, ${kind(name)} = embed ${text(name)})`).join(', ')}],
      compatibilityDate = ${text(date)},
      compatibilityFlags = [${flags.map(text).join(', ')}],
      bindings = [${bindings.join(', ')}],
      ${objects.length > 0 ? `durableObjectNamespaces = [${objects.map((name) => `(className = ${text(name)}, uniqueKey = "bench-${name}", enableSql = true)`).join(', ')}],
      durableObjectStorage = (localDisk = "disk"),` : ''}
    )),
    (name = "internet", network = (allow = ["public", "private"])),
    (name = "disk", disk = (path = "objects", writable = true)),
    ${services.join(',\n    ')}
  ],
  sockets = [${sockets.map(([name, entrypoint]) => `(name = ${text(name)}, address = "127.0.0.1:0", http = (), service = ${entrypoint ? `(name = "main", entrypoint = ${text(entrypoint)})` : '"main"'})`).join(', ')}]
);
`;
}

/** Starts workerd with one Worker. Resolves when its sockets listen. `since` is when the process was started. */
export async function startWorkerd(place, folder, core, worker) {
  const { modules, bindings = [], flags = [], date = '2026-07-01', objects = [], entrypoints = {}, services = [], inspector = false } = worker;
  const sockets = [['main'], ...Object.entries(entrypoints)];
  fs.mkdirSync(path.join(folder, 'objects'), { recursive: true });
  for (const [name, file] of modules) fs.copyFileSync(file, path.join(folder, name));
  fs.writeFileSync(path.join(folder, 'config.capnp'), config({ modules, bindings, flags, date, objects, sockets, services }));
  // The npm package's `bin/workerd` is a Node script around this one.
  const binary = binaryOf();
  const args = ['serve', '--experimental', '--control-fd=3', ...(inspector ? ['--inspector-addr=127.0.0.1:0'] : []), 'config.capnp', 'config'];
  const since = performance.now();
  const child = place.taskset
    ? spawn(place.taskset, ['-c', String(core), binary, ...args], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe', 'pipe'] })
    : spawn(binary, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe', 'pipe'] });
  children.add(child);
  child.once('exit', () => children.delete(child));
  let said = '';
  const hear = (data) => (said = (said + data).slice(-20_000));
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  const ports = {};
  await new Promise((resolve, reject) => {
    let lines = '';
    child.stdio[3].on('data', (data) => {
      lines += data;
      for (const line of lines.split('\n').slice(0, -1)) {
        const { event, socket, port } = JSON.parse(line);
        if (event === 'listen') ports[socket] = port;
        if (event === 'listen-inspector') ports.inspector = port;
      }
      lines = lines.slice(lines.lastIndexOf('\n') + 1);
      if (Object.keys(ports).length === sockets.length + (inspector ? 1 : 0)) resolve();
    });
    child.once('exit', (code, signal) => reject(new Stop(`workerd ended with ${signal ?? code}:\n${said}`)));
    child.once('error', reject);
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  return {
    pid: child.pid, port: ports.main, ports, since,
    said: () => said,
    stop: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

function binaryOf() {
  const file = at('node_modules/@cloudflare', `workerd-${process.platform}-${process.arch === 'x64' ? '64' : process.arch}`, 'bin/workerd');
  if (!fs.existsSync(file)) throw new Stop(`workerd has no binary for ${process.platform}-${process.arch} among the npm packages`);
  return file;
}

/** Waits until GET `route` answers 200; returns the milliseconds since the process was started. */
export async function ready({ port, since, said }, route = '/v1/health') {
  const until = performance.now() + 20_000;
  for (let last; ; await sleep(1)) {
    try {
      const response = await fetch(`http://127.0.0.1:${port}${route}`);
      last = `${response.status} ${(await response.text()).slice(0, 500)}`;
      if (response.status === 200) return performance.now() - since;
    } catch (error) {
      last = error.message;
    }
    if (performance.now() > until) throw new Stop(`GET ${route} gave ${last}\n${said()}`);
  }
}

/** CPU time of a process with all its threads, in milliseconds. */
export function cpu(pid) {
  let nanos = 0;
  try {
    for (const thread of fs.readdirSync(`/proc/${pid}/task`)) nanos += Number(readText(`/proc/${pid}/task/${thread}/schedstat`)?.split(' ')[0] ?? 0);
  } catch {}
  if (nanos > 0) return nanos / 1e6;
  const stat = readText(`/proc/${pid}/stat`);
  if (!stat) return undefined;
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10; // clock ticks, 100 a second
}
