"""Sequential sweeps: any false claim under peeking, power, and trials against ten fixed seeds.

Simulated sweeps of a reference and five arms; the fixed design is that of an ordinary sweep: ten
seeds, noise shared by the arms, Holm's correction over them. Three minutes; for less,

    python tests/benchmarks/bench_sequential.py 200      # 200 sweeps a row instead of 1,000
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "support")]

import numpy as np  # noqa: E402 - found by the line above
import sequential_sweeps as sweeps  # noqa: E402
from figures import Figure, tell  # noqa: E402
from scipy import stats  # noqa: E402
from sequential_sweeps import SimulatedArm  # noqa: E402

from sickbay.trials.evidence.shared_noise import shared_noise  # noqa: E402
from sickbay.trials.evidence.statistics import holm_adjusted  # noqa: E402
from sickbay.trials.search.sequential import CLAIMS, HEALTH_CLAIMS, Effect  # noqa: E402

RUNS, FIXED = 1000, 10
NULLS = {
    "equal noise": [SimulatedArm()] * 6,
    "one arm three times noisier": [*[SimulatedArm()] * 5, SimulatedArm(sd=3.0)],
    "one arm ten times noisier": [*[SimulatedArm()] * 5, SimulatedArm(sd=10.0)],
    "two arms five times noisier": [*[SimulatedArm()] * 4, *[SimulatedArm(sd=5.0)] * 2],
    "reference three times noisier": [SimulatedArm(sd=3.0), *[SimulatedArm()] * 5],
    "30 % pathological in all arms": [SimulatedArm(pathological=0.3)] * 6,
    "50 % pathological in all arms": [SimulatedArm(pathological=0.5)] * 6,
}
BROKEN = SimulatedArm(pathological=1.0)
SWEEPS = {
    "large effects: three of 4 sd, two broken": [-4, -4, 4, BROKEN, BROKEN],
    "as the quickstart: 4 sd, 3 sd, three broken": [-4, -3, BROKEN, BROKEN, BROKEN],
    "mixed: two of 0, one of 2 sd, 1.3 sd, one broken": [0, 0, -2, -1.3, BROKEN],
    "no effect anywhere": [0, 0, 0, 0, 0],
}


def main() -> int:
    """Measure, print, judge: 1 if a false claim is made in more than 5 % of the sweeps."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    rng, worst = np.random.default_rng(0), 0
    print(f"any false claim, on effect or health, in {runs} sweeps without any difference")
    for name, arms in NULLS.items():
        for block in (1, 3):
            made = [sweeps.simulate(arms, sweeps.rule(20, block=block), rng) for _ in range(runs)]
            share = np.mean([any(map(claims, one.verdicts)) for one in made])
            named = f"any false claim: {name}, {block} seeds at a time"
            worst |= tell([Figure(named, 100 * share, "%", 5.0)])
    print(f"trials of six arms, and found effects, against {FIXED} seeds each")
    for name, effects in SWEEPS.items():
        arms = [SimulatedArm(), *(e if e is BROKEN else SimulatedArm(e) for e in effects)]
        fixed = np.mean([fixed_power(arms, rng) for _ in range(runs)], axis=0)
        words = [f"fixed {len(arms) * FIXED} trials, found {percent(fixed)}"]
        for at_most in (10, 14, 20):
            made = [sweeps.simulate(arms, sweeps.rule(at_most, 1.0), rng) for _ in range(runs)]
            trials = np.mean([sweeps.trials_of(one) for one in made])
            found = np.mean([settled(one.verdicts, effects) for one in made], axis=0)
            words.append(f"at most {at_most}: {trials:.1f} trials, found {percent(found)}")
        print(f"  {name}: {'; '.join(words)}", flush=True)
        peer = f"{FIXED} fixed seeds"
        named = f"{name}: trials, at most {at_most} seeds"
        tell([Figure(named, trials, "trials", peer=peer, peer_value=len(arms) * FIXED)])
    return worst


def claims(one) -> bool:
    """Whether an arm is said to differ."""
    return one.effect in CLAIMS or one.health in HEALTH_CLAIMS


def settled(verdicts, effects) -> list[bool]:
    """For each arm with an effect: whether it was found, with the right sign."""
    return [
        one.health in HEALTH_CLAIMS
        if effect is BROKEN
        else one.effect is (Effect.BETTER if effect < 0 else Effect.WORSE)
        for one, effect in zip(verdicts, effects, strict=True)
        if effect is BROKEN or effect
    ]


def fixed_power(arms: list[SimulatedArm], rng: np.random.Generator) -> list[bool]:
    """The same for ten seeds each; a broken arm is seen by its counts."""
    tested = [place for place, arm in enumerate(arms) if place and arm is not BROKEN]
    reference = rng.normal(size=FIXED) / np.sqrt(2)
    values = np.array(
        [arms[k].mean + rng.normal(size=FIXED) / np.sqrt(2) - reference for k in tested]
    )
    noise = shared_noise(values.var(axis=1, ddof=1), np.full(len(tested), FIXED - 1.0), values)
    t = np.abs(values.mean(axis=1)) / np.sqrt(noise.variances / FIXED)
    adjusted = dict(zip(tested, holm_adjusted(2.0 * stats.t.sf(t, noise.degrees)), strict=True))
    return [
        arm is BROKEN or adjusted[place] <= 0.05
        for place, arm in enumerate(arms)
        if place and (arm is BROKEN or arm.mean)
    ]


def percent(shares) -> str:
    """Shares as whole per cents."""
    return ", ".join(f"{share:.0%}" for share in np.atleast_1d(shares)) or "nothing to find"


if __name__ == "__main__":
    sys.exit(main())
