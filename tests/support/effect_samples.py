"""Rows for the tests of effects: by hand, drawn from a truth, or stored in every odd state."""

import math
import random

from report_samples import SampleTrial, write_sample

from sickbay.service.analysis.rows.pairs import TrialRow
from sickbay.trials.contract import Health, TrialState

SWEEP = "sample-abc123"
OBJECTIVE = {"signal": "val_loss", "goal": "minimize"}
FACTORS = {"init": ["zeros", "[preset]", "random"], "lr": [0.1, 0.01], "guard": [True, False]}


def trial(seed, value, label="healthy", **levels):
    """One row; a label that is none of the three is a pathology or a state."""
    state = label if label in ("failed", "cancelled") else "completed"
    known = label if label in ("healthy", "inconclusive") else "pathological"
    return TrialRow(
        trial_id=f"{seed}-{levels}",
        seed=seed,
        levels=levels,
        state=state,
        label=known if state == "completed" else None,
        pathology=label if state == "completed" and known == "pathological" else None,
        objective=value,
    )


def simulated(rng, *, seeds, contexts, sick, effect=0.3):
    """A sweep whose seeds are easy or hard, whose contexts differ, and whose sick trials look good.

    A hard seed falls ill more often, in every arm. The truth is `effect` in every pair.
    """
    hardness = rng.normal(size=seeds)
    rows = []
    for b in range(contexts):
        for seed in range(seeds):
            for a in ("off", "on"):
                value = hardness[seed] + b + effect * (a == "on") + 0.5 * rng.normal()
                ill = rng.random() < sick * (1.5 if hardness[seed] > 0 else 0.5)
                rows.append(trial(seed, -5.0, "no_skill", a=a, b=b))
                if not ill:
                    rows[-1] = trial(seed, value, a=a, b=b)
    return rows


def grid(seeds=4):
    """A full grid in which every fifth trial is not healthy, each in its own way."""
    drawn = random.Random(7)
    ways = [
        {"label": Health.PATHOLOGICAL, "pathology": "no_skill"},
        {"label": None, "state": TrialState.FAILED, "error": "boom"},
        {"label": Health.INCONCLUSIVE},
        {"label": None, "state": TrialState.CANCELLED},
        {"values": (math.nan,)},
    ]
    trials = []
    for seed in range(seeds):
        for init in FACTORS["init"]:
            for lr in FACTORS["lr"]:
                for guard in FACTORS["guard"]:
                    levels = {"init": init, "lr": lr, "guard": guard}
                    value = drawn.gauss(seed + (init == "random"), 0.2) + 0.3 * lr
                    way = ways[len(trials) // 5 % 5] if len(trials) % 5 == 0 else {}
                    trials.append(SampleTrial(levels, seed, **{"values": (value,), **way}))
    return trials


def sample(folder, trials, **spec):
    told_spec = {"name": "sample", "factors": FACTORS, "objective": OBJECTIVE, **spec}
    return write_sample(folder, trials, spec=told_spec)
