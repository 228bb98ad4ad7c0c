// A scripted provider on loopback. Each model name is a station with a script of its own, so tests that run side by side in one
// file never meet, and neither do their offers' health records.
import http from 'node:http';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { within } from './wait.mjs';

/** Stands in every body that a failing provider sends; the gateway must never show it to anyone. */
export const CANARY = 'canary-of-the-provider';

// ── What providers say ──────────────────────────────────────────────────────────────────────────────────────────────────────

const HEAD = { id: 'chatcmpl-up1', object: 'chat.completion.chunk', created: 1_760_000_000, model: 'upstream-model' };
export const DONE = 'data: [DONE]\n\n';

/** One event of a stream. */
export const event = (value, end = '\n\n') => `data: ${typeof value === 'string' ? value : JSON.stringify(value)}${end}`;
const choice = (delta, finish_reason = null) => event({ ...HEAD, choices: [{ index: 0, delta, finish_reason }] });
export const role = () => choice({ role: 'assistant', content: '' });
export const text = (content) => choice({ content });
export const toolCall = (fields) => choice({ tool_calls: [{ index: 0, ...fields }] });
export const finish = (reason = 'stop') => choice({}, reason);
export const usageEvent = (usage, service_tier) => event({ ...HEAD, choices: [], usage, service_tier });
export const errorEvent = (error = {}) =>
  event({ error: { message: `${CANARY} inside a stream`, type: 'server_error', param: null, code: null, ...error } });

/** Usage as OpenAI reports it. */
export const usage = (prompt_tokens, completion_tokens, more = {}) =>
  ({ prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens, ...more });
export const USAGE = usage(11, 7);

/** A whole answer. */
export const completion = ({ content = 'Hello from upstream.', message = {}, finish_reason = 'stop', usage = USAGE, ...more } = {}) => ({
  ...HEAD,
  object: 'chat.completion',
  choices: [{ index: 0, message: { role: 'assistant', content, refusal: null, ...message }, logprobs: null, finish_reason }],
  ...(usage ? { usage } : {}),
  ...more,
});

/** The events of a whole stream. */
export const story = ({ words = ['Hello ', 'from ', 'upstream.'], usage = USAGE, finish_reason = 'stop', done = true, service_tier } = {}) => [
  role(), ...words.map(text), finish(finish_reason), ...(usage ? [usageEvent(usage, service_tier)] : []), ...(done ? [DONE] : []),
];

/** A text or buffer cut into pieces of `size` bytes (or at the given places), each sent by itself. */
export function pieces(source, size = 1) {
  const bytes = Buffer.from(source);
  const cuts = Array.isArray(size) ? size : Array.from({ length: Math.ceil(bytes.length / size) - 1 }, (_, i) => (i + 1) * size);
  return [0, ...cuts].map((start, i) => bytes.subarray(start, [...cuts, bytes.length][i]));
}

// ── How they say it: behaviours ─────────────────────────────────────────────────────────────────────────────────────────────

/** An answer with a body of JSON, text or bytes. */
export const reply = (body, { status = 200, headers = {}, delay = 0 } = {}) => async (exchange) => {
  if (delay > 0) await sleep(delay);
  if (exchange.isClosed) return;
  const bytes = typeof body === 'string' || Buffer.isBuffer(body) ? Buffer.from(body) : Buffer.from(JSON.stringify(body));
  exchange.response.writeHead(status, { 'content-type': 'application/json', 'content-length': bytes.length, ...headers });
  exchange.response.end(bytes);
};

/** A refusal in OpenAI's envelope, with a canary in its message. */
export const fail = (status, error = {}, headers = {}) =>
  reply({ error: { message: `${CANARY} ${status}`, type: 'server_error', param: null, code: null, ...error } }, { status, headers });

/**
 * A stream of parts: text and buffers are written, each by itself; a number is a pause in milliseconds; a function is called with
 * the exchange and awaited. Ends cleanly after the last part, unless that hung or cut.
 */
export const sse = (parts, { headers = {} } = {}) => async (exchange) => {
  const { response } = exchange;
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache', ...headers });
  response.flushHeaders();
  for (const part of parts.flat()) {
    if (exchange.isClosed) return;
    if (typeof part === 'number') await sleep(part);
    else if (typeof part === 'function') await part(exchange);
    else {
      // On its way before anything else happens, so that a cut comes after it and pieces stay pieces.
      await Promise.race([new Promise((resolve) => response.write(part, resolve)), exchange.closed]);
      if (Buffer.isBuffer(part)) await new Promise(setImmediate);
    }
  }
  if (!exchange.isClosed) response.end();
};

/** As a behaviour: no headers, ever. As a part of a stream: nothing more, ever. */
export const hang = (exchange) => exchange.closed;

/** As a behaviour or a part: the connection is cut. */
export const cut = (exchange) => {
  exchange.isCut = true;
  exchange.response.socket?.destroy();
};

