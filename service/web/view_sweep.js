// One sweep while it runs and after: verdicts, curves, health map, effects, parallel, causes.

import { get, post, sweepPath } from "./api.js";
import * as charts from "./charts.js";
import { bar, cell, el, failure, number, show, table, verdict } from "./dom.js";

const TABS = ["trials", "curves", "health", "effects", "parallel", "causes"];
const PAGE = 100;

export async function sweepView(view, id, query) {
  let sweep = await get(sweepPath(id));
  const tab = TABS.includes(query.get("tab")) ? query.get("tab") : TABS[0];
  const head = el("div");
  const body = el("div", {}, el("p.note", {}, "Loading …"));
  const tabs = el("nav.tabs", { "aria-label": "Parts of the sweep" }, TABS.map((name) => el("a", { href: `#/sweep/${encodeURIComponent(id)}?tab=${name}`, "aria-current": name === tab && "page" }, name)));

  show(view, head, tabs, body);
  drawHead();
  const draw = { trials, curves, health, effects, parallel, causes }[tab];
  const shown = await draw(body, id, sweep, query).catch((error) => show(body, failure(error)));

  function drawHead() {
    const counts = { ...sweep.labels, failed: sweep.states.failed };
    const live = sweep.state === "running" || sweep.state === "queued";
    const doing = async (what) => {
      if (what === "cancel" && !confirm(`End the running trials of ${id}?`)) return;
      try {
        await post(sweepPath(id, `/${what}`));
        sweep = await get(sweepPath(id));
        drawHead();
      } catch (error) {
        head.append(failure(error));
      }
    };
    const button = (what, title) => el("button", { type: "button", title, onclick: () => doing(what) }, what);
    const missing = sweep.planned - sweep.ended;
    show(head,
      el("h1", {}, sweep.sweep_id),
      el("div.facts", {},
        el("span", {}, el("b", {}, sweep.state), ` · ${sweep.ended} of ${sweep.planned} ended`),
        el("span", {}, `${sweep.workload}, ${sweep.design}`),
        ...Object.entries(sweep.pathologies).map(([name, n]) => el("span.pathological", {}, `${name} ${n}`))),
      bar(counts, sweep.planned),
      el("div.row", {},
        live ? [button("stop", "running trials finish, no new ones start"), button("cancel", "end now")] : missing > 0 ? button("resume", "run what is missing") : null,
        el("a", { href: sweepPath(id, "/report"), target: "_blank", rel: "noopener" }, "report"),
        el("a", { href: `#/sql?sql=${encodeURIComponent(sql(id))}` }, "SQL"),
        el("details", {}, el("summary", {}, "spec"), el("pre", {}, JSON.stringify(sweep.spec, null, 1)))));
  }

  return {
    async changed(found) {
      if (found.sweep_id !== sweep.sweep_id) return;
      sweep = { ...sweep, ...found };
      drawHead();
      if (shown?.changed) await shown.changed();
    },
  };
}

const sql = (id) => `SELECT arm, label, pathology, count(*) AS n, median(objective) AS objective\nFROM trials WHERE sweep_id = '${id}' GROUP BY ALL ORDER BY ALL`;
const trialLink = (id, trial) => `#/sweep/${encodeURIComponent(id)}/trial/${encodeURIComponent(trial)}`;

async function trials(body, id, sweep) {
  const factors = Object.keys(sweep.spec.factors || {});
  const wanted = { label: "", pathology: "" };
  const picked = new Set();
  let offset = 0;
  const rows = el("div");
  const compare = el("a", { hidden: true }, "compare the two");
  const choose = (name, options) => el("label", {}, name, el("select", { "data-filter": "1", "aria-label": name, onchange: (event) => { wanted[name] = event.target.value; offset = 0; load(); } }, el("option", { value: "" }, "all"), options.map((one) => el("option", { value: one }, one))));
  const bars = el("div.row", {}, choose("label", ["healthy", "pathological", "inconclusive"]), choose("pathology", Object.keys(sweep.pathologies)), compare);

  function pick(event, trial) {
    if (event.target.checked) picked.add(trial);
    else picked.delete(trial);
    const [a, b] = picked;
    compare.hidden = picked.size !== 2;
    if (!compare.hidden) compare.href = `#/sweep/${encodeURIComponent(id)}/compare/${a}/${b}`;
  }

  async function load() {
    const found = await get(sweepPath(id, "/trials"), { ...wanted, offset, limit: PAGE });
    const step = (by, word) => el("button", { type: "button", disabled: by < 0 ? offset === 0 : offset + PAGE >= found.total, onclick: () => { offset += by; load(); } }, word);
    show(rows,
      table([
        { name: "", value: (one) => el("input", { type: "checkbox", checked: picked.has(one.trial_id), "aria-label": `choose ${one.trial_id}`, onchange: (event) => pick(event, one.trial_id) }) },
        { name: "trial", value: (one) => el("a", { href: trialLink(id, one.trial_id) }, one.trial_id.slice(0, 8)) },
        ...factors.map((name) => ({ name, value: (one) => one[name] })),
        { name: "seed", number: true, value: (one) => one.seed },
        { name: "objective", number: true, value: (one) => number(one.objective) },
        { name: "label", value: (one) => verdict(one.label, one.state) },
        { name: "cause", value: (one) => one.pathology || (one.error ? String(one.error).trim().split("\n").pop() : "") },
        { name: "since", number: true, value: (one) => (one.onset_epoch == null ? "" : `epoch ${one.onset_epoch}`) },
        { name: "why", wide: true, value: (one) => (one.label === "healthy" ? "" : one.reason) },
      ], found.trials, { link: (one) => trialLink(id, one.trial_id) }),
      el("div.row", {}, step(-PAGE, "‹ before"), el("span.note", {}, found.total ? `${offset + 1} to ${Math.min(offset + PAGE, found.total)} of ${found.total} trials` : "no trial"), step(PAGE, "after ›")));
  }

  show(body, bars, rows);
  await load();
  return { changed: load };
}

