// Presets and routing settings, set by the admin's endpoints and seen in requests of every dialect.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { startGateway } from './support/harness.mjs';
import { startFamilies } from './support/families.mjs';

let gateway, families;

describe('Presets and settings', { timeout: 60_000 }, () => {
  before(async () => {
    families = await startFamilies();
    const offer = (model, prices) => ({ model, upstream: 'up', prices, context: 32768, max_output: 4096 });
    gateway = await startGateway({ extra: {
      models: [{ id: 'test/claude' }, { id: 'test/beta' }],
      offers: { p1: [{ model: 'test/beta', upstream: 'beta', prices: { input_tokens: '1', output_tokens: '1' }, channel: 'beta' }] },
      providers: [{ id: 'claude', base_url: `${families.url}/anthropic-messages`, families: ['anthropic-messages'], offers: [offer('test/claude', { input_tokens: '1', output_tokens: '1' })] }],
    } });
  });
  after(async () => {
    await gateway?.stop();
    await families?.close();
  });

  const put = (t, slug, preset) => gateway.admin('PUT', `/workspaces/${t.workspace}/presets/${slug}`, preset);
  const settings = (t, body) => gateway.admin('PATCH', `/workspaces/${t.workspace}/settings`, body);

  test('a system prompt and defaults act in chat, responses and messages, plain and streamed', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    (await put(t, 'kind', { model: t.model, system: 'Be kind.', parameters: { temperature: 0.25, max_tokens: 64 } })).is(201);
    const openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: t.key, maxRetries: 0 });
    const anthropic = new Anthropic({ baseURL: gateway.url, apiKey: t.key, maxRetries: 0 });
    const provider = { only: ['p1'] };
    const user = { role: 'user', content: 'hi' };
    for (const stream of [false, true]) {
      const read = async (answer) => { if (stream) for await (const _ of await answer); else await answer; };
      await read(openai.chat.completions.create({ model: '@kind', messages: [user], stream, provider }));
      let { body } = t.p1.requests.at(-1);
      assert.deepEqual([body.messages[0], body.messages[1], body.temperature, body.model, body.max_tokens], [{ role: 'system', content: 'Be kind.' }, user, 0.25, t.name, 64]);
      await read(openai.responses.create({ model: `${t.model}@kind`, input: 'hi', instructions: 'Be brief.', temperature: 1, stream, provider }));
      ({ body } = t.p1.requests.at(-1));
      assert.ok(JSON.stringify(body.messages).includes('Be kind.\\n\\nBe brief.') && body.temperature === 1, JSON.stringify(body));
      assert.equal(body.max_completion_tokens ?? body.max_tokens, 64);
      await read(anthropic.messages.create({ model: 'test/claude@kind', max_tokens: 9, system: 'Be brief.', messages: [user], stream }));
      ({ body } = families.asked.get('anthropic-messages'));
      assert.deepEqual([body.system, body.max_tokens, body.temperature, body.model], ['Be kind.\n\nBe brief.', 9, 0.25, 'up']);
    }
  });

  test('versions never change, can be rolled back, and a preset can be deleted', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const told = async () => {
      (await t.chat({ model: `${t.model}@v` })).is(200);
      return t.p1.requests.at(-1).body.messages[0].content;
    };
    assert.equal((await put(t, 'v', { system: 'one' })).is(201).json.version, 1);
    assert.equal(await told(), 'one');
    assert.equal((await put(t, 'v', { system: 'two' })).is(201).json.version, 2);
    assert.equal(await told(), 'two');
    (await gateway.admin('PATCH', `/workspaces/${t.workspace}/presets/v`, { version: 1 })).is(200);
    assert.equal(await told(), 'one');
    const all = (await gateway.admin('GET', `/workspaces/${t.workspace}/presets/v`)).is(200).json;
    assert.deepEqual([all.version, all.versions.map(({ version, preset }) => [version, preset.system])], [1, [[2, 'two'], [1, 'one']]]);
    assert.deepEqual((await gateway.admin('GET', `/workspaces/${t.workspace}/presets`)).is(200).json.data.map(({ slug, version }) => [slug, version]), [['v', 1]]);
    for (const path of ['presets/v', 'presets']) {
      const { text } = (await gateway.admin('GET', `/workspaces/${t.workspace}/${path}`)).is(200);
      assert.doesNotMatch(text, /"version":\d+\./, 'a version is a whole number, also for readers that tell 1.0 from 1');
    }
    (await gateway.admin('DELETE', `/workspaces/${t.workspace}/presets/v`)).is(200);
    const gone = (await t.chat({ model: `${t.model}@v` })).fails('not_found');
    assert.equal(gone.param, 'model');
    assert.equal((await t.chat({ preset: 'v' })).fails('not_found').param, 'preset');
  });

  test('a draft waits until somebody moves to it', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const draft = (system) => gateway.admin('PUT', `/workspaces/${t.workspace}/presets/d?draft=true`, { system });
    const first = (await draft('one')).is(201);
    assert.deepEqual([first.json.version, first.json.in_use], [1, false]);
    const list = async () => (await gateway.admin('GET', `/workspaces/${t.workspace}/presets`)).is(200).json.data.map(({ version, in_use, preset }) => [version, in_use, preset.system]);
    assert.deepEqual(await list(), [[1, false, 'one']]);
    (await t.chat({ preset: 'd' })).fails('not_found');
    const move = (version) => gateway.admin('PATCH', `/workspaces/${t.workspace}/presets/d`, { version });
    assert.equal((await move(2)).fails('invalid_input').param, 'version');
    assert.equal((await move(1)).is(200).json.in_use, true);
    const told = async () => {
      (await t.chat({ preset: 'd' })).is(200);
      return t.p1.requests.at(-1).body.messages[0].content;
    };
    assert.equal(await told(), 'one');
    (await draft('two')).is(201);
    assert.equal(await told(), 'one', 'a draft changes nothing');
    const all = (await gateway.admin('GET', `/workspaces/${t.workspace}/presets/d`)).is(200).json;
    assert.deepEqual([all.version, all.versions.map(({ version, in_use }) => [version, in_use])], [1, [[2, false], [1, true]]]);
    assert.deepEqual(await list(), [[1, true, 'one']]);
    (await move(2)).is(200);
    assert.equal(await told(), 'two');
    (await draft('three')).is(201);
    (await gateway.admin('DELETE', `/workspaces/${t.workspace}/presets/d`)).is(200);
    (await t.chat({ preset: 'd' })).fails('not_found');
    assert.equal((await gateway.admin('PUT', `/workspaces/${t.workspace}/presets/d?draft=perhaps`, {})).fails('invalid_input').param, 'draft');
  });

  test('there are as many presets and versions as there may be, also where two come at once', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const numbers = (most) => `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${most})`;
    await gateway.d1(`INSERT INTO preset_versions (workspace, slug, version, preset, created_at) ${numbers(499)} SELECT ?1, 'p' || i, 1, '{}', 0 FROM n`, t.workspace);
    await gateway.d1(`INSERT INTO presets (workspace, slug, version, created_at) ${numbers(499)} SELECT ?1, 'p' || i, 1, 0 FROM n`, t.workspace);
    const raced = await Promise.all(['a', 'b', 'c'].map((slug) => put(t, slug, {})));
    assert.equal(raced.filter(({ status }) => status === 201).length, 1);
    for (const reply of raced.filter(({ status }) => status !== 201)) assert.equal(reply.fails('invalid_input').param, 'slug');
    (await put(t, 'p1', { system: 'two' })).is(201);
    await gateway.d1(`INSERT INTO preset_versions (workspace, slug, version, preset, created_at) ${numbers(1000)} SELECT ?1, 'p1', i, '{}', 0 FROM n WHERE i > 2`, t.workspace);
    assert.equal((await put(t, 'p1', {})).fails('invalid_input').param, 'slug');
  });

  test('lists and caps narrow, the request cannot widen them', async () => {
    const t = await gateway.scene({});
    (await put(t, 'narrow', { max_tokens: 20, mode: 'price', narrowing: { allow_providers: ['p2', 'p3'], ignore_providers: ['p3'] } })).is(201);
    const reply = (await t.chat({ preset: 'narrow', max_tokens: 500, provider: undefined })).is(200);
    assert.equal(reply.headers['x-gateway-provider'], 'p2');
    assert.equal(t.p2.requests.at(-1).body.max_tokens, 20);
    assert.equal('preset' in t.p2.requests.at(-1).body, false);
    const error = (await t.chat({ preset: 'narrow', provider: { only: ['p1'] } })).fails('no_eligible_provider');
    assert.ok(error.details.removed.every(({ rule }) => rule === 'not_in_list'));
    (await put(t, 'models', { narrowing: { allow_models: ['other/*'] } })).is(201);
    (await t.chat({ preset: 'models' })).fails('model_not_allowed');
  });

  test('settings of the workspace: mode, lists, channels, privacy; a preset cannot widen them', async () => {
    const t = await gateway.scene({});
    const open = { provider: undefined };
    (await settings(t, { mode: 'price', narrowing: { ignore_providers: ['p1'] } })).is(200);
    assert.equal((await t.chat(open)).is(200).headers['x-gateway-provider'], 'p2');
    (await put(t, 'wide', { narrowing: { allow_providers: ['p1'] } })).is(201);
    (await t.chat({ ...open, preset: 'wide' })).fails('no_eligible_provider');
    (await settings(t, { narrowing: { ignore_providers: [], zdr: true } })).is(200);
    assert.deepEqual([...new Set((await t.chat(open)).fails('no_eligible_provider').details.removed.map(({ rule }) => rule))], ['privacy']);
    (await settings(t, { narrowing: { zdr: false } })).is(200);
    (await t.chat(open)).is(200);
    const beta = await gateway.scene({ model: 'test/beta', at: ['p1'] });
    (await beta.chat()).fails('no_eligible_provider');
    (await settings(beta, { channel: 'beta' })).is(200);
    (await beta.chat()).is(200);
    const shown = (await gateway.admin('GET', `/workspaces/${beta.workspace}/settings`)).is(200).json;
    assert.deepEqual([shown.channel, shown.mode, shown.narrowing.zdr], ['beta', 'balanced', false]);
  });

  test('mistakes are 400s that name their field', async () => {
    const t = await gateway.scene({});
    (await put(t, 'one', { narrowing: { zdr: true } })).is(201);
    for (const body of [{ preset: 5 }, { preset: 'one', model: `${t.model}@one` }]) assert.equal((await t.chat(body)).fails('invalid_input').param, 'preset');
    for (const [reply, param] of [
      [await put(t, 'x', { parameters: { messages: [] } }), 'parameters.messages'],
      [await put(t, 'x', { max_tokens: 0 }), 'max_tokens'],
      [await put(t, 'x', { model: '@y' }), 'model'],
      [await put(t, 'Bad Slug', {}), 'slug'],
      [await settings(t, { mode: 'best' }), 'mode'],
      [await settings(t, { narrowing: { zdr: 'yes' } }), 'narrowing.zdr'],
      [await gateway.admin('PATCH', `/workspaces/${t.workspace}/presets/none`, { version: 1 }), undefined],
    ]) {
      if (param === undefined) reply.fails('not_found');
      else assert.equal(reply.fails('invalid_input').param, param);
    }
  });
});
