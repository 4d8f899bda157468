// What is said, shown while it is heard.

const KEPT_S = 2; // after the last word

/** Captions of utterances; a screen reader hears each sentence once, when it begins. */
export class Captions {
  #element;
  #known = [];
  #shown = null;
  #until = 0;

  constructor(element) {
    this.#element = element;
  }

  add({ utterance, text, start_s: start, end_s: end }) {
    this.#known.push({ utterance, text, start, end });
    if (this.#known.length > 100) this.#known.shift();
  }

  /** Show what belongs to the frame that is heard. */
  show({ utterance, position, speaking }) {
    const now = performance.now();
    const found = speaking && this.#known.find((one) => one.utterance === utterance && position > one.start && position <= one.end);
    if (found) {
      this.#until = now + 1000 * KEPT_S;
      if (found !== this.#shown) this.#element.textContent = found.text;
      this.#shown = found;
    } else if (this.#shown && now > this.#until) {
      this.#hide();
    }
  }

  clear() {
    this.#known = [];
    this.#hide();
  }

  #hide() {
    this.#shown = null;
    this.#element.textContent = "";
  }
}
