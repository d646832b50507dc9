"""The tasks as ordinary workloads: `docs.tools.corpus.workloads:CNN`.

A run is a task, a fault (or none), a variant (or none) and a seed.
"""

from collections.abc import Iterator, Mapping

from docs.tools.corpus.faults import faults_of
from docs.tools.corpus.hard import VARIANTS
from docs.tools.corpus.tasks import (
    classes,
    images,
    language,
    losses,
    numbers,
    pairs,
    series,
    sets,
    shared,
    tables,
    text,
    tuning,
)
from docs.tools.corpus.training.loop import facts_of, run
from docs.tools.corpus.training.settings import Settings, replaced
from docs.tools.corpus.training.task import Task
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

NONE = "none"


def settings_of(task: Task, config: Config, seed: int) -> Settings:
    """Return a task's settings for a seed, with those of the variant and of the fault laid over."""
    variants = {NONE: {}, **VARIANTS.get(task.name, {})}
    faults = {NONE: {}, **faults_of(task.name)}
    settings = replaced(task.vary(task.settings, seed), variants[str(config["variant"])])
    return replaced(settings, faults[str(config["fault"])])


def workload(task: Task) -> Workload:
    """Wrap a task: its faults and variants are factors."""

    def train(config: Config, context: Context) -> Iterator[Row]:
        return run(task, settings_of(task, config, context.seed), context)

    def facts(config: Config, context: Context) -> TaskFacts:
        return facts_of(task, settings_of(task, config, context.seed), context)

    return Workload(
        name=f"corpus_{task.name}",
        version="1",
        doc=f"A small task of the fault corpus: {task.name}.",
        defaults={"epochs": task.epochs, "fault": NONE, "variant": NONE},
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
        classes.TABULAR_20,
        classes.TABULAR_200,
        classes.CNN,
        classes.SEQUENCE,
        numbers.REGRESSION,
        numbers.MIXTURE,
        numbers.VAE,
        shared.SHARED,
        shared.WEIGHT_MAP,
        language.LANGUAGE,
        language.TAGGING,
        text.TEXT,
        text.MULTILABEL,
        images.DIGITS,
        images.SEGMENTATION,
        pairs.PAIRS,
        series.SERIES,
        series.LIKELIHOOD,
        tables.MISSING,
        tables.PARITY,
        tables.FAINT,
        sets.GRAPHS,
        losses.COUNTS,
        losses.HEAVY_TAILS,
        losses.HINGE,
        losses.DISTILLED,
        losses.LONG_TAIL,
        losses.DENOISING,
        tuning.FINE_TUNED,
        sets.POINT_SETS,
        sets.CHOICES,
        pairs.RATINGS,
        series.EVENTS,
        tables.GRADES,
        tables.QUANTILES,
        tables.LIFETIMES,
        pairs.DUELS,
        images.FIELD,
        classes.MANY_CLASSES,
        numbers.POSES,
        losses.CLAIMS,
        losses.BANDIT,
        series.FORECAST,
        pairs.TRIPLETS,
        pairs.LINKS,
        series.ALIGNMENTS,
        numbers.DIFFUSION,
        language.COPYING,
        images.FRAMES,
    )
}


def __getattr__(name: str) -> Workload:
    """A workload by the name of its task in capitals: `workloads:CNN`."""
    if name.lower() not in TASKS:
        raise AttributeError(name)
    return workload(TASKS[name.lower()])
