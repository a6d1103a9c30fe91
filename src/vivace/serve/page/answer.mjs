/** One answer as it grows: its reasoning, folded; what it says; its calls of tools. */

import { blocks } from "./blocks.mjs";
import { html } from "./dom.mjs";
import { ToolCalls } from "./tool_calls.mjs";
import { tokenElement } from "./tokens.mjs";

export class Answer {
  #turn;
  #said = html("div", "said");
  #thought = null;
  #held = []; // tokens whose text is still to come: half a character, or what may be a stop string
  calls;
  text = "";

  constructor(turn) {
    this.#turn = turn;
    turn.append(this.#said);
    this.calls = new ToolCalls(turn);
  }

  /** Whether there is anything but reasoning. */
  get any() {
    return this.text !== "" || this.calls.messages.length > 0;
  }

  add({ text, thought, calls, tokens }) {
    this.text += text;
    this.#held.push(...tokens);
    if (thought) this.#write(this.#folded(), thought, text === "");
    if (text) this.#write(this.#said, text, true);
    this.calls.add(calls);
  }

  /** The answer is whole: its code is set apart, unless the tokens are to be seen as they are. */
  end() {
    if (this.#said.querySelector(".token")) return;
    const shown = ({ code, text }) => html(code ? "pre" : "div", "", text.trimEnd());
    this.#said.replaceChildren(...blocks(this.text).map(shown));
  }

  fail(message) {
    const notice = html("p", "error", message);
    notice.setAttribute("role", "alert");
    this.#turn.after(notice);
  }

  /** More text in one of its parts; held tokens are what it is made of where it `takes` them. */
  #write(part, text, takes) {
    const tokens = takes ? this.#held.splice(0) : [];
    if (!tokens.length) {
      if (part.lastChild?.nodeType !== Node.TEXT_NODE) part.append(document.createTextNode(""));
      part.lastChild.appendData(text);
      return;
    }
    const element = tokenElement(text, tokens);
    // The first token is where Tab enters; arrows go on from there.
    if (!part.querySelector(".token")) element.tabIndex = 0;
    part.append(element);
  }

  #folded() {
    if (this.#thought) return this.#thought;
    const folded = html("details", "thought");
    this.#thought = html("div");
    folded.append(html("summary", "", "Reasoning"), this.#thought);
    this.#turn.prepend(folded);
    return this.#thought;
  }
}
