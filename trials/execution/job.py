"""A trial's job as one JSON text: the only thing that crosses to a worker."""

import json
from dataclasses import asdict, replace
from typing import Any

from sickbay.trials.contract import Goal, Objective, TrialConfig
from sickbay.trials.execution.trial import RunPolicy, TrialJob
from sickbay.trials.spec.command import Command


def job_text(job: TrialJob) -> str:
    """Write a job as JSON text, which is also one key in Tune's books."""
    return json.dumps(asdict(replace(job, trial=replace(job.trial, config=dict(job.trial.config)))))


def job_from_text(text: str) -> TrialJob:
    """Read what `job_text` wrote."""
    values = json.loads(text)
    values["trial"] |= {"changed": tuple(values["trial"]["changed"])}
    goal = Goal(values["objective"]["goal"])
    values |= {
        "trial": TrialConfig(**values["trial"]),
        "objective": Objective(values["objective"]["signal"], goal),
        "policy": RunPolicy(**values["policy"]),
        "command": _command(values["command"]),
    }
    return TrialJob(**values)


def _command(values: dict[str, Any] | None) -> Command | None:
    if values is None:
        return None
    words, metrics = tuple(values["words"]), tuple(values["metrics"])
    return Command(**{**values, "words": words, "metrics": metrics})
