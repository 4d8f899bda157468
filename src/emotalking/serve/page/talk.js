// What the user gives the head to say: microphone, sound file, text.

import { element, notice, request } from "./api.js";
import { Microphone, SoundFile } from "./speech.js";

const $ = (id) => document.getElementById(id);

export class Talk {
  #live;
  #latency;
  #microphone;
  #sound;
  #canSay = false;
  #connected = false;
  #said = "";
  #unheard = ""; // the last text, until the head has said it

  constructor(live, latency) {
    this.#live = live;
    this.#latency = latency;
    this.#microphone = new Microphone(live.connection, latency);
    this.#sound = new SoundFile(live.connection, latency);
    this.#bindMicrophone();
    this.#bindSound();
    this.#bindText();
    this.#bindVolume();
    this.#loadVoices();
  }

  set connected(value) {
    this.#connected = value;
    for (const id of ["microphone", "sound-again"]) $(id).disabled = !value;
    for (const id of ["text", "say", "language", "voice"]) $(id).disabled = !value || !this.#canSay;
  }

  /** Show what a new session can do. */
  offer(say) {
    this.#canSay = say;
    this.connected = this.#connected;
    if (this.#microphone.on) this.#microphone.interrupted();
  }

  /** The head was silenced: a file ends, the microphone goes on. */
  interrupted() {
    this.#sound.stop();
    if (this.#microphone.on) this.#microphone.interrupted();
  }

  /** The session is over. */
  end() {
    this.#microphone.stop();
    this.#showMicrophone();
    this.#sound.stop();
  }

  // Microphone ---------------------------------------------------------------------------------------------------

  #bindMicrophone() {
    $("microphone").addEventListener("click", () => this.#toggleMicrophone());
    this.#microphone.addEventListener("level", ({ detail }) => ($("mic-level").value = detail));
    this.#microphone.addEventListener("ended", () => {
      notice("The microphone was disconnected.");
      this.#toggleMicrophone();
    });
  }

  async #toggleMicrophone() {
    try {
      if (this.#microphone.on) {
        this.#microphone.stop();
      } else {
        this.#sound.stop();
        $("microphone").disabled = true; // while the browser asks
        await this.#microphone.start(this.#live.playback.context);
        if (!this.#live.session) this.#microphone.stop();
      }
    } catch (error) {
      notice(error.message);
    }
    $("microphone").disabled = !this.#connected;
    this.#showMicrophone();
  }

  #showMicrophone() {
    $("microphone").setAttribute("aria-pressed", this.#microphone.on);
    $("mic-level").hidden = !this.#microphone.on;
  }

  // Sound file ---------------------------------------------------------------------------------------------------

  #bindSound() {
    $("sound-file").addEventListener("click", () => $("sound-input").click());
    $("sound-input").addEventListener("change", ({ target }) => {
      this.#speak(target.files[0]);
      target.value = ""; // the same file may be chosen again
    });
    $("sound-again").addEventListener("click", () => this.#play());
    $("sound-stop").addEventListener("click", () => this.#live.interrupt());
    this.#sound.addEventListener("progress", ({ detail }) => ($("sound-progress").value = detail));
    const stage = $("stage");
    stage.addEventListener("dragover", (event) => {
      event.preventDefault();
      stage.classList.add("dropping");
    });
    stage.addEventListener("dragleave", () => stage.classList.remove("dropping"));
    stage.addEventListener("drop", (event) => {
      event.preventDefault();
      stage.classList.remove("dropping");
      this.#speak(event.dataTransfer.files[0]);
    });
  }

  /** Start a session, if there is none, and say a file. */
  async #speak(file) {
    if (!file) return;
    await this.#live.start();
    if (!this.#live.playback.context) return; // the reason was told
    try {
      await this.#sound.load(file, this.#live.playback.context);
    } catch (error) {
      return notice(error.message);
    }
    $("sound-name").textContent = file.name;
    $("sound-chip").hidden = false;
    if (await this.#live.ready()) this.#play();
  }

  #play() {
    if (this.#microphone.on) this.#toggleMicrophone();
    if (this.#live.speaking || this.#sound.playing) this.#live.interrupt();
    this.#sound.play();
  }

  // Text ---------------------------------------------------------------------------------------------------------

  #bindText() {
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#say($("text").value);
    });
    $("text").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        $("composer").requestSubmit();
      } else if (event.key === "ArrowUp" && !$("text").value) {
        event.preventDefault();
        $("text").value = this.#said;
      }
    });
    $("language").addEventListener("change", () => this.#loadVoices());
  }

  #say(text) {
    if (!text.trim() || !this.#connected) return;
    this.#latency.asked("text");
    const [language, voice] = [$("language").value, $("voice").value];
    this.#live.connection.send({ type: "say", text, ...(language && { language }), ...(voice && { voice }) });
    this.#said = this.#unheard = text;
    $("text").value = "";
  }

  /** The head has said something to its end. */
  heard() {
    this.#unheard = "";
  }

  /** The server could not do something: a text that was not said can be changed and said again. */
  refused() {
    $("text").value ||= this.#unheard;
    this.#unheard = "";
  }

  async #loadVoices() {
    const chosen = $("language").value || "en";
    try {
      const { voices, languages } = await (await request(`voices?language=${encodeURIComponent(chosen)}`)).json();
      fill($("language"), languages.length ? withNames(languages) : [chosen], languageName);
      $("language").value = chosen;
      fill($("voice"), ["", ...voices], (voice) => voice || "Default");
    } catch (error) {
      notice(error.message);
    }
  }

  #bindVolume() {
    const set = (muted) => {
      const volume = Number($("volume").value);
      this.#live.playback.volume = muted ? 0 : volume ** 2;
      $("mute").setAttribute("aria-pressed", muted);
      $("mute").querySelector("use").setAttribute("href", muted || volume === 0 ? "#i-muted" : "#i-volume");
    };
    $("volume").addEventListener("input", () => set(false));
    $("mute").addEventListener("click", () => set($("mute").getAttribute("aria-pressed") !== "true"));
  }
}

function fill(select, values, name) {
  select.replaceChildren(...values.map((value) => element("option", { value }, name(value))));
}

/** Tags in the order of their names: one a name, and none of a language that the browser does not know. */
function withNames(tags) {
  const named = new Map(tags.toReversed().map((tag) => [languageName(tag), tag])); // the first tag is the plainest
  named.delete("");
  return [...named].sort(([a], [b]) => a.localeCompare(b)).map(([, tag]) => tag);
}

/** A language's name in the browser's own language; empty: it has none. */
function languageName(tag) {
  try {
    return new Intl.DisplayNames(undefined, { type: "language", fallback: "none" }).of(tag) ?? "";
  } catch {
    return ""; // no tag of the standard
  }
}
