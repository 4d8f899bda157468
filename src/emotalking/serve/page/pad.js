// The valence/arousal pad: a two-dimensional slider for mouse, touch and keys.

const STEP = 0.05;
const LARGE_STEP = 0.2;
const NEAR = 0.12;

const clamp = (value) => Math.max(-1, Math.min(1, Math.round(value * 100) / 100));
const signed = (value) => (value < 0 ? "−" : "") + Math.abs(value).toFixed(2);

/** Event "input" when the user moves it; `value` is [valence, arousal]. */
export class Pad extends EventTarget {
  #element;
  #handle = document.createElement("i");
  #named = {};
  #value = [0, 0];

  constructor(element) {
    super();
    this.#element = element;
    this.#handle.className = "handle";
    element.addEventListener("pointerdown", (event) => {
      if (this.disabled) return;
      element.setPointerCapture(event.pointerId);
      element.focus({ preventScroll: true });
      this.#drag(event);
      event.preventDefault();
    });
    element.addEventListener("pointermove", (event) => element.hasPointerCapture(event.pointerId) && this.#drag(event));
    element.addEventListener("keydown", (event) => this.#key(event));
  }

  get disabled() {
    return this.#element.getAttribute("aria-disabled") === "true";
  }

  set disabled(value) {
    this.#element.setAttribute("aria-disabled", value);
    this.#element.tabIndex = value ? -1 : 0;
  }

  get value() {
    return this.#value;
  }

  /** Move the handle, without an event. */
  set value([valence, arousal]) {
    this.#value = [clamp(valence), clamp(arousal)];
    this.#place(this.#handle, this.#value);
    this.#element.setAttribute("aria-valuenow", this.#value[0]);
    this.#element.setAttribute("aria-valuetext", this.text);
  }

  /** Emotions by name, each [valence, arousal]: marks on the pad. */
  set named(emotions) {
    this.#named = emotions;
    const marks = Object.entries(emotions).map(([name, point]) => {
      const mark = document.createElement("span");
      mark.className = "mark";
      mark.title = name;
      this.#place(mark, point);
      return mark;
    });
    this.#element.replaceChildren(...marks, this.#handle);
    this.value = this.#value;
  }

  /** The point in words. */
  get text() {
    const [valence, arousal] = this.#value;
    const name = this.name;
    return `${name ? `${name}, ` : ""}valence ${signed(valence)}, arousal ${signed(arousal)}`;
  }

  /** The named emotion at the point; empty: none is near. */
  get name() {
    const distance = ([valence, arousal]) => Math.hypot(valence - this.#value[0], arousal - this.#value[1]);
    const [best] = Object.entries(this.#named).sort((a, b) => distance(a[1]) - distance(b[1]));
    return best && distance(best[1]) < NEAR ? best[0] : "";
  }

  #place(element, [valence, arousal]) {
    element.style.left = `${50 + 50 * valence}%`;
    element.style.top = `${50 - 50 * arousal}%`;
  }

  #move(valence, arousal) {
    this.value = [valence, arousal];
    this.dispatchEvent(new Event("input"));
  }

  #drag({ clientX, clientY }) {
    const box = this.#element.getBoundingClientRect();
    this.#move((2 * (clientX - box.left)) / box.width - 1, 1 - (2 * (clientY - box.top)) / box.height);
  }

  #key(event) {
    const step = event.shiftKey ? LARGE_STEP : STEP;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowDown: [0, -step], ArrowUp: [0, step] };
    const [valence, arousal] = this.#value;
    if (this.disabled || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves) this.#move(valence + moves[event.key][0], arousal + moves[event.key][1]);
    else if (event.key === "Home") this.#move(0, 0);
    else return;
    event.preventDefault();
  }
}
