// Jobs: videos and slow pictures at /v1/generations and /v1/videos, against hosts of each family's real shape.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { startGateway } from './support/harness.mjs';
import { FAMILIES, FILM, SECRETS, provider, startHosts } from './support/jobs.mjs';
import { Receiver } from './support/receiver.mjs';
import { eventually, sleep } from './support/wait.mjs';

const QUICK = { JOB_POLL_MS: 60, JOB_POLL_MAX_MS: 300, JOB_WATCHED_POLL_MS: 40, ALLOW_LOOPBACK: 1 };
const SECONDS = { openai: 4, veo: 8, vertex: 8, minimax: 6, xai: 6 };
let hosts, gateway, t, openai;

before(async () => {
  hosts = await startHosts();
  const film = (family, more = {}) => ({ model: `test/film-${family}`, prices: { output_video_seconds: '0.1' }, ...more });
  const picture = { model: 'test/film-bfl', prices: { output_images: '0.04' } };
  const rules = [{ when: { resolution: '1080p' }, prices: { output_video_seconds: '0.25' } }];
  gateway = await startGateway({
    providers: ['p1'], scenes: 3, vars: QUICK, secrets: SECRETS,
    extra: {
      models: [...FAMILIES.flatMap((family) => [{ id: `test/film-${family}` }, { id: `test/after-${family}` }]), { id: 'test/two' }, { id: 'test/frames' }],
      providers: [
        ...FAMILIES.map((family) => {
          const offer = family === 'bfl' ? picture : film(family, family === 'veo' ? { rules } : {});
          return provider(hosts.url, family, `host-${family}`, [offer, { ...offer, model: `test/after-${family}` }]);
        }),
        ...FAMILIES.map((family) => ({
          ...provider(hosts.url, 'luma', `closed-${family}`, []), base_url: 'http://127.0.0.1:9',
          offers: [{ upstream: 'film', kind: family === 'bfl' ? 'image' : 'video', ...(family === 'bfl' ? picture : film(family)), model: `test/after-${family}` }],
        })),
        provider(hosts.url, 'luma', 'first', [{ model: 'test/two', prices: { output_video_seconds: '0.1' } }]),
        provider(hosts.url, 'runway', 'second', [{ model: 'test/two', prices: { output_video_seconds: '0.2', input_images: '0.01' } }]),
        { ...provider(hosts.url, 'luma', 'closed', []), base_url: 'http://127.0.0.1:9', offers: [{ model: 'test/two', upstream: 'film', kind: 'video', prices: { output_video_seconds: '0.1' } }] },
      ],
    },
  });
  t = await gateway.scene({ model: 'test/two', at: [], dollars: '100' });
  openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: t.key, maxRetries: 0 });
});
after(async () => {
  await gateway?.stop();
  await hosts?.close();
});

const call = (method, route, body, { key = t.key, headers } = {}) => gateway.call(method, `/v1/${route}`, { key, body, headers });
const order = (model, input = {}, more = {}, options) => call('POST', 'generations', { model: `test/${model}`, input: { prompt: 'a cat', ...input }, ...more }, options);
const ended = async (id, options) => (await call('GET', `generations/${id}?wait=30`, undefined, options)).is(200).json;
/** The charge in job, row, ledger: one number. */
async function costs(id, nanos, { status = 200, ending = 'finished' } = {}) {
  const row = await t.row(id);
  assert.deepEqual([row.cost_nanos, row.status, row.ending], [nanos, status, ending], JSON.stringify(row));
  const entries = (await t.ledger()).entries.filter((entry) => entry.id === id);
  assert.equal(entries.length, 1, JSON.stringify(entries));
  assert.equal(0 - entries[0].nanos, nanos);
  return row;
}

