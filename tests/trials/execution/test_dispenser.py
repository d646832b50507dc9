"""The queue of jobs that lanes take from, without Ray."""

from dataclasses import asdict

from sickbay.trials.events import ErrorStorm, TrialEnded
from sickbay.trials.execution.ray_lanes.dispenser import Dispenser

JOBS = [(f"t{n}", f"job {n}") for n in range(6)]


def ended(trial_id, **more):
    return asdict(TrialEnded(trial_id, "completed", **more))


def test_jobs_come_in_their_order_and_a_report_comes_with_the_next():
    made = Dispenser(JOBS[:3], most=2)
    assert made.take("a", None) == "job 0"
    assert made.take("b", None) == "job 1"
    assert made.take("a", ended("t0")) == "job 2"
    assert made.take("b", ended("t1")) is None
    news = made.news(2)
    assert news.events == (("a", "t0"), ("b", "t1"), ended("t0"), ("a", "t2"), ended("t1"))
    assert (news.waiting, news.held, news.storm) == (0, 1, None)
    assert made.news(2).events == ()


def test_no_more_lanes_hold_a_job_than_may():
    made = Dispenser(JOBS, most=1)
    assert made.take("a", None) == "job 0"
    assert made.take("b", None) is None
    made.news(2)
    assert made.take("b", None) == "job 1"
    made.news(1)
    assert made.take("a", ended("t0")) is None  # one of two lanes ends; the other goes on
    assert made.take("b", ended("t1")) == "job 2"
    made.news(0)
    assert made.take("b", ended("t2")) is None


def test_the_job_of_a_dead_lane_is_next():
    made = Dispenser(JOBS, most=2)
    made.take("a", None)
    made.take("b", None)
    assert made.lost("a") == "t0"
    made.put_back("a")
    assert made.take("c", None) == "job 0"
    assert made.lost("b") == "t1"
    made.drop("b")
    assert made.take("d", None) == "job 2"


def test_a_lane_that_dies_before_its_first_job_counts_against_the_next():
    made = Dispenser(JOBS[:1], most=2)
    assert made.lost("a") == "t0"
    made.put_back("a")
    assert made.take("b", None) == "job 0"
    assert made.lost("c") is None  # nothing waits


def test_a_lane_that_leaves_of_itself_costs_no_attempt():
    made = Dispenser(JOBS, most=2)
    made.take("a", None)
    made.end("a", ended("t0"), leaves=True)
    assert made.lost("a") is None
    assert made.take("a", None) == "job 1"
    assert made.lost("a") == "t1"


def test_after_the_same_error_three_times_in_a_row_nothing_is_handed_out():
    made = Dispenser(JOBS, most=1)
    made.take("a", None)
    for n in range(ErrorStorm.TRIALS):
        error = {"error": f"Traceback {n}", "error_key": "same"}
        following = made.take("a", ended(f"t{n}", **error))
    assert following is None
    assert made.news(1).storm == "Traceback 2"
