import assert from "node:assert/strict";
import { test } from "node:test";

import { quantile, since } from "../../../src/vivace/serve/page/histogram.mjs";
import { History, modelsOf, scraped } from "../../../src/vivace/serve/page/history.mjs";
import { fullest, histogram, parseMetrics, total } from "../../../src/vivace/serve/page/prometheus.mjs";

const TEXT = `
# HELP vllm:generation_tokens_total Tokens generated.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="a"} 12.0
vllm:generation_tokens_total{engine="0",model_name="b} 3"} 5 1700000000000
plain 1e-3
strange{path="C:\\\\dir",quote="say \\"hi\\"",line="a\\nb",} NaN
seconds_bucket{le="0.1",model_name="a"} 2.0
seconds_bucket{le="+Inf",model_name="a"} 4.0
seconds_bucket{le="0.1",model_name="b"} 1.0
seconds_bucket{le="+Inf",model_name="b"} 1.0
seconds_sum{model_name="a"} 0.7
`;

test("samples have names, labels and values", () => {
  const samples = parseMetrics(TEXT);
  assert.equal(samples.length, 9);
  assert.deepEqual(samples[1].labels, { engine: "0", model_name: "b} 3" });
  assert.deepEqual(samples[2], { name: "plain", labels: {}, value: 0.001 });
  assert.deepEqual(samples[3].labels, { path: "C:\\dir", quote: 'say "hi"', line: "a\nb" });
  assert.ok(Number.isNaN(samples[3].value));
});

test("what is no metric is refused", () => {
  assert.throws(() => parseMetrics("<html>"), SyntaxError);
});

test("series are added up", () => {
  const samples = parseMetrics(TEXT);
  assert.equal(total(samples, "vllm:generation_tokens_total"), 17);
  assert.equal(total(samples, "vllm:generation_tokens"), null);
  assert.deepEqual(histogram(samples, "seconds"), [
    [0.1, 3],
    [Infinity, 5],
  ]);
});

test("one model of several is watched, or all of them", () => {
  const rows = [
    ["a", 1, 0.25, 10],
    ["b", 2, 0.75, 5],
  ];
  const samples = rows.flatMap(([model_name, running, kv, tokens]) =>
    [
      ["vllm:num_requests_running", running],
      ["vllm:kv_cache_usage_perc", kv],
      ["vllm:generation_tokens_total", tokens],
    ].map(([name, value]) => ({ name, labels: { model_name }, value })),
  );
  assert.deepEqual(modelsOf(samples), ["a", "b"]);
  const read = (model) => {
    const { running, kv, counters } = scraped(samples, 0, model);
    return [running, kv, counters.output];
  };
  assert.deepEqual([read("a"), read("b"), read("")], [
    [1, 0.25, 10],
    [2, 0.75, 5],
    [3, 0.75, 15],
  ]);
  assert.equal(fullest(samples, "vllm:none"), null);
});

test("quantiles are those of PromQL", () => {
  const buckets = [
    [1, 2],
    [2, 2],
    [4, 8],
    [Infinity, 10],
  ];
  assert.equal(quantile(0.1, buckets), 0.5);
  assert.equal(quantile(0.2, buckets), 1);
  assert.equal(quantile(0.5, buckets), 3);
  assert.equal(quantile(0.8, buckets), 4);
  assert.equal(quantile(0.99, buckets), 4); // beyond the last finite bound
  assert.equal(quantile(0.5, [[Infinity, 0]]), null);
  assert.equal(quantile(0.5, []), null);
});

test("a difference forgets what was observed before", () => {
  const earlier = [
    [1, 5],
    [2, 5],
  ];
  const later = [
    [1, 6],
    [2, 9],
  ];
  assert.deepEqual(since(earlier, later), [
    [1, 1],
    [2, 4],
  ]);
  assert.deepEqual(since([], later), later);
});

/** A look at an engine that made so many tokens, each `pause` seconds behind the other. */
function look(at, tokens, observed = {}) {
  const buckets = [0.01, 0.1, Infinity].map((bound) => [
    "vllm:inter_token_latency_seconds_bucket",
    { le: bound === Infinity ? "+Inf" : String(bound) },
    (bound >= 0.01 ? observed.quick ?? 0 : 0) + (bound >= 0.1 ? observed.slow ?? 0 : 0),
  ]);
  const rows = [
    ["vllm:num_requests_running", {}, 2],
    ["vllm:num_requests_waiting", {}, 1],
    ["vllm:kv_cache_usage_perc", {}, 0.25],
    ["vllm:generation_tokens_total", {}, tokens],
    ["vllm:prompt_tokens_total", {}, 2 * tokens],
    ["vllm:request_success_total", { finished_reason: "stop" }, 3],
    ["vllm:prefix_cache_queries_total", {}, 4 * tokens],
    ["vllm:prefix_cache_hits_total", {}, tokens],
    ...buckets,
  ];
  return scraped(
    rows.map(([name, labels, value]) => ({ name, labels, value })),
    at,
  );
}

test("rates and shares are those between two looks", () => {
  const history = new History();
  history.add(look(10, 100));
  assert.deepEqual([history.points[0].output, history.points[0].hits], [null, null]);
  history.add(look(12, 150));
  const { output, prompt, requests, hits, running, waiting, kv } = history.points[1];
  assert.deepEqual([output, prompt, requests, hits], [25, 50, 0, 0.25]);
  assert.deepEqual([running, waiting, kv], [2, 1, 0.25]);
});

test("quantiles look back on the last seconds alone", () => {
  const history = new History();
  history.add(look(0, 0, { quick: 0 }));
  history.add(look(4, 100, { quick: 100 }));
  assert.equal(history.points[1].betweenTokens50, 0.005);
  for (const at of [8, 12, 16]) history.add(look(at, 200, { quick: 100, slow: 100 }));
  assert.equal(history.points[2].betweenTokens50, 0.01);
  assert.equal(history.points.at(-1).betweenTokens50, null); // nothing happened for 8 seconds
});

test("a pause is a gap, and a restart begins anew", () => {
  const history = new History();
  history.add(look(0, 10));
  history.add(look(100, 500));
  assert.deepEqual(history.points[1], { at: 100, gap: true });
  assert.equal(history.points[2].output, null);
  history.add(look(101, 7)); // fewer than before
  assert.equal(history.points[3].output, null);
  history.add(look(102, 9));
  assert.equal(history.points[4].output, 2);
});

test("what is old is forgotten", () => {
  const history = new History();
  for (let at = 0; at < 400; at++) history.add(look(at, at));
  assert.equal(history.points.length, 180);
});
