// What costs a crossing into wasm per step when written in Rust, and one when written here. No decisions: those are Rust's.

// [method, url, authorization, x-api-key, content-type, x-gateway-timeout-ms, x-session-id, content-length]
export function head(request) {
  const h = request.headers;
  return [
    request.method,
    request.url,
    h.get("authorization"),
    h.get("x-api-key"),
    h.get("content-type"),
    h.get("x-gateway-timeout-ms"),
    h.get("x-session-id"),
    h.get("content-length"),
  ];
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

export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// The bytes of a body of at most `max`, or null when there are more.
export async function wholeBody(holder, length, max) {
  if (!holder.body) return new Uint8Array(0);
  if (length !== null && Number(length) <= max) return new Uint8Array(await holder.arrayBuffer());
  const reader = holder.body.getReader();
  const chunks = [];
  let size = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    size += value.byteLength;
    if (size > max) {
      reader.cancel().catch(() => {});
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

export function send(url, headers, body, signal) {
  return fetch(url, { method: "POST", headers, body, signal, redirect: "manual" });
}

export function respond(status, flat, body) {
  const headers = new Headers();
  for (let i = 0; i < flat.length; i += 2) headers.set(flat[i], flat[i + 1]);
  return new Response(body, { status, headers, encodeBody: "automatic" });
}

// One command to a workspace object; its answer as text.
export async function ask(namespace, name, path, body) {
  const stub = namespace.get(namespace.idFromName(name));
  const response = await stub.fetch("https://workspace/" + path, { method: "POST", body });
  const text = await response.text();
  if (response.status !== 200) throw new Error("workspace answered " + response.status);
  return text;
}

export function identity() {
  return new IdentityTransformStream();
}

// Every chunk goes through `push` (bytes in, bytes or undefined out). Answers eof, broken, idle, deadline or left.
export async function pumpSeen(reader, writer, push, atBorder, comment, waits, left, control) {
  const [idle, keepAlive, total] = waits;
  const deadline = Date.now() + total;
  let last = Date.now();
  let stop = null;
  let commenting = false;
  const end = (why) => {
    if (stop === null) stop = why;
    control.abort();
  };
  const look = Math.max(10, Math.min(keepAlive, idle, total, 1000));
  const watch = setInterval(() => {
    const now = Date.now();
    if (now - last >= idle) end("idle");
    else if (now >= deadline) end("deadline");
    else if (now - last >= keepAlive && !commenting && atBorder()) {
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
        return stop ?? "broken";
      }
      if (stop !== null) return stop;
      if (read.done) return "eof";
      last = Date.now();
      const out = push(read.value);
      if (out !== undefined) {
        try {
          await writer.write(out);
        } catch {
          end("left");
          return stop;
        }
        last = Date.now();
      }
    }
  } finally {
    clearInterval(watch);
  }
}

// How often the second branch is looked at, in milliseconds: often enough for time-outs, seldom enough to cost nothing.
const LOOK_MS = 50;

// The runtime moves the bytes; the second branch of the tee is read in large pieces now and then, so that usage, silence
// and the end are known. A read takes what is there: it must never ask for more than one byte at least, or the tee would
// hold the client's branch back.
export async function pumpNative(body, writable, observe, waits, left, control) {
  const [idle, , total] = waits;
  const deadline = Date.now() + total;
  const [out, seen] = body.tee();
  let piped = null;
  const pipe = out.pipeTo(writable, { preventClose: true, preventAbort: true, preventCancel: true }).then(
    () => {
      piped = "done";
    },
    () => {
      piped = "failed";
    },
  );
  let gone = false;
  const leaves = left.then(() => {
    gone = true;
  });
  const reader = seen.getReader({ mode: "byob" });
  let view = new Uint8Array(65536);
  let stop = null;
  for (;;) {
    let read = reader.read(view).then(
      (result) => result,
      () => null,
    );
    let result;
    const patience = Math.max(1, Math.min(idle, deadline - Date.now()));
    let timer;
    const silence = new Promise((resolve) => {
      timer = setTimeout(() => resolve("silence"), patience);
    });
    if (piped === "done") result = await read;
    else result = await Promise.race([read, silence, leaves.then(() => "left"), pipe.then(() => (piped === "failed" ? "failed" : read))]);
    clearTimeout(timer);
    if (result === "silence") {
      stop = Date.now() >= deadline ? "deadline" : "idle";
      break;
    }
    if (result === "failed" || result === "left") {
      // Either the source broke, then this read fails too, or the client is gone. What has come so far still counts.
      result = await Promise.race([read, sleep(20).then(() => "left")]);
      if (result !== null && result !== "left" && result.value?.byteLength) observe(result.value);
      stop = result === null && !gone ? "broken" : "left";
      break;
    }
    if (result === null) {
      stop = gone ? "left" : "broken";
      break;
    }
    if (result.value?.byteLength) observe(result.value);
    if (result.done) {
      stop = "eof";
      break;
    }
    view = new Uint8Array(result.value.buffer);
    if (piped === null && !gone) {
      let tick;
      await Promise.race([
        new Promise((resolve) => {
          tick = setTimeout(resolve, LOOK_MS);
        }),
        pipe,
        leaves,
      ]);
      clearTimeout(tick);
    }
  }
  if (stop !== "eof") control.abort();
  // The client must have all of it before anything is written behind it.
  if (stop === "eof") await Promise.race([pipe, leaves]);
  if (stop === "eof" && (piped === "failed" || gone)) return "left";
  if (stop === "idle" || stop === "deadline") await Promise.race([pipe, leaves, sleep(1000)]);
  return stop;
}
