/** What the engine did lately: points for the charts, out of scrapes of /metrics. */

import { quantile, since } from "./histogram.mjs";
import { fullest, histogram, total } from "./prometheus.mjs";

export const KEPT_SECONDS = 180;
const QUANTILE_SECONDS = 10; // what a point's quantiles look back on
const GAP_SECONDS = 5; // nobody looked for so long: what was between is not known

const COUNTERS = {
  output: "vllm:generation_tokens_total",
  prompt: "vllm:prompt_tokens_total",
  finished: "vllm:request_success_total",
  looked: "vllm:prefix_cache_queries_total",
  found: "vllm:prefix_cache_hits_total",
};
const HISTOGRAMS = {
  firstToken: "vllm:time_to_first_token_seconds",
  betweenTokens: "vllm:inter_token_latency_seconds",
  answer: "vllm:e2e_request_latency_seconds",
};

/** The models whose engines tell of themselves. */
export function modelsOf(samples) {
  const told = samples.filter(({ name }) => name === "vllm:num_requests_running");
  return [...new Set(told.map(({ labels }) => labels.model_name))].sort();
}

/**
 * One look at the server's metrics.
 * @param at in seconds
 * @param model of which; "" is all together, where the fullest KV cache stands for them
 */
export function scraped(all, at, model = "") {
  const samples = model ? all.filter(({ labels }) => labels.model_name === model) : all;
  const read = (names, reader) =>
    Object.fromEntries(Object.entries(names).map(([key, name]) => [key, reader(samples, name)]));
  return {
    at,
    running: total(samples, "vllm:num_requests_running"),
    waiting: total(samples, "vllm:num_requests_waiting"),
    kv: fullest(samples, "vllm:kv_cache_usage_perc"),
    counters: read(COUNTERS, total),
    histograms: read(HISTOGRAMS, histogram),
  };
}

/** The scrapes of the last `KEPT_SECONDS`, and a point for each. */
export class History {
  #scrapes = [];
  points = [];

  add(scrape) {
    if (this.#restarted(scrape)) this.#scrapes = [];
    const before = this.#scrapes.at(-1);
    this.#scrapes.push(scrape);
    if (before && scrape.at - before.at > GAP_SECONDS) this.points.push(gap(scrape.at));
    this.points.push(this.#point(before, scrape));
    const kept = ({ at }) => at > scrape.at - KEPT_SECONDS;
    this.#scrapes = this.#scrapes.filter(kept);
    this.points = this.points.filter(kept);
  }

  /** Counters that fell began anew: nothing can be subtracted from what was before. */
  #restarted(scrape) {
    const before = this.#scrapes.at(-1)?.counters ?? {};
    return Object.entries(before).some(([name, count]) => scrape.counters[name] < count);
  }

  #point(before, scrape) {
    const { at, running, waiting, kv } = scrape;
    const base = this.#scrapes.find((one) => one.at >= at - QUANTILE_SECONDS);
    const grown = (name) => scrape.counters[name] - base.counters[name];
    const point = { at, running, waiting, kv, requests: rate(before, scrape, "finished") };
    for (const name of ["output", "prompt"]) point[name] = rate(before, scrape, name);
    for (const name of Object.keys(HISTOGRAMS)) {
      const observed = since(base.histograms[name], scrape.histograms[name]);
      point[`${name}50`] = quantile(0.5, observed);
      point[`${name}99`] = quantile(0.99, observed);
    }
    point.hits = grown("looked") > 0 ? grown("found") / grown("looked") : null;
    return point;
  }
}

const gap = (at) => ({ at, gap: true });

/** Per second; null where it is not known. */
function rate(before, { at, counters }, name) {
  if (!before || at - before.at > GAP_SECONDS) return null;
  return (counters[name] - before.counters[name]) / (at - before.at);
}
