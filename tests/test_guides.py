"""The guides are run as they stand, and the spec's page knows every key."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from sickbay.trials.spec import DESIGNS, SCHEDULERS, SweepSpec, load_spec
from sickbay.trials.spec.model import SEARCHES

DOCS = Path(__file__).parents[1] / "docs"


OWN_LOOP = """\
script 0.05 healthy
script 0.0 pathological
task 0.05 healthy
task 0.0 pathological
"""


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "prints"),
    [
        ("adding-a-workload.md", "my_task keeps its contract"),
        ("adding-a-detector.md", "ends at 0.9; 3 times its lowest value is 0.6"),
        pytest.param("probes.md", "healthy The validation loss improves", marks=pytest.mark.slow),
        pytest.param("your-own-loop.md", OWN_LOOP, marks=pytest.mark.slow),
    ],
)
def test_the_code_of_a_guide_runs_as_it_stands(page, prints, tmp_path):
    names = []
    for block in blocks(page, "python"):
        name = re.match(r"# (\w+\.py)\n", block)
        assert name, "the first line of a block names its file"
        (tmp_path / name[1]).write_text(block)
        names.append(name[1])
    done = subprocess.run(
        [sys.executable, "-W", "error", names[-1]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert prints in done.stdout
    for target in blocks(page, "toml"):
        points = tomllib.loads(target)["project"]["entry-points"]
        for module_and_name in (value for group in points.values() for value in group.values()):
            assert f"{module_and_name.split(':')[0]}.py" in names


def keys_of(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Every key of a model as the page writes it: `budget.trials`."""
    keys = set()
    for name, field in model.model_fields.items():
        keys.add(f"{prefix}{name}")
        parts = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for part in parts:
            if isinstance(part, type) and issubclass(part, BaseModel):
                keys |= keys_of(part, f"{prefix}{name}.")
    return keys


def test_the_page_explains_every_key_once():
    text = (DOCS / "spec.md").read_text()
    explained = re.findall(r"^\| `([a-z_.]+)` \|", text, flags=re.MULTILINE)
    expected = keys_of(SweepSpec)
    assert {"name", "budget.gpu_hours", "early_stop.audit"} <= expected
    missing = {key for key in expected if key not in explained}
    assert not missing
    assert len(explained) == len(set(explained))


def test_the_page_names_every_design_and_scheduler():
    text = (DOCS / "spec.md").read_text()
    for word in [*DESIGNS, *SCHEDULERS]:
        assert f"`{word}`" in text, word
    rows = re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)
    assert [word for word in rows if word in DESIGNS] == list(DESIGNS)


def test_the_examples_of_the_page_are_valid(toy, tmp_path, monkeypatch):
    (tmp_path / "train.py").touch()
    monkeypatch.chdir(tmp_path)
    head = "name: toy\nworkload: toy_quadratic\n"
    for block in blocks("spec.md", "yaml"):
        whole = block.startswith("name:")
        spec, _ = load_spec(block if whole else head + block, lambda name: toy)
        assert spec.seeds == (0, 1, 2)


def test_the_searches_of_their_page_are_valid(toy):
    for block in blocks("search.md", "yaml"):
        spec, _ = load_spec("name: toy\nworkload: toy_quadratic\n" + block, lambda name: toy)
        assert spec.design in SEARCHES or "design:" not in block  # a part that any design takes


def test_the_defaults_of_the_page_are_the_real_ones():
    spec = SweepSpec(name="a", workload="b")
    table = dict(
        re.findall(
            r"^\| `([a-z_.]+)` \|[^|]*\| `?([^|`]*)`? \|",
            (DOCS / "spec.md").read_text(),
            flags=re.MULTILINE,
        )
    )
    assert table["design"] == spec.design
    assert int(table["seeds"]) == len(spec.seeds)
    assert int(table["retries"]) == spec.retries
    assert float(table["early_stop.audit"]) == spec.early_stop.audit
    assert table["early_stop.scheduler"] == spec.early_stop.scheduler
    assert table["resources.gpu"] == spec.resources.gpu
