"""The table and the page of `make bench`: limits from both sides, and sections that are kept."""

from tests.benchmarks import figures
from tests.benchmarks.__main__ import section, sections
from tests.benchmarks.figures import Figure


def test_a_limit_is_missed_on_its_wrong_side_and_the_ratio_is_to_the_peer(tmp_path, monkeypatch):
    slow = Figure("run", 3.0, "s", 2.0, peer="theirs", peer_value=4.0)
    rate = Figure("requests", 700.0, "/s", 300.0, at_least=True)
    assert slow.cells == ("3 s", "at most 2 s (missed)", "0.75", "theirs: 4 s")
    assert rate.cells == ("700 /s", "at least 300 /s", "2.33", "")
    monkeypatch.setenv(figures.FILE, str(tmp_path / "figures"))
    assert (figures.tell([slow]), figures.tell([rate])) == (1, 0)
    assert figures.read(tmp_path / "figures") == [slow, rate]


def test_the_page_keeps_the_sections_of_benchmarks_that_were_not_run():
    store, lanes = section("store", [Figure("a|b", 1.0, "s")]), section("lanes", [])
    assert "| a\\|b | 1 s |  |  |  |" in store
    assert sections(f"# Performance\n\n{lanes}\n{store}") == {"lanes": lanes, "store": store}
