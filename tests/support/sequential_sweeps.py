"""Simulated sequential sweeps: what each trial would give is drawn before anything is decided."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sickbay.trials.contract import Goal, Objective
from sickbay.trials.search.outcomes import TrialOutcome
from sickbay.trials.search.sequential import Progress, replay
from sickbay.trials.spec.model import SequentialSeeds

LOSS = Objective("val_loss", Goal.MINIMIZE)


@dataclass(frozen=True)
class SimulatedArm:
    """Normal objectives, and how often a trial is pathological; `mean` in sd of a difference."""

    mean: float = 0.0
    pathological: float = 0.0
    sd: float = 1.0


def draws(arms: Sequence[SimulatedArm], seeds: int, rng: np.random.Generator):
    """The outcomes of all trials, by the name of the arm and the seed; arms share nothing."""
    return {
        (str(place), seed): ended(
            arm.mean + arm.sd * rng.normal() / np.sqrt(2), ill=rng.random() < arm.pathological
        )
        for place, arm in enumerate(arms)
        for seed in range(seeds)
    }


def ended(value: float, ill: bool = False, floor: float = 0.0) -> TrialOutcome:
    """A trial that came to its end."""
    label, pathology = ("pathological", "divergence") if ill else ("healthy", None)
    floors = {"val_loss": floor} if floor else {}
    return TrialOutcome("completed", label, pathology, (float(value),), floors, 5)


def simulate(
    arms: Sequence[SimulatedArm], rule: SequentialSeeds, rng: np.random.Generator
) -> Progress:
    """Run a whole sequential sweep; the first arm is the reference."""
    found = draws(arms, rule.at_most, rng)
    names = [str(place) for place in range(len(arms))]
    return replay(rule, names, LOSS, lambda arm, seed: found.get((arm, seed)))


def trials_of(progress: Progress) -> int:
    """How many trials were run, those of the reference included."""
    seeds = [one.seeds for one in progress.verdicts]
    return sum(seeds) + max(seeds, default=0)


def rule(at_most: int, smallest_effect: float | None = None, block: int = 1) -> SequentialSeeds:
    """The spec key `seeds`."""
    return SequentialSeeds(
        until="resolved", at_most=at_most, smallest_effect=smallest_effect, block=block
    )
