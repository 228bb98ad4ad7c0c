// A client over real sockets, so that aborts and resets are what they are on the network; and what it reads out of answers.
import assert from 'node:assert/strict';
import http from 'node:http';
import { CANARY } from './upstream.mjs';
import { within } from './wait.mjs';

/** Every secret the gateway holds in these tests has this in it. */
export const SECRET = 'secret-of-the-gateway';
/** Codes of the error envelope: status and `type`. */
const CODES = {
  invalid_input: [400, 'invalid_request_error'], context_length_exceeded: [400, 'invalid_request_error'],
  unsupported_parameter: [400, 'invalid_request_error'], unauthenticated: [401, 'authentication_error'],
  insufficient_credits: [402, 'insufficient_quota'], region_unavailable: [403, 'permission_error'], forbidden: [403, 'permission_error'], model_not_allowed: [403, 'permission_error'],
  not_found: [404, 'not_found_error'], model_not_found: [404, 'not_found_error'], no_eligible_provider: [404, 'not_found_error'],
  method_not_allowed: [405, 'invalid_request_error'], idempotency_conflict: [409, 'invalid_request_error'],
  payload_too_large: [413, 'invalid_request_error'], unsupported_media_type: [415, 'invalid_request_error'],
  rate_limited: [429, 'rate_limit_error'], budget_exceeded: [429, 'rate_limit_error'], provider_busy: [429, 'rate_limit_error'], internal: [500, 'server_error'],
  provider_error: [502, 'server_error'], overloaded: [503, 'server_error'], provider_unavailable: [503, 'server_error'], provider_timeout: [504, 'server_error'],
};
const REQUEST_ID = /^gen_[0-9A-HJKMNP-TV-Z]{26}$/;

/** A whole answer. */
export class Reply {
  constructor(status, headers, bytes, about) {
    Object.assign(this, { status, headers, bytes, about });
    this.text = bytes.toString('utf8');
  }

  /** The request's id. */
  get id() {
    return this.headers['x-request-id'];
  }

  get json() {
    try {
      return JSON.parse(this.text);
    } catch {
      throw new Error(`${this.about} answered ${this.status} with a body that is no JSON: ${this.text.slice(0, 500)}`);
    }
  }

  /** The data of each event of a stream, comments left out. */
  get events() {
    return eventsOf(this.text);
  }

  /** The same, parsed, without the end mark. */
  get chunks() {
    return this.events.filter((data) => data !== '[DONE]').map((data) => JSON.parse(data));
  }

  /** The text that a stream's reader puts together. */
  get content() {
    return contentOf(this.text);
  }

  /** Fails when the status is not the given one. */
  is(status) {
    assert.equal(this.status, status, `${this.about} answered ${this.status}: ${this.text.slice(0, 1000)}`);
    return this;
  }

  /** Fails when this is not the one error envelope with that code; returns its `error`. */
  fails(code, { param, retryAfter } = {}) {
    const [status, type] = CODES[code];
    this.is(status);
    assert.match(this.headers['content-type'] ?? '', /^application\/json/, `${this.about}: an error is JSON`);
    const error = checkEnvelope(this.json, this.about);
    assert.equal(error.code, code, `${this.about}: ${this.text}`);
    assert.equal(error.type, type, `${this.about}: ${this.text}`);
    assert.equal(error.request_id, this.id, 'the envelope has the id of the header');
    if (param !== undefined) assert.equal(error.param, param, `${this.about}: ${this.text}`);
    if (retryAfter) {
      const seconds = Number(this.headers['retry-after']);
      assert.ok(Number.isInteger(seconds) && seconds >= 1, `${this.about}: Retry-After is ${this.headers['retry-after']}`);
      if (Array.isArray(retryAfter)) {
        const [least, most] = retryAfter;
        assert.ok(seconds >= least && seconds <= most, `${this.about}: Retry-After ${seconds} is not between ${least} and ${most}`);
      }
    }
    return error;
  }
}

