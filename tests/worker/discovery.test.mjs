// Discovery over the project's own catalog: what the Worker answers is compared with the catalog's files, read here by themselves.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { at } from '../../scripts/lib.mjs';
import { startGateway } from './support/harness.mjs';

// ── The files ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

const read = (folder) => fs.readdirSync(at('catalog', folder)).map((name) => JSON.parse(fs.readFileSync(at('catalog', folder, name), 'utf8')));
const PROVIDERS = new Map(read('providers').map((provider) => [provider.id, provider]));
const DESCRIBED = new Map(read('models').flatMap(({ organisation, models }) => models.map((model) => [model.id, { ...model, organisation }])));
const OFFERS = [...PROVIDERS.values()].flatMap((provider) => provider.offers.map((offer) => ({ ...offer, provider })));
const offersOf = (id) => OFFERS.filter((offer) => offer.model === id);
/** Models that somebody offers. */
const MODELS = [...DESCRIBED.values()].filter(({ id }) => offersOf(id).length > 0);
const MILLION = 1_000_000n;
const isPerMillion = (meter) => /tokens|characters/.test(meter);

/** A decimal number of dollars as an integer of 10^-15 dollars for one unit of the meter. */
function unitPrice(dollars, meter) {
  const [whole, part = ''] = dollars.split('.');
  const scaled = BigInt(whole + part.padEnd(15, '0').slice(0, 15));
  return isPerMillion(meter) ? scaled / MILLION : scaled;
}

const pricesOf = (offer) => (offer.free === true ? { input_tokens: '0', output_tokens: '0', ...offer.prices } : offer.prices);
const perMillion = (offer, meter) => (pricesOf(offer)[meter] === undefined ? undefined : Number(pricesOf(offer)[meter]));

/** A seeded draw, so that a failure can be seen again. */
function drawn(list, count, seed = 7) {
  const rest = [...list];
  return Array.from({ length: Math.min(count, rest.length) }, () => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return rest.splice(seed % rest.length, 1)[0];
  });
}

// ── The Worker ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

let gateway;
before(async () => {
  gateway = await startGateway({ providers: ['p1', 'p2'], scenes: 3, beside: [at('catalog')] });
});
after(() => gateway?.stop());

const get = async (route, headers) => gateway.call('GET', route, { headers });
const json = async (route) => (await get(route)).is(200).json;
const list = async (route) => {
  const answer = await json(route);
  assert.equal(answer.object, 'list');
  return answer.data;
};
/** Ids of the catalog's own models, not of the tests'. */
const ids = async (route) => (await list(route)).map(({ id }) => id).filter((id) => !id.startsWith('test/'));
const estimate = async (body) => (await gateway.call('POST', '/v1/pricing/estimate', { body })).is(200).json;
const query = (values) => new URLSearchParams(values).toString();

