"""Check that a workload keeps its contract, by training it.

Everything runs on the CPU in this process, seeded as a real trial. `small` should make a run last
seconds: every level of every factor is trained once.
"""

import math
from collections.abc import Collection, Sequence

from sickbay.trials.conformance.constant import check_constant
from sickbay.trials.conformance.dry_run import Rehearsal, context_for, difference_of, rehearse
from sickbay.trials.conformance.report import ConformanceError, ConformanceReport
from sickbay.trials.contract import Config, Factor, Row, Scalar, TaskFacts, Workload
from sickbay.trials.seeding import seed_everything
from sickbay.trials.spec.shape import RESERVED

SEED, OTHER_SEED = 0, 1


def check_workload(
    workload: Workload,
    small: Config | None = None,
    *,
    levels: bool | Collection[str] = True,
    blind: Config | None = None,
    balances: Sequence[Config] = (),
) -> ConformanceReport:
    """Check all that the contract asks of a workload; raises ConformanceError at the first flaw.

    `small` overrides settings so that a run is short (two epochs or more, to check restoring).
    `levels` are the factors whose levels must change something: all, none, or those named. `blind`
    holds settings that hide the inputs from the model, with epochs enough to learn the best
    constant: it must never be healthy or beat the floor, whatever the classes' shares, which
    `balances` change.
    """
    config = _settings(workload, small or {})
    checked = [_check_declaration(workload)]
    straight = rehearse(workload, config, SEED)
    rows = straight.rows
    checked.append(_check_rows(workload, rows, int(config["epochs"])))
    checked.append(_check_close(workload, config))
    checked.append(_check_facts(workload, straight.facts, rows))
    checked.append(_check_seeds(workload, config, rows))
    checked.append(_check_restore(workload, config, straight))
    wanted = (
        levels if not isinstance(levels, bool) else [f.name for f in workload.factors if levels]
    )
    checked.extend(
        _check_factor(workload, config, factor, rows)
        for factor in workload.factors
        if factor.name in wanted
    )
    if blind is not None:
        checked.append(check_constant(workload, {**config, **blind}, balances))
    return ConformanceReport(workload.name, tuple(checked))


def _check_declaration(workload: Workload) -> str:
    """Check the declarations, without running anything."""
    name = workload.name
    if not workload.version or not workload.doc:
        raise ConformanceError(f"{name}: version and doc must not be empty")
    epochs = workload.defaults.get("epochs")
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise ConformanceError(f"{name}: the default `epochs` must be at least 1, not {epochs!r}")
    for setting in workload.defaults:
        if setting.casefold() in RESERVED or not setting.isidentifier():
            raise ConformanceError(
                f"{name}: the setting {setting!r} is not an identifier, or names a result column"
            )
    for size, overlay in workload.sizes.items():
        if unknown := sorted(overlay.keys() - workload.defaults.keys()):
            raise ConformanceError(
                f"{name}: the size {size!r} sets {unknown}, which no default has"
            )
    for factor in workload.factors:
        _check_declared_factor(workload, factor)
    if len({factor.name for factor in workload.factors}) < len(workload.factors):
        raise ConformanceError(f"{name}: two factors have the same name")
    return f"{len(workload.defaults)} settings and {len(workload.factors)} factors are declared"


def _check_declared_factor(workload: Workload, factor: Factor) -> None:
    name = f"{workload.name}: the factor {factor.name!r}"
    if not factor.levels:
        raise ConformanceError(f"{name} has no levels")
    if len({(type(level), level) for level in factor.levels}) < len(factor.levels):
        raise ConformanceError(f"{name} has a level twice: {factor.levels}")
    if factor.name not in workload.defaults:
        raise ConformanceError(f"{name} is missing in the defaults")
    default = workload.defaults[factor.name]
    if default != factor.baseline or type(default) is not type(factor.baseline):
        raise ConformanceError(
            f"{name} has the baseline {factor.baseline!r}, but the default is {default!r}"
        )


def _check_rows(workload: Workload, rows: list[Row], epochs: int) -> str:
    name, signal = workload.name, workload.objective.signal
    if not rows:
        raise ConformanceError(f"{name} yields no row")
    for index, row in enumerate(rows):
        if not isinstance(row, Row):
            raise ConformanceError(f"{name} yields a {type(row).__name__}, not a Row")
        if index and row.epoch <= rows[index - 1].epoch:
            before = rows[index - 1].epoch
            raise ConformanceError(f"{name}: epoch {row.epoch} comes after epoch {before}")
        if index and row.step < rows[index - 1].step:
            before = rows[index - 1].step
            raise ConformanceError(f"{name}: step {row.step} comes after step {before}")
        for key, value in row.signals.items():
            _check_signal(name, key, value)
    if rows[-1].epoch > epochs:
        raise ConformanceError(f"{name} runs to epoch {rows[-1].epoch} instead of {epochs}")
    if not any(signal in row.signals for row in rows):
        recorded = ", ".join(sorted(rows[-1].signals))
        raise ConformanceError(f"{name} never records its objective {signal!r} (but: {recorded})")
    return f"{len(rows)} rows with ascending epochs record the objective {signal}"


