"""The tasks as ordinary workloads: `docs.tools.corpus.workloads:CNN`.

A run is a task, a fault (or none), a variant (or none) and a seed.
"""

from collections.abc import Iterator, Mapping

from docs.tools.corpus import tasks_classes, tasks_numbers, tasks_shared
from docs.tools.corpus.faults import faults_of
from docs.tools.corpus.hard import VARIANTS
from docs.tools.corpus.loop import facts_of, run
from docs.tools.corpus.settings import Settings, replaced
from docs.tools.corpus.task import Task
from sickbay.trials.contract import (
    Config,
    Context,
    Factor,
    Goal,
    Objective,
    Row,
    TaskFacts,
    Workload,
)

EPOCHS = 40
NONE = "none"


def settings_of(task: Task, config: Config) -> Settings:
    """Return a task's settings with those of the variant and of the fault laid over."""
    variants = {NONE: {}, **VARIANTS.get(task.name, {})}
    faults = {NONE: {}, **faults_of(task.name)}
    settings = replaced(task.settings, variants[str(config["variant"])])
    return replaced(settings, faults[str(config["fault"])])


def workload(task: Task) -> Workload:
    """Wrap a task: its faults and variants are factors."""

    def train(config: Config, context: Context) -> Iterator[Row]:
        return run(task, settings_of(task, config), context)

    def facts(config: Config, context: Context) -> TaskFacts:
        return facts_of(task, settings_of(task, config), context)

    return Workload(
        name=f"corpus_{task.name}",
        version="1",
        doc=f"A small task of the fault corpus: {task.name}.",
        defaults={"epochs": EPOCHS, "fault": NONE, "variant": NONE},
        factors=(
            Factor("fault", (NONE, *faults_of(task.name)), "what was spoiled, and how badly"),
            Factor("variant", (NONE, *VARIANTS.get(task.name, {})), "a hard but healthy twin"),
        ),
        objective=Objective("val_loss", Goal.MINIMIZE),
        train=train,
        facts=facts,
    )


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        tasks_classes.TABULAR_20,
        tasks_classes.TABULAR_200,
        tasks_classes.CNN,
        tasks_classes.SEQUENCE,
        tasks_numbers.REGRESSION,
        tasks_numbers.MIXTURE,
        tasks_numbers.VAE,
        tasks_shared.SHARED,
        tasks_shared.WEIGHT_MAP,
    )
}
TABULAR_20 = workload(tasks_classes.TABULAR_20)
TABULAR_200 = workload(tasks_classes.TABULAR_200)
CNN = workload(tasks_classes.CNN)
SEQUENCE = workload(tasks_classes.SEQUENCE)
REGRESSION = workload(tasks_numbers.REGRESSION)
MIXTURE = workload(tasks_numbers.MIXTURE)
VAE = workload(tasks_numbers.VAE)
SHARED = workload(tasks_shared.SHARED)
WEIGHT_MAP = workload(tasks_shared.WEIGHT_MAP)
