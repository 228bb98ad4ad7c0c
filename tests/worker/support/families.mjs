// Providers that speak the families' real shapes, on loopback: one answer of text, one with two tool calls at once, one with
// reasoning, one of JSON, each plain and streamed, chosen by the prompt's words. Usage is always 11 tokens in (4 of them cached) and 7 out,
// or not told. `silent` is how an answer without a word ends: `refused`, or with `nothing`, not even a reason.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import http from 'node:http';
import { crc32 } from 'node:zlib';

export const CALLS = [
  { id: 'call_one1', name: 'weather', args: '{"city":"Bern","deg": 1.50}' },
  { id: 'call_two2', name: 'time', args: '{}' },
];
export const TEXT = ['Hello ', 'from ', 'upstream 🦀.'];
/** What is said where the prompt has "as an object". */
export const OBJECT = ['{"city":"B', 'ern","deg":', '21}'];
/** What a tool that stands for a form of the answer is called with. */
const FORM = [{ id: 'call_form1', name: 'json', args: OBJECT.join('') }];
/** Free text that a model gives a tool, as a function of one member where the family has no others. */
export const FREE = 'SELECT "Zürich"\n-- 🦀 {"a":1}';
const freeCall = (isNative) => [{ id: 'call_free1', name: 'query', args: isNative ? FREE : JSON.stringify({ input: FREE }), isCustom: isNative }];
/** A page that an answer cites for its second word. */
export const LINK = { url: 'https://a.example/x', title: 'X' };
/** A tool result that ends the calls: the next answer is text. */
export const RESULT = 'sunny today';
export const THOUGHT = 'Let me see.';

const sse = (events, named) => events.map((data) => `${named ? `event: ${data.type}\n` : ''}data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`).join('');

// ── OpenAI chat ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

const chatUsage = { prompt_tokens: 11, completion_tokens: 7, total_tokens: 18, prompt_tokens_details: { cached_tokens: 4 } };
const chatCall = ({ id, name, args, isCustom }) => ({ id, ...(isCustom ? { type: 'custom', custom: { name, input: args } } : { type: 'function', function: { name, arguments: args } }) });
const cited = (text) => ({ start_index: text.indexOf(TEXT[1]), end_index: text.indexOf(TEXT[1]) + TEXT[1].length });
function chat({ tools, reasons, stream, pieces, cites, silent, mute }) {
  const head = { id: 'chatcmpl-up', created: 1, model: 'up' };
  const finish_reason = silent ? { refused: 'content_filter', nothing: null }[silent] : tools ? 'tool_calls' : 'stop';
  const usage = mute ? undefined : chatUsage;
  const chatCalls = (tools ?? []).map(chatCall);
  const annotations = cites ? { annotations: [{ type: 'url_citation', url_citation: { ...LINK, ...cited(pieces.join('')) } }] } : {};
  const message = { role: 'assistant', content: tools ? null : pieces.join(''), ...(tools ? { tool_calls: chatCalls } : {}), ...(reasons ? { reasoning_content: THOUGHT } : {}), ...annotations };
  if (!stream) return { ...head, object: 'chat.completion', choices: [{ index: 0, message, finish_reason }], usage };
  const chunk = (delta, finish_reason = null) => ({ ...head, object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason }] });
  const said = tools
    ? chatCalls.flatMap((call, index) => [
        chunk({ tool_calls: [{ index, id: call.id, type: call.type, ...(call.custom ? { custom: { name: call.custom.name, input: '' } } : { function: { name: call.function.name, arguments: '' } }) }] }),
        ...[...(call.custom?.input ?? call.function.arguments)].map((piece) => chunk({ tool_calls: [{ index, ...(call.custom ? { custom: { input: piece } } : { function: { arguments: piece } }) }] })),
      ])
    : [...pieces.map((content) => chunk({ content })), ...(cites ? [chunk(annotations)] : [])];
  return sse([chunk({ role: 'assistant', content: '' }), ...(reasons ? [chunk({ reasoning_content: THOUGHT })] : []), ...said, chunk({}, finish_reason), { ...head, object: 'chat.completion.chunk', choices: [], usage }, '[DONE]']);
}

