"""Which folders of the service's machine a spec may name as its data.

Planning looks at the files below `dataset`, so that a caller could walk through the machine's
folders with it. A dataset that a workload generates is a plain word; a path has to lie below one of
the roots that the service was started with.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from sickbay.trials.errors import SpecError, SpecProblem
from sickbay.trials.spec.model import SweepSpec

SETTING = "dataset"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def check_data(spec: SweepSpec, roots: Sequence[Path]) -> None:
    """Raise SpecError for every dataset that is a path outside the roots."""
    allowed = [root.resolve() for root in roots]
    problems = [
        SpecProblem(
            key,
            "is not a dataset of this service: give a generated one by its name, or a path "
            "below one of the service's data folders (`sickbay serve --data-root`)",
            repr(value),
        )
        for key, value in _datasets(spec)
        if not _is_word(value) and not _is_below(value, allowed)
    ]
    if problems:
        raise SpecError(problems)


def _datasets(spec: SweepSpec) -> Iterator[tuple[str, str]]:
    """Every value of `dataset` in a spec, with its key."""
    for key, settings in (("fixed", spec.fixed), ("baseline", spec.baseline)):
        if SETTING in settings:
            yield f"{key}.{SETTING}", str(settings[SETTING])
    levels = spec.factors.get(SETTING, ())
    if isinstance(levels, list | tuple):
        for number, level in enumerate(levels):
            yield f"factors.{SETTING}[{number}]", str(level)


def _is_word(value: str) -> bool:
    return _WORD.fullmatch(value) is not None and not Path(value).exists()


def _is_below(value: str, roots: Sequence[Path]) -> bool:
    try:
        path = Path(value).resolve()
    except (OSError, ValueError, RuntimeError):
        return False
    return any(path.is_relative_to(root) for root in roots)
