"""`sickbay.sweep`: run a sweep from Python or a notebook, and have its results as tables.

sweep = sickbay.sweep({"name": "lr", "workload": WORKLOAD, "factors": {"lr": [0.1, 1.0]}})
sweep.trials                 # a DataFrame, one row a trial
sweep.effects()              # a DataFrame, one row a level
sweep.report()               # the report, shown inline by a notebook
"""

import html
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sickbay.service.query.engine import query, trials
from sickbay.service.query.lookup import SweepError, find_sweep, state_of
from sickbay.service.settings import settings
from sickbay.service.sweeps.prepare import Prepared, prepare
from sickbay.service.sweeps.runner import Options, run_prepared
from sickbay.trials.contract import Workload
from sickbay.trials.store import Store, open_store

if TYPE_CHECKING:  # a second that a script should not wait before it needs it
    import pandas as pd

SHOWN = ("trial_id", "arm", "seed", "state", "label", "pathology", "objective")
MAIN = "__main__"


def sweep(
    spec: "str | Path | Mapping[str, Any]",
    *,
    store: str | None = None,
    in_process: bool | None = None,
    cpus: int | None = None,
    trust_code: bool = False,
) -> "Sweep":
    """Run what is missing of a sweep and wait for it.

    `spec` is a file, YAML text or a mapping, whose `workload` may be the `Workload` itself. One
    defined in the notebook runs in this process, as Ray's workers cannot import it; any other on a
    local Ray with `cpus` cores unless `in_process`. Raises SpecError and SweepError before anything
    runs.
    """
    given = dict(spec) if isinstance(spec, Mapping) else spec
    if isinstance(given, dict) and isinstance(given.get("workload"), Workload):
        given["workload"] = _name_of(given["workload"])
    prepared = prepare(given, store or settings().store, trust_code=trust_code)
    here = _runs_here(prepared, in_process=in_process)
    _run(prepared, Options(settings().address, cpus, in_process=here))
    return Sweep(open_store(prepared.store.uri), prepared.sweep_id)


@dataclass(frozen=True)
class Report:
    """A report on disk, which notebooks show inline."""

    path: Path

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 40em; border: 0"></iframe>'


@dataclass(frozen=True)
class Sweep:
    """A stored sweep and its results; `Sweep.open(name)` finds an earlier one."""

    store: Store
    id: str

    @classmethod
    def open(cls, name: str, store: str | None = None) -> "Sweep":
        """Find a stored sweep by its id, its name or the beginning of either."""
        opened = open_store(store or settings().store, create=False)
        return cls(opened, find_sweep(opened, name).sweep_id)

    @property
    def state(self) -> str:
        """The state of the sweep: finished, stopped, failed, …."""
        return state_of(self.store, find_sweep(self.store, self.id))

    @property
    def trials(self) -> "pd.DataFrame":
        """The trials that have ended, one row each, factors as columns."""
        return _frame(trials(self.store, self.id))

    def query(self, sql: str) -> "pd.DataFrame":
        """Read-only SQL over this sweep's `trials`, `epochs` and `findings`."""
        return _frame(query(self.store, sql, sweep_ids=[self.id]))

    def effects(self) -> "pd.DataFrame":
        """The effect of each level against its baseline: paired difference, interval, health.

        `low` and `high` bound the difference with 95 %; NaN where too few pairs are healthy.
        """
        import pandas as pd  # noqa: PLC0415

        from sickbay.service.analysis.study import load_effects  # noqa: PLC0415  scipy is slow

        effects = load_effects(self.store, self.id).table.effects
        rows = [
            {
                "factor": effect.factor,
                "level": effect.level,
                "baseline": effect.baseline,
                "pairs": effect.pairs,
                "sound_pairs": effect.sound_pairs,
                "difference": effect.difference.mean,
                "low": effect.difference.low,
                "high": effect.difference.high,
                "p_holm": effect.p_holm,
                "verdict": str(effect.verdict),
                "health_p_holm": effect.health_p_holm,
                "health_verdict": str(effect.health_verdict),
                "conclusion": effect.conclusion,
                "healthy": effect.of_level.healthy,
                "trials": effect.of_level.trials,
                "baseline_healthy": effect.of_baseline.healthy,
                "baseline_trials": effect.of_baseline.trials,
            }
            for effect in effects
        ]
        return pd.DataFrame(rows)

    def report(self, path: "str | Path | None" = None) -> Report:
        """Write the HTML report, by default into the store; a notebook shows it."""
        from sickbay.service.reports.file import write_report  # noqa: PLC0415  draws pictures

        return Report(write_report(self.store, self.id, Path(path) if path is not None else None))

    def _repr_html_(self) -> str:
        table = self.trials
        kept = [name for name in SHOWN if name in table.columns]
        head = (
            f"<p><b>{html.escape(self.id)}</b>: {html.escape(self.state)}, {len(table)} trials</p>"
        )
        return head + str(table[kept].to_html(index=False, escape=True, na_rep=""))


def _frame(result: Any) -> "pd.DataFrame":
    frame: pd.DataFrame = result.table.to_pandas()
    return frame


def _name_of(workload: Workload) -> str:
    """Where a workload is defined, as "module:ATTRIBUTE"; SweepError if it is in no variable."""
    for module in (workload.train.__module__, MAIN):
        names = vars(sys.modules[module]) if module in sys.modules else {}
        for name, value in names.items():
            if value is workload:
                return f"{module}:{name}"
    raise SweepError(
        f"the workload {workload.name!r} stands in no variable of {workload.train.__module__}: "
        "assign it there, as in `WORKLOAD = Workload(…)`, so that workers can import it"
    )


def _runs_here(prepared: Prepared, *, in_process: bool | None) -> bool:
    """Whether trials run in this process: requested, or because only it has the workload."""
    module = prepared.spec.workload.partition(":")[0]
    if module == MAIN and in_process is False:
        raise SweepError(
            f"{prepared.spec.workload} is defined in this notebook or script, where Ray's workers "
            "cannot find it: put it into a module of its own, or run the sweep in this process"
        )
    return module == MAIN if in_process is None else in_process


def _run(prepared: Prepared, options: Options) -> None:
    if prepared.left == 0:
        return
    from rich.console import Console  # noqa: PLC0415

    from sickbay.service.sweeps.progress import ProgressView  # noqa: PLC0415

    planned = prepared.planned
    with ProgressView(
        Console(stderr=True, markup=False), planned, planned - prepared.left
    ) as progress:
        result = run_prepared(prepared, options, progress.see)
    if result.error:
        sys.stderr.write(f"sickbay: {result.error}\n")
    if result.note:
        sys.stderr.write(f"sickbay: {result.note}\n")
