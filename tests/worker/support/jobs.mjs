// Hosts of jobs on loopback, each in its family's real shape: a job is queued, then at work, then done, one step a question,
// or done at a moment that the test names. What is said in the prompt decides how it goes: "refuse" (400), "break" (500), "busy"
// (429), "filtered" (the host takes it and refuses later), "fail" (breaks later), "hang" (never ends).
import http from 'node:http';

export const KEY = 'secret-of-the-gateway-at-hosts';
export const FILM = Buffer.from(Array.from({ length: 70_000 }, (_, i) => (i * 7) % 251));
const WORDS = ['refuse', 'break', 'busy', 'filtered', 'fail', 'hang'];
/** `[method, pattern of the path]` → what the host does; `of` is the job. */
const CANARY = 'canary-of-the-provider';

const pick = (state, words) => words[state];
const shapes = {
  openai: {
    auth: 'authorization', value: `Bearer ${KEY}`, submit: /^POST \/videos$/, poll: /^GET \/videos\/(\w+)$/, cancel: /^DELETE \/videos\/(\w+)$/, own: /^GET \/videos\/(\w+)\/content$/,
    started: (id) => ({ id, object: 'video', status: 'queued', progress: 0, model: 'film', seconds: '4', size: '720x1280' }),
    state: (job, state) => ({ id: job.id, object: 'video', status: pick(state, { queued: 'queued', running: 'in_progress', done: 'completed', failed: 'failed' }), progress: 50, error: state === 'failed' ? { code: job.how === 'filtered' ? 'moderation_blocked' : 'server_error', message: CANARY } : null }),
  },
  veo: {
    auth: 'x-goog-api-key', value: KEY, submit: /^POST \/models\/film:predictLongRunning$/, poll: /^GET \/models\/film\/operations\/(\w+)$/, own: /^GET \/files\/(\w+):download\?alt=media$/,
    started: (id) => ({ name: `models/film/operations/${id}` }),
    state: (job, state, url) => ({ name: `models/film/operations/${job.id}`, ...(state === 'done' ? { done: true, response: { generateVideoResponse: { generatedSamples: [{ video: { uri: `${url}/files/${job.id}:download?alt=media` } }] } } } : state === 'failed' ? (job.how === 'filtered' ? { done: true, response: { generateVideoResponse: { raiMediaFilteredCount: 1, raiMediaFilteredReasons: [CANARY] } } } : { done: true, error: { code: 13, message: CANARY } }) : {}) }),
  },
  vertex: {
    auth: 'authorization', value: `Bearer ${KEY}`, submit: /^POST \/publishers\/google\/models\/film:predictLongRunning$/, poll: /^POST \/publishers\/google\/models\/film:fetchPredictOperation$/,
    started: (id) => ({ name: `projects/p/operations/${id}` }), id: (body) => body.operationName.split('/').at(-1),
    state: (job, state) => ({ name: 'x', ...(state === 'done' ? { done: true, response: { videos: [{ bytesBase64Encoded: FILM.toString('base64'), mimeType: 'video/mp4' }] } } : state === 'failed' ? { done: true, ...(job.how === 'filtered' ? { response: { raiMediaFilteredCount: 1 } } : { error: { code: 13, message: CANARY } }) } : {}) }),
  },
  replicate: {
    auth: 'authorization', value: `Bearer ${KEY}`, submit: /^POST \/models\/own\/film\/predictions$/, poll: /^GET \/predictions\/(\w+)$/, cancel: /^POST \/predictions\/(\w+)\/cancel$/,
    started: (id, url) => ({ id, status: 'starting', urls: { get: `${url}/predictions/${id}`, cancel: `${url}/predictions/${id}/cancel` } }), status: 201,
    state: (job, state) => ({ id: job.id, status: pick(state, { queued: 'starting', running: 'processing', done: 'succeeded', failed: 'failed' }), output: state === 'done' ? job.link : null, error: state === 'failed' ? (job.how === 'filtered' ? 'NSFW content' : CANARY) : null, metrics: { predict_time: 12.3 } }),
  },
  fal: {
    auth: 'authorization', value: `Key ${KEY}`, submit: /^POST \/fal-ai\/film\/text-to-video$/, poll: /^GET \/fal-ai\/film\/requests\/(\w+)\/status$/, result: /^GET \/fal-ai\/film\/requests\/(\w+)$/, cancel: /^PUT \/fal-ai\/film\/requests\/(\w+)\/cancel$/,
    started: (id, url) => ({ request_id: id, status: 'IN_QUEUE', queue_position: 0, status_url: `${url}/fal-ai/film/requests/${id}/status`, response_url: `${url}/fal-ai/film/requests/${id}`, cancel_url: `${url}/fal-ai/film/requests/${id}/cancel` }),
    state: (job, state) => ({ status: pick(state, { queued: 'IN_QUEUE', running: 'IN_PROGRESS', done: 'COMPLETED', failed: 'COMPLETED' }), ...(state === 'queued' ? { queue_position: 1 } : {}) }), stateStatus: (state) => (state === 'done' || state === 'failed' ? 200 : 202),
    resultOf: (job, state) => (state === 'failed' ? [job.how === 'filtered' ? 422 : 500, { detail: [{ msg: CANARY, type: 'content_policy_violation' }] }] : [200, { video: { url: job.link, content_type: 'video/mp4' } }]),
  },
  minimax: {
    auth: 'authorization', value: `Bearer ${KEY}`, submit: /^POST \/v2\/video_generation$/, poll: /^GET \/v2\/query\/video_generation\/(\w+)$/,
    started: (id) => ({ task_id: id, base_resp: { status_code: 0, status_msg: 'success' } }),
    state: (job, state) => ({ task: { id: job.id, status: pick(state, { queued: 'queued', running: 'running', done: 'succeeded', failed: 'failed' }), content: { url: job.link }, usage: { output_seconds: 6 }, error: state === 'failed' ? { code: job.how === 'filtered' ? 'sensitive' : 'x', message: CANARY } : null }, base_resp: { status_code: 0 } }),
  },
  luma: {
    auth: 'authorization', value: `Bearer ${KEY}`, submit: /^POST \/generations$/, poll: /^GET \/generations\/(\w+)$/, cancel: /^DELETE \/generations\/(\w+)$/, status: 201,
    started: (id) => ({ id, state: 'queued', generation_type: 'video' }),
    state: (job, state) => ({ id: job.id, state: pick(state, { queued: 'queued', running: 'dreaming', done: 'completed', failed: 'failed' }), assets: state === 'done' ? { video: job.link } : null, failure_reason: state === 'failed' ? (job.how === 'filtered' ? 'content moderation' : CANARY) : null }),
  },
  runway: {
    auth: 'authorization', value: `Bearer ${KEY}`, submit: /^POST \/text_to_video$/, poll: /^GET \/tasks\/(\w+)$/, cancel: /^DELETE \/tasks\/(\w+)$/,
    started: (id) => ({ id, estimatedCost: { credits: 25 } }),
    state: (job, state) => ({ id: job.id, status: pick(state, { queued: 'PENDING', running: 'RUNNING', done: 'SUCCEEDED', failed: 'FAILED' }), progress: 0.5, output: state === 'done' ? [job.link] : undefined, failureCode: state === 'failed' ? (job.how === 'filtered' ? 'SAFETY.OUTPUT.VIDEO' : 'INTERNAL') : undefined }),
  },
  kling: {
    auth: 'authorization', value: /^Bearer eyJ[\w-]+\.[\w-]+\.[\w-]+$/, submit: /^POST \/videos\/text2video$/, poll: /^GET \/videos\/text2video\/(\w+)$/,
    started: (id) => ({ code: 0, message: 'SUCCEED', data: { task_id: id, task_status: 'submitted' } }),
    state: (job, state) => ({ code: 0, data: { task_id: job.id, task_status: pick(state, { queued: 'submitted', running: 'processing', done: 'succeed', failed: 'failed' }), task_status_msg: job.how === 'filtered' ? 'risk control' : CANARY, task_result: { videos: [{ id: 'v', url: job.link, duration: '5.0' }] } } }),
  },
  ark: {
    auth: 'authorization', value: `Bearer ${KEY}`, submit: /^POST \/contents\/generations\/tasks$/, poll: /^GET \/contents\/generations\/tasks\/(\w+)$/, cancel: /^DELETE \/contents\/generations\/tasks\/(\w+)$/,
    started: (id) => ({ id }),
    state: (job, state) => ({ id: job.id, model: 'film', status: pick(state, { queued: 'queued', running: 'running', done: 'succeeded', failed: 'failed' }), content: { video_url: job.link }, usage: { completion_tokens: 100 }, duration: job.body.duration, error: state === 'failed' ? { code: job.how === 'filtered' ? 'OutputVideoSensitiveContentDetected' : 'InternalError', message: CANARY } : null }),
  },
  xai: {
    auth: 'authorization', value: `Bearer ${KEY}`, submit: /^POST \/videos\/generations$/, poll: /^GET \/videos\/(\w+)$/,
    started: (id) => ({ request_id: id }), stateStatus: (state) => (state === 'done' || state === 'failed' ? 200 : 202),
    state: (job, state) => (state === 'done' ? { status: 'done', video: { url: job.link, duration: job.body.duration, respect_moderation: true } } : state === 'failed' ? (job.how === 'filtered' ? { status: 'done', video: { url: '', respect_moderation: false } } : { status: 'failed', error: { code: 'x', message: CANARY } }) : { status: 'pending' }),
  },
  dashscope: {
    auth: 'authorization', value: `Bearer ${KEY}`, submit: /^POST \/services\/aigc\/video-generation\/video-synthesis$/, poll: /^GET \/tasks\/(\w+)$/, cancel: /^POST \/tasks\/(\w+)\/cancel$/,
    started: (id, url, headers) => (headers['x-dashscope-async'] === 'enable' ? { output: { task_id: id, task_status: 'PENDING' }, request_id: 'r' } : { code: 'AccessDenied', message: CANARY }),
    state: (job, state) => ({ output: { task_id: job.id, task_status: pick(state, { queued: 'PENDING', running: 'RUNNING', done: 'SUCCEEDED', failed: 'FAILED' }), video_url: state === 'done' ? job.link : undefined, code: state === 'failed' ? (job.how === 'filtered' ? 'DataInspectionFailed' : 'InternalError') : undefined }, usage: { video_duration: job.body.parameters.duration, video_count: 1 } }),
  },
  bfl: {
    auth: 'x-key', value: KEY, submit: /^POST \/film$/, poll: /^GET \/get_result\?id=(\w+)$/,
    started: (id, url) => ({ id, polling_url: `${url}/get_result?id=${id}` }),
    state: (job, state) => ({ id: job.id, status: pick(state, { queued: 'Pending', running: 'Pending', done: 'Ready', failed: job.how === 'filtered' ? 'Content Moderated' : 'Error' }), result: state === 'done' ? { sample: job.link } : null }),
  },
};
export const FAMILIES = Object.keys(shapes);
const PROVIDERS = {
  openai: { families: ['openai-videos'] }, veo: { families: ['gemini'], auth: { header: 'x-goog-api-key', prefix: '' } }, vertex: { families: ['vertex-gemini'] },
  replicate: { families: ['replicate'] }, fal: { families: ['fal-queue'], auth: { header: 'Authorization', prefix: 'Key ' } }, minimax: { families: ['minimax-video'] }, luma: { families: ['luma'] },
  runway: { families: ['runway'] }, kling: { families: ['kling'], auth: { scheme: 'hmac_jwt', header: 'Authorization', prefix: 'Bearer ' }, variables: { secret_key: { env: 'TEST_HOST_SECRET' } } },
  ark: { families: ['ark-video'] }, xai: { families: ['xai-video'] }, dashscope: { families: ['dashscope-video'] }, bfl: { families: ['bfl'], auth: { header: 'x-key', prefix: '' } },
};
const UPSTREAMS = { replicate: 'own/film', fal: 'fal-ai/film/text-to-video', minimax: 'MiniMax-H3' };
export const SECRETS = { TEST_HOST_KEY: KEY, TEST_HOST_SECRET: `hmac-${KEY}` };

