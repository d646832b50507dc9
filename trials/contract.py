"""The vocabulary of Sickbay: trials, what they record, and how they are judged.

Values only, standard library only. Everything else in the house speaks in these words:

    Factor, Workload, Context   what is swept, what trains, what a training run is handed
    TrialConfig, Row, TaskFacts one planned trial, one evaluation, what is known about the task
    Finding, Label              what one detector says, what all of them together say
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

Scalar = bool | int | float | str
Config = Mapping[str, Scalar]

# Columns that `trials` always has. A factor is a column of its own beside them, so it may not bear
# one of these names.
TRIAL_COLUMNS = tuple(
    """
    sweep_id trial_id workload workload_version seed arm changed state label pathology
    onset_epoch reason remedy contributing coverage confidence objective best_objective
    epochs_planned epochs_run wall_seconds gpu_seconds device attempt started_at finished_at
    error failure online_pathology online_epoch audited facts config labeller_version label_hash
    code git_commit standing reference_arm
    """.split()
)


# Measured by the runner beside a trial's rows. They follow from the machine and its load, so no two
# runs of a trial agree in them: they enter no digest and no comparison of rows.
MACHINE_SIGNALS = (
    "step_seconds",
    "evaluation_seconds",
    "host_memory",
    "gpu_utilisation",
    "gpu_memory",
    "gpu_memory_total",
    "data_wait_share",
)


class Goal(StrEnum):
    """The direction in which an objective gets better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


class TaskKind(StrEnum):
    """The kind of task; detectors that do not apply to a kind say `not_applicable`."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"
    DENSITY = "density"
    DETECTION = "detection"
    UNKNOWN = "unknown"


class TrialState(StrEnum):
    """How the execution of a trial ended. Says nothing about its health."""

    COMPLETED = "completed"  # the workload came to its end
    STOPPED = "stopped"  # ended early because its pathology was certain
    PRUNED = "pruned"  # ended early by a scheduler, because others did better
    FAILED = "failed"  # an exception, or a worker that died too often
    CANCELLED = "cancelled"  # the sweep was cancelled while it ran


class FindingState(StrEnum):
    """The state of a finding. The last three are never treated as `clear`."""

    FIRED = "fired"
    SUSPECT = "suspect"
    CLEAR = "clear"
    INSUFFICIENT_EVIDENCE = "insufficient_evidence"
    MISSING_SIGNAL = "missing_signal"
    NOT_APPLICABLE = "not_applicable"


class Severity(StrEnum):
    """How bad a fired finding is. Only `fatal` makes a trial pathological."""

    INFO = "info"
    WARNING = "warning"
    FATAL = "fatal"


class Health(StrEnum):
    """The verdict on a trial."""

    HEALTHY = "healthy"
    PATHOLOGICAL = "pathological"
    INCONCLUSIVE = "inconclusive"


def label_stands(state: str, label: str | None) -> bool:
    """Whether a trial that ended in this state may have this label.

    A failed or cancelled trial has none. A pruned trial has one only if it is pathological: it was
    ended too early to say whether it would have become healthy.
    """
    if state == TrialState.PRUNED:
        return label == Health.PATHOLOGICAL
    return state not in (TrialState.FAILED, TrialState.CANCELLED)


@dataclass(frozen=True)
class Factor:
    """One training choice and the levels it may take; `levels[0]` is the baseline.

    A numeric factor may also declare a range (`low`, `high`, `log`): then any number inside is
    allowed and `levels` are the values worth showing first.
    """

    name: str
    levels: tuple[Scalar, ...]
    doc: str = ""
    low: float | None = None
    high: float | None = None
    log: bool = False

    @property
    def baseline(self) -> Scalar:
        """The level that the others are compared with."""
        return self.levels[0]


@dataclass(frozen=True)
class Objective:
    """The signal by which trials are compared, and the direction that is better."""

    signal: str
    goal: Goal


@dataclass(frozen=True)
class Resources:
    """Resources of one trial: CPU cores, GPUs (a fraction shares one), GPU memory in GiB."""

    cpu: float = 1.0
    gpu: float = 0.0
    gpu_memory: float | None = None


@dataclass(frozen=True)
class ReferenceLine:
    """A reference value in closed form for a signal's curve.

    `text` says in words what the value means, `name` is short and the same in every trial
    (`floor`, `collapse`, `q_star`), `formula` is where the value comes from, on one line.
    """

    signal: str
    value: float
    text: str
    name: str = ""
    formula: str = ""


@dataclass(frozen=True)
class TaskFacts:
    """What is known about a task before training: never anything about the configuration.

    `floors` maps a signal to the value that the best constant predictor reaches in it, under the
    very loss that is trained (class weights included); `floors["val_loss"]` is H0 of the detectors.
    For a mixture, `floors["val_density_kl"]` is that of the best *single* component.
    `n` maps a split (`train`, `val`) to its number of samples. `bounds` maps a signal to the range
    it was declared to stay in. `groups` names the parameter groups, in the order of the `group_*`
    vectors. `loss_minimum` is the least value that the loss can take, if one is known.
    """

    kind: TaskKind = TaskKind.UNKNOWN
    floors: Mapping[str, float] = field(default_factory=dict)
    class_counts: tuple[int, ...] = ()
    n: Mapping[str, int] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    components: int | None = None
    loss_minimum: float | None = None
    reference_lines: tuple[ReferenceLine, ...] = ()

    @classmethod
    def of(cls, loss: object, targets: object, **options: object) -> "TaskFacts":
        """Facts from a loss and the validation targets: its kind, class counts, and the floor.

        `loss` is a torch module, a name ("cross_entropy", "bce", "focal", "mse", "l1", "huber",
        "nll") or a function; the `options` (`weights`, `smoothing`, `gamma`, `delta`, `classes`,
        `train_targets`) are those of `sickbay.trials.probes.facts.facts_of`, which needs torch.
        """
        from sickbay.trials.probes.facts import facts_of  # noqa: PLC0415  torch, only if called

        return facts_of(loss, targets, **options)  # type: ignore[arg-type]

    @property
    def floor_loss(self) -> float | None:
        """H0: the validation loss of the best constant predictor, or None if it is not known."""
        return self.floors.get("val_loss")


@dataclass(frozen=True)
class TrialConfig:
    """One planned trial. `trial_id` is a hash of its content, so equal trials are the same trial.

    `config` holds every setting, defaults included; `changed` names the factors whose level is not
    the baseline's.
    """

    trial_id: str
    workload: str
    config: Config
    seed: int
    epochs: int
    changed: tuple[str, ...] = ()


SignalValue = float | Sequence[float]


@dataclass(frozen=True)
class Row:
    """One evaluation: signals measured after `epoch`. NaN and infinity are legal values."""

    epoch: int
    step: int
    signals: Mapping[str, SignalValue]


@dataclass(frozen=True)
class Context:
    """What a training run gets besides its configuration.

    `threads` are the CPU threads that the trial may use, as `resources.cpu` has it.
    `restore()` gives back the bytes of the last kept checkpoint, or None. `save(make)` offers one:
    call it just before yielding a row; `make` is called, while the generator waits at that row,
    only if a checkpoint is due, and must return the bytes from which the run goes on after it.
    """

    seed: int
    epochs: int
    device: str
    workdir: str
    restore: Callable[[], bytes | None]
    save: Callable[[Callable[[], bytes]], None]
    threads: int = 1


Train = Callable[[Config, Context], Iterator[Row]]


def no_facts(config: Config, context: Context) -> TaskFacts:
    """Nothing is known about the task; so skill cannot be proven, and no trial is healthy."""
    del config, context
    return TaskFacts()


def no_data_identity(config: Config) -> str:
    """The data follow from the workload's version and configuration alone."""
    del config
    return ""