describe('Each family', () => {
  for (const family of FAMILIES) {
    test(`${family}: ordered, waited for, fetched, charged once`, async () => {
      const first = (await order(`film-${family}`)).is(200).json;
      assert.equal(first.object, 'generation');
      assert.ok(['queued', 'running'].includes(first.status), JSON.stringify(first));
      const done = await ended(first.id);
      assert.equal(done.status, 'completed', JSON.stringify(done));
      assert.deepEqual([done.provider, done.model, done.output.media.length, done.output.media[0].type], [`host-${family}`, `test/film-${family}`, 1, family === 'bfl' ? 'image' : 'video']);
      const content = (await call('GET', done.output.media[0].content_url.split('/v1/')[1])).is(200);
      assert.ok(content.bytes.equals(FILM), `${content.bytes.length} bytes`);
      const direct = ['openai', 'veo', 'vertex'].includes(family) ? done.output.media[0].content_url : hosts.linksUrl;
      assert.ok(done.output.media[0].url.startsWith(direct), done.output.media[0].url);
      const nanos = family === 'bfl' ? 40_000_000 : (SECONDS[family] ?? 5) * 100_000_000;
      assert.equal(Math.round(done.usage.cost * 1e9), nanos);
      const row = await costs(first.id, nanos);
      assert.deepEqual([row.provider, row.attempts.length, row.held_nanos], [`host-${family}`, 1, nanos]);
      assert.equal(row.dialect, family === 'bfl' ? 'image' : 'video');
    });

    test(`${family}: after a host that cannot be reached; what is wrong is named`, async () => {
      const { id } = (await order(`after-${family}`, {}, { provider: { order: [`closed-${family}`] } })).is(200).json;
      assert.equal((await ended(id)).provider, `host-${family}`);
      const row = await costs(id, family === 'bfl' ? 40_000_000 : (SECONDS[family] ?? 5) * 100_000_000);
      assert.deepEqual(row.attempts.map(({ provider, code }) => [provider, code]), [[`closed-${family}`, 'provider_unavailable'], [`host-${family}`, undefined]]);
      assert.equal((await order(`film-${family}`, { prompt: '' })).fails('invalid_input').param, 'input.prompt');
    });

    test(`${family}: what the host cannot finish, or will not, costs nothing`, async () => {
      for (const [prompt, code] of [['fail', 'provider_error'], ['filtered', 'invalid_input']]) {
        const { id } = (await order(`film-${family}`, { prompt })).is(200).json;
        const done = await ended(id);
        assert.deepEqual([done.status, done.error?.code, done.output, done.usage], ['failed', code, null, null], prompt);
        await costs(id, 0, { status: code === 'invalid_input' ? 400 : 502, ending: 'upstream_failed' });
        (await call('GET', `generations/${id}/content`)).fails('not_found');
      }
    });
  }

  test('no credential went where films lie', () => assert.deepEqual(hosts.leaks, []));
});

test('webhooks are told of the end, once, without what was made of what', async () => {
  const receiver = await Receiver.start(() => 204);
  try {
    const hook = (await gateway.admin('POST', `/workspaces/${t.workspace}/webhooks`, { url: `${receiver.url}/ends`, events: ['generation.finished'] })).is(201).json;
    const made = (await order('film-luma', {}, { session_id: 'told', wait: 30 })).is(200).json;
    const failed = (await order('film-luma', { prompt: 'fail' })).is(200).json;
    const stopped = (await order('film-runway', { prompt: 'hang' })).is(200).json;
    (await call('DELETE', `generations/${stopped.id}`)).is(200);
    await eventually(() => receiver.of('/ends').length >= 3, () => JSON.stringify(receiver.of('/ends')), { ms: 20_000 });
    await sleep(1_000);
    const told = Object.fromEntries(receiver.of('/ends').map(({ body }) => [JSON.parse(body).data.generation, JSON.parse(body)]));
    assert.equal(receiver.of('/ends').length, 3);
    for (const [{ id }, status, code, cost] of [[made, 'completed', null, '0.5'], [failed, 'failed', 'provider_error', '0'], [stopped, 'cancelled', null, '0']]) {
      const { type, data } = told[id];
      assert.deepEqual([type, data.workspace, data.key, data.status, data.code, data.cost], ['generation.finished', t.workspace, t.keyId, status, code, cost]);
    }
    assert.equal(told[made.id].data.session, 'told');
    assert.ok(!receiver.of('/ends').some(({ body }) => body.includes('a cat')), 'no prompt');
    (await gateway.admin('DELETE', `/workspaces/${t.workspace}/webhooks/${hook.id}`)).is(200);
  } finally {
    await receiver.close();
  }
});

