// One sweep while it runs and after: trials, arms, curves, health map, effects, parallel, causes.

import { get, openReport, post, sweepPath } from "./api.js";
import * as charts from "./charts.js";
import { armName, bar, builtTable, cell, el, failure, number, show, table, verdict } from "./dom.js";
import { kindOf } from "./verdicts.js";
import { runningLink, trialLink, trials } from "./view_trials.js";

const TABS = { trials, arms, curves, health, effects, parallel, causes };
const TICK = 2000; // milliseconds between looks at what running trials have stored

export async function sweepView(view, id, query) {
  let sweep = await get(sweepPath(id));
  const tab = query.get("tab") in TABS ? query.get("tab") : "trials";
  const head = el("div");
  const best = el("div");
  const body = el("div", {}, el("p.note", {}, "Loading …"));
  const tabs = el("nav.tabs", { "aria-label": "Parts of the sweep" }, Object.keys(TABS).map((name) => el("a", { href: `#/sweep/${encodeURIComponent(id)}?tab=${name}`, "aria-current": name === tab && "page" }, name)));
  const live = () => sweep.state === "running" || sweep.state === "queued";

  show(view, head, best, tabs, body);
  drawHead();
  const shown = await TABS[tab](body, id, sweep, query).catch((error) => show(body, failure(error)));
  drawBest();
  const timer = setInterval(() => {
    if (!body.isConnected) clearInterval(timer);
    else if (live() && !document.hidden) (shown?.tick || shown?.changed)?.();
  }, TICK);

  function drawHead() {
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
    const counts = (of, tone) => Object.entries(of).map(([name, n]) => el(`span.${tone}`, {}, `${name} ${n}`));
    show(head,
      el("h1", {}, sweep.sweep_id),
      el("div.facts", {},
        el("span", {}, el("b", {}, sweep.state), ` · ${sweep.ended} of ${sweep.planned} ended`),
        el("span", {}, `${sweep.workload}, ${sweep.design}`),
        counts(sweep.pathologies, "pathological"), counts(sweep.failures, "failed")),
      bar(sweep.verdicts, sweep.planned),
      el("div.row", {},
        live() ? [button("stop", "running trials finish, no new ones start"), button("cancel", "end now")] : missing > 0 ? button("resume", "run what is missing") : null,
        el("a", { href: sweepPath(id, "/report"), target: "_blank", rel: "noopener", onclick: (event) => openReport(event, id) }, "report"),
        el("a", { href: `#/sql?sql=${encodeURIComponent(sql(id))}` }, "SQL"),
        el("details", {}, el("summary", {}, "spec"), el("pre", { tabindex: "0" }, JSON.stringify(sweep.spec, null, 1)))));
  }

  async function drawBest() {
    if (!sweep.ended) return;
    const found = await get(sweepPath(id, "/summary"));
    const value = (one) => `${found.signal} ${number(one.value)}`;
    const words = (one) => (one.trial_id ? [el("a", { href: trialLink(id, one.trial_id) }, `${armName(one.arm)}, seed ${one.seed}`), `: ${value(one)}${one.label === "healthy" ? "" : `, ${one.label || "no label"}`}`] : `${armName(one.arm)}: median ${value(one)} over ${one.n} trial${one.n === 1 ? "" : "s"}${one.healthy === one.n ? "" : `, ${one.healthy} healthy`}`);
    const facts = [...found.best.map((one) => [one.what, words(one)]), ...found.search];
    show(best, facts.length ? el("div.facts", {}, facts.map(([what, text]) => el("span", {}, `${what} `, el("b", {}, text)))) : null);
  }

  return {
    async changed(found) {
      if (found.sweep_id !== sweep.sweep_id) return;
      sweep = { ...sweep, ...found };
      drawHead();
      await Promise.all([shown?.changed?.(), drawBest()]);
    },
  };
}

const sql = (id) => `SELECT arm, label, pathology, count(*) AS n, median(objective) AS objective\nFROM trials WHERE sweep_id = '${id}' GROUP BY ALL ORDER BY ALL`;

async function arms(body, id) {
  async function load() {
    const found = await get(sweepPath(id, "/summary"));
    if (!found.arms.rows.length) return show(body, el("p", {}, "No trial has ended yet."));
    show(body,
      found.advice.map((one) => el("div.verdict.pathological", {}, el("p", {}, el("b", {}, one.detector), ` (${one.severity}, over the whole sweep): ${one.reason} ${one.remedy}`))),
      found.pareto ? el("section", {}, el("h2", {}, "Pareto front"), builtTable(found.pareto), [...found.pareto.notes, found.pareto.legend].map((text) => el("p.note", {}, text))) : null,
      builtTable(found.arms),
      [...found.arms.notes, found.arms.legend].map((one) => el("p.note", {}, one)),
      found.failures.rows.length ? el("section", {}, el("h2", {}, "Failed trials"), builtTable(found.failures)) : null,
      Object.entries(found.arms.sql).map(([, text]) => source(text)));
  }
  await load();
  return { changed: load };
}

