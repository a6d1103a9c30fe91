import assert from "node:assert/strict";
import { test } from "node:test";

import { readChunk, requestBody } from "../../../src/vivace/serve/page/calls.mjs";
import { duration, percent, short, visible } from "../../../src/vivace/serve/page/format.mjs";
import { Pace } from "../../../src/vivace/serve/page/pace.mjs";
import { roundTop, runs } from "../../../src/vivace/serve/page/scale.mjs";
import { stopStrings, summary } from "../../../src/vivace/serve/page/settings.mjs";

const NOTHING_SET = {
  model: "m",
  system: "",
  temperature: null,
  top_p: null,
  max_tokens: null,
  stop: [],
  logprobs: null,
  tools: null,
};
const ASKED = [{ role: "user", content: "hi" }];
const ALWAYS = {
  model: "m",
  stream: true,
  stream_options: { include_usage: true, continuous_usage_stats: true },
};

test("what is not set is not sent", () => {
  assert.deepEqual(requestBody("chat", NOTHING_SET, ASKED), { ...ALWAYS, messages: ASKED });
  const turns = [{ role: "user", content: "before" }, ...ASKED];
  assert.deepEqual(requestBody("completion", NOTHING_SET, turns), { ...ALWAYS, prompt: "hi" });
});

test("what is set is sent under the API's names", () => {
  const set = { ...NOTHING_SET, temperature: 0, stop: ["\n"], system: "be brief", logprobs: 5 };
  assert.deepEqual(requestBody("chat", set, ASKED), {
    ...ALWAYS,
    temperature: 0,
    stop: ["\n"],
    messages: [{ role: "system", content: "be brief" }, ...ASKED],
    logprobs: true,
    top_logprobs: 5,
  });
  const completion = requestBody("completion", set, ASKED);
  assert.equal(completion.logprobs, 5);
  assert.ok(!("messages" in completion || "system" in completion));
});

test("chunks of both endpoints read the same", () => {
  const usage = { completion_tokens: 3 };
  const chat = {
    choices: [
      {
        delta: { role: "assistant", content: "a" },
        logprobs: {
          content: [{ token: "a", logprob: -0.1, top_logprobs: [{ token: "b", logprob: -2 }] }],
        },
        finish_reason: null,
      },
    ],
    usage,
  };
  const legacy = {
    choices: [
      {
        text: "a",
        logprobs: { tokens: ["a"], token_logprobs: [-0.1], top_logprobs: [{ b: -2 }] },
        finish_reason: null,
      },
    ],
    usage,
  };
  const likeliest = [{ text: "b", logprob: -2 }];
  const tokens = [{ text: "a", logprob: -0.1, likeliest }];
  const read = { text: "a", thought: "", calls: [], tokens, count: 3, finish: null, stop: null };
  assert.deepEqual(readChunk("chat", chat), read);
  assert.deepEqual(readChunk("completion", legacy), read);
});

test("reasoning and calls stand beside the text", () => {
  const calls = [{ index: 0, id: "1", function: { name: "get", arguments: "" } }];
  const delta = { reasoning_content: "hm", tool_calls: calls };
  const read = readChunk("chat", { choices: [{ delta, finish_reason: null }] });
  assert.deepEqual([read.text, read.thought, read.calls], ["", "hm", calls]);
  const tools = [{ type: "function", function: { name: "get" } }];
  assert.deepEqual(requestBody("chat", { ...NOTHING_SET, tools }, ASKED).tools, tools);
  assert.ok(!("tools" in requestBody("completion", { ...NOTHING_SET, tools }, ASKED)));
});

test("the last chunks of an answer", () => {
  const choice = { delta: {}, finish_reason: "stop", stop_reason: "\n" };
  const end = readChunk("chat", { choices: [choice], usage: null });
  assert.deepEqual([end.text, end.finish, end.stop], ["", "stop", "\n"]);
  const usage = readChunk("completion", { choices: [], usage: { completion_tokens: 9 } });
  assert.deepEqual([usage.text, usage.count, usage.finish], ["", 9, null]);
});

test("pace counts from the first token on", () => {
  const pace = new Pace(1000);
  assert.deepEqual([pace.firstToken, pace.perSecond], [null, null]);
  pace.saw(0, 1100);
  pace.saw(2, 1250); // two came at once
  assert.deepEqual([pace.firstToken, pace.perSecond], [0.25, null]);
  pace.saw(3, 1500);
  pace.saw(7, 2250);
  pace.saw(7, 9999); // a chunk without a token
  assert.deepEqual([pace.tokens, pace.perSecond], [7, 5]);
});

test("stop strings are lines", () => {
  assert.deepEqual(stopStrings("\n a \n\\n\\n\n\\\\n\n\\d"), [" a ", "\n\n", "\\n", "\\d"]);
});

test("a summary says what is set", () => {
  const numbers = ["top_k", "min_p", "seed"].concat(
    ["repetition", "presence", "frequency"].map((kind) => `${kind}_penalty`),
  );
  const set = { ...NOTHING_SET, ...Object.fromEntries(numbers.map((name) => [name, null])) };
  assert.equal(summary(set), "");
  const some = { ...set, temperature: 0, repetition_penalty: 1.1, stop: ["\n"], system: "x" };
  const said = 'temperature 0 · repetition penalty 1.1 · stop "\\n" · system prompt';
  assert.equal(summary(some), said);
});

test("numbers have three digits", () => {
  const written = [0, 0.4249, 7.44, 12.34, 99.96, 312.4, 9999, 12345, 123456].map(short);
  assert.deepEqual(written, ["0", "0.42", "7.44", "12.3", "100", "312", "9999", "12.3k", "123k"]);
  assert.deepEqual([0.0074, 0.35, 12].map(duration), ["7.4 ms", "350 ms", "12 s"]);
  assert.deepEqual([0.004, 0.5, 1].map(percent), ["0.4%", "50%", "100%"]);
  assert.deepEqual([short(null), duration(null), percent(null)], ["–", "–", "–"]);
});

test("blanks are visible", () => {
  assert.deepEqual([" a", "\n\t", ""].map(visible), ["␣a", "⏎⇥", "(empty)"]);
});

test("axes end at round numbers", () => {
  const tops = [0, 0.03, 1, 3, 7, 21, 100, 260].map(roundTop);
  assert.deepEqual(tops, [1, 0.05, 1, 5, 10, 25, 100, 500]);
});

test("a line ends where nothing is known", () => {
  const points = [1, null, 2, 3, undefined, undefined, 0].map((value, at) => ({ at, value }));
  const values = runs(points, "value").map((run) => run.map(({ value }) => value));
  assert.deepEqual(values, [[1], [2, 3], [0]]);
});
