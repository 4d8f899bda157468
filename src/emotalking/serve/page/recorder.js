// Record image and sound of the head to a file, in the browser.

import { notice, save } from "./api.js";

const KINDS = [
  ["video/mp4;codecs=avc1.640028,mp4a.40.2", "mp4"],
  ["video/mp4;codecs=avc1.640028,opus", "mp4"],
  ["video/mp4", "mp4"],
  ["video/webm;codecs=vp9,opus", "webm"],
  ["video/webm;codecs=vp8,opus", "webm"],
  ["video/webm", "webm"],
];
const LEAST_HEIGHT = 512; // of the file: the label could not be read on less
const VIDEO_BITS = 6_000_000;

class Recorder {
  #playback;
  #recorder = null;
  #sound = null;
  #pieces = [];
  began = 0;

  constructor(playback) {
    this.#playback = playback;
  }

  get on() {
    return this.#recorder !== null;
  }

  /** Begin; frames are drawn as their sound begins, with the label that they are synthetic. */
  start(width, height) {
    const kind = KINDS.find(([type]) => globalThis.MediaRecorder?.isTypeSupported(type));
    if (!kind) throw new Error("This browser cannot record: use a newer one.");
    const scale = Math.max(1, Math.ceil(LEAST_HEIGHT / height));
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width * scale, height * scale].map((side) => side - (side % 2));
    const pen = canvas.getContext("2d", { alpha: !kind[1].includes("mp4") });
    pen.imageSmoothingQuality = "high";
    const stream = canvas.captureStream();
    this.#sound = new MediaStreamAudioDestinationNode(this.#playback.context, { channelCount: 1 });
    this.#playback.source.connect(this.#sound);
    for (const track of this.#sound.stream.getAudioTracks()) stream.addTrack(track);
    this.#recorder = new MediaRecorder(stream, { mimeType: kind[0], videoBitsPerSecond: VIDEO_BITS });
    this.#pieces = [];
    this.#recorder.ondataavailable = ({ data }) => data.size && this.#pieces.push(data);
    this.#playback.onbegin = (draw) => {
      draw(pen, canvas.width, canvas.height);
      label(pen, canvas);
    };
    this.#recorder.start(1000);
    this.began = performance.now();
  }

  /** End; returns {blob, name}. */
  async stop() {
    const recorder = this.#recorder;
    this.#recorder = null;
    this.#playback.onbegin = null;
    if (recorder.state !== "inactive") {
      const stopped = new Promise((resolve) => recorder.addEventListener("stop", resolve, { once: true }));
      recorder.stop();
      await stopped;
    }
    this.#playback.source.disconnect(this.#sound);
    const type = recorder.mimeType.split(";")[0];
    const time = new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-");
    return { blob: new Blob(this.#pieces, { type }), name: `emotalking-${time}.${type.split("/")[1]}` };
  }
}

/** Write "synthetic" into the corner of the image. */
function label(pen, { height }) {
  const size = Math.round(height / 32);
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.textBaseline = "bottom";
  pen.lineWidth = size / 5;
  pen.strokeStyle = "rgb(0 0 0 / 45%)";
  pen.fillStyle = "rgb(255 255 255 / 85%)";
  pen.strokeText("synthetic", size, height - size * 0.7);
  pen.fillText("synthetic", size, height - size * 0.7);
}

/** The button, and the label on the head while it records. */
export class RecordButton {
  #recorder;
  #canvas;
  #button = document.getElementById("record");

  constructor(playback, canvas) {
    this.#recorder = new Recorder(playback);
    this.#canvas = canvas;
    this.#button.addEventListener("click", () => (this.on ? this.end() : this.#start()));
    setInterval(() => this.on && this.#showTime(), 250);
  }

  get on() {
    return this.#recorder.on;
  }

  set enabled(value) {
    this.#button.disabled = !value;
  }

  #start() {
    try {
      this.#recorder.start(this.#canvas.width, this.#canvas.height);
    } catch (error) {
      notice(error.message);
    }
    this.#show();
  }

  /** End the recording, if there is one, and hand its file to the user. */
  async end() {
    if (!this.on) return;
    const ended = this.#recorder.stop();
    this.#show();
    save(await ended);
  }

  #show() {
    this.#button.setAttribute("aria-pressed", this.on);
    this.#button.querySelector("span").textContent = this.on ? "Stop recording" : "Record";
    document.getElementById("recording-label").hidden = !this.on;
    this.#showTime();
  }

  #showTime() {
    const seconds = Math.floor((performance.now() - this.#recorder.began) / 1000);
    const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    document.getElementById("recording-time").textContent = text;
  }
}