/** As a part: one event every `pace` milliseconds until the gateway closes the connection. */
export const flow = (pace = 20, make = (n) => text(`word${n} `)) => async (exchange) => {
  for (let n = 0; !exchange.isClosed; n++) {
    exchange.response.write(make(n));
    await sleep(pace);
  }
};

/** As a behaviour or a part: waits until the test calls `open()`. */
export function gate() {
  let open;
  const opened = new Promise((resolve) => (open = resolve));
  return Object.assign(() => opened, { open });
}

/** Waits for `gate`, then behaves as told. */
export const after = (gate, behaviour) => async (exchange) => {
  await Promise.race([gate(), exchange.closed]);
  if (!exchange.isClosed) await behaviour(exchange);
};

/** A right answer, plain or streamed as the request asks. The same usage and words either way. */
export const answer = (options = {}) => (exchange) => {
  const { words, content, ...rest } = options;
  if (exchange.body?.stream === true) return sse(story({ ...(words ? { words } : content ? { words: [content] } : {}), ...rest }))(exchange);
  return reply(completion({ ...(content ? { content } : words ? { content: words.join('') } : {}), ...rest }))(exchange);
};

// ── The provider ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** One request as the provider saw it. */
class Exchange {
  at = performance.now();
  /** `gateway`, `us` or undefined; resolves when the connection (or the whole answer) is over. */
  closed;
  closedBy;
  closedAt;
  isClosed = false;
  isCut = false;
  raw = Buffer.alloc(0);
  body;

  constructor(request, response) {
    this.request = request;
    this.response = response;
    this.method = request.method;
    this.path = request.url;
    this.headers = request.headers;
    this.closed = new Promise((resolve) => {
      response.once('close', () => {
        this.isClosed = true;
        this.closedAt = performance.now();
        this.closedBy = response.writableFinished || this.isCut ? 'us' : 'gateway';
        resolve(this.closedBy);
      });
    });
  }

  async readBody() {
    const parts = [];
    for await (const part of this.request) parts.push(part);
    this.raw = Buffer.concat(parts);
    try {
      this.body = JSON.parse(this.raw.toString('utf8'));
    } catch {}
  }

  /** Resolves with the milliseconds from `since` until the gateway closed the connection; fails when it does not within `ms`. */
  async closedWithin(ms, since) {
    const by = await within(ms, this.closed, `the upstream connection is still open ${ms} ms after the client left`);
    if (by !== 'gateway') throw new Error(`the provider itself ended the connection (${by})`);
    return this.closedAt - since;
  }
}

/** What one model of the provider does, and what it was asked. */
class Station {
  requests = [];
  #script = [answer()];
  #waiting = [];

  /** Sets the script: one behaviour a request, the last for all that follow. */
  does(...behaviours) {
    this.#script = behaviours;
    return this;
  }

  /** The last request. */
  get last() {
    const last = this.requests.at(-1);
    if (!last) throw new Error('the provider was never asked');
    return last;
  }

  /** Resolves with the n-th request (counted from 1) as soon as its body has arrived. */
  async arrival(n = 1, ms = 5000) {
    if (this.requests.length >= n) return this.requests[n - 1];
    const arrived = new Promise((resolve) => this.#waiting.push({ n, resolve }));
    return within(ms, arrived, () => `only ${this.requests.length} of ${n} requests reached the provider within ${ms} ms`);
  }

  /** @internal */
  async serve(exchange) {
    this.requests.push(exchange);
    for (const { n, resolve } of this.#waiting) if (n <= this.requests.length) resolve(this.requests[n - 1]);
    const behaviour = this.#script.length > 1 ? this.#script.shift() : this.#script[0];
    await behaviour(exchange);
  }
}

/** A provider: one server, a station for each model name. */
export class Upstream {
  #stations = new Map();
  #server;

  static async start(name) {
    const upstream = new Upstream();
    upstream.name = name;
    upstream.#server = http.createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
      const exchange = new Exchange(request, response);
      response.on('error', () => {});
      exchange
        .readBody()
        .then(() => upstream.station(exchange.body?.model ?? '').serve(exchange))
        .catch((error) => {
          if (exchange.isClosed) return;
          if (error.code !== 'ECONNRESET') process.stderr.write(`upstream ${name}: ${error.stack}\n`);
          response.destroy();
        });
    });
    upstream.#server.on('connection', (socket) => {
      socket.setNoDelay(true);
      socket.on('error', () => {});
    });
    await new Promise((resolve, reject) => upstream.#server.once('error', reject).listen(0, '127.0.0.1', resolve));
    upstream.port = upstream.#server.address().port;
    upstream.url = `http://127.0.0.1:${upstream.port}/v1`;
    return upstream;
  }

  /** The station of a model. */
  station(model) {
    if (!this.#stations.has(model)) this.#stations.set(model, new Station());
    return this.#stations.get(model);
  }

  close() {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(resolve));
  }
}

/** The URL of a port on which nobody listens. */
export async function closedPort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return `http://127.0.0.1:${port}/v1`;
}
