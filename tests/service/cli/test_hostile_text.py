"""What users write is text everywhere: levels, errors and columns that look like markup or HTML."""

import csv
import io
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest
from hostile_text import ESCAPES, LEVELS, LONG, write_hostile

from sickbay.service.cli.app import main


def sickbay(*arguments):
    """Run the command line in this process; gives its exit code and all that it printed."""
    out = io.StringIO()
    before, sys.argv = sys.argv, ["sickbay", *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(out), pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = before
    return end.value.code or 0, out.getvalue()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A sweep over hostile levels, of which one fails and one is pathological."""
    folder = tmp_path_factory.mktemp("hostile")
    spec = write_hostile(folder)
    code, printed = sickbay("run", spec, "--store", folder / "store", "--in-process")
    return folder, code, printed


def test_a_run_prints_levels_and_errors_as_they_are(hostile):
    _, code, printed = hostile
    assert code == 1  # two trials have failed
    for level in set(LEVELS) - {ESCAPES, LONG}:
        assert level in printed
    assert LONG not in printed  # its middle is left out
    assert "RuntimeError: no such level: [/INST] [red]x[/INST]" in printed


@pytest.mark.parametrize(
    ("words", "shows"),
    [
        ("validate {spec}", "14 trials"),
        ("plan {spec} --store {store}", "[red]x[/INST]"),
        ("list --store {store}", "hostile"),
        ("status hostile --store {store}", "failed"),
        ("results hostile --store {store}", "[/b]"),
        ("results hostile --store {store} --format csv", "[/INST]"),
        ("query 'SELECT level AS \"[/b]\", error FROM trials' --store {store}", "[/b]"),
        ("effects hostile --store {store}", "[/b]"),
        ("effects hostile --store {store} --all", "[/b]"),
        ("explain {failed} --store {store}", "[/INST]"),
        ("explain {pathological} --store {store}", "non_finite"),
        ("logs hostile {failed} --store {store}", "-- its script printed:"),
        ("report hostile --store {store} --format md --output {folder}/r.md", "r.md"),
        ("report hostile --store {store} --format latex --output {folder}/r.tex", "r.tex"),
        ("compare hostile hostile --store {store}", "hostile"),
        ("relabel hostile --store {store}", ""),
        ("export hostile --store {store} --format csv --out {folder}/out", "out"),
        ("diagnose {folder}/log.csv", "[/b]"),
    ],
)
def test_every_verb_prints_text_as_text(hostile, words, shows):
    folder, *_ = hostile
    with (folder / "log.csv").open("w") as file:
        rows = [["epoch", "[/b]", "val_loss"], *([n, 0.1, 1 / n] for n in range(1, 9))]
        csv.writer(file).writerows(rows)
    store = folder / "store"
    ids = {}
    for name, where in (
        ("failed", "state = 'failed'"),
        ("pathological", "pathology = 'non_finite'"),
    ):
        sql = f"SELECT trial_id FROM trials WHERE {where}"
        _, printed = sickbay("query", sql, "--store", store, "--format", "csv")
        ids[name] = printed.split()[1]
    filled = [
        word.format(spec=folder / "spec.yaml", store=store, folder=folder, **ids)
        for word in _split(words)
    ]
    code, printed = sickbay(*filled)
    assert code in (0, 2 if "compare" in words else 0), printed
    assert "Traceback" not in printed or "no such level" in printed
    assert shows in printed
    table = "--format csv" not in words and not words.startswith("logs")
    assert not table or not {"\x1b", "\x07", "\u202e"} & set(printed)


def _split(command):
    import shlex

    return shlex.split(command)


def test_the_report_is_a_page_without_the_users_scripts(hostile):
    folder, *_ = hostile
    code, printed = sickbay(
        "report", "hostile", "--store", folder / "store", "--output", folder / "r.html"
    )
    assert code == 0, printed
    page = (folder / "r.html").read_text()
    assert "<script>alert(1)</script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "[red]x[/INST]" in page
    assert "\x1b" not in page