/** The members of the envelope, no more and no less. */
function checkEnvelope(body, about) {
  assert.deepEqual(Object.keys(body), ['error'], `${about}: the envelope holds \`error\` alone`);
  const { error } = body;
  const members = Object.keys(error).filter((name) => name !== 'details');
  assert.deepEqual(members.sort(), ['code', 'message', 'param', 'request_id', 'type'], `${about}: ${JSON.stringify(error)}`);
  assert.ok(typeof error.message === 'string' && error.message.length > 0, `${about}: an error says why`);
  assert.match(error.request_id, REQUEST_ID);
  return error;
}

/**
 * The single error event that ends a cut stream; fails where there is none, more than one, or an end mark. `torn`: the event in
 * front of it may be half of one, because its first half had been passed on when the provider broke off.
 */
export function errorEventOf(reply, code, { torn = false } = {}) {
  const events = torn ? reply.events.filter(isWhole) : reply.events;
  const errors = events.filter((data) => data !== '[DONE]' && JSON.parse(data).error);
  assert.equal(errors.length, 1, `a cut stream has one error event: ${reply.text}`);
  assert.equal(events.at(-1), errors[0], `the error event is the last: ${reply.text}`);
  assert.ok(!events.includes('[DONE]'), `a cut stream has no end mark: ${reply.text}`);
  const error = checkEnvelope(JSON.parse(errors[0]), 'the error event');
  assert.equal(error.request_id, reply.id);
  if (code) assert.equal(error.code, code, reply.text);
  return error;
}

function isWhole(data) {
  try {
    return data === '[DONE]' || Boolean(JSON.parse(data));
  } catch {
    return false;
  }
}

export function eventsOf(stream) {
  const blocks = stream.split(/\r?\n\r?\n/);
  const data = blocks.map((block) =>
    block.split(/\r?\n/).filter((line) => line.startsWith('data:')).map((line) => line.slice(line.startsWith('data: ') ? 6 : 5)));
  return data.filter((lines) => lines.length > 0).map((lines) => lines.join('\n'));
}

export function contentOf(stream) {
  const chunks = eventsOf(stream).filter((data) => data.startsWith('{') && data.endsWith('}')).map((data) => JSON.parse(data));
  return chunks.flatMap((chunk) => chunk.choices ?? []).map((choice) => choice.delta?.content ?? '').join('');
}

/** Nothing that a provider wrote in an error, and no secret, may leave the gateway. */
function checkNoLeak(text, about) {
  for (const canary of [CANARY, SECRET]) assert.ok(!text.includes(canary), `${about} shows "${canary}": ${text.slice(0, 1000)}`);
}

/** A request under way. */
export class Call {
  received = '';
  #parts = [];
  #bytes = Buffer.alloc(0);
  #watchers = new Set();
  /** When bytes came: `[{at, text}]`. */
  arrivals = [];
  headers = {};
  status;

