"""Whether 95 % means 95 %: intervals of effects on simulated sweeps."""

import itertools
import math

import numpy as np
import pytest
from effect_samples import simulated, trial
from scipy import stats

from sickbay.service.analysis.comparison import _welch
from sickbay.service.analysis.effects import effect_table
from sickbay.service.analysis.interactions import interaction_table
from sickbay.service.analysis.main_effects import main_effect_table
from sickbay.service.analysis.statistics.estimates import paired_effect
from sickbay.trials.contract import Goal

LEVELS = {"a": ("off", "on")}
TIMES = 1500  # sweeps of a slow simulation: its own error is 0.006


def truth(sick):
    """What `simulated` draws from: difference (twice), its IQM, P(better), the healthy share."""
    both_ill = ((1.5 * sick) ** 2 + (0.5 * sick) ** 2) / 2
    both_healthy = 1.0 - 2 * sick + both_ill
    won = stats.norm.cdf(-0.3 / (0.5 * math.sqrt(2)))
    return 0.3, 0.3, 0.3, 0.5 * both_ill + (sick - both_ill) + both_healthy * won, 1.0 - sick


def coverage(times, **how):
    """Shares of intervals that hold the truth, in its order, and of sweeps left unknown."""
    rng = np.random.default_rng(2024)
    levels = {**LEVELS, "b": ()}  # contexts are made of it, but its own effects cost only time
    hits = np.full((times, 5), np.nan)
    for sweep in range(times):
        effect = effect_table(simulated(rng, **how), levels, Goal.MINIMIZE).effects[0]
        intervals = (
            effect.difference,
            effect.bootstrap,
            effect.iqm,
            effect.improvement,
            effect.of_level,
        )
        for column, (interval, truth_value) in enumerate(
            zip(intervals, truth(how["sick"]), strict=True)
        ):
            if not math.isnan(interval.low):
                hits[sweep, column] = interval.low <= truth_value <= interval.high
    shares = [np.nanmean(hit) if np.isfinite(hit).any() else math.nan for hit in hits.T]
    return *shares, np.isnan(hits[:, 0]).mean()


def near(share, times, low=0.93, high=0.97):
    """Whether a simulated share is in the range, give or take two errors of the simulation."""
    noise = 2.0 * math.sqrt(0.05 * 0.95 / max(times, 1.0))
    return math.isnan(share) or low - noise <= share <= high + noise


@pytest.mark.parametrize(
    ("contexts", "sick"), [(1, 0.0), (1, 0.3), (3, 0.3)], ids=["clean", "sick", "sick grid"]
)
def test_intervals_cover_at_five_seeds(contexts, sick):
    times = 600
    mean, bootstrap, iqm, better, _, unknown = coverage(
        times, seeds=5, contexts=contexts, sick=sick
    )
    assert near(mean, times * (1 - unknown))
    assert near(bootstrap, times * (1 - unknown), 0.92, 0.98)
    assert near(iqm, times * (1 - unknown), 0.92, 0.98)
    assert better >= 0.92


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("sick", [0.0, 0.3])
@pytest.mark.parametrize("contexts", [1, 2, 6])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_cover_over_many_sweeps(seeds, contexts, sick):
    """`pytest -m slow -s` prints the table of decision 9."""
    mean, bootstrap, iqm, better, healthy, unknown = coverage(
        TIMES, seeds=seeds, contexts=contexts, sick=sick
    )
    known = TIMES * (1.0 - unknown)
    print(
        f"\n| {seeds} | {contexts} | {sick:.0%} | {mean:.3f} | {bootstrap:.3f} | {iqm:.3f} "
        f"| {better:.3f} | {healthy:.3f} | {unknown:.1%} | {math.sqrt(0.0475 / known):.3f} |"
    )
    assert near(mean, known)
    assert near(bootstrap, known, 0.91, 0.99)
    assert near(iqm, known, 0.92, 0.98)
    assert better >= 0.91


