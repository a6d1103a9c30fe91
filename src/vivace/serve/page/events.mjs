/** Server-sent events out of text that comes in pieces of any size (WHATWG HTML, section 9.2). */
export class EventParser {
  #rest = "";
  #data = [];

  /** The data of every event that is complete now. Their types and ids are not kept. */
  push(text) {
    // A carriage return at the very end may be half of a line's end: it waits for what follows.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    return lines.flatMap((line) => this.#take(line));
  }

  #take(line) {
    if (line === "") return this.#complete();
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (field === "data") this.#data.push(value);
    return [];
  }

  #complete() {
    const data = this.#data;
    this.#data = [];
    return data.length ? [data.join("\n")] : [];
  }
}
