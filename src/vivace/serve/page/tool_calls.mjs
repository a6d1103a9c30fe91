/** The calls of one answer, and what the functions gave: a person says it here. */

import { html } from "./dom.mjs";

export class ToolCalls {
  #turn;
  #shown = []; // the elements that hold arguments
  messages = []; // the calls, as a message has them

  constructor(turn) {
    this.#turn = turn;
  }

  /** Pieces as they stream: a name first, then arguments. */
  add(pieces) {
    for (const { index, id, function: given } of pieces) {
      if (id) this.#begin(index, id, given.name);
      this.messages[index].function.arguments += given.arguments;
      this.#shown[index].textContent = this.messages[index].function.arguments;
    }
  }

  /** Ask for the functions' outputs; `done` is called with the messages that tell them. */
  ask(done) {
    const asked = html("div", "outputs");
    const fields = this.messages.map((call) => {
      const label = html("label", "", `What ${call.function.name} gives`);
      const field = html("textarea");
      field.rows = 1;
      label.append(field);
      asked.append(label);
      return field;
    });
    const button = html("button", "", "Send outputs");
    button.type = "button";
    button.addEventListener("click", () => {
      for (const [place, { value }] of fields.entries()) this.#show(place, value);
      done(this.messages.map(({ id }, place) => output(id, fields[place].value)));
    });
    asked.append(button);
    this.#turn.after(asked);
    return asked;
  }

  #show(place, output) {
    this.#shown[place].after(html("div", "output", output));
  }

  #begin(index, id, name) {
    this.messages[index] = { id, type: "function", function: { name, arguments: "" } };
    const call = html("div", "call");
    this.#shown[index] = html("code", "arguments");
    call.append(html("code", "name", name), this.#shown[index]);
    this.#turn.append(call);
  }
}

const output = (id, content) => ({ role: "tool", tool_call_id: id, content });
