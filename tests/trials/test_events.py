"""What makes two errors one mistake, and when a sweep should give up."""

import pytest

from sickbay.trials.events import ErrorStorm, StormWatch, TrialEnded, error_key, error_line

TRACE = 'Traceback:\n  File "a.py", line {line}, in train\n    x()\n{kind}: {message}\n'


def trace(line=3, kind="ValueError", message="lr is 0.1"):
    return TRACE.format(line=line, kind=kind, message=message)


def test_the_same_place_and_class_is_the_same_mistake_whatever_the_message():
    assert error_key(trace()) == error_key(trace(message="lr is 0.2"))
    assert error_key(trace()) != error_key(trace(line=4))
    assert error_key(trace()) != error_key(trace(kind="KeyError"))
    assert error_key(trace(message="4 MiB\nand 3 more")) == error_key(trace(message="5 MiB"))
    assert error_key(None) is None


SCRIPT = "ScriptError: the script ended with signal SIGSEGV; its last output:"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (None, ""),
        (trace(message="out of memory\nTried 4 MiB\n"), "ValueError: out of memory"),
        (trace(kind="KeyError") + "\nDuring handling:\n" + trace(), "ValueError: lr is 0.1"),
        ("RuntimeError: it broke\n  here", "RuntimeError: it broke"),
        (f"{SCRIPT}\nloss 1\nloss 2\n", f"{SCRIPT} loss 2"),
        (f'{SCRIPT}\nFatal Python error\n  File "a.py", line 1 in <module>', None),
    ],
)
def test_the_line_that_says_what_happened(error, line):
    assert error_line(error) == line if line is not None else SCRIPT in error_line(error)


def ended(error):
    return TrialEnded(
        "t", "failed" if error else "completed", error=error, error_key=error_key(error)
    )


def test_three_in_a_row_are_a_storm():
    watch = StormWatch()
    assert watch.see(ended(trace())) is None
    assert watch.see(ended(trace())) is None
    storm = watch.see(ended(trace(message="the last")))
    assert isinstance(storm, ErrorStorm)
    assert "3 trials in a row" in str(storm)
    assert "the last" in storm.traceback


@pytest.mark.parametrize("between", [None, trace(line=9)])
def test_anything_between_starts_the_count_anew(between):
    watch = StormWatch()
    for error in (trace(), trace(), between, trace(), trace()):
        assert watch.see(ended(error)) is None
