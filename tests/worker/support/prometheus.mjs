// A strict reader of Prometheus' text format, version 0.0.4: whatever the format does not allow fails the test.
import assert from 'node:assert/strict';

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const TYPES = ['counter', 'gauge', 'histogram'];

/** The labels between braces, as `{name: value}`. */
function labelsOf(text, line) {
  const labels = {};
  let rest = text;
  while (rest !== '') {
    const match = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/.exec(rest);
    assert.ok(match, `labels: ${line}`);
    assert.ok(!(match[1] in labels), `a label is there twice: ${line}`);
    labels[match[1]] = match[2].replace(/\\(["\\n])/g, (_, c) => (c === 'n' ? '\n' : c));
    rest = rest.slice(match[0].length);
  }
  return labels;
}

/** Families by name: `{type, help, samples: [{name, labels, value}]}`. */
export function parse(text) {
  assert.ok(text.endsWith('\n'), 'the last line ends');
  const families = {};
  const seen = new Set();
  let family;
  for (const line of text.slice(0, -1).split('\n')) {
    const comment = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line);
    if (comment) {
      const [, word, name, rest] = comment;
      assert.match(name, NAME);
      if (word === 'HELP') {
        assert.ok(!(name in families), `the family ${name} is in one piece`);
        family = families[name] = { name, help: rest, samples: [] };
      } else {
        assert.ok(family?.name === name && family.type === undefined && family.samples.length === 0, `the type stands before the samples: ${line}`);
        assert.ok(TYPES.includes(rest), line);
        family.type = rest;
      }
      continue;
    }
    const sample = /^([^\s{]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    assert.ok(sample, `neither a comment nor a sample: ${line}`);
    const [, name, written = '', number] = sample;
    assert.match(name, NAME);
    const suffix = name.slice(family.name.length);
    assert.ok(name.startsWith(family.name) && (family.type === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']).includes(suffix), `a sample of its family: ${line}`);
    const labels = labelsOf(written, line);
    assert.match(number, /^-?(\d+(\.\d+)?|\+Inf)$/, line);
    const value = Number(number);
    assert.ok(family.type === 'gauge' || value >= 0, line);
    const series = `${name} ${JSON.stringify(Object.entries(labels).sort())}`;
    assert.ok(!seen.has(series), `a series is there twice: ${line}`);
    seen.add(series);
    family.samples.push({ name, suffix, labels, value });
  }
  for (const one of Object.values(families)) {
    assert.ok(one.type, `${one.name} has a type`);
    if (one.type === 'counter') assert.match(one.name, /_total$/);
    if (one.type === 'histogram') checkHistogram(one);
  }
  return families;
}

function checkHistogram({ name, samples }) {
  const groups = Map.groupBy(samples, ({ labels: { le: _, ...rest } }) => JSON.stringify(rest));
  for (const [group, members] of groups) {
    const buckets = members.filter(({ suffix }) => suffix === '_bucket');
    const bounds = buckets.map(({ labels }) => (labels.le === '+Inf' ? Infinity : Number(labels.le)));
    const counts = buckets.map(({ value }) => value);
    assert.ok(bounds.every((bound, i) => i === 0 || bound > bounds[i - 1]), `${name}${group}: bounds rise`);
    assert.ok(counts.every((count, i) => i === 0 || count >= counts[i - 1]), `${name}${group}: counts are cumulative`);
    assert.equal(bounds.at(-1), Infinity, `${name}${group} has +Inf`);
    const [count, sum] = ['_count', '_sum'].map((suffix) => members.filter((one) => one.suffix === suffix));
    assert.ok(count.length === 1 && sum.length === 1 && count[0].value === counts.at(-1), `${name}${group}: sum and count`);
  }
}

/** The sum of the samples of a family whose labels hold `labels`. */
export const sumOf = (family, labels = {}, suffix = '') =>
  family.samples.filter((one) => one.suffix === suffix && Object.entries(labels).every(([name, value]) => one.labels[name] === value)).reduce((sum, { value }) => sum + value, 0);
