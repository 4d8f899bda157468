// The live view: a session from its start to its end.

import { element, imageAddress, notice, ownSession, request, sentence, token } from "./api.js";
import { Captions } from "./captions.js";
import { Connection } from "./connection.js";
import { Controls } from "./controls.js";
import { Playback } from "./playback.js";
import { parseFrame } from "./protocol.js";
import { Numbers, showState } from "./readout.js";
import { RecordButton } from "./recorder.js";
import { Latency } from "./speech.js";
import { Talk } from "./talk.js";

const $ = (id) => document.getElementById(id);
const SAMPLE_RATE = 48000; // until the server tells
const PLAYED_MS = 200; // between two reports of what was heard

export class Live {
  connection = new Connection(token, ownSession);
  playback = new Playback($("canvas"));
  #controls = new Controls(this.connection, this.playback);
  #latency = new Latency();
  #captions = new Captions($("caption"));
  #talk = new Talk(this, this.#latency);
  #recording = new RecordButton(this.playback, $("canvas"));
  #numbers = new Numbers(this.playback);
  #avatars = [];
  #hello = null;
  #reported = 0;
  #wanted = false;
  #ready = false;

  constructor() {
    this.#listen();
    this.#bind();
  }

  /** What the server told about the session; null: there is none. */
  get session() {
    return this.#hello;
  }

  get numbers() {
    return this.#numbers;
  }

