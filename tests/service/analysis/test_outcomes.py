"""One definition of how a trial came out: everything that counts trials by it agrees."""

import itertools
import json
import math
import tempfile
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from report_samples import SampleTrial, write_sample

from sickbay.service.analysis.comparison import compare, read_half
from sickbay.service.analysis.fixes import fix_finder
from sickbay.service.analysis.sql import effects_sql
from sickbay.service.analysis.study import load_study
from sickbay.service.charts.axes import axis_of
from sickbay.service.charts.health import health_map_of
from sickbay.service.query.engine import query, trials
from sickbay.service.query.outcomes import CUT_SHORT, outcome
from sickbay.service.query.status import describe
from sickbay.service.reports.html import report_values
from sickbay.service.reports.verdicts import arm_table
from sickbay.trials import registry
from sickbay.trials.contract import Health, TrialState
from sickbay.trials.execution.relabel import relabel

SWEEP = "sample-abc123"
FACTORS = {"a": ["off", "on"], "b": ["u", "v"]}
SPEC = {"factors": FACTORS, "objective": {"signal": "val_loss", "goal": "minimize"}}
LABELS = (None, Health.HEALTHY, Health.HEALTHY, Health.PATHOLOGICAL, Health.INCONCLUSIVE)
VALUES = ((0.5,), (0.25,), (), (math.nan,), (math.inf,))


def test_the_view_gives_every_trial_the_outcome_that_python_gives_it(tmp_path):
    ways = itertools.product(TrialState, LABELS, (None, "no_skill"), VALUES)
    sampled = [
        SampleTrial({"outcome": "x"}, seed, values, cause, state=state, label=label)
        for seed, (state, label, cause, values) in enumerate(ways)
    ]
    store = write_sample(tmp_path, sampled)
    expected = {
        row["trial_id"]: outcome_of(row) for row in query(store, "SELECT * FROM trials").records()
    }
    assert len(set(expected.values())) == 9
    for view in ("outcomes", "latest_outcomes"):
        assert dict(query(store, f"SELECT trial_id, outcome FROM {view}").rows) == expected


def outcome_of(row):
    objective = row["objective"]
    value = None if objective is None else float(objective)
    return outcome(row["state"], row["label"], row["pathology"], value)


@st.composite
def sweeps(draw):
    """A grid over three seeds whose trials ended in any way, also as older versions labelled it."""
    sampled = []
    for a, b, seed in itertools.product(*FACTORS.values(), range(3)):
        label = draw(st.sampled_from(LABELS))
        named = label is Health.PATHOLOGICAL and draw(st.booleans())
        sampled.append(
            SampleTrial(
                {"a": a, "b": b},
                seed,
                draw(st.sampled_from(VALUES)),
                pathology="no_skill" if named else None,
                state=draw(st.sampled_from(list(TrialState))),
                label=label,
            )
        )
    return sampled


@settings(max_examples=3, deadline=None)
@given(sweeps())
def test_all_that_count_trials_agree_before_and_after_relabelling(sampled):
    with tempfile.TemporaryDirectory() as folder:
        store = write_sample(folder, sampled, spec=SPEC)
        agree(store)
        relabel(store, SWEEP, registry.all_detectors())
        left = query(store, "SELECT state, label FROM trials").rows
        assert {label for state, label in left if state == "pruned"} <= {None, "pathological"}
        agree(store)
        assert relabel(store, SWEEP, registry.all_detectors()).written == 0


def agree(store):
    """Count by Python's `outcome` of the stored columns; everything else must say the same."""
    rows = query(store, "SELECT * FROM trials").records()
    for row in rows:
        row["outcome"] = outcome_of(row)
    arms = {}
    for row in rows:
        arms.setdefault(row["arm"], Counter())[row["outcome"]] += 1
    counts = {arm: (some["healthy"], counted(some)) for arm, some in arms.items()}
    effects_agree(store, rows)
    tables_agree(store, arms, counts)
    fixes_agree(store, rows, counts)