describe('models', () => {
  test('the official SDK lists every model that has an offer, and retrieves one', async () => {
    const openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: 'none', maxRetries: 0 });
    const seen = [];
    for await (const model of openai.models.list()) seen.push(model);
    const own = seen.filter(({ owned_by }) => owned_by !== 'test');
    assert.deepEqual(own.map(({ id }) => id).sort(), MODELS.map(({ id }) => id).sort());
    for (const model of seen) assert.ok(model.object === 'model' && Number.isInteger(model.created) && model.owned_by, JSON.stringify(model));
    const one = await openai.models.retrieve('openai/gpt-oss-120b');
    assert.deepEqual(one, seen.find(({ id }) => id === one.id));
  });

  test('an entry has the facts of its file', async () => {
    const listed = new Map((await list('/v1/models')).map((model) => [model.id, model]));
    for (const model of MODELS) {
      const shown = listed.get(model.id);
      const offers = offersOf(model.id);
      assert.deepEqual(
        [shown.name, shown.family, shown.kind, shown.open_weights, shown.released, shown.knowledge_cutoff, shown.offer_count, shown.is_free],
        [model.name ?? model.id, model.family ?? null, model.kind ?? 'chat', model.open_weights ?? null, model.released ?? null,
          model.knowledge_cutoff ?? null, offers.length, offers.some((offer) => offer.free === true)], model.id);
      assert.deepEqual(shown.providers, [...new Set(offers.map(({ provider }) => provider.id))].sort(), model.id);
      assert.deepEqual(shown.capabilities, model.capabilities ?? {}, model.id);
      const stated = offers.flatMap((offer) => perMillion(offer, 'input_tokens') ?? []);
      const lowest = stated.length > 0 ? Math.min(...stated) : undefined;
      assert.equal(shown.pricing.input_tokens && Number(shown.pricing.input_tokens.usd), lowest, model.id);
    }
  });

  test('pages follow each other in every order, and together are the whole list', async () => {
    const all = (await list('/v1/models')).map(({ id }) => id);
    for (const [sort, cursor] of [['id', 'after'], ['newest', 'cursor'], ['price', 'after_id'], ['context', 'after'], ['name', 'after']]) {
      const pages = [];
      let last;
      do {
        const page = await json(`/v1/models?${query({ sort, limit: 150, ...(last ? { [cursor]: last } : {}) })}`);
        assert.equal(page.first_id, page.data[0].id);
        assert.equal(page.last_id, page.data.at(-1).id);
        assert.equal(page.total, all.length);
        assert.equal(page.next_cursor, page.has_more ? page.last_id : null);
        pages.push(...page.data);
        last = page.next_cursor;
        assert.ok(pages.length <= all.length, `${sort}: the pages do not end`);
      } while (last);
      assert.deepEqual(pages.map(({ id }) => id).sort(), [...all].sort(), sort);
      const ordered = {
        id: () => pages.map(({ id }) => id),
        newest: () => pages.map(({ created }) => -created),
        context: () => pages.map(({ context_length }) => -(context_length ?? 0)),
        name: () => pages.map(({ name }) => name.toLowerCase()),
        price: () => pages.filter(({ pricing }) => pricing.input_tokens && pricing.output_tokens).slice(0, 50).map(({ id }) => cheapest(id)),
      }[sort]();
      const inOrder = ordered.every((value, i) => i === 0 || ordered[i - 1] <= value);
      assert.ok(inOrder, `${sort}: ${ordered.slice(0, 20)}`);
    }
  });

  const cheapest = (id) => {
    const sums = offersOf(id).map((offer) => perMillion(offer, 'input_tokens') + perMillion(offer, 'output_tokens')).filter(Number.isFinite);
    return id.startsWith('test/') ? 3 : Number(Math.min(...sums).toFixed(9));
  };
  const capable = (model, capability) => {
    if (model.capabilities?.[capability] === false) return false;
    const stated = ['tools', 'structured_output', 'reasoning', 'vision'];
    return offersOf(model.id).some(({ can = [] }) => {
      const states = stated.includes(capability) && can.some((name) => stated.includes(name));
      return states ? can.includes(capability) : model.capabilities?.[capability] === true;
    });
  };
  const context = (model) => model.context ?? Math.max(0, ...offersOf(model.id).map((offer) => offer.context ?? 0));
  const within = (prompt, completion) => (model) => offersOf(model.id).some((offer) =>
    (prompt === undefined || perMillion(offer, 'input_tokens') <= prompt) && (completion === undefined || perMillion(offer, 'output_tokens') <= completion));
  const FILTERS = [
    ['organisation=anthropic,openai', ({ organisation }) => ['anthropic', 'openai'].includes(organisation.id)],
    ['organisation=anthropic&organisation=openai', ({ organisation }) => ['anthropic', 'openai'].includes(organisation.id)],
    ['provider=groq', ({ id }) => offersOf(id).some(({ provider }) => provider.id === 'groq')],
    ['family=claude-opus', ({ family }) => family === 'claude-opus'],
    ['kind=chat', ({ kind = 'chat', kinds = [] }) => kind === 'chat' || kinds.includes('chat')],
    ['kind=moderation', ({ kind, kinds = [] }) => kind === 'moderation' || kinds.includes('moderation')],
    ['input_modality=image,audio', ({ input = ['text'] }) => input.includes('image') && input.includes('audio')],
    ['input_modality=image&input_modality=audio', ({ input = ['text'] }) => input.includes('image') && input.includes('audio')],
    ['output_modality=image', ({ output = ['text'] }) => output.includes('image')],
    ['capability=tools', (model) => capable(model, 'tools')],
    ['capability=tools,structured_output', (model) => capable(model, 'tools') && capable(model, 'structured_output')],
    ['feature=vision', (model) => capable(model, 'vision')],
    ['parameter=response_format', (model) => (model.kind ?? 'chat') === 'chat' && capable(model, 'structured_output')],
    ['context_min=1000000', (model) => context(model) >= 1_000_000],
    ['prompt_price_max=0.1', within(0.1)],
    ['completion_price_max=0.25', within(undefined, 0.25)],
    ['prompt_price_max=0.15&completion_price_max=0.4', within(0.15, 0.4)],
    ['open_weights=true', ({ open_weights }) => open_weights === true],
    ['open_weights=false', ({ open_weights }) => open_weights === false],
    ['released_after=2026-06-30', ({ released }) => released !== undefined && `${released}-01-01`.slice(0, 10) > '2026-06-30'],
    ['free=true', ({ id }) => offersOf(id).some((offer) => offer.free === true)],
    ['q=Claude%20opus', (model) => [model.name, model.id, ...(model.aliases ?? []), model.organisation.name].join(' ').toLowerCase().match(/claude/) && [model.name, model.id, ...(model.aliases ?? []), model.organisation.name].join(' ').toLowerCase().match(/opus/)],
    ['organisation=google&capability=reasoning&free=false', (model) => model.organisation.id === 'google' && capable(model, 'reasoning') && !offersOf(model.id).some((offer) => offer.free === true)],
  ];
  for (const [filter, holds] of FILTERS) {
    test(`the filter ${filter} gives what the files say`, async () => {
      const expected = MODELS.filter(holds).map(({ id }) => id).sort();
      assert.deepEqual((await ids(`/v1/models?${filter}`)).sort(), expected);
      // The one kind that nobody offers is still a right question.
      assert.ok(expected.length > 0 || filter === 'kind=moderation', 'the filter finds something to compare');
      assert.ok(expected.length < MODELS.length || filter === 'kind=chat', 'the filter leaves something out');
    });
  }

  test('an unknown or malformed value is a 400 that names its parameter', async () => {
    for (const [route, param] of [
      ['/v1/models?organisation=nobody', 'organisation'], ['/v1/models?provider=nobody', 'provider'], ['/v1/models?family=nothing', 'family'],
      ['/v1/models?kind=song', 'kind'], ['/v1/models?input_modality=smell', 'input_modality'], ['/v1/models?output_modality=smell', 'output_modality'],
      ['/v1/models?capability=flying', 'capability'], ['/v1/models?parameter=flying', 'parameter'], ['/v1/models?context_min=long', 'context_min'],
      ['/v1/models?prompt_price_max=cheap', 'prompt_price_max'], ['/v1/models?completion_price_max=-1', 'completion_price_max'],
      ['/v1/models?open_weights=perhaps', 'open_weights'], ['/v1/models?released_after=lately', 'released_after'], ['/v1/models?status=odd', 'status'],
      ['/v1/models?free=1', 'free'], ['/v1/models?q=', 'q'], ['/v1/models?sort=best', 'sort'], ['/v1/models?limit=0', 'limit'],
      ['/v1/models?limit=1001', 'limit'], ['/v1/models?after=nothing', 'after'], ['/v1/models?cursor=nothing', 'cursor'], ['/v1/models?colour=red', 'colour'],
      ['/v1/models/openai/gpt-oss-120b/endpoints?region=mars', 'region'], ['/v1/models/openai/gpt-oss-120b/endpoints?sort=newest', 'sort'],
      ['/v1/providers?trains=perhaps', 'trains'], ['/v1/providers?zdr=yes', 'zdr'], ['/v1/providers?zero_retention=maybe', 'zero_retention'],
      ['/v1/providers?retention_days_max=few', 'retention_days_max'], ['/v1/providers?country=Atlantis', 'country'], ['/v1/providers?region=mars', 'region'],
      ['/v1/providers/groq?kind=song', 'kind'], ['/v1/pricing?limit=many', 'limit'], ['/v1/pricing?sort=latency', 'sort'], ['/v1/pricing?family=nothing', 'family'],
    ]) (await get(route)).fails('invalid_input', { param });
    (await get('/v1/pricing?model=nobody/none')).fails('model_not_found', { param: 'model' });
    (await get('/v1/providers?model=nobody/none')).fails('model_not_found', { param: 'model' });
    // What clients send along by themselves is no mistake.
    (await get('/v1/models?client_version=0.50.0&limit=1')).is(200);
  });

  test('a model is found by id, alias, bare name and an encoded path', async () => {
    const aliased = MODELS.find(({ aliases = [] }) => aliases.some((alias) => alias.includes('/')));
    for (const name of [aliased.id, encodeURIComponent(aliased.id), aliased.aliases.find((alias) => alias.includes('/'))]) {
      assert.equal((await json(`/v1/models/${name}`)).id, aliased.id);
      assert.ok((await list(`/v1/models/${name}/endpoints`)).every(({ model }) => model === aliased.id));
    }
    assert.equal((await json('/v1/models/gpt-oss-120b')).id, 'openai/gpt-oss-120b');
    (await get('/v1/models/nobody/none')).fails('model_not_found');
    (await get('/v1/models/nobody/none/endpoints')).fails('model_not_found');
  });
});

