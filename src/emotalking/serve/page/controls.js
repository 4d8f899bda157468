// Emotion, head and background: what the user sets, sent when it changes and again with each new session.

import { element, notice } from "./api.js";
import { Pad } from "./pad.js";

const $ = (id) => document.getElementById(id);
const SEND_MS = 40; // between two messages of a slider that is moved
const STREAM = { type: "image", format: "jpeg", quality: 85, every: 1 };
const WITH_ALPHA = { type: "image", format: "webp", quality: 85, every: 1 };
const LARGEST_IMAGE = 4096;

/** Call `send` with the newest value, at most every SEND_MS. */
function throttled(send) {
  let timer = 0;
  let newest;
  return (value) => {
    newest = value;
    timer ||= setTimeout(() => {
      timer = 0;
      send(newest);
    }, SEND_MS);
  };
}

export class Controls {
  #connection;
  #playback;
  #pad = new Pad($("pad"));
  #named = {};
  #chosen = "";
  #emotional = true;
  #gazes = false;
  #image = null;

  constructor(connection, playback) {
    this.#connection = connection;
    this.#playback = playback;
    const emotion = throttled(() => this.#sendEmotion());
    this.#pad.addEventListener("input", () => {
      this.#choose("");
      this.#showEmotion();
      emotion();
    });
    $("strength").addEventListener("input", () => {
      this.#applyName();
      emotion();
    });
    $("emotions").addEventListener("change", ({ target }) => {
      this.#chosen = target.value;
      this.#applyName();
      emotion();
    });
    const pose = throttled(() => this.#connection.send(this.#pose()));
    for (const id of ["yaw", "pitch", "roll"]) $(id).addEventListener("input", () => this.#shown(id, "°") || pose());
    const gaze = throttled(() => this.#connection.send(this.#gaze()));
    for (const id of ["gaze-x", "gaze-y"]) $(id).addEventListener("input", () => this.#shown(id) || gaze());
    $("pose-reset").addEventListener("click", () => this.#centre());
    $("idle").addEventListener("change", () => this.#connection.send(this.#idle()));
    const background = throttled(() => this.#sendBackground());
    $("colour").addEventListener("input", background);
    for (const choice of document.getElementsByName("background")) {
      choice.addEventListener("change", () => this.#backgroundChosen());
    }
    $("image-choose").addEventListener("click", () => $("image-input").click());
    $("image-input").addEventListener("change", ({ target }) => this.#loadImage(target.files[0]));
  }

  /** The emotions that the server names, each [valence, arousal]. */
  set emotions(named) {
    this.#named = named;
    this.#pad.named = named;
    $("emotions").replaceChildren(
      ...Object.keys(named).map((name) =>
        element("label", { className: "chip" }, element("input", { type: "radio", name: "emotion", value: name }), element("span", {}, name)),
      ),
    );
    this.#choose(this.#chosen);
    this.#showEmotion();
  }

  /** Show the emotion that a text's tag has given the head. */
  follow({ valence, arousal }) {
    this.#choose("");
    this.#pad.value = [valence, arousal];
    this.#showEmotion();
  }

  /** What this avatar can do. */
  setAbilities(emotion, gaze) {
    this.#emotional = emotion;
    $("no-emotion").hidden = emotion;
    this.#pad.disabled = !emotion;
    for (const input of document.querySelectorAll("#emotions input, #strength")) input.disabled = !emotion;
    $("gaze").hidden = !gaze;
    this.#gazes = gaze;
  }

  /** Tell a new session everything. */
  sendAll() {
    this.#sendBackground();
    if (this.#emotional) this.#sendEmotion();
    this.#connection.send(this.#pose());
    if (this.#gazes) this.#connection.send(this.#gaze());
    this.#connection.send(this.#idle());
  }

  #sendEmotion() {
    const [valence, arousal] = this.#pad.value;
    if (this.#chosen) this.#connection.send({ type: "emotion", name: this.#chosen, strength: Number($("strength").value) });
    else this.#connection.send({ type: "emotion", valence, arousal });
  }

  #choose(name) {
    this.#chosen = name;
    for (const input of $("emotions").querySelectorAll("input")) input.checked = input.value === name;
  }

  #applyName() {
    const strength = Number($("strength").value);
    if (this.#chosen) this.#pad.value = this.#named[this.#chosen].map((value) => value * strength);
    this.#showEmotion();
  }

  #showEmotion() {
    this.#shown("strength", " %", 100);
    const [valence, arousal] = this.#pad.value.map((value) => value.toFixed(2).replace("-", "−"));
    $("pad-value").textContent = `${this.#chosen || this.#pad.name} ${valence}, ${arousal}`.trim();
  }

  #shown(id, unit = "", factor = 1) {
    const value = Math.round(Number($(id).value) * factor * 100) / 100;
    $(id).closest("label").querySelector("output").textContent = `${value}`.replace("-", "−") + unit;
  }

  #pose() {
    const [yaw, pitch, roll] = ["yaw", "pitch", "roll"].map((id) => (Number($(id).value) * Math.PI) / 180);
    return { type: "pose", yaw, pitch, roll };
  }

  #gaze() {
    return { type: "gaze", x: Number($("gaze-x").value), y: Number($("gaze-y").value) };
  }

  #idle() {
    return { type: "idle", on: $("idle").checked };
  }

  #centre() {
    for (const id of ["yaw", "pitch", "roll", "gaze-x", "gaze-y"]) {
      $(id).value = 0;
      this.#shown(id, id.startsWith("gaze") ? "" : "°");
    }
    this.#connection.send(this.#pose());
    if (this.#gazes) this.#connection.send(this.#gaze());
  }

  get #background() {
    return document.querySelector("input[name=background]:checked").value;
  }

  #backgroundChosen() {
    $("colour-field").hidden = this.#background !== "colour";
    $("image-field").hidden = this.#background !== "image";
    if (this.#background === "image" && !this.#image) $("image-input").click();
    this.#sendBackground();
  }

  #sendBackground() {
    const choice = this.#background;
    const transparent = choice === "transparent" || choice === "image";
    this.#playback.backdrop = choice === "image" ? this.#image : null;
    $("stage").classList.toggle("transparent", choice === "transparent");
    this.#connection.send(transparent ? WITH_ALPHA : STREAM);
    const values = { colour: $("colour").value, image: "transparent" };
    this.#connection.send({ type: "background", colour: values[choice] ?? choice });
  }

  async #loadImage(file) {
    if (!file) return;
    try {
      const image = await createImageBitmap(file);
      if (Math.max(image.width, image.height) > LARGEST_IMAGE) throw new Error("too large");
      this.#image = image;
      $("image-name").textContent = file.name;
    } catch (error) {
      const large = error.message === "too large";
      notice(`${file.name} ${large ? `has a side of more than ${LARGEST_IMAGE} pixels` : "is no image that this browser reads"}: choose another one.`);
    }
    this.#sendBackground();
  }
}
