"""Rows for the tests of effects: one trial by hand, or a sweep drawn from a known truth."""

from sickbay.service.effect_pairs import TrialRow


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
