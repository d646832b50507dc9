"""Conditions: what they mean, what is refused and where, and that nothing is ever executed."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.trials.spec.expression import ExpressionError, parse_expression

CONFIG = {"lr": 0.1, "momentum": 0.9, "init": "zeros", "flag": True, "epochs": 16}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("lr < 1", True),
        ("lr * momentum <= 0.08", False),
        ('init == "zeros"', True),
        ('init in ("random", "preset")', False),
        ('init not in ["random"] and lr > 0', True),
        ("not flag or lr > 1", False),
        ("flag", True),
        ("flag == true", True),
        ("epochs == 16.0", True),
        ("0.05 < lr < 0.5 <= momentum", True),
        ("max(lr, momentum) - min(lr, momentum) > 0.79", True),
        ("abs(-lr) ** 2 < 0.011", True),
        ("epochs % 4 == 0 and epochs // 5 == 3", True),
        ("epochs == 1 or flag", True),
        ("flag == 1", False),  # true is no number here, as among the levels of a factor
        ("1 in (true, 2)", False),
        ("lr <\n 1", None),
    ],
)
def test_what_a_condition_says(text, answer):
    if answer is None:
        with pytest.raises(ExpressionError):
            parse_expression(text)
    else:
        assert parse_expression(text).holds(CONFIG) is answer


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("lr <", "at column 5: cannot be read"),
        ("lr = 1", "cannot be read"),
        ("lr < 1 and __import__('os')", "`__import__('os')` at column 12 is not allowed"),
        ("lr.real < 1", "`lr.real` at column 1 is not allowed"),
        ("().__class__", "is not allowed"),
        ("[x for x in (1,)]", "is not allowed"),
        ("(lambda: 1)()", "is not allowed"),
        ("f'{lr}' == 'a'", "is not allowed"),
        ("lr < 1 if flag else lr > 1", "is not allowed"),
        ("init in names", "`in` needs a list"),
        ("init is 'zeros'", "write == for `is`"),
        ("sum(1, 2) > 1", "use abs, min or max"),
        ("abs(1, 2) > 1", "abs takes one number"),
        ("max(lr) > 1", "min and max several"),
        ("lr @ 2 > 1", "is not allowed"),
        ("(lr := 2) > 1", "is not allowed"),
        ("lr < " + "(" * 300 + "1" + ")" * 300, "cannot be read"),
        ("lr < 1 and " * 200 + "flag", "longer than 1000"),
        ("lr < 1\x00", "cannot be read"),
    ],
)
def test_what_is_refused_and_where(text, says):
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("init < 3", "'zeros' and 3 cannot be ordered"),
        ("init + 1 > 2", "`init` at column 1 is 'zeros', not a number"),
        (
            "lr / (epochs - 16) > 1",
            "cannot be evaluated for epochs=16, lr=0.1: float division by zero",
        ),
        ("lr", "is 0.1, neither true nor false: compare it"),
        ("lr ** 1000 > 1", "at most 64"),
        ("(0 - lr) ** 0.5 > 1", "is not a number"),
        ("flag + 1 > 1", "is True, not a number"),
        ("(10 ** 60) ** 60 > 1", "cannot be evaluated"),
    ],
)
def test_what_has_no_answer_says_why(text, says):
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text).holds(CONFIG)
    assert says in str(caught.value)


def test_names_are_listed():
    assert parse_expression("b < 1 and (a > 2 or true)").names == ("a", "b")


numbers = st.floats(-100, 100).map(lambda x: round(x, 3))
left = st.sampled_from(["a", "b", "2.5"])
signs = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
right = st.sampled_from(["a", "b", "a + b", "a * 2 - b", "-a", "max(a, b)"]) | numbers.map(str)
conditions = st.recursive(
    st.builds("{} {} {}".format, left, signs, right),
    lambda inner: st.one_of(
        st.builds("({}) and ({})".format, inner, inner),
        st.builds("({}) or ({})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=5,
)


@given(conditions, numbers, numbers)
def test_it_agrees_with_python(text, a, b):
    config = {"a": a, "b": b}
    assert parse_expression(text).holds(config) == eval(text, {"max": max}, config)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_and_never_runs(text):
    # a KeyError is a name that `check_spec` has refused before
    with contextlib.suppress(ExpressionError, KeyError):
        parse_expression(text).holds(CONFIG)
