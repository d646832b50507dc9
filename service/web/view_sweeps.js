// All sweeps: how far, how healthy.

import { get } from "./api.js";
import { bar, el, show, table } from "./dom.js";

const when = (seconds) => (seconds ? new Date(1000 * seconds).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "");

export async function sweepsView(view) {
  let sweeps = [];
  let words = "";
  const body = el("div");
  const filter = el("input", {
    type: "search", placeholder: "filter by name, workload or state", "aria-label": "filter", "data-filter": "1", size: "32",
    oninput: (event) => {
      words = event.target.value.toLowerCase();
      list();
    },
  });

  function list() {
    const shown = sweeps.filter((one) => `${one.sweep_id} ${one.workload} ${one.state} ${one.design}`.toLowerCase().includes(words));
    if (!sweeps.length) {
      show(body, el("p", {}, "No sweep yet. ", el("a", { href: "#/submit" }, "Submit one"), ", or type ", el("code", {}, "sickbay run SPEC"), "."));
      return;
    }
    show(body, table([
      { name: "sweep", value: (one) => el("a", { href: link(one) }, one.sweep_id) },
      { name: "state", value: (one) => one.state },
      { name: "ended", number: true, value: (one) => `${one.ended} of ${one.planned}` },
      { name: "health", value: (one) => bar({ ...one.labels, failed: one.states.failed }, one.planned) },
      { name: "causes", wide: true, value: (one) => Object.entries(one.pathologies).map(([name, n]) => `${name} ${n}`).join(", ") },
      { name: "workload", wide: true, value: (one) => one.workload },
      { name: "design", wide: true, value: (one) => one.design },
      { name: "submitted", wide: true, value: (one) => el("span.label", {}, when(one.submitted_at)) },
    ], shown, { link }));
  }

  async function load() {
    sweeps = (await get("api/sweeps", { limit: 1000 })).sweeps;
    list();
  }

  await load();
  show(view, el("h1", {}, "Sweeps"), el("div.row", {}, filter), body);
  return {
    changed(sweep) {
      const place = sweeps.findIndex((one) => one.sweep_id === sweep.sweep_id);
      if (place < 0) sweeps.unshift(sweep);
      else sweeps[place] = sweep;
      list();
    },
  };
}

const link = (one) => `#/sweep/${encodeURIComponent(one.sweep_id)}`;