describe('Before a host has it', () => {
  test('the next one is asked, and what it costs there is what is charged', async () => {
    const { id } = (await order('two', {}, { provider: { order: ['closed', 'second'] } })).is(200).json;
    assert.equal((await ended(id)).provider, 'second');
    const row = await costs(id, 1_000_000_000);
    assert.deepEqual(row.attempts.map(({ provider, code }) => [provider, code]), [['closed', 'provider_unavailable'], ['second', undefined]]);
  });

  test('what everybody refuses is an error of the order', async () => {
    const only = { provider: { order: ['first', 'second'], only: ['first', 'second'] } };
    for (const [prompt, code, attempts] of [['refuse', 'invalid_input', 1], ['break', 'provider_error', 2], ['busy', 'provider_busy', 2]]) {
      const reply = await order('two', { prompt }, only);
      const error = reply.fails(code, prompt === 'busy' ? { retryAfter: [7, 7] } : {});
      assert.equal(error.details.attempts.length, attempts);
      await costs(reply.id, 0, { status: reply.status, ending: 'attempts_failed' });
      assert.equal((await ended(reply.id)).status, 'failed');
    }
  });

  test('what is wrong is named, at both fronts', async () => {
    for (const [input, param] of [[{ prompt: '' }, 'input.prompt'], [{ duration: 99 }, 'input.duration'], [{ aspect_ratio: 'x' }, 'input.aspect_ratio'], [{ seed: 'x' }, 'input.seed'], [{ image: 'ftp://x' }, 'input.reference_images'], [{ duration: 15, resolution: '4k' }, 'input.duration']]) {
      assert.equal((await order('film-veo', input)).fails('invalid_input').param, param, JSON.stringify(input));
    }
    assert.equal((await call('POST', 'generations', { model: 'test/two' })).fails('invalid_input').param, 'input');
    assert.equal((await order('two', {}, { wait: 61 })).fails('invalid_input').param, 'wait');
    assert.equal((await call('POST', 'videos', { model: 'test/film-openai', prompt: 'x', seconds: '5' })).fails('invalid_input').param, 'seconds');
    assert.equal((await call('POST', 'videos', { model: 'test/film-openai', prompt: 'x', size: '100x100' })).fails('invalid_input').param, 'size');
    assert.equal((await call('POST', 'videos', { prompt: '' })).fails('invalid_input').param, 'prompt');
    (await call('POST', 'videos', { model: 'no/such', prompt: 'x' })).fails('model_not_found');
    (await call('POST', 'videos', { model: 'test/film-bfl', prompt: 'x' })).fails('no_eligible_provider');
    (await order('two', {}, {}, { headers: { 'content-type': 'text/html' } })).fails('unsupported_media_type');
    const odd = (await order('film-luma', { style: 'noir' })).is(200);
    assert.equal(odd.headers['x-gateway-warning'], 'dropped: input.style');
    assert.equal((await ended(odd.json.id)).status, 'completed');
  });

  test('credits and limits as on every paid route', async () => {
    const before = hosts.submits;
    const poor = await gateway.newKey(await gateway.newWorkspace({ dollars: '0.1' }));
    (await order('film-luma', {}, {}, { key: poor.key })).fails('insufficient_credits');
    const slow = await gateway.newKey(await gateway.newWorkspace({ dollars: '10', limits: { requests_per_minute: 1 } }));
    assert.equal(hosts.submits, before);
    (await order('film-luma', {}, {}, { key: slow.key })).is(200);
    (await order('film-luma', {}, {}, { key: slow.key })).fails('rate_limited');
    (await gateway.call('POST', '/v1/generations', { body: { model: 'test/two', input: { prompt: 'x' } } })).fails('unauthenticated');
  });
});

