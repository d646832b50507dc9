// One trial: its verdict and what weighed for it, its curves within its sweep, its findings, its fix;
// and two trials side by side.

import { get, sweepPath } from "./api.js";
import * as charts from "./charts.js";
import { armName, cell, clipped, el, number, show, table, verdict } from "./dom.js";
import { standing } from "./view_trials.js";

const TICK = 2000; // milliseconds between looks at a trial that runs
const USUAL = ["val_loss", "train_loss", "val_density_kl", "val_auroc", "grad_norm_p90", "encoder_reference_skill", "mixture_weights_entropy"];

// `query` says where a running trial was clicked: it may have ended since.
export async function trialView(view, id, trial, query) {
  const running = query.has("running") && (await runningTrial(id, trial));
  if (running) return runningView(view, id, running);
  const found = await get(sweepPath(id, `/trials/${encodeURIComponent(trial)}`));
  const row = found.trial;
  const detectors = found.findings.filter((one) => one.detector !== "judge");
  const fired = detectors.filter((one) => one.state === "fired");
  const evidence = el("div", {}, el("p.note", {}, "Loading …"));
  show(view,
    el("p.note", {}, el("a", { href: `#/sweep/${encodeURIComponent(id)}` }, id)),
    el("h1", {}, `${armName(row.arm)}, seed ${row.seed} `, verdict(row.label, row.state)),
    el("div.facts", {}, Object.entries(found.factors).map(([name, value]) => el("span", {}, `${name} `, el("b", {}, clipped(cell(value)))))),
    judgement(row),
    stands(row),
    weighed(found.judgement),
    fixes(found, row),
    el("p.note", {}, `${row.state} after ${row.epochs_run} of ${row.epochs_planned} epochs on ${row.device || "?"} in ${number(row.wall_seconds)} s; objective ${number(row.objective) || "none"}, best ${number(row.best_objective) || "none"}; trial ${row.trial_id}`),
    el("h2", {}, "Curves"),
    evidence,
    el("h2", {}, "Findings"),
    findings(detectors),
    found.labels.length > 1 ? el("p.note", {}, `Labels it had: ${found.labels.map((one) => `${one.label}${one.pathology ? ` (${one.pathology})` : ""} by ${one.labeller_version}`).join(", ")}`) : null);
  await drawEvidence(evidence, id, [row.trial_id], fired);
}

const runningTrial = async (id, trial) => (await get(sweepPath(id, "/running"))).trials.find((one) => one.trial_id === trial);

async function runningView(view, id, row) {
  const evidence = el("div");
  const where = el("p");
  const say = (now) => show(where, now ? `Running: epoch ${now.epoch} of ${now.epochs_planned ?? "?"}, attempt ${now.attempt}.` : "It has ended.");
  show(view,
    el("p.note", {}, el("a", { href: `#/sweep/${encodeURIComponent(id)}` }, id)),
    el("h1", {}, `${armName(row.arm)}, seed ${row.seed} `, verdict("running")),
    where, el("h2", {}, "Curves so far"), evidence);
  say(row);
  let again = await drawEvidence(evidence, id, [row.trial_id], []);
  const timer = setInterval(async () => {
    if (!view.isConnected) return clearInterval(timer);
    const now = await runningTrial(id, row.trial_id);
    say(now);
    if (again) await again();
    else again = await drawEvidence(evidence, id, [row.trial_id], []);
    if (now) return undefined;
    clearInterval(timer);
    return trialView(view, id, row.trial_id, new URLSearchParams());
  }, TICK);
}

const judgement = (row) => el(`div.verdict.${row.label || row.state}`, {},
  row.pathology ? el("p", {}, el("b", {}, row.pathology), row.onset_epoch == null ? "" : `, since epoch ${row.onset_epoch}`) : null,
  row.reason ? el("p", {}, row.reason) : null,
  row.remedy ? el("p", {}, el("b", {}, "Change: "), row.remedy) : null,
  row.contributing?.length ? el("p.note", {}, `with ${row.contributing.join(", ")}`) : null,
  row.failure ? el("p", {}, el("b", {}, row.failure)) : null,
  row.error ? el("pre", { tabindex: "0" }, row.error) : null);

