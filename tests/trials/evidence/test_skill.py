import numpy as np
import pytest
from scipy.stats import norm

from sickbay.trials.contract import Row, TaskFacts
from sickbay.trials.detectors.no_skill import detect
from sickbay.trials.evidence.skill import (
    alphas,
    gain,
    lasting,
    may_recover,
    out_of_reach,
    perfect_fit,
    skill_may_come,
    stands_still,
    stepped,
)
from sickbay.trials.history import History

FACTS = TaskFacts(floors={"val_loss": 0.5}, loss_minimum=0.0)


def make(n, facts=FACTS, *, finished=True, **columns):
    rows = [Row(i + 1, 10 * (i + 1), {k: v[i] for k, v in columns.items()}) for i in range(n)]
    return History(rows, facts, n, finished=finished)


def test_a_finished_trial_is_looked_at_once_and_a_running_one_shares_its_error():
    losses = [0.4] * 5
    assert alphas(make(5, val_loss=losses)).tolist() == [0.01] * 5
    running = alphas(make(5, val_loss=losses, finished=False))
    assert running[0] == pytest.approx(1e-3 * 6 / np.pi**2)
    assert running[3] == pytest.approx(running[0] / 16)


def test_gain_and_its_bounds():
    z = norm.isf(0.01)
    gains = gain(make(1, val_loss=[0.4], val_loss_se=[0.01], val_n=[10_000.0]))
    assert gains.value[0] == pytest.approx(0.2)
    assert gains.lower[0] == pytest.approx(0.2 - z * 0.02)
    assert gains.upper[0] == pytest.approx(0.2 + z * 0.02 * np.sqrt(2 * 0.02))


def test_the_upper_bound_is_never_tighter_than_the_samples_allow():
    z = norm.isf(0.01)
    few = gain(make(1, val_loss=[0.4], val_loss_se=[0.01], val_n=[500.0]))
    assert few.upper[0] == pytest.approx(0.2 + z * np.sqrt(4 * 0.02 / 500))
    exact = gain(make(1, val_loss=[0.4], val_loss_se=[1e-4], val_n=[500.0]))
    assert exact.upper[0] == pytest.approx(0.2 + z * 2e-4)
    facts = TaskFacts(floors={"val_loss": 0.5}, loss_minimum=0.0, n={"val": 500})
    assert gain(make(1, facts, val_loss=[0.4], val_loss_se=[0.01])).upper[0] == few.upper[0]


def test_gain_trusts_a_recorded_error_of_the_difference():
    history = make(1, val_loss=[0.4], val_loss_se=[0.2], val_floor_gap_se=[0.005])
    gains = gain(history)
    assert gains.upper[0] - gains.value[0] == pytest.approx(norm.isf(0.01) * 0.01)
    assert gains.lower[0] == pytest.approx(gains.value[0] - norm.isf(0.01) * 0.01)


def test_gain_of_an_unknown_number_of_samples_takes_the_whole_error():
    gains = gain(make(1, val_loss=[0.4], val_loss_se=[0.1]))
    assert gains.upper[0] == pytest.approx(0.2 + norm.isf(0.01) * 0.2)


def test_gain_without_an_error_takes_the_noise_between_evaluations():
    rng = np.random.default_rng(0)
    gains = gain(make(200, val_loss=list(0.4 + rng.normal(scale=0.01, size=200))))
    assert gains.estimated
    assert gains.error[0] == pytest.approx(0.02, rel=0.2)


def test_gain_needs_a_floor():
    assert gain(make(3, TaskFacts(), val_loss=[0.4] * 3)) is None
    assert gain(make(3, val_loss=[float("nan")] * 3)) is None


def test_the_scale_of_a_log_density_does_not_shrink_with_a_flat_course():
    density = TaskFacts(floors={"val_loss": -1.797})
    slow = make(4, density, val_loss=[-1.713, -1.714, -1.715, -1.716])  # spread 0.0015
    # by hand: 0.081 over the floor, in units of a tenth of it
    assert gain(slow).value[-1] == pytest.approx(-0.081 / 0.1797)
    learnt = make(4, density, val_loss=[-1.8, -2.0, -2.06, -2.07])
    median = (0.203 + 0.263) / 2
    assert gain(learnt).value.tolist() == pytest.approx(
        [0.003 / median, 0.203 / median, 0.263 / median, 0.273 / median]
    )


