// The client of a measurement: keeps a number of connections busy, times each answer and each chunk, and checks every answer to
// its last byte. Sockets and no HTTP library, so that the generator's own cost stays small and the same for every target.
import net from 'node:net';
import {
  CHUNKS, NO_STAMP, PACE_MS, SIZE, STAMP, micros, plainText, question, streamEvents, streamText, tokens,
} from './answers.mjs';

const WRONG_KEPT = 5;
const ANSWER_MS_MAX = 30_000;

/** One answer as it arrives. */
class Answer {
  constructor(onBody) {
    this.onBody = onBody;
    this.buffer = Buffer.alloc(0);
    this.body = [];
    this.isComplete = false;
  }

  push(data) {
    this.buffer = this.buffer.length === 0 ? data : Buffer.concat([this.buffer, data]);
    if (this.status === undefined) {
      const end = this.buffer.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.head = this.buffer.latin1Slice(0, end);
      this.buffer = this.buffer.subarray(end + 4);
      this.status = Number(this.head.slice(9, 12));
      this.isChunked = /\r\ntransfer-encoding: *chunked/i.test(this.head);
      this.left = this.isChunked ? 0 : Number(this.header('content-length') ?? 0);
      if (!this.isChunked && this.left === 0) this.isComplete = true;
    }
    if (this.isChunked) this.chunks();
    else this.take(Math.min(this.left, this.buffer.length));
  }

  take(length) {
    if (length === 0) return;
    const part = this.buffer.subarray(0, length);
    this.buffer = this.buffer.subarray(length);
    this.left -= length;
    if (this.left === 0 && !this.isChunked) this.isComplete = true;
    this.body.push(part);
    this.onBody?.(part);
  }

  chunks() {
    while (!this.isComplete && this.buffer.length > 0) {
      if (this.left > 0) {
        this.take(Math.min(this.left, this.buffer.length));
        continue;
      }
      const skip = this.isPastFirst ? 2 : 0; // the line end after a chunk
      const line = this.buffer.indexOf('\r\n', skip);
      if (line < 0) return;
      const size = Number.parseInt(this.buffer.latin1Slice(skip, line), 16);
      if (size === 0) {
        if (this.buffer.length < line + 4) return;
        this.buffer = this.buffer.subarray(line + 4);
        this.isComplete = true;
        return;
      }
      this.buffer = this.buffer.subarray(line + 2);
      this.left = size;
      this.isPastFirst = true;
    }
  }

  header(name) {
    return new RegExp(`\\r\\n${name}: *([^\\r]*)`, 'i').exec(this.head)?.[1];
  }

  text() {
    return Buffer.concat(this.body).toString();
  }
}

/** A connection that is opened again when the other side has closed it. */
class Connection {
  constructor(port) {
    this.port = port;
  }

  open() {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ port: this.port, host: '127.0.0.1', noDelay: true });
      this.socket = socket;
      socket.once('connect', resolve);
      socket.on('error', (error) => (this.fail ? this.fail(error) : reject(error)));
      socket.on('data', (data) => this.data?.(data));
      socket.on('close', () => {
        if (this.socket === socket) this.socket = undefined;
        this.fail?.(new Error('the connection closed before the answer was complete'));
      });
    });
  }

  /** Sends a request; resolves when its answer is complete, or has broken off (`answer.error`). */
  async send(head, body, onBody) {
    if (!this.socket) await this.open();
    const answer = new Answer(onBody);
    const timer = setTimeout(() => this.socket?.destroy(), ANSWER_MS_MAX);
    await new Promise((resolve) => {
      this.fail = (error) => {
        answer.error ??= error;
        resolve();
      };
      this.data = (data) => {
        answer.push(data);
        if (answer.isComplete) resolve();
      };
      answer.sent = micros();
      this.socket.write(`${head}content-length: ${body.length}\r\n\r\n${body}`, 'latin1');
    });
    answer.done = micros();
    this.fail = this.data = undefined;
    clearTimeout(timer);
    if (answer.header('connection')?.toLowerCase() === 'close') this.close();
    return answer;
  }

  close() {
    this.socket?.destroy();
    this.socket = undefined;
  }
}

export const requestHead = ({ port, path = '/v1/chat/completions', credential }) =>
  `POST ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\nauthorization: Bearer ${credential}\r\ncontent-type: application/json\r\n` +
  'accept: */*\r\nuser-agent: bench\r\n';

/** Sends one request and returns its answer. */
export async function once(target, body, onBody) {
  const connection = new Connection(target.port);
  const answer = await connection.send(requestHead(target), body, onBody);
  connection.close();
  return answer;
}

/** Sends one request and leaves after `after` chunks (a plain one: after `wait_ms`). Returns when it left. `how`: 'reset' or 'close'. */
export async function leave(target, body, { after = 0, wait_ms = 0, how }) {
  const connection = new Connection(target.port);
  let seen = 0;
  let enough;
  const reached = new Promise((resolve) => (enough = resolve));
  const ended = connection.send(requestHead(target), body, (part) => {
    seen += part.toString().split('"content":"w').length - 1;
    if (seen >= after) enough();
  });
  if (after > 0) await Promise.race([reached, ended]);
  else await new Promise((resolve) => setTimeout(resolve, wait_ms));
  const at = micros();
  if (how === 'reset') connection.socket?.resetAndDestroy();
  else connection.socket?.destroy();
  await ended;
  return { at, seen };
}

