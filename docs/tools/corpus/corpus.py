"""The corpus as one file: a row a run, its outcome on the hidden split, its history as flat lists.

Numbers are float32; all but losses and counts keep 12 bits of their fraction, which halves the file
and is far below any margin. Zeros, NaN and infinities stay what they are.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from docs.tools.corpus.faults import HELD_OUT, operator_of
from docs.tools.corpus.operators import Operator
from sickbay.trials.contract import Row, SignalValue, TaskFacts
from sickbay.trials.history import History, facts_from_json, facts_to_json
from sickbay.trials.store import open_store
from sickbay.trials.store.reader import StoredTrial, iter_histories, list_sweeps

CORPUS = Path(__file__).parent / "corpus.parquet"
HIDDEN = "hidden_"
OUTCOMES = ("score", "lower", "finite")
FIXED = ("task", "fault", "variant", "seed", *OUTCOMES)
EXACT = ("train_loss", "val_loss", "train_loss_steps", "val_confusion", "train_loss_se")
SPARSE = ("label_flip_rate", "label_flip_n", "target_change")  # not recorded in the first epoch
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Case:
    """One run: what it was, how it came out where nobody looked, and what detectors may see."""

    task: str
    fault: str
    variant: str
    seed: int
    score: float
    lower: float
    finite: bool
    history: History

    @property
    def kind(self) -> str:
        """`fault`, `hard` or `control`."""
        return "fault" if self.fault != "none" else "hard" if self.variant != "none" else "control"

    @property
    def held_out(self) -> bool:
        """Whether the task was kept from the choice of thresholds."""
        return self.task in HELD_OUT

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What it is, for tables."""
        return (self.task, self.fault, self.variant, self.seed)

    @property
    def operator(self) -> tuple[Operator, int] | None:
        """The fault operator and its strength."""
        return operator_of(self.fault) if self.fault != "none" else None


def collect(store: Path, path: Path = CORPUS) -> int:
    """Write what a store holds of the corpus to one file; return the number of runs.

    Runs that the file has and the store lacks stay: a store may hold the tasks that changed alone.
    """
    opened = open_store(str(store))
    stored: list[StoredTrial] = []
    for sweep in list_sweeps(opened):
        stored += [
            trial
            for trial in iter_histories(opened, sweep.sweep_id)
            if trial.row["state"] == "completed"
        ]
    cases = {case.key: case for case in read(path)} if path.exists() else {}
    cases |= {case.key: case for case in map(case_of, stored)}
    write(cases.values(), path)
    return len(cases)


def case_of(stored: StoredTrial) -> Case:
    """Part a stored trial into its outcome and a history without it."""
    last = stored.history.rows()[-1].signals
    rows = [
        Row(row.epoch, row.step, {n: v for n, v in row.signals.items() if not n.startswith(HIDDEN)})
        for row in stored.history.rows()
    ]
    old = stored.history
    score, lower, finite = (float(last[HIDDEN + name]) for name in OUTCOMES)
    return Case(
        task=stored.row["workload"].rpartition(":")[2].lower(),
        fault=stored.row["fault"],
        variant=stored.row["variant"],
        seed=int(stored.row["seed"]),
        score=score,
        lower=lower,
        finite=finite > 0.5,
        history=History(rows, old.facts, old.epochs_planned, finished=True),
    )


def write(cases: Iterable[Case], path: Path) -> None:
    """Write cases, sorted by what they are, as Parquet."""
    cases = sorted(cases, key=lambda case: case.key)
    names = sorted({name for case in cases for name in case.history.names})
    columns: dict[str, Any] = {
        "task": [case.task for case in cases],
        "fault": [case.fault for case in cases],
        "variant": [case.variant for case in cases],
        "seed": [case.seed for case in cases],
        "score": [case.score for case in cases],
        "lower": [case.lower for case in cases],
        "finite": [case.finite for case in cases],
        "facts": [facts_to_json(case.history.facts) for case in cases],
        "steps": [case.history.steps.tolist() for case in cases],
        "planned": [case.history.epochs_planned for case in cases],
    }
    values = {
        name: pa.array([_flat(case.history, name) for case in cases], pa.list_(pa.float32()))
        for name in names
    }
    table = pa.table({**columns, **values})
    split = [f"{name}.list.element" for name in names]
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        row_group_size=400,
        use_dictionary=["task", "fault", "variant", "facts"],
        use_byte_stream_split=split,
    )


def read(
    path: Path = CORPUS, tasks: Sequence[str] | None = None, seeds: Sequence[int] | None = None
) -> Iterator[Case]:
    """Read cases back, of all or of these tasks and seeds, sorted by what they are."""
    filters = [
        (name, "in", list(wanted))
        for name, wanted in (("task", tasks), ("seed", seeds))
        if wanted is not None
    ]
    table = pq.read_table(_there(path), filters=filters or None)
    for batch in table.to_batches(max_chunksize=256):
        for row in batch.to_pylist():
            steps = row.pop("steps")
            facts = facts_from_json(row.pop("facts"))
            planned = row.pop("planned")
            known = {name: row.pop(name) for name in FIXED}
            rows = _rows(steps, row)
            yield Case(**known, history=History(rows, facts, planned, finished=True))


def outcomes(path: Path = CORPUS) -> list[Case]:
    """Read what every case was and came to, without its history: quick."""
    nothing = History([], TaskFacts(), 0, finished=True)
    rows = pq.read_table(_there(path), columns=list(FIXED)).to_pylist()
    return [Case(**row, history=nothing) for row in rows]


def _there(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: `make corpus` generates it (about two hours on one core)"
        )
    return path


def _rows(steps: list[int], signals: dict[str, list[float] | None]) -> list[Row]:
    n = len(steps)
    parts = {name: np.asarray(v, np.float64).reshape(n, -1) for name, v in signals.items() if v}
    rows = []
    for index, step in enumerate(steps):
        recorded: dict[str, SignalValue] = {}
        for name, values in parts.items():
            entry = values[index].tolist()
            if name in SPARSE and entry[0] != entry[0]:
                continue
            recorded[name] = entry if len(entry) > 1 else entry[0]
        rows.append(Row(index + 1, step, recorded))
    return rows


def _flat(history: History, name: str) -> list[float] | None:
    if not history.has(name):
        return None
    values = history.vectors(name)
    finite = np.isfinite(values)
    values = np.where(finite, np.clip(values, -LARGEST, LARGEST), values).astype(np.float32)
    if name not in EXACT:
        bits = values.view(np.uint32)
        rounded = ((bits + np.uint32(0x400)) & np.uint32(0xFFFFF800)).view(np.float32)
        values = np.where(finite & np.isfinite(rounded), rounded, values)
    return values.ravel().tolist()
