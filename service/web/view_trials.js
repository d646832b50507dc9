// The trials of a sweep: those that run now, and the ended ones, to sort, filter and choose columns of.

import { get, sweepPath } from "./api.js";
import { armName, cell, clipped, el, failure, number, show, table, verdict } from "./dom.js";
import { NAMES } from "./verdicts.js";

const PAGE = 100;
const SAVED = "sickbay-columns"; // in the browser's storage: the columns that a person chose, by workload
const TYPING = 250; // milliseconds without a key before the filter is applied
const HIDDEN = ["sweep_id", "trial_id", "workload", "label", "outcome", "state", "facts", "config", "remedy"];

export const trialLink = (id, trial) => `#/sweep/${encodeURIComponent(id)}/trial/${encodeURIComponent(trial)}`;

export const runningLink = (id, trial) => `${trialLink(id, trial)}?running=1`;

export async function trials(body, id, sweep, query) {
  const factors = Object.keys(sweep.spec.factors || {});
  const wanted = Object.fromEntries(["verdict", "pathology", "search", "sort", "desc"].map((name) => [name, query.get(name) || ""]));
  const picked = new Set();
  let offset = 0;
  let mine = 0;
  let first = null; // a row, for the names of all columns
  const now = el("div");
  const rows = el("div");
  const compare = el("a", { hidden: true }, "compare the two");
  const columns = el("details.columns", {}, el("summary", {}, "columns"));
  const choose = (name, options) => el("label", {}, name, el("select", { "data-filter": "1", onchange: (event) => set({ [name]: event.target.value }) }, el("option", { value: "" }, "all"), options.map((one) => el("option", { value: one, selected: wanted[name] === one }, one))));
  let timer = 0;
  const search = el("input", { type: "search", "data-filter": "1", value: wanted.search, placeholder: "arm, cause, reason …", oninput: (event) => {
    clearTimeout(timer);
    timer = setTimeout(() => set({ search: event.target.value }), TYPING);
  } });
  const bars = el("div.row", {}, choose("verdict", NAMES.filter((name) => name !== "running")), choose("pathology", Object.keys(sweep.pathologies)), el("label", {}, "find", search), columns, compare);

  function set(change) {
    Object.assign(wanted, change);
    offset = 0;
    const kept = new URLSearchParams({ tab: "trials", ...Object.fromEntries(Object.entries(wanted).filter(([, value]) => value)) });
    history.replaceState(null, "", `#/sweep/${encodeURIComponent(id)}?${kept}`);
    load().catch((error) => show(rows, failure(error)));
  }

  function pick(event, trial) {
    if (event.target.checked) picked.add(trial);
    else picked.delete(trial);
    const [a, b] = picked;
    compare.hidden = picked.size !== 2;
    if (!compare.hidden) compare.href = `#/sweep/${encodeURIComponent(id)}/compare/${a}/${b}`;
  }

  const known = columnsOf(id, factors);
  const usual = ["verdict", ...factors, "seed", "objective", "cause", "onset_epoch", "standing", "reason"];
  const names = () => [...known.keys(), ...Object.keys(first || {}).filter((name) => !known.has(name) && !HIDDEN.includes(name))];
  const column = (name) => known.get(name) || { name, key: name, number: typeof first?.[name] === "number", value: (one) => one[name] };
  let chosen = saved(sweep.workload) || usual;

  function drawColumns() {
    const box = (name) => el("label", {}, el("input", { type: "checkbox", checked: chosen.includes(name), onchange: (event) => {
      chosen = names().filter((one) => (one === name ? event.target.checked : chosen.includes(one)));
      save(sweep.workload, chosen);
      load();
    } }), column(name).name);
    const usualAgain = el("button", { type: "button", onclick: () => { chosen = usual; save(sweep.workload, null); drawColumns(); load(); } }, "as usual");
    show(columns, el("summary", {}, "columns"), el("fieldset", {}, el("legend", {}, "shown, and kept in this browser"), names().map(box), usualAgain));
  }

  async function load() {
    const asked = ++mine;
    const found = await get(sweepPath(id, "/trials"), { ...wanted, offset, limit: PAGE });
    if (asked !== mine) return;
    if (!first) {
      first = found.trials[0];
      drawColumns();
    }
    const step = (by, word) => el("button", { type: "button", disabled: by < 0 ? offset === 0 : offset + PAGE >= found.total, onclick: () => { offset += by; load(); } }, word);
    const sort = { key: wanted.sort, desc: Boolean(wanted.desc), by: (key) => set({ sort: key, desc: wanted.sort === key && !wanted.desc ? "1" : "" }) };
    const checkbox = { name: "", value: (one) => el("input", { type: "checkbox", checked: picked.has(one.trial_id), "aria-label": `choose ${one.trial_id}`, onchange: (event) => pick(event, one.trial_id) }) };
    const trial = { name: "trial", key: "trial_id", value: (one) => el("a", { href: trialLink(id, one.trial_id) }, one.trial_id.slice(0, 8)) };
    show(rows,
      table([checkbox, trial, ...chosen.map(column)], found.trials, { link: (one) => trialLink(id, one.trial_id), sort }),
      el("div.row", {}, step(-PAGE, "‹ before"), el("span.note", {}, found.total ? `${offset + 1} to ${Math.min(offset + PAGE, found.total)} of ${found.total} trials` : "no trial"), step(PAGE, "after ›")));
  }

  const tick = async () => show(now, runningTable(id, (await get(sweepPath(id, "/running"))).trials));
  show(body, now, bars, rows);
  await Promise.all([load(), tick()]);
  return { changed: () => Promise.all([load(), tick()]), tick };
}

