"""What is kept of a sweep's trials says of each what a reading of its own says."""

import threading

import pytest
import toy_sweeps

from sickbay.service.analysis.fixes import fix_finder
from sickbay.service.api import cache
from sickbay.service.api.cache import Memo, NotKeptError, StoreCache, at_once, reading
from sickbay.service.query.engine import epochs, query
from sickbay.service.reports.explain import explanation
from sickbay.service.summary.trial_book import MOST_NAMED, read_book, read_epochs
from sickbay.service.sweeps.runner import Options, run
from sickbay.trials.store import open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book") / "store"
    spec = toy_sweeps.spec(factors={"fault": ["none", "nan", "raise"]}, seeds=3)
    run(spec, str(folder), Options(in_process=True))
    return open_store(str(folder))


@pytest.fixture(scope="module")
def sweep(store):
    return query(store, "SELECT sweep_id FROM sweeps").rows[0][0]


def trial_ids(store):
    return [row[0] for row in query(store, "SELECT trial_id FROM trials ORDER BY ALL").rows]


def test_every_trial_is_explained_as_if_read_alone(store, sweep):
    book, heal = read_book(store, sweep), fix_finder(store, sweep)
    ids = trial_ids(store)
    assert len(ids) == 9
    assert all(map(book.has, ids))
    for trial_id in ids[::3]:
        assert book.explained(trial_id, heal(trial_id)) == explanation(store, trial_id)
    with pytest.raises(KeyError):
        book.explained("nobody", heal(ids[0]))
    assert not read_book(store, sweep, only=ids[0]).has(ids[1])


def test_a_trial_is_explained_with_its_lines_and_fixes(store, sweep):
    sick = query(store, "SELECT trial_id FROM trials WHERE pathology = 'non_finite'").rows[0][0]
    explained = read_book(store, sweep).explained(sick, fix_finder(store, sweep)(sick))
    assert explained["fixes"] == [
        {"change": {"fault": {"from": "nan", "to": "none"}}, "healthy": 3, "of": 3}
    ]
    assert explained["findings"][0]["state"] == "fired"
    lines = {line["signal"]: line["value"] for line in explained["references"]}
    assert lines["val_loss"] > 0
    for finding in explained["sweep_findings"]:
        assert len(finding["trials"]) <= min(MOST_NAMED, finding["trials_in_all"])


def test_epochs_of_every_trial_as_if_read_alone(store, sweep):
    kept = read_epochs(store, sweep, 10_000)
    for trial_id in trial_ids(store):
        assert kept.records(trial_id) == epochs(store, sweep, trial_id).records()
    assert kept.records("nobody") == []
    assert read_epochs(store, sweep, 3) is None


def test_a_shelf_reads_a_sweep_once(store, sweep, monkeypatch):
    reads = []
    monkeypatch.setattr(
        cache, "read_book", lambda *arguments: reads.append(arguments) or read_book(*arguments)
    )
    kept = StoreCache(store)
    assert kept.book(sweep) is kept.book(sweep)
    assert kept.epochs(sweep) is kept.epochs(sweep)
    assert len(reads) == 1


def test_an_answer_that_took_long_rests_longer(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(cache.time, "monotonic", lambda: now[0])
    memo, marks = Memo(4), []

    def work(seconds):
        now[0] += seconds
        return len(marks)

    def asked(key, seconds):
        return memo.answer(key, lambda: marks.append(now[0]) or now[0], lambda: work(seconds))

    assert asked("quick", 0.1) == asked("quick", 0.1) == 1
    now[0] += 1.05
    assert asked("quick", 0.1) == 2
    assert asked("slow", 5.0) == 3
    now[0] += 19.0  # of four times five seconds
    assert asked("slow", 5.0) == 3
    now[0] += 1.1
    assert asked("slow", 5.0) == 4


def test_a_memo_drops_what_was_asked_for_longest_ago():
    memo, works = Memo(2), []

    def asked(key):
        return memo.answer(key, lambda: 0, lambda: works.append(key) or key)

    for key in ("a", "b", "a", "c", "a"):  # b goes when c comes
        assert asked(key) == key
    assert works == ["a", "b", "c"]
    asked("b")
    assert works == ["a", "b", "c", "b"]


def test_many_callers_cause_one_reading():
    memo, begun, go = Memo(2), [], threading.Event()

    def work():
        begun.append(1)
        go.wait(10)
        return 7

    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(memo.answer("key", lambda: 0, work)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(10)
    assert answers == [7] * 8
    assert len(begun) == 1


def test_at_once_is_answered_what_is_kept_and_nothing_is_read(store, sweep):
    kept = StoreCache(store)
    with pytest.raises(NotKeptError):
        at_once(lambda: kept.trials(sweep))
    first = kept.trials(sweep)
    assert at_once(lambda: kept.trials(sweep)) is first
    reading()  # outside of it there is time to read


def test_no_caller_waits_while_a_long_answer_is_recomputed(monkeypatch):
    monkeypatch.setattr(cache, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(cache, "LONG", -1.0)  # any answer took long
    memo, marks, begun, go = Memo(2), iter(range(9)), threading.Event(), threading.Event()
    assert memo.answer("key", lambda: next(marks), lambda: "old") == "old"

    def again():
        begun.set()
        go.wait(10)
        return "new"

    worker = threading.Thread(target=memo.answer, args=("key", lambda: next(marks), again))
    worker.start()
    begun.wait(10)
    assert memo.answer("key", lambda: next(marks), lambda: "never") == "old"
    go.set()
    worker.join(10)
    assert memo.answer("key", lambda: 1, lambda: "never") == "new"


def test_the_fix_of_a_trial_that_has_just_ended_is_read(store, sweep, monkeypatch):
    kept = StoreCache(store)
    for trial_id in trial_ids(store):
        assert kept.fixes(sweep, trial_id) == fix_finder(store, sweep)(trial_id)
    known = fix_finder(store, sweep)
    answers = iter([{}.__getitem__, known])  # the first is of before it ended
    monkeypatch.setattr(cache, "fix_finder", lambda *_: next(answers))
    late = StoreCache(store)
    assert late.fixes(sweep, trial_id) == known(trial_id)
