"""Names of the parameter groups that a probe watches, on their way to the running trial's facts.

A workload states its facts before it makes its model; the probe in its training code knows the
model's parts. They share a thread, and so a context variable.
"""

from contextvars import ContextVar

_names: ContextVar[tuple[str, ...]] = ContextVar("names", default=())


def note_groups(names: tuple[str, ...]) -> None:
    """Say which groups the `group_*` vectors of this thread's training stand for; () for none."""
    _names.set(names)


def noted_groups() -> tuple[str, ...]:
    """The names noted last in this thread; empty if there is no probe."""
    return _names.get()
