"""Detector 24, `posterior_collapse`: latent variables that carry no information."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, more_evaluations
from sickbay.trials.evidence.classes import RANKING_SIGNALS
from sickbay.trials.evidence.layers import held_since, lasting_no_skill
from sickbay.trials.evidence.skill import epoch_at, lasting
from sickbay.trials.evidence.statistics import FloatArray
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


def no_latents(history: History) -> str | None:
    """`not_applicable`: no latent variables were recorded."""
    if history.has("latent_variance") or history.has("latent_kl"):
        return None
    return "No latent variables are recorded (`latent_variance`, `latent_kl`)."


@detector(
    name="posterior_collapse",
    version="2.0",
    title="Posterior collapse",
    severity=Severity.FATAL,
    online=True,
    subject=no_latents,
    signals="latent_variance|latent_kl",
    optional_signals=(
        "train_loss",
        "val_loss",
        "val_loss_se",
        "val_floor_gap_se",
        "group_update_ratio",
        *RANKING_SIGNALS,
    ),
    rule="At most 5 % of the latent variables are active, three times in a row: the variance over "
    "inputs of their mean is over 0.01, or, where only that was recorded, their divergence from "
    "the prior is over 0.01 nats. A warning; fatal at the end of a model that is no better than "
    "the best constant predictor.",
    formula="share of latents with Var_x(E[z | x]) > 0.01 <= 0.05, k = 3",
    source="Active units of Burda, Grosse and Salakhutdinov 2016, of 0.01.",
    remedy="Anneal the weight of the divergence, grant free bits, or weaken the decoder.",
    false_alarms="A task that needs a handful of a great many latents.",
    margins="latent_active latent_share skill_gain persistence hysteresis",
)
def detect(history: History) -> RuleResult:
    """Warn when hardly any latent variable depends on the input."""
    active, count = _active(history)
    limit, k = margin("latent_share"), whole("persistence")
    leave = active > limit * margin("hysteresis")
    recorded = history.recorded("latent_variance") | history.recorded("latent_kl")
    index = held_since(active, active <= limit, leave, recorded, k)
    now = lasting(active)
    claim = f"{now * count:.0f} of {count} latent variables depend on the input"
    if index is None:
        return more_evaluations(history, k) or clear(f"{claim}.", statistic=now, threshold=limit)
    since = epoch_at(history, index)
    lost = history.finished and lasting_no_skill(history)
    return fired(
        f"Only {claim} (limit {limit:.0%}), since epoch {since}"
        + ("; the model is no better than a constant." if lost else "."),
        onset=since,
        severity=Severity.FATAL if lost else Severity.WARNING,
        statistic=now,
        threshold=limit,
    )


def _active(history: History) -> tuple[FloatArray, int]:
    """Share of active latents, shape (n,), NaN where unknown, and how many there are."""
    variance = history.vectors("latent_variance")
    values = history.vectors("latent_kl") if np.isnan(variance).all() else variance
    known = ~np.isnan(values)
    counts = known.sum(axis=1)
    over = ((values > margin("latent_active")) & known).sum(axis=1)
    return np.where(counts > 0, over / np.maximum(counts, 1), np.nan), values.shape[1]