async function curves(body, id, sweep, query) {
  let data = await get(sweepPath(id, "/curves"), { signal: query.get("signal") });
  let by = query.get("by") || "label";
  let logarithmic = query.get("log") === "1";
  const target = el("div.chart.tall");
  const link = () => history.replaceState(null, "", `#/sweep/${encodeURIComponent(id)}?tab=curves&signal=${encodeURIComponent(data.signal)}&by=${by}${logarithmic ? "&log=1" : ""}`);
  const again = async (signal) => {
    data = await get(sweepPath(id, "/curves"), { signal });
    link();
    plot();
  };
  const note = el("p.note");
  function plot() {
    charts.forget();
    charts.draw(target, () => charts.curves(data, by, logarithmic), (event) => {
      if (event.data?.trial) location.hash = trialLink(id, event.data.trial);
    });
    show(note, by === "arm" ? `Medians and the middle 80 % of ${data.arms.length} of ${data.arms_in_all} arms.` : `${data.lines.length} of ${data.trials_in_all} trials; ▲ where the pathology began; solid healthy, dashed pathological. Click a curve to open its trial.`,
      " Drag or scroll to zoom. Values that are NaN or infinite leave gaps.");
  }
  if (!data.signals.length) return show(body, el("p", {}, "No trial has ended yet."));
  const select = el("select", { "data-filter": "1", "aria-label": "signal", onchange: (event) => again(event.target.value) }, data.signals.map((one) => el("option", { value: one, selected: one === data.signal }, one)));
  const mode = (name, words) => el("label", {}, el("input", { type: "radio", name: "by", checked: by === name, onchange: () => { by = name; link(); plot(); } }), words);
  const log = el("label", {}, el("input", { type: "checkbox", checked: logarithmic, onchange: (event) => { logarithmic = event.target.checked; link(); plot(); } }), "logarithmic");
  const references = el("ul.note", {}, data.references.map((one) => el("li", {}, `${one.low === one.high ? number(one.value) : `${number(one.low)} … ${number(one.high)}`}: ${one.text}`)));
  show(body, el("div.row", {}, el("label", {}, "signal", select), mode("label", "trials by label"), mode("arm", "arms"), log), target, note, references, source(data.sql));
  plot();
  return { changed: () => again(data.signal) };
}

async function health(body, id, sweep, query) {
  const data = await get(sweepPath(id, "/map"), { x: query.get("x"), y: query.get("y") });
  const pick = (which) => el("label", {}, which, el("select", { "data-filter": "1", "aria-label": which, onchange: () => { location.hash = `#/sweep/${encodeURIComponent(id)}?tab=health&x=${x.value}&y=${y.value}`; } }, data.factors.map((one) => el("option", { value: one, selected: data.maps[0]?.[which].factor === one }, one))));
  const parts = [pick("x"), pick("y")];
  const [x, y] = parts.map((part) => part.querySelector("select"));
  if (!data.maps.length) return show(body, el("p", {}, "A health map needs two factors with more than one level, or two seeds."));
  const targets = data.maps.map(() => el("div.chart"));
  show(body, data.factors.length > 1 ? el("div.row", {}, parts) : null, el("p.note", {}, "Healthy of all trials that were not cancelled, over all other factors and seeds."), el("div.grid", {}, data.maps.map((map, i) => el("section", {}, el("h2", {}, `${map.x.factor} × ${map.y.factor}`), targets[i], source(map.sql)))));
  data.maps.forEach((map, i) => charts.draw(targets[i], () => charts.healthMap(map)));
}

