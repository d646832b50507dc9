"""Everything known of the trials of a sweep: read once, looked up by trial.

    book = read_book(store, sweep_id)
    book.explained(trial_id, fix_finder(store, sweep_id)(trial_id))  # `explain TRIAL --json`

For one trial only its own rows are read (`only=`); the service keeps a whole book.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sickbay.service.analysis.fixes import Candidate, Fix, Fixes, fix_lines
from sickbay.service.query.engine import QueryResult, epochs, findings, labels, query
from sickbay.service.query.lookup import stored_spec
from sickbay.service.summary.judgement import judgement_of
from sickbay.service.summary.signals import label_of, reference_lines_of
from sickbay.service.summary.sweep_findings import advice_records, sweep_advice
from sickbay.trials.diagnosis.sweep_findings import SweepFinding
from sickbay.trials.history import facts_from_json
from sickbay.trials.store import Store

MOST_NAMED = 20  # trials that a finding over the sweep names where one trial is explained


@dataclass(frozen=True)
class ByTrial:
    """Rows sorted by trial, and where those of each trial begin and end."""

    found: QueryResult
    spans: Mapping[str, tuple[int, int]]

    def records(self, trial_id: str) -> list[dict[str, Any]]:
        """The rows of a trial as plain data, see `query.plain`; empty where it has none."""
        begin, end = self.spans.get(trial_id, (0, 0))
        return self.found.part(begin, end).records()


@dataclass(frozen=True)
class TrialBook:
    """Rows, findings, labels and fixes of a sweep's ended trials."""

    factors: tuple[str, ...]
    trials: ByTrial
    findings: ByTrial
    labels: ByTrial
    advice: tuple[SweepFinding, ...]

    def has(self, trial_id: str) -> bool:
        """Whether the trial had ended when the book was read."""
        return trial_id in self.trials.spans

    def explained(self, trial_id: str, healing: Fixes) -> dict[str, Any]:
        """A trial, its findings, every label it had, and the smallest known fixes, as plain data.

        `fixes` are the known ones in short, `healing` is all of `Fixes`. `references` are the lines
        to read its signals against, `judgement` is what weighed for the label. Raises KeyError for
        an unknown trial.
        """
        if not self.has(trial_id):
            raise KeyError(trial_id)
        [trial] = self.trials.records(trial_id)
        return {
            "trial": trial,
            "factors": {name: trial[name] for name in self.factors},
            "findings": self.findings.records(trial_id),
            "labels": self.labels.records(trial_id),
            "fixes": [
                {
                    "change": {
                        change.setting: {"from": change.before, "to": change.after}
                        for change in fix.changes
                    },
                    "healthy": fix.healthy,
                    "of": fix.of,
                }
                for fix in healing.known
            ],
            "healing": {
                **vars(healing),
                "known": [_spelt(fix) for fix in healing.known],
                "next": [_spelt(candidate) for candidate in healing.next],
                "says": list(fix_lines(healing)),
            },
            "judgement": judgement_of(self.findings.records(trial_id)),
            "references": _references(trial),
            "sweep_findings": [
                _shortened(record) for record in advice_records(self.advice, trial_id)
            ],
        }


def read_book(store: Store, sweep_id: str, only: str | None = None) -> TrialBook:
    """Read the ended trials of a sweep, or one of them; raises QueryError or StoreError."""
    factors = tuple(stored_spec(store, sweep_id).get("factors", {}))
    trials = "SELECT * FROM trials WHERE trial_id = coalesce(?, trial_id) ORDER BY trial_id"
    return TrialBook(
        factors=factors,
        trials=_by_trial(query(store, trials, [only], sweep_ids=[sweep_id])),
        findings=_by_trial(findings(store, sweep_id, only)),
        labels=_by_trial(labels(store, sweep_id, only)),
        advice=sweep_advice(store, sweep_id, factors),
    )


def read_epochs(store: Store, sweep_id: str, most: int) -> ByTrial | None:
    """Read the evaluations of every trial of a sweep; None where there are more than `most`."""
    [(count,)] = query(store, "SELECT count(*) FROM epochs", sweep_ids=[sweep_id]).rows
    return _by_trial(epochs(store, sweep_id)) if count <= most else None


def _by_trial(result: QueryResult) -> ByTrial:
    ids = result.whole().table["trial_id"].to_pylist()
    begins = [
        place for place, trial_id in enumerate(ids) if place == 0 or ids[place - 1] != trial_id
    ]
    ends = [*begins[1:], len(ids)]
    return ByTrial(result, {ids[a]: (a, b) for a, b in zip(begins, ends, strict=False)})


def _spelt(fix: Fix | Candidate) -> dict[str, Any]:
    """Like `asdict`, but shares immutable values instead of copying a thousand seeds."""
    return {**vars(fix), "changes": [dict(vars(change)) for change in fix.changes]}


def _references(trial: Mapping[str, Any]) -> list[dict[str, Any]]:
    facts = facts_from_json(trial["facts"]) if trial.get("facts") else None
    if facts is None:
        return []
    signals = [*facts.floors, *(line.signal for line in facts.reference_lines)]
    return [
        {"signal": signal, "value": line.value, "text": label_of(line)}
        for signal in dict.fromkeys(signals)
        for line in reference_lines_of(facts, signal)
    ]


def _shortened(record: dict[str, Any]) -> dict[str, Any]:
    """Cut a finding's list of thousands of trials to the first ones, and add their number."""
    named: Sequence[str] = record["trials"]
    return {**record, "trials": list(named[:MOST_NAMED]), "trials_in_all": len(named)}