def test_gain_over_a_least_loss_that_is_not_zero():
    facts = TaskFacts(floors={"val_loss": 1.5}, loss_minimum=1.0)
    assert gain(make(1, facts, val_loss=[1.25], val_loss_se=[0.0])).value[0] == pytest.approx(0.5)


def test_paired_error_of_a_calibrated_regression():
    # y = f + e with Var(f) / Var(y) = g: model and constant share the noise in their losses
    rng = np.random.default_rng(1)
    g, n = 0.02, 400_000
    f, e = rng.normal(size=n) * np.sqrt(g), rng.normal(size=n) * np.sqrt(1 - g)
    model, constant = e**2, (f + e) ** 2
    assert np.std(model - constant) / np.std(model) == pytest.approx(np.sqrt(2 * g), rel=0.05)


def regression_run(rng, g, n, evaluations=12):
    """Validation losses of a model of true gain g, with its sampling error shared by all epochs."""
    f, e = rng.normal(size=n) * np.sqrt(g), rng.normal(size=n) * np.sqrt(1 - g)
    y = f + e
    losses = [(y - f - 0.01 * rng.normal()) ** 2 for _ in range(evaluations)]
    facts = TaskFacts(floors={"val_loss": float(np.var(y))}, loss_minimum=0.0)
    return make(
        evaluations,
        facts,
        val_loss=[float(loss.mean()) for loss in losses],
        val_loss_se=[float(loss.std() / np.sqrt(n)) for loss in losses],
        val_n=[float(n)] * evaluations,
    )


@pytest.mark.parametrize(
    ("g", "least", "most"), [(0.0, 0.9, 1.0), (0.02, 0.0, 0.03), (0.05, 0.0, 0.0)]
)
def test_no_skill_finds_worthless_models_and_spares_weak_ones(g, least, most):
    rng = np.random.default_rng(2)
    fired = [detect(regression_run(rng, g, 2000)).state == "fired" for _ in range(200)]
    assert least <= np.mean(fired) <= most


def classification_run(rng, delta, share, n, evaluations=12):
    """Validation losses of a calibrated classifier, its logits spread by delta around the prior."""
    prior = np.log(share / (1 - share))
    logit = prior + delta * rng.normal(size=n)
    y = rng.random(n) < 1 / (1 + np.exp(-logit))
    base = y.mean()
    floor = float(-(base * np.log(base) + (1 - base) * np.log(1 - base)))
    loss = np.logaddexp(0.0, np.where(y, -logit, logit))
    columns = {"val_loss": float(loss.mean()), "val_loss_se": float(loss.std() / np.sqrt(n))}
    columns = {name: [value] * evaluations for name, value in columns.items()}
    facts = TaskFacts(floors={"val_loss": floor}, loss_minimum=0.0, n={"val": n})
    return make(evaluations, facts, **columns)


@pytest.mark.parametrize(  # by the 20 positives of the last, a weak classifier may look like none
    ("share", "enough", "most"), [(0.5, 2000, 0.01), (0.1, 8000, 0.01), (0.02, 40_000, 0.05)]
)
def test_no_skill_spares_weak_classifiers_and_finds_the_prior(share, enough, most):
    rng = np.random.default_rng(3)
    weak = [detect(classification_run(rng, 0.8, share, 1000)).state for _ in range(200)]
    prior = [detect(classification_run(rng, 0.0, share, enough)).state for _ in range(100)]
    assert np.mean([state == "fired" for state in weak]) <= most
    assert np.mean([state == "fired" for state in prior]) >= 0.9


@pytest.mark.parametrize(
    "known", [{"val_n": 50.0}, {"val_loss_se": 0.06}, {"val_floor_gap_se": 0.02}]
)
def test_what_is_known_of_the_samples_does_not_hide_a_loss_at_its_floor(known):
    jitter = [0.5 + 0.0005 * (-1) ** i for i in range(20)]
    columns = {"val_loss": jitter, **{name: [value] * 20 for name, value in known.items()}}
    assert detect(make(20, val_loss=jitter)).state == "fired"
    assert detect(make(20, **columns)).state == "fired"


