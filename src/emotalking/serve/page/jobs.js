// The view that makes avatars: upload a clip, check, prepare and train it, and watch.

import { element, notice, request } from "./api.js";
import { ClipDetail } from "./clip.js";
import { Upload } from "./upload.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 1000; // while a job runs
const IDLE_POLL_MS = 5000;
const STEPS = ["check", "prepare", "train"];

export class Make {
  #chosen = "";
  #state = { clips: [], jobs: [] };
  #detail;
  #timer = 0;

  /** `use` is called with the name of an avatar that the user wants to see. */
  constructor(use) {
    this.#detail = new ClipDetail($("clip-detail"), {
      use,
      start: (job) => this.#act("jobs", { method: "POST", json: job }),
      cancel: (job) => this.#act(`jobs/${job.id}/cancel`, { method: "POST" }),
      remove: (clip) => this.#act(`jobs/clips/${clip.id}`, { method: "DELETE" }),
    });
    new Upload((clip) => {
      this.#chosen = clip.id;
      this.refresh();
    }, () => this.#state.max_bytes);
    $("clips").addEventListener("change", ({ target }) => {
      this.#chosen = target.value;
      this.#show();
    });
    this.refresh();
  }

  async #act(path, options) {
    try {
      await request(path, options);
    } catch (error) {
      notice(error.message);
    }
    await this.refresh();
  }

  async refresh() {
    clearTimeout(this.#timer);
    try {
      this.#state = await (await request("jobs")).json();
      this.#show();
    } catch {
      // The live view tells that the server is away; this one tries again.
    }
    this.#timer = setTimeout(() => this.refresh(), this.#running ? POLL_MS : IDLE_POLL_MS);
  }

  get #running() {
    return this.#state.jobs.find(({ state }) => state === "running" || state === "stopping");
  }

  #show() {
    const { clips, jobs } = this.#state;
    if (!clips.some(({ id }) => id === this.#chosen)) this.#chosen = clips[0]?.id ?? "";
    this.#showBadge();
    this.#showList();
    const clip = clips.find(({ id }) => id === this.#chosen);
    this.#detail.show(clip, jobs.filter((job) => job.clip === this.#chosen), this.#running, this.#state);
  }

  #showBadge() {
    const badge = document.querySelector(".job-badge");
    const { done, total } = this.#running?.progress ?? {};
    badge.hidden = !this.#running;
    badge.textContent = total && done < total ? `${Math.floor((100 * done) / total)} %` : "…";
  }

  #showList() {
    const list = $("clips");
    const signature = JSON.stringify([this.#state.clips, this.#running?.clip, this.#chosen]);
    if (list.dataset.signature === signature) return; // keep the focus where it is
    const focused = list.contains(document.activeElement);
    list.dataset.signature = signature;
    list.replaceChildren(
      ...this.#state.clips.map((clip) => {
        const input = element("input", { type: "radio", name: "clip", value: clip.id, checked: clip.id === this.#chosen });
        return element("label", { className: "clip-entry" }, input, element("strong", {}, clip.name), element("small", {}, this.#summary(clip)));
      }),
    );
    if (focused) list.querySelector("input:checked")?.focus();
  }

  #summary(clip) {
    const size = clip.bytes < 1e6 ? `${Math.ceil(clip.bytes / 1e3)} kB` : `${(clip.bytes / 1e6).toFixed(1)} MB`;
    if (this.#running?.clip === clip.id) return `${size}, at work`;
    const reached = STEPS.filter((step) => step in clip.done).at(-1);
    return `${size}, ${{ check: "checked", prepare: "prepared", train: "avatar ready" }[reached] ?? "new"}`;
  }
}
