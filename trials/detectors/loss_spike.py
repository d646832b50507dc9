"""Detector 4, `loss_spike`: single steps whose loss is far above that of earlier steps."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, insufficient
from sickbay.trials.evidence.skill import epoch_at, percent
from sickbay.trials.evidence.statistics import (
    MAD_TO_SIGMA,
    BoolArray,
    FloatArray,
    clopper_pearson_lower,
)
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History

CHUNK = 4096  # steps whose windows are looked at together


@detector(
    name="loss_spike",
    version="1.0",
    title="Loss spikes",
    severity=Severity.WARNING,
    online=True,
    signals="train_loss_steps|train_loss_spikes",
    optional_signals="train_steps",
    rule="The logarithm of a step's loss lies six robust standard deviations over the median of "
    "the 128 steps before it (at least 64). Information; a warning if provably more than 1 % of "
    "the steps are such spikes.",
    formula="log(L - L_min) > median + 6 * 1.4826 MAD of the last 128 steps; warning: CP_95 lower "
    "bound of spikes / steps > 0.01",
    source="OLMo-core and Levanter skip steps over 6 sigma of the last 128; on the logarithm and "
    "with robust estimates, log-normal losses of sigma 0.6 and 1.0 give no false spike in 1000 "
    "steps, where the plain rule gives 2 and 6.",
    remedy="Clip the gradient or skip the batch; look at the batches that do it.",
    false_alarms="Heavy-tailed data: with Student's t of 3 degrees about 4 steps in 1000 spike.",
    margins="spike_sigma spike_window spike_least spike_share",
)
def detect(history: History) -> RuleResult:
    """Report spikes; warn when they are frequent."""
    judged, spikes = _counted(history) if _only_counts(history) else _found(history)
    steps, count = float(judged.sum()), float(spikes.sum())
    if steps < 1.0:
        return insufficient(
            f"A step's loss is compared with {whole('spike_least')} steps before it; fewer were "
            f"recorded as numbers over their least value, and of some scatter."
        )
    limit, share = margin("spike_share"), count / steps
    claim = f"{count:g} of {steps:g} steps have a loss far over that of the steps before them"
    if count == 0.0:
        return clear(f"{claim}.", statistic=0.0, threshold=limit)
    lower = float(clopper_pearson_lower(min(count, steps), steps))
    many = lower > limit
    return fired(
        f"{claim} ({percent(share)}{f', limit {limit:.0%}' if many else ''}).",
        onset=epoch_at(history, int(np.flatnonzero(spikes > 0.0)[0])),
        severity=Severity.WARNING if many else Severity.INFO,
        statistic=lower,
        threshold=limit,
    )


def _only_counts(history: History) -> bool:
    return not np.isfinite(history.vectors("train_loss_steps")).any()


def _counted(history: History) -> tuple[FloatArray, FloatArray]:
    """Steps and spikes of each evaluation, as the training loop counted them, each (n,)."""
    spikes = history.column("train_loss_spikes")
    steps = np.diff(history.steps, prepend=0).astype(np.float64)
    if history.has("train_steps"):
        steps = history.column("train_steps")
    sound = np.isfinite(spikes) & (spikes >= 0.0) & np.isfinite(steps) & (steps > 0.0)
    return np.where(sound, steps, 0.0), np.where(sound, np.minimum(spikes, steps), 0.0)


def _found(history: History) -> tuple[FloatArray, FloatArray]:
    """Steps that could be judged and spikes among them, by evaluation, each (n,)."""
    steps = history.vectors("train_loss_steps")
    least = history.facts.loss_minimum or 0.0
    sound = np.isfinite(steps) & (steps > least)
    where = np.nonzero(sound)[0]  # the evaluation of each step, in their order
    judged, spike = _spikes(np.log(steps[sound] - least))
    n = len(history)
    return (
        np.bincount(where[judged], minlength=n).astype(np.float64),
        np.bincount(where[spike], minlength=n).astype(np.float64),
    )


def _spikes(values: FloatArray) -> tuple[BoolArray, BoolArray]:
    """Which values could be compared with those before, and which are spikes, (m,) each."""
    width, least = whole("spike_window"), whole("spike_least")
    judged, spike = np.zeros(len(values), dtype=np.bool_), np.zeros(len(values), dtype=np.bool_)
    if len(values) <= least:
        return judged, spike
    before = sliding_window_view(np.concatenate([np.full(width, np.nan), values[:-1]]), width)
    for start in range(least, len(values), CHUNK):
        part = slice(start, min(start + CHUNK, len(values)))
        windows = before[part]
        full = part.start >= width
        middle = np.median if full else np.nanmedian
        centre = middle(windows, axis=1)
        scatter = MAD_TO_SIGMA * middle(np.abs(windows - centre[:, None]), axis=1)
        judged[part] = scatter > 0.0
        over = values[part] > centre + margin("spike_sigma") * scatter
        spike[part] = judged[part] & over
    return judged, spike
