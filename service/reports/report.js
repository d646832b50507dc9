"use strict";
(() => {
  const section = document.getElementById("verdicts");
  const body = section && section.querySelector("tbody");
  if (!body) return;
  document.documentElement.classList.add("scripted");
  const rows = [...body.rows];
  const text = section.querySelector("input");
  const label = section.querySelector("select");
  const counter = section.querySelector("output");

  const names = [...section.querySelectorAll("thead th")].map((head) => head.textContent);
  const verdict = (row) => row.cells[names.indexOf("verdict")].textContent;
  const filter = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const all = row.textContent.toLowerCase();
      const fits = (!label.value || verdict(row).endsWith(label.value)) && words.every((word) => all.includes(word));
      row.hidden = !fits;
      shown += fits;
    }
    counter.textContent = `${shown} of ${rows.length} trials`;
  };

  // Numbers before words, NaN and dashes last, whichever way the column is sorted.
  const value = (row, column) => {
    const word = row.cells[column].textContent.trim();
    if (word === "–" || word === "" || word === "NaN") return [2, word];
    if (/^[∞−]/.test(word)) return [0, word === "∞" ? Infinity : -Infinity];
    const number = Number(word.split(" / ")[0]);
    return Number.isNaN(number) ? [1, word] : [0, number];
  };
  const compare = (a, b, way) => {
    if (a[0] !== b[0]) return a[0] - b[0];
    return way * (a[1] < b[1] ? -1 : a[1] > b[1] ? 1 : 0);
  };
  section.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      section.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      const keyed = rows.map((row) => [value(row, column), row]);
      keyed.sort((one, other) => compare(one[0], other[0], way));
      body.append(...keyed.map((pair) => pair[1]));
    });
  });
  text.addEventListener("input", filter);
  label.addEventListener("change", filter);
  filter();
})();