function stands(row) {
  const word = standing(row);
  return word ? el("p", {}, el("b", {}, word), `: compared with the arm ${armName(row.reference_arm)}, by its seeds.`) : null;
}

// What each statistic adds to the judge's log odds: above zero speaks for a pathology, below against.
function weighed(judged) {
  if (!judged?.contributions.length) return null;
  const sign = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;
  const most = Math.max(...judged.contributions.map((one) => Math.abs(one.log_odds)), 1e-9);
  return el("details", { open: true }, el("summary", {}, `Evidence: ${(100 * judged.probability).toPrecision(2)} % pathological; contributions in log odds`),
    el("ul.weighed", {}, judged.contributions.map((one) => el("li", {},
      el(`span.weight.${one.log_odds > 0 ? "pathological" : "healthy"}`, { width: `${(6 * Math.abs(one.log_odds)) / most}rem` }),
      `${one.words}: `, el("b", {}, sign(one.log_odds))))),
    judged.agree.length ? el("p.note", {}, `detectors that agree: ${judged.agree.join(", ")}`) : null,
    judged.disagree.length ? el("p.note", {}, `detectors that disagree: ${judged.disagree.join(", ")}`) : null);
}

function fixes(found, row) {
  if (row.label === "healthy" || !found.fixes) return null;
  if (!found.fixes.length) return el("p", {}, "No arm of this sweep is healthy in all of its trials: no fix is known yet.");
  const words = (fix) => Object.entries(fix.change).map(([name, one]) => `${name} ${clipped(cell(one.from))} → ${clipped(cell(one.to))}`).join(" and ") || "none: other seeds of the same arm are healthy";
  return el("div", {}, el("h2", {}, "The smallest change that is healthy in this sweep"), el("ul", {}, found.fixes.map((fix) => el("li", {}, el("b", {}, words(fix)), `: healthy in ${fix.healthy}/${fix.of}`))));
}

// Detectors that found nothing explain nothing: they are folded away.
const SILENT = ["clear", "not_applicable", "missing_signal"];
function findings(rows) {
  const silent = rows.filter((one) => SILENT.includes(one.state));
  const telling = rows.filter((one) => !SILENT.includes(one.state));
  return [
    telling.length ? findingTable(telling) : el("p", {}, "No detector fired."),
    silent.length ? el("details", {}, el("summary", {}, `${silent.length} detectors that found nothing, do not apply or lack a signal`), findingTable(silent)) : null,
  ];
}

const findingTable = (rows) => table([
  { name: "detector", value: (one) => one.detector },
  { name: "state", value: (one) => el(one.state === "fired" ? "b.pathological" : "span", {}, one.state) },
  { name: "severity", wide: true, value: (one) => one.severity },
  { name: "since", number: true, value: (one) => one.onset_epoch },
  { name: "statistic", number: true, wide: true, value: (one) => number(one.statistic) },
  { name: "threshold", number: true, wide: true, value: (one) => number(one.threshold) },
  { name: "reason", value: (one) => one.reason },
], rows);

