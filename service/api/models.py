"""The bodies of the API, as OpenAPI shows them. NaN and infinity are strings in all of them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sickbay.service.external_logs.options import (
    LogOptions,
    parse_classes,
    parse_floors,
    parse_names,
    parse_task,
)

Number = float | str | None  # "NaN", "Infinity", "-Infinity"


class Answer(BaseModel):
    """A response; fields beyond the declared ones are passed on unchanged."""

    model_config = ConfigDict(extra="allow", ser_json_inf_nan="strings")


class Sweep(Answer):
    """A sweep and its progress."""

    sweep_id: str
    name: str
    state: str
    workload: str
    design: str
    planned: int
    ended: int
    states: dict[str, int]
    labels: dict[str, int]
    verdicts: dict[str, int]
    pathologies: dict[str, int]
    failures: dict[str, int]


class Sweeps(Answer):
    """A page of sweeps."""

    sweeps: list[Sweep]
    total: int
    offset: int


class TrialRow(Answer):
    """An ended trial; every factor of the sweep is a field beside these."""

    trial_id: str
    sweep_id: str
    seed: int
    arm: str
    state: str
    label: str | None
    pathology: str | None
    onset_epoch: int | None
    objective: Number


class Trials(Answer):
    """A page of trials."""

    trials: list[TrialRow]
    total: int
    offset: int


class Trial(Answer):
    """A trial with its findings, labels and fixes."""

    trial: TrialRow
    factors: dict[str, Any]
    findings: list[dict[str, Any]]
    labels: list[dict[str, Any]]


class Epochs(Answer):
    """A page of evaluations: a signal is a number, a string for NaN or infinity, or a list."""

    epochs: list[dict[str, Any]]
    total: int
    offset: int


class Findings(Answer):
    """The findings on a trial."""

    findings: list[dict[str, Any]]
    total: int
    offset: int


class SqlBody(BaseModel):
    """One SELECT."""

    sql: Annotated[str, Field(min_length=1, max_length=100_000)]


class SqlAnswer(Answer):
    """Rows as lists, in the order of the columns."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    truncated: bool
    problems: list[str]


MOST = 10**12  # of what is counted in a training log
Count = Annotated[int, Field(ge=-MOST, le=MOST)]


class DiagnoseBody(BaseModel):
    """A training log as text (CSV, JSON lines, JSON), and what is known about the task."""

    model_config = ConfigDict(extra="forbid")

    log: Annotated[str, Field(min_length=1)]
    map: dict[str, str] = {}
    task: str | None = None
    classes: list[Count] = []
    floor: list[str] = []
    val_n: Annotated[int, Field(ge=1, le=MOST)] | None = None
    epochs: Annotated[int, Field(ge=1, le=MOST)] | None = None
    components: Annotated[int, Field(ge=2, le=MOST)] | None = None
    running: bool = False
    run: str | None = None

    def options(self) -> LogOptions:
        """The options as values; raises ValueError as the command line does."""
        return LogOptions(
            names=parse_names([f"{mine}={signal}" for mine, signal in self.map.items()]),
            task=parse_task(self.task),
            classes=parse_classes(",".join(map(str, self.classes)) if self.classes else None),
            floors=parse_floors(self.floor),
            val_n=self.val_n,
            epochs=self.epochs,
            components=self.components,
            running=self.running,
            run=self.run,
        )


class Judged(Answer):
    """The verdict on an external log, and the evidence for it."""

    label: str
    pathology: str | None
    reason: str
    coverage: Number
    contributions: list[dict[str, Any]]


class Submitted(Answer):
    """A sweep that was accepted."""

    sweep_id: str
    state: str
    planned: int
    missing: int


class Asked(Answer):
    """The request made of a sweep."""

    sweep_id: str
    asked: str