/** What is wrong with a plain answer; undefined when nothing is. */
function plainFault(answer, { seq, size = SIZE, target }) {
  const value = JSON.parse(answer.text());
  const [choice] = value.choices;
  if (value.choices.length !== 1 || choice.message.content !== plainText(seq) || choice.finish_reason !== 'stop') return 'another content';
  if (value.id !== `chatcmpl-${seq}`) return 'another id';
  for (const [name, count] of Object.entries(tokens(size))) if (value.usage?.[name] !== count) return `usage.${name} is ${value.usage?.[name]}`;
  if (target.charges && !(Number(value.usage.cost) > 0)) return 'no cost in the usage';
  return undefined;
}

/**
 * What is wrong with a stream; undefined when nothing is. Sets `answer.isVerbatim` when it holds the upstream's bytes, less the
 * usage where it was not asked for.
 */
function streamFault(answer, { seq, size = SIZE, usage, model }) {
  const text = answer.text().replace(STAMP, NO_STAMP);
  if (!text.endsWith('data: [DONE]\n\n')) return 'no [DONE] at its end';
  const sent = (hasUsage) => streamEvents(model, seq, size, hasUsage).join('');
  // The gateway may ask for usage on its own account. Then its `"usage":null` stays and the chunk that holds usage goes.
  const verbatim = usage ? [sent(true)] : [sent(false), streamEvents(model, seq, size, true).filter((event) => !event.includes('"choices":[]')).join('')];
  answer.isVerbatim = verbatim.includes(text);
  if (answer.isVerbatim) return undefined;
  let content = '';
  let finish;
  let counted;
  const events = text.split('\n\n').filter((event) => event.startsWith('data: ') && event !== 'data: [DONE]');
  for (const event of events) {
    const value = JSON.parse(event.slice(6));
    if (value.error) return `an error event: ${event}`;
    content += value.choices[0]?.delta?.content ?? '';
    finish ??= value.choices[0]?.finish_reason;
    counted ??= value.usage ?? undefined;
  }
  if (content !== streamText()) return 'another text';
  if (finish !== 'stop') return `finish_reason ${finish}`;
  if (!usage) return counted ? 'usage that was not asked for' : undefined;
  for (const [name, count] of Object.entries(tokens(size))) if (counted?.[name] !== count) return `usage.${name} is ${counted?.[name]}`;
  return undefined;
}

const FIRST_TEXT = Buffer.from('"content":"w0 ');

/** Notes, while a stream arrives, when its first text came and how long each stamped chunk was under way. */
function watch(sample) {
  let rest = '';
  let isFirst = true;
  return (part) => {
    const now = micros();
    if (isFirst && part.includes(FIRST_TEXT)) {
      isFirst = false;
      sample.firstAt = now;
    }
    if (!sample.delays) return;
    rest += part.latin1Slice();
    let end = 0;
    for (const found of rest.matchAll(STAMP)) {
      sample.delays.push(now - Number(found[1]));
      end = found.index + found[0].length;
    }
    rest = rest.slice(end);
  };
}

let nextSeq = 1;
export const newSeq = () => nextSeq++;

/**
 * Keeps `connections` busy for `duration` ms, or for `count` requests. Times are in microseconds.
 * target: {port, path?, credential, charges?, model(name)}; ask: {name, size, stream, usage, isPaced}.
 */
export async function drive(target, ask, { connections, duration = Infinity, count = Infinity }) {
  const result = { requests: 0, wrong: 0, faults: [], verbatim: 0, latencies: [], firstTexts: [], delays: [] };
  const asked = target.model(ask.name);
  const started = micros();
  const until = started + duration * 1000;
  let sent = 0;
  const fault = (text) => {
    result.wrong += 1;
    if (result.faults.length < WRONG_KEPT) result.faults.push(text);
  };
  const one = async (connection, head) => {
    const seq = newSeq();
    const body = question({ ...ask, model: asked, seq });
    const sample = { delays: ask.isPaced ? [] : undefined };
    const answer = await connection.send(head, body, ask.stream ? watch(sample) : undefined);
    result.requests += 1;
    if (answer.error || answer.status !== 200) {
      connection.close();
      return fault(answer.error ? `${answer.error.message} (${answer.body.length} parts)` : `status ${answer.status}: ${answer.text().slice(0, 300)}`);
    }
    result.latencies.push(answer.done - answer.sent);
    if (sample.firstAt) result.firstTexts.push(sample.firstAt - answer.sent);
    try {
      const what = (ask.stream ? streamFault : plainFault)(answer, { ...ask, seq, model: ask.upstream, target });
      if (what) fault(`${what}: ${answer.text().slice(-300)}`);
      else if (sample.delays && sample.delays.length !== CHUNKS) fault(`${sample.delays.length} stamped chunks`);
    } catch (error) {
      fault(`${error.message}: ${answer.text().slice(0, 300)}`);
    }
    if (answer.isVerbatim) result.verbatim += 1;
    if (sample.delays) result.delays.push(...sample.delays);
  };
  const loop = async (_, index) => {
    // Paced streams that began together would stay together: every chunk would wait for seven others, and every beginning too.
    if (ask.isPaced) await new Promise((resolve) => setTimeout(resolve, (index * CHUNKS * PACE_MS) / connections));
    const connection = new Connection(target.port);
    const head = requestHead(target);
    while (micros() < until && sent < count) {
      sent += 1;
      try {
        await one(connection, head);
      } catch (error) {
        result.requests += 1;
        fault(error.message);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    connection.close();
  };
  await Promise.all(Array.from({ length: connections }).map(loop));
  result.elapsed = micros() - started;
  return result;
}
