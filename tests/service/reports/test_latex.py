"""Tables for papers: sound LaTeX, as wide as the column on pages of one column and of two."""

import itertools
import re
import shutil
import subprocess

import pytest
from latex_reader import check_latex, tables, widest_cells
from report_samples import EVIL, SampleTrial, large, small, uneven, write_compared

from sickbay.service.reports.file import write_latex_tables
from sickbay.service.reports.html import render_latex, report_values
from sickbay.service.reports.latex import escape, maths
from sickbay.trials.contract import Health

SWEEP = "sample-abc123"
ENGINE = shutil.which("pdflatex")
COLUMN = 229.5  # points: one of the two columns of `article`, the narrower page


def long_words():
    """Names as real factors have them, and one that no dictionary can hyphenate."""
    for initialization, loss, seed in itertools.product(
        ("zeros", "preset", "random"), ("uniform", "loss_of_weighted_predictions"), range(5)
    ):
        cause = "mixture_collapse" if loss.startswith("loss") else "minority_gradient_starvation"
        sick = {"label": Health.PATHOLOGICAL, "pathology": cause, "onset": 2}
        yield SampleTrial(
            {"initialization": initialization, "loss": loss, "checkpoint": "0f9a3cde881275ab"},
            seed,
            (2.0, 0.00012345 * (1 + seed % 3) + 0.01 * (initialization == "random")),
            **(sick if loss != "uniform" or initialization == "zeros" else {}),
        )


def many_arms():
    """Tables of more than a page."""
    return [
        SampleTrial({"lr": 0.01 * k}, seed, (1.0, 0.5 + seed)) for k in range(60) for seed in (0, 1)
    ]


SAMPLES = [
    pytest.param(uneven, id="uneven"),
    pytest.param(small, id="small"),
    pytest.param(lambda: large(240, 3), id="large", marks=pytest.mark.slow),
    pytest.param(long_words, id="long"),
    pytest.param(many_arms, id="many"),
]


@pytest.fixture(scope="module", params=SAMPLES)
def texts(request, tmp_path_factory):
    """The report, and the tables of the export."""
    store = write_compared(tmp_path_factory.mktemp("store"), list(request.param()))
    written = write_latex_tables(store, SWEEP, tmp_path_factory.mktemp("tables"))
    return store, [render_latex(store, SWEEP), *(path.read_text() for path in written)]


def test_latex_is_sound_and_no_word_is_wider_than_its_column(texts):
    for text in texts[1]:
        check_latex(text)
        for shares, _ in tables(text):
            assert sum(shares) == pytest.approx(1.0)
        assert widest_cells(text, COLUMN) <= (0.0, "")


@pytest.mark.skipif(ENGINE is None, reason="no pdflatex is installed")
@pytest.mark.parametrize("columns", ["onecolumn", "twocolumn"])
def test_latex_compiles_and_no_box_is_overfull(texts, columns, tmp_path):
    head = f"\\documentclass[{columns}]{{article}}\\usepackage{{booktabs,array,longtable}}"
    body = "\n\n\\clearpage\n".join(texts[1])
    (tmp_path / "paper.tex").write_text(f"{head}\\begin{{document}}\n{body}\n\\end{{document}}\n")
    made = subprocess.run(
        [ENGINE, "-halt-on-error", "-interaction=nonstopmode", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    log = (tmp_path / "paper.log").read_text(errors="replace")
    assert made.returncode == 0, log[-2000:]
    assert re.findall(r"Overfull \\[hv]box.*|.*too large.*", log) == []
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000


def test_latex_has_provenance_and_footnotes(texts):
    store, (text, *_) = texts
    assert "Holm's correction" in text
    assert re.search(r"Hardware cpu, .* GPU hours; by arm", text)
    assert "\\toprule" in text
    assert "code c0de" in text
    assert "Sickbay 0.1.0" in text
    for cause in report_values(store, SWEEP).causes:
        name = cause.name.replace("_", "\\_")
        assert f"\\,{name}: ${cause.trials}$ trial" in text


def test_a_table_of_many_arms_runs_over_pages(tmp_path):
    text = render_latex(write_compared(tmp_path, many_arms()), SWEEP)
    assert text.count("\\begin{longtable}") == 2


def test_words_in_latex():
    assert escape(EVIL) == (
        "a\\_b $\\mathdollar$x\\textasciicircum{}2$\\mathdollar$ \\& 50\\%"
        " \\{c\\} \\textbackslash{}d \\#1 \\textasciitilde{} [e] \\textless{}f\\textgreater{}"
    )
    assert escape("[x]\nκ") == "{}[x] $\\kappa$"
    assert maths("+2.5e-05 [-1e+30, 0.25] of 3") == (
        "$+2.5\\cdot10^{-5}$ [$-1\\cdot10^{30}$, $0.25$] of $3$"
    )
    assert maths("NaN") == "NaN"