describe('offers', () => {
  test('each offer of drawn models has the prices of its file, rules included', async () => {
    let [rules, compared] = [0, 0];
    const withRules = MODELS.filter(({ id }) => offersOf(id).some((offer) => offer.rules));
    for (const { id } of [...drawn(withRules, 15), ...drawn(MODELS, 15)]) {
      const shown = await list(`/v1/models/${id}/endpoints`);
      const stated = offersOf(id);
      // Of two offers under one name, one states its regions and the other has its provider's.
      const isOfAnother = (offer, one) => stated.some((other) => other !== offer && other.provider === offer.provider && other.upstream === offer.upstream && other.regions && String(other.regions) === String(one.regions));
      assert.equal(shown.length, stated.length, id);
      for (const offer of stated) {
        const same = shown.filter((one) => one.provider === offer.provider.id && one.upstream === offer.upstream && one.kind === (offer.kind ?? 'chat') &&
          (one.variant ?? '') === (offer.variant ?? '') && (offer.regions === undefined ? !isOfAnother(offer, one) : String(one.regions) === String(offer.regions)));
        assert.equal(same.length, 1, `${id} at ${offer.provider.id} as ${offer.upstream}`);
        const [one] = same;
        const dollars = (pricing) => Object.fromEntries(Object.entries(pricing).map(([meter, { usd, per }]) => {
          assert.equal(per, isPerMillion(meter) ? 1_000_000 : 1, meter);
          return [meter, Number(usd)];
        }));
        const numbers = (prices) => Object.fromEntries(Object.entries(prices).map(([meter, price]) => [meter, Number(price)]));
        assert.deepEqual(dollars(one.pricing), numbers(pricesOf(offer)), one.id);
        assert.deepEqual(
          one.price_rules.map(({ when, pricing, multiplier }) => ({ when, ...(pricing ? { prices: dollars(pricing) } : { multiplier: Number(multiplier) }) })),
          (offer.rules ?? []).map(({ when, prices, multiplier }) => ({ when, ...(prices ? { prices: numbers(prices) } : { multiplier: Number(multiplier) }) })), one.id);
        assert.equal(one.disputed, offer.disputed ?? false);
        assert.equal(one.priced_as_of, offer.as_of ?? offer.provider.as_of);
        assert.deepEqual([one.limits.requests_per_minute, one.limits.tokens_per_minute], [offer.limits?.rpm ?? null, offer.limits?.tpm ?? null]);
        assert.equal(one.data_policy?.trains_on_api_data, offer.provider.data_policy?.trains_on_api_data);
        compared += 1;
        rules += one.price_rules.length;
      }
    }
    assert.ok(compared >= 50 && rules >= 10, `${compared} offers with ${rules} rules`);
  });

  test('what this isolate saw of an offer is shown, and sorts; what nobody saw is null and last', async () => {
    const t = await gateway.scene({ at: ['p1'] });
    const before = await get(`/v1/models/${t.model}/endpoints`);
    assert.deepEqual(before.json.data.map(({ latency_ms }) => latency_ms), [null, null]);
    // Only a stream has a first word to time.
    (await t.stream({ provider: { only: ['p2'] } })).is(200);
    const seen = await get(`/v1/models/${t.model}/endpoints?sort=latency`);
    assert.deepEqual(seen.json.data.map(({ provider }) => provider), ['p2', 'p1']);
    assert.ok(seen.json.data[0].latency_ms >= 0 && seen.json.data[1].latency_ms === null, seen.text);
    const providers = await list(`/v1/providers?model=${t.model}&sort=latency`);
    assert.deepEqual(providers.map(({ id, latency_ms }) => [id, latency_ms === null]), [['p2', false], ['p1', true]]);
    // The tag covers what was seen.
    const again = await get(`/v1/models/${t.model}/endpoints`, { 'if-none-match': before.headers.etag });
    again.is(200);
    assert.notEqual(again.headers.etag, before.headers.etag);
    (await get(`/v1/models/${t.model}/endpoints`, { 'if-none-match': again.headers.etag })).is(304);
  });

  test('the pricing of a provider, a model and a family are the offers of the files', async () => {
    const key = ({ provider, model, upstream }) => `${provider.id ?? provider} ${model} ${upstream}`;
    const rows = async (filter) => (await list(`/v1/pricing?limit=1000&${filter}`)).map(key).sort();
    const stated = (holds) => OFFERS.filter(holds).map(key).sort();
    assert.deepEqual(await rows('provider=groq'), stated(({ provider }) => provider.id === 'groq'));
    assert.deepEqual(await rows('provider=groq,cerebras'), stated(({ provider }) => ['groq', 'cerebras'].includes(provider.id)));
    assert.deepEqual(await rows('model=openai/gpt-oss-120b'), stated(({ model }) => model === 'openai/gpt-oss-120b'));
    assert.deepEqual(await rows('family=claude-sonnet'), stated(({ model }) => DESCRIBED.get(model).family === 'claude-sonnet'));
    assert.deepEqual(await rows('organisation=mistral&region=eu'), stated(({ provider, model, regions }) =>
      DESCRIBED.get(model).organisation.id === 'mistral' && (regions ?? provider.regions ?? []).some((region) => region.split('-')[0] === 'eu')));
    const page = await json('/v1/pricing');
    assert.deepEqual([page.data.length, page.has_more], [100, true]);
    assert.ok(page.total >= OFFERS.length);
    const next = await json(`/v1/pricing?after=${encodeURIComponent(page.next_cursor)}`);
    assert.ok(next.data.every(({ id }) => page.data.every((one) => one.id !== id)));
    for (const row of page.data) assert.ok(row.object === 'offer' && Object.keys(row.pricing).length > 0, JSON.stringify(row));
    const cheap = await list('/v1/pricing?model=openai/gpt-oss-120b&sort=price');
    const sums = cheap.filter(({ pricing }) => pricing.input_tokens && pricing.output_tokens).map(({ pricing }) => Number(pricing.input_tokens.usd) + Number(pricing.output_tokens.usd));
    assert.ok(sums.every((sum, i) => i === 0 || sums[i - 1] <= sum + 1e-12), sums.join());
  });
});

