// The page: its views, its colours, and the live session.

import { notice, request } from "./api.js";
import { Live } from "./live.js";
import { Make } from "./jobs.js";

const $ = (id) => document.getElementById(id);

function bindTheme() {
  const root = document.documentElement;
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const show = () => $("theme").setAttribute("aria-pressed", dark());
  $("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
    show();
  });
  show();
}

/** Show the view that the address names. */
function showView() {
  const view = location.hash === "#make" && !document.querySelector(".views").hidden ? "make" : "live";
  for (const id of ["live", "make"]) $(id).hidden = id !== view;
  for (const link of document.querySelectorAll(".views a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

bindTheme();
const live = new Live();
/** For scripts that drive or measure the page. */
globalThis.studio = live;
try {
  await live.load();
  const { enabled } = await (await request("jobs")).json();
  if (enabled) {
    document.querySelector(".views").hidden = false;
    new Make((name) => {
      location.hash = "#live";
      live.load(name);
    });
  }
} catch (error) {
  notice(error.message);
}
addEventListener("hashchange", showView);
showView();