// The columns that are more than the bare value of a field, by that field or by what they are called.
function columnsOf(id, factors) {
  const all = [
    { name: "verdict", key: "verdict", value: (one) => verdict(one.label, one.state) },
    ...factors.map((name) => ({ name, key: name, value: (one) => clipped(cell(one[name])) })),
    { name: "seed", key: "seed", number: true, value: (one) => one.seed },
    { name: "objective", key: "objective", number: true, value: (one) => number(one.objective) },
    { name: "cause", key: "cause", value: (one) => one.pathology || one.failure || "" },
    { name: "since", key: "onset_epoch", number: true, value: (one) => (one.onset_epoch == null ? "" : `epoch ${one.onset_epoch}`) },
    { name: "standing", key: "standing", value: (one) => standing(one) },
    { name: "why", key: "reason", wide: true, value: (one) => (one.error ? errorLine(one.error) : one.label === "healthy" ? "" : one.reason) },
  ];
  return new Map(all.map((one) => [one.key, one]));
}

// Where a healthy trial stands among its siblings, where that is worth a word.
export function standing(row) {
  const worse = row.standing === "behind" || row.standing === "far_behind";
  if (!worse && row.standing !== "ahead") return "";
  const word = row.standing.replace("_", " ");
  return row.label === "healthy" && worse ? `believe, but ${word}` : word;
}

function runningTable(id, running) {
  if (!running.length) return null;
  return el("section", {}, el("h2", {}, `Running now: ${running.length}`), table([
    { name: "trial", value: (one) => el("a", { href: runningLink(id, one.trial_id) }, one.trial_id.slice(0, 8)) },
    { name: "arm", value: (one) => armName(one.arm) },
    { name: "seed", number: true, value: (one) => one.seed },
    { name: "epoch", number: true, value: (one) => `${one.epoch} of ${one.epochs_planned ?? "?"}` },
    { name: "began", wide: true, value: (one) => new Date(1000 * one.started_at).toLocaleTimeString() },
  ], running.slice(0, PAGE), { link: (one) => runningLink(id, one.trial_id) }));
}

// As `error_line` of sickbay.trials.events.
function errorLine(error) {
  const lines = cell(error).split("\n").filter((line) => line.trim());
  const frame = lines.findLastIndex((line) => line.startsWith("  File "));
  const after = frame < 0 ? undefined : lines.slice(frame + 1).find((line) => line[0] !== " ");
  return after ?? (lines[0].endsWith(":") ? `${lines[0]} ${lines.at(-1).trim()}` : lines[0].trim());
}

function saved(workload) {
  return JSON.parse(localStorage.getItem(SAVED) || "{}")[workload];
}

function save(workload, chosen) {
  const all = JSON.parse(localStorage.getItem(SAVED) || "{}");
  if (chosen) all[workload] = chosen;
  else delete all[workload];
  localStorage.setItem(SAVED, JSON.stringify(all));
}