describe('providers', () => {
  const has = (holds) => [...PROVIDERS.values()].filter(({ offers }) => offers.length > 0).filter(holds).map(({ id }) => id).sort();
  const own = async (filter) => (await list(`/v1/providers?${filter}`)).map(({ id }) => id).filter((id) => !['p1', 'p2'].includes(id));
  const family = (provider, name) => provider.offers.some(({ model }) => DESCRIBED.get(model).family === name);
  const inRegion = (regions = [], region) => regions.some((one) => one === region || one.split('-')[0] === region);

  for (const [filter, holds] of [
    ['', () => true],
    ['family=claude-opus', (provider) => family(provider, 'claude-opus')],
    ['family=claude-opus,kimi-k2', (provider) => family(provider, 'claude-opus') || family(provider, 'kimi-k2')],
    ['organisation=mistral', (provider) => provider.offers.some(({ model }) => DESCRIBED.get(model).organisation.id === 'mistral')],
    ['model=openai/gpt-oss-120b', (provider) => provider.offers.some(({ model }) => model === 'openai/gpt-oss-120b')],
    ['region=eu', (provider) => inRegion(provider.regions, 'eu')],
    ['family=llama&region=eu', (provider) => provider.offers.some(({ model, regions }) => DESCRIBED.get(model).family === 'llama' && inRegion(regions ?? provider.regions, 'eu'))],
    ['trains=no', ({ data_policy }) => data_policy?.trains_on_api_data === 'no'],
    ['trains=unknown', ({ data_policy }) => (data_policy?.trains_on_api_data ?? 'unknown') === 'unknown'],
    ['zdr=true', ({ data_policy }) => data_policy?.zero_retention === 'default'],
    ['zero_retention=default,on_request', ({ data_policy }) => ['default', 'on_request'].includes(data_policy?.zero_retention)],
    ['retention_days_max=0', ({ data_policy }) => data_policy?.retention_days === 0],
    ['retention_days_max=30', ({ data_policy }) => (data_policy?.retention_days ?? Infinity) <= 30],
    ['country=DE,FR', ({ country }) => ['DE', 'FR'].includes(country)],
    ['q=cloud', ({ name, id }) => `${name} ${id}`.toLowerCase().includes('cloud')],
    ['trains=no&zdr=true&family=gpt-oss', (provider) => provider.data_policy?.trains_on_api_data === 'no' && provider.data_policy.zero_retention === 'default' && family(provider, 'gpt-oss')],
  ]) {
    test(`the filter "${filter}" gives what the files say`, async () => {
      assert.deepEqual(await own(filter), has(holds));
    });
  }

  test('features are asked of one offer together', async () => {
    const found = await list('/v1/providers?family=gpt-oss&feature=tools,structured_output&context_min=100000');
    assert.ok(found.length > 0);
    for (const provider of found) {
      assert.ok(provider.offers.length > 0);
      for (const offer of provider.offers) {
        assert.ok(['tools', 'structured_output'].every((name) => offer.capabilities.includes(name)) && offer.context_length >= 100_000, JSON.stringify(offer));
      }
    }
  });

  test('one provider has its overview, models, prices, limits and features', async () => {
    const provider = PROVIDERS.get('groq');
    const shown = await json('/v1/providers/groq');
    assert.deepEqual([shown.id, shown.object, shown.name, shown.country, shown.role, shown.docs], ['groq', 'provider', provider.name, provider.country, provider.role, provider.docs]);
    assert.deepEqual(shown.models, [...new Set(provider.offers.map(({ model }) => model))].sort());
    assert.deepEqual([shown.offer_count, shown.offers.data.length], [provider.offers.length, provider.offers.length]);
    assert.equal(shown.data_policy?.retention_days ?? null, provider.data_policy?.retention_days ?? null);
    assert.ok(shown.features.capabilities.tools > 0 && shown.features.input_modalities.includes('text') && shown.features.kinds.chat > 0);
    for (const offer of shown.offers.data) assert.ok('latency_ms' in offer && offer.pricing && offer.limits && offer.supported_parameters, JSON.stringify(offer));
    const page = await json('/v1/providers/groq?limit=2&sort=price');
    assert.deepEqual([page.offers.data.length, page.offers.has_more], [2, true]);
    (await get('/v1/providers/nobody')).fails('not_found');
  });
});

