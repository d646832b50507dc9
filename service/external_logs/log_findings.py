"""Findings from single records: a loss that repeats the same number.

Training noise never repeats a loss of four digits. One that does, and is no lower than at the
start, comes from a model that answers every sample alike, or from a loss that has hit the smallest
float: -log(1.2e-38) = 87.34, PyTorch's 100, -log(1e-7) = 16.12 and their like.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sickbay.trials.contract import Finding, FindingState, Severity
from sickbay.trials.logs.evaluations import Place, finite, place_of
from sickbay.trials.logs.log import Record
from sickbay.trials.logs.signal_names import Matched, split_of

VERSION = "1.0"
FEWEST = 3  # records in which a value must stand to be spoken of
FROZEN = 8  # records in a row, at the end, of a loss that no longer moves
DIGITS = 4  # significant digits below which equal numbers are rounding
NO_LOWER = 0.98  # of the first loss: a loss that froze below it has learnt something before
LIMITS = {
    87.3365: "-log of the smallest normal float32",
    87.3366: "-log of the smallest normal float32",
    103.2789: "-log of the smallest float32",
    708.3964: "-log of the smallest normal float64",
    100.0: "the bound of PyTorch's binary cross-entropy",
    16.1181: "-log(1e-7), Keras' bound",
    16.1180: "-log(1e-7), Keras' bound",
    15.9424: "-log of the float32 epsilon, the bound of the predicted probability",
    18.4207: "-log(1e-8)",
    20.7233: "-log(1e-9)",
    23.0259: "-log(1e-10)",
    27.6310: "-log(1e-12)",
    34.5388: "-log(1e-15), scikit-learn's bound",
    36.0437: "-log of the float64 epsilon",
}


Logged = tuple[Place, float]


@dataclass(frozen=True)
class LogFinding:
    """A finding, and where in the log it begins."""

    finding: Finding
    place: Place


def log_findings(
    records: Sequence[Record], matched: Matched, floors: Mapping[str, float]
) -> list[LogFinding]:
    """Everything the loss values themselves show; `floors` are those of the task's facts."""
    findings = []
    for name in matched.losses:
        values = [
            (place_of(record, matched, number), value)
            for number, record in enumerate(records, 1)
            if isinstance(value := record.get(name), float)
        ]
        if len(values) < FEWEST:
            continue
        floor = floors.get("train_loss" if is_training(name) else "val_loss")
        frozen = _at_limit(name, values) or _frozen(name, values, floor)
        finding = _constant(name, values) if frozen is None or _beside(name, matched) else frozen
        if finding is not None:
            findings.append(finding)
    return findings


def first_broken(records: Sequence[Record], matched: Matched) -> tuple[str, Place] | None:
    """The first non-finite loss, or else gradient: its column and record."""
    for names in (matched.losses, matched.gradients):
        for number, record in enumerate(records, 1):
            broken = next((name for name in names if not finite(record, (name,))), None)
            if broken is not None:
                return broken, place_of(record, matched, number)
    return None


def _at_limit(name: str, values: Sequence[Logged]) -> LogFinding | None:
    """The loss ends at the bound of its logarithm."""
    tail = _tail(values)
    value = values[-1][1]
    why = next((text for limit, text in LIMITS.items() if _same(value, limit)), None)
    if why is None or len(tail) < FEWEST:
        return None
    reason = (
        f"{name!r} is {value:.6g} in the last {len(tail)} records: {why}. The probability of the "
        "true class is below the smallest number of this format"
    )
    remedy = "Lower the learning rate, and compute the loss from logits, not from probabilities."
    return _finding("divergence", Severity.FATAL, reason, tail[0][0], remedy, float(len(tail)))


def _beside(name: str, matched: Matched) -> bool:
    """Whether a loss is a term beside its split's own loss, which tells whether the run learns."""
    own = matched.taken.get("train_loss" if is_training(name) else "val_loss")
    return own is not None and own != name


def is_training(name: str) -> bool:
    """Whether a loss is a training loss: named so, or without a split."""
    return split_of(name) in {None, "train"}


def _frozen(name: str, values: Sequence[Logged], floor: float | None) -> LogFinding | None:
    """The loss is constant to the end and no lower than at the start; at the floor: no skill."""
    tail, first = _tail(values), values[0][1]
    value = values[-1][1]
    if len(tail) < FROZEN or not _precise(value) or not value >= NO_LOWER * first > 0.0:
        return None
    chance = round(math.exp(value)) if value < 10.0 else 0
    at_chance = chance > 1 and abs(math.log(chance) - value) < 1e-4
    remark = f", which is log {chance}: every class has the same probability" if at_chance else ""
    reason = f"{name!r} is {value:.6g} in each of the last {len(tail)} records{remark}"
    cause = "constant_output" if is_training(name) else "no_parameter_update"
    if floor is not None and value >= NO_LOWER * floor:
        cause = "no_skill"
        reason += f", no better than the best constant predictor's {floor:.4g}"
    return _finding(
        cause,
        Severity.FATAL,
        reason,
        tail[0][0],
        "Lower the learning rate and start again; look for dead units, saturated outputs, and "
        "parameters that the optimiser does not hold.",
        float(len(tail)),
    )


def _constant(name: str, values: Sequence[Logged]) -> LogFinding | None:
    """The loss, or a term of it, has the same value in all records."""
    value = values[0][1]
    if not math.isfinite(value) or any(other != value for _, other in values):
        return None
    if value != 0.0 and not _precise(value):
        return None
    reason = f"{name!r} is {value:.6g} in all {len(values)} records"
    remedy = (
        "Check that this loss gets input: look for missing targets, a mask, a weight of zero or a "
        "detach."
    )
    return _finding(
        "zero_supervision", Severity.WARNING, reason, values[0][0], remedy, float(len(values))
    )


def _tail(values: Sequence[Logged]) -> Sequence[Logged]:
    """The records at the end that hold the last value."""
    last = values[-1][1]
    n = next((n for n, (_, value) in enumerate(reversed(values)) if value != last), len(values))
    return values[len(values) - n :]


def _same(value: float, limit: float) -> bool:
    return abs(value - limit) <= 1e-6 * limit + 5e-5


def _precise(value: float) -> bool:
    """Whether a number has enough digits for a repetition to be meaningful."""
    digits = f"{value:.10g}".lower().partition("e")[0].lstrip("-0.").replace(".", "")
    return len(digits) >= DIGITS


def _finding(
    detector: str, severity: Severity, reason: str, place: Place, remedy: str, statistic: float
) -> LogFinding:
    return LogFinding(
        Finding(
            detector=detector,
            detector_version=VERSION,
            state=FindingState.FIRED,
            severity=severity,
            reason=f"{reason}.",
            statistic=statistic,
            threshold=float(FEWEST),
            remedy=remedy,
        ),
        place,
    )