/** The same on Azure: a stream begins with a chunk about the prompt that has no choices. */
function azure(how) {
  const said = chat(how);
  const prompt_filter_results = [{ prompt_index: 0, content_filter_results: { hate: { filtered: false, severity: 'safe' } } }];
  if (!how.stream) return { ...said, prompt_filter_results };
  return sse([{ id: '', object: '', created: 0, model: '', choices: [], prompt_filter_results }]) + said;
}

// ── Anthropic Messages ──────────────────────────────────────────────────────────────────────────────────────────────────────

function messages({ tools, reasons, stream, pieces, cites, silent, mute }) {
  const usage = mute ? undefined : { input_tokens: 7, cache_read_input_tokens: 4, cache_creation_input_tokens: 0, output_tokens: 7 };
  const content = silent ? [] : [
    ...(reasons ? [{ type: 'thinking', thinking: THOUGHT, signature: 'SIG' }] : []),
    ...(tools ? tools.map(({ id, name, args }) => ({ type: 'tool_use', id, name, input: JSON.parse(args) }))
      : cites ? pieces.map((text) => ({ type: 'text', text, ...(text === TEXT[1] ? { citations: [{ type: 'web_search_result_location', ...LINK, cited_text: 'q', encrypted_index: 'E' }] } : {}) }))
      : [{ type: 'text', text: pieces.join('') }]),
  ];
  const stop_reason = silent ? { refused: 'refusal', nothing: null }[silent] : tools ? 'tool_use' : 'end_turn';
  const head = { id: 'msg_up', type: 'message', role: 'assistant', model: 'up', stop_sequence: null };
  // The numbers of the arguments as they are, not as JavaScript would print them.
  if (!stream) return JSON.stringify({ ...head, content, stop_reason, usage }).replace('"deg":1.5', '"deg": 1.50');
  const blocks = content.flatMap((block, index) => {
    const [open, deltas] =
      block.type === 'thinking' ? [{ type: 'thinking', thinking: '', signature: '' }, [{ type: 'thinking_delta', thinking: THOUGHT }, { type: 'signature_delta', signature: 'SIG' }]]
      : block.type === 'text' ? [{ type: 'text', text: '' }, [...(block.citations ?? []).map((citation) => ({ type: 'citations_delta', citation })), ...(cites ? [block.text] : pieces).map((text) => ({ type: 'text_delta', text }))]]
      : [{ ...block, input: {} }, [...tools.find(({ id }) => id === block.id).args].filter((_, __, all) => all.join('') !== '{}').map((partial_json) => ({ type: 'input_json_delta', partial_json }))];
    return [{ type: 'content_block_start', index, content_block: open }, ...deltas.map((delta) => ({ type: 'content_block_delta', index, delta })), { type: 'content_block_stop', index }];
  });
  return sse([
    { type: 'message_start', message: { ...head, content: [], stop_reason: null, usage: usage && { ...usage, output_tokens: 1 } } }, { type: 'ping' }, ...blocks,
    { type: 'message_delta', delta: { stop_reason, stop_sequence: null }, usage: usage && { output_tokens: 7 } }, { type: 'message_stop' },
  ], true);
}

// ── Gemini ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function gemini({ tools, reasons, stream, pieces, cites, silent, mute }) {
  const thought = reasons ? [{ text: THOUGHT, thought: true }] : [];
  const said = tools ? tools.map(({ id, name, args }) => ({ functionCall: { id, name, args: JSON.parse(args) } })) : pieces.map((text) => ({ text }));
  const bytes = (text) => Buffer.byteLength(text);
  const groundingMetadata = cites && { groundingChunks: [{ web: { uri: LINK.url, title: LINK.title } }], groundingSupports: [{ segment: { startIndex: bytes(TEXT[0]), endIndex: bytes(TEXT[0] + TEXT[1]), text: TEXT[1] }, groundingChunkIndices: [0] }] };
  const usageMetadata = mute ? undefined : { promptTokenCount: 11, cachedContentTokenCount: 4, candidatesTokenCount: 7, totalTokenCount: 18 };
  const frame = (parts, finishReason) => ({ candidates: [{ content: { role: 'model', parts }, index: 0, ...(finishReason ? { finishReason, groundingMetadata } : {}) }], usageMetadata, modelVersion: 'up', responseId: 'r' });
  const exact = (text) => text.replaceAll('"deg":1.5', '"deg": 1.50');
  if (silent) {
    const told = JSON.stringify(silent === 'refused' ? { promptFeedback: { blockReason: 'PROHIBITED_CONTENT' }, usageMetadata, modelVersion: 'up', responseId: 'r' } : frame([]));
    return stream ? `data: ${told}\r\n\r\n` : told;
  }
  if (!stream) return exact(JSON.stringify(frame([...thought, ...said], 'STOP')));
  return exact([...thought, ...said].map((part) => `data: ${JSON.stringify(frame([part]))}\r\n\r\n`).join('') + `data: ${JSON.stringify(frame([{ text: '' }], 'STOP'))}\r\n\r\n`);
}

