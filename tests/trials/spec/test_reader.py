import random
import string
import time

import pytest

from sickbay.trials.errors import SpecError
from sickbay.trials.spec.reader import MAX_BYTES, read_file, read_text


def message(text) -> str:
    with pytest.raises(SpecError) as caught:
        read_text(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1e-3", 0.001),
        ("1.0e-5", 1e-5),
        ("'1e-3'", "1e-3"),
        ("1", 1),
        ("010", 10),
        ("-2.5", -2.5),
        ("true", True),
        ("yes", "yes"),
        ("off", "off"),
        ("2020-01-01", "2020-01-01"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("null", None),
        ("", None),
        (".inf", float("inf")),
    ],
)
def test_yaml_values_mean_what_they_look_like(written, read):
    value = read_text(f"a: {written}")["a"]
    assert value == read
    assert type(value) is type(read)


def test_json_and_flow_yaml_are_read_alike():
    assert read_text('{"a": [1, true], "b": "x"}') == read_text("{a: [1, true], b: x}")


def test_json_may_be_indented_with_tabs():
    assert read_text('{\n\t"a": 1\n}') == {"a": 1}


def test_a_byte_order_mark_is_no_part_of_the_text():
    assert read_text("\ufeffa: 1".encode()) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n- b", "a spec is a mapping of keys to values, but this is a list"),
        ("just words", "but this is a str, 'just words'"),
        ("", "but this is empty"),
        ("# only a comment", "but this is empty"),
        ("a: [1,\nb: 2", "line 2, column"),
        ("a: b: c", "line 1, column 5"),
        (
            "a:\n\tb: 1",
            "line 2, column 1: found character a tab that cannot start any token; indent",
        ),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' is given twice"),
        ("x:\n  a: 1\n  a: 1", "line 3, column 3: the key 'a' is given twice"),
        ('{"a": 1, "b": 2, "a": 3}', "a: this key is given twice"),
        ("a: &x [1]\nb: *x", "line 1, column 4: anchors and aliases"),
        ("a: !!python/object/apply:os.system [ls]", "the tag"),
        ("<<: {a: 1}", "a key must be a plain word"),
        ("? [1]\n: 2", "a key must be a plain word"),
        ("a: 1\0", "neither YAML nor JSON"),
        ("[" * 5000, "nested deeper than 12"),
        ('{"a":' * 100_000, "nested deeper than 12"),
        ('{"a": ' + "[" * 300 + "]" * 300 + "}", "nested deeper than 12"),
        ("a: " + "1" * 5000, "neither YAML nor JSON"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_what_cannot_be_read_says_where_and_why(text, says):
    assert says in message(text)


def test_an_alias_bomb_is_refused_before_it_goes_off():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    start = time.perf_counter()
    assert "anchors and aliases" in message("\n".join(lines))
    assert time.perf_counter() - start < 1


def test_ten_megabytes_are_refused_unread(tmp_path):
    nonsense = "".join(random.choices(string.printable, k=1000)) * 10_000
    start = time.perf_counter()
    assert "9.5 MiB, and at most 1 MiB is read" in message(nonsense)
    path = tmp_path / "nonsense.yaml"
    path.write_text(nonsense)
    with pytest.raises(SpecError, match="MiB, and at most 1 MiB"):
        read_file(path)
    assert time.perf_counter() - start < 1


def test_the_largest_text_that_is_read_is_refused_in_seconds():
    start = time.perf_counter()
    assert "more than 50000 values" in message("a: [" + "1," * (MAX_BYTES // 2 - 10) + "]")
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("seed", range(30))
def test_random_text_is_a_spec_error_or_a_mapping(seed):
    rng = random.Random(seed)
    alphabet = string.printable if seed % 2 else "{}[]:,-?&*!|>'\"%@` \n\tab1.#"
    text = "".join(rng.choices(alphabet, k=rng.randint(1, 400)))
    try:
        value = read_text(text)
    except SpecError:
        return
    assert isinstance(value, dict)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"cannot read .*nowhere\.yaml: No such file"):
        read_file(tmp_path / "nowhere.yaml")
    with pytest.raises(SpecError, match="Is a directory"):
        read_file(tmp_path)
