// One trial: its verdict, its findings with the evidence on its curves, its fix; and two side by side.

import { get, sweepPath } from "./api.js";
import * as charts from "./charts.js";
import { cell, el, number, show, table, verdict } from "./dom.js";

const NOT_SIGNALS = ["sweep_id", "trial_id", "attempt", "epoch", "step", "seconds"];

export async function trialView(view, id, trial) {
  const [found, history] = await Promise.all([
    get(sweepPath(id, `/trials/${encodeURIComponent(trial)}`)),
    get(sweepPath(id, `/trials/${encodeURIComponent(trial)}/epochs`)),
  ]);
  const row = found.trial;
  const signals = scalars(history.epochs);
  const fired = found.findings.filter((one) => one.state === "fired");
  const targets = evidence(signals, fired).map((signal) => ({ signal, target: el("div.chart") }));
  show(view,
    el("p.note", {}, el("a", { href: `#/sweep/${encodeURIComponent(id)}` }, id)),
    el("h1", {}, `${row.arm}, seed ${row.seed} `, verdict(row.label, row.state)),
    el("div.facts", {}, Object.entries(found.factors).map(([name, value]) => el("span", {}, `${name} `, el("b", {}, cell(value))))),
    el(`div.verdict.${row.label || row.state}`, {},
      row.pathology ? el("p", {}, el("b", {}, row.pathology), row.onset_epoch == null ? "" : `, since epoch ${row.onset_epoch}`) : null,
      row.reason ? el("p", {}, row.reason) : null,
      row.remedy ? el("p", {}, el("b", {}, "Change: "), row.remedy) : null,
      row.contributing?.length ? el("p.note", {}, `with ${row.contributing.join(", ")}`) : null,
      row.error ? el("pre", {}, row.error) : null),
    fixes(found, row),
    el("p.note", {}, `${row.state} after ${row.epochs_run} of ${row.epochs_planned} epochs on ${row.device || "?"} in ${number(row.wall_seconds)} s; objective ${number(row.objective)}, best ${number(row.best_objective)}; trial ${row.trial_id}`),
    el("h2", {}, "Evidence"),
    targets.length ? el("div.grid", {}, targets.map(({ signal, target }) => el("section", {}, el("h2", {}, signal), target))) : el("p.note", {}, "No scalar signal was recorded."),
    more({ row, epochs: history.epochs, references: found.references }, signals, fired, targets.map((one) => one.signal)),
    el("h2", {}, "Findings"),
    findings(found.findings),
    found.labels.length > 1 ? el("p.note", {}, `Labels it had: ${found.labels.map((one) => `${one.label}${one.pathology ? ` (${one.pathology})` : ""} by ${one.labeller_version}`).join(", ")}`) : null);
  for (const { signal, target } of targets) plot(target, [{ row, epochs: history.epochs, references: found.references }], signal, fired);
}

function fixes(found, row) {
  if (row.label === "healthy" || !found.fixes) return null;
  if (!found.fixes.length) return el("p", {}, "No arm of this sweep is healthy in all of its trials: no fix is known yet.");
  const words = (fix) => Object.entries(fix.change).map(([name, one]) => `${name} ${cell(one.from)} → ${cell(one.to)}`).join(" and ") || "none: other seeds of the same arm are healthy";
  return el("div", {}, el("h2", {}, "The smallest change that is healthy in this sweep"), el("ul", {}, found.fixes.map((fix) => el("li", {}, el("b", {}, words(fix)), `: healthy in ${fix.healthy}/${fix.of}`))));
}

function findings(rows) {
  return table([
    { name: "detector", value: (one) => one.detector },
    { name: "state", value: (one) => el(one.state === "fired" ? "b.pathological" : "span", {}, one.state) },
    { name: "severity", wide: true, value: (one) => one.severity },
    { name: "since", number: true, value: (one) => one.onset_epoch },
    { name: "statistic", number: true, value: (one) => number(one.statistic) },
    { name: "threshold", number: true, value: (one) => number(one.threshold) },
    { name: "reason", value: (one) => one.reason },
  ], rows);
}

const scalars = (epochs) => [...new Set(epochs.flatMap((row) => Object.keys(row)))].filter((name) => !NOT_SIGNALS.includes(name) && epochs.some((row) => typeof row[name] === "number"));