// ── OpenAI Responses ────────────────────────────────────────────────────────────────────────────────────────────────────────

function responses({ tools, reasons, stream, pieces, cites, silent, mute }) {
  const annotations = cites ? [{ type: 'url_citation', ...LINK, ...cited(pieces.join('')) }] : [];
  const output = silent ? [] : [
    ...(reasons ? [{ type: 'reasoning', id: 'rs_1', summary: [{ type: 'summary_text', text: THOUGHT }], encrypted_content: 'ENC' }] : []),
    ...(tools
      ? tools.map(({ id, name, args, isCustom }, i) => ({ id: `fc_${i}`, call_id: id, name, status: 'completed', ...(isCustom ? { type: 'custom_tool_call', input: args } : { type: 'function_call', arguments: args }) }))
      : [{ type: 'message', id: 'msg_1', role: 'assistant', status: 'completed', content: [{ type: 'output_text', text: pieces.join(''), annotations }] }]),
  ];
  const response = { id: 'resp_up', object: 'response', created_at: 1, status: 'completed', model: 'up', output, usage: mute ? undefined : { input_tokens: 11, input_tokens_details: { cached_tokens: 4 }, output_tokens: 7, output_tokens_details: { reasoning_tokens: 0 }, total_tokens: 18 } };
  if (silent) Object.assign(response, { status: 'incomplete', incomplete_details: { reason: 'content_filter' } });
  if (!stream) return response;
  const items = output.flatMap((item, output_index) => [
    { type: 'response.output_item.added', output_index, item: item.type === 'function_call' ? { ...item, arguments: '' } : item.type === 'custom_tool_call' ? { ...item, input: '' } : { ...item, content: [], summary: [] } },
    ...(item.type === 'message'
      ? [
          { type: 'response.content_part.added', item_id: item.id, output_index, content_index: 0, part: { type: 'output_text', text: '', annotations: [] } },
          ...pieces.map((delta) => ({ type: 'response.output_text.delta', item_id: item.id, output_index, content_index: 0, delta })),
          ...annotations.map((annotation, annotation_index) => ({ type: 'response.output_text.annotation.added', item_id: item.id, output_index, content_index: 0, annotation_index, annotation })),
          { type: 'response.content_part.done', item_id: item.id, output_index, content_index: 0, part: item.content[0] },
        ]
      : item.type === 'reasoning'
      ? [
          { type: 'response.reasoning_summary_part.added', item_id: item.id, output_index, summary_index: 0, part: { type: 'summary_text', text: '' } },
          { type: 'response.reasoning_summary_text.delta', item_id: item.id, output_index, summary_index: 0, delta: THOUGHT },
        ]
      : [...(item.input ?? item.arguments)].map((delta) => ({ type: item.input ? 'response.custom_tool_call_input.delta' : 'response.function_call_arguments.delta', item_id: item.id, output_index, delta }))),
    { type: 'response.output_item.done', output_index, item },
  ]);
  const open = { ...response, status: 'in_progress', output: [], usage: null };
  return sse([{ type: 'response.created', response: open }, ...items, { type: `response.${response.status}`, response }].map((event, sequence_number) => ({ ...event, sequence_number })), true);
}

