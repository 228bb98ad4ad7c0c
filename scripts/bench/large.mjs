// Hosts and files of many megabytes, made and checked in passing: what a test holds of them is one buffer.
import http from 'node:http';
import { createHash } from 'node:crypto';

export const MB = 1024 * 1024;
export const sum = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** A PNG by its first bytes, and no two parts of it alike. */
export function picture(size) {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at + 4 <= size; at += 4) bytes.writeUInt32LE(Math.imul(at, 2654435761) >>> 0, at);
  Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]).copy(bytes);
  return bytes;
}

/** The file of a form, by its field; the forms of these tests have it last or first. */
function fileOf(bytes, field) {
  const head = bytes.indexOf(`name="${field}"; filename=`);
  const from = bytes.indexOf('\r\n\r\n', head) + 4;
  const boundary = bytes.subarray(0, bytes.indexOf('\r\n'));
  return bytes.subarray(from, bytes.indexOf(boundary, from) - 2);
}

/**
 * Hosts by the first part of the path. They answer pictures of `size` bytes in their families' shapes, and what was uploaded to
 * them as the sum of its bytes, after `delayMs`. `inFlight` counts uploads that are there in full and not answered.
 */
export async function startLargeHosts(size) {
  const png = picture(size);
  const base64 = png.toString('base64');
  const host = { png, base64, delayMs: 0, inFlight: 0, most: 0, asked: 0, broken: 0 };
  const write = async (response, pieces) => {
    for (const piece of pieces) {
      for (let at = 0; at < piece.length; at += MB) {
        if (response.destroyed) return;
        if (!response.write(piece.slice(at, at + MB))) await new Promise((resolve) => { response.once('drain', resolve).once('close', resolve); });
      }
    }
    response.end();
  };
  const server = http.createServer(async (request, response) => {
    response.setMaxListeners(0);
    const [, name, ...rest] = request.url.split('/');
    const path = rest.join('/');
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    host.asked += 1;
    const json = (pieces) => { response.writeHead(200, { 'content-type': 'application/json' }); return write(response, pieces); };
    if (name === 'broken') return response.writeHead(500, { 'content-type': 'application/json' }).end('{"error":{"message":"no"}}');
    if (path.endsWith('.png')) {
      response.writeHead(200, { 'content-type': 'image/png', 'content-length': png.length });
      return write(response, [png]);
    }
    if (path === 'audio/transcriptions') {
      host.inFlight += 1;
      host.most = Math.max(host.most, host.inFlight);
      await new Promise((resolve) => { setTimeout(resolve, host.delayMs); });
      host.inFlight -= 1;
      return json([JSON.stringify({ text: sum(fileOf(body, 'file')), duration: 1 })]);
    }
    if (name === 'cut') {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.write(`{"created":1,"data":[{"b64_json":"${base64.slice(0, 4 * MB)}`);
      return setTimeout(() => response.destroy(), 100);
    }
    if (name === 'openai') return json(['{"created":7,"data":[{"b64_json":"', base64, '","revised_prompt":"a \\"cat\\""}],"size":"4096x4096","usage":{"input_tokens":10,"output_tokens":400,"total_tokens":410}}']);
    if (name === 'gemini') return json(['{"candidates":[{"content":{"parts":[{"text":"Here."},{"inlineData":{"mimeType":"image/png","data":"', base64, '"}}]}}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":1290}}']);
    if (name === 'fal') return json([JSON.stringify({ images: [{ url: `${host.url}/files/a.png` }] })]);
    if (name === 'fireworks') {
      response.writeHead(200, { 'content-type': 'image/png', 'content-length': png.length });
      return write(response, [png]);
    }
    return response.writeHead(404).end();
  });
  server.on('clientError', () => {});
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  host.url = `http://127.0.0.1:${server.address().port}`;
  host.close = () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); });
  return host;
}

/** The catalog of these hosts: `{id: [families, model]}` by what they serve. */
export function largeCatalog(url) {
  const image = (id, families, model = id, more = {}) => ({ id: `large-${id}`, base_url: `${url}/${id}`, families, offers: [{ model: `large/${model}`, upstream: id === 'fal' ? 'fal-ai/x' : model, kind: 'image', prices: { output_images: '0.04' }, ...more }] });
  const seconds = (id, price) => ({ model: 'large/scribe', upstream: 'whisper', kind: 'transcription', prices: { input_audio_seconds: price } });
  const openai = image('openai', ['openai-chat']);
  openai.offers.push(seconds('openai', '0.001'));
  const providers = [
    openai, image('gemini', ['gemini']), image('fal', ['fal-run']), image('cut', ['openai-chat']), image('fireworks', ['fireworks-images']),
    { id: 'large-broken', base_url: `${url}/broken`, families: ['openai-chat'], offers: [seconds('broken', '0.0001')] },
  ];
  const models = ['openai', 'gemini', 'fal', 'cut', 'fireworks', 'scribe'].map((id) => ({ id: `large/${id}` }));
  return { models, providers };
}

/** A form with one large file, as bytes. */
export async function uploadOf(file, fields) {
  const form = new FormData();
  form.append('file', new Blob([file]), 'a.mp3');
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  const raw = new Response(form);
  return { headers: { 'content-type': raw.headers.get('content-type') }, body: Buffer.from(await raw.arrayBuffer()) };
}

/** What the bench sends: ten of a kind at once. */
export const LARGE = {
  atOnce: 10,
  picture: 20 * MB,
  kinds: {
    'uploads of 25 MB': async (_, seq) => {
      const file = Buffer.alloc(25 * MB, seq + 1);
      const upload = await uploadOf(file, { model: 'large/scribe', provider: JSON.stringify({ ignore: ['large-broken'] }) });
      return { route: 'audio/transcriptions', ...upload, isRight: (text) => text.includes(sum(file)) };
    },
    'pictures of 20 MB in JSON': async (hosts) => drawn('openai', {}, hosts),
    'pictures of 20 MB behind links, wanted in base64': async (hosts) => drawn('fal', { response_format: 'b64_json' }, hosts),
  },
};

const drawn = (model, more, hosts) => ({
  route: 'images/generations', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ model: `large/${model}`, prompt: 'a cat', ...more }),
  isRight: (text) => text.includes(`"b64_json":"${hosts.base64}"`) && JSON.parse(text).usage.cost > 0,
});