async function effects(body, id) {
  const data = await get(sweepPath(id, "/effects"));
  const k = (side) => `${side.healthy}/${side.trials}`;
  const known = (value) => typeof value === "number" && Number.isFinite(value);
  const rows = data.effects.map((one) => {
    const mean = one.difference.mean;
    const better = data.goal === "minimize" ? mean < 0 : mean > 0;
    const sure = known(one.difference.low) && (one.difference.low > 0 || one.difference.high < 0);
    return {
      name: `${one.factor} ${cell(one.level)}`,
      mean: known(mean) ? mean : null,
      low: known(one.difference.low) ? one.difference.low : mean,
      high: known(one.difference.high) ? one.difference.high : mean,
      tone: !sure ? "inconclusive" : better ? "healthy" : "pathological",
      health: `healthy ${k(one.of_level)}`,
      words: `${one.factor} ${cell(one.level)} against ${cell(one.baseline)}\n${number(mean)} [${number(one.difference.low)}, ${number(one.difference.high)}]\n${one.sound_pairs} of ${one.pairs} pairs are sound; healthy ${k(one.of_level)} against ${k(one.of_baseline)}`,
    };
  });
  const target = el("div.chart");
  target.style.height = `${Math.max(200, 90 + 34 * rows.length)}px`;
  const interval = (one) => (known(one.mean) ? `${number(one.mean)} [${number(one.low)}, ${number(one.high)}]` : "UNKNOWN");
  show(body,
    el("p.note", {}, `${data.goal} ${data.signal}; differences within pairs that share the seed and everything else, among pairs in which both trials are healthy. "Better" is over all pairs, with pathological trials placed last.`),
    rows.some((one) => one.mean !== null) ? target : el("p", {}, "No level has a pair in which both trials are healthy, so no difference is known. How often each level is healthy, and which is better, is shown below."),
    table([
      { name: "level", value: (one) => `${one.factor} ${cell(one.level)}` },
      { name: "baseline", value: (one) => cell(one.baseline) },
      { name: "difference, 95 %", number: true, value: (one) => interval(one.difference) },
      { name: "sound pairs", number: true, value: (one) => `${one.sound_pairs} of ${one.pairs}` },
      { name: "P(better), 95 %", number: true, value: (one) => (known(one.improvement.value) ? `${number(one.improvement.value)} [${number(one.improvement.low)}, ${number(one.improvement.high)}]` : "UNKNOWN") },
      { name: "healthy, 95 %", number: true, value: (one) => `${k(one.of_level)} [${number(one.of_level.low)}, ${number(one.of_level.high)}]` },
      { name: "baseline healthy", number: true, value: (one) => k(one.of_baseline) },
      { name: "causes", value: (one) => Object.entries(one.of_level.causes).map(([name, n]) => `${name} ${n}`).join(", ") },
      { name: "verdict", value: (one) => one.conclusion || one.verdict },
    ], data.effects),
    Object.entries(data.sql || {}).map(([name, text]) => source(text, `SQL of ${SOURCES[name] || name}`)));
  if (target.isConnected) charts.draw(target, () => charts.forest(rows, data.signal));
}

async function parallel(body, id) {
  const data = await get(sweepPath(id, "/parallel"));
  if (!data.axes.length) return show(body, el("p", {}, "Parallel coordinates need a factor with more than one level."));
  const target = el("div.chart.tall");
  const chosen = el("div");
  show(body, el("p.note", {}, `${data.trials.length} of ${data.trials_in_all} trials, sampled so that every pathology is shown. Drag along an axis to filter by its values; click the axis to clear the filter.`), target, chosen);
  const chart = charts.draw(target, () => charts.parallel(data));
  const groups = ["healthy", "inconclusive", "pathological", "failed"];
  const known = (one) => (groups.includes(one.verdict) ? one.verdict : "failed");
  chart.on("axisareaselected", () => {
    const series = chart.getModel().getSeries();
    const found = series.flatMap((one) => {
      const mine = data.trials.filter((trial) => known(trial) === one.name);
      return one.getRawIndicesByActiveState("active").map((place) => mine[place]);
    });
    const all = found.length === data.trials.length;
    show(chosen, all || !found.length ? null : [el("h2", {}, `${found.length} chosen`), table([
      { name: "trial", value: (one) => el("a", { href: trialLink(id, one.trial_id) }, one.trial_id.slice(0, 8)) },
      ...data.axes.map((axis, i) => ({ name: axis.factor, value: (one) => axis.names[one.places[i]] })),
      { name: "seed", number: true, value: (one) => one.seed },
      { name: "objective", number: true, value: (one) => number(one.objective) },
      { name: "label", value: (one) => verdict(one.verdict) },
      { name: "cause", value: (one) => one.pathology },
    ], found.slice(0, 50))]);
  });
}

async function causes(body, id) {
  const data = await get(sweepPath(id, "/causes"));
  if (!data.levels.length) return show(body, el("p", {}, "Nothing to compare: no factor has more than one level."));
  const target = el("div.chart");
  target.style.height = `${Math.max(220, 110 + 30 * data.levels.length)}px`;
  show(body, el("p.note", {}, "How the trials of every level ended, over all other factors and seeds."), target);
  charts.draw(target, () => charts.causes(data));
}

const source = (text, title = "SQL of these numbers") => (text ? el("details", {}, el("summary", {}, title), el("pre", {}, text)) : null);
const SOURCES = { trials: "the trials", pairs: "the pairs and their differences", seeds: "the differences by seed", better: "P(better)", causes: "health and causes" };
