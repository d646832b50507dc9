"""Judge the corpus at every level of telemetry, for the page."""

import hashlib
import pickle
from pathlib import Path

from docs.tools.corpus.corpus import read
from docs.tools.corpus.faults import CALIBRATION, HELD_OUT, TASKS
from docs.tools.corpus.report import peers
from docs.tools.corpus.report.figures import Judged
from docs.tools.corpus.report.freezing import fingerprint, frozen, sources
from docs.tools.corpus.report.judging import Key, Verdict, built_in, judge_all
from docs.tools.corpus.report.page import Results
from docs.tools.corpus.telemetry import Level
from docs.tools.corpus.truth import killed_groups, truths
from sickbay.trials.diagnosis.diagnose import labeller_version

Known = dict[tuple[Level, Key], Verdict]


def half(name: str) -> tuple[str, ...]:
    """The tasks of `calibration`, `held_out` or `all`."""
    return {"calibration": CALIBRATION, "held_out": HELD_OUT, "all": TASKS}[name]


def table_of(
    path: Path,
    tasks: tuple[str, ...],
    level: Level = Level.PROBE,
    processes: int = 2,
    keep: Path | None = None,
) -> list[Judged]:
    """Judge these tasks; with `keep`, verdicts of the same code and file are read back."""
    mark = (fingerprint(), sources(), hashlib.sha256(path.read_bytes()).hexdigest())
    known = _kept(keep, mark)
    lacking = tuple(
        task for task in tasks if not any(at is level and key[0] == task for at, key in known)
    )
    if lacking:
        judged = judge_all(path, lacking, level, processes)
        known |= {(level, key): verdict for key, verdict in judged.items()}
    if keep is not None:
        keep.write_bytes(pickle.dumps((mark, known)))
    cases = list(read(path, tasks))
    true = truths(cases)
    return [Judged(case, true[case.key], known[level, case.key]) for case in cases]


def _kept(keep: Path | None, mark: tuple[str, str, str]) -> Known:
    if keep is None or not keep.exists():
        return {}
    old, known = pickle.loads(keep.read_bytes())
    return known if old == mark else {}


def results_of(path: Path, processes: int, keep: Path | None = None) -> Results:
    """Judge everything at every level; raises RuntimeError if what judges changed meanwhile."""
    begun = sources()
    tables = {level: table_of(path, TASKS, level, processes, keep) for level in Level}
    if sources() != begun:
        raise RuntimeError("detectors, diagnosis or evidence changed while they judged: judge anew")
    return Results(
        tables=tables,
        killed=killed_groups(run.case for run in tables[Level.PROBE]),
        frozen=frozen(),
        fingerprint=fingerprint(),
        labeller=labeller_version(built_in()),
        peers=peers.stored(),
    )