// ── Estimates ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a volume costs at an offer of the files, in 10^-15 dollars; undefined where a price is not stated. */
function expected(offer, { input = 0, cached = 0, output = 0, requests = 1, region, tier }) {
  const rules = offer.rules ?? [];
  if (tier && !rules.some(({ when }) => when.service_tier === tier)) return undefined;
  const length = Math.ceil(input / requests);
  const holds = ({ when }) => Object.entries(when).every(([name, value]) =>
    name === 'input_tokens_over' ? length > value : name === 'service_tier' ? value === tier : name === 'region' ? value === region : false);
  const bare = ({ when: { input_tokens_over, ...rest } }) => JSON.stringify(Object.entries(rest).sort());
  const over = ({ when }) => when.input_tokens_over ?? 0;
  const holding = rules.map((rule, index) => ({ ...rule, index })).filter(holds);
  const layers = holding.filter(({ prices }) => prices)
    .filter((rule) => !holding.some((other) => other.prices && bare(other) === bare(rule) && over(other) > over(rule)))
    .sort((a, b) => Object.keys(a.when).length - Object.keys(b.when).length || over(a) - over(b) || a.index - b.index);
  const prices = Object.assign({}, pricesOf(offer), ...layers.map((rule) => rule.prices));
  let total = 0n;
  for (const [meter, fallback, quantity] of [
    ['input_tokens', undefined, input - cached], ['cache_read_tokens', 'input_tokens', cached], ['output_tokens', undefined, output],
    ...(prices.requests === undefined ? [] : [['requests', undefined, requests]]),
  ]) {
    if (quantity === 0) continue;
    const used = prices[meter] === undefined ? fallback : meter;
    if (used === undefined || prices[used] === undefined) return undefined;
    // Nanos per million units, scaled by each multiplier and rounded up, as a price card does.
    let price = isPerMillion(used) ? BigInt(Math.round(Number(prices[used]) * 1e9)) : BigInt(Math.round(Number(prices[used]) * 1e9)) * MILLION;
    for (const { multiplier } of holding.filter(({ multiplier }) => multiplier)) {
      price = (price * BigInt(Math.round(Number(multiplier) * 10_000)) + 9_999n) / 10_000n;
    }
    total += BigInt(quantity) * price;
  }
  return (total + MILLION - 1n) / MILLION;
}

