// One SELECT over trials, epochs, findings, labels and sweeps; the answer as a table, and to keep.

import { headers, Refused } from "./api.js";
import { cell, download, el, failure, show, table } from "./dom.js";

const EXAMPLES = [
  ["labels by arm", "SELECT workload, arm, label, pathology, count(*) AS n\nFROM trials GROUP BY ALL ORDER BY ALL"],
  ["GPU time lost", "SELECT pathology, count(*) AS trials, sum(gpu_seconds) AS gpu_seconds, sum(wall_seconds) AS wall_seconds\nFROM trials WHERE label = 'pathological' GROUP BY ALL ORDER BY wall_seconds DESC"],
  ["what fired", "SELECT detector, severity, count(*) AS n, median(onset_epoch) AS onset\nFROM findings WHERE state = 'fired' GROUP BY ALL ORDER BY n DESC"],
  ["columns", "DESCRIBE trials"],
];

export async function sqlView(view, query) {
  const box = el("textarea", { rows: 6, spellcheck: "false", "aria-label": "SQL", "data-filter": "1" });
  box.value = query.get("sql") || EXAMPLES[0][1];
  const answer = el("div");
  let running = null;
  const run = async () => {
    running?.abort();
    running = new AbortController();
    show(answer, el("p.note", {}, "Asking … ", el("button", { type: "button", onclick: () => running.abort() }, "Stop")));
    history.replaceState(null, "", `#/sql?sql=${encodeURIComponent(box.value)}`);
    try {
      const began = performance.now();
      const found = await ask(box.value, running.signal);
      const rows = found.rows.map((values) => Object.fromEntries(values.map((value, i) => [i, value])));
      const columns = found.columns.map((name, i) => ({ name, number: /INT|DOUBLE|FLOAT|DECIMAL/.test(found.types[i]) && !found.types[i].endsWith("[]"), value: (row) => row[i] }));
      show(answer,
        el("div.row", {}, el("span.note", {}, `${found.rows.length}${found.truncated ? " (there are more)" : ""} rows in ${Math.round(performance.now() - began)} ms`),
          el("button", { type: "button", onclick: () => download("answer.csv", csv(found), "text/csv") }, "CSV"),
          el("button", { type: "button", onclick: () => download("answer.json", JSON.stringify(found.rows.map((row) => Object.fromEntries(row.map((value, i) => [found.columns[i], value])))), "application/json") }, "JSON")),
        found.problems.map((one) => el("p.error", {}, one)),
        table(columns, rows.slice(0, 1000)),
        rows.length > 1000 ? el("p.note", {}, "The first 1,000 are shown; CSV and JSON have all.") : null);
    } catch (error) {
      show(answer, error.name === "AbortError" ? el("p.note", {}, "Stopped.") : failure(error));
    }
  };
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
  });
  show(view, el("h1", {}, "SQL"),
    el("p.note", {}, "Read-only DuckDB over the tables trials, epochs, findings, labels, sweeps. Every factor is a column of trials, every signal one of epochs."),
    el("div.row", {}, EXAMPLES.map(([name, text]) => el("button", { type: "button", onclick: () => { box.value = text; run(); } }, name))),
    box,
    el("div.row", {}, el("button.main", { type: "button", onclick: run }, "Ask"), el("span.note", {}, "or Ctrl-Enter")),
    answer);
  if (query.get("sql")) await run();
}

// Words for NaN stay words here: what is shown and kept is what was sent.
async function ask(sql, signal) {
  const answer = await fetch("api/query", { method: "POST", signal, headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify({ sql }) });
  const body = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, body.error);
  return body;
}

function csv(found) {
  const quoted = (value) => {
    const text = value == null ? "" : cell(value) && typeof value === "object" ? JSON.stringify(value) : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [found.columns, ...found.rows].map((row) => row.map(quoted).join(",")).join("\r\n");
}
