"""Sweeps of the toy workload, and what they left, for tests of running, serving and judging."""

from pathlib import Path

from sickbay.trials import registry
from sickbay.trials.execution.inline import run_to_end
from sickbay.trials.execution.trial import RunPolicy, TrialJob
from sickbay.trials.spec import check_spec, parse_spec, plan
from sickbay.trials.store import open_store
from sickbay.trials.store.reader import read_epoch_records

TOY = "sickbay_demo.task:WORKLOAD"


def spec(**changes):
    """A grid over the toy's faults, as a mapping; any key may be given otherwise."""
    return {
        "name": "toy",
        "workload": TOY,
        "design": "grid",
        "factors": {"fault": ["none", "nan"]},
        "seeds": 2,
        "early_stop": {"audit": 0.0},  # which trials are audited follows from ids, and so from code
        **changes,
    }


def job(store: Path, workdir: Path | None = None, seed=0, policy=None, **settings) -> TrialJob:
    """One trial of the toy with these settings."""
    workload = registry.workload(TOY)
    raw = spec(factors={}, fixed=settings, seeds=[seed])
    checked = check_spec(parse_spec(raw), workload)
    trial = plan.plan(checked, workload).trials[0]
    return TrialJob(
        store=str(store),
        sweep_id="s",
        trial=trial,
        arm="baseline",
        objective=workload.objective,
        workdir=str(workdir or store.parent / f"work-{trial.trial_id}"),
        policy=policy or RunPolicy(),
    )


def run(store: Path, **settings):
    """Run one trial of the toy to its end; gives back its record."""
    return run_to_end(job(store, **settings))


def stored_rows(store: Path, trial_id: str, sweep_id: str = "s"):
    """The rows of a trial as the store has them, with their attempt."""
    records = read_epoch_records(open_store(str(store)), sweep_id, trial_id)
    return [(record.attempt, record.row) for record in records]


def comparable(rows):
    """Rows as text that is equal exactly where every bit is: NaN equals NaN, 0.0 is not -0.0."""
    return [repr((row.epoch, row.step, sorted(row.signals.items()))) for _, row in rows]
