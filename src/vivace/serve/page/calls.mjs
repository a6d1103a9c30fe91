/** The two endpoints in one shape: what is asked, and what a chunk of the answer brings. */

const NOTHING = { text: "", thought: "", calls: [], tokens: [] };

export const CALLS = {
  chat: {
    path: "v1/chat/completions",

    ask({ system, logprobs, tools }, turns) {
      const first = system ? [{ role: "system", content: system }] : [];
      const wanted = logprobs === null ? {} : { logprobs: true, top_logprobs: logprobs };
      return { messages: [...first, ...turns], ...wanted, ...(tools && { tools }) };
    },

    read({ delta, logprobs }) {
      return {
        text: delta.content ?? "",
        thought: delta.reasoning_content ?? "",
        calls: delta.tool_calls ?? [],
        tokens: (logprobs?.content ?? []).map(fromChat),
      };
    },
  },

  completion: {
    path: "v1/completions",

    ask({ logprobs }, turns) {
      return { prompt: turns.at(-1).content, ...(logprobs === null ? {} : { logprobs }) };
    },

    read({ text, logprobs }) {
      const tokens = logprobs?.tokens ?? [];
      const read = (token, place) => fromLegacy(token, place, logprobs);
      return { ...NOTHING, text, tokens: tokens.map(read) };
    },
  },
};

const NOT_SENT_AS_THEY_ARE = new Set(["system", "stop", "logprobs", "tools"]);

/**
 * The body of a call. What is null is left out: the server's own default holds.
 * @param kind a key of CALLS
 * @param settings as settings.mjs reads them
 * @param turns messages, the last one the user's
 */
export function requestBody(kind, settings, turns) {
  const given = Object.entries(settings).filter(
    ([name, value]) => value !== null && !NOT_SENT_AS_THEY_ARE.has(name),
  );
  return {
    ...Object.fromEntries(given),
    ...(settings.stop.length && { stop: settings.stop }),
    ...CALLS[kind].ask(settings, turns),
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
  };
}

/**
 * @returns text, reasoning, pieces of calls, the tokens where log-probabilities were asked for,
 *     the number of tokens so far, and why the answer ended (null while it goes on)
 */
export function readChunk(kind, chunk) {
  const [choice] = chunk.choices;
  const answer = choice ? CALLS[kind].read(choice) : NOTHING;
  return {
    ...answer,
    count: chunk.usage?.completion_tokens ?? 0,
    finish: choice?.finish_reason ?? null,
    stop: choice?.stop_reason ?? null,
  };
}

function fromChat({ token, logprob, top_logprobs }) {
  const likeliest = top_logprobs.map((other) => ({ text: other.token, logprob: other.logprob }));
  return { text: token, logprob, likeliest };
}

function fromLegacy(text, place, { token_logprobs, top_logprobs }) {
  const likeliest = Object.entries(top_logprobs[place]).map(([other, logprob]) => ({
    text: other,
    logprob,
  }));
  return { text, logprob: token_logprobs[place], likeliest };
}
