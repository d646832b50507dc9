// Elements without a framework. Text is always text: nothing from the store is ever read as HTML.

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

const SIGNS = { healthy: "✓", pathological: "✗", inconclusive: "?" };

export function verdict(label, state) {
  const word = label || state || "";
  return el(`span.label.${word}`, {}, `${SIGNS[word] || "!"} ${word}`);
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

export function cell(value) {
  if (value == null) return "";
  if (Array.isArray(value)) return `[${value.map(number).join(", ")}]`;
  if (typeof value === "object") return JSON.stringify(value);
  return typeof value === "number" ? number(value) : String(value);
}

export function table(columns, rows, options = {}) {
  const head = el("tr", {}, columns.map((one) => el(one.number ? "th.number" : "th", { scope: "col" }, one.name)));
  const body = rows.map((row) => {
    const cells = columns.map((one) => {
      const value = one.value(row);
      return el(one.number ? "td.number" : one.wide ? "td.wide" : "td", {}, value instanceof Node ? value : cell(value));
    });
    const link = options.link && options.link(row);
    return el("tr", link ? { "data-link": link } : {}, cells);
  });
  return el("div.scroll", {}, el("table", {}, el("thead", {}, head), el("tbody", {}, body)));
}

export function bar(counts, planned) {
  const order = ["healthy", "inconclusive", "pathological", "failed"];
  const parts = order.filter((name) => counts[name]);
  const words = parts.map((name) => `${counts[name]} ${name}`).join(", ") || "none ended";
  const spans = parts.map((name) => el(`span.${name}`, { width: `${(100 * counts[name]) / Math.max(planned, 1)}%` }));
  return el("div.bar", { role: "img", "aria-label": `${words} of ${planned}`, title: `${words} of ${planned}` }, spans);
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