async function curves(body, id, sweep, query) {
  let data = null;
  let by = query.get("by") === "arm" ? "arm" : "label";
  let log = query.has("log") ? query.get("log") === "1" : null; // null: as the values ask for
  let chart = null;
  const target = el("div.chart.tall");
  const note = el("p.note");
  const references = el("ul.note");
  const controls = el("div.row");
  const empty = el("p", {}, "No evaluation has been stored yet. Curves appear here as soon as a running trial has written its first one.");
  const again = () => { link(); plot(); };
  const scale = el("input", { type: "checkbox", onchange: (event) => { log = event.target.checked; again(); } });
  const logShown = () => (log === null ? data.frames.log_chosen : log && data.frames.log !== null);
  const link = () => history.replaceState(null, "", `#/sweep/${encodeURIComponent(id)}?tab=curves&signal=${encodeURIComponent(data.signal)}&by=${by}${log === null ? "" : `&log=${Number(log)}`}`);

  async function load(signal) {
    const found = await get(sweepPath(id, "/curves"), { signal });
    if (!found.signals.length) return show(body, empty);
    const same = data?.signal === found.signal && String(data.signals) === String(found.signals);
    data = found;
    if (!target.isConnected) show(body, controls, target, note, references, source(data.sql));
    if (!same) drawControls();
    scale.checked = logShown();
    scale.disabled = data.frames.log === null;
    plot();
  }

  function plot() {
    if (chart && !chart.isDisposed()) charts.update(chart);
    else chart = charts.draw(target, (narrow) => charts.curves(data, { by, log: logShown(), narrow }), (event) => {
      const running = event.seriesName === "running";
      if (event.data?.trial) location.hash = (running ? runningLink : trialLink)(id, event.data.trial);
    });
    show(note, by === "arm" ? `Medians and the middle 80 % of ${data.arms.length} of ${data.arms_in_all} arms.` : `${data.lines.length} of ${data.trials_in_all} trials. ▼ the pathology began, × not finite from here on, ▲ outside the axes. Click a curve to open its trial.`,
      " Drag or scroll to zoom.", logShown() ? " The axis is logarithmic." : "");
    show(references, data.references.map((one) => el("li", {}, `${one.low === one.high ? number(one.low) : `${number(one.low)} … ${number(one.high)}`}: ${one.text}`)));
  }

  function drawControls() {
    const select = el("select", { "data-filter": "1", onchange: (event) => load(event.target.value).then(link) }, data.signals.map((one) => el("option", { value: one, selected: one === data.signal }, one)));
    const mode = (name, words) => el("label", {}, el("input", { type: "radio", name: "by", checked: by === name, onchange: () => { by = name; again(); } }), words);
    show(controls, el("label", {}, "signal", select), mode("label", "trials by label"), mode("arm", "arms"), el("label", {}, scale, "logarithmic"));
  }

  await load(query.get("signal"));
  return { changed: () => load(data?.signal) };
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
  const data = await get(sweepPath(id, "/forest"));
  const drawn = data.rows.some((one) => one.mean !== null);
  const target = el("div.chart");
  target.style.height = `${Math.max(200, 90 + 46 * data.rows.length)}px`;
  show(body,
    el("p.note", {}, `${data.goal} ${data.signal}: differences within pairs that share the seed and everything else, among pairs in which both trials are healthy. The verdict follows from the p-value after Holm's correction.`),
    drawn ? target : el("p", {}, "No level has a pair in which both trials are healthy, so no difference is known. How often each level is healthy, and which is better, is shown below."),
    builtTable(data.table),
    el("ul.note", {}, data.table.notes.map((one) => el("li", {}, one))),
    el("details", {}, el("summary", {}, "how to read the table"), el("pre", { tabindex: "0" }, data.table.legend)),
    Object.entries(data.sql).map(([name, text]) => source(text, `SQL of ${SOURCES[name] || name}`)));
  if (drawn) charts.draw(target, (narrow) => charts.forest(data, narrow));
}

async function parallel(body, id) {
  const data = await get(sweepPath(id, "/parallel"));
  if (!data.axes.length) return show(body, el("p", {}, "Parallel coordinates need a factor with more than one level."));
  const target = el("div.chart.tall");
  const chosen = el("div");
  show(body, el("p.note", {}, `${data.trials.length} of ${data.trials_in_all} trials, sampled so that every pathology is shown. Drag along an axis to filter by its values; click the axis to clear the filter.`), target, chosen);
  const chart = charts.draw(target, () => charts.parallel(data));
  chart.on("axisareaselected", () => {
    const series = chart.getModel().getSeries();
    const found = series.flatMap((one) => {
      const mine = data.trials.filter((trial) => kindOf(trial.verdict) === one.name);
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

const source = (text, title = "SQL of these numbers") => (text ? el("details", {}, el("summary", {}, title), el("pre", { tabindex: "0" }, text)) : null);
const SOURCES = { trials: "the trials", pairs: "the pairs and their differences", seeds: "the differences by seed", better: "P(better)", causes: "health and causes" };