/** The catalog's provider of a family at that URL. `id`: of the path too, so that a family may be there twice. */
export const provider = (url, family, id, offers) => ({
  id, base_url: `${url}/${family}/${id}`, key_env: 'TEST_HOST_KEY', ...PROVIDERS[family],
  offers: offers.map((offer) => ({ upstream: UPSTREAMS[family] ?? 'film', kind: family === 'bfl' ? 'image' : 'video', ...offer })),
});

/** All hosts, and beside them the place where films lie, which is somebody else's. */
export async function startHosts() {
  const jobs = [];
  const leaks = [];
  const links = http.createServer((request, response) => {
    for (const name of ['authorization', 'x-goog-api-key', 'x-key']) if (request.headers[name]) leaks.push(`${name} at ${request.url}`);
    if (request.url.startsWith('/image')) return response.writeHead(200, { 'content-type': 'image/png' }).end('PNG');
    if (request.url.startsWith('/page')) return response.writeHead(200, { 'content-type': 'text/html' }).end('<script>');
    response.writeHead(200, { 'content-type': 'video/mp4', 'content-length': FILM.length }).end(FILM);
  });
  await new Promise((resolve) => links.listen(0, '127.0.0.1', resolve));
  const linksUrl = `http://127.0.0.1:${links.address().port}`;
  const hosts = { jobs, leaks, linksUrl, submits: 0, cancels: [], takesMs: undefined, doneAt: undefined, beforeAnswer: undefined };
  let url;
  const stateOf = (job) => {
    if (job.cancelled) return 'failed';
    job.polls += 1;
    const isOver = job.takesMs === undefined ? job.polls > 2 : performance.now() - job.at >= job.takesMs;
    if (job.how === 'hang' || !isOver) return job.polls > 1 ? 'running' : 'queued';
    return job.how === 'fail' || job.how === 'filtered' ? 'failed' : 'done';
  };
  const server = http.createServer(async (request, response) => {
    const chunks = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return; // whoever asked is gone, or was killed
    }
    const bytes = Buffer.concat(chunks);
    const [, family, provider, ...rest] = request.url.split('/');
    const shape = shapes[family];
    const line = `${request.method} /${rest.join('/')}`;
    const own = `${url}/${family}/${provider}`;
    const answer = (value, status = 200, headers = {}) => response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
    const given = request.headers[shape.auth];
    if (!given || !(shape.value instanceof RegExp ? shape.value.test(given) : shape.value === given)) return answer({ error: { message: `${CANARY} no key` } }, 401);
    const isForm = request.headers['content-type']?.startsWith('multipart/');
    let body = {};
    if (isForm) {
      const form = await new Response(bytes, { headers: { 'content-type': request.headers['content-type'] } }).formData();
      for (const [name, value] of form) body[name] = typeof value === 'string' ? value : Buffer.from(await value.arrayBuffer());
    } else if (bytes.length > 0) body = JSON.parse(bytes);
    const find = (pattern) => {
      const found = pattern?.exec(line);
      const id = found && (found[1] ?? shape.id(body));
      return found && (jobs.find((job) => job.id === id && job.family === family) ?? 'unknown');
    };
    if (shape.submit.test(line)) {
      hosts.submits += 1;
      const how = WORDS.find((word) => JSON.stringify(body).includes(word));
      const refusals = { refuse: [400, 'invalid_request_error'], break: [500, 'server_error'], busy: [429, 'rate_limit_error'] };
      if (refusals[how]) return answer({ error: { message: `${CANARY} ${how}`, type: refusals[how][1] } }, refusals[how][0], how === 'busy' ? { 'retry-after': '7' } : {});
      const id = `job${jobs.length + 1}`;
      const job = { id, family, provider, how, body, polls: 0, at: performance.now(), takesMs: hosts.takesMs, link: `${linksUrl}/${id}.mp4`, headers: request.headers };
      jobs.push(job);
      if (hosts.beforeAnswer) await hosts.beforeAnswer(job);
      return answer(shape.started(id, own, request.headers), shape.status ?? 200);
    }
    const cancelled = find(shape.cancel);
    if (cancelled) {
      hosts.cancels.push(cancelled.id);
      cancelled.cancelled = true;
      return answer({});
    }
    const content = find(shape.own);
    if (content) return family === 'veo' ? response.writeHead(302, { location: `${linksUrl}/${content.id}.mp4` }).end() : response.writeHead(200, { 'content-type': 'video/mp4' }).end(FILM);
    const polled = find(shape.poll);
    if (polled === 'unknown') return answer({ error: { message: CANARY } }, 404);
    if (polled) {
      if (polled.breaks > 0) return (polled.breaks -= 1), answer({ error: { message: CANARY } }, 503);
      polled.state = stateOf(polled);
      return answer(shape.state(polled, polled.state, own), shape.stateStatus?.(polled.state) ?? 200);
    }
    const result = find(shape.result);
    if (result) {
      const [status, value] = shape.resultOf(result, result.state);
      return answer(value, status);
    }
    answer({ error: { message: `no ${line}` } }, 404);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${server.address().port}`;
  const close = (one) => new Promise((resolve) => { one.closeAllConnections(); one.close(resolve); });
  return Object.assign(hosts, { url, close: () => Promise.all([close(server), close(links)]) });
}