// ── Cohere ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function cohere({ tools, reasons, stream, pieces, cites, silent, mute }) {
  const chatCalls = (tools ?? []).map(chatCall);
  const place = cited(pieces.join(''));
  const citations = cites ? [{ start: place.start_index, end: place.end_index, text: TEXT[1], sources: [{ type: 'document', id: 'd', document: { id: 'd', ...LINK } }] }] : [];
  const usage = mute ? undefined : { billed_units: { input_tokens: 11, output_tokens: 7 }, tokens: { input_tokens: 80, output_tokens: 7 }, cached_tokens: 4 };
  const content = silent ? [] : [...(reasons ? [{ type: 'thinking', thinking: THOUGHT }] : []), ...(tools ? [] : [{ type: 'text', text: pieces.join('') }])];
  const finish_reason = silent ? undefined : tools ? 'TOOL_CALL' : 'COMPLETE';
  if (!stream) return { id: 'c', finish_reason, message: { role: 'assistant', content, ...(tools ? { tool_calls: chatCalls } : {}), ...(cites ? { citations } : {}) }, usage };
  const delta = (type, message, index = 0) => ({ type, index, delta: { message } });
  return sse([
    { type: 'message-start', id: 'c', delta: { message: { role: 'assistant' } } },
    ...content.flatMap((block, index) => [
      delta('content-start', { content: { type: block.type, [block.type]: '' } }, index),
      ...(block.type === 'text' ? pieces : [THOUGHT]).map((text) => delta('content-delta', { content: { [block.type]: text } }, index)),
      { type: 'content-end', index },
    ]),
    ...citations.flatMap((citation, index) => [delta('citation-start', { citations: citation }, index), { type: 'citation-end', index }]),
    ...chatCalls.flatMap((call, index) => [
      delta('tool-call-start', { tool_calls: { ...call, function: { name: call.function.name, arguments: '' } } }, index),
      ...[...call.function.arguments].map((piece) => delta('tool-call-delta', { tool_calls: { function: { arguments: piece } } }, index)),
      { type: 'tool-call-end', index },
    ]),
    { type: 'message-end', delta: { finish_reason, usage } },
  ], true);
}

// ── Amazon Bedrock ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const u32 = (value) => { const bytes = Buffer.alloc(4); bytes.writeUInt32BE(value >>> 0); return bytes; };
/** One frame of an AWS event stream. */
export function awsFrame(headers, payload) {
  const head = Buffer.concat(Object.entries(headers).map(([name, value]) => Buffer.concat([Buffer.from([name.length]), Buffer.from(name), Buffer.from([7, value.length >> 8, value.length & 255]), Buffer.from(value)])));
  const body = Buffer.from(payload);
  const prelude = Buffer.concat([u32(16 + head.length + body.length), u32(head.length)]);
  const rest = Buffer.concat([prelude, u32(crc32(prelude)), head, body]);
  return Buffer.concat([rest, u32(crc32(rest))]);
}
export const awsEvent = (type, value) => awsFrame({ ':message-type': 'event', ':event-type': type, ':content-type': 'application/json' }, typeof value === 'string' ? value : JSON.stringify(value));
export const awsException = (type, value) => awsFrame({ ':message-type': 'exception', ':exception-type': type, ':content-type': 'application/json' }, JSON.stringify(value));

function converse({ tools, reasons, stream, pieces, cites, silent, mute }) {
  const citation = { title: LINK.title, sourceContent: [{ text: 'q' }], location: { web: { url: LINK.url, domain: 'a.example' } } };
  const usage = mute ? undefined : { inputTokens: 7, outputTokens: 7, totalTokens: 18, cacheReadInputTokens: 4, cacheWriteInputTokens: 0 };
  const stopReason = silent ? { refused: 'content_filtered' }[silent] : tools ? 'tool_use' : 'end_turn';
  const content = silent ? [] : [
    ...(reasons ? [{ reasoningContent: { reasoningText: { text: THOUGHT, signature: 'SIG' } } }] : []),
    ...(tools ? tools.map(({ id, name, args }) => ({ toolUse: { toolUseId: id, name, input: JSON.parse(args) } }))
      : cites ? pieces.map((text) => (text === TEXT[1] ? { citationsContent: { content: [{ text }], citations: [citation] } } : { text }))
      : [{ text: pieces.join('') }]),
  ];
  if (!stream) return JSON.stringify({ output: { message: { role: 'assistant', content } }, stopReason, usage, metrics: { latencyMs: 1 } }).replace('"deg":1.5', '"deg": 1.50');
  const blocks = content.flatMap((block, contentBlockIndex) => {
    const delta = (delta) => awsEvent('contentBlockDelta', { contentBlockIndex, delta, p: 'abcd' });
    const deltas = block.reasoningContent ? [delta({ reasoningContent: { text: THOUGHT } }), delta({ reasoningContent: { signature: 'SIG' } })]
      : block.citationsContent ? [delta({ text: block.citationsContent.content[0].text }), delta({ citation })]
      : block.text ? (cites ? [block.text] : pieces).map((text) => delta({ text }))
      : [awsEvent('contentBlockStart', { contentBlockIndex, start: { toolUse: { toolUseId: block.toolUse.toolUseId, name: block.toolUse.name } } }), ...[...tools.find(({ id }) => id === block.toolUse.toolUseId).args].filter((_, __, all) => all.join('') !== '{}').map((input) => delta({ toolUse: { input } }))];
    return [...deltas, awsEvent('contentBlockStop', { contentBlockIndex })];
  });
  return Buffer.concat([awsEvent('messageStart', { role: 'assistant' }), ...blocks, awsEvent('messageStop', { stopReason }), awsEvent('metadata', { usage, metrics: { latencyMs: 1 } })]);
}

