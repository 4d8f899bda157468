// Sound for the head to say: the microphone and sound files; and how long it takes until it is heard.

import { toInt16 } from "./protocol.js";

const PIECE_S = 0.1;
const LEAD_S = 1.5; // of a file's sound before its playing
const MOST_WAITING_BYTES = 1 << 20;
const LONGEST_FILE_S = 1800;
const KEPT_PIECES = 1500;

/** Utterances asked for in this page, for the time until they are heard. */
export class Latency {
  #pending = []; // not begun yet: {kind, at, pieces}
  #begun = new Map(); // by utterance

  asked(kind) {
    const utterance = { kind, at: performance.now(), pieces: [], seconds: 0 };
    this.#pending.push(utterance);
    return utterance;
  }

  /** The server has begun an utterance. */
  started(number) {
    const utterance = this.#pending.shift();
    if (utterance) this.#begun.set(number, utterance);
    while (this.#begun.size > 8) this.#begun.delete(this.#begun.keys().next().value);
  }

  forget(kind) {
    this.#pending = kind ? this.#pending.filter((utterance) => utterance.kind !== kind) : [];
  }

  /** Milliseconds {first, glass} that the frame just heard tells; each may be missing. */
  heard(frame, frameS) {
    const utterance = this.#begun.get(frame.utterance);
    if (!utterance || !frame.speaking) return {};
    const now = performance.now();
    const found = {};
    if (!utterance.heard) found.first = now - utterance.at;
    utterance.heard = true;
    if (utterance.kind === "microphone") {
      const piece = utterance.pieces.find(({ end }) => end > frame.position - frameS);
      if (piece) found.glass = now - piece.at;
    }
    return found;
  }

  sent(utterance, seconds) {
    utterance.seconds += seconds;
    utterance.pieces.push({ end: utterance.seconds, at: performance.now() });
    if (utterance.pieces.length > KEPT_PIECES) utterance.pieces.shift();
  }
}

/** The microphone, sent while it is on. Event: "level" (0 to 1). */
export class Microphone extends EventTarget {
  #connection;
  #latency;
  #stream = null;
  #nodes = [];
  #utterance = null;

  constructor(connection, latency) {
    super();
    this.#connection = connection;
    this.#latency = latency;
  }

  /** What it says from now on is another utterance. */
  interrupted() {
    this.#utterance = this.#latency.asked("microphone");
  }

  get on() {
    return this.#stream !== null;
  }

  async start(context) {
    if (!navigator.mediaDevices) {
      throw new Error("Browsers give pages a microphone on localhost and by https only: open this page by one of them.");
    }
    const wanted = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    } catch (error) {
      const reasons = {
        NotAllowedError: "The microphone is not allowed for this page: allow it in the browser's address bar.",
        NotFoundError: "There is no microphone: connect one and try again.",
        NotReadableError: "The microphone is in use by another program: close that and try again.",
      };
      throw new Error(reasons[error.name] ?? `The microphone cannot be used: ${error.message}`);
    }
    await context.audioWorklet.addModule("capture-worklet.js");
    this.interrupted();
    const source = new MediaStreamAudioSourceNode(context, { mediaStream: this.#stream });
    const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    capture.port.onmessage = ({ data }) => {
      this.#latency.sent(this.#utterance, data.length / context.sampleRate);
      this.#connection.sendSound(toInt16(data));
      this.dispatchEvent(new CustomEvent("level", { detail: Math.min(1, 4 * Math.hypot(...data) / Math.sqrt(data.length)) }));
    };
    source.connect(capture);
    this.#nodes = [source, capture];
    this.#stream.getAudioTracks()[0].onended = () => this.dispatchEvent(new Event("ended"));
  }

  stop() {
    for (const node of this.#nodes) node.disconnect();
    if (this.#nodes[1]) this.#nodes[1].port.onmessage = null;
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    if (this.#stream) this.#connection.send({ type: "flush" });
    this.#stream = null;
    this.#nodes = [];
  }
}

/** A sound file, sent somewhat faster than it is heard. Events: "progress" (0 to 1), "ended". */
export class SoundFile extends EventTarget {
  #connection;
  #latency;
  #samples = null;
  #rate = 0;
  #timer = 0;

  constructor(connection, latency) {
    super();
    this.#connection = connection;
    this.#latency = latency;
  }

  get loaded() {
    return this.#samples !== null;
  }

  get playing() {
    return this.#timer !== 0;
  }

  /** Decode a file; its channels are mixed. */
  async load(file, context) {
    let decoded;
    try {
      decoded = await context.decodeAudioData(await file.arrayBuffer());
    } catch {
      throw new Error(`${file.name} holds no sound that this browser reads: give a wav, mp3, m4a, ogg or flac file.`);
    }
    if (decoded.duration > LONGEST_FILE_S) {
      throw new Error(`${file.name} is longer than ${LONGEST_FILE_S / 60} minutes: give a shorter one.`);
    }
    const mixed = new Float32Array(decoded.length);
    for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
      const samples = decoded.getChannelData(channel);
      for (let i = 0; i < mixed.length; i++) mixed[i] += samples[i] / decoded.numberOfChannels;
    }
    this.#samples = toInt16(mixed);
    this.#rate = decoded.sampleRate;
  }

  play() {
    this.stop();
    const utterance = this.#latency.asked("file");
    const piece = Math.round(PIECE_S * this.#rate);
    const began = performance.now();
    let sent = 0;
    const send = () => {
      const due = ((performance.now() - began) / 1000 + LEAD_S) * this.#rate;
      while (this.#connection.open && sent < this.#samples.length && sent < due && this.#connection.waiting < MOST_WAITING_BYTES) {
        const samples = this.#samples.subarray(sent, sent + piece);
        this.#connection.sendSound(samples);
        this.#latency.sent(utterance, samples.length / this.#rate);
        sent += samples.length;
      }
      this.dispatchEvent(new CustomEvent("progress", { detail: sent / this.#samples.length }));
      if (sent === this.#samples.length) {
        this.#connection.send({ type: "flush" });
        this.stop();
      }
    };
    this.#timer = setInterval(send, 50);
    send();
  }

  /** Send no more of it. */
  stop() {
    if (!this.#timer) return;
    clearInterval(this.#timer);
    this.#timer = 0;
    this.dispatchEvent(new Event("ended"));
  }
}
