"""Small logs as scripts write them, and what the readers make of them."""

from pathlib import Path

from sickbay.service.external_logs.judge import Judgement, judge_log
from sickbay.service.external_logs.options import LogOptions
from sickbay.trials.log_files.files import read_raw
from sickbay.trials.logs.log import ExternalLog
from sickbay.trials.logs.records import logs_of
from sickbay.trials.registry import all_detectors

DETECTORS = all_detectors()


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read(path: Path) -> ExternalLog:
    """The one log that a file or a run's folder holds."""
    (log,) = [external_log for raw in read_raw(path) for external_log in logs_of(raw, str(path))]
    return log


def judge(path: Path, **options) -> Judgement:
    return judge_log(path, LogOptions(**options), DETECTORS)


def csv_of(columns) -> str:
    rows = zip(*columns.values(), strict=True)
    return "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n"
