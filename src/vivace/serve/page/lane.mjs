/** A model with its settings, and a conversation with it. */

import { Answer } from "./answer.mjs";
import { chunks, post } from "./api.mjs";
import { CALLS, readChunk, requestBody } from "./calls.mjs";
import { announce, html } from "./dom.mjs";
import { duration, short } from "./format.mjs";
import { withKey } from "./key.mjs";
import { Pace } from "./pace.mjs";
import {
  checkTools,
  copySettings,
  markField,
  readSettings,
  summary,
  unmarkFields,
} from "./settings.mjs";
import { showsTokens } from "./tokens.mjs";

const ENDS = {
  stop: "ended",
  length: "reached max tokens",
  abort: "ended by the server",
  deadline: "out of time",
  tool_calls: "calls",
};
const NEAR = 40; // pixels from the end, within which a reader follows what comes

export class Lane {
  #name;
  #turns = [];
  #outputs = null; // the element that asks what called functions gave
  #stopping = null; // an AbortController while an answer comes
  #parts;
  element;

  constructor(name) {
    this.#name = name;
    this.element = document.getElementById("lane").content.firstElementChild.cloneNode(true);
    const part = (selector) => this.element.querySelector(selector);
    this.#parts = {
      settings: part(".settings"),
      transcript: part(".transcript"),
      pace: part(".pace"),
      opener: part(".opener"),
      summary: part(".summary"),
    };
    this.#label();
    this.#listen();
    showsTokens(this.#parts.transcript, document.getElementById("tip"));
  }

  set models(names) {
    const { model } = this.element.elements;
    model.replaceChildren(...names.map((name) => new Option(name, name)));
  }

  set kind(kind) {
    this.element.dataset.kind = kind;
    this.element.elements.tools.disabled = kind !== "chat";
  }

  set open(open) {
    this.#parts.settings.hidden = !open;
    this.#parts.opener.setAttribute("aria-expanded", open);
  }

  get empty() {
    return this.#parts.transcript.childElementCount === 0;
  }

  /** Begin as the other lane is now. */
  copy(other) {
    this.models = [...other.element.elements.model.options].map(({ value }) => value);
    copySettings(other.element, this.element);
    this.#describe();
  }

  /** Whether every field holds something that can be sent; the first that does not says so. */
  check() {
    if (this.element.checkValidity()) return true;
    this.open = true;
    return this.element.reportValidity();
  }

  clear() {
    this.stop();
    this.#turns = [];
    this.#parts.transcript.replaceChildren();
    this.#parts.transcript.setAttribute("aria-busy", "false");
    this.#parts.pace.textContent = "";
  }

  stop() {
    this.#stopping?.abort();
  }

  /** Ask, and show the answer as it comes. Resolves to whether there was any. */
  async send(kind, text) {
    const asked = { role: "user", content: text };
    if (kind === "completion") this.#parts.transcript.replaceChildren();
    this.#parts.transcript.append(html("div", "turn user", text));
    return this.#goOn(kind, kind === "chat" ? [...this.#turns, asked] : [asked]);
  }

  /** As `send`, for a conversation that ends with what the model is to answer. */
  async #goOn(kind, turns) {
    const before = this.#turns;
    const answer = this.#begin();
    const end = await this.#answer(kind, turns, answer);
    if (kind === "chat") answer.end();
    if (this.#turns !== before) return answer.any; // it was cleared meanwhile
    this.#parts.transcript.setAttribute("aria-busy", "false");
    this.#parts.pace.append(` · ${end}`);
    announce(`Model ${this.#name}: ${this.#parts.pace.textContent}`);
    const said = { role: "assistant", content: answer.text };
    if (answer.any) this.#turns = [...turns, said];
    if (answer.calls.messages.length) this.#askOutputs(answer.calls, [...turns, said]);
    return answer.any;
  }

  /** Whoever asks something else instead goes on without the calls. */
  #askOutputs(calls, turns) {
    const called = { ...turns.at(-1), tool_calls: calls.messages };
    this.#outputs = calls.ask((outputs) => {
      const start = () => this.#goOn("chat", [...turns.slice(0, -1), called, ...outputs]);
      this.element.dispatchEvent(new CustomEvent("goon", { bubbles: true, detail: start }));
    });
    this.#parts.transcript.scrollTop = this.#parts.transcript.scrollHeight;
  }

  /** Resolves to why it ended, in words. */
  async #answer(kind, turns, answer) {
    this.#stopping = new AbortController();
    const { signal } = this.#stopping;
    const body = requestBody(kind, readSettings(this.element), turns);
    try {
      let pace;
      const response = await withKey(() => {
        pace = new Pace(performance.now());
        return post(CALLS[kind].path, body, signal);
      });
      let last;
      for await (const chunk of chunks(response)) {
        const read = readChunk(kind, chunk);
        this.#take(answer, pace, read);
        if (read.finish) last = read;
      }
      return ending(last);
    } catch (error) {
      return this.#failed(answer, error);
    } finally {
      this.#stopping = null;
    }
  }

  #take(answer, pace, read) {
    const { transcript } = this.#parts;
    const follows = transcript.scrollHeight - transcript.scrollTop - transcript.clientHeight < NEAR;
    answer.add(read);
    pace.saw(read.count, performance.now());
    this.#parts.pace.textContent = [
      `${pace.tokens} tokens`,
      `${short(pace.perSecond)} per second`,
      `first after ${duration(pace.firstToken)}`,
    ].join(" · ");
    if (follows) transcript.scrollTop = transcript.scrollHeight;
  }

  #failed(answer, error) {
    if (error.name === "AbortError") return "stopped";
    unmarkFields(this.element);
    if (markField(this.element, error.param)) this.open = true;
    answer.fail(error.message);
    return "failed";
  }

  #begin() {
    const { transcript, pace } = this.#parts;
    this.#outputs?.remove();
    const body = html("div", "turn assistant");
    transcript.append(body);
    transcript.scrollTop = transcript.scrollHeight;
    transcript.setAttribute("aria-busy", "true");
    pace.textContent = "waiting for the first token";
    return new Answer(body);
  }

  #label() {
    const { settings, transcript, opener } = this.#parts;
    settings.id = `settings-${this.#name}`;
    opener.setAttribute("aria-controls", settings.id);
    this.element.setAttribute("aria-label", `Model ${this.#name}`);
    transcript.setAttribute("aria-label", `Conversation with model ${this.#name}`);
    this.element.querySelector(".lane-name").textContent = this.#name;
  }

  #listen() {
    const { settings, opener } = this.#parts;
    opener.addEventListener("click", () => (this.open = settings.hidden));
    this.element.addEventListener("input", (event) => {
      event.target.removeAttribute("aria-invalid");
      this.#describe();
    });
    this.element.addEventListener("submit", (event) => event.preventDefault());
    this.#describe();
  }

  #describe() {
    checkTools(this.element);
    this.#parts.summary.textContent = summary(readSettings(this.element));
  }
}

/** Why an answer ended, by its last chunk but the usage. */
function ending({ stop, finish }) {
  return stop ? `stopped at ${JSON.stringify(stop)}` : ENDS[finish] ?? finish;
}
