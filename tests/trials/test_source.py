"""Whose code made a number: every file and package on the way counts, nothing else does."""

import sys

import numpy as np
import pytest

from sickbay.trials.source import command_code, function_code, module_code


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A package with two modules beside a script; importing any of it would fail."""
    files = {
        "lab/__init__.py": "raise SystemExit('nothing is run')\n",
        "lab/task.py": "import json\nimport numpy as np\nfrom lab.layers import Net\n",
        "lab/layers.py": "from . import sizes\nNet = 1\n",
        "lab/sizes.py": "WIDTH = 8\n",
        "lab/unused.py": "x = 1\n",
        "train.py": "import helper\nfrom lab import layers\n",
        "helper.py": "RATE = 0.1\n",
        "config.yaml": "rate: 0.1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def codes(project):
    command = ["python", "train.py", "--config=config.yaml", "--lr", "{lr}"]
    return module_code("lab.task"), command_code(command, project)


@pytest.mark.parametrize(
    ("file", "module_differs", "command_differs"),
    [
        ("lab/task.py", True, False),
        ("lab/layers.py", True, True),
        ("lab/sizes.py", True, True),
        ("lab/__init__.py", True, True),
        ("lab/unused.py", False, False),
        ("train.py", False, True),
        ("helper.py", False, True),
        ("config.yaml", False, True),
    ],
)
def test_a_change_counts_where_the_file_is_used(project, file, module_differs, command_differs):
    before = codes(project)
    with (project / file).open("a") as edited:
        edited.write("\n# changed\n")
    after = codes(project)
    assert (before[0] != after[0], before[1] != after[1]) == (module_differs, command_differs)


def test_installed_packages_count_by_version(project, monkeypatch):
    before = module_code("lab.task")
    from sickbay.trials import source

    assert source._version("numpy") == np.__version__
    monkeypatch.setattr(source, "_version", lambda top: "0.0" if top == "numpy" else "?")
    assert module_code("lab.task") != before


def test_a_function_without_a_file_counts_with_those_that_it_calls():
    def made(inner, outer="return helper() + 1"):
        names = {"__name__": "__main__"}
        exec(f"def helper():\n {inner}\ndef train():\n {outer}\n", names)  # as a cell does
        import __main__

        vars(__main__).update(helper=names["helper"])
        return function_code(names["train"])

    assert made("return 1") == made("return 1")
    assert made("return 1") != made("return 2")
    assert made("return 1") != made("return 1", "return helper() + 2")


def test_two_scripts_of_one_name_differ(tmp_path):
    for name, text in (("a", "x = 1\n"), ("b", "x = 2\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.py").write_text(text)
    command = [sys.executable, "train.py"]
    assert command_code(command, tmp_path / "a") != command_code(command, tmp_path / "b")


def test_where_a_project_lies_does_not_count(project, tmp_path):
    command = ["python", "train.py"]
    before = command_code(command, project)
    project.rename(tmp_path.with_name(tmp_path.name + "-moved"))
    assert command_code(command, tmp_path.with_name(tmp_path.name + "-moved")) == before