  /** True if the session has an ability that the server names. */
  #can(ability) {
    return this.#hello?.can.includes(ability) ?? false;
  }

  get speaking() {
    return this.playback.heard?.speaking ?? false;
  }

  /** Wait for the session; false: it was stopped meanwhile. */
  async ready() {
    while (this.#wanted && !this.#ready) await new Promise((resolve) => setTimeout(resolve, 30));
    return this.#wanted;
  }

  #listen() {
    this.connection.addEventListener("state", ({ detail }) => this.#changed(detail));
    this.connection.addEventListener("message", ({ detail }) => this.#message(detail));
    this.connection.addEventListener("rtt", ({ detail }) => this.#numbers.set({ rtt: detail }));
    this.connection.addEventListener("frame", ({ detail }) => this.#frame(detail));
    this.connection.addEventListener("refused", ({ detail }) => {
      this.#end();
      notice(sentence(detail));
    });
    this.playback.addEventListener("heard", ({ detail }) => this.#heard(detail));
  }

  // Avatars ------------------------------------------------------------------------------------------------------

  /** Read the list of avatars, and choose one. */
  async load(chosen = this.avatar) {
    const { avatars, emotions } = await (await request("avatars")).json();
    this.#avatars = avatars;
    this.#controls.emotions = emotions;
    const pictures = await Promise.all(avatars.map(({ thumbnail }) => imageAddress(thumbnail).catch(() => "")));
    $("avatars").replaceChildren(
      ...avatars.map(({ name, width, height, emotional }, at) =>
        element(
          "label",
          { className: "avatar" },
          element("input", { type: "radio", name: "avatar", value: name }),
          element("img", { src: pictures[at], alt: "", width: 64, height: 64 }),
          element("strong", {}, name),
          element("small", {}, `${width} × ${height}${emotional ? "" : ", no emotion"}`),
        ),
      ),
    );
    this.avatar = avatars.some(({ name }) => name === chosen) ? chosen : avatars[0]?.name;
    if (!avatars.length) notice("This server has no avatar yet: upload a clip of a person talking and train one.");
  }

  get avatar() {
    return document.querySelector("#avatars input:checked")?.value;
  }

  set avatar(name) {
    const input = [...$("avatars").querySelectorAll("input")].find(({ value }) => value === name);
    if (!input) return;
    input.checked = true;
    this.#avatarChosen();
  }

  #avatarChosen() {
    const avatar = this.#avatars.find(({ name }) => name === this.avatar);
    this.connection.remember(avatar.name);
    this.#controls.setAbilities(avatar.emotional, this.#can("gaze"));
    if (this.connection.open) {
      this.connection.send({ type: "avatar", name: avatar.name });
    } else {
      this.#poster(avatar);
    }
  }

  /** Show the avatar's own image until the session runs. */
  async #poster({ width, height }) {
    const image = document.querySelector("#avatars input:checked + img");
    this.playback.resize(width, height);
    await image.decode().catch(() => {});
    if (!this.connection.open) $("canvas").getContext("2d").drawImage(image, 0, 0, width, height);
  }

  // Session ------------------------------------------------------------------------------------------------------

  #bind() {
    $("avatars").addEventListener("change", () => this.#avatarChosen());
    $("start").addEventListener("click", () => (this.#wanted ? this.stop() : this.start()));
    $("cover-start").addEventListener("click", () => this.start());
    $("interrupt").addEventListener("click", () => this.interrupt());
    addEventListener("keydown", (event) => event.key === "Escape" && this.interrupt());
    addEventListener("pagehide", () => this.#wanted && this.stop());
  }

  async start() {
    if (this.#wanted || !this.avatar) return;
    this.#wanted = true;
    try {
      await this.playback.prepare(SAMPLE_RATE);
    } catch (error) {
      this.#wanted = false;
      return notice(`This browser gives no sound (${error.message}): allow it, or use another browser.`);
    }
    this.connection.connect(this.avatar);
  }

  async stop() {
    const ended = this.#end();
    this.connection.disconnect();
    await ended;
  }

  async #end() {
    this.#wanted = false;
    this.#hello = null;
    this.#talk.end();
    const saved = this.#recording.end();
    this.playback.end();
    this.#captions.clear();
    this.#numbers.clear();
    await saved;
  }

  #changed(change) {
    showState(change);
    this.#ready &&= change.state === "live";
    this.#talk.connected = change.state === "live";
    this.#recording.enabled = change.state === "live" || this.#recording.on;
    $("interrupt").disabled = change.state !== "live";
  }

  /** Be silent at once; the server forgets what was not heard. */
  interrupt() {
    if (!this.connection.open) return;
    const heard = this.playback.heard;
    this.playback.clear();
    this.connection.send({ type: "clear", ...(heard ? { heard_frame: heard.index } : {}) });
    this.#latency.forget();
    this.#captions.clear();
    this.#talk.interrupted();
  }

  async #greeted(hello) {
    this.#hello = hello;
    this.connection.send({ type: "audio", sample_rate: hello.sample_rate, format: "s16" }); // a microphone may be on
    await this.playback.prepare(hello.sample_rate);
    if (this.#hello !== hello) return; // stopped meanwhile
    this.playback.resize(hello.width, hello.height);
    this.playback.begin();
    this.#latency.forget();
    this.#controls.setAbilities(this.#can("emotion"), this.#can("gaze"));
    this.#controls.sendAll();
    this.#talk.offer(this.#can("say"));
    this.#ready = true;
  }

  #message(message) {
    const handlers = {
      hello: () => this.#greeted(message),
      avatar: () => {
        this.playback.resize(message.width, message.height);
        this.#hello = { ...this.#hello, ...message, type: "hello" };
        this.#controls.setAbilities(this.#can("emotion"), this.#can("gaze"));
      },
      started: () => this.#latency.started(message.utterance),
      cleared: () => this.playback.accept(message.generation),
      caption: () => this.#captions.add(message),
      emotion: () => this.#controls.follow(message),
      stats: () => this.#numbers.set({ render: message.render_ms }),
      error: () => {
        this.#latency.forget("text");
        this.#talk.refused();
        notice(sentence(message.message));
      },
    };
    handlers[message.type]?.();
  }

  #frame(data) {
    try {
      this.playback.push(parseFrame(data));
    } catch (error) {
      this.stop();
      notice(error.message);
    }
  }

  #heard(frame) {
    this.#captions.show(frame);
    this.#numbers.set(this.#latency.heard(frame, 1 / this.#hello.fps));
    $("stage").classList.toggle("speaking", frame.speaking);
    if (frame.last) this.#talk.heard();
    if (performance.now() - this.#reported > PLAYED_MS) {
      this.#reported = performance.now();
      this.connection.send({ type: "played", frame: frame.index });
    }
  }
}
