"""Conditions of a spec, such as `lr * momentum < 0.1 and init != "zeros"`, without `eval`.

Python's grammar parses the text; only names, literals and the operators and functions in the tables
below are compiled. Anything else is refused with its position.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sickbay.trials.contract import Config
from sickbay.trials.errors import parse_python

LONGEST = 1000  # characters of one condition
LARGEST_POWER = 64

_Value = Callable[[Config], Any]

_COMPARISONS: Mapping[type, tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.In: ("in", lambda value, many: value in many),
    ast.NotIn: ("not in", lambda value, many: value not in many),
}
_ARITHMETIC: Mapping[type, tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
    ast.Pow: ("**", lambda base, other: _power(base, other)),  # noqa: PLW0108 - defined below
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {"abs": abs, "min": min, "max": max}
_WORDS = {"true": True, "false": False, "True": True, "False": False}


class ExpressionError(ValueError):
    """A condition that cannot be read or judged; the message names the place, from column 1."""


@dataclass(frozen=True)
class Expression:
    """A condition over the settings of a trial: its text, the settings it uses, and its test."""

    text: str
    names: tuple[str, ...]
    judge: Callable[[Config], bool]

    def allows(self, config: Config) -> bool:
        """Whether it holds for a configuration; False where it cannot be evaluated."""
        try:
            return self.holds(config)
        except ExpressionError:
            return False

    def holds(self, config: Config) -> bool:
        """Whether it holds for a configuration; ExpressionError where it cannot be evaluated."""
        try:
            return self.judge(config)
        except (ArithmeticError, ValueError) as error:
            if isinstance(error, ExpressionError):
                raise
            where = ", ".join(f"{name}={config[name]!r}" for name in self.names)
            raise ExpressionError(f"cannot be evaluated for {where}: {error}") from None


def parse_expression(text: str) -> Expression:
    """Read a condition; raises ExpressionError that names the place of what is not allowed."""
    if len(text) > LONGEST:
        raise ExpressionError(f"longer than {LONGEST} characters")
    if not text.strip():
        raise ExpressionError("is empty: write a condition such as `lr < 0.1`, or leave it out")
    source = text.strip()
    try:
        tree = parse_python(source, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        column = getattr(error, "offset", None) or len(source) + 1  # none where the end is missed
        at = f"at column {column}: "
        message = getattr(error, "msg", "") or str(error) or "nested too deep"
        raise ExpressionError(f"{at}cannot be read ({message})") from None
    build = _Builder(source)
    try:
        judge = build.truth(tree.body)
    except RecursionError:
        raise ExpressionError("is nested too deep") from None
    return Expression(source, tuple(sorted(build.names)), judge)


class _Builder:
    """Compiles nodes to functions of a configuration, and collects the names used."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.names: set[str] = set()

    def truth(self, node: ast.expr) -> _Value:
        """Compile a boolean part; a number is refused, which catches slips such as `lr` alone."""
        if isinstance(node, ast.BoolOp):
            parts = [self.truth(value) for value in node.values]
            every = isinstance(node.op, ast.And)
            return (
                (lambda config: all(part(config) for part in parts))
                if every
                else (lambda config: any(part(config) for part in parts))
            )
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self.truth(node.operand)
            return lambda config: not inner(config)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        value, at = self.value(node), self._at(node)

        def judged(config: Config) -> bool:
            result = value(config)
            if not isinstance(result, bool):
                raise ExpressionError(f"{at} is {result!r}, neither true nor false: compare it")
            return result

        return judged

    def value(self, node: ast.expr) -> _Value:
        """Compile a part with a value: a number, a word, true or false."""
        if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str):
            constant = node.value
            return lambda _config: constant
        if isinstance(node, ast.Name):
            return self._name(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            inner, sign = self._number(node.operand), -1 if isinstance(node.op, ast.USub) else 1
            return lambda config: sign * inner(config)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            _, work = _ARITHMETIC[type(node.op)]
            left, right = self._number(node.left), self._number(node.right)
            return lambda config: work(left(config), right(config))
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.BoolOp | ast.Compare) or (
            isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
        ):
            return self.truth(node)
        raise ExpressionError(
            f"{self._at(node)} is not allowed. Allowed are settings, numbers, words in quotes, "
            "true, false, comparisons, and, or, not, in (…), + - * / // % **, abs, min, max"
        )

    def _name(self, node: ast.Name) -> _Value:
        if node.id in _WORDS:
            constant = _WORDS[node.id]
            return lambda _config: constant
        self.names.add(node.id)
        return operator.itemgetter(node.id)

    def _number(self, node: ast.expr) -> _Value:
        value, at = self.value(node), self._at(node)

        def number(config: Config) -> Any:
            result = value(config)
            if isinstance(result, bool) or not isinstance(result, int | float):
                raise ExpressionError(f"{at} is {result!r}, not a number")
            return result

        return number

    def _call(self, node: ast.Call) -> _Value:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in _FUNCTIONS or node.keywords or not node.args:
            raise ExpressionError(f"{self._at(node)} is not allowed; use abs, min or max")
        if (name == "abs") != (len(node.args) == 1):
            raise ExpressionError(f"{self._at(node)}: abs takes one number, min and max several")
        work, parts = _FUNCTIONS[name], [self._number(part) for part in node.args]
        return lambda config: work(*(part(config) for part in parts))

    def _comparison(self, node: ast.Compare) -> _Value:
        steps = []
        left = node.left
        for kind, right in zip(node.ops, node.comparators, strict=True):
            if type(kind) not in _COMPARISONS:
                raise ExpressionError(f"{self._at(node)}: write == for `is`")
            steps.append(self._step(left, kind, right))
            left = right
        return lambda config: all(step(config) for step in steps)

    def _step(self, left: ast.expr, kind: ast.cmpop, right: ast.expr) -> _Value:
        sign, work = _COMPARISONS[type(kind)]
        left_value, at = self.value(left), self._at(left)
        if sign in ("in", "not in"):
            many = self._many(right)
            return lambda config: work(
                _kept(left_value(config)), [_kept(part(config)) for part in many]
            )
        other = self.value(right)
        if sign in ("==", "!="):
            return lambda config: work(_kept(left_value(config)), _kept(other(config)))

        def ordered(config: Config) -> Any:
            first, second = left_value(config), other(config)
            numbers = not isinstance(first, bool | str) and not isinstance(second, bool | str)
            if not numbers:
                raise ExpressionError(f"{at} {sign} …: {first!r} and {second!r} cannot be ordered")
            return work(first, second)

        return ordered

    def _many(self, node: ast.expr) -> list[_Value]:
        if not isinstance(node, ast.List | ast.Tuple | ast.Set):
            raise ExpressionError(f"{self._at(node)}: `in` needs a list, such as (1, 2)")
        return [self.value(part) for part in node.elts]

    def _at(self, node: ast.expr) -> str:
        segment = ast.get_source_segment(self.source, node) or ""
        return f"`{segment[:60]}` at column {node.col_offset + 1}"


def _kept(value: Any) -> Any:
    """Keep true and 1 apart, as the levels of a factor do."""
    return (isinstance(value, bool), value)


def _power(base: float, exponent: float) -> float:
    if abs(exponent) > LARGEST_POWER:
        raise ExpressionError(f"** {exponent}: at most {LARGEST_POWER}")
    power = float(base) ** exponent
    if isinstance(power, complex):
        raise ExpressionError(f"{base} ** {exponent} is not a number")
    return float(power)
