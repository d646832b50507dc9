"""The page docs/reports.md: per claim the report's figure, the truth, what Sickbay measures.

    python -m docs.tools.reports_page               write the page anew
    python -m docs.tools.reports_page STORE …       first measure what these stores hold

Run it at the root of a checkout; `make reports` runs the specs before. What was measured is kept in
docs/claims-measured.json, so that the page can be written without any store.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from docs.tools.claims import (
    Claim,
    Measure,
    Measured,
    Report,
    Results,
    load_claims,
    load_results,
    measure,
    results_text,
)
from sickbay.trials.store import open_store

CLAIMS, RESULTS, PAGE = "docs/claims.yaml", "docs/claims-measured.json", "docs/reports.md"
SPECS = "examples/reports"
NOT_YET = "not measured yet"
HEAD = """# The five reports, and what is true

Sickbay grew out of five reports of training runs that failed, or that looked like successes and
were failures. Per claim: the report's figure, the truth (its own code, closed forms, upstream
files), what Sickbay measures on its small generated data, and a verdict. A figure is the mean over
seeds, its 95 % interval (Student's t) and the number of seeds; a count is a number of trials.
`make reports` runs the specs and writes this page; it is generated from
[claims.yaml](claims.yaml) and [claims-measured.json](claims-measured.json).

Verdicts: *reproduced*; *reproduced, other cause* (the figure comes back, the report's explanation
does not); *contradicted*; *undecided* (what was measured allows for either); *untestable on
generated data*.
"""


def page(reports: Sequence[Report], results: Results) -> str:
    """Write the whole page."""
    return "\n".join([HEAD, *(_section(report, results) for report in reports)])


def figure(quantity: Measure, measured: Measured) -> str:
    """Say a measured value: 0.726 [0.718, 0.734], 5 seeds; or 5 of 5."""
    if quantity.count:
        return f"{round(measured.mean * measured.n)} of {measured.n}"
    seeds = f"{measured.n} seed" + ("s" if measured.n > 1 else "")
    if measured.low is None or measured.high is None:
        same = ", all the same" if measured.n > 1 else ""
        return f"{number(measured.mean)}, {seeds}{same}"
    return f"{number(measured.mean)} [{number(measured.low)}, {number(measured.high)}], {seeds}"


def number(value: float) -> str:
    """Write a number with four digits that count."""
    if value == 0.0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.4g}" if abs(value) < 1e-3 else f"{value:.{max(0, 3 - _size(value))}f}"


def verdict(claim: Claim, results: Results) -> str:
    """Return the verdict, or what speaks against it: a measured value outside of its bounds."""
    measured = results.get(claim.id, {})
    for quantity in claim.measures:
        if quantity.expect is None or quantity.name not in measured:
            continue
        low, high = quantity.expect
        if not low <= measured[quantity.name].mean <= high:
            bounds = f"{number(low)} to {number(high)}"
            return f"**to be judged anew**: {quantity.name} is not within {bounds}"
    if claim.measures and not measured:
        return f"{claim.verdict} ({NOT_YET})"
    return claim.verdict


def _section(report: Report, results: Results) -> str:
    lines = [
        f"## Report {report.number}: {report.title}",
        "",
        f"Workload `{report.workload}`.",
        "",
        "| | claim | the report's figure | the truth | Sickbay's measurement | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for claim in report.claims:
        cells = (claim.claim, claim.figure, claim.truth, _measured(claim, results))
        row = " | ".join(cell.replace("|", "\\|").replace("\n", " ").strip() for cell in cells)
        lines.append(f"| {claim.id} | {row} | {verdict(claim, results)} |")
    return "\n".join([*lines, ""])


def _measured(claim: Claim, results: Results) -> str:
    if not claim.spec:
        return "–"
    link = f"[{claim.spec.removesuffix('.yaml')}](../{SPECS}/{claim.spec})"
    measured = results.get(claim.id, {})
    rows = [
        f"{quantity.name}: {figure(quantity, measured[quantity.name])}"
        for quantity in claim.measures
        if quantity.name in measured
    ]
    return "<br>".join([*(rows or [NOT_YET]), f"({link})"])


def _size(value: float) -> int:
    return math.floor(math.log10(abs(value)))


def main(arguments: Sequence[str]) -> int:
    """Measure what the stores hold, keep it, write the page; return the exit code."""
    reports = load_claims(Path(CLAIMS))
    results = load_results(Path(RESULTS))
    for uri in arguments:
        store = open_store(uri)
        for claim in (claim for report in reports for claim in report.claims if claim.spec):
            spec = yaml.safe_load(Path(SPECS, claim.spec).read_text(encoding="utf-8"))
            names = [spec["name"], *filter(None, [claim.sweep])]
            measured = next(filter(None, (measure(store, claim, name) for name in names)), None)
            if measured:
                results[claim.id] = measured
                print(f"{claim.id}: {len(measured)} measured")
    Path(RESULTS).write_text(results_text(results), encoding="utf-8")
    Path(PAGE).write_text(page(reports, results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
