// What is asked and what is answered in a measurement: made of a request's number alone, so that the upstream can check the
// question and the client every byte of the answer without talking to each other.

export const CHUNKS = 50;
export const PACE_MS = 10;
const CREATED = 1_764_000_000;
const WORDS = 'the quick "brown" fox\njumps over the lazy dog, then rests. ';

/** Microseconds on the clock that all processes of this machine share. */
export function micros() {
  const [seconds, nanos] = process.hrtime();
  return seconds * 1e6 + Math.floor(nanos / 1e3);
}

export const SIZE = 800; // of a prompt, in characters
const paddings = new Map();

/** The fixed part of a prompt, of `size` characters, as text and as JSON. */
function padding(size) {
  let made = paddings.get(size);
  if (made === undefined) {
    const text = WORDS.repeat(Math.ceil(size / WORDS.length)).slice(0, size);
    made = { text, json: JSON.stringify(text) };
    paddings.set(size, made);
  }
  return made;
}

/** A request's body, in ASCII. The upstream finds `size` and number again in the last message. */
export function question({ model, seq, size = SIZE, stream = false, usage = false }) {
  const streamed = `${stream ? ',"stream":true' : ''}${stream && usage ? ',"stream_options":{"include_usage":true}' : ''}`;
  return (
    `{"model":"${model}","max_tokens":256${streamed},"messages":[{"role":"system","content":${padding(size).json}},` +
    `{"role":"user","content":"n=${seq} size=${size}"}]}`
  );
}

/** Number and size out of a parsed request, in OpenAI's words or Anthropic's; undefined when its prompt did not arrive as it was sent. */
export function asked({ system, messages: turns }) {
  const plain = (content) => (Array.isArray(content) ? content.map(({ text }) => text).join('') : content);
  const messages = [...(system === undefined ? [] : [{ content: system }]), ...(turns ?? [])].map(({ content }) => ({ content: plain(content) }));
  const found = /^n=(\d+) size=(\d+)$/.exec(messages?.[1]?.content);
  if (!found || messages.length !== 2) return undefined;
  const [seq, size] = [Number(found[1]), Number(found[2])];
  return messages[0].content === padding(size).text ? { seq, size } : undefined;
}

const counts = (size) => `"prompt_tokens":${Math.ceil(size / 4)},"completion_tokens":${CHUNKS},"total_tokens":${Math.ceil(size / 4) + CHUNKS}`;
export const tokens = (size) => JSON.parse(`{${counts(size)}}`);

export const plainText = (seq) => `answer ${seq}: ${WORDS.repeat(5)}`;

export const plainAnswer = (model, seq, size) =>
  `{"id":"chatcmpl-${seq}","object":"chat.completion","created":${CREATED},"model":"${model}","choices":[{"index":0,"message":` +
  `{"role":"assistant","content":${JSON.stringify(plainText(seq))},"refusal":null},"logprobs":null,"finish_reason":"stop"}],` +
  `"usage":{${counts(size)}}}`;

/** A fixed-width time, so that a stamped chunk is as long as any other. */
export const stamp = (at) => `t=${String(at).padStart(15, '0')}`;
export const STAMP = /t=(\d{15})/g;
export const NO_STAMP = stamp(0);

const event = (model, seq, usage, choices) =>
  `data: {"id":"chatcmpl-${seq}","object":"chat.completion.chunk","created":${CREATED},"model":"${model}","choices":[${choices}]` +
  `${usage === undefined ? '' : `,"usage":${usage}`}}\n\n`;
const choice = (delta, finish) => `{"index":0,"delta":{${delta}},"logprobs":null,"finish_reason":${finish}}`;

/** Content chunk `index`. With usage asked for, every chunk but the last says that it has none, as OpenAI's do. */
export const contentEvent = (model, seq, index, usage, at = 0) =>
  event(model, seq, usage ? 'null' : undefined, choice(`${index === 0 ? '"role":"assistant",' : ''}"content":"w${index} ${stamp(at)} "`, 'null'));

/** What follows the content: the finish, the usage where asked for, the end. */
export const lastEvents = (model, seq, size, usage) => [
  event(model, seq, usage ? 'null' : undefined, choice('', '"stop"')),
  ...(usage ? [event(model, seq, `{${counts(size)}}`, '')] : []),
  'data: [DONE]\n\n',
];

export const streamEvents = (model, seq, size, usage) => [
  ...Array.from({ length: CHUNKS }, (_, index) => contentEvent(model, seq, index, usage)),
  ...lastEvents(model, seq, size, usage),
];

/** The same stream in Anthropic's words: what comes before the content, a piece of it, what comes after. */
const named = (value) => `event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`;
export const MESSAGES = {
  head: (model, seq, size) =>
    named({ type: 'message_start', message: { id: `msg_${seq}`, type: 'message', role: 'assistant', model, content: [], stop_reason: null, stop_sequence: null, usage: { input_tokens: Math.ceil(size / 4), output_tokens: 1 } } }) +
    named({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } }),
  piece: (index, at) => named({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: `w${index} ${stamp(at)} ` } }),
  tail: () =>
    named({ type: 'content_block_stop', index: 0 }) +
    named({ type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, usage: { output_tokens: CHUNKS } }) + named({ type: 'message_stop' }),
};

export const streamText = () => Array.from({ length: CHUNKS }, (_, index) => `w${index} ${NO_STAMP} `).join('');
