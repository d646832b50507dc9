"""SweepSpec: the fields of a sweep spec, their defaults, and the values allowed in each.

Error messages quote the fields' docstrings.
"""

import hashlib
import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
)

from sickbay.trials.contract import Scalar, TaskKind

MAX_SEEDS = 100_000
LARGEST_SEED = 2**32 - 1  # what numpy's and torch's generators both take

# The designs that list their trials, and the searches, which draw one configuration after another.
PLANNED = ("grid", "one_factor", "leave_one_out", "add_one_in", "leave_k_out", "fractional")
SEARCHES = ("random", "tpe", "gp", "cmaes", "nsga2", "boundary")
DESIGNS = (*PLANNED, *SEARCHES)
SCHEDULERS = ("none", "asha", "hyperband", "median")
ROMAN = {"III": 3, "IV": 4, "V": 5, "VI": 6}


def _scalar(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("infinity and NaN cannot be levels")
    if not isinstance(value, bool | int | float | str):
        raise ValueError("not a scalar")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _as_names(value: object) -> object:
    """Turn one name into a list of one."""
    return (value,) if isinstance(value, str) else _as_tuple(value)


def _as_words(value: object) -> object:
    """Split a command as a shell splits words; ValueError for a quote that is never closed."""
    return tuple(shlex.split(value)) if isinstance(value, str) else _as_tuple(value)


def _as_seeds(value: object) -> object:
    """Turn a count into the seeds 0 … n-1."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MAX_SEEDS:
            raise ValueError("out of range")
        return tuple(range(value))
    return _as_tuple(value)


def _as_resolution(value: object) -> object:
    return ROMAN.get(value.upper(), value) if isinstance(value, str) else value


def _is_list(value: object) -> str:
    return "several" if isinstance(value, list | tuple) else "one"


def _kind_of_seeds(value: object) -> str:
    if isinstance(value, SequentialSeeds):
        return "sequential"
    if isinstance(value, Mapping) and {"until", "at_most", "smallest_effect"} & value.keys():
        return "sequential"
    return "confirmed" if isinstance(value, Mapping | ConfirmedSeeds) else "listed"


def _is_range(value: object) -> str:
    return "range" if isinstance(value, Mapping | BaseModel) else "levels"


class _Model(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )


Level = Annotated[Scalar, BeforeValidator(_scalar)]
Levels = Annotated[tuple[Level, ...], BeforeValidator(_as_tuple)]
Words = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
KINDS = tuple(kind.value for kind in TaskKind if kind is not TaskKind.UNKNOWN)
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]


class RangeSpec(_Model):
    """An interval that an adaptive design draws from."""

    low: float = Field(allow_inf_nan=False)
    """a number"""
    high: float = Field(allow_inf_nan=False)
    """a number above `low`"""
    log: bool = False
    """true or false: draw on a log scale"""


class ObjectiveSpec(_Model):
    """The signal that trials are compared by."""

    signal: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """the name of a signal that the workload records, such as val_loss"""
    goal: Literal["minimize", "maximize"]
    """minimize or maximize"""
    also: Annotated[tuple["ObjectiveSpec", ...], BeforeValidator(_as_tuple)] = ()
    """further mappings {signal, goal}, for a search of several"""


def _first_and_rest(value: object) -> object:
    """Split a list of objectives into the first, by which trials are compared, and the others."""
    if not isinstance(value, tuple):
        return value
    if not value:
        raise ValueError("no objective")
    return value[0].model_copy(update={"also": value[1:]})


_Objectives = Annotated[
    Annotated[ObjectiveSpec, Tag("one")]
    | Annotated[Annotated[tuple[ObjectiveSpec, ...], BeforeValidator(_as_tuple)], Tag("several")],
    Discriminator(_is_list),
    AfterValidator(_first_and_rest),
]


class _OneOrSeveral:
    """Lets a field that holds one objective be written as a list of them."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: Any) -> Any:
        return handler.generate_schema(_Objectives)


class SequentialSeeds(_Model):
    """Sequential seeds: added until the verdict on every arm is settled."""

    until: Literal["resolved"]
    """resolved"""
    at_most: int = Field(ge=3, le=100)
    """a whole number from 3 to 100: the most seeds of an arm"""
    smallest_effect: Positive | None = None
    """the smallest difference of the objective that matters, above 0, or null"""
    block: int = Field(default=1, ge=1, le=100)
    """a whole number from 1 to 100: seeds added at a time"""


class ConfirmedSeeds(_Model):
    """Seeds of a search: few for each configuration, fresh ones for the best."""

    search: int = Field(default=1, ge=1, le=1000)
    """a whole number of seeds from 1 on, while searching"""
    confirm: int = Field(ge=1, le=1000)
    """a whole number from 1 on: fresh seeds for each of the best"""
    top: int = Field(default=3, ge=1, le=100)
    """a whole number from 1 on: how many are confirmed"""

    @property
    def fresh(self) -> tuple[int, ...]:
        """The seeds of the confirmation, none of which chose a winner."""
        return tuple(range(self.search, self.search + self.confirm))

    @property
    def most_trials(self) -> int:
        """How many trials the confirmation takes: the winners', and the baseline's beside them."""
        return self.confirm * (self.top + 1)


class EarlyStopSpec(_Model):
    """When to end a trial before its last epoch."""

    pathology: bool = True
    """true or false: stop a trial whose pathology is certain"""
    audit: float = Field(default=0.05, ge=0, le=1)
    """a share from 0 to 1 of such trials that run on"""
    scheduler: str = "none"
    """none, asha, hyperband or median"""
    grace: int | None = Field(default=None, ge=1)
    """a whole number of evaluations, at least 1, before the scheduler may end a trial, or null
    for as many as the detectors need"""
    reduction: int = Field(default=3, ge=2, le=16)
    """a whole number from 2 to 16: asha and hyperband continue one trial in so many"""
    brackets: int = Field(default=3, ge=1, le=8)
    """a whole number from 1 to 8: the ladders of hyperband"""
    min_trials: int | None = Field(default=None, ge=1)
    """a whole number from 1 on: other trials that a trial is compared with at least, or null for
    3 (median) or 1"""
    percentile: float = Field(default=50.0, gt=0, lt=100)
    """a number between 0 and 100: the best share in % that median continues"""
    interval: int = Field(default=1, ge=1)
    """a whole number of evaluations between two decisions of median"""


class ResourcesSpec(_Model):
    """Resources of one trial."""

    cpu: Positive | None = None
    """a number of cores above 0, or null for the workload's own"""
    gpu: Literal["auto", "pack"] | Annotated[float, Field(ge=0, allow_inf_nan=False)] = "auto"
    """auto, pack, 0, a number of GPUs, or a fraction of one"""
    gpu_memory: Positive | None = None
    """GiB above 0, or null"""
    trial_hours: Positive | None = None
    """hours above 0, or null"""
    silence_minutes: Positive | None = None
    """minutes above 0, or null"""


class BudgetSpec(_Model):
    """Limits of the whole sweep; null is no limit. They must allow at least one trial."""

    trials: int | None = Field(default=None, ge=1)
    """a whole number of trials, at least 1, or null"""
    hours: float | None = Field(default=None, gt=0)
    """hours above 0, or null"""
    gpu_hours: float | None = Field(default=None, gt=0)
    """GPU hours above 0, or null"""


class FactsSpec(_Model):
    """Facts about the task of a script, as in the sidecar of a log."""

    task: str | None = Field(
        default=None, pattern=f"^({'|'.join(KINDS)})$", description=f"one of {', '.join(KINDS)}"
    )
    classes: Annotated[tuple[Count, ...], BeforeValidator(_as_tuple)] = ()
    """a list with the number of samples of each class"""
    floor: float | Literal["cross_entropy"] | dict[str, float | Literal["cross_entropy"]] | None = (
        None
    )
    """the loss of the best constant predictor: a number, cross_entropy, or a mapping of signals
    to either"""
    val_n: int | None = Field(default=None, ge=1)
    """the number of validation samples"""
    components: int | None = Field(default=None, ge=1)
    """the number of mixture components"""
    map: dict[str, str] = Field(default_factory=dict)
    """a mapping of the script's names to signals"""


LEVELS_OR_RANGE = "a list of levels, or a range {low, high, log}"


class SweepSpec(_Model):
    """A whole sweep. Frozen; factors, baseline and fixed are plain mappings, never modified."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """1 to 63 of a-z, 0-9 and -, beginning with a letter or digit"""
    workload: str = Field(
        min_length=1, description='the name of an installed workload, or "module:ATTRIBUTE"'
    )
    command: Annotated[tuple[str, ...], BeforeValidator(_as_words)] | None = Field(
        default=None, min_length=1
    )
    """what starts a training script, as one line or as a list of words"""
    facts: FactsSpec = Field(default_factory=FactsSpec)
    """a mapping {task, classes, floor, val_n, components, map}, only with a command"""
    metrics: Words = ()
    """a list of file patterns in the trial's folder, or stdout; only with a command"""
    env: dict[str, str] = Field(default_factory=dict)
    """a mapping of environment variables, only with a command"""
    working_dir: str = ""
    """a folder, only with a command"""
    description: str = ""
    """a text"""
    tags: Words = ()
    """a list of words"""
    design: str = "one_factor"
    """the name of a design"""
    factors: dict[
        str,
        Annotated[
            Annotated[Levels, Tag("levels")] | Annotated[RangeSpec, Tag("range")],
            Discriminator(_is_range),
        ],
    ] = Field(default_factory=dict, description=f"a mapping of factors to {LEVELS_OR_RANGE}")
    baseline: dict[str, Level] = Field(default_factory=dict)
    """a mapping of factors to the level they start from"""
    reference: dict[str, Level] = Field(default_factory=dict)
    """a mapping of factors to the level that effects are compared with"""
    smallest_effect: Positive | None = None
    """a number above 0, in the objective's unit, or null: smaller differences count as
    equivalent"""
    seeds: Annotated[
        Annotated[Annotated[tuple[Seed, ...], BeforeValidator(_as_seeds)], Tag("listed")]
        | Annotated[SequentialSeeds, Tag("sequential")]
        | Annotated[ConfirmedSeeds, Tag("confirmed")],
        Discriminator(_kind_of_seeds),
    ] = Field(
        default=(0, 1, 2),
        description=f"how many (1 to {MAX_SEEDS}), a list of whole numbers from 0 to 2^32 - 1, "
        "{until: resolved, at_most, smallest_effect}, or for a search {search, confirm, top}",
    )
    enqueue: Annotated[tuple[dict[str, Level], ...], BeforeValidator(_as_tuple)] = ()
    """a list of configurations, each a mapping of factors to a level, that a search tries first"""
    warm_start: Annotated[tuple[str, ...], BeforeValidator(_as_names)] = ()
    """the id or name of an earlier sweep of the same workload and store, or a list"""
    fixed: dict[str, Level] = Field(default_factory=dict)
    """a mapping of settings to the value they keep"""
    zip: Annotated[tuple[Words, ...], BeforeValidator(_as_tuple)] = ()
    """a list of groups, each a list of factors that change together"""
    constraints: Words = Field(
        default=(), description='a list of conditions such as "lr * momentum < 0.1"'
    )
    conditions: dict[str, dict[str, Levels]] = Field(default_factory=dict)
    """a mapping of factors to {other factor: the levels with which it matters}"""
    k: int = Field(default=2, ge=1)
    """a whole number of at least 1: how many leave_k_out leaves out"""
    resolution: Annotated[int, BeforeValidator(_as_resolution)] = Field(default=4, ge=3, le=6)
    """III, IV, V or VI (or 3 to 6), for fractional"""
    objective: Annotated[ObjectiveSpec, _OneOrSeveral] | None = None
    """a mapping {signal, goal}, a list of such, or null for the workload's own"""
    early_stop: EarlyStopSpec = Field(default_factory=EarlyStopSpec)
    """a mapping {pathology, audit, scheduler, grace, reduction, brackets, min_trials,
    percentile, interval}"""
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec)
    """a mapping {cpu, gpu, gpu_memory, trial_hours, silence_minutes}"""
    budget: BudgetSpec = Field(default_factory=BudgetSpec)
    """a mapping {trials, hours, gpu_hours}"""
    priority: int = Field(default=1, ge=1, le=100)
    """a whole number from 1 to 100: parts of the cluster"""
    sinks: Annotated[
        tuple[Literal["mlflow", "wandb", "tensorboard"], ...], BeforeValidator(_as_tuple)
    ] = ()
    """a list of mlflow, wandb, tensorboard"""
    code: str | None = None
    """the hash of the training code, as Sickbay stores it, or null"""
    retries: int = Field(default=2, ge=0, le=100)
    """a whole number from 0 to 100: retries of a lost trial"""

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds that an arm may have; for a search, those before the confirmation."""
        if isinstance(self.seeds, SequentialSeeds):
            return tuple(range(self.seeds.at_most))
        if isinstance(self.seeds, ConfirmedSeeds):
            return tuple(range(self.seeds.search))
        return self.seeds


def spec_to_json(spec: SweepSpec) -> str:
    """A spec as one line of JSON with sorted keys; `parse_spec` reads it back to an equal spec."""
    return json.dumps(spec.model_dump(), sort_keys=True, separators=(",", ":"))


def spec_hash(spec: SweepSpec) -> str:
    """Hash of a spec: the first 16 hex digits of the SHA-256 of its JSON."""
    return hashlib.sha256(spec_to_json(spec).encode()).hexdigest()[:16]


Source = str | bytes | Path | Mapping[str, Any]  # YAML or JSON text, a file, or the mapping itself
