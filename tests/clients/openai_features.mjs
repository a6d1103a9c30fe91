// All that OpenAI's client for Node.js can ask of the server: node openai_features.mjs URL MODEL.
// The package is found in NODE_CLIENT, a folder that npm installed it into.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(path.join(process.env.NODE_CLIENT, "x.js")));
const { default: OpenAI, BadRequestError, NotFoundError } = require("openai");
const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const prompt = "hello, this is";
const messages = [{ role: "user", content: "hello" }];

const features = {
  async models() {
    const cards = (await client.models.list()).data;
    assert.equal(cards[0].id, model);
    assert.equal((await client.models.retrieve(encodeURIComponent(model))).id, model);
  },
  async completion() {
    const answer = await client.completions.create({ model, prompt, max_tokens: 8 });
    assert.equal(answer.object, "text_completion");
    assert.ok(answer.usage.completion_tokens <= 8);
  },
  async completionStreamedEqualsWhole() {
    const asked = { model, prompt, max_tokens: 8, seed: 3 };
    const whole = await client.completions.create(asked);
    let text = "";
    let usage;
    const chunks = await client.completions.create({
      ...asked,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of chunks) {
      text += chunk.choices[0]?.text ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, whole.choices[0].text);
    assert.equal(usage.total_tokens, whole.usage.total_tokens);
  },
  async completionOfTokenIdsWithEcho() {
    const answer = await client.completions.create({
      model,
      prompt: [[5, 6], [7]],
      max_tokens: 0,
      echo: true,
      logprobs: 1,
    });
    assert.equal(answer.choices.length, 2);
    assert.equal(answer.choices[0].logprobs.token_logprobs[0], null);
  },
  async chat() {
    const answer = await client.chat.completions.create({ model, messages, max_tokens: 8, n: 2 });
    assert.equal(answer.choices.length, 2);
    assert.equal(answer.choices[1].message.role, "assistant");
  },
  async chatStreamedEqualsWhole() {
    const asked = { model, messages, max_completion_tokens: 8, seed: 5 };
    const whole = await client.chat.completions.create(asked);
    const stream = client.chat.completions.stream(asked);
    const final = await stream.finalChatCompletion();
    assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
  },
  async chatLogprobs() {
    const answer = await client.chat.completions.create({
      model,
      messages,
      max_tokens: 3,
      logprobs: true,
      top_logprobs: 4,
    });
    for (const one of answer.choices[0].logprobs.content) {
      assert.equal(one.top_logprobs.length, 4);
    }
  },
  async response() {
    const asked = { model, input: "hello", max_output_tokens: 8, store: false };
    const answer = await client.responses.create(asked);
    assert.equal(typeof answer.output_text, "string");
    const kinds = [];
    for await (const event of await client.responses.create({ ...asked, stream: true })) {
      kinds.push(event.type);
    }
    assert.equal(kinds[0], "response.created");
    assert.ok(kinds.includes("response.output_text.delta"));
  },
  async chatInAForm() {
    const schema = {
      type: "object",
      properties: { yes: { type: "boolean" } },
      required: ["yes"],
      additionalProperties: false,
    };
    const answer = await client.chat.completions.create({
      model,
      messages,
      max_tokens: 30,
      response_format: { type: "json_schema", json_schema: { name: "answer", schema } },
    });
    assert.equal(typeof JSON.parse(answer.choices[0].message.content).yes, "boolean");
  },
  async toolsAreCalled() {
    const parameters = {
      type: "object",
      properties: { n: { enum: [1, 2] } },
      required: ["n"],
      additionalProperties: false,
    };
    const asked = {
      model,
      messages,
      max_tokens: 90,
      tools: [{ type: "function", function: { name: "take", parameters } }],
      tool_choice: { type: "function", function: { name: "take" } },
    };
    const { choices } = await client.chat.completions.create(asked);
    const [call] = choices[0].message.tool_calls;
    assert.ok([1, 2].includes(JSON.parse(call.function.arguments).n));
    const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
    assert.equal(streamed.choices[0].message.tool_calls[0].function.name, "take");
    const response = await client.responses.create({
      model,
      input: "hello",
      max_output_tokens: 90,
      tools: [{ type: "function", name: "take", parameters, strict: true }],
      tool_choice: { type: "function", name: "take" },
    });
    assert.equal(response.output[0].type, "function_call");
  },
  async embeddings() {
    const answer = await client.embeddings.create({ model, input: ["a", "b"] });
    assert.equal(answer.data.length, 2);
    const length = Math.hypot(...answer.data[0].embedding);
    assert.ok(Math.abs(length - 1) < 1e-4);
  },
  async leavingEndsTheRequest() {
    const chunks = await client.completions.create({
      model,
      prompt,
      max_tokens: 400,
      stream: true,
    });
    for await (const _ of chunks) break;
    chunks.controller.abort();
    assert.equal((await fetch(`${url}/health`)).status, 200);
  },
  async errorsHaveTheirClasses() {
    await assert.rejects(
      client.completions.create({ model, prompt, temperature: -1 }),
      (error) => error instanceof BadRequestError && error.param === "temperature",
    );
    await assert.rejects(
      client.completions.create({ model: "another", prompt }),
      (error) => error instanceof NotFoundError && error.code === "model_not_found",
    );
  },
};

let failed = 0;
for (const [name, feature] of Object.entries(features)) {
  try {
    await feature();
  } catch (error) {
    failed += 1;
    console.error(`${name}: ${error}`);
  }
}
const count = Object.keys(features).length;
console.log(`${count - failed} of ${count} features work`);
process.exit(failed ? 1 : 0);