@dataclass(frozen=True)
class Workload:
    """A system that can be trained: a generator of rows, and what a sweep needs to know about it.

    `defaults` holds every setting that `train` reads, `epochs` included. `sizes` overlays them by
    the value of the setting `size`. `facts` is called once a trial, before training.
    `data_identity` names the data behind a configuration where the version does not (files on
    disk): it enters the trial's id. So does `code`, the hash of the training code, which the
    registry sets; it is empty where the version says it all, as for the built-in workloads.
    """

    name: str
    version: str
    doc: str
    defaults: Config
    factors: tuple[Factor, ...]
    objective: Objective
    train: Train
    facts: Callable[[Config, Context], TaskFacts] = no_facts
    data_identity: Callable[[Config], str] = no_data_identity
    sizes: Mapping[str, Config] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    code: str = ""

    def factor(self, name: str) -> Factor | None:
        """Find a factor by its name; None if there is none."""
        return next((factor for factor in self.factors if factor.name == name), None)


@dataclass(frozen=True)
class Finding:
    """What one detector says about one history.

    `onset_epoch` is when the pathology began, `statistic` and `threshold` are the two numbers that
    were compared, `confidence` is the probability with which the detector stands by its state.
    `reason` is a sentence with the numbers in it; `remedy` says what to change.
    """

    detector: str
    detector_version: str
    state: FindingState
    severity: Severity
    reason: str
    onset_epoch: int | None = None
    statistic: float | None = None
    threshold: float | None = None
    confidence: float | None = None
    remedy: str = ""
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Label:
    """The verdict on one trial: its health, the primary cause, and contributing findings.

    `reason` is a sentence for a person, `contributing` are fired detectors that the primary cause
    explains or stands beside, `coverage` is the share of applicable fatal detectors that could
    judge, `confidence` the calibrated probability that the verdict is right (None: inconclusive).
    """

    health: Health
    reason: str
    pathology: str | None = None
    onset_epoch: int | None = None
    remedy: str = ""
    contributing: tuple[str, ...] = ()
    coverage: float = 0.0
    labeller_version: str = ""
    label_hash: str = ""
    confidence: float | None = None
