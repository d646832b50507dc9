"""TensorBoard event files, read through TensorBoard's own reader."""

from pathlib import Path
from typing import Any

from sickbay.trials.logs.log import LogError, RawLog

PATTERN = "*tfevents*"


def event_files(folder: Path) -> list[Path]:
    """The event files of a folder and of the folders below it, sorted."""
    return sorted(file for file in folder.rglob(PATTERN) if file.is_file())


def read_events(path: Path) -> RawLog:
    """Every scalar of an event file, or of all those in a folder, as records ordered by step.

    A file in a folder below (Keras writes `train` and `validation`) lends its tags that folder's
    name. Raises LogError without TensorBoard, and for files that hold no scalar.
    """
    files = event_files(path) if path.is_dir() else [path]
    by_step: dict[int, dict[str, float]] = {}
    for file in files:
        below = file.parent.relative_to(path).as_posix() if path.is_dir() else "."
        prefix = "" if below == "." else f"{below}/"
        for tag, step, value in _scalars(file):
            by_step.setdefault(step, {"step": float(step)})[prefix + tag] = value
    if not by_step:
        raise LogError(f"{path} holds no scalars: TensorBoard events were read, but no number")
    return RawLog("TensorBoard events", tuple(by_step[step] for step in sorted(by_step)))


def _scalars(file: Path) -> list[tuple[str, int, float]]:
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader  # noqa: PLC0415
        from tensorboard.util import tensor_util  # noqa: PLC0415  slow, and not always there
    except ImportError as error:
        raise LogError(
            "TensorBoard event files need the package tensorboard: "
            "pip install 'sickbay[tensorboard]'"
        ) from error
    scalars: list[tuple[str, int, float]] = []
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            number = _scalar(value, tensor_util)
            if number is not None:
                scalars.append((value.tag, int(event.step), number))
    return scalars


def _scalar(value: Any, tensor_util: Any) -> float | None:
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return float(value.simple_value)
    if kind != "tensor" or value.metadata.plugin_data.plugin_name not in {"", "scalars"}:
        return None
    array = tensor_util.make_ndarray(value.tensor)
    return float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "fiu" else None
