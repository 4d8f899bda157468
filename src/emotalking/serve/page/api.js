// Requests to the server, and what the page tells its user.

const KEY = "emotalking-token";

const SESSION_KEY = "emotalking-session";

/** Token and session of the address (after #), or of this tab's earlier visit. */
function findSecrets() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("session")) {
    const session = { resume: given.get("session"), secret: given.get("secret") ?? "" };
    sessionStorage.setItem(SESSION_KEY, JSON.stringify(session));
  }
  if (given.has("token")) sessionStorage.setItem(KEY, given.get("token"));
  if (given.has("token") || given.has("session")) history.replaceState(null, "", location.pathname + location.search);
  return [sessionStorage.getItem(KEY) ?? "", JSON.parse(sessionStorage.getItem(SESSION_KEY))];
}

/** `ownSession`: the one that the server keeps for its outputs ({resume, secret}), or null. */
export const [token, ownSession] = findSecrets();

/** An address of the server's interface, below where the page is: a proxy may have put it into a folder. */
function address(path) {
  return new URL(`v1/${path.replace(/^\/?v1\//, "")}`, document.baseURI);
}

/** Fetch below v1/; an answer that is an error is raised with the server's sentence, and its status. */
export async function request(path, { method = "GET", json, signal } = {}) {
  const headers = authorization();
  if (json !== undefined) headers["Content-Type"] = "application/json";
  const body = json === undefined ? undefined : JSON.stringify(json);
  let answer;
  try {
    answer = await fetch(address(path), { method, headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer: is it still running?");
  }
  if (!answer.ok) throw Object.assign(new Error(await reason(answer)), { status: answer.status });
  return answer;
}

export function authorization() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function reason(answer) {
  return told(answer.status, await answer.text(), answer.statusText);
}

/** The sentence of an answer that is an error. */
export function told(status, text, statusText = "") {
  if (status === 401) return "This server needs a token: open the address that it printed, with #token= in it.";
  try {
    const { detail, error = detail } = JSON.parse(text);
    if (typeof error === "string") return sentence(error);
  } catch {
    if (text && text.length < 200) return sentence(text.trim());
  }
  return `The server answered ${status} ${statusText}.`.replace(" .", ".");
}

export function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?:]$/.test(begun) ? begun : `${begun}.`;
}

/** The address of an image that is behind the token, for an <img>. */
export async function imageAddress(path) {
  if (!token) return address(path).href;
  return URL.createObjectURL(await (await request(path)).blob());
}

/** Show a message until it is closed; one of each text. */
export function notice(text, kind = "error") {
  const area = document.getElementById("notices");
  for (const old of [...area.children]) if (old.dataset.text === text || area.children.length > 3) old.remove();
  const box = document.createElement("div");
  box.className = `notice ${kind}`;
  box.dataset.text = text;
  const words = document.createElement("p");
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "icon";
  close.setAttribute("aria-label", "Close this message");
  close.append(icon("close"));
  close.onclick = () => box.remove();
  box.append(words, close);
  area.append(box);
  if (kind === "info") setTimeout(() => box.remove(), 6000);
}

export function icon(name) {
  const namespace = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(namespace, "svg");
  drawing.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(namespace, "use");
  use.setAttribute("href", `#i-${name}`);
  drawing.append(use);
  return drawing;
}

/** An element with properties and children. */
export function element(tag, properties = {}, ...children) {
  const { data = {}, aria = {}, ...plain } = properties;
  const made = Object.assign(document.createElement(tag), plain);
  Object.assign(made.dataset, data);
  for (const [name, value] of Object.entries(aria)) made.setAttribute(name === "role" ? name : `aria-${name}`, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Hand a file to the user. */
export function save({ blob, name }) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
