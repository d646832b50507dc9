"""On a terminal of 80 columns nothing that identifies a row is lost."""

import io

import pytest
from effect_samples import SWEEP, sample
from report_samples import SampleTrial
from rich.console import Console

from sickbay.service.analysis.study import load_effects
from sickbay.service.reports.terminal import print_effects
from sickbay.service.reports.verdicts import print_trials
from sickbay.service.sweeps.progress import Tally
from sickbay.trials.contract import Health, TrialState
from sickbay.trials.events import Started, TrialEnded


def printed(show):
    console = Console(width=80, record=True, file=io.StringIO())
    show(console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    return lines


@pytest.mark.parametrize("label", ["pathological", "inconclusive"])
def test_the_table_of_trials_keeps_its_ids_seeds_and_levels(label):
    factors = {"initialization": [], "learning_rate_schedule": [], "loss": []}
    rows = [
        {
            "trial_id": f"{seed:08d}feedbeef",
            "arm": "initialization=kaiming_uniform, schedule=cosine, loss=label_smoothing",
            "initialization": "kaiming_uniform_fan_out",
            "learning_rate_schedule": "cosine_with_warm_restarts",
            "loss": "label_smoothing_cross_entropy",
            "seed": seed,
            "objective": 0.12345678,
            "state": "completed",
            "label": label,
            "pathology": "memorisation_without_generalisation",
            "onset_epoch": 117,
        }
        for seed in (1041, 1042)
    ]
    text = "\n".join(printed(lambda console: print_trials(console, rows, factors)))
    for word in ("00001041", "1042", "0.1235", label, "memorisation", "kaiming", "smoothing"):
        assert word in text
    assert "…" not in text


def test_the_table_of_effects_keeps_every_word_of_a_verdict(tmp_path):
    def run_of(level, seed):
        ill = {"label": Health.PATHOLOGICAL, "pathology": "no_parameter_update"}
        more = ill if level == "zeros" else {}
        return SampleTrial({"initialization": level}, seed, values=(0.1 + seed / 30,), **more)

    levels = ["preset", "random", "zeros"]
    trials = [run_of(level, seed) for level in levels for seed in range(3)]
    store = sample(tmp_path / "store", trials, factors={"initialization": levels})
    effects = load_effects(store, SWEEP)
    lines = printed(lambda console: print_effects(console, effects))
    rule = next(i for i, line in enumerate(lines) if "───" in line)
    start = lines[rule - 1].index("verdict")
    whole = "".join("".join(line[start:].split()) for line in lines[rule + 1 : rule + 9])
    assert "broken(3of3pathological,no_parameter_update)" in whole
    assert lines[rule + 1].split()[0] == "initialization"


def test_progress_fits_and_counts_what_there_is():
    tally = Tally(planned=120, stored=12)
    for name in "abc":
        tally.see(Started(name))
    assert tally.line() == "12/120 done · 3 running"
    tally.see(TrialEnded("a", TrialState.COMPLETED, health="healthy"))
    tally.see(TrialEnded("b", TrialState.STOPPED, health="pathological", pathology="no_skill"))
    tally.see(TrialEnded("c", TrialState.FAILED))
    line, _, eta = tally.line().partition(" · ETA ")
    assert line == "15/120 done · 1 healthy · 1 pathological · 1 failed · 1 stopped early"
    assert eta
    assert tally.why() == "no_skill 1"
