// The state of the connection, and measured numbers.

const $ = (id) => document.getElementById(id);
const WORDS = {
  idle: "Not connected",
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Connection lost",
};
const REFRESH_MS = 500;

let countdown = 0;

/** Show a state of the connection: {state, retryS}. */
export function showState({ state, retryS }) {
  clearInterval(countdown);
  const pill = $("connection");
  pill.dataset.state = state;
  pill.querySelector("span").textContent = WORDS[state];
  const running = state !== "idle";
  $("start").setAttribute("aria-pressed", running);
  $("start").querySelector("span").textContent = running ? "Stop" : "Start";
  $("start").querySelector("use").setAttribute("href", running ? "#i-stop" : "#i-play");
  $("cover").hidden = state === "live";
  $("cover-start").hidden = running;
  $("cover").dataset.state = state;
  if (state === "reconnecting" && retryS) {
    const at = performance.now() + 1000 * retryS;
    const tell = () => {
      const seconds = Math.max(0, Math.ceil((at - performance.now()) / 1000));
      $("cover-text").textContent = `Connection lost. Trying again in ${seconds} s`;
    };
    tell();
    countdown = setInterval(tell, 250);
  } else {
    $("cover-text").textContent = running ? "Connecting…" : "";
  }
}

/** Numbers of the running session. */
export class Numbers {
  #playback;
  #measured = {};

  constructor(playback) {
    this.#playback = playback;
    setInterval(() => this.#show(), REFRESH_MS);
  }

  /** Newest measurements by name, in milliseconds: first, glass, rtt, render. */
  set(measured) {
    Object.assign(this.#measured, measured);
  }

  get all() {
    return { ...this.#measured, ...this.#playback.statistics };
  }

  clear() {
    this.#measured = {};
    this.#show();
  }

  #show() {
    const now = this.all;
    const ms = (value) => (value === undefined || value === null ? "–" : `${Math.round(value)} ms`.replace("-", "−"));
    const shown = {
      fps: now.fps ? `${now.fps.toFixed(1)} fps` : "–",
      first: ms(now.first),
      glass: ms(now.glass),
      rtt: ms(now.rtt),
      render: ms(now.render),
      dropped: now.fps ? `${now.dropped}` : "–",
      buffer: now.fps ? ms(1000 * now.buffered) : "–",
      offset: now.fps ? ms(now.offsetMs) : "–",
    };
    for (const place of $("numbers").querySelectorAll("[data-number]")) place.textContent = shown[place.dataset.number];
  }
}
