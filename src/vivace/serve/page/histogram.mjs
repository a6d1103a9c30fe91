/** Quantiles of what was observed between two looks at a histogram that only grows. */

/** What `later` has beyond `earlier`; both as prometheus.mjs gives them. */
export function since(earlier, later) {
  const before = new Map(earlier);
  return later.map(([bound, count]) => [bound, count - (before.get(bound) ?? 0)]);
}

/**
 * As PromQL's histogram_quantile: linear within a bucket, the lowest of which begins at 0; what
 * lies beyond the last finite bound counts as that bound.
 * @returns null where nothing was observed
 */
export function quantile(share, buckets) {
  const all = buckets.at(-1)?.[1] ?? 0;
  if (all <= 0) return null;
  const rank = share * all;
  const place = buckets.findIndex(([, count]) => count >= rank);
  const [lower, below] = place > 0 ? buckets[place - 1] : [0, 0];
  const [upper, count] = buckets[place];
  if (upper === Infinity) return lower;
  return lower + ((upper - lower) * (rank - below)) / (count - below);
}
