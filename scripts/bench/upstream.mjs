// The upstream of a measurement: answers at once, or at a given pace. A few lines of HTTP on plain sockets, so that it costs little
// of the core that it shares with the load generator. What it does is in the model's name; see `MODELS`.
//
// It checks that every prompt arrived whole, counts the calls of each request, and knows when a connection was closed on it.
import net from 'node:net';
import { CHUNKS, MESSAGES, PACE_MS, asked, contentEvent, lastEvents, micros, plainAnswer, stamp, streamEvents } from './answers.mjs';

export const MODELS = {
  fast: 'up-fast', // at once
  paced: 'up-paced', // a chunk each PACE_MS
  slow: 'up-slow', // a stream of minutes; a plain answer that never comes
  translated: 'up-translated', // paced; whoever asks for messages gets Anthropic's events
  cut: 'up-cut', // the connection breaks after some chunks
  limited: 'up-limited', // 429 with Retry-After
};
export const CUT_AFTER = 10;
export const RETRY_AFTER = '7';
const SLOW_CHUNKS = 6000;
const HEAD_BYTES_MAX = 65_536;

const calls = new Map(); // number → how often it was asked
const closed = new Map(); // number → when its connection was closed before its answer was complete
let total = 0;
let broken = 0; // prompts that did not arrive as sent
let expected; // the credential that calls must bring

const response = (status, type, body, extra = '') =>
  `HTTP/1.1 ${status}\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n${extra}\r\n${body}`;
const json = (status, value, extra) => response(status, 'application/json', JSON.stringify(value), extra);
const STREAM_HEAD = 'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n';
const framed = (text) => `${text.length.toString(16)}\r\n${text}\r\n`;
const LAST = '0\r\n\r\n';

function control(path) {
  const url = new URL(path, 'http://upstream');
  if (url.pathname === '/__reset') {
    calls.clear();
    closed.clear();
    total = broken = 0;
    expected = url.searchParams.get('credential') ?? expected;
    return {};
  }
  if (url.pathname === '/__calls') return { total, broken, distinct: calls.size, most: Math.max(0, ...calls.values()) };
  if (url.pathname === '/__closed') return { at: closed.get(Number(url.searchParams.get('seq'))) ?? null, called: calls.get(Number(url.searchParams.get('seq'))) ?? 0 };
  return { ok: true }; // /v1/health, through the floor
}

function chat(connection, head, body, path) {
  total += 1;
  let request;
  let prompt;
  try {
    request = JSON.parse(body);
    prompt = asked(request);
  } catch {}
  if (!prompt || (expected && !head.includes(`Bearer ${expected}`))) {
    broken += 1;
    return connection.answer(json('400 Bad Request', { error: { message: prompt ? 'wrong credential' : 'the prompt is not what was sent', type: 'invalid_request_error' } }));
  }
  const { seq, size } = prompt;
  calls.set(seq, (calls.get(seq) ?? 0) + 1);
  const { model, stream } = request;
  const usage = request.stream_options?.include_usage === true;
  if (model === MODELS.limited) {
    const error = { message: 'slow down', type: 'rate_limit_error', code: 'rate_limit_exceeded' };
    return connection.answer(json('429 Too Many Requests', { error }, `retry-after: ${RETRY_AFTER}\r\n`));
  }
  if (!stream) {
    if (model === MODELS.slow) return void (connection.seq = seq);
    return connection.answer(response('200 OK', 'application/json', plainAnswer(model, seq, size)));
  }
  if (model === MODELS.fast) return connection.answer(STREAM_HEAD + streamEvents(model, seq, size, usage).map(framed).join('') + LAST);
  connection.seq = seq;
  connection.socket.write(STREAM_HEAD);
  const count = { [MODELS.paced]: CHUNKS, [MODELS.slow]: SLOW_CHUNKS, [MODELS.cut]: CUT_AFTER }[model] ?? CHUNKS;
  const isMessages = path.endsWith('/messages');
  const started = performance.now();
  const next = (index) => {
    if (connection.isClosed) return;
    if (index < count) {
      const piece = isMessages ? `${index === 0 ? MESSAGES.head(model, seq, size) : ''}${MESSAGES.piece(index, micros())}` : contentEvent(model, seq, index, usage, micros());
      connection.socket.write(framed(piece));
      return void (connection.timer = setTimeout(next, Math.max(0, started + (index + 1) * PACE_MS - performance.now()), index + 1));
    }
    if (model === MODELS.cut) return connection.socket.resetAndDestroy();
    if (isMessages) return connection.answer(framed(MESSAGES.tail()) + LAST);
    connection.answer(lastEvents(model, seq, size, usage).map(framed).join('') + LAST);
  };
  next(0);
}

/** One connection: requests one after the other, bodies with a length or in chunks. */
class Connection {
  constructor(socket) {
    this.socket = socket;
    this.pending = Buffer.alloc(0);
    this.parts = [];
    this.missing = 0; // bytes until `pending` may hold a whole request
    socket.setNoDelay(true);
    socket.on('data', (data) => this.push(data));
    socket.on('error', () => {});
    socket.on('close', () => {
      this.isClosed = true;
      clearTimeout(this.timer);
      if (this.seq !== undefined) closed.set(this.seq, micros());
    });
  }

  answer(text) {
    this.seq = undefined;
    this.socket.write(text);
  }

  push(data) {
    this.parts.push(data);
    this.missing -= data.length;
    if (this.missing > 0) return;
    this.pending = this.parts.length === 1 ? this.parts[0] : Buffer.concat(this.parts);
    this.parts = [];
    while (this.pending.length > 0 && this.request()) {}
    if (this.pending.length > 0) this.parts = [this.pending];
  }

  /** Takes one request off `pending`; false when it is not there yet. */
  request() {
    const end = this.pending.indexOf('\r\n\r\n');
    if (end < 0) {
      if (this.pending.length > HEAD_BYTES_MAX) this.socket.destroy();
      return false;
    }
    const head = this.pending.latin1Slice(0, end);
    let body = '';
    let at = end + 4;
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0);
    if (/\r\ntransfer-encoding: *chunked/i.test(head)) {
      const chunked = unchunk(this.pending, at);
      if (!chunked) return false;
      [body, at] = chunked;
    } else {
      if (this.pending.length < at + length) {
        this.missing = at + length - this.pending.length;
        return false;
      }
      body = this.pending.latin1Slice(at, at + length); // prompts are ASCII
      at += length;
    }
    this.pending = this.pending.subarray(at);
    const path = head.slice(head.indexOf(' ') + 1, head.indexOf(' ', head.indexOf(' ') + 1));
    if (head.startsWith('POST')) chat(this, head, body, path);
    else this.answer(json('200 OK', control(path)));
    return true;
  }
}

/** A whole chunked body from `at` on and where it ends; undefined while it is not complete. */
function unchunk(buffer, at) {
  const parts = [];
  for (;;) {
    const line = buffer.indexOf('\r\n', at);
    if (line < 0) return undefined;
    const size = Number.parseInt(buffer.latin1Slice(at, line), 16);
    at = line + 2;
    if (buffer.length < at + size + 2) return undefined;
    if (size === 0) return [Buffer.concat(parts).toString(), at + 2];
    parts.push(buffer.subarray(at, at + size));
    at += size + 2;
  }
}

if (process.send) {
  const server = net.createServer((socket) => new Connection(socket));
  server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
  process.on('disconnect', () => process.exit(0));
}
