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
  let stub = Object.getPrototypeOf(namespace.get(namespace.idFromName('bench')));
  if (!Object.hasOwn(stub, 'fetch')) stub = Object.getPrototypeOf(stub);
  // What stands on the prototype hides the method of the object, so the listener steps aside to call that.
  const command = function (body) {
    counts.object_calls += 1;
    if (upstreamOpen > 0) {
      upstreamOpen -= 1;
      counts.after += 1;
    } else {
      counts.before += 1;
    }
    const name = /^\{"(\w+)"/.exec(body)?.[1] ?? '';
    const reply = isReplaying ? recorded.get(name) : undefined;
    if (reply !== undefined) return replayed(reply, body);
    delete stub.command;
    const said = this.command(body);
    stub.command = command;
    return isRecording ? record(name, said) : said;
  };
  stub.command = command;
}

async function record(name, said) {
  const reply = await said;
  recorded.set(name, reply);
  return reply;
}

/** The recorded reply. What is held is what was asked for at most, not what the recorded request held. */
async function replayed(reply, body) {
  const most = /"most":(\d+)/.exec(body)?.[1];
  return most ? reply.replace(/"held":\d+/, `"held":${most}`) : reply;
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
