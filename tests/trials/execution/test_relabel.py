"""Judging stored trials again: what changed, how often, and that nothing old is lost."""

from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from report_samples import SampleTrial, write_sample

from sickbay.trials import registry
from sickbay.trials.contract import Health
from sickbay.trials.execution.relabel import counted, relabel
from sickbay.trials.store import StoreError

FALLS = tuple(0.9 - 0.04 * i for i in range(12))


@pytest.fixture
def store(tmp_path):
    """Four trials that an older version called healthy, one that never had a label."""
    trials = [SampleTrial({"lr": lr}, seed, FALLS) for lr in (1.0, 2.0) for seed in (0, 1)]
    ill = {"pathology": "no_skill", "onset": 1, "label": Health.PATHOLOGICAL}
    trials.append(SampleTrial({"lr": 3.0}, 0, FALLS, **ill))
    return write_sample(tmp_path / "s", trials)


def labels(store):
    tables = (
        pq.read_table(path) for path in sorted((store_path(store) / "labels").rglob("*.parq*"))
    )
    return [row for table in tables for row in table.to_pylist()]


def store_path(store):
    return Path(store.uri.removeprefix("file://"))


def test_the_difference_is_counted_and_every_change_has_its_reason(store):
    detectors = registry.all_detectors()
    report = relabel(store, "sample-abc123", detectors, write=False)
    assert (report.trials, report.written) == (5, 0)
    assert report.same + len(report.changes) == 5
    assert counted([report]) == {"pathological (no_skill) -> healthy": 1}
    assert sum(counted([report, report]).values()) == 2 * len(report.changes)
    assert all(change.reason and change.trial_id and change.arm for change in report.changes)


def test_an_old_label_is_never_overwritten(store):
    before = labels(store)
    detectors = registry.all_detectors()
    assert relabel(store, "sample-abc123", detectors).written == 5
    newer = [replace(detectors[0], version="99.0"), *detectors[1:]]
    assert relabel(store, "sample-abc123", newer).written == 5
    after = labels(store)
    assert len(after) == len(before) + 10
    assert all(row in after for row in before)
    assert relabel(store, "sample-abc123", newer).written == 0
    assert len(labels(store)) == len(after)


@pytest.mark.parametrize("kept", [0, 3])
def test_histories_with_rows_missing_are_refused_and_nothing_changes(store, kept):
    (file,) = (store_path(store) / "epochs").glob("*/data.parquet")
    table = pq.read_table(file)
    pq.write_table(table.filter(pc.less_equal(table["epoch"], kept)), file)
    trials = store_path(store) / "trials" / "sample-abc123" / "data.parquet"
    before = trials.read_bytes()
    with pytest.raises(StoreError, match=r"the epochs of 5 of 5 trials are not all in the store"):
        relabel(store, "sample-abc123", registry.all_detectors())
    assert trials.read_bytes() == before
