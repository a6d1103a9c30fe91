/** The playground: what is asked, and of whom. */

import { getJson } from "./api.mjs";
import { askKey } from "./key.mjs";
import { Lane } from "./lane.mjs";

const WIDE = matchMedia("(min-width: 64rem)");
const TOUCH = matchMedia("(pointer: coarse)");

const KINDS = {
  chat: {
    placeholder: "Ask something",
    hint: "Enter sends, Shift+Enter begins a line",
    sendsOnEnter: () => !TOUCH.matches,
    examples: ["What can you do?", "Write a Python function `mean(values)`. Return the mean."],
  },
  completion: {
    placeholder: "Text for the model to continue",
    hint: "Ctrl+Enter sends",
    sendsOnEnter: () => false,
    examples: [
      "def fibonacci(n):\n",
      "class Point:\n    def __init__(self, x, y):\n        self.x = x\n        self.y = y\n",
    ],
  },
};

export class Playground {
  #lanes = [new Lane("A")];
  #busy = false;
  #parts;

  constructor(section) {
    const part = (selector) => section.querySelector(selector);
    this.#parts = {
      lanes: part(".lanes"),
      kinds: part(".kinds"),
      compare: part("#compare"),
      clear: part("#clear"),
      composer: part(".composer"),
      prompt: part("textarea"),
      send: part("#send"),
      stop: part("#stop"),
      hint: part(".hint"),
      examples: part(".examples"),
    };
    this.#listen();
    this.#place();
    this.#setKind();
    this.#lanes[0].open = WIDE.matches;
  }

  /** Fill in what is served here; to be called again once there is another key. */
  async begin() {
    try {
      const { data } = await getJson("v1/models");
      for (const lane of this.#lanes) lane.models = data.map(({ id }) => id);
      this.#hint();
    } catch (error) {
      this.#parts.hint.textContent = error.message;
      if (error.status === 401) askKey(error.message);
    }
  }

  #listen() {
    const { kinds, compare, clear, composer, lanes, prompt, stop } = this.#parts;
    lanes.addEventListener("goon", ({ detail }) => this.#busy || this.#await([detail()]));
    kinds.addEventListener("change", () => this.#setKind());
    compare.addEventListener("change", () => this.#compare(compare.checked));
    clear.addEventListener("click", () => this.#clear());
    stop.addEventListener("click", () => this.#lanes.forEach((lane) => lane.stop()));
    composer.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing || event.shiftKey) return;
      if (!event.ctrlKey && !event.metaKey && !KINDS[this.#kind].sendsOnEnter()) return;
      event.preventDefault();
      composer.requestSubmit();
    });
  }

  get #kind() {
    return this.#parts.kinds.querySelector(":checked").value;
  }

  #setKind() {
    const { placeholder, examples } = KINDS[this.#kind];
    for (const lane of this.#lanes) lane.kind = this.#kind;
    this.#parts.composer.dataset.kind = this.#kind;
    this.#parts.prompt.placeholder = placeholder;
    this.#parts.examples.replaceChildren(...examples.map((text) => this.#example(text)));
    this.#hint();
    this.#clear();
  }

  #hint() {
    this.#parts.hint.textContent = TOUCH.matches ? "" : KINDS[this.#kind].hint;
  }

  #example(text) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "example";
    button.textContent = text.trim().split("\n")[0];
    button.addEventListener("click", () => {
      this.#parts.prompt.value = text;
      this.#parts.prompt.focus();
    });
    return button;
  }

  #compare(two) {
    if (two) {
      const lane = new Lane("B");
      lane.copy(this.#lanes[0]);
      this.#lanes.push(lane);
    } else {
      this.#lanes.pop().stop();
    }
    for (const lane of this.#lanes) lane.open = !two && WIDE.matches;
    this.#place();
    this.#clear();
  }

  #place() {
    this.#parts.lanes.replaceChildren(...this.#lanes.map(({ element }) => element));
    this.#parts.lanes.dataset.count = this.#lanes.length;
    for (const lane of this.#lanes) lane.kind = this.#kind;
  }

  #clear() {
    for (const lane of this.#lanes) lane.clear();
    this.#show(false);
  }

  /** Ask every lane at the same time. */
  async #send() {
    const { prompt } = this.#parts;
    const [kind, text] = [this.#kind, prompt.value];
    if (this.#busy || !this.#lanes.every((lane) => lane.check())) return;
    if (kind === "chat") prompt.value = "";
    const answered = await this.#await(this.#lanes.map((lane) => lane.send(kind, text)));
    if (!answered.some(Boolean) && prompt.value === "") prompt.value = text;
  }

  async #await(answers) {
    this.#show(true);
    const answered = await Promise.all(answers);
    this.#show(false);
    return answered;
  }

  #show(busy) {
    const { send, stop, examples, prompt } = this.#parts;
    const focused = document.activeElement === (busy ? send : stop);
    this.#busy = busy;
    send.hidden = busy;
    stop.hidden = !busy;
    examples.hidden = !this.#lanes[0].empty;
    if (focused) (busy ? stop : prompt).focus(); // the one that had it is gone
  }
}