def test_lasting_ignores_one_odd_evaluation_and_gaps():
    assert lasting(np.array([9.0, 1.0, np.nan, 7.0, 2.0])) == 2.0
    assert np.isnan(lasting(np.array([np.nan])))


def test_a_running_trial_is_given_time_and_trends():
    flat, falling = [0.5] * 12, [0.5 - 0.01 * i for i in range(12)]

    def ask(n, values, *, finished=False):
        history = make(n, val_loss=values[:n], finished=finished)
        return may_recover(history, history.column("val_loss"), recovery_rises=False)

    assert "10 evaluations" in ask(9, flat)
    assert ask(10, flat) is None
    assert "towards recovery" in ask(12, falling)
    assert ask(12, falling, finished=True) is None


@pytest.mark.parametrize(
    ("ratios", "still"),
    [
        ([1e-7] * 6, True),  # 340 steps to come: 3.4e-5 of the weights
        ([1e-5] * 6, False),
        ([1e-9, 2e-9, 3e-9, 4e-9, 5e-9, 6e-9], False),  # a warmup
        ([1e-3, 1e-7, 1e-7, 1e-7, 1e-7, 1e-7], True),
        ([1e-7] * 5 + [np.nan], False),
    ],
)
def test_parameters_that_hardly_move_stand_still(ratios, still):
    rows = [
        Row(i + 1, 10 * (i + 1), {"group_update_ratio": [r, 0.0]}) for i, r in enumerate(ratios)
    ]
    history = History(rows, FACTS, 40)
    assert stands_still(history) is still
    assert (may_recover(history, np.ones(6), recovery_rises=True) is None) is still


def test_no_trial_stands_still_whose_steps_are_unknown():
    tiny = [[1e-9]] * 6
    assert not stands_still(make(6, val_loss=[0.5] * 6, finished=False))
    rows = [Row(i + 1, 0, {"group_update_ratio": tiny[i]}) for i in range(6)]
    assert not stands_still(History(rows, FACTS, 40))
    assert not stands_still(make(4, group_update_ratio=tiny[:4], finished=False))


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    ("loss", "lost"),
    [
        (50 * np.arange(1.0, 13.0) ** -0.1, True),  # 40 at the tenth, 33 at the end
        (50 * 0.8 ** np.arange(12.0), False),  # at the floor after 20 more
        (0.9 * 0.999 ** np.arange(12.0), False),  # under twice the floor nothing is extrapolated
    ],
)
def test_a_loss_far_away_must_come_down_in_time(loss, lost, unit):
    facts = TaskFacts(floors={"val_loss": 0.5 * unit}, loss_minimum=0.0)
    rows = [Row(i + 1, i + 1, {"val_loss": float(unit * v)}) for i, v in enumerate(loss)]
    history = History(rows, facts, 40)
    assert out_of_reach(history) is lost
    assert (skill_may_come(history, history.column("val_loss")) is None) is lost


def test_a_log_density_has_no_multiples_and_is_never_out_of_reach():
    facts = TaskFacts(floors={"val_loss": -1.0})
    rows = [Row(i + 1, i + 1, {"val_loss": 500.0 - i}) for i in range(12)]
    assert not out_of_reach(History([*rows, Row(13, 13, {"val_loss": -2.0})], facts, 40))


def test_an_evaluation_before_the_first_step_has_no_step():
    rows = [Row(0, 0, {"val_loss": 0.5}), Row(1, 24, {"val_loss": 0.4})]
    assert stepped(History(rows, FACTS, 1)).tolist() == [False, True]
    assert stepped(make(2, train_steps=[0.0, 24.0])).tolist() == [False, True]


def test_a_perfect_fit_needs_both_losses():
    zero = {"train_loss": [0.0], "val_loss_se": [0.001]}
    assert perfect_fit(make(1, val_loss=[0.01], **zero)).tolist() == [True]
    assert perfect_fit(make(1, val_loss=[0.5], **zero)).tolist() == [False]
    assert perfect_fit(make(1, train_loss=[0.1], val_loss=[0.01])).tolist() == [False]
