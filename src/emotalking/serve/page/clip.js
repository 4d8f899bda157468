// One clip: its steps, the running job, and the curves and images of its training.

import { element, icon, imageAddress, notice, request, save, token } from "./api.js";
import { plot } from "./plot.js";

const STEPS = {
  check: ["Check", "Can this clip become an avatar, and how good will it be?"],
  prepare: ["Prepare", "Face, head pose, masks and sound of every frame. Minutes."],
  train: ["Train", "The avatar itself. Minutes on a GPU, longer on a CPU."],
};
const PRESETS = { tiny: "Tiny: for CPUs", fast: "Fast", paper: "Paper: the longest" };
const SIZES = [["", "512 px, or the clip's own"], ["256", "256 px: faster"]];

export class ClipDetail {
  #place;
  #actions;
  #shown = "";
  #chosen = { preset: "fast", size: "" };
  #consents = new Map();
  #training = null;
  #trainingOf = "";

  /** `actions`: use(avatar), start({kind, clip, ...}), cancel(job), remove(clip). */
  constructor(place, actions) {
    this.#place = place;
    this.#actions = actions;
  }

  /** Show a clip (undefined: none), its jobs, and the job that runs, if any. */
  async show(clip, jobs, running, { presets }) {
    if (clip && (clip.id !== this.#trainingOf || running?.clip === clip.id)) await this.#loadTraining(clip);
    const state = JSON.stringify([clip, jobs, running?.id, this.#training]);
    if (state === this.#shown) return;
    this.#shown = state;
    const open = [...this.#place.querySelectorAll("details")].filter((one) => one.open).map((one) => one.dataset.name);
    const focused = document.activeElement?.dataset?.focus;
    this.#place.replaceChildren(...(clip ? this.#parts(clip, jobs, running, presets) : [this.#empty()]));
    for (const one of this.#place.querySelectorAll("details")) one.open ||= open.includes(one.dataset.name);
    if (focused) this.#place.querySelector(`[data-focus="${focused}"]`)?.focus();
  }

  #empty() {
    return element("div", { className: "empty" }, element("p", {}, "An avatar is made from a clip of one person talking to the camera: a minute of it, with sound, without cuts. Upload one to begin."));
  }

  async #loadTraining(clip) {
    try {
      const told = await (await request(`jobs/clips/${clip.id}/training`)).json();
      const newest = Object.values(Object.fromEntries((told.images ?? []).map((image) => [image.stage, image])));
      const known = Object.fromEntries((this.#training?.newest ?? []).map((image) => [image.name, image.address]));
      for (const image of newest) image.address = known[image.name] ?? (await imageAddress(`jobs/clips/${clip.id}/frames/${image.name}`));
      const gone = Object.keys(known).filter((name) => !newest.some((image) => image.name === name));
      for (const name of gone) if (known[name].startsWith("blob:")) URL.revokeObjectURL(known[name]);
      this.#training = told.stages ? { ...told, newest } : null;
      this.#trainingOf = clip.id;
    } catch (error) {
      this.#training = null;
      this.#trainingOf = clip.id;
      notice(error.message);
    }
  }

  #parts(clip, jobs, running, presets) {
    const remove = element("button", { type: "button", className: "quiet", disabled: running?.clip === clip.id, onclick: () => this.#remove(clip) }, "Remove");
    const header = element("header", {}, element("h2", {}, clip.name), remove);
    const steps = Object.keys(STEPS).map((kind) => this.#step(kind, clip, jobs, running, presets));
    return [header, element("ol", { className: "steps" }, ...steps), ...this.#trainingParts(clip)];
  }

  #remove(clip) {
    const also = "prepare" in clip.done || "train" in clip.done ? " and all that was made of it" : "";
    if (confirm(`Remove ${clip.name}${also} from the server?`)) this.#actions.remove(clip);
  }

  #step(kind, clip, jobs, running, presets) {
    const [title, about] = STEPS[kind];
    const job = jobs.find((one) => one.kind === kind);
    const active = running && job?.id === running.id ? job : null;
    const done = kind in clip.done;
    const state = active ? "running" : job?.state === "failed" ? "failed" : done ? "done" : "open";
    const mark = element("span", { className: "mark" }, state === "done" ? icon("check") : `${Object.keys(STEPS).indexOf(kind) + 1}`);
    const words = element("div", { className: "words" }, element("h3", {}, title), element("p", {}, about), ...this.#outcome(kind, clip, job));
    const actions = element("div", { className: "actions" }, ...this.#options(kind, clip, running, presets), ...this.#buttons(kind, clip, active, running, done));
    const parts = active ? [this.#progress(active)] : [];
    const log = job?.log ? [this.#log(job, kind)] : [];
    return element("li", { className: `step ${state}` }, mark, words, actions, ...parts, ...log);
  }

  #outcome(kind, clip, job) {
    const lines = [];
    if (job?.state === "failed") lines.push(element("p", { className: "bad" }, `${job.message}.`.replace(/\.\.$/, ".")));
    if (job?.state === "cancelled") lines.push(element("p", { className: "warn" }, "Cancelled: started again, it goes on from there."));
    if (kind === "check" && clip.check?.verdict) {
      const { verdict, reasons, warnings, seconds } = clip.check;
      const tone = { good: "good", usable: "warn", unusable: "bad" }[verdict];
      lines.push(element("p", { className: tone }, `${verdict[0].toUpperCase()}${verdict.slice(1)}, ${seconds.toFixed(1)} s`));
      if (reasons.length + warnings.length) lines.push(element("ul", {}, ...[...reasons, ...warnings].map((one) => element("li", {}, one))));
    }
    if (kind === "train" && clip.avatar) lines.push(element("p", { className: "good" }, `Avatar ${clip.avatar}`));
    return lines;
  }

  #options(kind, clip, running, presets) {
    const select = (name, label, entries) => {
      const box = element("select", { disabled: Boolean(running), aria: { label }, data: { focus: name } }, ...entries.map(([value, text]) => element("option", { value }, text)));
      box.value = this.#chosen[name];
      box.onchange = () => (this.#chosen[name] = box.value);
      return [box];
    };
    if (kind === "train" && "prepare" in clip.done) {
      const label = "Consent of the person shown: who agreed to what, and when";
      const consent = element("input", { type: "text", placeholder: "Consent: who agreed to what, when", title: label, value: this.#consents.get(clip.id) ?? "", maxLength: 20000, disabled: Boolean(running), aria: { label }, data: { focus: "consent" } });
      consent.oninput = () => this.#consents.set(clip.id, consent.value);
      return [...select("preset", "Preset", presets.map((one) => [one, PRESETS[one] ?? one])), consent];
    }
    if (kind === "prepare" && !("prepare" in clip.done)) return select("size", "Size of the frames", SIZES);
    return [];
  }

  #buttons(kind, clip, active, running, done) {
    if (active) {
      const stopping = active.state === "stopping";
      return [element("button", { type: "button", disabled: stopping, data: { focus: kind }, onclick: () => this.#actions.cancel(active) }, stopping ? "Stopping…" : "Cancel")];
    }
    const buttons = [];
    const reports = { check: "check", train: "training" };
    if (done && kind in reports) {
      buttons.push(element("button", { type: "button", className: "quiet", onclick: () => this.#report(clip, reports[kind]) }, "Report"));
    }
    if (kind === "train" && clip.avatar) {
      buttons.push(element("button", { type: "button", className: "primary", data: { focus: "use" }, onclick: () => this.#use(clip) }, "Use this avatar"));
    }
    const ready = kind !== "train" || "prepare" in clip.done;
    const first = Object.keys(STEPS).find((step) => !(step in clip.done)) === kind;
    const start = () => this.#actions.start(this.#wanted(kind, clip));
    buttons.push(element("button", { type: "button", className: first ? "primary" : "quiet", disabled: Boolean(running) || !ready, data: { focus: kind }, onclick: start }, done ? `${STEPS[kind][0]} again` : STEPS[kind][0]));
    return buttons;
  }

  #wanted(kind, clip) {
    const options = { train: { preset: this.#chosen.preset, consent: this.#consents.get(clip.id) ?? "" }, prepare: this.#chosen.size ? { size: Number(this.#chosen.size) } : {} };
    return { kind, clip: clip.id, ...options[kind] };
  }

  async #use(clip) {
    try {
      const { avatar } = await (await request(`jobs/clips/${clip.id}/avatar`, { method: "POST" })).json();
      this.#actions.use(avatar);
    } catch (error) {
      notice(error.message);
    }
  }

  /** Open a report in a tab; behind a token, which no address holds, as a file. */
  async #report(clip, name) {
    const path = `jobs/clips/${clip.id}/reports/${name}`;
    if (!token) return open(new URL(`v1/${path}`, document.baseURI), "_blank", "noopener");
    try {
      save({ blob: await (await request(path)).blob(), name: `${name}.html` });
    } catch (error) {
      notice(error.message);
    }
  }

  #progress({ progress, state }) {
    const { what, done, total } = progress ?? {};
    const known = total && done < total; // between two counts it is not known how much is left
    const bar = element("progress", { max: 1, ...(known ? { value: done / total } : {}), aria: { label: "Progress" } });
    const count = known ? `${what} ${Math.round(done)} of ${Math.round(total)}` : what ? `After ${what}` : "Starting";
    const words = state === "stopping" ? "Saving, then stopping" : count;
    return element("div", { className: "job-progress" }, bar, element("small", {}, words));
  }

  #log(job, kind) {
    return element("details", { className: "log", data: { name: kind } }, element("summary", {}, "Output"), element("pre", { tabIndex: 0 }, job.log));
  }

  #trainingParts(clip) {
    const training = this.#training;
    if (!training || this.#trainingOf !== clip.id) return [];
    const { stages, loss, quality, newest, warnings, speed, end } = training;
    const lines = Object.fromEntries(Object.entries(loss).filter(([, points]) => points.length));
    const plots = [
      [quality, { title: "Quality of held-out frames", unit: "dB", lines: quality, stages }],
      [lines, { title: "Loss", unit: "", lines, stages, logarithmic: true }],
    ];
    const figures = plots.flatMap(([curves, what]) => {
      const drawn = plot(what);
      const legend = Object.keys(curves).map((name, number) => element("span", { className: `key curve-${number}` }, name));
      return drawn ? [element("figure", {}, element("figcaption", {}, element("strong", {}, what.title), ...legend), drawn)] : [];
    });
    const images = newest.map(({ stage, iteration, address }) =>
      element("figure", {}, element("img", { src: address, alt: `Preview of the stage ${stage}`, loading: "lazy" }), element("figcaption", {}, `${stage}, iteration ${iteration}`)),
    );
    const facts = end ? `Training ${end.outcome}` : speed ? `${speed.toFixed(1)} steps a second` : "";
    return [
      element("section", { className: "training", aria: { label: "Training" } },
        element("header", {}, element("h3", {}, "Training"), element("span", {}, facts)),
        ...warnings.map((text) => element("p", { className: "warn" }, text)),
        element("div", { className: "plots" }, ...figures),
        element("div", { className: "previews" }, ...images)),
    ];
  }
}
