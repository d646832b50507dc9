"""The smallest change that heals: exact against brute force, and the follow-up sweep as a spec."""

import itertools
import json

import pytest
import toy_sweeps
import typer
import yaml
from report_samples import SampleTrial, write_sample
from typer.testing import CliRunner

from sickbay.service.analysis.fixes import LevelChange, fix_lines, fixes_for, sweep_fixes, words
from sickbay.service.analysis.follow_up import follow_up
from sickbay.service.analysis.statistics.shares import wilson
from sickbay.service.cli.analysis import add_verbs
from sickbay.service.query.engine import query
from sickbay.service.query.lookup import SweepError
from sickbay.service.reports.explain import explanation
from sickbay.service.sweeps.runner import Options, run
from sickbay.trials import registry
from sickbay.trials.contract import Health, TrialState
from sickbay.trials.spec import load_spec
from sickbay.trials.spec import plan as design
from sickbay.trials.store import open_store

FACTORS = {"init": ["zeros", "preset", "random"], "loss": ["mvm", "uniform"], "lr": [0.1, 0.01]}
SICK = {"label": Health.PATHOLOGICAL, "pathology": "no_skill"}
CANCELLED = {"label": None, "state": TrialState.CANCELLED}


def grid(ways, seeds=3):
    """A full grid; `ways` says of levels and seed what is other than healthy."""
    trials = []
    for levels in itertools.product(*FACTORS.values()):
        named = dict(zip(FACTORS, levels, strict=True))
        trials += [SampleTrial(named, seed, (1.0,), **ways(named, seed)) for seed in range(seeds)]
    return trials


def sample(folder, trials, **changes):
    spec = {"name": "sample", "factors": FACTORS, "objective": None}
    return write_sample(folder, trials, spec=spec, **changes)


def ids(store, **levels):
    where = " AND ".join(f"{key} = '{value}'" for key, value in levels.items())
    sql = f"SELECT trial_id FROM trials WHERE {where} ORDER BY seed, lr DESC, loss, init"
    return [row[0] for row in query(store, sql).rows]


def test_the_smallest_changes_are_found_with_their_counts(tmp_path):
    def ways(levels, seed):
        if levels["init"] == "random" or (levels["init"] == "preset" and levels["loss"] == "mvm"):
            return {}
        return SICK

    store = sample(tmp_path, grid(ways))
    fixes = fixes_for(store, ids(store, init="zeros", loss="mvm")[0])
    assert [words(fix.changes) for fix in fixes.known] == [
        "init zeros -> preset",
        "init zeros -> random",
    ]
    assert all((fix.healthy, fix.of, fix.seeds) == (3, 3, (0, 1, 2)) for fix in fixes.known)
    assert fixes.next == ()
    assert (fixes.configurations, fixes.trials) == (12, 36)
    assert "init zeros -> random: healthy in 3/3" in "\n".join(fix_lines(fixes))


def test_one_pathological_seed_rules_out_a_fix_and_a_cancelled_one_does_not(tmp_path):
    def ways(levels, seed):
        if levels["init"] == "random":
            return SICK if seed == 2 and levels["lr"] == 0.1 else {}
        if levels["init"] == "preset" and levels["loss"] == "uniform" and levels["lr"] == 0.1:
            return CANCELLED if seed == 1 else {}
        return SICK

    store = sample(tmp_path, grid(ways))
    fixes = fixes_for(store, ids(store, init="zeros", loss="mvm", lr=0.1)[0])
    assert {words(fix.changes): (fix.of, fix.cut_short) for fix in fixes.known} == {
        "init zeros -> random and lr 0.1 -> 0.01": (3, 0),
        "init zeros -> preset and loss mvm -> uniform": (2, 1),
    }


def brute_force(rows, trial):
    """All configurations with every ended trial healthy, at the least number of changes."""
    arms = {}
    for row in rows:
        arms.setdefault(tuple(row[name] for name in FACTORS), []).append(row)
    own = tuple(trial[name] for name in FACTORS)
    well = {
        levels: sum(level != other for level, other in zip(levels, own, strict=True))
        for levels, mine in arms.items()
        if all(row["label"] == "healthy" for row in mine if row["state"] != "cancelled")
        and any(row["state"] != "cancelled" for row in mine)
    }
    least = min(well.values(), default=None)
    return {levels for levels, count in well.items() if count == least}


