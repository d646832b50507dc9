"""Whether 95 % means 95 %: intervals of effects on simulated sweeps, and why no bootstrap."""

import math

import numpy as np
import pytest
from effect_samples import simulated
from scipy import stats

from sickbay.service.effect_statistics import paired_effect
from sickbay.service.effects import effect_table
from sickbay.trials.contract import Goal

LEVELS = {"a": ("off", "on")}


def truth(sick):
    """What `simulated` draws from: difference, its IQM, P(better) and the healthy share."""
    both_ill = ((1.5 * sick) ** 2 + (0.5 * sick) ** 2) / 2
    both_healthy = 1.0 - 2 * sick + both_ill
    won = stats.norm.cdf(-0.3 / (0.5 * math.sqrt(2)))
    return 0.3, 0.3, 0.5 * both_ill + (sick - both_ill) + both_healthy * won, 1.0 - sick


def coverage(times, **how):
    """Shares of intervals that hold the truth, in its order, and of sweeps left unknown."""
    rng = np.random.default_rng(2024)
    levels = {**LEVELS, "b": ()}  # contexts are made of it, but its own effects cost only time
    hits = np.full((times, 4), np.nan)
    for sweep in range(times):
        found = effect_table(simulated(rng, **how), levels, Goal.MINIMIZE).effects[0]
        intervals = (found.difference, found.iqm, found.improvement, found.of_level)
        for column, (one, told) in enumerate(zip(intervals, truth(how["sick"]), strict=True)):
            if not math.isnan(one.low):
                hits[sweep, column] = one.low <= told <= one.high
    return *np.nanmean(hits, axis=0), np.isnan(hits[:, 0]).mean()


@pytest.mark.parametrize(
    ("contexts", "sick"), [(1, 0.0), (1, 0.3), (3, 0.3)], ids=["clean", "sick", "sick grid"]
)
def test_intervals_cover_at_five_seeds(contexts, sick):
    mean, iqm, better, _, _ = coverage(1000, seeds=5, contexts=contexts, sick=sick)
    assert 0.93 <= mean <= 0.97
    assert 0.92 <= iqm <= 0.98
    assert better >= 0.92


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("sick", [0.0, 0.3])
@pytest.mark.parametrize("contexts", [1, 2, 6])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_cover_over_many_sweeps(seeds, contexts, sick):
    """`pytest -m slow -s` prints the table of decision 9."""
    mean, iqm, better, healthy, unknown = coverage(3000, seeds=seeds, contexts=contexts, sick=sick)
    print(
        f"\n| {seeds} | {contexts} | {sick:.0%} | {mean:.3f} | {iqm:.3f} | {better:.3f} "
        f"| {healthy:.3f} | {unknown:.1%} |"
    )
    noise = 2.0 * math.sqrt(0.05 * 0.95 / (3000 * (1.0 - unknown)))  # of the simulation itself
    assert 0.93 - noise <= mean <= 0.97 + noise
    assert 0.92 - noise <= iqm <= 0.98 + noise
    assert better >= 0.91


def lognormal(rng, spread, shape):
    return np.exp(spread * rng.normal(size=shape)) - math.exp(spread**2 / 2)


DIFFERENCES = {  # all of mean zero
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy-tailed": lambda rng, shape: rng.standard_t(3, size=shape),
    "two lognormals": lambda rng, shape: lognormal(rng, 1, shape) - lognormal(rng, 1, shape),
    "unlike lognormals": lambda rng, shape: lognormal(rng, 0.5, shape) - lognormal(rng, 1, shape),
    "lognormal": lambda rng, shape: lognormal(rng, 0.5, shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1.0,
}


def bootstrap_t(sample, rng, resamples=1999):
    """Studentized bootstrap; a resample without spread is as far out as can be."""
    n, mean = len(sample), sample.mean()
    drawn = rng.choice(sample, (resamples, n))
    error, off = drawn.std(axis=1, ddof=1) / math.sqrt(n), drawn.mean(axis=1) - mean
    flat = error < 1e-12 * np.abs(sample).max()
    far = np.copysign(np.inf, off)
    pivots = np.sort(np.where(flat, far, off / np.where(flat, 1.0, error)))
    spread = sample.std(ddof=1) / math.sqrt(n)
    return mean - pivots[-50] * spread, mean - pivots[49] * spread


@pytest.mark.slow
@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_interval_was_chosen_for_five_seeds(name):
    """Prints the first table of decision 9."""
    rng = np.random.default_rng(9)
    samples = DIFFERENCES[name](rng, (1000, 5))
    ours = [paired_effect(one.tolist(), range(5), [0] * 5) for one in samples]
    found = {"t": np.array([(one.low, one.high) for one in ours])}
    for method in ("percentile", "BCa"):
        told = stats.bootstrap((samples,), np.mean, axis=1, n_resamples=999, method=method, rng=rng)
        found[method] = np.stack(told.confidence_interval, axis=1)
    found["bootstrap-t"] = np.array([bootstrap_t(one, rng) for one in samples])
    covered = {
        key: np.mean((low <= 0) & (high >= 0))
        for key, (low, high) in ((key, some.T) for key, some in found.items())
    }
    print(f"\n{name}: " + ", ".join(f"{key} {share:.3f}" for key, share in covered.items()))
    assert covered["t"] >= (0.86 if "nential" in name or "lognormal" in name else 0.93)
    assert covered["BCa"] < covered["t"] - 0.04
    assert covered["percentile"] < covered["t"] - 0.04