/** Claude by invoke: the events of its own stream, each in a frame and in base64. */
function invoke(how) {
  const said = messages(how);
  if (!how.stream) return said;
  const events = said.split('\n').filter((line) => line.startsWith('data: ')).map((line) => line.slice(6));
  return Buffer.concat(events.map((event) => awsEvent('chunk', { bytes: Buffer.from(event).toString('base64') })));
}

// ── IBM watsonx.ai ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** OpenAI's chat with names of its own, and a stream that just ends. */
function watsonx(how) {
  const named = (answer) => ({ ...answer, model_id: 'up', created_at: '2026-11-28T00:00:00.000Z', system: { warnings: [] } });
  const said = chat(how);
  if (!how.stream) return named(said);
  const events = said.split('\n').filter((line) => line.startsWith('data: {')).map((line) => named(JSON.parse(line.slice(6))));
  return events.map((event, at) => `id: ${at + 1}\nevent: message\ndata: ${JSON.stringify(event)}\n\n`).join('');
}

// ── Cloudflare Workers AI ───────────────────────────────────────────────────────────────────────────────────────────────────

/** Its own form; with reasoning or citations, those of OpenAI inside it, as its newer models have them. */
function workersAi(how) {
  const { tools, reasons, stream, pieces, cites, silent, mute } = how;
  const usage = mute ? undefined : chatUsage;
  const wrapped = (result) => ({ result, success: true, errors: [], messages: [] });
  if (reasons || cites || silent) return stream ? chat(how) : wrapped(chat(how));
  const exact = (text) => text.replaceAll('"deg":1.5', '"deg": 1.50');
  const calls = (tools ?? []).map(({ name, args }) => ({ name, arguments: JSON.parse(args) }));
  if (!stream) return exact(JSON.stringify(wrapped({ response: tools ? null : pieces.join(''), ...(tools ? { tool_calls: calls } : {}), usage })));
  const frames = [...(tools ? [{ tool_calls: calls }] : pieces.map((response) => ({ response, p: 'abcd' }))), { response: '', usage }];
  return exact(sse([...frames, '[DONE]']));
}

// ── Credentials ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

export const AWS = { id: 'AKIDEXAMPLE', secret: 'aws-secret-of-the-tests', region: 'us-east-1' };
const { publicKey, privateKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
/** The key file of a service account whose tokens come from `url`. */
export const serviceAccount = (url) => JSON.stringify({
  type: 'service_account', client_email: 'tests@project.example', private_key_id: 'kid-1', token_uri: `${url}/token`,
  private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
});

/** Whether a request has the signature that AWS would want, computed here by itself. */
function isSigned(request, bytes) {
  const hash = (data) => crypto.createHash('sha256').update(data).digest('hex');
  const mac = (key, data) => crypto.createHmac('sha256', key).update(data).digest();
  const [, id, scope, names, signature] = /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\S+), SignedHeaders=(\S+), Signature=([0-9a-f]{64})$/.exec(request.headers.authorization) ?? [];
  if (id !== AWS.id || !names.includes('host') || !names.includes('x-amz-date')) return false;
  const date = request.headers['x-amz-date'];
  const path = request.url.split('/').map((part) => encodeURIComponent(part)).join('/');
  const lines = names.split(';').map((name) => `${name}:${request.headers[name]}\n`).join('');
  const canonical = [request.method, path, '', lines, names, hash(bytes)].join('\n');
  if (scope !== `${date.slice(0, 8)}/${AWS.region}/bedrock/aws4_request`) return false;
  const key = scope.split('/').reduce((key, part) => mac(key, part), `AWS4${AWS.secret}`);
  return mac(key, ['AWS4-HMAC-SHA256', date, scope, hash(canonical)].join('\n')).toString('hex') === signature;
}

