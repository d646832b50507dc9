"""The page about the detectors, made from what the detectors say of themselves."""

from collections.abc import Iterable

from sickbay.trials.detector import Detector
from sickbay.trials.diagnosis.sweep_detectors import SWEEP_DETECTORS
from sickbay.trials.diagnosis.sweep_findings import SweepDetector
from sickbay.trials.evidence.thresholds import MARGINS, MARGINS_VERSION

HEAD = """# The detectors

Each detector is a pure function from a trial's history to a finding. It sees signals and the task's
facts, never the configuration. L is a loss, H0 the loss of the best constant predictor (the floor),
G = 1 - L/H0 the gain over it, SE a standard error, k the number of consecutive evaluations needed.

A finding is `fired`, `suspect`, `clear`, `insufficient_evidence` (it says how much more it needs),
`missing_signal` or `not_applicable`. The verdict on a trial comes from hard evidence if there is
any (non-finite numbers, parameters that never move, impossible values, labels that change between
epochs, dead mixture components, an encoder that lost its skill), else from the judge: an additive
model over scale-free statistics of the whole history, calibrated on the fault corpus. Detectors
name the pathology, its onset and the reason. A trial is healthy only if it also provably beats the
best constant predictor; otherwise it is inconclusive, and the label says why.

The column "running" says whether a detector may stop a running trial. It waits for ten evaluations
and a quarter of the planned epochs, and longer while the trial is recovering. It does not wait for
exact findings (non-finite numbers, a gradient of exactly zero, no supervision, equal components),
nor for a trial whose steps are so small that in the remaining epochs no parameter group can move by
a thousandth of its size.

`python -m docs.tools.detectors_page` prints this page; a test compares the two.
"""

# What people who tune weight maps watch, and who watches it here.
WATCHED = (
    ("loss", "over 10", "divergence", "against the floor, so that the loss's unit does not matter"),
    ("loss", "does not fall", "no_skill", "only if it is also no better than the best constant"),
    ("loss", "does not fall", "loss_plateau", "information only: a model that learns may pause"),
    ("map mean", "under 0.2", "weight_map_attenuation", "against the mean before the operation"),
    ("map maximum", "over 2.0", "weight_map_out_of_range", "against the range that was declared"),
    ("query weight", "falls fast to 0.2", "feature_energy_loss", "by what it does to the features"),
    ("relative change", "over 50 %", "feature_energy_loss", "energy kept; fatal only with harm"),
    ("modulated mean", "under 0.01", "feature_energy_loss", "severe under a tenth of the energy"),
    ("modulated mean", "under 0.01", "constant_output", "once the prediction no longer varies"),
    (
        "mAP",
        "under 0.4 after 3 epochs",
        "no_skill",
        "compared with the floor, not with an absolute value",
    ),
    ("mAP", "falls after it was high", "late_collapse", "against the trial's own best"),
    ("NDS", "does not grow", "loss_plateau", "information; a sweep compares it with its baseline"),
    ("loss and metric", "disagree", "metric_inconsistency", "blocks the label healthy"),
)


def catalogue_markdown(detectors: Iterable[Detector]) -> str:
    """Write the page: an overview, a section per detector, and the table of margins."""
    known = sorted(detectors, key=lambda detector: detector.name)
    lines = [HEAD, "| detector | what it finds | worst | running |", "|---|---|---|---|"]
    for detector in known:
        running = "yes" if detector.online else "no"
        lines.append(
            f"| [`{detector.name}`](#{detector.name}) | {detector.title} "
            f"| {detector.severity.value} | {running} |"
        )
    sections = [section_markdown(detector) for detector in known]
    return "\n".join(
        [*lines, "", *sections, _sweep_markdown(), _watched_markdown(known), _margins_markdown()]
    )


def section_markdown(detector: Detector) -> str:
    """Write one detector's section: its rule, signals, source, remedy, false alarms and margins."""
    kinds = ", ".join(detector.kinds) or "all"
    needed = "|".join(detector.signals).split("|")
    others = [f"`{name}`" for name in detector.optional_signals if name not in needed]
    may = "may" if detector.online else "may not"
    needs = ", ".join(map(_signal, detector.signals)) or "nothing"
    about = (
        f"{detector.title}. Version {detector.version}, at worst {detector.severity.value}, {may} "
        f"stop a running trial; tasks: {kinds}."
    )
    lines = [
        f"## {detector.name}",
        "",
        about,
        "",
        f"* **Rule.** {detector.rule}",
        f"* **Formula.** `{detector.formula}`",
        f"* **Needs.** {needs}; also reads {', '.join(others) or 'nothing else'}.",
        *_grounds(detector),
    ]
    return "\n".join([*lines, ""])


def sweep_section_markdown(detector: SweepDetector) -> str:
    """Write the section of a detector over sweeps."""
    lines = [
        f"### {detector.name}",
        "",
        f"{detector.title}. Version {detector.version}, at worst {detector.severity.value}.",
        "",
        f"* **Rule.** {detector.rule}",
        f"* **Formula.** `{detector.formula}`",
        *_grounds(detector),
    ]
    return "\n".join([*lines, ""])


def _grounds(detector: Detector | SweepDetector) -> list[str]:
    """The end of every section: a rule's source, remedy, false alarms and margins."""
    lines = [
        f"* **Source.** {detector.source}",
        f"* **Remedy.** {detector.remedy}",
        f"* **False alarms.** {detector.false_alarms}",
    ]
    if detector.margins:
        values = ", ".join(f"`{name}` {MARGINS[name].value:g}" for name in detector.margins)
        lines.append(f"* **Margins.** {values}.")
    return lines


def _sweep_markdown() -> str:
    head = [
        "## Over a whole sweep",
        "",
        "These compare the trials of a sweep, so they see the factors. They are advice: none is",
        "fatal and none changes a trial's label. `results`, `explain` and the report show those",
        "that fired.",
        "",
    ]
    return "\n".join([*head, *map(sweep_section_markdown, SWEEP_DETECTORS)])


def _signal(alternatives: str) -> str:
    return " or ".join(f"`{name}`" for name in alternatives.split("|"))


def _watched_markdown(detectors: Iterable[Detector]) -> str:
    names = {detector.name for detector in detectors}
    rows = [
        f"| {signal} | {rule} | [`{name}`](#{name}) | {how} |"
        for signal, rule, name, how in WATCHED
        if name in names
    ]
    head = [
        "## Lists of signals to watch",
        "",
        "Hand-made lists give absolute limits. This is where each entry is judged, and by what.",
        "",
        "| signal | usual limit | detector | how it differs |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def _margins_markdown() -> str:
    rows = [
        f"| `{name}` | {margin.value:g} | {margin.unit} | {margin.reason} |"
        for name, margin in MARGINS.items()
    ]
    head = [
        f"## Margins, version {MARGINS_VERSION}",
        "",
        "| margin | value | unit | reason |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def main() -> None:
    """Print the page of the installed detectors."""
    from sickbay.trials.registry import all_detectors

    print(catalogue_markdown(all_detectors()), end="")


if __name__ == "__main__":
    main()
