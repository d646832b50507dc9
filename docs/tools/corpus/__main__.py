"""`python -m docs.tools.corpus VERB`: make the corpus, freeze the thresholds, judge.

generate   run what is missing of the corpus (about two hours on one core; resumes)
collect    put what the store holds into the corpus file
look       judge one half at one level and print its figures, its misses and its false alarms
freeze     record margins and detector versions, before the held-out half is judged
page       judge everything and write docs/benchmark.md
"""

import argparse
import json
from collections import Counter
from pathlib import Path

from docs.tools.corpus import corpus
from docs.tools.corpus.faults import TASKS
from docs.tools.corpus.report import freezing
from docs.tools.corpus.report.evaluate import half, results_of, table_of
from docs.tools.corpus.report.figures import Judged, headline, of_faults
from docs.tools.corpus.report.page import page
from docs.tools.corpus.telemetry import Level

ROOT = Path(__file__).parents[3]
STORE = ROOT / "build" / "corpus"
PAGE = ROOT / "docs" / "benchmark.md"


def main() -> None:
    """Do what was asked."""
    parser = argparse.ArgumentParser(prog="python -m docs.tools.corpus")
    parser.add_argument("verb", choices=["generate", "collect", "look", "freeze", "page"])
    parser.add_argument("--store", type=Path, default=STORE, help="where the sweeps are stored")
    parser.add_argument("--corpus", type=Path, default=corpus.CORPUS, help="the corpus file")
    parser.add_argument("--half", default="calibration", choices=["calibration", "held_out"])
    parser.add_argument("--tasks", nargs="*", default=None, help="only these")
    parser.add_argument("--level", type=Level, default=Level.ORDINARY, choices=list(Level))
    parser.add_argument("--minutes", type=float, default=None, help="end to generate after these")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=None, help="keeps verdicts between calls")
    asked = parser.parse_args()
    if asked.verb == "generate":
        from docs.tools.corpus.generate import generate

        generate(asked.store, tuple(asked.tasks or TASKS), asked.minutes)
    elif asked.verb == "collect":
        count = corpus.collect(asked.store, asked.corpus)
        print(f"{count} runs, {asked.corpus.stat().st_size / 1e6:.1f} MB")
    elif asked.verb == "freeze":
        print(json.dumps(freezing.freeze(), indent=2))
    elif asked.verb == "look":
        tasks = tuple(asked.tasks) if asked.tasks else half(asked.half)
        show(table_of(asked.corpus, tasks, asked.level, asked.processes, asked.keep))
    else:
        PAGE.write_text(page(results_of(asked.corpus, asked.processes, asked.keep)))
        print(PAGE)


def show(table: list[Judged]) -> None:
    """Print figures, misses and false alarms."""
    for name, figure in headline(table).items():
        print(f"{name:60s} {figure.text()}")
    missed = Counter(
        (run.case.task, run.case.fault, run.truth.why, run.verdict.health)
        for run in of_faults(table)
        if not run.called
    )
    alarms = Counter(
        (run.case.task, run.case.fault, run.case.variant, str(run.verdict.primary))
        for run in table
        if run.called and not run.pathological
    )
    blamed = Counter(
        (run.operator.name, str(run.verdict.primary))
        for run in of_faults(table)
        if run.called and not run.named_right
    )
    odd = Counter(
        (run.case.task, run.case.variant, run.truth.why, run.verdict.health)
        for run in table
        if run.case.kind != "fault" and (run.pathological or run.verdict.health != "healthy")
    )
    stopped = Counter(
        (run.case.task, run.case.fault, run.case.variant, str(run.verdict.stop_cause))
        for run in table
        if run.verdict.stop_epoch is not None and not run.pathological
    )
    for title, counts in {
        "MISSED": missed,
        "FALSE ALARMS": alarms,
        "WRONG CAUSES": blamed,
        "CONTROLS AND HARD ONES NOT HEALTHY": odd,
        "FALSE STOPS": stopped,
    }.items():
        print(f"\n{title} ({sum(counts.values())})")
        for key, count in counts.most_common(70):
            print(f"  {count:3d}  {'  '.join(key)}")


if __name__ == "__main__":
    main()
