"""Which trials a report shows one by one where there are too many to show."""

from collections.abc import Sequence

from sickbay.service.summary.values import TrialLine


def sample(trials: Sequence[TrialLine], most: int) -> tuple[TrialLine, ...]:
    """Take about so many trials: every verdict and cause in proportion, one of each at least.

    The same trials give the same sample. All of them where there are no more than `most`.
    """
    if len(trials) <= most:
        return tuple(trials)
    by_cause: dict[tuple[str, str | None], list[TrialLine]] = {}
    for trial in trials:
        by_cause.setdefault((trial.verdict, trial.pathology), []).append(trial)
    taken: list[TrialLine] = []
    for some in by_cause.values():
        n = max(1, round(most * len(some) / len(trials)))
        taken += [some[k * len(some) // n] for k in range(n)]
    return tuple(taken)