/** Whether a token request carries what Google would want. */
function grants(bytes, url) {
  const form = new URLSearchParams(bytes.toString());
  const [head, claims, signature] = form.get('assertion').split('.');
  const { iss, aud, iat, exp, scope } = JSON.parse(Buffer.from(claims, 'base64url'));
  assert.equal(form.get('grant_type'), 'urn:ietf:params:oauth:grant-type:jwt-bearer');
  assert.deepEqual([iss, aud, exp - iat, scope], ['tests@project.example', `${url}/token`, 3600, 'https://www.googleapis.com/auth/cloud-platform']);
  return crypto.verify('RSA-SHA256', Buffer.from(`${head}.${claims}`), publicKey, Buffer.from(signature, 'base64url'));
}

/** The API key of an IBM Cloud account, and the project that pays. */
export const IBM = { key: 'ibm-key-of-the-tests', project: '3f5b-project' };
const isOfProject = (request, { model_id, project_id }) =>
  request.headers.authorization === 'Bearer iam.token' && model_id === 'up:0' && project_id === IBM.project && request.url.endsWith('?version=2024-05-31');

/** Families by name: which path ends mean them, and what they say. */
export const FAMILIES = {
  'openai-chat': { path: /\/chat\/completions$/, say: chat },
  'azure-openai': { path: /\/chat\/completions$/, say: azure },
  mistral: { path: /\/chat\/completions$/, say: chat },
  'anthropic-messages': { path: /\/messages$/, say: messages },
  gemini: { path: /:(stream)?[gG]enerateContent/, say: gemini },
  'cohere-v2': { path: /\/chat$/, say: cohere },
  'openai-responses': { path: /\/responses$/, say: responses },
  'bedrock-converse': { path: /\/model\/up%3A0\/converse(-stream)?$/, say: converse, auth: 'aws' },
  'bedrock-invoke': { path: /\/model\/up%3A0\/invoke(-with-response-stream)?$/, say: invoke, auth: 'aws' },
  'vertex-gemini': { path: /\/publishers\/google\/models\/up:0:(stream)?[gG]enerateContent/, say: gemini, auth: 'google' },
  'vertex-anthropic': { path: /\/publishers\/anthropic\/models\/up:0:(streamRawPredict|rawPredict)$/, say: messages, auth: 'google' },
  watsonx: { path: /\/text\/chat(_stream)?$/, say: watsonx, auth: 'ibm' },
  'cloudflare-ai-run': { path: /\/up$/, say: workersAi },
  'vertex-mistral': { path: /\/publishers\/mistralai\/models\/up:0:(streamRawPredict|rawPredict)$/, say: chat, auth: 'google' },
};

/** Members of a provider's file for the credential that its family is asked with. */
export const authOf = (family, url) => ({
  ibm: {
    auth: { scheme: 'iam_token', token_url: `${url}/iam/token`, header: 'Authorization', prefix: 'Bearer ' }, key_env: 'TEST_IBM_KEY',
    query: { version: '2024-05-31' }, body: { project_id: '{project}' }, variables: { project: { env: 'TEST_IBM_PROJECT' } },
  },
  aws: { auth: { scheme: 'aws_sigv4', service: 'bedrock' }, key_env: 'TEST_AWS_KEY', variables: { region: { env: 'TEST_AWS_REGION', default: AWS.region }, secret_access_key: { env: 'TEST_AWS_SECRET' } } },
  google: { auth: { scheme: 'google_service_account', header: 'Authorization', prefix: 'Bearer ' }, key_env: 'TEST_GOOGLE_ACCOUNT' },
})[FAMILIES[family].auth] ?? {};
/** The secrets that go with it. */
export const familySecrets = (url) => ({ TEST_AWS_KEY: AWS.id, TEST_AWS_SECRET: AWS.secret, TEST_GOOGLE_ACCOUNT: serviceAccount(url), TEST_IBM_KEY: IBM.key, TEST_IBM_PROJECT: IBM.project });