describe('A job under way', () => {
  test('resolution and length set the price, and the hold lives as long as the job', async () => {
    const { id } = (await order('film-veo', { prompt: 'hang', duration: 4, resolution: '1080p' }, { n: 2 })).is(200).json;
    assert.equal((await t.credits()).held_nanos, 2 * 4 * 250_000_000);
    const sent = hosts.jobs.at(-1).body;
    assert.deepEqual(sent.parameters, { aspectRatio: '16:9', durationSeconds: 4, resolution: '1080p', sampleCount: 2 });
    assert.ok(!sent.instances[0].image);
    (await call('DELETE', `generations/${id}`)).is(200);
    await t.settled();
  });

  test('it is cancelled at its host, and costs nothing', async () => {
    const { id } = (await order('film-runway', { prompt: 'hang' })).is(200).json;
    const upstream = hosts.jobs.at(-1).id;
    const cancelled = (await call('DELETE', `generations/${id}`)).is(200).json;
    assert.deepEqual([cancelled.status, cancelled.error.code], ['cancelled', 'cancelled']);
    await eventually(() => hosts.cancels.includes(upstream), 'the host is asked to stop');
    await costs(id, 0, { status: 499, ending: 'cancelled' });
    assert.equal((await ended(id)).status, 'cancelled');
    assert.deepEqual((await call('DELETE', `generations/${id}`)).is(200).json, { id, object: 'generation.deleted', deleted: true });
    (await call('GET', `generations/${id}`)).fails('not_found');
    assert.equal((await t.row(id)).ending, 'cancelled', 'its row stays');
  });

  test('a host that does not answer for a while is asked again', async () => {
    const { id } = (await order('film-luma')).is(200).json;
    hosts.jobs.at(-1).breaks = 2;
    assert.equal((await ended(id)).status, 'completed');
  });

  test('who waits sees the end at once; the answer to an order may wait too', async () => {
    hosts.takesMs = 1500;
    const began = performance.now();
    const { id } = (await order('film-ark')).is(200).json;
    assert.ok(performance.now() - began < 1000);
    const job = hosts.jobs.at(-1);
    const done = await ended(id);
    const late = performance.now() - job.at - 1500;
    assert.equal(done.status, 'completed');
    assert.ok(late < 1000, `${late} ms after the end`);
    const whole = (await order('film-ark', {}, { wait: 30 })).is(200);
    assert.deepEqual([whole.json.status, whole.headers['x-gateway-cost']], ['completed', '0.5']);
    const part = (await order('film-ark', { prompt: 'hang' }, { wait: 1 })).is(200).json;
    assert.ok(['queued', 'running'].includes(part.status));
    hosts.takesMs = undefined;
  });

  test('several of a host that makes one at a time', async () => {
    const { id } = (await order('film-luma', {}, { n: 3 })).is(200).json;
    const done = await ended(id);
    assert.deepEqual([done.status, done.output.media.map(({ index }) => index)], ['completed', [0, 1, 2]]);
    await costs(id, 1_500_000_000);
    (await call('GET', `generations/${id}/content?index=2`)).is(200);
    assert.equal((await call('GET', `generations/${id}/content?index=3`)).fails('not_found').param, 'index');
  });

  test('images: inline where the host wants bytes, as links elsewhere', async () => {
    const { id } = (await order('film-veo', { image: `${hosts.linksUrl}/image.png` })).is(200).json;
    assert.deepEqual(hosts.jobs.at(-1).body.instances[0].image, { bytesBase64Encoded: Buffer.from('PNG').toString('base64'), mimeType: 'image/png' });
    assert.equal((await ended(id)).status, 'completed');
    (await order('film-veo', { image: `${hosts.linksUrl}/page` })).fails('invalid_input');
    (await order('film-luma', { image: `${hosts.linksUrl}/image.png` })).is(200);
    assert.equal(hosts.jobs.at(-1).body.keyframes.frame0.url, `${hosts.linksUrl}/image.png`);
  });

  test('nobody else sees it', async () => {
    const { id } = (await order('film-luma')).is(200).json;
    const { key } = await gateway.newKey(await gateway.newWorkspace());
    for (const [method, route] of [['GET', `generations/${id}`], ['DELETE', `generations/${id}`], ['GET', `generations/${id}/content`], ['GET', `videos/${id}`], ['DELETE', `videos/${id}`], ['GET', `videos/${id}/content`]]) {
      (await call(method, route, undefined, { key })).fails('not_found');
    }
    assert.deepEqual((await call('GET', 'videos', undefined, { key })).is(200).json.data, []);
    assert.equal((await ended(id)).status, 'completed');
    (await call('GET', 'generations/gen_00000000000000000000000000')).fails('not_found');
    assert.equal((await call('GET', `generations/${id}?wait=x`)).fails('invalid_input').param, 'wait');
    const row = (await call('GET', `generations?id=${id}`)).is(200).json;
    assert.equal(row.id, id, 'the row by the old path');
  });

  test('the same Idempotency-Key is one job', async () => {
    const headers = { 'idempotency-key': 'film-1' };
    const first = (await order('film-luma', {}, {}, { headers })).is(200).json;
    const before = hosts.submits;
    const second = (await order('film-luma', {}, {}, { headers })).is(200);
    assert.deepEqual([second.json.id, second.headers['x-gateway-idempotent-replay'], hosts.submits], [first.id, 'true', before]);
  });

  for (const [when, wait] of [['while a host takes it', 0], ['while it waits for the end', 20]]) {
    test(`a client that lost its connection ${when} finds the same job with its key`, async () => {
      const headers = { 'idempotency-key': `film-lost-${wait}` };
      const before = hosts.submits;
      if (wait === 0) hosts.beforeAnswer = () => sleep(600);
      else hosts.takesMs = 2500;
      try {
        const lost = gateway.open('POST', '/v1/generations', { key: t.key, headers, body: { model: 'test/film-luma', input: { prompt: 'a cat' }, wait } });
        await eventually(() => hosts.submits === before + 1, 'the host has the order');
        await sleep(wait === 0 ? 100 : 800);
        lost.leave();
        const again = (await order('film-luma', {}, { wait }, { headers })).is(200);
        assert.equal(again.headers['x-gateway-idempotent-replay'], 'true');
        assert.equal((await ended(again.json.id)).status, 'completed');
        assert.equal(hosts.submits, before + 1, 'one order');
        await costs(again.json.id, 500_000_000);
      } finally {
        Object.assign(hosts, { beforeAnswer: undefined, takesMs: undefined });
      }
    });
  }

  test('own keys: asked with theirs, paid by them', async () => {
    const workspace = await gateway.newWorkspace({ dollars: '0' });
    const { key } = await gateway.newKey(workspace);
    const made = await gateway.admin('POST', `/workspaces/${workspace}/byok/host-luma`, { key: SECRETS.TEST_HOST_KEY });
    assert.ok([200, 201].includes(made.status), made.text);
    const { id } = (await order('film-luma', {}, {}, { key })).is(200).json;
    const done = await ended(id, { key });
    assert.deepEqual([done.status, done.usage.cost], ['completed', 0]);
    const record = JSON.stringify(await gateway.d1('SELECT * FROM jobs WHERE id = ?', id));
    assert.ok(!record.includes('a cat') && !record.includes(hosts.linksUrl), 'neither prompt nor output is in the list');
  });
});

