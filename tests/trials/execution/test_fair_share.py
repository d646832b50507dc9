"""Fair parts of a cluster: what must hold of them whatever drivers want."""

import dataclasses
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.trials.events import TrialEnded
from sickbay.trials.execution import fair_share
from sickbay.trials.execution import lease as driving_room
from sickbay.trials.execution.fair_share import Claim, FairShare, caps
from sickbay.trials.execution.lease import driven, driver, driving
from sickbay.trials.store import open_store


def claim(priority=1, cpu=1.0, gpu=0.0, wanted=1000, cluster="here"):
    return Claim(cluster, priority, cpu, gpu, wanted)


def several(**fixed):
    fields = {
        "cluster": st.just("here"),
        "priority": st.integers(1, 100),
        "cpu": st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]),
        "gpu": st.sampled_from([0.0, 0.0, 0.25, 1.0]),
        "wanted": st.integers(1, 40),
    }
    any_claim = st.builds(Claim, **(fields | fixed))
    return st.dictionaries(st.sampled_from("abcdefgh"), any_claim, min_size=1, max_size=8)


totals = st.fixed_dictionaries({"CPU": st.integers(0, 64), "GPU": st.integers(0, 8)})


def used(claims, parts, kind):
    return sum(parts[name] * demand.needs[kind] for name, demand in claims.items())


@given(several(), totals)
def test_everybody_gets_one_and_together_no_more_than_there_is(claims, total):
    parts = caps(claims, total)
    assert parts.keys() == claims.keys()
    assert all(1 <= parts[name] <= demand.wanted for name, demand in claims.items())
    for kind in ("CPU", "GPU"):
        least = used(claims, dict.fromkeys(claims, 1), kind)
        assert used(claims, parts, kind) <= max(total[kind], least) + 1e-6


@given(several(), totals)
def test_nothing_is_left_idle_that_a_sweep_could_use(claims, total):
    parts = caps(claims, total)
    free = {kind: total[kind] - used(claims, parts, kind) for kind in total}
    for name, demand in claims.items():
        fits = all(n == 0 or n <= free[kind] - 1e-3 for kind, n in demand.needs.items())
        assert parts[name] == demand.wanted or not fits


@given(several(cpu=st.just(1.0), gpu=st.just(0.0)), totals)
def test_parts_of_equal_trials_are_as_priorities(claims, total):
    """Nobody who wants more has less, by priority, than another less its last trial."""
    parts = caps(claims, total)
    for name, demand in claims.items():
        if parts[name] < demand.wanted:
            for other, part in parts.items():
                if part > 1:
                    mine = (parts[name] + 1) / demand.priority
                    assert part / claims[other].priority <= mine + 1e-9


@given(several(), totals, st.randoms(use_true_random=False))
def test_everybody_computes_the_same(claims, total, random):
    names = list(claims)
    random.shuffle(names)
    assert caps({name: claims[name] for name in names}, total) == caps(claims, total)


@pytest.mark.parametrize(
    ("claims", "cores", "parts"),
    [
        ([claim(), claim()], 4, [2, 2]),
        ([claim(priority=3), claim()], 4, [3, 1]),
        ([claim(priority=3), claim()], 8, [6, 2]),
        ([claim(wanted=1), claim()], 4, [1, 3]),  # what one cannot use goes to the other
        ([claim(), claim(), claim()], 2, [1, 1, 1]),
        ([claim(cpu=4.0), claim(cpu=1.0)], 8, [1, 4]),
        ([claim(), claim()], 0, [1, 1]),  # a cluster whose workers are still to come
    ],
)
def test_examples(claims, cores, parts):
    assert list(caps(dict(zip("abc", claims, strict=False)), {"CPU": cores}).values()) == parts


@pytest.fixture
def fair(monkeypatch):
    """A sweep of a hundred trials on four cores; `.others` and `.cores` may be changed."""
    monkeypatch.setattr(fair_share, "LOOK_SECONDS", 0.0)

    class Room:
        others, cores, claims = {}, 4.0, []

    made = FairShare("a", claim(wanted=100), lambda: Room.others, Room.claims.append,
                lambda: {"CPU": Room.cores})  # fmt: skip
    made.room = Room
    return made


def test_a_lone_sweep_has_all_of_the_cluster_and_few_that_wait(fair):
    assert fair.most() == 6
    fair.room.others = {"b": claim(cluster="elsewhere")}
    assert fair.most() == 6
    fair.room.cores = 0.0  # one that has yet to grow must see that something waits
    assert fair.most() == 3
    fair.room.cores = 64.0
    assert fair.most() == 96


def test_the_part_follows_sweeps_that_come_and_go(fair):
    fair.room.others = {"b": claim()}
    assert fair.most() == 2
    fair.room.others = {"b": claim(), "c": claim(priority=2)}
    assert fair.most() == 1
    fair.room.others = {}
    assert fair.most() == 6


def test_on_a_cluster_that_grows_one_trial_waits_so_that_it_grows_on(fair):
    fair.room.others, fair.room.cores = {"b": claim()}, 6.0
    assert fair.most() == 4


def test_what_has_ended_is_not_claimed_any_more(fair):
    ended = TrialEnded("t", "completed")
    for _ in range(3):
        fair.see(ended)
    assert [demand.wanted for demand in fair.room.claims] == [100, 99, 98, 97]


def test_drivers_see_each_other_s_claims_in_the_store(tmp_path):
    store = open_store(str(tmp_path / "store"))
    with driving(store, "a") as keeper:
        keeper.claim(claim(priority=3))
        with driving(store, "b") as other:
            other.claim(claim())
            assert other.others() == {"a": claim(priority=3)}
            keeper.look()
            assert keeper.others() == {"b": claim()}
            assert driver(store, "b").claim == claim()
        keeper.look()
        assert keeper.others() == {}


def test_a_claim_that_is_released_is_seen_at_once_while_the_driver_goes_on(tmp_path):
    store = open_store(str(tmp_path / "store"))
    with driving(store, "a") as keeper, driving(store, "b") as other:
        keeper.claim(claim())
        other.claim(claim())
        assert other.others() == {"a": claim()}
        keeper.release()
        other.look()
        assert other.others() == {}
        assert driven(store, "a")


def test_a_changed_claim_is_published_before_the_next_beat_is_due(tmp_path, monkeypatch):
    monkeypatch.setattr(driving_room, "LOOK_SECONDS", 0.05)
    store = open_store(str(tmp_path / "store"))
    with driving(store, "a") as keeper:
        keeper.claim(claim(wanted=2))
        keeper.claim(claim(wanted=1))
        ends = time.monotonic() + 2.0  # beats are five seconds apart
        while driver(store, "a").claim.wanted == 2 and time.monotonic() < ends:
            time.sleep(0.05)
        assert driver(store, "a").claim.wanted == 1


def test_a_claim_is_plain_data():
    assert Claim(**dataclasses.asdict(claim())) == claim()