def _check_signal(name: str, key: str, value: object) -> None:
    values = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(entry, int | float) for entry in values):
        kind = type(value).__name__
        raise ConformanceError(
            f"{name}: the signal {key!r} is a {kind}, not a number or a list of them"
        )
    if not key.isidentifier() or key != key.lower():
        raise ConformanceError(f"{name}: the signal {key!r} is not in snake_case")


def _check_facts(workload: Workload, facts: object, rows: list[Row]) -> str:
    name = workload.name
    if not isinstance(facts, TaskFacts):
        raise ConformanceError(f"{name}: facts() gives a {type(facts).__name__}, not TaskFacts")
    for key, value in {**facts.floors, **facts.n}.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise ConformanceError(f"{name}: the fact {key!r} is {value!r}, not a finite number")
    for row in rows:
        for key, vector in row.signals.items():
            if not key.startswith("group_") or not facts.groups:
                continue  # without names the probe's are taken
            size = len(vector) if isinstance(vector, list | tuple) else 1
            if size != len(facts.groups):
                raise ConformanceError(
                    f"{name}: {key!r} has {size} entries, but facts.groups has {len(facts.groups)}"
                )
    skill = f"with the floor {facts.floor_loss:.4g}" if facts.floor_loss else "without a floor loss"
    return f"the task's facts are well-formed, {skill}"


def _check_seeds(workload: Workload, config: Config, rows: list[Row]) -> str:
    again = rehearse(workload, config, SEED)
    if difference := difference_of(rows, again.rows):
        raise ConformanceError(f"{workload.name}: two runs with one seed differ: {difference}")
    other = rehearse(workload, config, OTHER_SEED)
    if not difference_of(rows, other.rows):
        raise ConformanceError(f"{workload.name}: another seed gives the same rows")
    return "equal seeds give bit-identical rows, different seeds different ones"


def _check_restore(workload: Workload, config: Config, straight: Rehearsal) -> str:
    """Compare a run restored in the middle with an uninterrupted run."""
    rows, kept = straight.rows, straight.checkpoints
    if not kept:
        return "it saves no checkpoint (a trial that loses its worker starts again)"
    if len(rows) < 2:
        return "restoring could not be checked with one row: give two epochs"
    middle = sorted(kept)[(len(kept) - 1) // 2]
    epoch = rows[middle - 1].epoch
    rest = rehearse(workload, config, SEED, restored=kept[middle])
    if difference := difference_of(rows[middle:], rest.rows):
        raise ConformanceError(
            f"{workload.name}: restored after epoch {epoch} it continues differently: {difference}"
        )
    return f"restored after epoch {epoch} it continues bit-identically"


def _check_close(workload: Workload, config: Config) -> str:
    """Stop after a row, as the runner does, which must end the generator."""
    with context_for(config, SEED) as context:
        seed_everything(SEED)
        running = workload.train(config, context)
        close = getattr(running, "close", None)
        if close is None:
            raise ConformanceError(
                f"{workload.name}: train() is not a generator, so it cannot be stopped"
            )
        next(running, None)
        try:
            close()
        except RuntimeError as error:  # "generator ignored GeneratorExit"
            raise ConformanceError(f"{workload.name} continues when stopped: {error}") from error
    return "it ends when it is stopped after a row"


def _check_factor(workload: Workload, config: Config, factor: Factor, rows: list[Row]) -> str:
    """Train every level: a factor without effect is the most common false ablation."""
    seen = [(config[factor.name], rows)]
    for level in factor.levels:
        if level == seen[0][0] and type(level) is type(seen[0][0]):
            continue
        what = f"{workload.name}: {factor.name}={level!r}"
        try:
            changed = rehearse(workload, {**config, factor.name: level}, SEED).rows
        except Exception as error:
            raise ConformanceError(f"{what} raises {type(error).__name__}: {error}") from error
        for other, others in seen:
            if not difference_of(others, changed):
                raise ConformanceError(
                    f"{what} gives the same rows as {factor.name}={other!r}: is the setting read?"
                )
        seen.append((level, changed))
    return f"each of the {len(factor.levels)} levels of {factor.name} changes something"


def _settings(workload: Workload, small: Config) -> dict[str, Scalar]:
    if unknown := sorted(small.keys() - workload.defaults.keys()):
        raise ConformanceError(f"{workload.name} has no setting {unknown}: see its defaults")
    size = str(small.get("size", workload.defaults.get("size", "")))
    return {**workload.defaults, **workload.sizes.get(size, {}), **small}
