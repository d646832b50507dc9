"""Detector 8, `dead_units`: units that no input activates."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import (
    RuleResult,
    clear,
    detector,
    fired,
    insufficient,
    more_evaluations,
)
from sickbay.trials.evidence.classes import RANKING_SIGNALS
from sickbay.trials.evidence.layers import held_since, lasting_no_skill, layer_words
from sickbay.trials.evidence.skill import epoch_at, lasting, may_recover
from sickbay.trials.evidence.statistics import FloatArray, clopper_pearson_upper
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History

PROBE = 1024  # samples of a probe batch, where it is not recorded
BORN_DEAD_REMEDY = (
    "The units were dead from the first evaluation on: look for inputs of wild scale, a large "
    "negative bias or another initialisation (He), and use a leaky or smooth activation (GELU)."
)
KILLED_REMEDY = (
    "The units died in training, by epoch {since}: divide the learning rate by 10, warm it up or "
    "clip the gradient; a leaky or smooth activation (GELU) survives larger steps."
)


def no_watched_units(history: History) -> str | None:
    """`missing_signal`: no layer that can have dead units is recorded."""
    if history.has("dead_unit_share"):
        return None
    return "No layer that can have dead units is recorded (`dead_unit_share`)."


@detector(
    name="dead_units",
    version="3.0",
    title="Dead units",
    severity=Severity.FATAL,
    online=True,
    subject=no_watched_units,
    signals="dead_unit_share",
    optional_signals=(
        "dead_unit_n",
        "layer_units",
        "train_loss",
        "val_loss",
        "val_loss_se",
        "val_floor_gap_se",
        "val_n",
        "group_update_ratio",
        *RANKING_SIGNALS,
    ),
    rule="At least half of a layer's units, or of the net's, are active on no sample of a probe "
    "batch large enough to say so (upper bound of their activity at most 0.3 %), twice in a row: a "
    "warning. Fatal if nine tenths of a layer or half of the net are dead and the model provably "
    "has no skill now, by its loss and, among classes, by its ranking.",
    formula="dead = active in 0 of n, CP_95(0, n) <= 0.003; layer >= 0.5, k = 2; fatal: (layer >= "
    "0.9 or net >= 0.5) and G + z SE <= 0.02",
    source="SageMaker Debugger (half of a layer), DeepDiagnosis (70 %), TheDeepChecker; with the "
    "check of skill, because their rules fire on many nets that learn well.",
    remedy="Use a leaky or smooth activation (GELU), a smaller learning rate or another "
    "initialisation; look for inputs of wild scale and for a large negative bias.",
    false_alarms="Sparse nets that learn well: they get a warning, never a fatal finding.",
    margins="dead_layer dead_layer_fatal dead_net dead_activity dead_evaluations hysteresis "
    "skill_gain online_evaluations",
)
def detect(history: History) -> RuleResult:
    """Warn of dead layers; fatal when the model has no skill either."""
    shares = history.vectors("dead_unit_share")
    net, worst = _net(history, shares), np.fmax.reduce(shares, axis=1)
    limit, k = margin("dead_layer"), whole("dead_evaluations")
    over = (worst >= limit) | (net >= margin("dead_net"))
    leave = np.fmax(worst, net) < limit / margin("hysteresis")
    index = held_since(worst, over, leave, history.recorded("dead_unit_share"), k)
    now, whole_net = lasting(worst, k), lasting(net, k)
    layer = _layer(shares)
    claim = f"{now:.0%} of the units of {layer} are active on no sample of the probe batch"
    if index is None:
        return more_evaluations(history, k) or clear(f"{claim}.", statistic=now, threshold=limit)
    bound = float(clopper_pearson_upper(0.0, _samples(history)))
    if bound > margin("dead_activity"):
        return insufficient(
            f"{claim}, but on {_samples(history):.0f} samples a unit that is active on "
            f"{bound:.1%} of all inputs may look dead: the probe batch needs at least "
            f"{np.ceil(np.log(0.05) / np.log1p(-margin('dead_activity'))):.0f}.",
            statistic=now,
            threshold=limit,
        )
    since = epoch_at(history, index)
    gone = now >= margin("dead_layer_fatal") or whole_net >= margin("dead_net")
    waits = may_recover(history, worst, recovery_rises=False)
    fatal = gone and waits is None and lasting_no_skill(history)
    return fired(
        f"{claim} (limit {limit:.0%}), {whole_net:.0%} of the whole net's, since epoch {since}"
        + ("; the model has no skill." if fatal else "; no loss of skill is shown."),
        onset=since,
        severity=Severity.FATAL if fatal else Severity.WARNING,
        statistic=now,
        threshold=limit,
        evidence={"net": whole_net},
        remedy=BORN_DEAD_REMEDY if index == 0 else KILLED_REMEDY.format(since=since),
    )


def _net(history: History, shares: FloatArray) -> FloatArray:
    """Share of dead units over all layers, weighted by their units where recorded, shape (n,)."""
    units = history.vectors("layer_units")
    if units.shape != shares.shape:
        units = np.ones_like(shares)
    weights = np.where((units > 0.0) & np.isfinite(units), units, 1.0)
    known = np.isfinite(shares)
    total = np.where(known, weights, 0.0).sum(axis=1)
    dead = (np.where(known, shares, 0.0) * weights).sum(axis=1)
    return np.where(total > 0.0, dead / np.where(total > 0.0, total, 1.0), np.nan)


def _layer(shares: FloatArray) -> str:
    last = shares[np.isfinite(shares).any(axis=1)]
    worst = int(np.nanargmax(last[-1])) if len(last) else 0
    return layer_words(worst, shares.shape[1])


def _samples(history: History) -> float:
    n = lasting(history.column("dead_unit_n"), 1)
    return n if n >= 1.0 else float(PROBE)
