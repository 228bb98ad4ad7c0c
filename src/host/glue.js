// What costs a crossing into wasm per step when written in Rust, and one when written here. No decisions: those are Rust's.

// Lists of strings cross as one: a separator that no header, method or URL can hold.
const SEPARATOR = "\0";

// Futures are woken by microtasks. The platform's own function crosses into C++ and back for each; a promise's job does not.
globalThis.queueMicrotask = (job) => {
  Promise.resolve().then(job);
};

// method, url, authorization, x-api-key, content-type, x-gateway-timeout-ms, x-session-id, content-length, if-none-match, x-gateway-explain,
// idempotency-key, x-title, http-referer (or referer), traceparent, if-match, accept, anthropic-beta; what is absent is empty.
export function head(request) {
  const h = request.headers;
  const get = (name) => h.get(name) ?? "";
  return [
    request.method,
    request.url,
    get("authorization"),
    get("x-api-key"),
    get("content-type"),
    get("x-gateway-timeout-ms"),
    get("x-session-id"),
    get("content-length"),
    get("if-none-match"),
    get("x-gateway-explain"),
    get("idempotency-key"),
    get("x-title"),
    get("http-referer") || get("referer"),
    get("traceparent"),
    get("if-match"),
    get("accept"),
    get("anthropic-beta"),
  ].join(SEPARATOR);
}

function headersOf(flat) {
  const parts = flat.split(SEPARATOR);
  // The platform takes a plain object in one crossing, where `Headers` takes one for each name.
  const headers = {};
  for (let i = 0; i + 1 < parts.length; i += 2) headers[parts[i].toLowerCase()] = parts[i + 1];
  return headers;
}

