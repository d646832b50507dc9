"""The same behaviour, recorded differently, must get the same label.

Variants: rows in another order, extra columns, the loss in another unit, every second evaluation.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from sickbay.trials.conformance.class_order import permuted
from sickbay.trials.conformance.report import ConformanceError
from sickbay.trials.contract import FindingState, Row, SignalValue, TaskFacts, TaskKind
from sickbay.trials.detector import Detector
from sickbay.trials.history import History

SCALES = (1e-3, 7.0)  # units in which a loss might as well have been measured
LOSS_UNITS = tuple(
    """
        train_loss train_loss_se val_loss val_loss_se val_floor_gap_se val_loss_recomputed
        val_loss_unmodulated val_loss_unmodulated_se val_modulation_gap_se probe_loss_train
        probe_loss_val test_loss test_loss_se train_loss_steps task_losses task_floors
    """.split()
)
LONG = 40  # evaluations from which every second one tells the same story
EPOCHS, GROUPS, COMPONENTS = 60, ("encoder", "trunk", "head"), 4
JUDGED = (FindingState.FIRED, FindingState.SUSPECT, FindingState.CLEAR)


@dataclass(frozen=True)
class Variant:
    """A variant of a history that must get the same label, and how it was made."""

    words: str
    history: History
    same_onset: bool = True


def check_invariance(detector: Detector, histories: Iterable[History] = ()) -> str:
    """Compare a detector's findings on variants of a plausible history, and of the given ones.

    Returns what was checked; raises ConformanceError at the first difference.
    """
    plausible = plausible_history(detector)
    _check_missing(detector, plausible)
    for number, history in enumerate([plausible, *histories]):
        description = f"given history {number}" if number else "a plausible history"
        for variant in [*variants(history), *_renamed(detector, history)]:
            _compare(detector, history, variant, description)
    return (
        "order of rows, unused or renamed columns, order of classes, unit of the loss and density "
        "of evaluations do not matter"
    )


def variants(history: History) -> Iterator[Variant]:
    """Make variants of a history that show the same behaviour."""
    rows = history.rows()
    yield Variant("its rows reversed", _with_rows(history, rows[::-1]))
    extra: dict[str, SignalValue] = {"an_irrelevant_signal": 1.5, "another_one": [0.0, -2.0]}
    yield Variant("irrelevant columns", _with_signals(history, lambda _: extra))
    blank: dict[str, SignalValue] = {"an_unused_signal": math.nan}
    yield Variant("an unused column of NaN", _with_signals(history, lambda _: blank))
    for scale in SCALES:
        yield Variant(f"the loss times {scale:g}", _scaled(history, scale))
    swapped = permuted(history)
    if swapped is not None:
        yield Variant("its classes in another order", swapped)
    if len(rows) >= LONG:
        halved = _with_rows(history, rows[1::2])
        yield Variant("every second evaluation only", halved, same_onset=False)


def plausible_history(detector: Detector) -> History:
    """Compute a finished history of good training with all signals of the detector."""
    required = [name for names in detector.signals for name in names.split("|")]
    names = list(dict.fromkeys([*required, *detector.optional_signals]))
    rows = [
        Row(index + 1, 24 * (index + 1), {name: _plausible(name, index) for name in names})
        for index in range(EPOCHS)
    ]
    facts = TaskFacts(
        kind=detector.kinds[0] if detector.kinds else TaskKind.DENSITY,
        floors={"val_loss": 0.7, "val_density_kl": 0.13},
        n={"train": 768, "val": 192},
        groups=GROUPS,
        components=COMPONENTS,
        bounds={"map_max": (0.0, 1.0)},
        loss_minimum=0.0,
    )
    return History(rows, facts, EPOCHS, finished=True)


def _renamed(detector: Detector, history: History) -> Iterator[Variant]:
    """Rename every column that the detector does not declare."""
    declared = {name for names in detector.signals for name in names.split("|")}
    declared |= set(detector.optional_signals)
    unjudged = detector(history).state not in JUDGED  # then other columns may identify a subject
    if detector.signals and not unjudged and not set(history.names) <= declared:
        rows = [
            replace(
                row,
                signals={k if k in declared else f"other_{k}": v for k, v in row.signals.items()},
            )
            for row in history.rows()
        ]
        yield Variant("the columns renamed that it does not declare", _with_rows(history, rows))


def _compare(detector: Detector, history: History, variant: Variant, description: str) -> None:
    original, other = detector(history), detector(variant.history)
    before = (original.state, original.severity, original.onset_epoch)
    after = (other.state, other.severity, other.onset_epoch)
    if before[:2] != after[:2] or (variant.same_onset and before != after):
        said = f"{original.state} ({original.severity}, onset {original.onset_epoch})"
        says = f"{other.state} ({other.severity}, onset {other.onset_epoch})"
        raise ConformanceError(
            f"{detector.name} says {said} on {description}, but with {variant.words} {says}"
        )


def _check_missing(detector: Detector, history: History) -> None:
    for alternatives in detector.signals:
        dropped = set(alternatives.split("|"))
        rows = [
            replace(row, signals={k: v for k, v in row.signals.items() if k not in dropped})
            for row in history.rows()
        ]
        state = detector(_with_rows(history, rows)).state
        if state in JUDGED:
            raise ConformanceError(
                f"{detector.name} needs {alternatives}, but says {state} without: it must say "
                f"missing_signal"
            )


def _scaled(history: History, scale: float) -> History:
    """Measure every loss, its errors and its floor in another unit."""

    def scale_row(row: Row) -> dict[str, SignalValue]:
        scaled: dict[str, SignalValue] = {}
        for name, value in row.signals.items():
            if name in LOSS_UNITS:
                scaled[name] = (
                    value * scale
                    if isinstance(value, (int, float))
                    else [entry * scale for entry in value]
                )
        return scaled

    facts = history.facts
    floors = {name: v * scale if name in LOSS_UNITS else v for name, v in facts.floors.items()}
    least = None if facts.loss_minimum is None else facts.loss_minimum * scale
    facts = replace(facts, floors=floors, loss_minimum=least)
    rows = _with_signals(history, scale_row).rows()
    return History(rows, facts, history.epochs_planned, finished=history.finished)


def _with_rows(history: History, rows: Sequence[Row]) -> History:
    return History(rows, history.facts, history.epochs_planned, finished=history.finished)


def _with_signals(history: History, make: Callable[[Row], dict[str, SignalValue]]) -> History:
    rows = [replace(row, signals={**row.signals, **make(row)}) for row in history.rows()]
    return _with_rows(history, rows)


def _plausible(name: str, index: int) -> SignalValue:
    wobble, decay = 1.0 + 0.05 * math.sin(2.4 * index), math.exp(-index / 12.0)
    special: dict[str, SignalValue] = {
        "train_loss": (0.05 + 0.6 * decay) * wobble,
        "val_loss": (0.06 + 0.6 * decay) * wobble,
        "val_loss_recomputed": (0.06 + 0.6 * decay) * wobble,
        "val_loss_unmodulated": 0.1 * wobble,
        "train_steps": 24.0,
        "evaluation_seconds": 3.0 * wobble,
        "val_n": 192.0,
        "supervised_targets": 768.0,
        "output_variance_ratio": 0.9 * wobble,
        "mixture_weights": [1.0 / COMPONENTS] * COMPONENTS,
        "component_distance": 0.8 * wobble,
        "val_density_kl": 0.03 * wobble,
        "peak_coverage": 0.95,
        "val_confusion": [860.0, 20.0, 12.0, 108.0],
        "val_auroc": 0.95 - 0.4 * decay * wobble,
        "val_accuracy": 0.97 - 0.2 * decay * wobble,
        "val_auprc": 0.7 * wobble,
        "val_scores_hist_pos": [2.0, 6.0, 22.0, 90.0],
        "val_scores_hist_neg": [700.0, 120.0, 45.0, 15.0],
        "class_gradient_share": [0.6, 0.4],
        "label_flip_rate": 0.0,
        "label_flip_n": 256.0,
        "target_change": 0.0,
        "label_positive_rate": 0.05,
        "label_truth_precision": 0.9,
        "label_truth_recall": 0.95,
        "map_min": 0.01,
        "feature_energy_ratio": 0.8 * wobble,
        "encoder_reference_skill": 0.8,
        "encoder_reference_skill_start": 0.8,
        "encoder_reference_n": 500.0,
        "encoder_cka": 0.9,
        "loss_gradient_cosine": 0.1 * wobble,
        "loss_gradient_batches": 8.0,
        "loss_gradient_norms": [1.0, 2.0],
        "task_losses": [decay, 0.5 * decay],
        "feature_rank": 20.0 * wobble,
        "feature_rank_start": 22.0,
        "train_loss_steps": [(0.05 + 0.6 * decay) * (1.0 + 0.1 * math.sin(j)) for j in range(24)],
        "train_loss_spikes": 0.0,
        "test_loss": (0.06 + 0.6 * decay) * wobble,
        "dead_unit_share": [0.1, 0.2],
        "dead_unit_n": 1024.0,
        "layer_units": [64.0, 32.0],
        "saturated_share": [0.05, 0.1],
        "latent_variance": [0.4, 0.2, 0.001, 0.3],
        "latent_kl": [0.9, 0.5, 0.001, 0.7],
    }
    if name in special:
        return special[name]
    if name.endswith("_se"):
        return 0.01 * wobble
    if name.startswith("group_"):
        return [0.01 * wobble] * len(GROUPS)
    return 0.0 if name.startswith("nonfinite") or name.endswith("_share") else 0.5 * wobble
