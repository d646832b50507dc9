"""The documents say what the code does: every verb, setting, link, example and command."""

import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from sickbay.service.cli.app import app
from sickbay.service.settings import DEFAULT_STORE, Settings
from sickbay.trials import registry
from sickbay.trials.contract import Health, TrialState
from sickbay.trials.spec import load_spec
from sickbay.trials.spec import plan as design

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("deploy/*.md")]
)
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
COMMANDS = (ROOT / "docs" / "commands.md").read_text()
README = (ROOT / "README.md").read_text()


def verbs():
    alone = [command.name or command.callback.__name__ for command in app.registered_commands]
    return alone + [group.typer_instance.info.name for group in app.registered_groups]


def test_the_verbs_that_exist_are_documented_and_no_others():
    assert set(re.findall(r"`sickbay (\w+)", COMMANDS)) == set(verbs())


def test_the_options_of_the_command_line_are_frozen():
    """A new option is a decision, not an accident: it is documented, and this list is changed."""
    import typer.main

    group = typer.main.get_command(app)
    tokens = group.commands.pop("token").commands
    commands = {**group.commands, **{f"token {name}": command for name, command in tokens.items()}}
    options = {
        name: sorted(
            option
            for parameter in command.params
            for option in parameter.opts
            if option.startswith("--")
        )
        for name, command in commands.items()
    }
    running = ["--address", "--cpus", "--in-process", "--store", "--trust-code"]
    assert options == {
        "init": ["--lines", "--out", "--yes"],
        "validate": ["--json"],
        "plan": ["--json", "--store"],
        "run": running,
        "resume": running,
        "stop": ["--store"],
        "cancel": ["--store", "--yes"],
        "list": ["--json", "--store"],
        "status": ["--json", "--store"],
        "results": [
            "--any-label",
            "--format",
            "--json",
            "--label",
            "--pareto",
            "--store",
            "--where",
        ],
        "query": ["--format", "--json", "--store"],
        "report": [
            "--all-pairs",
            "--figure-format",
            "--figures",
            "--format",
            "--json",
            "--output",
            "--store",
            "--within",
        ],
        "export": ["--format", "--json", "--out", "--store", "--to"],
        "effects": [
            "--all",
            "--all-pairs",
            "--importance",
            "--interactions",
            "--json",
            "--main-effects",
            "--reference",
            "--smallest-effect",
            "--sql",
            "--store",
            "--within",
        ],
        "frontier": ["--json", "--store"],
        "explain": ["--all", "--json", "--store"],
        "diagnose": [
            "--classes",
            "--components",
            "--epochs",
            "--floor",
            "--json",
            "--map",
            "--run",
            "--running",
            "--task",
            "--val-n",
        ],
        "compare": ["--ignore", "--json", "--sql", "--store"],
        "fix": ["--json", "--out", "--store", "--yes"],
        "relabel": ["--dry-run", "--json", "--store"],
        "submit": ["--address", "--runtime-env", "--store", "--wait"],
        "logs": ["--address", "--follow", "--store"],
        "serve": [
            "--address",
            "--allow-code",
            "--cpus",
            "--data-root",
            "--host",
            "--port",
            "--store",
        ],
        "token create": ["--role", "--store"],
        "token list": ["--json", "--store"],
        "token revoke": ["--store"],
        "workloads": ["--json"],
        "detectors": ["--json"],
        "doctor": ["--json", "--store"],
    }


def test_every_setting_is_documented():
    others = {"mlflow": "MLFLOW_TRACKING_URI", "rank": "RANK"}
    for name in (field.name for field in fields(Settings)):
        assert f"`{others.get(name, f'SICKBAY_{name.upper()}')}`" in COMMANDS
    assert f"`{DEFAULT_STORE}`" in COMMANDS


def test_every_state_and_label_is_explained():
    for word in (*TrialState, *Health):
        assert f"`{word}`" in COMMANDS + README + (ROOT / "docs" / "store.md").read_text()


def test_links_lead_somewhere():
    dead = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in DOCUMENTS
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text())
        if not target.startswith(("http://", "https://", "mailto:"))
        if not (path.parent / target).exists()
    ]
    assert dead == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_sound_specs(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    spec, workload = load_spec(path, registry.workload)
    # a search draws its configurations when it runs
    assert design.plan(spec, workload).trials or spec.budget.trials


def test_the_readme_s_first_sweep_is_a_sound_spec():
    [text] = [
        block for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "name:" in block
    ]
    spec, workload = load_spec(text, registry.workload)
    assert workload.name == "mvm_orientation"
    assert len(design.plan(spec, workload).trials) > 1


def test_the_readme_s_commands_are_verbs_and_recipes_that_exist():
    recipes = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in re.findall(r"^(?:\$ )?((?:sickbay|make) [^#\n`|]*)", README, re.MULTILINE):
        tool, word = shlex.split(line)[:2]
        assert word in (recipes if tool == "make" else verbs()), line


def test_the_changelog_knows_the_version():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[
        1
    ]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_decision_has_a_number_of_its_own():
    names = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert len({int(name[:4]) for name in names}) == len(names)
    for name in names:
        head = (ROOT / "docs" / "decisions" / name).read_text().splitlines()[0]
        assert head.startswith(f"# {int(name[:4])}. ")


def test_help_of_every_verb_can_be_printed():
    for verb in ("run", "results", "relabel"):
        done = subprocess.run(
            [Path(sys.executable).parent / "sickbay", verb, "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "Usage: sickbay" in done.stdout
