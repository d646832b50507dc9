// Elements without a framework. Text is always text: nothing from the store is ever read as HTML.

import { classOf, kindOf, NAMES, VERDICTS } from "./verdicts.js";

export function el(tag, options = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(options)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "width") made.style.width = value;
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child != null && child !== ""));
  return made;
}

export function show(target, ...children) {
  target.replaceChildren(...children.flat().filter((child) => child != null));
}

export function verdict(label, state) {
  const kind = kindOf(label || state);
  return el(`span.label.${kind}`, {}, `${VERDICTS[kind].sign} ${kind}`);
}

export function number(value) {
  if (value == null || value === "") return "";
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

// A text of which the middle is left out where it is long, as the service's tables have it.
export const clipped = (text, most = 60) => (text.length <= most ? text : `${text.slice(0, most >> 1)}…${text.slice(1 - (most >> 1))}`);

// An arm's name with its numbers to six digits: `lr=0.3` for 0.30000000000000004.
export const armName = (name) => name.split(", ").map((part) => clipped(part)).join(", ").replace(/(?<==)-?\d+(?:\.\d+(?:e[+-]?\d+)?|e[+-]?\d+)(?=$|, )/g, (text) => String(Number(Number(text).toPrecision(6))));

export function cell(value) {
  if (value == null) return "";
  if (Array.isArray(value)) return `[${value.map(number).join(", ")}]`;
  if (typeof value === "object") return JSON.stringify(value);
  return typeof value === "number" ? number(value) : String(value);
}

// A table of rows. A column is { name, value(row), number, wide, key }; with `options.sort` the heads of
// columns that have a key are buttons: sort is { key, desc, by(key) }.
export function table(columns, rows, options = {}) {
  const body = rows.map((row) => {
    const cells = columns.map((one) => {
      const value = one.value(row);
      return el(`td${classes(one)}`, {}, value instanceof Node ? value : cell(value));
    });
    const link = options.link && options.link(row);
    return el("tr", link ? { "data-link": link } : {}, cells);
  });
  const heads = columns.map((one) => head(one, options.sort));
  return scrolling(el("table", {}, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, body)));
}

function head(column, sort) {
  if (!column.name) return el("td", {});
  const tag = `th${classes(column)}`;
  if (!sort || !column.key) return el(tag, { scope: "col" }, column.name);
  const mine = sort.key === column.key;
  return el(tag, { scope: "col", "aria-sort": mine && (sort.desc ? "descending" : "ascending") },
    el("button.sort", { type: "button", onclick: () => sort.by(column.key) }, column.name, mine ? (sort.desc ? " ▼" : " ▲") : ""));
}

const classes = (column) => (column.number ? ".number" : "") + (column.wide ? ".wide" : "");

// A table that the service has built (columns, rows of text, headings of groups), as the report shows it.
export function builtTable(built) {
  const body = [];
  built.rows.forEach((row, i) => {
    const group = built.groups[i];
    if (group && group !== built.groups[i - 1]) body.push(el("tr.group", {}, el("th", { colspan: built.columns.length, scope: "colgroup" }, el("span.heading", {}, group))));
    body.push(el("tr", {}, row.map((text, k) => el(built.columns[k].number ? "td.number" : "td", {}, lines(text)))));
  });
  const heads = built.columns.map((one) => el(one.number ? "th.number" : "th", { scope: "col" }, lines(one.name)));
  return scrolling(el("table", {}, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, body)));
}

// What is wider than the screen scrolls by itself, with the keys, too.
const scrolling = (inner) => el("div.scroll", { tabindex: "0" }, inner);

const lines = (text) =>
  text.split("\n").flatMap((line, i) => {
    const kind = classOf(line);
    return [i ? el("br") : null, kind ? el(`span.label.wrap.${kind}`, {}, line) : line];
  }).filter((part) => part !== null);

export function bar(counts, planned) {
  const shown = {};
  for (const [name, n] of Object.entries(counts)) shown[kindOf(name)] = (shown[kindOf(name)] || 0) + n;
  const parts = NAMES.filter((name) => shown[name]);
  const words = `${parts.map((name) => `${shown[name]} ${name}`).join(", ") || "none ended"} of ${planned}`;
  const spans = parts.map((name) => el(`span.${name}`, { width: `${(100 * shown[name]) / Math.max(planned, 1)}%` }));
  return el("div.bar", { role: "img", "aria-label": words, title: words }, spans);
}

export function failure(error) {
  const lines = Array.isArray(error.detail) ? error.detail.map((one) => `${one.key}: ${one.message}`) : [];
  const named = lines.filter((line) => !line.startsWith("undefined"));
  return el("p.error", { role: "alert" }, named.length ? named.join("\n") : error.message);
}

export function download(name, text, type) {
  const link = el("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}