test('the official SDK: create, retrieve, poll, download, list, delete', async () => {
  const input_reference = await toFile(Buffer.from('PNG'), 'a.png', { type: 'image/png' });
  let video = await openai.videos.create({ model: 'test/film-openai', prompt: 'a cat', seconds: '8', size: '1280x720', input_reference });
  assert.deepEqual([video.object, video.seconds, video.size, video.model], ['video', '8', '1280x720', 'test/film-openai']);
  const sent = hosts.jobs.at(-1).body;
  assert.deepEqual([sent.model, sent.seconds, sent.size, sent.input_reference.toString()], ['film', '8', '1280x720', 'PNG']);
  await eventually(async () => {
    video = await openai.videos.retrieve(video.id);
    return video.status === 'completed' || video.status === 'failed';
  }, 'the video is there', { ms: 10_000, pause: 100 });
  assert.deepEqual([video.status, video.progress], ['completed', 100]);
  const content = await openai.videos.downloadContent(video.id);
  assert.equal(content.headers.get('content-type'), 'video/mp4');
  assert.ok(Buffer.from(await content.arrayBuffer()).equals(FILM));
  await costs(video.id, 800_000_000);
  const plain = await openai.videos.create({ model: 'test/film-openai', prompt: 'hang' });
  const listed = [];
  for await (const one of await openai.videos.list({ limit: 2 })) if (listed.push(one) === 3) break;
  assert.deepEqual(listed.slice(0, 2).map(({ id }) => id), [plain.id, video.id]);
  assert.equal(listed[1].status, 'completed');
  assert.equal((await openai.videos.list({ order: 'asc', limit: 1 })).data.length, 1);
  assert.deepEqual(await openai.videos.delete(plain.id), { id: plain.id, object: 'video.deleted', deleted: true });
  await eventually(() => hosts.cancels.length > 0 && hosts.jobs.at(-1).cancelled, 'it is cancelled at the host');
  await assert.rejects(openai.videos.retrieve(plain.id), (error) => error instanceof OpenAI.NotFoundError);
  await assert.rejects(openai.videos.create({ model: 'test/film-openai', prompt: 'refuse' }), (error) => error instanceof OpenAI.BadRequestError);
  await assert.rejects(openai.videos.downloadContent(video.id, { variant: 'thumbnail' }), (error) => error.code === 'unsupported_parameter');
  await sleep(50);
  await eventually(async () => (await openai.videos.list({ limit: 1 })).data[0]?.id !== plain.id, 'the deleted one is in no list');
});

