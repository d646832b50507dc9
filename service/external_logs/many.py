"""Many logs at once: found in files and folders, judged in a process pool, in order."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from sickbay.service.external_logs.judge import as_plain, judge_source
from sickbay.service.external_logs.options import LogOptions
from sickbay.trials.detector import Detector
from sickbay.trials.log_files.folders import Source, find_logs
from sickbay.trials.registry import all_detectors

ALONE = 8  # up to so many logs are judged here: processes take longer to start
CHUNK = 16


@dataclass(frozen=True)
class Failure:
    """A log that could not be judged, and why."""

    file: str
    error: str


Outcome = dict[str, Any] | Failure


def sources_of(paths: Sequence[Path], run: str | None = None) -> tuple[list[Source], list[Failure]]:
    """The runs at these paths, and the paths without a run; `run` chooses one."""
    sources: list[Source] = []
    failures = []
    for path in paths:
        try:
            sources += find_logs(path)
        except ValueError as error:
            failures.append(Failure(str(path), str(error)))
    named = [source for source in sources if run is not None and source.run == run]
    return named or sources, failures


def judge_many(sources: Sequence[Source], options: LogOptions) -> Iterator[Outcome]:
    """Judge every source in order, as plain data; one that cannot be judged is a Failure.

    Without findings, which would be thirty for each.
    """
    work = partial(_judge_one, options=options)
    if len(sources) <= ALONE:
        for source in sources:
            yield from work(source)
        return
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for outcomes in pool.map(work, sources, chunksize=CHUNK):
            yield from outcomes


def _judge_one(source: Source, options: LogOptions) -> list[Outcome]:
    try:
        judged = judge_source(source, options, _detectors())
    except ValueError as error:
        return [Failure(str(source.path), str(error))]
    return [
        {k: v for k, v in as_plain(judgement).items() if k != "findings"} for judgement in judged
    ]


@cache
def _detectors() -> tuple[Detector, ...]:
    """The detectors, loaded once per process: loading takes longer than judging."""
    return all_detectors()
