/** Numbers and tokens as people read them. */

const NOTHING = "–";

/** Three digits at most: "7.4 ms", "0.35 s" is "350 ms", "12 s". */
export function duration(seconds) {
  if (seconds === null) return NOTHING;
  return seconds < 1 ? `${short(seconds * 1000)} ms` : `${short(seconds)} s`;
}

/** "0", "0.42", "7.4", "312", "12.5k" */
export function short(value) {
  if (value === null) return NOTHING;
  if (value >= 9999.5) return `${trimmed(value / 1000, value >= 99950 ? 0 : 1)}k`;
  return trimmed(value, value >= 99.5 ? 0 : value >= 9.95 ? 1 : 2);
}

export function percent(share) {
  return share === null ? NOTHING : `${trimmed(share * 100, share < 0.0995 ? 1 : 0)}%`;
}

/** A token with its blanks made visible. */
export function visible(token) {
  return token.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "(empty)";
}

function trimmed(value, digits) {
  return String(Number(value.toFixed(digits)));
}