describe('estimates', () => {
  const retired = ({ retires }) => retires !== undefined && retires <= new Date().toISOString().slice(0, 10);
  const timed = (offer) => (offer.rules ?? []).some(({ when }) => when.time_windows);

  test('costs are those computed here from the files, in order, for models and families', async () => {
    let [priced, unpriced, ruled] = [0, 0, 0];
    for (const of of [{ model: 'openai/gpt-5.4' }, { model: 'openai/gpt-oss-120b' }, { family: 'claude-opus' }, { family: 'kimi-k2' }, { family: 'gemini-pro' }]) {
      for (const volume of [
        { input: 1_000_000, output: 200_000 },
        { input: 300_000, output: 4_000 },
        { input: 123_456_789, cached: 98_765_431, output: 7_654_321, requests: 54_321 },
        { input: 1_000_000, output: 200_000, tier: 'flex' },
        { input: 1_000_000, output: 200_000, region: 'eu' },
      ]) {
        const { input, cached = 0, output, requests = 1, tier, region } = volume;
        const answer = await estimate({
          ...of, usage: { input_tokens: input, cached_tokens: cached, output_tokens: output, requests },
          ...(tier ? { service_tier: tier } : {}), ...(region ? { region } : {}), limit: 1000,
        });
        const regions = (offer) => offer.regions ?? offer.provider.regions ?? [];
        const stated = OFFERS.filter(({ model }) => (of.model ? model === of.model : DESCRIBED.get(model).family === of.family))
          .filter((offer) => !retired(offer) && offer.support !== 'unsupported' && (!region || regions(offer).some((one) => one.split('-')[0] === region)));
        const nanos = (list) => list.map(String).sort();
        const own = stated.filter((offer) => !timed(offer)).map((offer) => ({ offer, cost: expected(offer, volume) }));
        const isTimed = ({ offer }) => offer.price_rules.some(({ when }) => when.time_windows);
        assert.deepEqual(
          nanos(answer.data.filter((one) => !isTimed(one)).map((one) => `${one.provider} ${one.offer.upstream} ${one.cost_nanos}`)),
          nanos(own.filter(({ cost }) => cost !== undefined).map(({ offer, cost }) => `${offer.provider.id} ${offer.upstream} ${cost}`)),
          JSON.stringify({ of, volume }));
        const costs = answer.data.map(({ cost_nanos }) => cost_nanos);
        assert.ok(costs.every((cost, i) => i === 0 || costs[i - 1] <= cost), 'in order of cost');
        assert.equal(answer.offer_count + answer.unpriced.length + answer.excluded.length,
          OFFERS.filter(({ model }) => (of.model ? model === of.model : DESCRIBED.get(model).family === of.family)).length, 'every offer is told somewhere');
        for (const { items, cost, cost_nanos, rules, offer } of answer.data) {
          const sum = items.reduce((sum, item) => sum + BigInt(item.quantity) * unitPrice(item.price.usd, item.priced_as), 0n);
          assert.equal((sum + MILLION - 1n) / MILLION, BigInt(cost_nanos), 'the items add up');
          const exact = items.reduce((sum, item) => sum + unitPrice(item.cost, 'dollars'), 0n);
          assert.equal(exact, sum, 'each item costs its quantity times its price');
          assert.equal(Math.round(Number(cost) * 1e9), cost_nanos);
          for (const index of [...rules, ...items.flatMap((item) => item.rules)]) assert.ok(offer.price_rules[index], `rule ${index} can be read`);
          ruled += rules.length;
        }
        priced += answer.data.length;
        unpriced += answer.unpriced.length;
      }
    }
    assert.ok(priced > 100 && unpriced > 20 && ruled > 10, `${priced} priced, ${unpriced} unpriced, ${ruled} rules`);
  });

  test('a cached share is that share, rounded down', async () => {
    const answer = await estimate({ model: 'openai/gpt-oss-120b', usage: { input_tokens: 1001, cached_share: 0.333 } });
    assert.deepEqual(answer.usage, { input_tokens: 668, cache_read_tokens: 333 });
  });

  test('who may not serve is told with the rule, and what has no price is never zero', async () => {
    const usage = { input_tokens: 1000, output_tokens: 1000 };
    const strict = await estimate({ model: 'openai/gpt-oss-120b', usage, provider: { data_collection: 'deny', zdr: true, ignore: ['groq'] } });
    assert.ok(strict.excluded.some(({ provider, rule }) => provider === 'groq' && rule === 'ignored'));
    for (const { provider } of strict.data) {
      const policy = PROVIDERS.get(provider).data_policy;
      assert.deepEqual([policy.trains_on_api_data, policy.zero_retention], ['no', 'default'], provider);
    }
    const searches = await estimate({ model: 'openai/gpt-oss-120b', usage: { ...usage, web_searches: 3 } });
    for (const { items } of searches.data) assert.ok(items.some(({ meter }) => meter === 'web_searches'), 'whoever is priced prices the searches');
    assert.ok(searches.unpriced.every(({ reason }) => /web_searches|input_tokens|output_tokens/.test(reason)) && searches.unpriced.some(({ reason }) => /web_searches/.test(reason)) && searches.unpriced.length > 0);
    const tier = await estimate({ model: 'openai/gpt-oss-120b', usage, service_tier: 'hyperspeed' });
    assert.deepEqual([tier.data.length, tier.unpriced.length > 0], [0, true]);
    const few = await estimate({ model: 'openai/gpt-oss-120b', usage, limit: 2 });
    assert.deepEqual([few.data.length, few.has_more], [2, true]);
  });

  test('a mistake is a 400 that names its field', async () => {
    const good = { model: 'openai/gpt-oss-120b', usage: { input_tokens: 1 } };
    for (const [change, param] of [
      [{ model: undefined }, 'model'], [{ family: 'llama' }, 'model'], [{ model: undefined, family: 'nothing' }, 'family'], [{ usage: undefined }, 'usage'],
      [{ usage: {} }, 'usage'], [{ usage: { input_tokens: -1 } }, 'usage.input_tokens'], [{ usage: { words: 1 } }, 'usage.words'],
      [{ usage: { input_tokens: 1, cached_tokens: 2 } }, 'usage.cached_tokens'], [{ usage: { input_tokens: 1, cached_share: 2 } }, 'usage.cached_share'],
      [{ usage: { input_tokens: 1, requests: 0 } }, 'usage.requests'], [{ region: 'mars' }, 'region'], [{ provider: { only: ['nobody'] } }, 'provider.only'],
      [{ provider: { colour: 'red' } }, 'provider.colour'], [{ limit: 0 }, 'limit'], [{ tokens: 5 }, 'tokens'],
    ]) (await gateway.call('POST', '/v1/pricing/estimate', { body: { ...good, ...change } })).fails('invalid_input', { param });
    (await gateway.call('POST', '/v1/pricing/estimate', { body: { ...good, model: 'nobody/none' } })).fails('model_not_found', { param: 'model' });
    for (const body of ['', 'no json', '[]', '5']) (await gateway.call('POST', '/v1/pricing/estimate', { body })).fails('invalid_input');
    (await gateway.call('POST', '/v1/pricing/estimate', { body: JSON.stringify({ ...good, filler: 'x'.repeat(70_000) }) })).fails('payload_too_large');
  });
});

