"""A training script as a workload: its part of the spec, and the trials made of it.

    command: python train.py --lr {lr} --seed {seed} --epochs {epochs}

A command is a list of arguments, never run by a shell. `{name}` stands for a factor or fixed
setting; `{seed}`, `{epochs}` and `{trial_dir}` are always known. Empty arguments are dropped, so a
factor `amp: ["", "--amp"]` switches a flag.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sickbay.trials.contract import Config, Context, Factor, Goal, Objective, Row, Scalar, Workload
from sickbay.trials.errors import SpecProblem, listed, nearest, shown
from sickbay.trials.source import command_code
from sickbay.trials.spec.model import RangeSpec, SweepSpec

COMMAND = "command"  # the workload of all of them
GIVEN = ("seed", "epochs", "trial_dir")
_PLACE = re.compile(r"\{([A-Za-z_][\w.]*)\}")
_BESIDE = ("facts", "metrics", "env", "working_dir")


@dataclass(frozen=True)
class Command:
    """A script, how it is run and how its logs are read: plain data for workers."""

    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = ""
    metrics: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The hash of all fields but the folder: different values make a different workload."""
        said = [self.words, dict(self.env), self.metrics, dict(self.facts)]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    def code(self) -> str:
        """The hash of the script's source as it is now."""
        return command_code(self.words, Path(self.working_dir or "."))


def command_of(spec: SweepSpec) -> Command | None:
    """The command of a spec, its working directory absolute; None if it names a workload."""
    if spec.command is None:
        return None
    return Command(
        words=spec.command,
        env=spec.env,
        working_dir=str(Path(spec.working_dir or ".").expanduser().resolve()),
        metrics=spec.metrics,
        facts=spec.facts.model_dump(mode="json"),
    )


def filled(text: str, config: Config, given: Mapping[str, Scalar]) -> str:
    """A word of a command with its placeholders replaced."""
    values = {**config, **given}
    return _PLACE.sub(lambda match: _written(values[match[1]]), text)


def command_workload(spec: SweepSpec) -> Workload:
    """The workload of a command, for planning; `execution.command` runs its trials."""
    command = command_of(spec)
    assert command is not None
    factors = tuple(_factor(name, levels) for name, levels in spec.factors.items())
    defaults = {factor.name: factor.baseline for factor in factors} | spec.fixed
    goal = spec.objective
    return Workload(
        name=COMMAND,
        version=command.version,
        doc=" ".join(command.words),
        defaults={**defaults, "epochs": spec.fixed.get("epochs", defaults.get("epochs", 1))},
        factors=factors,
        objective=Objective(goal.signal, Goal(goal.goal)) if goal else DEFAULT_OBJECTIVE,
        train=_not_here,
        code=command.code(),
    )


DEFAULT_OBJECTIVE = Objective("val_loss", Goal.MINIMIZE)


def command_problems(spec: SweepSpec) -> Iterator[SpecProblem]:
    """Find what is wrong with a command and the keys beside it."""
    if spec.command is None:
        for key in _BESIDE:
            if getattr(spec, key) != SweepSpec.model_fields[key].get_default(
                call_default_factory=True, validated_data={}
            ):
                yield SpecProblem(key, "belongs to a `command`, and this spec names a workload")
        return
    if spec.workload != COMMAND:
        message = "a spec has a `workload` or a `command`, not both"
        yield SpecProblem("workload", message, shown(spec.workload))
    yield from _place_problems(spec)
    folder = Path(spec.working_dir or ".").expanduser()
    script = next((word for word in spec.command if word.endswith(".py")), None)
    if not folder.is_dir():
        yield SpecProblem("working_dir", "there is no such folder", shown(spec.working_dir))
    elif script is not None and not _PLACE.search(script) and not (folder / script).is_file():
        message = f"there is no file {script} in {folder.resolve()}: set `working_dir`?"
        yield SpecProblem("command", message, shown(" ".join(spec.command)))


def _place_problems(spec: SweepSpec) -> Iterator[SpecProblem]:
    assert spec.command is not None
    known = dict.fromkeys([*spec.factors, *spec.fixed, *GIVEN])
    texts = {f"command[{i}]": word for i, word in enumerate(spec.command)}
    texts |= {f"env.{name}": text for name, text in spec.env.items()}
    used = {name for text in texts.values() for name in _PLACE.findall(text)}
    for key, text in texts.items():
        for name in _PLACE.findall(text):
            if name not in known:
                message = (
                    f"{{{name}}} is not a factor or fixed setting. Known are: {listed(known)}."
                )
                yield SpecProblem(key, message, shown(text), nearest(name, known))
    for name in spec.factors:
        if name not in used:
            message = f"the command never uses it: write {{{name}}} where the script takes it"
            yield SpecProblem(f"factors.{name}", message)
    if "epochs" in used and "epochs" not in spec.fixed and "epochs" not in spec.factors:
        message = "the command uses {epochs}: give their number, as in `fixed: {epochs: 20}`"
        yield SpecProblem("fixed.epochs", message)


def _factor(name: str, levels: tuple[Scalar, ...] | RangeSpec) -> Factor:
    if isinstance(levels, RangeSpec):
        return Factor(name, (levels.low,), "", low=levels.low, high=levels.high, log=levels.log)
    return Factor(name, levels or ("",), "")


def _written(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _not_here(config: Config, context: Context) -> Iterator[Row]:
    raise AssertionError(f"a command is run by execution.command, not here: {config}, {context}")