/** A server for all of them, each below `/{family}`; keeps the last request of each model. */
export async function startFamilies() {
  const asked = new Map();
  const tokens = [];
  const iam = [];
  let url;
  const server = http.createServer(async (request, response) => {
    const chunks = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return; // whoever asked is gone, or was killed
    }
    const bytes = Buffer.concat(chunks);
    if (request.url === '/token') {
      const isGood = grants(bytes, url);
      tokens.push(isGood);
      response.writeHead(isGood ? 200 : 401, { 'content-type': 'application/json' });
      return response.end(JSON.stringify(isGood ? { access_token: 'ya29.token', expires_in: 3599, token_type: 'Bearer' } : { error: 'invalid_grant' }));
    }
    if (request.url === '/iam/token') {
      const form = new URLSearchParams(bytes.toString());
      const isGood = form.get('grant_type') === 'urn:ibm:params:oauth:grant-type:apikey' && form.get('apikey') === IBM.key;
      iam.push(isGood);
      response.writeHead(isGood ? 200 : 400, { 'content-type': 'application/json' });
      return response.end(JSON.stringify(isGood ? { access_token: 'iam.token', token_type: 'Bearer', expires_in: 3600, expiration: Math.floor(Date.now() / 1000) + 3600 } : { errorCode: 'BXNIM0415E', errorMessage: 'Provided API key could not be found.' }));
    }
    if (request.url === '/picture.png') return response.writeHead(200, { 'content-type': 'image/png' }).end(Buffer.from('iVBORw0KGgo=', 'base64'));
    const body = JSON.parse(bytes.toString());
    const [, family] = request.url.split('/');
    const { path, say, auth } = FAMILIES[family] ?? {};
    if (!path?.test(request.url.split('?')[0])) return response.writeHead(404).end('{}');
    const isKnown = { aws: () => isSigned(request, bytes), google: () => request.headers.authorization === 'Bearer ya29.token', ibm: () => isOfProject(request, body) }[auth]?.() ?? true;
    if (!isKnown) return response.writeHead(403, { 'content-type': 'application/json' }).end('{"message":"the signature does not match"}');
    const stream = body.stream === true || /streamGenerateContent|-stream|chat_stream/.test(request.url);
    const text = JSON.stringify(body);
    asked.set(family, { body, url: request.url, headers: request.headers });
    if (text.includes('fail with 429')) {
      response.writeHead(429, { 'content-type': 'application/json', 'retry-after': '7' });
      return response.end(JSON.stringify({ type: 'error', error: { type: 'rate_limit_error', message: 'slow down', code: 429, status: 'RESOURCE_EXHAUSTED' } }));
    }
    const isDone = text.includes(RESULT);
    const hasForm = text.includes('as an object') && /"name":"json"/.test(text);
    const tools = isDone ? undefined : hasForm ? FORM : text.includes('use free text') ? freeCall(/"custom"/.test(text)) : text.includes('use tools') ? CALLS : undefined;
    const said = say({
      silent: /say nothing/.test(text) ? 'nothing' : /be refused/.test(text) ? 'refused' : undefined, mute: /tell no usage/.test(text),
      tools, reasons: text.includes('think first'), stream, cites: text.includes('cite it'),
      pieces: /say nothing|be refused/.test(text) ? [] : text.includes('as an object') ? OBJECT : TEXT,
    });
    const streamed = auth === 'aws' ? 'application/vnd.amazon.eventstream' : 'text/event-stream';
    response.writeHead(200, { 'content-type': stream ? streamed : 'application/json' });
    if (/(cut|hang) in the middle/.test(text)) {
      const bytes = Buffer.isBuffer(said) ? said : Buffer.from(typeof said === 'string' ? said : JSON.stringify(said));
      // Past the first words, before the end.
      const words = Buffer.isBuffer(said) ? Math.floor(said.length * 0.6) : Math.max(bytes.indexOf(TEXT[0].trim()) + 40, Math.floor(bytes.length / 2));
      response.write(bytes.subarray(0, words));
      if (text.includes('cut in the middle')) setTimeout(() => request.socket.destroy(), 50);
      return;
    }
    if (!Buffer.isBuffer(said)) return response.end(typeof said === 'string' ? said : JSON.stringify(said));
    // In pieces that have nothing to do with its frames.
    for (let at = 0; at < said.length; at += 37) response.write(said.subarray(at, at + 37));
    response.end();
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${server.address().port}`;
  return { url, asked, tokens, iam, close: () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }) };
}
