// Hand on what the microphone hears in pieces of 20 ms, mixed to one channel.

class Capture extends AudioWorkletProcessor {
  #piece = new Float32Array(Math.round(sampleRate / 50));
  #filled = 0;

  process([channels]) {
    if (!channels.length) return true;
    for (let i = 0; i < channels[0].length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      this.#piece[this.#filled++] = sum / channels.length;
      if (this.#filled === this.#piece.length) {
        this.port.postMessage(this.#piece.slice());
        this.#filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