test('a job expires: its hold is free, and nothing is charged', async () => {
  const other = await startGateway({ providers: ['p1'], scenes: 1, vars: { ...QUICK, JOB_LIFE_MS: 700, JOB_KEEP_MS: 500 }, secrets: SECRETS, extra: { models: [{ id: 'test/film' }], providers: [provider(hosts.url, 'luma', 'short', [{ model: 'test/film', prices: { output_video_seconds: '0.1' } }])] } });
  try {
    const scene = await other.scene({ model: 'test/film', at: [] });
    const reply = await other.call('POST', '/v1/generations', { key: scene.key, body: { model: 'test/film', input: { prompt: 'hang' }, wait: 10 } });
    assert.deepEqual([reply.is(200).json.status, reply.json.error.code], ['expired', 'expired']);
    const row = await scene.row(reply.id);
    assert.deepEqual([row.ending, row.cost_nanos, row.status], ['expired', 0, 504]);
    await scene.settled();
    await eventually(async () => (await other.call('GET', `/v1/generations/${reply.id}`, { key: scene.key })).status === 404, 'its record goes');
    assert.deepEqual(await other.d1('SELECT id FROM jobs'), []);
  } finally {
    await other.stop();
  }
});

describe('A workspace that keeps prompts', () => {
  test('an order is kept with its answer, and under zero retention it is not', async () => {
    const keeper = await gateway.scene({ model: 'test/two', at: [], dollars: '100' });
    (await gateway.admin('PATCH', `/workspaces/${keeper.workspace}/settings`, { prompt_logging: { enabled: true } })).is(200);
    const ordered = (await order('two', { prompt: 'a cat on the moon' }, {}, { key: keeper.key })).is(200);
    assert.equal(ordered.headers['x-gateway-prompt-logging'], 'on');
    const read = () => gateway.admin('GET', `/workspaces/${keeper.workspace}/prompts/${ordered.id}`);
    const { request, answer } = await eventually(async () => {
      const reply = await read();
      return reply.status === 200 && reply.json;
    }, 'the order is kept');
    assert.equal(JSON.parse(request.text).input.prompt, 'a cat on the moon');
    assert.deepEqual([answer.status, JSON.parse(answer.text).id], [200, ordered.json.id]);
    const secret = await order('two', { prompt: 'a cat on the moon' }, { provider: { zdr: true } }, { key: keeper.key });
    assert.equal(secret.headers['x-gateway-prompt-logging'], 'on', 'nobody could serve it: what is told is the setting');
    assert.equal((await gateway.d1('SELECT id FROM prompts')).length, 1);
    (await gateway.admin('PUT', `/workspaces/${keeper.workspace}/presets/nobody`, { narrowing: { allow_providers: ['p1'] } })).is(201);
    (await order('two', {}, { preset: 'nobody' }, { key: keeper.key })).fails('no_eligible_provider');
    (await order('two', {}, { preset: 'none' }, { key: keeper.key })).fails('not_found', { param: 'preset' });
  });
});
