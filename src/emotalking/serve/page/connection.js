// The WebSocket of a session, which connects again by itself.

import { request } from "./api.js";
import { SUBPROTOCOL } from "./protocol.js";

const FIRST_RETRY_S = 0.5;
const LONGEST_RETRY_S = 8;
const PING_MS = 2000;
const SILENT_MS = 8000; // a server sends something every second; a machine that is lost closes nothing
const BUSY = 503; // no place is free
const NO_SERVER = [502, 504]; // of a proxy whose server does not answer
const TRIES = 3; // where others may have taken the place meanwhile (benchmarks/cluster_cost.py)
const MISSES = 2; // attempts to reach the server of a session before the front is asked for another one
// Codes of closing (docs/live.md).
const ENDED = 1000; // by the server: the session is over, as for want of use
const STOPS = 1001; // the server does
const LOST = 1006;
const BROKEN = 4000; // by this page: unlike 1000, it leaves the session to be taken up again
const FULL = 1013;
const REFUSED = [1008, FULL, 4404]; // trying again at once changes nothing
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
  #base = null; // address of the session's server, which may be another one than the page's (docs/cluster.md)
  #elsewhere = false;
  #misses = 0;
  #proven = false; // the network works, and the session's server has one more attempt
  #opening = null;
  #heardAt = 0;

  /** `session`: the one to come to, as {resume, secret}; null: a new one. */
  constructor(token, session = null) {
    super();
    this.#token = token;
    this.#session = session;
    addEventListener("online", () => this.#wanted && !this.#socket && !this.#opening && this.#open());
  }

  /** True from the server's greeting on: before it, nothing is sent. */
  get open() {
    return this.#greeted && this.#socket?.readyState === WebSocket.OPEN;
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
    this.#base = null;
    this.#proven = false;
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

  async #open() {
    clearTimeout(this.#retryTimer);
    this.#drop();
    this.#tell("state", { state: this.#attempts || this.#resume ? "reconnecting" : "connecting" });
    const opening = (this.#opening = {});
    const failure = await this.#findPlace(opening);
    if (opening !== this.#opening) return;
    if (failure) {
      const { status, message } = failure;
      const passing = status === BUSY ? this.#attempts < TRIES : !status || NO_SERVER.includes(status);
      return passing ? this.#retry() : this.#refuse(message);
    }
    const address = new URL("v1/session", this.#base);
    address.hash = "";
    address.protocol = address.protocol.replace("http", "ws");
    address.search = new URLSearchParams({ avatar: this.#avatar, ...this.#resume });
    let socket;
    try {
      socket = new WebSocket(address, [SUBPROTOCOL, ...(this.#token ? [`token.${this.#token}`] : [])]);
    } catch (error) {
      return this.#refuse(`this browser may not connect to ${address.origin} (${error.message})`);
    }
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#reason = "";
    this.#greeted = false;
    socket.onmessage = ({ data }) => socket === this.#socket && this.#receive(data);
    socket.onclose = ({ code, reason }) => socket === this.#socket && this.#closed(code, reason);
    this.#heardAt = performance.now();
    this.#pingTimer = setInterval(() => this.#ping(), PING_MS);
  }

  /** Ask where the session's server is, if it is not known or cannot be reached. Gives the error, or nothing. */
  async #findPlace(opening) {
    if (this.#base && this.#misses < MISSES) return null;
    let address;
    try {
      ({ address } = await (await request("place", { signal: AbortSignal.timeout(SILENT_MS) })).json());
    } catch (error) {
      return error.status === BUSY && this.#base && !this.#proven ? null : error;
    }
    if (opening !== this.#opening) return null;
    if (address && this.#base && !this.#proven) {
      this.#proven = true;
      return null;
    }
    if (address && this.#base) this.#resume = null; // its server is lost, and the session with it
    this.#elsewhere = Boolean(address);
    this.#base = address ?? document.baseURI;
    this.#misses = 0;
    this.#proven = false;
    return null;
  }

  #ping() {
    if (performance.now() - this.#heardAt < SILENT_MS) return this.send({ type: "ping", t: performance.now() });
    this.#drop(BROKEN);
    this.#closed(LOST, "");
  }

  #receive(data) {
    this.#heardAt = performance.now();
    if (typeof data !== "string") return this.#tell("frame", data);
    const message = JSON.parse(data);
    if (message.type === "pong") return this.#tell("rtt", performance.now() - message.t);
    if (message.type === "bye") this.#reason = message.reason;
    if (message.type === "error" && !this.#greeted) this.#reason = message.message; // why it will be closed
    if (message.type === "hello") {
      this.#greeted = true;
      this.#attempts = this.#misses = 0;
      this.#proven = false;
      this.#resume = { resume: message.session, secret: message.secret };
      this.#tell("state", { state: "live" });
    }
    if (this.#greeted) this.#tell("message", message);
  }

  #closed(code, reason) {
    this.#drop();
    if (!this.#wanted) return;
    if (code === GONE && this.#resume) {
      this.#resume = this.#session = this.#base = null; // the session is over: begin another one
      return this.#open();
    }
    if (this.#elsewhere && (code === STOPS || (code === FULL && this.#attempts < TRIES))) {
      this.#resume = this.#base = null; // another server has a place
      return this.#retry();
    }
    if (REFUSED.includes(code) || (code === ENDED && this.#reason)) return this.#refuse(this.#reason || reason);
    if (!this.#greeted) this.#misses += 1;
    if (!this.#greeted && this.#proven) this.#open();
    else this.#retry();
  }

  #refuse(reason) {
    this.disconnect();
    this.#tell("refused", reason || "the server refused the session");
  }

  #retry() {
    const retryS = Math.min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** this.#attempts) * (0.8 + 0.4 * Math.random());
    this.#attempts += 1;
    this.#retryTimer = setTimeout(() => this.#open(), 1000 * retryS);
    this.#tell("state", { state: "reconnecting", retryS });
  }

  #drop(code = ENDED) {
    this.#opening = null;
    clearInterval(this.#pingTimer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket && socket.readyState < WebSocket.CLOSING) socket.close(code);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
