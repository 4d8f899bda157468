// Play frames' sound by count of samples, and report when each frame begins.
//
// The buffer is kept near its target (seconds of sound between arrival and output). Clocks of server and sound card
// differ, so in quiet frames one is left out or a pause put in, never in speech.

const SHORTEST_TARGET_S = 0.05;
const LONGEST_TARGET_S = 0.25;
const WINDOW_S = 1; // of observation of the level
const FAR_S = 0.1; // beyond the target: quiet frames are left out at once
const QUIET = 0.002; // largest sample of a frame that may be left out
const MOST_S = 2; // sound beyond this is what a stalled computer or network has left behind

class Playback extends AudioWorkletProcessor {
  #queue = [];
  #offset = 0;
  #level = 0;
  #pause = 0;
  #waiting = true;
  #target = SHORTEST_TARGET_S * sampleRate;
  #lowest = Infinity;
  #observed = 0;
  #calm = 0;
  #speaking = false;
  #heard = null;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => (data === "clear" ? this.#clear() : this.#push(data));
  }

  #clear() {
    this.#queue = [];
    this.#offset = this.#level = this.#pause = 0;
    this.#waiting = true;
    this.#speaking = false;
    this.#restartWindow();
  }

  #push({ samples, index, generation }) {
    const frame = { samples, index, generation, quiet: samples.every((x) => Math.abs(x) < QUIET * 32768) };
    if (this.#waiting) {
      this.#waiting = false;
      this.#pause = Math.round(this.#target);
      this.#restartWindow();
    }
    this.#queue.push(frame);
    this.#level += samples.length;
    while (this.#level > MOST_S * sampleRate && this.#queue.length > 1) this.#skip();
  }

  #restartWindow() {
    this.#lowest = Infinity;
    this.#observed = 0;
  }

  #skip() {
    const [frame] = this.#queue.splice(this.#offset ? 1 : 0, 1);
    this.#level -= frame.samples.length;
  }

  process(_inputs, [[out]]) {
    let at = 0;
    while (at < out.length && !this.#waiting) {
      if (this.#pause > 0) {
        const silent = Math.min(this.#pause, out.length - at);
        this.#pause -= silent;
        at += silent;
      } else if (this.#queue.length) {
        at += this.#play(out, at);
      } else {
        this.#underrun();
      }
    }
    this.#observe(out.length);
    return true;
  }

  /** Copy what fits of the first frame; returns how many samples. */
  #play(out, at) {
    const frame = this.#queue[0];
    if (this.#offset === 0) this.#begin(frame, at);
    const count = Math.min(frame.samples.length - this.#offset, out.length - at);
    for (let i = 0; i < count; i++) out[at + i] = frame.samples[this.#offset + i] / 32768;
    this.#offset += count;
    this.#level -= count;
    if (this.#offset === frame.samples.length) {
      this.#queue.shift();
      this.#offset = 0;
      if (this.#queue[0]?.quiet) this.#adjust();
    }
    return count;
  }

  #begin(frame, at) {
    this.#speaking = !frame.quiet;
    this.#heard = frame.index;
    this.port.postMessage({
      index: frame.index,
      generation: frame.generation,
      time: (currentFrame + at) / sampleRate,
      buffered: this.#level / sampleRate,
    });
  }

  /** Before a quiet frame: leave it out or wait, if the level has been wrong for a whole window, or is far too high. */
  #adjust() {
    while (this.#level > this.#target + FAR_S * sampleRate && this.#queue[0]?.quiet && this.#queue.length > 1) this.#skip();
    if (!this.#queue[0].quiet || this.#observed < WINDOW_S * sampleRate) return;
    const frame = this.#queue[0];
    if (this.#lowest > this.#target + frame.samples.length / 2 && this.#queue.length > 1) {
      this.#skip();
    } else if (this.#lowest < this.#target / 4) {
      this.#pause = Math.round(this.#target - this.#lowest);
    }
    this.#restartWindow();
  }

  #underrun() {
    this.#waiting = true;
    if (this.#speaking) {
      this.#target = Math.min(LONGEST_TARGET_S * sampleRate, this.#target + 0.02 * sampleRate);
      this.port.postMessage({ underrun: this.#heard });
    }
    this.#calm = 0;
  }

  #observe(count) {
    if (this.#waiting || this.#pause) return;
    this.#lowest = Math.min(this.#lowest, this.#level);
    this.#observed += count;
    this.#calm += count;
    if (this.#calm > 20 * sampleRate) {
      this.#target = Math.max(SHORTEST_TARGET_S * sampleRate, this.#target - 0.01 * sampleRate);
      this.#calm = 0;
    }
  }
}

registerProcessor("playback", Playback);
