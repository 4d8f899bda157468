// Sound is master: the worklet plays it, and the image shown is that of the frame being heard.

const MOST_IMAGES = 75; // kept while nothing is drawn, as in a hidden tab
const RATE_WINDOW_MS = 2000;
const CLEAR_PATIENCE_MS = 1000;
const DISPLAY_S = 1 / 60; // from drawing to the screen

/** Event: "heard" (frame), when a frame's sound comes out of the loudspeaker. */
export class Playback extends EventTarget {
  #context;
  #node = null;
  #gain;
  #canvas;
  #pen;
  #frames = new Map(); // by index: what arrived, with `bitmap` once decoded
  #begun = []; // {index, time}: when frames' sound begins, in the context's time
  #heard = null;
  #running = false;
  #generation = 0;
  #refusedUntil = 0;
  #shown = [];
  #offsets = [];
  #backdrop = null;
  #volume = 1;
  #underruns = 0;
  #dropped = 0;
  #buffered = 0;
  /** Called with a function that draws a frame, when its sound begins in the context's time; for the recorder. */
  onbegin = null;

  constructor(canvas) {
    super();
    this.#canvas = canvas;
    this.#pen = canvas.getContext("2d");
    // A phone call ends a page's sound, and nothing begins it again by itself.
    document.addEventListener("visibilitychange", () => !document.hidden && this.#running && this.#context.resume());
  }

  get context() {
    return this.#context;
  }

  /** The node whose sound is what the head says, before the volume. */
  get source() {
    return this.#node;
  }

  /** The frame whose sound comes out of the loudspeaker. */
  get heard() {
    return this.#heard;
  }

  /** Frames a second and dropped ones, sound that waits [s], gaps in speech, image against sound [ms, late: > 0]. */
  get statistics() {
    const recent = this.#shown.filter((time) => time > performance.now() - RATE_WINDOW_MS);
    const offsets = [...this.#offsets].sort((a, b) => a - b);
    return {
      fps: recent.length > 1 ? ((recent.length - 1) * 1000) / (recent.at(-1) - recent[0]) : 0,
      dropped: this.#dropped,
      buffered: this.#buffered,
      underruns: this.#underruns,
      offsetMs: offsets.length ? offsets[offsets.length >> 1] : null,
    };
  }

  /** Call by a gesture of the user, as browsers give sound to nothing else. */
  async prepare(sampleRate) {
    if (this.#context?.sampleRate !== sampleRate) {
      await this.#context?.close();
      this.#context = new AudioContext({ sampleRate, latencyHint: "interactive" });
      await this.#context.audioWorklet.addModule("playback-worklet.js");
      this.#node = new AudioWorkletNode(this.#context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
      this.#node.port.onmessage = ({ data }) => this.#report(data);
      this.#gain = new GainNode(this.#context, { gain: this.#volume });
      this.#node.connect(this.#gain).connect(this.#context.destination);
    }
    await this.#context.resume();
  }

  set volume(value) {
    this.#volume = value;
    this.#gain?.gain.setTargetAtTime(value, this.#context.currentTime, 0.01);
  }

  resize(width, height) {
    if (this.#canvas.width !== width || this.#canvas.height !== height) Object.assign(this.#canvas, { width, height });
  }

  /** An image (ImageBitmap) behind transparent frames; null: none. */
  set backdrop(image) {
    this.#backdrop = image;
  }

  /** Take the frames of a session, or of the same one on a new connection. */
  begin() {
    this.#generation = -1;
    this.#refusedUntil = 0;
    this.#empty();
    if (!this.#running) requestAnimationFrame(this.#tick);
    this.#running = true;
  }

  end() {
    this.#running = false;
    this.#empty();
    this.#heard = null;
    this.#context?.suspend();
  }

  /** Forget what has not been heard, at once; frames that still come are refused until the server has cleared too. */
  clear() {
    this.#refusedUntil = performance.now() + CLEAR_PATIENCE_MS;
    this.#empty();
  }

  /** The server has cleared: frames of this generation are new. */
  accept(generation) {
    if (generation <= this.#generation) return;
    this.#empty();
    this.#generation = generation;
    this.#refusedUntil = 0;
  }

  push(frame) {
    if (frame.generation < this.#generation) return;
    this.accept(frame.generation);
    if (performance.now() < this.#refusedUntil || !this.#node) return;
    const { samples, index, generation } = frame;
    this.#frames.set(index, { ...frame, samples: null, bitmap: null });
    if (!frame.image) this.#dropped += 1;
    else this.#decode(frame);
    this.#node.port.postMessage({ samples, index, generation }, [samples.buffer]);
  }

  async #decode({ index, image, generation }) {
    let bitmap;
    try {
      bitmap = await createImageBitmap(image);
    } catch {
      this.#dropped += 1;
      return;
    }
    const frame = this.#frames.get(index);
    if (frame && generation === this.#generation) frame.bitmap = bitmap;
    else bitmap.close();
  }

  #empty() {
    this.#node?.port.postMessage("clear");
    for (const frame of this.#frames.values()) frame.bitmap?.close();
    this.#frames.clear();
    this.#begun = [];
  }

  #report(report) {
    if ("underrun" in report) {
      this.#underruns += 1;
    } else if (report.generation === this.#generation && this.#frames.has(report.index)) {
      const frame = this.#frames.get(report.index);
      frame.time = report.time;
      this.#buffered = report.buffered;
      this.#begun.push(report);
      if (frame.bitmap) this.onbegin?.((pen, width, height) => this.#compose(pen, frame.bitmap, width, height));
      while (this.#frames.size > MOST_IMAGES) this.#forget(this.#frames.keys().next().value);
      if (document.hidden) this.#advance();
    }
  }

  /** The time in the context whose sound is now heard: what has left the loudspeaker. */
  #now() {
    const { contextTime, performanceTime } = this.#context.getOutputTimestamp();
    if (contextTime > 0) return contextTime + (performance.now() - performanceTime) / 1000;
    return this.#context.currentTime - (this.#context.outputLatency || this.#context.baseLatency || 0);
  }

  #tick = () => {
    if (!this.#running) return;
    const frame = this.#advance();
    if (frame && this.#canvas.dataset.frame !== String(frame.index)) this.#show(frame);
    requestAnimationFrame(this.#tick);
  };

  /** Bring the heard frame up to date; returns the newest frame, heard now or earlier, that has an image. */
  #advance() {
    const seen = this.#now() + DISPLAY_S;
    let newest = null;
    while (this.#begun.length && this.#begun[0].time <= seen) newest = this.#begun.shift();
    if (newest) {
      this.#heard = this.#frames.get(newest.index) ?? this.#heard;
      this.dispatchEvent(new CustomEvent("heard", { detail: this.#heard }));
    }
    if (!this.#heard) return null;
    let showable = null;
    for (const [index, frame] of this.#frames) {
      if (index > this.#heard.index) break;
      if (frame.bitmap && frame.time) {
        if (showable) this.#forget(showable.index);
        showable = frame;
      } else if (index < this.#heard.index - 3) {
        this.#forget(index); // left out, or its image came too late
      }
    }
    return showable;
  }

  #forget(index) {
    this.#frames.get(index)?.bitmap?.close();
    this.#frames.delete(index);
  }

  #show(frame) {
    this.#compose(this.#pen, frame.bitmap, this.#canvas.width, this.#canvas.height);
    this.#canvas.dataset.frame = frame.index;
    const now = performance.now();
    this.#shown.push(now);
    while (this.#shown[0] < now - RATE_WINDOW_MS) this.#shown.shift();
    this.#offsets.push(1000 * (this.#now() + DISPLAY_S - frame.time));
    if (this.#offsets.length > 50) this.#offsets.shift();
  }

  #compose(pen, bitmap, width, height) {
    pen.clearRect(0, 0, width, height);
    if (this.#backdrop) {
      const { width: w, height: h } = this.#backdrop;
      const scale = Math.max(width / w, height / h);
      pen.drawImage(this.#backdrop, (width - w * scale) / 2, (height - h * scale) / 2, w * scale, h * scale);
    }
    pen.drawImage(bitmap, 0, 0, width, height);
  }
}
