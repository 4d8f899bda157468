// The WebSocket of a session, which connects again by itself.

import { SUBPROTOCOL } from "./protocol.js";

const FIRST_RETRY_S = 0.5;
const LONGEST_RETRY_S = 8;
const PING_MS = 2000;
// Codes of closing (docs/live.md).
const ENDED = 1000; // by the server: the session is over, as for want of use
const REFUSED = [1008, 1013, 4404]; // trying again at once changes nothing
const GONE = 4404; // there is no such session, or avatar

/** Events: "state" ({state, retryS}), "message" (JSON), "frame" (ArrayBuffer), "rtt" (ms), "refused" (reason). */
export class Connection extends EventTarget {
  #socket = null;
  #avatar = "";
  #token;
  #session;
  #resume = null;
  #attempts = 0;
  #retryTimer = 0;
  #pingTimer = 0;
  #wanted = false;
  #reason = "";
  #greeted = false;

  /** `session`: the one to come to, as {resume, secret}; null: a new one. */
  constructor(token, session = null) {
    super();
    this.#token = token;
    this.#session = session;
    addEventListener("online", () => this.#wanted && !this.#socket && this.#open());
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Bytes that the network has not taken yet. */
  get waiting() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  connect(avatar) {
    this.disconnect();
    this.#avatar = avatar;
    this.#wanted = true;
    this.#attempts = 0;
    this.#resume = this.#session;
    this.#open();
  }

  disconnect() {
    this.#wanted = false;
    this.#resume = null;
    clearTimeout(this.#retryTimer);
    this.#drop();
    this.#tell("state", { state: "idle" });
  }

  /** The avatar to ask for, if this session is gone when the connection comes back. */
  remember(avatar) {
    this.#avatar = avatar;
  }

  send(message) {
    if (this.open) this.#socket.send(JSON.stringify(message));
  }

  sendSound(samples) {
    if (this.open) this.#socket.send(samples);
  }

  #open() {
    clearTimeout(this.#retryTimer);
    this.#drop();
    this.#tell("state", { state: this.#attempts || this.#resume ? "reconnecting" : "connecting" });
    const address = new URL("v1/session", document.baseURI);
    address.hash = "";
    address.protocol = address.protocol.replace("http", "ws");
    address.search = new URLSearchParams({ avatar: this.#avatar, ...this.#resume });
    const socket = new WebSocket(address, [SUBPROTOCOL, ...(this.#token ? [`token.${this.#token}`] : [])]);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#reason = "";
    this.#greeted = false;
    socket.onmessage = ({ data }) => socket === this.#socket && this.#receive(data);
    socket.onclose = ({ code, reason }) => socket === this.#socket && this.#closed(code, reason);
  }

  #receive(data) {
    if (typeof data !== "string") return this.#tell("frame", data);
    const message = JSON.parse(data);
    if (message.type === "pong") return this.#tell("rtt", performance.now() - message.t);
    if (message.type === "bye") this.#reason = message.reason;
    if (message.type === "error" && !this.#greeted) this.#reason = message.message; // why it will be closed
    if (message.type === "hello") {
      this.#greeted = true;
      this.#attempts = 0;
      this.#resume = { resume: message.session, secret: message.secret };
      this.#pingTimer = setInterval(() => this.send({ type: "ping", t: performance.now() }), PING_MS);
      this.#tell("state", { state: "live" });
    }
    if (this.#greeted) this.#tell("message", message);
  }

  #closed(code, reason) {
    this.#drop();
    if (!this.#wanted) return;
    if (code === GONE && this.#resume) {
      this.#resume = this.#session = null; // the session is over: begin another one
      return this.#open();
    }
    if (REFUSED.includes(code) || (code === ENDED && this.#reason)) {
      this.disconnect();
      return this.#tell("refused", this.#reason || reason || "the server refused the session");
    }
    const retryS = Math.min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** this.#attempts) * (0.8 + 0.4 * Math.random());
    this.#attempts += 1;
    this.#retryTimer = setTimeout(() => this.#open(), 1000 * retryS);
    this.#tell("state", { state: "reconnecting", retryS });
  }

  #drop() {
    clearInterval(this.#pingTimer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket && socket.readyState < WebSocket.CLOSING) socket.close(1000);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
