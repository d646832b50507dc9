"""What a user knows about a log: flags, the sidecar `NAME.facts.yaml`, or a log's first line."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from sickbay.trials.contract import TaskKind
from sickbay.trials.logs.facts import CROSS_ENTROPY
from sickbay.trials.logs.signal_names import did_you_mean

SIDECAR = ".facts.yaml"
FLOOR_SIGNALS = ("val_loss", "train_loss", "val_density_kl")  # those whose floor detectors read


@dataclass(frozen=True)
class LogOptions:
    """What the user says about a log: names, the task, the floors, the planned length.

    `floors` maps a signal to the loss of the best constant predictor, as a number or as the word
    "cross_entropy", which asks for the entropy of `classes`. `running` says that the log still
    grows, so that no detector may judge its end. `run` chooses one run of several.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    task: TaskKind | None = None
    classes: tuple[int, ...] = ()
    floors: Mapping[str, float | str] = field(default_factory=dict)
    val_n: int | None = None
    epochs: int | None = None
    components: int | None = None
    running: bool = False
    run: str | None = None

    def over(self, below: "LogOptions") -> "LogOptions":
        """These options; those not set are taken from `below`."""
        return LogOptions(
            names={**below.names, **self.names},
            task=self.task or below.task,
            classes=self.classes or below.classes,
            floors={**below.floors, **self.floors},
            val_n=below.val_n if self.val_n is None else self.val_n,
            epochs=below.epochs if self.epochs is None else self.epochs,
            components=below.components if self.components is None else self.components,
            running=self.running or below.running,
            run=self.run or below.run,
        )


def parse_names(pairs: Sequence[str]) -> dict[str, str]:
    """Read `mine=val_loss` pairs; ValueError for anything else."""
    names = {}
    for pair in pairs:
        mine, sign, signal = pair.rpartition("=")
        if not sign or not mine or not signal:
            raise ValueError(f"--map {pair}: write it as mine=val_loss (or mine=- to leave it out)")
        names[mine] = signal
    return names


def parse_task(task: str | None) -> TaskKind | None:
    """Read a task's kind; ValueError lists the kinds."""
    kinds = [kind.value for kind in TaskKind]
    if task is None:
        return None
    if task not in kinds:
        raise ValueError(
            f"--task {task}: it is one of {', '.join(kinds)}{did_you_mean(task, kinds)}"
        )
    return TaskKind(task)


def parse_classes(text: str | None) -> tuple[int, ...]:
    """Read class counts `90,10`; ValueError for fewer than two, or for anything else."""
    if text is None:
        return ()
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = ()
    if len(counts) < 2 or min(counts) < 0 or sum(counts) == 0:
        raise ValueError(
            f"--classes {text}: give the samples of each class, separated by commas, as in 90,10"
        )
    return counts


def parse_floors(entries: Sequence[str]) -> dict[str, float | str]:
    """Read floors: `0.325`, `cross_entropy`, `val_density_kl=0.7`; ValueError for anything else."""
    floors: dict[str, float | str] = {}
    for entry in entries:
        signal, sign, value = entry.rpartition("=")
        name = signal if sign else "val_loss"
        if name not in FLOOR_SIGNALS:
            raise ValueError(
                f"--floor {entry}: no detector reads a floor of {name!r}"
                f"{did_you_mean(name, FLOOR_SIGNALS)}; it is one of {', '.join(FLOOR_SIGNALS)}"
            )
        if value == CROSS_ENTROPY:
            floors[name] = CROSS_ENTROPY
            continue
        try:
            floors[name] = float(value)
        except ValueError:
            floors[name] = math.nan
        if not math.isfinite(float(floors[name])):
            raise ValueError(
                f"--floor {entry}: give a number, {CROSS_ENTROPY}, or signal=number as in "
                "val_density_kl=0.7"
            )
    return floors


def parse_count(flag: str, value: Any, least: int = 1) -> int | None:
    """A whole number of at least `least`, or None for None; ValueError for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"--{flag} {value}: give a whole number of at least {least}")
    return value


def read_sidecar(path: Path) -> LogOptions:
    """The facts in a log's sidecar, `log.csv.facts.yaml` or `log.facts.yaml`; empty if absent.

    Raises ValueError with the file's name for a key that does not exist or a value of another kind.
    """
    for name in (path.name, path.stem):
        file = path.with_name(name + SIDECAR)
        if file.is_file():
            try:
                values = yaml.safe_load(file.read_text(encoding="utf-8"))
                return options_from(values or {})
            except (ValueError, yaml.YAMLError) as error:
                raise ValueError(f"{file}: {str(error).removeprefix('--')}") from error
    return LogOptions()


def options_from(values: Any) -> LogOptions:
    """Options from a mapping with the flags' names, as in a sidecar or a log's first line.

    `floor` is a number, the word cross_entropy, or a mapping of signals. Raises ValueError.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"expected a mapping such as `task: binary`, found {str(values)[:60]!r}")  # noqa: TRY004
    options = LogOptions()
    for key, value in values.items():
        read = _READERS.get(str(key))
        if read is None:
            raise ValueError(
                f"{key}: there is no such fact{did_you_mean(str(key), _READERS)}; there are "
                f"{', '.join(_READERS)}"
            )
        options = replace(options, **read(value))
    return options


def _names(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"map: give a mapping such as `my_column: val_loss`, not {value!r}")  # noqa: TRY004
    return {"names": parse_names([f"{mine}={signal}" for mine, signal in value.items()])}


def _classes(value: Any) -> dict[str, Any]:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return {"classes": parse_classes(text)}


def _floors(value: Any) -> dict[str, Any]:
    entries = [f"{k}={v}" for k, v in value.items()] if isinstance(value, Mapping) else [str(value)]
    return {"floors": parse_floors(entries)}


_READERS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "task": lambda value: {"task": parse_task(str(value))},
    "classes": _classes,
    "floor": _floors,
    "val_n": lambda value: {"val_n": parse_count("val-n", value)},
    "epochs": lambda value: {"epochs": parse_count("epochs", value)},
    "components": lambda value: {"components": parse_count("components", value, least=2)},
    "map": _names,
    "running": lambda value: {"running": bool(value)},
    "run": lambda value: {"run": str(value)},
}
FACT_NAMES = tuple(_READERS)