@pytest.mark.parametrize("pattern", range(4))
def test_it_is_exact(tmp_path, pattern):
    def ways(levels, seed):
        mixed = hash((pattern, tuple(FACTORS[k].index(v) for k, v in levels.items()), seed))
        return (SICK, {}, {}, {}, CANCELLED)[mixed % 5]

    store = sample(tmp_path, grid(ways, seeds=2))
    rows = query(store, "SELECT * FROM trials").records()
    for trial in [row for row in rows if row["label"] == "pathological"][:8]:
        fixes = fixes_for(store, trial["trial_id"])
        configurations = {
            tuple(
                {**fixes.config, **{change.setting: change.after for change in fix.changes}}[name]
                for name in FACTORS
            )
            for fix in fixes.known
        }
        assert configurations == brute_force(rows, trial)
        listed = query(store, fixes.sql).records()
        assert sorted((row["changes"], row["healthy"], row["trials"]) for row in listed) == sorted(
            (len(fix.changes), fix.healthy, fix.of) for fix in fixes.known
        )


def test_without_a_fix_the_untried_changes_come_the_most_promising_first(tmp_path):
    trials = [
        SampleTrial({"init": "zeros", "loss": "mvm", "lr": 0.1}, seed, **SICK, values=(1.0,))
        for seed in range(2)
    ]
    trials += [
        SampleTrial(
            {"init": "random", "loss": "mvm", "lr": 0.1}, seed, (1.0,), **({} if seed else SICK)
        )
        for seed in range(2)
    ]
    store = sample(tmp_path, trials)
    fixes = fixes_for(store, ids(store, init="zeros")[0])
    assert fixes.known == ()
    single = [candidate for candidate in fixes.next if len(candidate.changes) == 1]
    assert {words(candidate.changes) for candidate in single} == {
        "init zeros -> preset",
        "loss mvm -> uniform",
        "lr 0.1 -> 0.01",
    }
    first_of_two = next(candidate for candidate in fixes.next if len(candidate.changes) == 2)
    assert first_of_two.chance <= single[-1].chance
    assert "init preset has not been tried" in single[0].reason
    assert "worth trying next" in "\n".join(fix_lines(fixes))
    assert explanation(store, fixes.trial_id)["healing"]["next"][0]["reason"]


def test_fixes_come_from_every_sweep_of_the_store_and_a_trial_counts_once(tmp_path):
    sick = SampleTrial({"init": "zeros", "loss": "mvm", "lr": 0.1}, 0, (1.0,), **SICK)
    well = [
        SampleTrial({"init": "zeros", "loss": "mvm", "lr": 0.01}, seed, (1.0,)) for seed in (0, 1)
    ]
    sample(tmp_path, [sick], sweep_id="one-000001")
    store = sample(tmp_path, [sick, *well], sweep_id="two-000002")
    fixes = fixes_for(store, ids(store, lr=0.1)[0])
    assert fixes.trials == 3
    [fix] = fixes.known
    assert fix.changes == (LevelChange("lr", 0.1, 0.01),)
    assert (fix.of, fix.own_seed) == (2, True)


def test_a_whole_sweep_has_one_answer_a_pathological_configuration(tmp_path):
    ways = lambda levels, seed: SICK if levels["init"] == "zeros" and seed else {}  # noqa: E731
    store = sample(tmp_path, grid(ways))
    fixes = sweep_fixes(store, "sample-abc123")
    assert len(fixes) == 4
    assert [trial_fixes.seed for trial_fixes in fixes] == [1] * 4
    for trial_fixes in fixes:
        assert trial_fixes == fixes_for(store, trial_fixes.trial_id)
    assert fixes[0].known[0].low == pytest.approx(wilson(1.0, 3)[0])