// The signals that the fired findings speak of first, then the losses.
function evidence(signals, fired) {
  const spoken = fired.flatMap((one) => [...one.reason.matchAll(/`([a-z0-9_]+)`/g)].map((match) => match[1]));
  const usual = ["val_loss", "train_loss", "val_density_kl", "val_auroc", "grad_norm_p90", "encoder_reference_skill", "mixture_weights_entropy"];
  return [...new Set([...spoken, ...usual])].filter((name) => signals.includes(name)).slice(0, 4);
}

function more(trial, signals, fired, shown) {
  const rest = signals.filter((name) => !shown.includes(name));
  if (!rest.length) return null;
  const target = el("div.chart", { hidden: true });
  const pick = (event) => {
    target.hidden = false;
    target.replaceChildren();
    window.echarts.getInstanceByDom(target)?.dispose();
    plot(target, [trial], event.target.value, fired);
  };
  return el("div", {}, el("div.row", {}, el("label", {}, "another signal", el("select", { "data-filter": "1", onchange: pick }, el("option", { value: "" }, "…"), rest.map((name) => el("option", { value: name }, name))))), target);
}

function plot(target, trials, signal, fired) {
  const data = {
    signal,
    // of two trials side by side, those of the first: they share the task
    references: (trials[0].references || []).filter((one) => one.signal === signal).map((one) => ({ ...one, low: one.value, high: one.value })),
    lines: trials.map(({ row, epochs }) => ({
      trial_id: row.trial_id, arm: row.arm, seed: row.seed, verdict: row.label || row.state, pathology: row.pathology, onset_epoch: row.onset_epoch,
      epochs: epochs.map((one) => one.epoch), values: epochs.map((one) => one[signal]),
    })),
  };
  charts.draw(target, () => {
    const option = charts.curves(data, "label", false);
    delete option.yAxis.name; // the heading above the chart says it
    const marks = fired.filter((one) => one.onset_epoch != null).slice(0, 4);
    if (option.series.length && marks.length) {
      const line = {
        lineStyle: { color: charts.css("--pathological"), type: "dotted", width: 1 },
        label: { color: charts.css("--ink"), position: "insideEndBottom", fontSize: 11, formatter: (one) => one.name },
      };
      const since = (epoch) => marks.filter((one) => one.onset_epoch === epoch).map((one) => one.detector).join(", ");
      const known = option.series[0].markLine || { symbol: "none", silent: true, data: [] };
      const epochs = [...new Set(marks.map((one) => one.onset_epoch))];
      option.series[0].markLine = { ...known, data: [...known.data, ...epochs.map((epoch) => ({ ...line, xAxis: epoch, name: since(epoch) }))] };
    }
    return option;
  });
}

export async function compareView(view, id, a, b) {
  const load = async (trial) => {
    const [found, history] = await Promise.all([get(sweepPath(id, `/trials/${trial}`)), get(sweepPath(id, `/trials/${trial}/epochs`))]);
    return { row: found.trial, factors: found.factors, references: found.references, epochs: history.epochs };
  };
  const both = await Promise.all([load(a), load(b)]);
  const signals = scalars(both.flatMap((one) => one.epochs));
  const usual = evidence(signals, []);
  const targets = usual.map(() => el("div.chart"));
  const differ = Object.keys(both[0].factors).filter((name) => both[0].factors[name] !== both[1].factors[name]);
  const link = (one) => el("a", { href: `#/sweep/${encodeURIComponent(id)}/trial/${one.row.trial_id}` }, `${one.row.arm}, seed ${one.row.seed}`);
  const line = (name, value) => ({ name, cells: both.map(value) });
  const rows = [
    line("trial", link), line("label", (one) => verdict(one.row.label, one.row.state)), line("cause", (one) => one.row.pathology || ""),
    line("since", (one) => (one.row.onset_epoch == null ? "" : `epoch ${one.row.onset_epoch}`)), line("objective", (one) => number(one.row.objective)),
    ...differ.map((name) => line(name, (one) => cell(one.factors[name]))), line("why", (one) => one.row.reason || ""),
  ];
  show(view,
    el("p.note", {}, el("a", { href: `#/sweep/${encodeURIComponent(id)}` }, id)),
    el("h1", {}, "Two trials"),
    table([{ name: "", value: (one) => one.name }, { name: "one", value: (one) => one.cells[0] }, { name: "other", value: (one) => one.cells[1] }], rows),
    differ.length ? null : el("p.note", {}, "The same factors, other seeds."),
    el("div.grid", {}, usual.map((name, i) => el("section", {}, el("h2", {}, name), targets[i]))));
  usual.forEach((name, i) => plot(targets[i], both, name, []));
}