// Charts of the signals that the fired findings speak of, then the losses; each within the sweep's other
// trials. Gives back what draws them anew, or nothing while there is no evaluation.
async function drawEvidence(place, id, ids, fired) {
  const load = (signal, only) => {
    const asked = new URLSearchParams([["signal", signal], ...only.map((one) => ["trial", one])]);
    return get(`${sweepPath(id, "/curves")}?${asked}`);
  };
  const { signals } = await get(sweepPath(id, "/curves"));
  const spoken = fired.flatMap((one) => [...one.reason.matchAll(/`([a-z0-9_]+)`/g)].map((match) => match[1]));
  const usual = [...new Set([...spoken, ...USUAL])].filter((name) => signals.includes(name));
  const drawn = [];
  let siblings = true;

  async function add(grid, signal) {
    const one = { signal, own: await load(signal, ids), all: null, chart: null };
    if (!one.own.lines.length) return false;
    const target = el("div.chart");
    grid.append(el("section", {}, el("h3", {}, signal), target));
    if (siblings) one.all = await load(signal, []);
    one.chart = charts.draw(target, (narrow) => {
      const behind = siblings && one.all ? one.all : null;
      const background = behind ? behind.lines.filter((line) => !ids.includes(line.trial_id)) : [];
      return withOnsets(charts.curves({ ...one.own, frames: (behind || one.own).frames }, { background, narrow }), fired);
    }, (event) => {
      if (event.data?.trial && !ids.includes(event.data.trial)) location.hash = `#/sweep/${encodeURIComponent(id)}/trial/${event.data.trial}`;
    });
    drawn.push(one);
    return true;
  }

  async function again() {
    for (const one of drawn) {
      one.own = await load(one.signal, ids);
      if (siblings) one.all = await load(one.signal, []);
      charts.update(one.chart);
    }
  }

  const grid = el("div.grid");
  const toggle = el("input", { type: "checkbox", checked: true, onchange: (event) => { siblings = event.target.checked; again(); } });
  const more = el("select", { onchange: (event) => { if (event.target.value) add(grid, event.target.value); event.target.value = ""; } }, el("option", { value: "" }, "…"), signals.map((name) => el("option", { value: name }, name)));
  const controls = el("div.row", {}, el("label", {}, toggle, "with the other trials of the sweep"), el("label", {}, "another signal", more));
  show(place, controls, grid);
  for (const signal of usual) {
    if (drawn.length >= 4 || !place.isConnected) break;
    await add(grid, signal);
  }
  if (drawn.length) return again;
  show(place, el("p.note", {}, "No scalar signal has been stored."));
  return undefined;
}

// Dotted lines where the fired findings began.
function withOnsets(option, fired) {
  const marks = fired.filter((one) => one.onset_epoch != null).slice(0, 4);
  const carrier = option.series.at(-1);
  if (!carrier || !marks.length) return option;
  const line = {
    lineStyle: { color: charts.css("--pathological"), type: "dotted", width: 1 },
    label: { color: charts.css("--ink"), position: "insideEndBottom", fontSize: 11, formatter: (one) => one.name },
  };
  const since = (epoch) => marks.filter((one) => one.onset_epoch === epoch).map((one) => one.detector).join(", ");
  const known = carrier.markLine || { symbol: "none", silent: true, data: [] };
  const epochs = [...new Set(marks.map((one) => one.onset_epoch))];
  carrier.markLine = { ...known, data: [...known.data, ...epochs.map((epoch) => ({ ...line, xAxis: epoch, name: since(epoch) }))] };
  return option;
}

export async function compareView(view, id, a, b) {
  const both = await Promise.all([a, b].map((trial) => get(sweepPath(id, `/trials/${encodeURIComponent(trial)}`))));
  const differ = Object.keys(both[0].factors).filter((name) => both[0].factors[name] !== both[1].factors[name]);
  const link = (one) => el("a", { href: `#/sweep/${encodeURIComponent(id)}/trial/${one.trial.trial_id}` }, `${armName(one.trial.arm)}, seed ${one.trial.seed}`);
  const line = (name, value) => ({ name, cells: both.map(value) });
  const rows = [
    line("trial", link), line("label", (one) => verdict(one.trial.label, one.trial.state)), line("cause", (one) => one.trial.pathology || one.trial.failure || ""),
    line("since", (one) => (one.trial.onset_epoch == null ? "" : `epoch ${one.trial.onset_epoch}`)), line("objective", (one) => number(one.trial.objective)),
    ...differ.map((name) => line(name, (one) => cell(one.factors[name]))), line("why", (one) => one.trial.reason || ""),
  ];
  const evidence = el("div");
  show(view,
    el("p.note", {}, el("a", { href: `#/sweep/${encodeURIComponent(id)}` }, id)),
    el("h1", {}, "Two trials"),
    table([{ name: "", value: (one) => el("b", {}, one.name) }, { name: "first", value: (one) => one.cells[0] }, { name: "second", value: (one) => one.cells[1] }], rows),
    differ.length ? null : el("p.note", {}, "The same factors, other seeds."),
    el("h2", {}, "Curves"),
    evidence);
  await drawEvidence(evidence, id, both.map((one) => one.trial.trial_id), []);
}