def test_a_healthy_trial_has_nothing_to_fix(tmp_path):
    store = sample(tmp_path, grid(lambda levels, seed: {}))
    fixes = fixes_for(store, ids(store, init="zeros")[0])
    assert fixes.healthy
    assert list(fix_lines(fixes)) == []
    with pytest.raises(SweepError, match="is healthy"):
        follow_up(store, fixes)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A real sweep of the toy, in which one fault is healed by one change."""
    folder = tmp_path_factory.mktemp("swept")
    spec = toy_sweeps.spec(factors={"fault": ["nan", "none"], "lr": [0.1, 0.05]}, seeds=2)
    result = run(spec, str(folder), Options(in_process=True))
    store = open_store(result.store)
    sql = "SELECT trial_id FROM trials WHERE fault = 'nan' AND lr = 0.1 AND seed = 1"
    return store, query(store, sql).rows[0][0]


def verb(*words_, code=0):
    app = typer.Typer()
    add_verbs(app)
    app.command()(lambda: None)
    done = CliRunner().invoke(app, ["fix", *map(str, words_)])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_the_verb_writes_a_valid_spec_whose_baseline_is_the_pathological_trial(swept, tmp_path):
    store, trial = swept
    path = tmp_path / "deep" / "next.yaml"
    done = verb(trial, "--store", store.uri, "--out", path)
    assert "fault nan -> none: healthy in 2/2" in done.stdout
    assert f"wrote {path}" in done.stdout
    spec, workload = load_spec(path, registry.workload)
    plan = design.plan(spec, workload)
    assert trial in {planned.trial_id for planned in plan.trials}
    assert spec.design == "one_factor"
    assert list(spec.factors) == ["fault"]
    assert len(spec.seeds) == 5
    assert len(plan.trials) == 10
    again = run(path, store.uri, Options(in_process=True))
    assert again.state == "finished"


def test_a_file_is_replaced_only_when_that_is_asked_for(swept, tmp_path):
    store, trial = swept
    path = tmp_path / "kept.yaml"
    path.write_text("mine")
    done = verb(trial, "--store", store.uri, "--out", path, code=1)
    assert "already exists" in str(done.exception)
    assert path.read_text() == "mine"
    verb(trial, "--store", store.uri, "--out", path, "-y")
    assert yaml.safe_load(path.read_text())["name"].startswith("fix-")


def test_the_verb_gives_json_and_prints_to_standard_output(swept):
    store, trial = swept
    data = json.loads(verb(trial, "--store", store.uri, "--out", "-", "--json").stdout)
    assert data["known"][0]["changes"] == [{"setting": "fault", "before": "nan", "after": "none"}]
    assert data["planned"] == 10
    assert data["spec"]["factors"] == {"fault": ["nan", "none"]}
    text = verb(trial, "--store", store.uri, "--out", "-").stdout
    assert yaml.safe_load(text)["factors"] == {"fault": ["nan", "none"]}


def test_without_a_fix_the_spec_tries_the_workload_s_own_levels(tmp_path):
    spec = toy_sweeps.spec(factors={"fault": ["nan"]}, seeds=1)
    result = run(spec, str(tmp_path / "store"), Options(in_process=True))
    store = open_store(result.store)
    trial = query(store, "SELECT trial_id FROM trials").rows[0][0]
    path = tmp_path / "next.yaml"
    done = verb(trial, "--store", store.uri, "--out", path)
    assert "no fix is known yet" in done.stdout
    spec, workload = load_spec(path, registry.workload)
    assert "none" in spec.factors["fault"]
    assert trial in {planned.trial_id for planned in design.plan(spec, workload).trials}


def test_a_fix_of_two_settings_is_crossed(swept):
    store, trial = swept
    fixes = fixes_for(store, trial)
    pair = (LevelChange("fault", "nan", "none"), LevelChange("lr", 0.1, 0.05))
    both = fixes.known[0].__class__(pair, 2, 2, 0.3, (0, 1), True, 0)
    made = follow_up(store, type(fixes)(**{**vars(fixes), "known": (both,)}))
    assert made.spec["design"] == "grid"
    assert made.trials == 4 * 5
    assert made.has_trial
