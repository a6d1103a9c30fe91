/** Prometheus' text format, version 0.0.4. */

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?$/;
const LABEL = /([a-zA-Z_]\w*)\s*=\s*"((?:\\.|[^"\\])*)"\s*,?\s*/gy;
const SPECIAL = { "+Inf": Infinity, "-Inf": -Infinity, NaN };
const ESCAPES = { n: "\n", "\\": "\\", '"': '"' };

/**
 * @returns {{name: string, labels: Object<string, string>, value: number}[]}
 * @throws {SyntaxError} where a line is neither a sample nor a comment
 */
export function parseMetrics(text) {
  const lines = text.split("\n").map((line) => line.trim());
  return lines.filter((line) => line && !line.startsWith("#")).map(parseSample);
}

/** The sum of a metric over its series; null where there is none. */
export function total(samples, name) {
  const values = valuesOf(samples, name);
  return values.length ? values.reduce((sum, value) => sum + value) : null;
}

/** The largest of a metric's series; null where there is none. */
export function fullest(samples, name) {
  const values = valuesOf(samples, name);
  return values.length ? Math.max(...values) : null;
}

/** A histogram over its series: [upper bound, how many are at most that], bounds ascending. */
export function histogram(samples, name) {
  const counts = new Map();
  for (const { labels, value } of samples.filter((sample) => sample.name === `${name}_bucket`)) {
    const bound = number(labels.le);
    counts.set(bound, (counts.get(bound) ?? 0) + value);
  }
  return [...counts].sort(([one], [other]) => one - other);
}

function valuesOf(samples, name) {
  return samples.filter((sample) => sample.name === name).map(({ value }) => value);
}

function parseSample(line) {
  const match = SAMPLE.exec(line);
  if (!match) throw new SyntaxError(`This is no Prometheus metric: ${line}`);
  const [, name, labels = "", value] = match;
  return { name, labels: parseLabels(labels), value: number(value) };
}

function parseLabels(text) {
  const pairs = [...text.matchAll(LABEL)].map(([, name, value]) => [name, unescape(value)]);
  return Object.fromEntries(pairs);
}

const unescape = (value) => value.replace(/\\(.)/g, (whole, one) => ESCAPES[one] ?? whole);
const number = (text) => SPECIAL[text] ?? Number(text);
