// Upload a clip with progress; the server names its file.

import { authorization, notice, told } from "./api.js";

const $ = (id) => document.getElementById(id);

export class Upload {
  #uploaded;
  #largest;
  #request = null;

  /** `uploaded` is called with the clip; `largest` gives the most bytes. */
  constructor(uploaded, largest) {
    this.#uploaded = uploaded;
    this.#largest = largest;
    const zone = $("upload");
    zone.addEventListener("click", () => $("clip-input").click());
    $("clip-input").addEventListener("change", ({ target }) => {
      this.#send(target.files[0]);
      target.value = "";
    });
    zone.addEventListener("dragover", (event) => {
      event.preventDefault();
      zone.classList.add("dropping");
    });
    zone.addEventListener("dragleave", () => zone.classList.remove("dropping"));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.classList.remove("dropping");
      this.#send(event.dataTransfer.files[0]);
    });
    $("upload-cancel").addEventListener("click", () => this.#request?.abort());
  }

  #send(file) {
    if (!file || this.#request) return;
    const most = this.#largest();
    if (file.size > most) return notice(`${file.name} is larger than ${(most / 1e9).toFixed(1)} GB: cut it, or make it smaller.`);
    const request = new XMLHttpRequest(); // fetch tells nothing of an upload's progress
    const address = new URL("v1/jobs/clips", document.baseURI);
    address.hash = "";
    address.search = new URLSearchParams({ name: file.name.slice(-200) });
    request.open("POST", address);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = ({ loaded }) => this.#show(file, loaded);
    request.onload = () => this.#answered(request);
    request.onerror = () => notice("The upload failed: the server does not answer, or it refused the clip.");
    request.onloadend = () => {
      this.#request = null;
      $("upload-state").hidden = true;
      $("upload").disabled = false;
    };
    this.#request = request;
    $("upload-state").hidden = false;
    $("upload").disabled = true;
    this.#show(file, 0);
    request.send(file);
  }

  #show(file, loaded) {
    const share = file.size ? loaded / file.size : 0;
    $("upload-state").querySelector("progress").value = share;
    $("upload-state").querySelector("span").textContent = `${file.name}, ${Math.floor(100 * share)} %`;
  }

  #answered(request) {
    if (request.status === 201) this.#uploaded(JSON.parse(request.responseText));
    else notice(told(request.status, request.responseText, request.statusText));
  }
}