// ── Caching and cold isolates ───────────────────────────────────────────────────────────────────────────────────────────────

describe('caching', () => {
  const ROUTES = [
    '/v1/models', '/v1/models?capability=tools', '/v1/models/openai/gpt-oss-120b', '/v1/models/openai/gpt-oss-120b/endpoints', '/v1/providers',
    '/v1/providers?family=llama', '/v1/providers/groq', '/v1/pricing', '/v1/pricing?model=openai/gpt-oss-120b',
  ];

  test('every answer has a strong tag, and is not sent again to whoever has it', async () => {
    const tags = new Set();
    for (const route of ROUTES) {
      const { headers } = (await get(route)).is(200);
      assert.match(headers['cache-control'], /^public, max-age=\d+$/, route);
      assert.match(headers.etag, new RegExp(`^"${gateway.snapshot}-[^"]+"$`), route);
      tags.add(headers.etag);
      for (const known of [headers.etag, `W/${headers.etag}`, `"other", ${headers.etag}`, '*']) {
        const again = (await get(route, { 'if-none-match': known })).is(304);
        assert.deepEqual([again.text, again.headers.etag], ['', headers.etag], route);
      }
      (await get(route, { 'if-none-match': '"other"' })).is(200);
    }
    assert.equal(tags.size, ROUTES.length, 'each question has its own tag');
    // A wrong question stays one, whatever the client has.
    (await get('/v1/models?sort=best', { 'if-none-match': '*' })).fails('invalid_input', { param: 'sort' });
  });

  test('a cold isolate answers from few and small values', async () => {
    // A crash makes stubs of the store useless: a new one each time.
    const size = async (key) => Buffer.byteLength(await (await gateway.mf.getKVNamespace('KV')).get(`catalog/${gateway.snapshot}/${key}`));
    const counters = async () => (await gateway.admin('GET', '/health')).is(200).json;
    const reads = async (route) => {
      await gateway.crash();
      const began = performance.now();
      (await get(route)).is(200);
      const ms = performance.now() - began;
      const { kv_reads } = (await counters()).counters ?? (await counters());
      return { kv_reads, ms: Math.round(ms) };
    };
    for (const [route, most, keys] of [
      ['/v1/models/openai/gpt-oss-120b', 2, ['of/model/openai/gpt-oss-120b']],
      ['/v1/models/openai/gpt-oss-120b/endpoints', 3, ['words', 'of/model/openai/gpt-oss-120b']],
      ['/v1/models', 3, ['words', 'list/models']],
      ['/v1/models?capability=tools&limit=20', 3, ['words', 'list/models']],
      ['/v1/providers?family=claude-opus', 4, ['words', 'list/providers', 'of/family/claude-opus']],
      ['/v1/providers?capability=tools&region=eu', 4, ['words', 'list/providers', 'list/offers']],
      ['/v1/providers/groq', 3, ['words', 'of/provider/groq']],
      ['/v1/pricing', 4, ['words', 'list/offers', 'list/prices']],
    ]) {
      const { kv_reads, ms } = await reads(route);
      const bytes = (await Promise.all(keys.map(size))).reduce((sum, one) => sum + one, 0);
      console.log(`cold: ${route}: ${kv_reads} reads, ${Math.round(bytes / 1024)} KiB, ${ms} ms`);
      assert.ok(kv_reads <= most, `${route}: ${kv_reads} reads`);
    }
    assert.ok((await size('of/model/openai/gpt-oss-120b')) <= 128 * 1024);
  });

  test('a snapshot without lists is refused as not ready, never shown as an empty catalog', async () => {
    const point = async (snapshot) => {
      await (await gateway.mf.getKVNamespace('KV')).put('catalog/current', JSON.stringify({ snapshot }));
      await gateway.crash();
    };
    await point('0000000000000000');
    try {
      for (const route of ['/v1/models', '/v1/providers', '/v1/providers?capability=tools', '/v1/pricing']) {
        (await get(route)).fails('provider_unavailable', { retryAfter: true });
      }
      (await get('/v1/models/openai/gpt-oss-120b')).fails('provider_unavailable', { retryAfter: true });
    } finally {
      await point(gateway.snapshot);
    }
    (await get('/v1/models?limit=1')).is(200);
  });
});