def quads(rng, seeds, sick, together=0.5):
    """Two crossed factors; hard seeds fall ill more often, and report the best value of all."""
    rows = []
    hardness = rng.normal(size=seeds)
    for seed in range(seeds):
        for a in ("off", "on"):
            for b in (0, 1):
                value = hardness[seed] + 0.3 * (a == "on") + b + together * (a == "on") * b
                ill = rng.random() < sick * (1.5 if hardness[seed] > 0 else 0.5)
                outcome = (-5.0, "no_skill") if ill else (value + 0.5 * rng.normal(), "healthy")
                rows.append(trial(seed, *outcome, a=a, b=b))
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("sick", [0.0, 0.3])
@pytest.mark.parametrize("seeds", [5, 10])
def test_intervals_of_interactions_cover(seeds, sick):
    rng = np.random.default_rng(7)
    hits = np.full((TIMES, 2), np.nan)
    for sweep in range(TIMES):
        rows = quads(rng, seeds, sick)
        levels = {"a": ("off", "on"), "b": (0, 1)}
        [interaction] = interaction_table(rows, levels, Goal.MINIMIZE).interactions
        for column, (estimate, truth_value) in enumerate(
            ((interaction.difference, 0.5), (interaction.health, 0.0))
        ):
            if not math.isnan(estimate.low):
                hits[sweep, column] = estimate.low <= truth_value <= estimate.high
    known = np.isfinite(hits).sum(axis=0)
    shares = [np.nanmean(hit) if np.isfinite(hit).any() else math.nan for hit in hits.T]
    print(f"\ninteraction | {seeds} | {sick:.0%} | {shares} | {known} of {TIMES}")
    assert near(shares[0], known[0])
    assert near(shares[1], known[1], 0.91, 0.99)


@pytest.mark.slow
@pytest.mark.parametrize("sick", [0.0, 0.3])
@pytest.mark.parametrize("half", [False, True], ids=["factorial", "fraction"])
def test_intervals_of_main_effects_cover(half, sick):
    """A 2³ design and its half fraction at five seeds."""
    rng, times = np.random.default_rng(8), 300
    effects = {"a": 0.3, "b": -0.2, "c": 0.0}
    hits = []
    for _ in range(times):
        rows = []
        for seed, hard in enumerate(rng.normal(size=5)):
            for levels in itertools.product((0, 1), repeat=3):
                named = dict(zip(effects, levels, strict=True))
                value = hard + sum(effects[f] * on for f, on in named.items())
                ill = rng.random() < sick * (1.5 if hard > 0 else 0.5)
                outcome = (-5.0, "no_skill") if ill else (value + 0.5 * rng.normal(), "healthy")
                if not half or levels[2] == levels[0] ^ levels[1]:
                    rows.append(trial(seed, *outcome, **named))
        table = main_effect_table(rows, dict.fromkeys(effects, (0, 1)), Goal.MINIMIZE)
        hits += [
            effect.difference.low <= effects[effect.factor] <= effect.difference.high
            for effect in table.effects
            if not math.isnan(effect.difference.low)
        ]
    share = float(np.mean(hits))
    print(f"\nmain effects | {half=} | {sick:.0%} | {share:.3f} | {len(hits)} of {3 * times}")
    assert near(share, len(hits) / 3)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(5, 5), (3, 10)])
def test_intervals_between_unlike_sweeps_cover(n, m):
    rng = np.random.default_rng(9)
    estimates = [
        _welch(rng.normal(size=n).tolist(), (0.4 + 2.0 * rng.normal(size=m)).tolist())
        for _ in range(TIMES)
    ]
    share = np.mean([estimate.low <= 0.4 <= estimate.high for estimate in estimates])
    print(f"\nWelch | {n} and {m} | {share:.3f}")
    assert near(share, TIMES)


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
    ours = [paired_effect(sample.tolist(), range(5), [0] * 5) for sample in samples]
    intervals = {"t": np.array([(estimate.low, estimate.high) for estimate in ours])}
    for method in ("percentile", "BCa"):
        reference = stats.bootstrap(
            (samples,), np.mean, axis=1, n_resamples=999, method=method, rng=rng
        )
        intervals[method] = np.stack(reference.confidence_interval, axis=1)
    intervals["bootstrap-t"] = np.array([bootstrap_t(sample, rng) for sample in samples])
    covered = {
        key: np.mean((low <= 0) & (high >= 0))
        for key, (low, high) in ((key, some.T) for key, some in intervals.items())
    }
    print(f"\n{name}: " + ", ".join(f"{key} {share:.3f}" for key, share in covered.items()))
    assert covered["t"] >= (0.86 if "nential" in name or "lognormal" in name else 0.93)
    assert covered["BCa"] < covered["t"] - 0.04
    assert covered["percentile"] < covered["t"] - 0.04
