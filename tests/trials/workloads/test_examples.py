"""The shipped examples: each is planned and run in miniature, and no two arms are the same run."""

from pathlib import Path

import pytest
from workload_runs import SYSTEMS

from sickbay.trials import registry
from sickbay.trials.conformance.dry_run import difference_of, rehearse
from sickbay.trials.spec import load_spec, plan

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
BY_NAME = {runs.workload.name: runs for runs in SYSTEMS.values()}
# What an example is about stays as it is; the rest is made small.
LARGE = ("size", "dataset", "epochs", "train_scenes", "val_scenes", "points", "height", "width")
TINY = {
    "mvm_orientation": {"rotations": 4},
    "crossmodal_anomaly": {"train_scenes": 60, "val_scenes": 40},
    "pointwise_anomaly": {"train_scenes": 40, "val_scenes": 20, "points": 128},
    "query_reweighting": {"gaussian_sigma": 2.0},
    "longtail_diffusion": {"imbalance": 20.0},
}
# What these examples vary shows only in later epochs.
LATER = {
    "crossmodal-early-stopping": {"epochs": 20, "lr": 0.1},
    "longtail-warmup-diffusion": {"epochs": 16},
}


def arms(path):
    """The configurations of an example by name, made small, at its first seed."""
    spec, workload = load_spec(path, registry.workload)
    runs, swept = BY_NAME[workload.name], set(spec.factors)
    own = {name: value for name, value in spec.fixed.items() if name not in LARGE}
    small = {
        **workload.defaults,
        **runs.small,
        **TINY[workload.name],
        **own,
        "epochs": 3,
        **LATER.get(path.stem, {}),
    }
    trials = plan.plan(spec, workload).trials
    first = [trial for trial in trials if trial.seed == trials[0].seed]
    return workload, {
        plan.arm_name(trial.config, trial.changed): small
        | {name: trial.config[name] for name in swept}
        for trial in first
    }


@pytest.fixture(scope="module")
def kept():
    """Runs by their configuration: examples share many arms."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_no_two_arms_of_an_example_are_the_same_run(path, kept, monkeypatch):
    monkeypatch.chdir(ROOT)
    workload, configs = arms(path)
    if not configs:
        pytest.skip("a search draws its configurations when it runs")
    seen = []
    for arm, config in configs.items():
        key = (workload.name, *sorted(config.items()))
        if key not in kept:
            kept[key] = rehearse(workload, config, 0).rows
        for other, rows in seen:
            assert difference_of(rows, kept[key]), f"{arm} is {other}: condition one on the other"
        seen.append((arm, kept[key]))
