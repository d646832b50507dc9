"""Numbers to a few digits, long texts without their middle; what is short stays as written."""

import pytest

from sickbay.service.summary.formatting import level, short_arm, shown


@pytest.mark.parametrize(
    ("value", "written", "in_a_spec"),
    [
        (0.1 + 0.2, "0.3", "0.3"),
        (1.2345678e-5, "1.23457e-05", "1.23457e-05"),
        (2.0, "2", "2.0"),
        (float("inf"), "inf", "Infinity"),
        (True, "true", "true"),
        (12345678, "12345678", "12345678"),
        ("0.30000000000000004", "0.30000000000000004", "0.30000000000000004"),
        ("ab" * 50, f"{'ab' * 15}…{('ab' * 15)[1:]}", f"{'ab' * 15}…{('ab' * 15)[1:]}"),
    ],
)
def test_a_level_is_written_to_six_digits_and_sixty_letters(value, written, in_a_spec):
    assert (level(value), shown(value)) == (written, in_a_spec)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("lr=0.30000000000000004, init=zeros", "lr=0.3, init=zeros"),
        ("lr=1.2345678e-05, wd=-0.1234567891", "lr=1.23457e-05, wd=-0.123457"),
        (
            "epochs=12345678, version=1.2.3, note=v1.23456789",
            "epochs=12345678, version=1.2.3, note=v1.23456789",
        ),
        ("baseline", "baseline"),
    ],
)
def test_the_numbers_in_an_arms_name_are_short(name, written):
    assert short_arm(name) == written
