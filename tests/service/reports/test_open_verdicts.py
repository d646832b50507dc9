"""What is printed about trials that could not be judged."""

from rich.console import Console

from sickbay.service.reports.verdicts import print_verdicts
from sickbay.service.sweeps.runner import Options, run
from sickbay.trials.store import open_store


def test_an_inconclusive_trial_names_what_it_lacks(tmp_path):
    spec = {"name": "open", "workload": "ending_badly:WORKLOAD", "factors": {}, "seeds": 1}
    swept = run(spec, str(tmp_path / "store"), Options(in_process=True))
    console = Console(record=True, width=200)
    print_verdicts(console, open_store(str(tmp_path / "store")), swept.sweep_id, spec)
    said = console.export_text()
    assert "inconclusive" in said
    assert "TaskFacts.of(loss, targets)" in said
    assert "Probe(model)" in said
