"""SQL over a store: `trials`, `epochs`, `findings`, `labels`, `sweeps`, read-only and locked down.

The views `outcomes` (`trials` with how each came out) and `latest_outcomes` (each trial once, over
all sweeps) stand beside the tables. `query` answers in this process, or where `answered_by` says.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar

from sickbay.service.query.result import Cancel, Limits, QueryError, QueryResult, plain
from sickbay.trials.contract import Health
from sickbay.trials.store.files import Store

__all__ = [
    "Cancel",
    "Limits",
    "QueryError",
    "QueryResult",
    "answered_by",
    "counts",
    "epochs",
    "find_trial",
    "findings",
    "labels",
    "plain",
    "query",
    "trials",
]

# store, SQL, parameters, sweep ids, limits, cancel
Runner = Callable[[Store, str, Sequence[object], Sequence[str] | None, Limits, Cancel], QueryResult]
_runner: ContextVar[Runner | None] = ContextVar("runner", default=None)


@contextlib.contextmanager
def answered_by(runner: Runner) -> Iterator[None]:
    """Have `runner` answer every query of this context, and of threads that inherit it."""
    token = _runner.set(runner)
    try:
        yield
    finally:
        _runner.reset(token)


def query(
    store: Store,
    sql: str,
    parameters: Sequence[object] = (),
    *,
    sweep_ids: Sequence[str] | None = None,
    limits: Limits | None = None,
    cancel: Cancel | None = None,
) -> QueryResult:
    """Answer one SELECT over the tables of a store; `?` in it stands for a parameter.

    `sweep_ids` narrows the tables; `cancel` lets another thread end the query. Raises QueryError
    for wrong SQL, for any other statement, and beyond the limits; StoreError if the store cannot be
    read. A damaged file is left out and named in `problems`.
    """
    return (_runner.get() or _here)(
        store, sql, parameters, sweep_ids, limits or Limits(), cancel or Cancel()
    )


def trials(
    store: Store, sweep_id: str, *, label: str | None = None, where: str | None = None
) -> QueryResult:
    """List the ended trials of a sweep, by seed and arm.

    `label` is a health, `where` an SQL condition over the columns of `outcomes`. Raises QueryError
    if either is wrong.
    """
    if label is not None and label not in list(Health):
        raise QueryError(f"label: {label!r} is not a label. Allowed: {', '.join(Health)}")
    sql, parameters = "SELECT * FROM outcomes WHERE true", []
    if label is not None:
        sql, parameters = f"{sql} AND label = ?", [label]
    if where is not None:
        sql = f"{sql} AND (\n{where}\n)"  # lines of their own, in case it ends in a comment
    return query(store, f"{sql}\nORDER BY seed, arm, trial_id", parameters, sweep_ids=[sweep_id])


def counts(store: Store, sweep_id: str) -> QueryResult:
    """Count the ended trials of a sweep by state, label and pathology."""
    sql = "SELECT state, label, pathology, count(*) AS n FROM trials GROUP BY ALL ORDER BY ALL"
    return query(store, sql, sweep_ids=[sweep_id])


def findings(store: Store, sweep_id: str, trial_id: str | None = None) -> QueryResult:
    """List the findings by a trial's present labeller, fired first; by default on all trials."""
    sql = """
        SELECT f.* FROM findings f JOIN trials t USING (sweep_id, trial_id)
        WHERE trial_id = coalesce(?, trial_id)
          AND f.labeller_version IS NOT DISTINCT FROM t.labeller_version
        ORDER BY trial_id, f.state <> 'fired', f.state <> 'suspect', f.detector
    """
    return query(store, sql, [trial_id], sweep_ids=[sweep_id])


def epochs(store: Store, sweep_id: str, trial_id: str | None = None) -> QueryResult:
    """List the evaluations of a trial, even of a running one."""
    sql = "SELECT * FROM epochs WHERE trial_id = coalesce(?, trial_id) ORDER BY trial_id, epoch"
    return query(store, sql, [trial_id], sweep_ids=[sweep_id])


def labels(store: Store, sweep_id: str, trial_id: str | None = None) -> QueryResult:
    """List every label that a trial ever had, by labeller version."""
    sql = """
        SELECT * FROM labels WHERE trial_id = coalesce(?, trial_id)
        ORDER BY trial_id, labeller_version, label_hash
    """
    return query(store, sql, [trial_id], sweep_ids=[sweep_id])


def find_trial(store: Store, prefix: str) -> tuple[str, str]:
    """Find an ended trial by a prefix of its id: the sweep that ended it last, and its full id.

    Raises QueryError if no trial, or more than one, has an id that begins like this, StoreError if
    it may be in a damaged file.
    """
    sql = """
        SELECT trial_id, sweep_id FROM latest_outcomes
        WHERE starts_with(trial_id, ?) ORDER BY trial_id
    """
    answer = query(store, sql, [prefix])
    rows = answer.rows
    if len(rows) == 1:
        trial_id, sweep_id = rows[0]
        return sweep_id, trial_id
    if not rows:
        answer.whole()  # a damaged file may be why
        raise QueryError(
            f"no ended trial's id begins with {prefix!r}: `sickbay results SWEEP` lists them"
        )
    some = ", ".join(trial_id for trial_id, _ in rows[:5])
    raise QueryError(f"{len(rows)} trials begin with {prefix!r} ({some}, …): give more of the id")


def _here(
    store: Store,
    sql: str,
    parameters: Sequence[object],
    sweep_ids: Sequence[str] | None,
    limits: Limits,
    cancel: Cancel,
) -> QueryResult:
    from sickbay.service.query.duck import answer  # noqa: PLC0415  never in a service's process

    return answer(store, sql, parameters, sweep_ids, limits, cancel)
