// Submit a sweep: the spec is checked while it is typed, and its plan shown before anything runs.

import { get, post } from "./api.js";
import { armName, cell, el, failure, show, table } from "./dom.js";

const PAUSE = 500; // milliseconds without a key before the spec is checked

export async function submitView(view) {
  const { workloads } = await get("api/workloads");
  const box = el("textarea", { rows: 18, spellcheck: "false", "aria-label": "spec", "data-filter": "1", oninput: () => later() });
  const preview = el("div", { role: "status", "aria-live": "polite" });
  const button = el("button.main", { type: "button", disabled: true, onclick: () => submit() }, "Submit");
  let timer = 0;
  let asked = 0;

  function later() {
    clearTimeout(timer);
    button.disabled = true;
    timer = setTimeout(check, PAUSE);
  }

  async function check() {
    const mine = ++asked;
    if (!box.value.trim()) return show(preview);
    try {
      const plan = await post("api/plan", box.value, "application/yaml");
      if (mine !== asked) return;
      button.disabled = false;
      const hours = plan.estimate ? `, about ${(60 * plan.estimate.hours).toPrecision(2)} minutes by ${plan.estimate.n} stored trials` : "";
      show(preview, el("p.healthy", {}, `✓ valid: ${plan.total} trials, ${plan.missing} to run${hours}`),
        plan.trials.length ? table([{ name: "arm", value: (one) => armName(one[0]) }, { name: "trials", number: true, value: (one) => one[1] }], Object.entries(plan.per_arm).slice(0, 30)) : null,
        Object.keys(plan.per_arm).length > 30 ? el("p.note", {}, `and ${Object.keys(plan.per_arm).length - 30} more arms`) : null);
    } catch (error) {
      if (mine === asked) show(preview, failure(error));
    }
  }

  async function submit() {
    button.disabled = true;
    try {
      const found = await post("api/sweeps", box.value, "application/yaml");
      location.hash = `#/sweep/${encodeURIComponent(found.sweep_id)}`;
    } catch (error) {
      show(preview, failure(error));
      button.disabled = false;
    }
  }

  async function begin(name) {
    const workload = await get(`api/workloads/${encodeURIComponent(name)}`);
    const factor = workload.factors.find((one) => one.levels.length > 1);
    const levels = factor ? `  ${factor.name}: [${factor.levels.map(plain).join(", ")}]   # the first is the baseline` : "  {}";
    box.value = `name: ${name.replaceAll("_", "-")}-first\nworkload: ${name}\ndesign: one_factor\nfactors:\n${levels}\nseeds: 3\n`;
    show(known, el("p", {}, workload.doc.split("\n")[0]), table([
      { name: "factor", value: (one) => one.name }, { name: "levels", value: (one) => one.levels.map(cell).join(", ") }, { name: "", wide: true, value: (one) => one.doc },
    ], workload.factors));
    check();
  }

  const known = el("div");
  const select = el("select", { onchange: (event) => event.target.value && begin(event.target.value) }, el("option", { value: "" }, "begin with a workload …"), workloads.map((one) => el("option", { value: one.name, disabled: Boolean(one.error) }, one.name)));
  show(view, el("h1", {}, "Submit a sweep"), el("div.row", {}, el("label", {}, "workload", select)), el("div.grid", {}, el("div", {}, box, el("div.row", {}, button, el("span.note", {}, "YAML or JSON; checked as you type"))), preview), known);
}

const plain = (value) => (typeof value === "string" ? (/^[a-z][a-z0-9_.-]*$/i.test(value) && !/^(true|false|null|yes|no|on|off)$/i.test(value) ? value : JSON.stringify(value)) : String(value));