  constructor(url, { method = 'GET', headers = {}, body } = {}) {
    this.about = `${method} ${new URL(url).pathname}`;
    this.began = performance.now();
    // Text and bytes go as they are, a readable stream without its length, anything else as JSON.
    const isStream = typeof body?.pipe === 'function';
    const isRaw = Buffer.isBuffer(body) || typeof body === 'string';
    const bytes = body === undefined || isStream ? body : Buffer.from(isRaw ? body : JSON.stringify(body));
    this.request = http.request(url, {
      method,
      agent: false,
      headers: {
        ...(bytes === undefined ? {} : { 'content-type': 'application/json' }),
        ...(bytes === undefined || isStream ? {} : { 'content-length': bytes.length }),
        ...headers,
      },
    });
    this.head = new Promise((resolve, reject) => {
      this.request.once('response', (response) => {
        Object.assign(this, { status: response.statusCode, headers: response.headers, headAt: performance.now() });
        resolve(this);
      });
      this.request.on('error', async (error) => {
        // A server may answer before it has read everything, and then close: the answer is there, although writing failed.
        if (error.code === 'EPIPE' || error.code === 'ECONNRESET') await new Promise((resolve) => setTimeout(resolve, 50));
        if (this.status === undefined) reject(new Error(`${this.about}: ${error.message}`, { cause: error }));
      });
    });
    this.head.catch(() => {});
    /** Resolves with the whole answer; rejects when the connection breaks before its end. */
    this.reply = new Promise((resolve, reject) => {
      this.head.catch(reject);
      this.request.once('response', (response) => {
        response.on('data', (data) => {
          this.#parts.push(data);
          this.received += data.toString('latin1');
          this.arrivals.push({ at: performance.now(), text: data.toString('utf8') });
          for (const watcher of this.#watchers) watcher();
        });
        response.once('error', reject);
        response.once('aborted', () => reject(new Error(`${this.about}: the gateway broke the connection off after ${this.received.length} bytes`)));
        response.once('end', () => {
          const reply = new Reply(this.status, this.headers, Buffer.concat(this.#parts), this.about);
          try {
            assert.match(reply.id ?? '', REQUEST_ID, `${this.about} (${this.status}) has no right X-Request-Id`);
            assert.equal(reply.headers['access-control-allow-origin'], '*', `${this.about} (${this.status}) has no CORS header`);
            checkNoLeak(reply.text, this.about);
            checkNoLeak(JSON.stringify(reply.headers), this.about);
            resolve(reply);
          } catch (error) {
            reject(error);
          }
        });
      });
    });
    this.reply.catch(() => {});
    if (isStream) bytes.pipe(this.request);
    else this.request.end(bytes);
  }

  get id() {
    return this.headers['x-request-id'];
  }

  /** What has come so far, as text. */
  get text() {
    return Buffer.from(this.received, 'latin1').toString('utf8');
  }

  /** Resolves when what has come contains `text`. */
  async until(text, ms = 5000) {
    let watcher;
    const seen = new Promise((resolve, reject) => {
      watcher = () => this.text.includes(text) && resolve(this);
      this.#watchers.add(watcher);
      this.reply.then(() => (this.text.includes(text) ? resolve(this) : reject(new Error(`the answer ended without "${text}": ${this.text}`))), reject);
      watcher();
    });
    try {
      return await within(ms, seen, () => `no "${text}" within ${ms} ms, only: ${this.status} ${this.text}`);
    } finally {
      this.#watchers.delete(watcher);
    }
  }

  /** Leaves with a reset (RST): what the edge would report of any client that leaves. Returns when it did. */
  reset() {
    this.request.on('error', () => {});
    this.request.socket.resetAndDestroy();
    return performance.now();
  }

  /** Leaves like an SDK's abort. Returns when it did. */
  leave() {
    this.request.on('error', () => {});
    this.request.destroy();
    return performance.now();
  }
}

/** Nano-dollars of a decimal number of dollars, exactly. */
export function nanosOf(dollars) {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(String(dollars));
  assert.ok(match, `${dollars} is no decimal number of dollars`);
  const [, sign, whole, part = '', exponent = '0'] = match;
  const shift = 9 + Number(exponent) - part.length;
  const digits = `${whole}${part}`;
  assert.ok(shift >= 0 || /^0*$/.test(digits.slice(shift)), `${dollars} is finer than a nano-dollar`);
  const nanos = shift >= 0 ? BigInt(digits) * 10n ** BigInt(shift) : BigInt(digits.slice(0, shift) || '0');
  return Number(sign ? -nanos : nanos);
}

/** What `quantities` cost at `prices` (dollars per million, as in the catalog), in nano-dollars, rounded up once. */
export function costOf(quantities, prices) {
  let millionths = 0n;
  for (const [meter, quantity] of Object.entries(quantities)) {
    const [price, per] = [prices[meter], meter === 'requests' ? 1n : 1_000_000n];
    assert.ok(price !== undefined, `no price for ${meter}`);
    millionths += BigInt(quantity) * BigInt(nanosOf(price)) * (1_000_000n / per);
  }
  return Number((millionths + 999_999n) / 1_000_000n);
}
