// Tell when loud sound begins, after a pause, and when it was last heard, in the context's time.

const LOUD = 0.05;
const PAUSE_S = 0.5;

class Probe extends AudioWorkletProcessor {
  #last = -1;

  process([[channel]]) {
    const before = this.#last;
    for (let i = 0; channel && i < channel.length; i++) {
      if (Math.abs(channel[i]) <= LOUD) continue;
      const time = (currentFrame + i) / sampleRate;
      if (this.#last < 0 || time - this.#last > PAUSE_S) this.port.postMessage({ begins: time });
      this.#last = time;
    }
    if (this.#last !== before) this.port.postMessage({ last: this.#last });
    return true;
  }
}

registerProcessor("probe", Probe);
