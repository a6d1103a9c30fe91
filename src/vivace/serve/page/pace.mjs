/** How fast an answer comes. Times are in milliseconds. */
export class Pace {
  #asked;
  #first = null;
  #last = null;
  #beforeFirst = 0;
  tokens = 0;

  constructor(asked) {
    this.#asked = asked;
  }

  /** There are so many tokens now. */
  saw(tokens, now) {
    if (tokens <= this.tokens) return;
    if (this.#first === null) {
      this.#first = now;
      this.#beforeFirst = tokens;
    }
    this.#last = now;
    this.tokens = tokens;
  }

  /** Seconds to the first token; null before it. */
  get firstToken() {
    return this.#first === null ? null : (this.#first - this.#asked) / 1000;
  }

  /** Tokens per second behind the first one; null where there is none behind it. */
  get perSecond() {
    const seconds = (this.#last - this.#first) / 1000;
    return seconds > 0 ? (this.tokens - this.#beforeFirst) / seconds : null;
  }
}