// ── The five questions of the README ────────────────────────────────────────────────────────────────────────────────────────

describe('each question of a team that chooses is one request', () => {
  test('which providers expose this model family', async () => {
    const found = await list('/v1/providers?family=claude-opus');
    for (const { matched, offers } of found) assert.ok(matched.models.length > 0 && offers.every(({ model }) => matched.models.includes(model)));
  });
  test('which has the better latency for my region', async () => {
    const found = await list('/v1/providers?model=openai/gpt-oss-120b&region=eu&sort=latency');
    for (const provider of found) assert.ok('latency_ms' in provider && 'throughput_tokens_per_second' in provider && provider.regions, provider.id);
  });
  test('the lowest cost at my token volume', async () => {
    const { data } = await estimate({ model: 'openai/gpt-oss-120b', usage: { input_tokens: 50_000_000, output_tokens: 8_000_000, cached_share: 0.4, requests: 20_000 } });
    assert.ok(data.length > 5 && Number(data[0].cost) <= Number(data.at(-1).cost));
  });
  test('which supports the endpoint features I need', async () => {
    const found = await list('/v1/providers?model=openai/gpt-oss-120b&feature=tools,structured_output&parameter=tools,response_format&context_min=128000');
    assert.ok(found.length > 0 && found.length < (await list('/v1/providers?model=openai/gpt-oss-120b')).length);
  });
  test('which meets my data and compliance needs', async () => {
    const found = await list('/v1/providers?model=openai/gpt-oss-120b&trains=no&retention_days_max=0');
    assert.ok(found.length > 0);
    for (const { data_policy } of found) assert.deepEqual([data_policy.trains_on_api_data, data_policy.retention_days], ['no', 0]);
  });
});