// Resolves when the client has left. Needs the compatibility flag enable_request_signal.
export function leaving(request) {
  const signal = request.signal;
  return new Promise((resolve) => {
    if (!signal) return;
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

// Who is told what promises come to, by the number of the wait; see soon.rs. What began under an earlier instance of the
// module is told to that one.
let come;

export function listen(told) {
  come = told;
}

export function watch(promise, number) {
  const told = come;
  promise.then(
    (value) => told(number, value, true),
    (error) => told(number, error, false),
  );
}

// After so long, the same as a promise of nothing that is settled.
export function after(ms, number) {
  const told = come;
  setTimeout(() => told(number, undefined, true), ms);
}

export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// A wait that can be given up: `promise` resolves unless `cancel` came before.
export class Timer {
  constructor(ms) {
    this.promise = new Promise((resolve) => {
      this.id = setTimeout(resolve, ms);
    });
  }
  cancel() {
    clearTimeout(this.id);
  }
}

// A client that is still writing would see a reset instead of the answer: take in what it writes, within reason.
async function drain(reader, bytes) {
  try {
    while (bytes > 0) {
      const { value, done } = await reader.read();
      if (done) return;
      bytes -= value.byteLength;
    }
    await reader.cancel();
  } catch {}
}

// The bytes of a body of at most `max`, or null when there are more.
export function wholeBody(holder, max) {
  const length = holder.headers.get("content-length");
  return length !== null && Number(length) <= max ? holder.arrayBuffer() : boundedBody(holder, length, max);
}

async function boundedBody(holder, length, max) {
  if (!holder.body) return new Uint8Array(0);
  if (length !== null && Number(length) > max) {
    await drain(holder.body.getReader(), max + 1048576);
    return null;
  }
  const reader = holder.body.getReader();
  const chunks = [];
  let size = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    size += value.byteLength;
    if (size > max) {
      await drain(reader, 1048576);
      return null;
    }
    chunks.push(value);
  }
  if (chunks.length === 1) return chunks[0];
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return whole;
}

export function bytesOf(body) {
  return body.getReader({ mode: "byob" });
}

// As much as the buffer holds, or what is left at the end.
export function readFull(reader, buffer) {
  return reader.readAtLeast(buffer.byteLength, new Uint8Array(buffer));
}

export function send(method, url, headers, body, signal) {
  const sent = body.byteLength === 0 && method !== "POST" ? undefined : body;
  return fetch(url, { method, headers: headersOf(headers), body: sent, signal, redirect: "manual" });
}

// Writes text into a bucket, compressed.
export async function archive(bucket, name, text) {
  const zipped = new Response(text).body.pipeThrough(new CompressionStream("gzip"));
  await bucket.put(name, await new Response(zipped).arrayBuffer(), { httpMetadata: { contentType: "application/gzip" } });
}

// Deletes every object of a bucket with that beginning, so many at a time. What is deleted is not listed again.
export async function clearBucket(bucket, prefix) {
  for (;;) {
    const { objects, truncated } = await bucket.list({ prefix, limit: 1000 });
    if (objects.length > 0) await bucket.delete(objects.map(({ key }) => key));
    if (!truncated) return;
  }
}

// The status that a receiver answers with; -1 where it does not in time, -2 where there is none. Its body is not read.
export async function deliver(url, headers, body, ms) {
  try {
    const response = await fetch(url, { method: "POST", headers: headersOf(headers), body, redirect: "manual", signal: AbortSignal.timeout(ms) });
    await response.body?.cancel();
    return response.status;
  } catch (error) {
    return error?.name === "TimeoutError" ? -1 : -2;
  }
}

// The last break of a host's answer, as the platform told it. A body that ends with that error ends as if the answer had
// been passed on as it was; any other error is to the platform a mistake of ours.
let broke;
function remember(error) {
  if (error?.name !== "AbortError") broke = error;
}

// Breaks a body off.
export function cut(writer, left, stall) {
  return broke === undefined ? closed(writer, left, stall) : writer.abort(broke);
}

// What a promise comes to, or null where it comes to nothing in time. A client that takes nothing is not waited for without
// end: its hold would stay, and its answer never be charged. What was written is there for it all the same.
function within(promise, ms) {
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve(null), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// A client that left before it was answered never gets the stream: nobody would take what is written, and nobody refuse it.
export function written(writer, bytes, left, stall) {
  return within(Promise.race([writer.write(bytes).then(() => true), left.then(() => false)]), stall);
}

export function closed(writer, left, stall) {
  return within(Promise.race([writer.close(), left]), stall);
}

// Bytes of a body that are taken at once, at most.
const BLOCK_BYTES = 64 * 1024;

// A body in large pieces, each in the same memory as the one before: what comes in one is to be used before the next. Many
// megabytes in small pieces of their own would wait for the garbage collector.
export class Blocks {
  constructor(body) {
    this.reader = body.getReader({ mode: "byob" });
    this.buffer = new ArrayBuffer(BLOCK_BYTES);
  }
  async next() {
    try {
      const { value, done } = await this.reader.read(new Uint8Array(this.buffer));
      if (value) this.buffer = value.buffer;
      return done ? undefined : value;
    } catch (error) {
      remember(error);
      throw error;
    }
  }
  release() {
    this.reader.releaseLock();
  }
}

// A body of `size` bytes that `next` gives piece by piece, undefined at its end: no more than a piece of it is here at once.
export function sendStream(method, url, headers, size, next, signal) {
  const { readable, writable } = new FixedLengthStream(size);
  const feed = async () => {
    const writer = writable.getWriter();
    for (let piece = next(); piece !== undefined; piece = next()) await writer.write(piece);
    await writer.close();
  };
  // A host that answers early, or not at all, reads no further.
  feed().catch(() => {});
  return fetch(url, { method, headers: headersOf(headers), body: readable, signal, redirect: "manual" });
}

// An RS256 signature; null where the key is none.
export async function signRs256(key, text) {
  const algorithm = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
  try {
    const imported = await crypto.subtle.importKey("pkcs8", key, algorithm, false, ["sign"]);
    return new Uint8Array(await crypto.subtle.sign(algorithm, imported, new TextEncoder().encode(text)));
  } catch {
    return null;
  }
}

export function respond(status, flat, body) {
  const init = { status, headers: headersOf(flat) };
  // What is compressed already goes out as it is.
  if (flat.includes("content-encoding")) init.encodeBody = "manual";
  return new Response(body, init);
}

// The id of an object is a keyed hash of its name.
const ids = new WeakMap();
const IDS_MAX = 4096;

function idOf(namespace, name) {
  let known = ids.get(namespace);
  if (known === undefined || known.size >= IDS_MAX) ids.set(namespace, (known = new Map()));
  let id = known.get(name);
  if (id === undefined) known.set(name, (id = namespace.idFromName(name)));
  return id;
}

// One command to a workspace object; its answer as text. A method of the object costs less than a request and its answer.
export async function command(env, name, body) {
  return env.WORKSPACE.get(idOf(env.WORKSPACE, name)).command(body);
}

// The same of any object, as a request.
export async function ask(namespace, name, path, body) {
  const stub = namespace.get(idOf(namespace, name));
  const response = await stub.fetch("https://workspace/" + path, { method: "POST", body });
  const text = await response.text();
  if (response.status !== 200) throw new Error("workspace answered " + response.status);
  return text;
}

// The values of some keys, in their order; null where there is none. The edge keeps them no longer than it must.
export async function texts(namespace, keys) {
  const found = await namespace.get(keys, { type: "text", cacheTtl: 30 });
  return keys.map((key) => found.get(key) ?? null);
}

// Keeps the request's context until the promise is settled.
export function hold(context, promise) {
  context.waitUntil(promise);
}

export function identity() {
  return new IdentityTransformStream();
}

// Every chunk goes through `push` (bytes in, whole frames or undefined out, so a comment never falls into a frame). Answers eof, broken, idle, deadline or left.
export async function pumpSeen(reader, writer, push, comment, waits, left, control) {
  const [idle, keepAlive, total] = waits;
  const deadline = Date.now() + total;
  let last = Date.now();
  let stop = null;
  let commenting = false;
  // Since when the client has been waited for, and what ends that.
  let writing = null;
  let giveUp;
  const end = (why) => {
    if (stop === null) stop = why;
    control.abort();
  };
  const look = Math.max(10, Math.min(keepAlive, idle, total, 1000));
  const watch = setInterval(() => {
    const now = Date.now();
    if (writing !== null) {
      if (now - writing < idle && now < deadline) return;
      end("stalled");
      giveUp();
    } else if (now - last >= idle) end("idle");
    else if (now >= deadline) end("deadline");
    else if (now - last >= keepAlive && !commenting) {
      commenting = true;
      writer.write(comment).then(
        () => {
          commenting = false;
        },
        () => end("left"),
      );
    }
  }, look);
  left.then(() => end("left"));
  try {
    for (;;) {
      let read;
      try {
        read = await reader.read();
      } catch {
        // When the client leaves, the runtime may end our call before it tells.
        if (stop === null) await Promise.race([left, sleep(NEWS_MS)]);
        return stop ?? "broken";
      }
      if (stop !== null) return stop;
      if (read.done) return "eof";
      last = Date.now();
      const out = push(read.value);
      if (out !== undefined) {
        try {
          writing = Date.now();
          await new Promise((resolve, reject) => {
            giveUp = resolve;
            writer.write(out).then(resolve, reject);
          });
          if (stop !== null) return stop;
        } catch {
          end("left");
          return stop;
        }
        writing = null;
        last = Date.now();
      }
      // Of a host that never pauses no timer may get a turn.
      if (Date.now() >= deadline) {
        end("deadline");
        return stop;
      }
    }
  } finally {
    clearInterval(watch);
  }
}

// Many waits on few timers of the platform: nearly all are given up, and a timer is set only where none rings early enough.
// What rings when nobody waits any more does nothing.
class Clock {
  constructor() {
    this.waits = new Set();
    this.set = [];
  }
  // A wait, and what gives it up.
  wait(ms) {
    const wait = { due: Date.now() + ms };
    const done = new Promise((resolve) => {
      wait.ring = resolve;
    });
    this.waits.add(wait);
    this.arm(wait.due, ms);
    return [done, () => this.waits.delete(wait)];
  }
  arm(due, ms) {
    if (this.set.some((at) => at <= due)) return;
    this.set.push(due);
    setTimeout(() => this.ring(due), ms);
  }
  ring(now) {
    this.set = this.set.filter((at) => at !== now);
    let next = Infinity;
    for (const wait of this.waits) {
      if (wait.due <= now) {
        this.waits.delete(wait);
        wait.ring(TICK);
      } else next = Math.min(next, wait.due);
    }
    if (next < Infinity) this.arm(next, next - Date.now());
  }
}

const TICK = Symbol("tick");
const LEFT = Symbol("left");
const FAILED = Symbol("failed");
const ENDED = Symbol("ended");
// How often the second branch is looked at, in milliseconds, where no time-out wants it more often: each look is a turn of
// the script, and a stream beside it waits for that.
const LOOK_MS = 500;
// How long after a break the news of the client's leaving may be late, in milliseconds.
const NEWS_MS = 40;
// A pipe may be interrupted as long as no more than this went through it: so much fits into the buffers between here and
// a client that does not read, so after a second of silence nothing of it is still in the pipe.
const INTERRUPT_BYTES = 128 * 1024;

// Memory of streams that have ended, for those to come: each would make 64 KB of garbage.
const spare = [];
const SPARE_MAX = 16;

// The runtime moves the bytes; the second branch of the tee is read in large pieces now and then, so that usage, silence
// and the end are known. A read takes what is there: it must never ask for more than one byte at least, or the tee would
// hold the client's branch back. On silence the pipe is taken apart and the rest goes by hand, with comments.
export async function pumpNative(body, writable, observe, atBorder, comment, waits, left, control) {
  const [idle, keepAlive, total] = waits;
  const deadline = Date.now() + total;
  const lookMs = Math.max(10, Math.min(LOOK_MS, idle / 2, keepAlive / 2));
  const clock = new Clock();
  const [out, seen] = body.tee();
  const interrupt = new AbortController();
  let piped = null;
  const pipe = out
    .pipeTo(writable, { preventClose: true, preventAbort: true, preventCancel: true, signal: interrupt.signal })
    .then(
      () => {
        piped = ENDED;
      },
      () => {
        piped = FAILED;
      },
    );
  let gone = false;
  const leaves = left.then(() => {
    gone = true;
    return LEFT;
  });
  const reader = seen.getReader({ mode: "byob" });
  let settled = false;
  const next = (buffer) => {
    settled = false;
    return reader.read(new Uint8Array(buffer)).then(
      (result) => {
        settled = true;
        return result;
      },
      (error) => {
        remember(error);
        settled = true;
        return null;
      },
    );
  };
  // Takes in what has come; null where the source broke.
  const takeIn = async (looks) => {
    for (; looks > 0; looks--) {
      const rest = await Promise.race([read, sleep(NEWS_MS).then(() => TICK)]);
      if (rest === null || rest === TICK || rest.done) return rest;
      observe(rest.value);
      read = next(rest.value.buffer);
    }
    return TICK;
  };
  // A pipe fails on either end. The writable was not aborted with it: a client that is gone shows in the next write (a
  // comment, or the end of a line that will never be finished).
  const whoFailed = async () => {
    await Promise.race([pipe, leaves, sleep(NEWS_MS)]);
    if (gone) return "left";
    if (piped !== FAILED) return "broken";
    // Into bytes nothing can be written: where the source goes on, it was the client.
    if (comment.byteLength === 0) return (await takeIn(100)) === null ? "broken" : "left";
    const writer = writable.getWriter();
    const written = writer.write(atBorder() ? comment : new Uint8Array([10])).then(
      () => "broken",
      () => "left",
    );
    // A client that listens takes these few bytes at once.
    const verdict = await Promise.race([written, leaves.then(() => "left"), sleep(NEWS_MS).then(() => "left")]);
    writer.releaseLock();
    return verdict;
  };
  const end = async (why) => {
    if (why !== "eof") control.abort();
    return why;
  };
  let bytes = 0;
  let last = Date.now();
  // Whether the client takes what it is given: a comment, or the end of a line that will never be finished, goes at once.
  const isTaking = async () => {
    if (piped === null) return false;
    if (comment.byteLength === 0) return true;
    const writer = writable.getWriter();
    const written = writer.write(atBorder() ? comment : new Uint8Array([10])).then(
      () => true,
      () => false,
    );
    const taken = await Promise.race([written, sleep(NEWS_MS).then(() => false)]);
    writer.releaseLock();
    return taken;
  };
  // Takes the pipe apart to end. Where the time is over, it may be because the client takes nothing.
  const stop = async (why) => {
    if (piped !== null) return end(why);
    interrupt.abort();
    await Promise.race([pipe, sleep(NEWS_MS)]);
    await takeIn(2);
    const verdict = (await isTaking()) ? why : "stalled";
    if (piped === null) pipe.then(() => writable.close()).catch(() => {});
    return end(verdict);
  };
  let read = next(spare.pop() ?? new ArrayBuffer(BLOCK_BYTES));
  for (;;) {
    const now = Date.now();
    if (now >= deadline) return stop("deadline");
    const mayInterrupt = piped === null && bytes <= INTERRUPT_BYTES;
    const patience = Math.min(last + idle - now, deadline - now, mayInterrupt ? last + keepAlive - now : Infinity);
    const [silence, noSilence] = clock.wait(Math.max(1, patience));
    const racers = [read, silence, leaves];
    if (piped === null) racers.push(pipe.then(() => (piped === FAILED ? FAILED : read)));
    const result = piped === FAILED || gone ? FAILED : await Promise.race(racers);
    noSilence();
    if (result === TICK) {
      const silent = Date.now() - last;
      if (Date.now() >= deadline) return stop("deadline");
      if (silent >= idle) return stop("idle");
      if (piped !== null || bytes > INTERRUPT_BYTES || silent < keepAlive) continue;
      interrupt.abort();
      await pipe;
      if (piped === ENDED) continue;
      // Something came in the very moment: nobody can tell whether the pipe still delivered it.
      if (settled) return end("broken");
      out.cancel().catch(() => {});
      return end(await byHand(reader, read, next, writable, observe, atBorder, comment, [idle, keepAlive], deadline, leaves));
    }
    if (result === LEFT || result === FAILED) {
      const why = gone ? "left" : await whoFailed();
      // What has come so far still counts: all of it from a source that broke, what is there of one that goes on.
      await takeIn(why === "left" ? 2 : 100);
      return end(why);
    }
    if (result === null) return end(await whoFailed());
    if (result.value?.byteLength) {
      bytes += result.value.byteLength;
      observe(result.value);
      last = Date.now();
    }
    if (result.done) {
      if (result.value && spare.length < SPARE_MAX) spare.push(result.value.buffer);
      break;
    }
    const isAll = result.value.byteLength < BLOCK_BYTES;
    read = next(result.value.buffer);
    // Of a fast stream more is there already; what nobody takes in is held in memory.
    if (isAll && piped === null && !gone) {
      const [look, noLook] = clock.wait(lookMs);
      await Promise.race([look, pipe, leaves]);
      noLook();
    }
  }
  // The client must have all of it before anything is written behind it.
  const [late, noLate] = clock.wait(idle);
  const isLate = (await Promise.race([pipe, leaves, late])) === TICK;
  noLate();
  // It gets the rest and the end as it takes them.
  if (isLate && piped === null) pipe.then(() => writable.close()).catch(() => {});
  return piped === FAILED || gone ? "left" : "eof";
}

// The same for bytes that nobody looks at and no comment may fall into.
export function pumpBytes(body, writable, [idle, total], left, control) {
  return pumpNative(body, writable, () => {}, () => true, new Uint8Array(0), [idle, Infinity, total], left, control);
}

async function byHand(reader, first, next, writable, observe, atBorder, comment, [idle, keepAlive], deadline, leaves) {
  const clock = new Clock();
  const writer = writable.getWriter();
  let read = first;
  let last = Date.now();
  let out = null;
  // Why it was not written, where it was not.
  let gone = false;
  leaves.then(() => {
    gone = true;
  });
  const write = async (bytes) => {
    let refused = false;
    const taken = writer.write(bytes).then(
      () => true,
      () => {
        refused = true;
        return false;
      },
    );
    if (await within(Promise.race([taken, leaves.then(() => false)]), idle)) return null;
    return gone || refused ? "left" : "stalled";
  };
  try {
    if (atBorder()) out = await write(comment);
    for (;;) {
      if (out !== null) return out;
      const now = Date.now();
      if (now >= deadline) return "deadline";
      const [silence, noSilence] = clock.wait(Math.max(1, Math.min(keepAlive, last + idle - now, deadline - now)));
      const result = await Promise.race([read, silence, leaves]);
      noSilence();
      if (result === LEFT) return "left";
      if (result === TICK) {
        if (Date.now() >= deadline) return "deadline";
        if (Date.now() - last >= idle) return "idle";
        if (atBorder()) out = await write(comment);
        continue;
      }
      if (result === null) {
        const news = await Promise.race([leaves, sleep(NEWS_MS)]);
        return news === LEFT ? "left" : "broken";
      }
      if (result.done) return "eof";
      observe(result.value);
      out = await write(result.value.slice());
      last = Date.now();
      read = next(result.value.buffer);
    }
  } finally {
    writer.releaseLock();
  }
}

// Deletes every key of a KV namespace with that beginning.
export async function clear(namespace, prefix) {
  for (let cursor; ; ) {
    const page = await namespace.list({ prefix, cursor });
    await Promise.all(page.keys.map(({ name }) => namespace.delete(name)));
    if (page.list_complete) return;
    cursor = page.cursor;
  }
}
