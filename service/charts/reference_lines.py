"""The lines that a curve is read against: what a trial's facts know before it is trained."""

from sickbay.trials.contract import ReferenceLine, TaskFacts

H0_TEXT = "the best constant predictor (H0)"


def reference_lines_of(facts: TaskFacts, signal: str) -> tuple[ReferenceLine, ...]:
    """Return the lines of a signal: the best constant (H0) first, then what the workload declares.

    A declared line that says no more than H0 does (a `floor` of the same value) is left out.
    """
    floor = facts.floors.get(signal)
    declared = tuple(line for line in facts.reference_lines if line.signal == signal)
    if floor is None:
        return declared
    first = ReferenceLine(signal, floor, H0_TEXT, "floor")
    same = [line for line in declared if line.name == "floor" and line.value == floor]
    if same:  # its formula is worth keeping
        first = ReferenceLine(signal, floor, H0_TEXT, "floor", same[0].formula)
    return (first, *(line for line in declared if line not in same))


def label_of(line: ReferenceLine) -> str:
    """Say what a line is, in one line: its meaning, and the formula where there is one."""
    return f"{line.text}: {line.formula}" if line.formula else line.text
