// A provider that runs on this machine and costs nothing: OpenAI chat completions, plain and streamed. It repeats what it was told.
// `node scripts/simulated/server.mjs` starts it alone. SIMULATED_PORT (8799) and SIMULATED_DELAY_MS (30, between words) set it up.
import http from 'node:http';
import fs from 'node:fs';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const MODEL = 'echo';
const MAX_BODY = 32 * 1024 * 1024;

const words = (text) => text.split(/\s+/).filter(Boolean);
const now = () => Math.floor(Date.now() / 1000);

/** A request that the provider refuses, in OpenAI's envelope. */
class Refusal extends Error {
  constructor(status, message, { param = null, code = null } = {}) {
    super(message);
    this.status = status;
    this.body = { error: { message, type: 'invalid_request_error', param, code } };
  }
}

function textOf(content) {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  return content.map((part) => (part?.type === 'text' ? String(part.text ?? '') : `[${part?.type ?? 'part'}]`)).join(' ');
}

function answerTo(body) {
  if (body === null || typeof body !== 'object' || Array.isArray(body)) throw new Refusal(400, 'The body must be a JSON object.');
  if (typeof body.model !== 'string' || body.model === '') throw new Refusal(400, 'You must provide a model parameter.', { param: 'model' });
  if (body.model !== MODEL) throw new Refusal(404, `The model '${body.model}' does not exist.`, { param: 'model', code: 'model_not_found' });
  if (!Array.isArray(body.messages) || body.messages.length === 0) {
    throw new Refusal(400, "'messages' must be a list with at least one message.", { param: 'messages' });
  }
  for (const [index, message] of body.messages.entries()) {
    if (typeof message?.role !== 'string') throw new Refusal(400, `'messages[${index}].role' is missing.`, { param: `messages[${index}].role` });
  }
  const limit = body.max_completion_tokens ?? body.max_tokens ?? 4096;
  if (!Number.isInteger(limit) || limit < 1) throw new Refusal(400, "'max_tokens' must be a positive whole number.", { param: 'max_tokens' });

  const said = words(textOf(body.messages.findLast((message) => message.role === 'user')?.content));
  const quote = said.slice(0, 60).join(' ') + (said.length > 60 ? ' …' : '');
  const sentence = said.length > 0
    ? `You said: “${quote}”. That is all I can do: I am the simulated provider on your own machine, and glad that you asked.`
    : 'You said nothing yet, and I am glad to listen: I am the simulated provider on your own machine.';
  const all = words(sentence);
  const answer = all.slice(0, limit);
  const prompt = body.messages.reduce((sum, message) => sum + words(textOf(message.content)).length + 3, 0);
  return {
    words: answer,
    finish: answer.length < all.length ? 'length' : 'stop',
    usage: { prompt_tokens: prompt, completion_tokens: answer.length, total_tokens: prompt + answer.length },
  };
}

async function readBody(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > MAX_BODY) throw new Refusal(413, 'The body is too large.');
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8'));
  } catch {
    throw new Refusal(400, 'We could not parse the JSON body of your request.');
  }
}

async function chat(request, response, delay) {
  const body = await readBody(request);
  const answer = answerTo(body);
  const id = `chatcmpl-${randomBytes(12).toString('hex')}`;
  const head = { id, created: now(), model: MODEL };
  if (body.stream !== true) {
    const message = { role: 'assistant', content: answer.words.join(' '), refusal: null };
    return json(response, 200, {
      ...head, object: 'chat.completion',
      choices: [{ index: 0, message, logprobs: null, finish_reason: answer.finish }],
      usage: answer.usage,
    });
  }

  const withUsage = body.stream_options?.include_usage === true;
  const send = (choices, usage = null) => {
    const chunk = { ...head, object: 'chat.completion.chunk', choices, ...(withUsage ? { usage } : {}) };
    response.write(`data: ${JSON.stringify(chunk)}\n\n`);
  };
  const delta = (value, finish_reason = null) => send([{ index: 0, delta: value, logprobs: null, finish_reason }]);
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' });
  delta({ role: 'assistant', content: '' });
  for (const [index, word] of answer.words.entries()) {
    if (delay > 0) await sleep(delay);
    if (response.destroyed) return;
    delta({ content: index === 0 ? word : ` ${word}` });
  }
  delta({}, answer.finish);
  if (withUsage) send([], answer.usage);
  response.end('data: [DONE]\n\n');
}

function json(response, status, value) {
  const text = JSON.stringify(value);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

const model = () => ({ id: MODEL, object: 'model', created: 1_700_000_000, owned_by: 'simulated' });

async function handle(request, response, delay) {
  const path = new URL(request.url, 'http://localhost').pathname.replace(/\/+$/, '');
  const only = (method) => {
    if (request.method !== method) throw new Refusal(405, `${request.method} is not allowed here; use ${method}.`);
  };
  if (path === '/v1/chat/completions') {
    only('POST');
    return chat(request, response, delay);
  }
  if (path === '/v1/models') {
    only('GET');
    return json(response, 200, { object: 'list', data: [model()] });
  }
  if (path === `/v1/models/${MODEL}`) {
    only('GET');
    return json(response, 200, model());
  }
  throw new Refusal(404, `There is nothing at ${path || '/'}.`);
}

/** Listens on 127.0.0.1; `port: 0` takes a free one. Resolves to `{ port, url, close }`. */
export function start({ port = 8799, delay = 30 } = {}) {
  const server = http.createServer((request, response) => {
    handle(request, response, delay).catch((error) => {
      if (response.headersSent) return response.destroy();
      if (error instanceof Refusal) return json(response, error.status, error.body);
      json(response, 500, { error: { message: 'The simulated provider failed.', type: 'server_error', param: null, code: null } });
    });
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      const actual = server.address().port;
      const close = () =>
        new Promise((done) => {
          server.close(() => done());
          server.closeAllConnections();
        });
      resolve({ port: actual, url: `http://127.0.0.1:${actual}/v1`, close });
    });
  });
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const { url, port } = await start({
    port: Number(process.env.SIMULATED_PORT || 8799),
    delay: Number(process.env.SIMULATED_DELAY_MS || 30),
  });
  console.log(`simulated provider at ${url} (model "${MODEL}")`);
  if (process.send) {
    process.send({ port });
    process.once('disconnect', () => process.exit(0));
  }
}
