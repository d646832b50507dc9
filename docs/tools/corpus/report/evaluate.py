"""Judge the corpus and work out what the page shows."""

import functools
import hashlib
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

from docs.tools.corpus.corpus import Case, read
from docs.tools.corpus.faults import CALIBRATION, HELD_OUT, TASKS
from docs.tools.corpus.report.figures import Judged
from docs.tools.corpus.report.freezing import fingerprint, frozen, sources
from docs.tools.corpus.report.judging import (
    Verdict,
    built_in,
    dropped,
    each,
    judge,
    judge_all,
    without,
)
from docs.tools.corpus.report.measures import Figure, share_of
from docs.tools.corpus.report.page import Results
from docs.tools.corpus.truth import Truth, killed_groups, truths
from sickbay.trials.contract import Health
from sickbay.trials.diagnosis.diagnose import labeller_version

# The tables of signals, as detectors.md and docs/signals.md group them.
SIGNAL_TABLES: Mapping[str, tuple[str, ...]] = {
    "numerics of the epoch": (
        "nonfinite_",
        "grad_norm_",
        "clipped_share",
        "zero_grad_share",
        "train_steps",
    ),
    "parameter groups": ("group_",),
    "steps": ("train_loss_steps",),
    "training loss": ("train_loss", "train_loss_se", "train_loss_steps"),
    "standard errors": ("val_loss_se", "val_floor_gap_se", "val_auroc_se", "val_density_kl_se"),
    "classes": (
        "val_confusion",
        "val_auroc",
        "val_auprc",
        "val_accuracy",
        "val_mcc",
        "train_accuracy",
        "train_auroc",
        "class_gradient_share",
        "val_predicted_positive_share",
        "val_mean_probability",
    ),
    "labels and supervision": ("label_", "target_change", "supervised_targets"),
    "layers and output": (
        "dead_unit_",
        "layer_units",
        "saturated_share",
        "feature_rank",
        "output_variance_ratio",
        "latent_",
    ),
    "mixture": (
        "mixture_",
        "component_",
        "kappa",
        "peak_",
        "val_density_kl",
        "val_matched_",
        "val_uniform_",
        "top_weight_",
    ),
    "weight maps": (
        "map_",
        "feature_energy_",
        "val_loss_unmodulated",
        "val_loss_unmodulated_",
        "val_modulation_",
    ),
    "encoder and several losses": ("encoder_", "loss_gradient_", "task_losses"),
    "the same number twice": ("probe_loss_",),
}


def half(name: str) -> tuple[str, ...]:
    """The tasks of `calibration`, `held_out` or `all`."""
    return {"calibration": CALIBRATION, "held_out": HELD_OUT, "all": TASKS}[name]


def table_of(
    path: Path, tasks: tuple[str, ...], processes: int, keep: Path | None = None
) -> list[Judged]:
    """Judge these tasks; with `keep`, verdicts of the same code and file are read back."""
    verdicts: dict[tuple[str, str, str, int], Verdict] = {}
    mark = (fingerprint(), sources(), hashlib.sha256(path.read_bytes()).hexdigest())
    if keep is not None and keep.exists():
        known, verdicts = pickle.loads(keep.read_bytes())
        verdicts = verdicts if known == mark else {}
    lacking = tuple(task for task in tasks if not any(key[0] == task for key in verdicts))
    if lacking:
        verdicts |= judge_all(path, lacking, processes)
    if keep is not None:
        keep.write_bytes(pickle.dumps((mark, verdicts)))
    cases = list(read(path, tasks))
    found: dict[tuple[str, str, str, int], Truth] = truths(cases)
    return [Judged(case, found[case.key], verdicts[case.key]) for case in cases]


def results_of(path: Path, processes: int, keep: Path | None = None) -> Results:
    """Judge everything, leave out each detector, drop each table of signals."""
    table = table_of(path, TASKS, processes, keep)
    return Results(
        table=table,
        killed=killed_groups(one.case for one in table),
        frozen=frozen(),
        fingerprint=fingerprint(),
        labeller=labeller_version(built_in()),
        left_out=left_out(table),
        ablated=ablated(table, processes),
    )


def left_out(table: list[Judged]) -> dict[str, tuple[Figure, Figure]]:
    """Recall and false positives of the final labels without each detector."""
    found = {}
    for known in built_in():
        called = [
            without(one.case, one.verdict, known.name) == Health.PATHOLOGICAL
            if one.called and one.verdict.fired(known.name, fatal=True)
            else one.called
            for one in table
        ]
        ill = [hit for one, hit in zip(table, called, strict=True) if _faulty(one)]
        well = [hit for one, hit in zip(table, called, strict=True) if not one.ill]
        found[known.name] = (share_of(ill), share_of(well))
    return found


def ablated(table: list[Judged], processes: int) -> dict[str, dict[str, Figure]]:
    """Recall, false positives and inconclusive labels of the held-out half without each table."""
    held = [one for one in table if one.case.held_out]
    found = {"nothing": _three(held, [one.verdict.health for one in held])}
    work = functools.partial(_healths, [one.case for one in held])
    for name, healths in zip(
        SIGNAL_TABLES, each(work, SIGNAL_TABLES.values(), processes), strict=True
    ):
        found[name] = _three(held, healths)
    return found


def _healths(cases: list[Case], prefixes: tuple[str, ...]) -> list[str]:
    return [judge(dropped(case, _named(case, prefixes)), online=False).health for case in cases]


def _named(case: Case, prefixes: tuple[str, ...]) -> Iterator[str]:
    for name in case.history.names:
        if any(fits(name, one) for one in prefixes):
            yield name


def fits(name: str, part: str) -> bool:
    """Whether a signal is meant: by its name, or by a beginning that ends in an underscore."""
    return name == part or (part.endswith("_") and name.startswith(part))


def _three(table: list[Judged], healths: list[str]) -> dict[str, Figure]:
    paired = list(zip(table, healths, strict=True))
    return {
        "recall": share_of([h == Health.PATHOLOGICAL for one, h in paired if _faulty(one)]),
        "false positives": share_of([h == Health.PATHOLOGICAL for one, h in paired if not one.ill]),
        "inconclusive": share_of([h == Health.INCONCLUSIVE for _, h in paired]),
    }


def _faulty(one: Judged) -> bool:
    return one.ill and one.case.kind == "fault"
