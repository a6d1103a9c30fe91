/** The server's API. Paths are relative to the page, so that it works behind a proxy's prefix. */

import { EventParser } from "./events.mjs";
import { savedKey } from "./key_store.mjs";

const DONE = "[DONE]";

export class ApiError extends Error {
  /** As OpenAI's error objects; `status` is 0 where the server could not be reached. */
  constructor(message, { status = 0, param = null } = {}) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

export async function getText(path, signal) {
  return (await call(path, { signal, cache: "no-store" })).text();
}

export async function getJson(path) {
  return JSON.parse(await getText(path));
}

/** Resolves once the first token is there, or fails with what the server said. */
export function post(path, body, signal) {
  const headers = { "content-type": "application/json" };
  return call(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

/** The chunks of an answer that streams. */
export async function* chunks(response) {
  const events = new EventParser();
  for await (const text of readText(response.body)) {
    for (const data of events.push(text)) {
      if (data === DONE) return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message, chunk.error);
      yield chunk;
    }
  }
  throw new ApiError("The connection ended before the answer did.");
}

async function call(path, options) {
  const key = savedKey();
  const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
  const response = await reach(path, { ...options, headers });
  if (response.ok) return response;
  throw await failure(response);
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached.");
  }
}

async function failure(response) {
  const told = await response.json().catch(() => ({}));
  const message = told.error?.message ?? `The server answered with status ${response.status}.`;
  return new ApiError(message, { status: response.status, param: told.error?.param });
}

/** As `for await` over the stream itself does where browsers know how. */
async function* readText(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {}); // who stopped reading needs no more of it
  }
}
