/** One answer as it grows. */

import { blocks } from "./blocks.mjs";
import { html } from "./dom.mjs";
import { tokenElement } from "./tokens.mjs";

export class Answer {
  #body;
  #tail = document.createTextNode("");
  #held = []; // tokens whose text is still to come: half a character, or what may be a stop string
  text = "";

  constructor(parent) {
    this.#body = parent;
    parent.append(this.#tail);
  }

  add({ text, tokens }) {
    this.text += text;
    this.#held.push(...tokens);
    if (text === "") return;
    const held = this.#held.splice(0);
    if (held.length) this.#body.append(this.#focusable(tokenElement(text, held)));
    else this.#tail.appendData(text);
  }

  /** The answer is whole: its code is set apart, unless the tokens are to be seen as they are. */
  end() {
    if (this.#body.querySelector(".token")) return;
    const shown = ({ code, text }) => html(code ? "pre" : "div", "", text.trimEnd());
    this.#body.replaceChildren(...blocks(this.text).map(shown));
  }

  fail(message) {
    const notice = html("p", "error", message);
    notice.setAttribute("role", "alert");
    this.#body.after(notice);
  }

  /** The first token is where Tab enters; arrows go on from there. */
  #focusable(element) {
    if (!this.#body.querySelector(".token")) element.tabIndex = 0;
    return element;
  }
}