def counted(some):
    return sum(n for word, n in some.items() if word not in CUT_SHORT)


def effects_agree(store, rows):
    study = load_study(store, SWEEP, ["main_effects"])
    table = study.effects.table
    numbers = query(store, effects_sql(SWEEP, table, list(FACTORS))).records()
    pairs = {answer["factor"]: answer for answer in query(store, study.sql["pairs"]).records()}
    better = {answer["factor"]: answer for answer in query(store, study.sql["better"]).records()}
    causes = query(store, study.sql["causes"]).records()
    main = query(store, study.sql["main_effects"]).records()
    for effect, row in zip(table.effects, numbers, strict=True):
        mine = Counter(trial["outcome"] for trial in rows if trial[effect.factor] == effect.level)
        side = effect.of_level
        assert (side.healthy, side.trials) == (mine["healthy"], counted(mine))
        assert (row["healthy"] or 0, row["trials"] or 0) == (side.healthy, side.trials)
        sound = pairs[effect.factor]
        assert row["sound_pairs"] == sound["sound_pairs"] == effect.sound_pairs
        assert row["pairs"] == sound["pairs"] == effect.pairs == 6
        assert sound["level_healthy"] == side.healthy
        if effect.ranked_pairs:
            assert row["better"] == better[effect.factor]["p_better"] == effect.improvement.value
        named = {
            cause["outcome"]: cause["trials"]
            for cause in causes
            if (cause["factor"], cause["side"]) == (effect.factor, "level")
        }
        assert named == {word: n for word, n in mine.items() if word not in CUT_SHORT}
        [of_level] = [
            entry
            for entry in main
            if (entry["factor"], entry["level"]) == (effect.factor, effect.level)
        ]
        assert (of_level["healthy"], of_level["trials"]) == (side.healthy, side.trials)


def tables_agree(store, arms, counts):
    values = report_values(store, SWEEP)
    assert {arm.arm: (arm.healthy, arm.trials) for arm in values.arms} == counts
    for arm in values.arms:
        mine = arms[arm.arm]
        assert (arm.cancelled, arm.pruned) == (mine["cancelled"], mine["pruned"])
        parts = arm.healthy, arm.pathological, arm.inconclusive, arm.failed
        assert sum(parts) == arm.trials
    printed = arm_table(trials(store, SWEEP).records())
    assert dict(zip(*(list(column.cells) for column in printed.columns[:2]), strict=True)) == {
        arm: f"{healthy} of {n}" for arm, (healthy, n) in counts.items()
    }
    x, y = axis_of(values, "a"), axis_of(values, "b")
    cells = health_map_of(store, values, x, y).cells
    assert {f"a={x.names[i]}, b={y.names[j]}": cell for (i, j), cell in cells.items()} == {
        arm: cell for arm, cell in counts.items() if cell[1]
    }
    half = read_half(store, SWEEP)
    compared = {pair.arm: (pair.a.healthy, pair.a.trials) for pair in compare(half, half).arms}
    assert compared == counts
    for row in query(store, half.sql).records():
        config = json.loads(row["config"])
        assert (row["healthy"], row["trials"]) == counts[f"a={config['a']}, b={config['b']}"]
    labels = describe(store, SWEEP)["labels"]
    assert labels.get("healthy", 0) >= sum(healthy for healthy, _ in counts.values())


def fixes_agree(store, rows, counts):
    whole = {arm for arm, (healthy, n) in counts.items() if n and healthy == n}
    heal = fix_finder(store, SWEEP)
    for row in [row for row in rows if row["outcome"] not in ("healthy", *CUT_SHORT)][:3]:
        fixes = heal(row["trial_id"])
        known = set()
        for fix in fixes.known:
            after = {change.setting: change.after for change in fix.changes}
            settings_after = {name: after.get(name, row[name]) for name in FACTORS}
            known.add(", ".join(f"{name}={level}" for name, level in settings_after.items()))
        assert known <= whole
        assert bool(known) == bool(whole)
        assert len(query(store, fixes.sql).rows) == len(known)
