"""What the five original reports claim, and what the stored sweeps measure of it.

The claims are plain data, `docs/claims.yaml`. Each names the spec that measures it, and measures:

    value: val_loss                         a SQL expression over a trial's last evaluation
    where: initialization = 'zeros'         which trials, over the columns of `trials`
    minus: initialization = 'preset'        (instead of a value: its difference to these, by seed)
    count: label = 'pathological'           (instead of a value: how many of the trials)
    epoch: 6                                another evaluation than the last
    since: 5                                (its change since this evaluation of the same trial)
    expect: [0.70, 0.76]                    what the verdict stands on: bounds of mean or share

A measured value is the mean over seeds with its 95 % interval (Student's t over the seeds).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from sickbay.service.analysis.statistics.estimates import student_estimate
from sickbay.service.query.engine import query
from sickbay.trials.store import Store

VERDICTS = (
    "reproduced",
    "reproduced, other cause",
    "contradicted",
    "undecided",
    "untestable on generated data",
)


@dataclass(frozen=True)
class Measure:
    """One figure: its name, what it is in SQL, and the bounds that its claim's verdict needs."""

    name: str
    where: str
    value: str = ""
    minus: str = ""
    count: str = ""
    epoch: int | None = None
    since: int | None = None
    expect: tuple[float, float] | None = None


@dataclass(frozen=True)
class Claim:
    """A claim of a report: its figure, the truth, the verdict, and what measures it.

    `spec` is a file below examples/reports, empty where nothing here can measure the claim.
    `sweep` names one that holds the same trials and measures it where the spec's own did not run.
    """

    id: str
    claim: str
    figure: str
    truth: str
    verdict: str
    spec: str = ""
    measures: tuple[Measure, ...] = ()
    sweep: str = ""


@dataclass(frozen=True)
class Report:
    """One of the original reports: its title, the workload that remakes it, its claims."""

    number: int
    title: str
    workload: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Measured:
    """A figure from a store: mean and interval over n seeds; of a count the share of n trials.

    `low` and `high` are None where one seed, or seeds that agree to the last bit, give no interval.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    sweep: str


Results = Mapping[str, Mapping[str, Measured]]  # by claim and by the measure's name


def load_claims(path: Path) -> tuple[Report, ...]:
    """Read the claims. Raises ValueError for a claim that lacks something or says it twice."""
    reports = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        claims = tuple(_claim(path, fields) for fields in entry["claims"])
        reports.append(Report(entry["report"], entry["title"], entry["workload"], claims))
    ids = [claim.id for report in reports for claim in report.claims]
    twice = sorted({claim_id for claim_id in ids if ids.count(claim_id) > 1})
    if twice:
        raise ValueError(f"{path}: the claim {twice[0]} is there twice")
    return tuple(reports)


def load_results(path: Path) -> dict[str, dict[str, Measured]]:
    """Read what was measured before; nothing where there is no file yet."""
    if not path.exists():
        return {}
    stored = json.loads(path.read_text(encoding="utf-8"))
    return {
        claim: {name: Measured(**values) for name, values in some.items()}
        for claim, some in stored.items()
    }


def results_text(results: Results) -> str:
    """Write results as JSON, sorted, one measure a line."""
    lines = []
    for claim in sorted(results):
        rows = [
            f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps(asdict(measured))}"
            for name, measured in sorted(results[claim].items())
        ]
        lines.append(f"{json.dumps(claim)}: {{\n" + ",\n".join(rows) + "\n}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def measure(store: Store, claim: Claim, sweep_name: str) -> dict[str, Measured]:
    """Measure a claim by the latest finished sweep of that name; nothing if there is none.

    Raises QueryError for SQL that is wrong, ValueError for a measure without any trial.
    """
    sql = """
        SELECT sweep_id FROM sweeps WHERE name = ? AND state = 'finished'
        ORDER BY submitted_at DESC, sweep_id LIMIT 1"""
    rows = query(store, sql, [sweep_name]).rows
    if not rows:
        return {}
    sweep = str(rows[0][0])
    return {quantity.name: _measured(store, sweep, claim, quantity) for quantity in claim.measures}


def _measured(store: Store, sweep: str, claim: Claim, quantity: Measure) -> Measured:
    by_seed = _by_seed(store, sweep, quantity, quantity.where, quantity.epoch)
    if not by_seed:
        raise ValueError(
            f"claim {claim.id}, {quantity.name}: no trial of {sweep} where {quantity.where}"
        )
    if quantity.minus:
        other = _by_seed(store, sweep, quantity, quantity.minus, quantity.epoch)
        by_seed = _differences(by_seed, other)
    if quantity.since is not None:
        before = _by_seed(store, sweep, quantity, quantity.where, quantity.since)
        by_seed = _differences(by_seed, before)
    values = list(by_seed.values())
    mean, error = _mean_and_error(values)
    if quantity.count or not error > 0.0:
        return Measured(mean, None, None, len(values), sweep)
    estimate = student_estimate(mean, error, len(values) - 1)
    return Measured(mean, estimate.low, estimate.high, len(values), sweep)


def _differences(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    return {seed: first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())}


def _by_seed(
    store: Store, sweep: str, quantity: Measure, where: str, epoch: int | None
) -> dict[int, float]:
    """Return the value of each seed's trial at an evaluation, None for the last one.

    Raises ValueError where a seed has several trials.
    """
    value = (
        f"CAST(({quantity.count}) AS DOUBLE)"
        if quantity.count
        else f"CAST({quantity.value} AS DOUBLE)"
    )
    which = "true" if epoch is None else f"epoch = {int(epoch)}"
    sql = f"""
        SELECT seed, {value} FROM epochs JOIN trials USING (sweep_id, trial_id)
        WHERE ({where}) AND {which}
        QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY epoch DESC) = 1
        ORDER BY seed"""
    rows = query(store, sql, sweep_ids=[sweep]).rows
    by_seed = {int(seed): math.nan if reading is None else float(reading) for seed, reading in rows}
    if len(by_seed) < len(rows):
        raise ValueError(f"{sweep}: several trials of one seed where {where}: say more")
    return by_seed


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return mean, math.nan
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)


def _claim(path: Path, entry: Mapping[str, Any]) -> Claim:
    try:
        measures = tuple(
            Measure(**{**fields, "expect": tuple(fields["expect"]) if "expect" in fields else None})
            for fields in entry.get("measures", ())
        )
        claim = Claim(**{**entry, "id": str(entry["id"]), "measures": measures})
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path}: claim {entry.get('id', '?')}: {error}") from error
    if claim.verdict not in VERDICTS:
        allowed = "; ".join(VERDICTS)
        problem = f"verdict {claim.verdict!r} is not known; choose one of {allowed}"
        raise ValueError(f"{path}: claim {claim.id}: {problem}")
    for quantity in claim.measures:
        if bool(quantity.value) == bool(quantity.count):
            raise ValueError(f"{path}: claim {claim.id}, {quantity.name}: give a value or a count")
    if claim.measures and not claim.spec:
        raise ValueError(f"{path}: claim {claim.id} has measures and no spec that makes them")
    return claim
