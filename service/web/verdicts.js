// How each verdict on a trial is shown, as in the report: never by colour alone.

export const VERDICTS = {
  healthy: { sign: "✓", dashes: "solid" },
  pathological: { sign: "✗", dashes: "dashed" },
  inconclusive: { sign: "?", dashes: [8, 3, 2, 3] },
  failed: { sign: "!", dashes: "dotted" },
  pruned: { sign: "✂", dashes: "dotted" },
  cancelled: { sign: "–", dashes: "dotted" },
  unlabelled: { sign: "·", dashes: "dotted" },
  running: { sign: "▸", dashes: "solid" },
};
export const NAMES = Object.keys(VERDICTS);

// The label, or how the trial ended where it has none: `completed` without a label is unlabelled.
export const kindOf = (verdict) => (verdict in VERDICTS ? verdict : "unlabelled");

// Signs that begin a line of a table's cell, and the class that colours them.
const CLASSES = { "✓": "healthy", "✗": "pathological", "?": "inconclusive", "!": "failed", "✂": "pruned", "…": "running", "⚠": "pathological" };
export const classOf = (line) => (line[1] === " " ? CLASSES[line[0]] : undefined);
