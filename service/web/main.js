// The page: which view a link means, keys, theme, and the stream of changes.

import { get, listen, Refused, setToken, token } from "./api.js";
import { forget, redraw } from "./charts.js";
import { el, failure, show } from "./dom.js";
import { sqlView } from "./view_sql.js";
import { submitView } from "./view_submit.js";
import { sweepView } from "./view_sweep.js";
import { sweepsView } from "./view_sweeps.js";
import { compareView, trialView } from "./view_trial.js";

const view = document.getElementById("view");
const ROUTES = [
  [/^#\/sweeps$/, (place) => sweepsView(place)],
  [/^#\/sweep\/([^/?]+)$/, (place, id, query) => sweepView(place, id, query)],
  [/^#\/sweep\/([^/]+)\/trial\/([^/?]+)$/, (place, id, trial, query) => trialView(place, id, trial, query)],
  [/^#\/sweep\/([^/]+)\/compare\/([^/]+)\/([^/?]+)$/, (place, id, a, b) => compareView(place, id, a, b)],
  [/^#\/sql$/, (place, query) => sqlView(place, query)],
  [/^#\/submit$/, (place) => submitView(place)],
];
let current = null; // what the shown view gave back: { changed(sweep) }
let asked = 0;

async function route() {
  const [path, words = ""] = (location.hash || "#/sweeps").split("?");
  const found = ROUTES.find(([pattern]) => pattern.test(path));
  const mine = ++asked;
  forget();
  current = null;
  document.getElementById("sign-out").hidden = !token();
  for (const link of document.querySelectorAll("nav a")) {
    const here = path.startsWith(link.hash) || (link.hash === "#/sweeps" && path.startsWith("#/sweep/"));
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!found) {
    show(view, el("p", {}, "There is nothing here. ", el("a", { href: "#/sweeps" }, "All sweeps")));
    return;
  }
  const [pattern, make] = found;
  const place = el("div", {}, el("p.note", {}, "Loading …")); // a view that comes late draws into a place that is gone
  show(view, place);
  try {
    const shown = await make(place, ...path.match(pattern).slice(1).map(decodeURIComponent), new URLSearchParams(words));
    if (mine === asked) current = shown || null;
  } catch (error) {
    if (mine !== asked) return;
    if (error instanceof Refused && error.status === 401) signIn(error);
    else show(place, failure(error));
  }
}

function signIn(error) {
  const known = token();
  const input = el("input", { type: "password", autocomplete: "current-password", required: true, size: "44" });
  const enter = (event) => {
    event.preventDefault();
    setToken(input.value.trim());
    route();
  };
  show(view, el("h1", {}, "Sign in"),
    el("p", {}, "This Sickbay shows its sweeps to people who have an access token. An administrator makes one with ", el("code", {}, "sickbay token create NAME"), "; it begins with ", el("code", {}, "sickbay_"), "."),
    known ? el("p.error", { role: "alert" }, `The token that was entered is not accepted: ${error.message}.`) : null,
    el("form", { onsubmit: enter }, el("div.row", {}, el("label", {}, "access token", input), el("button.main", { type: "submit" }, "Sign in"))),
    el("p.note", {}, "It stays in this browser, for every tab, until you sign out."));
  input.focus();
}

function signOut() {
  setToken("");
  location.reload();
}

const KEYS = [
  ["g s", "all sweeps"], ["g q", "SQL"], ["g n", "submit a sweep"], ["j / k", "next, previous row"],
  ["Enter", "open the chosen row"], ["1 … 7", "tabs of a sweep"], ["/", "to the filter"], ["t", "dark or light"], ["?", "these keys"],
];

function help() {
  const dialog = document.getElementById("dialog");
  const rows = KEYS.map(([key, what]) => el("tr", {}, el("td", {}, el("kbd", {}, key)), el("td", {}, what)));
  show(dialog, el("h2", {}, "Keys"), el("table", {}, el("tbody", {}, rows)), el("form", { method: "dialog" }, el("button", {}, "Close")));
  dialog.showModal();
}

function theme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("sickbay-theme", next);
  redraw();
}

let before = "";
function key(event) {
  const typing = event.target.closest("input, textarea, select, dialog[open]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const jump = { s: "#/sweeps", q: "#/sql", n: "#/submit" }[event.key];
  if (before === "g" && jump) location.hash = jump;
  else if (event.key === "?") help();
  else if (event.key === "t") theme();
  else if (event.key === "/") {
    const filter = document.querySelector("[data-filter]");
    if (filter) filter.focus();
    event.preventDefault();
  } else if (event.key === "j" || event.key === "k") choose(event.key === "j" ? 1 : -1);
  else if (event.key === "Enter" && event.target.tagName !== "A" && event.target.tagName !== "BUTTON") {
    const row = document.querySelector("tr.chosen");
    if (row) location.hash = row.dataset.link;
  } else if (/^[1-9]$/.test(event.key)) document.querySelectorAll(".tabs a")[Number(event.key) - 1]?.click();
  before = event.key;
}

function choose(step) {
  const rows = [...document.querySelectorAll("tr[data-link]")];
  if (!rows.length) return;
  const old = rows.findIndex((row) => row.classList.contains("chosen"));
  const place = Math.min(Math.max(old + step, 0), rows.length - 1);
  rows[old]?.classList.remove("chosen");
  rows[place].classList.add("chosen");
  rows[place].scrollIntoView({ block: "nearest" });
}

document.getElementById("theme").addEventListener("click", theme);
document.getElementById("help").addEventListener("click", help);
document.getElementById("sign-out").addEventListener("click", signOut);
document.addEventListener("keydown", key);
window.addEventListener("hashchange", route);
listen(
  (sweep) => current?.changed?.(sweep),
  (state) => {
    document.getElementById("live").textContent = `${state === "live" ? "●" : "○"} ${state}`;
  },
);
get("healthz").then((found) => {
  document.querySelector(".brand").title = `Sickbay ${found.version}`;
});
route();
