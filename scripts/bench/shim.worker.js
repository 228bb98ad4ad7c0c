// The gateway's own module with an ear on what it does: the bench's second gateway process runs this one. Nothing is put between:
// the methods of the platform's prototypes are replaced in the isolate, so it counts what was really called.
//
// - counts: object calls before and after the upstream was called, SQL rows that objects wrote, alarms set;
// - "no ledger": object calls of inference are answered here, with what the object itself answered to the same call before.
//   What is left is key, catalog, routing and relay: the rows of the table that say "no ledger".
import worker, { Workspace as Inner } from './index.js';
export * from './index.js';
export default worker;

const counts = { object_calls: 0, upstream_calls: 0, alarms_set: 0, alarms_run: 0, before: 0, after: 0 };
const cursors = [];
let rowsWritten = 0;
let upstreamOpen = 0; // upstream calls minus object calls that came after one
let isRecording = false;
let isReplaying = false;
let isListening = false;
const recorded = new Map();

/** Object calls, from the first object on: nothing may be called before that, and without objects there are none. */
function listenToCalls(namespace) {
  const stub = Object.getPrototypeOf(namespace.get(namespace.idFromName('bench')));
  const fetcher = Object.hasOwn(stub, 'fetch') ? stub : Object.getPrototypeOf(stub);
  const objectFetch = fetcher.fetch;
  fetcher.fetch = function (input, init) {
    // Reports of health go out every few seconds, not for each request.
    if (typeof input === 'string' && input.includes('/health/')) return objectFetch.call(this, input, init);
    counts.object_calls += 1;
    if (upstreamOpen > 0) {
      upstreamOpen -= 1;
      counts.after += 1;
    } else {
      counts.before += 1;
    }
    if (isReplaying) return replay(input, init, (...args) => objectFetch.apply(this, args));
    if (!isRecording) return objectFetch.call(this, input, init);
    return objectFetch.call(this, input, init).then((response) => record(name(input, init), response));
  };
}

/** What an object is asked: the address, the command where the body names it first, and the body where it is text. */
function name(input, init) {
  const text = typeof init?.body === 'string' ? init.body : '';
  return [typeof input === 'string' ? input : input.url, /^\{"(\w+)"/.exec(text)?.[1] ?? '', text];
}

async function record([url, command], response) {
  const { status } = response;
  const body = await response.text();
  if (response.ok) recorded.set(`${url} ${command}`, { status, body });
  return new Response(body, { status });
}

/** The recorded reply, as little of a response as a caller can read. */
async function replay(input, init, really) {
  const [url, command, text] = name(input, init);
  const reply = recorded.get(`${url} ${command}`);
  if (!reply) return really(input, init);
  // What is held is what was asked for at most, not what the recorded request held.
  const most = /"most":(\d+)/.exec(text)?.[1];
  const body = most ? reply.body.replace(/"held":\d+/, `"held":${most}`) : reply.body;
  return { status: reply.status, ok: true, text: async () => body, json: async () => JSON.parse(body) };
}

const upstreamFetch = globalThis.fetch;
globalThis.fetch = function (input, init) {
  counts.upstream_calls += 1;
  upstreamOpen += 1;
  return upstreamFetch.call(this, input, init);
};

function listenToStorage(storage) {
  const sql = Object.getPrototypeOf(storage.sql);
  const exec = sql.exec;
  sql.exec = function (...args) {
    const cursor = exec.apply(this, args);
    cursors.push(cursor);
    if (cursors.length > 256) sum();
    return cursor;
  };
  const own = Object.getPrototypeOf(storage);
  const setAlarm = own.setAlarm;
  own.setAlarm = function (...args) {
    counts.alarms_set += 1;
    return setAlarm.apply(this, args);
  };
}

function sum() {
  for (const cursor of cursors) rowsWritten += cursor.rowsWritten;
  cursors.length = 0;
}

export class Workspace extends Inner {
  constructor(state, env) {
    if (!isListening) {
      isListening = true;
      listenToCalls(env.WORKSPACE);
      listenToStorage(state.storage);
    }
    super(state, env);
    const alarm = Object.getPrototypeOf(this).alarm ?? this.alarm;
    if (alarm) {
      this.alarm = function (...args) {
        counts.alarms_run += 1;
        return alarm.apply(this, args);
      };
    }
  }
}

/** Reached by a socket of its own. */
export const bench = {
  fetch(request) {
    const mode = new URL(request.url).searchParams.get('mode');
    if (mode) [isRecording, isReplaying] = [mode === 'record', mode === 'replay'];
    sum();
    return Response.json({ ...counts, rows_written: rowsWritten, recorded: [...recorded.keys()] });
  },
};
