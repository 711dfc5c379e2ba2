"""Numbers and sentences as pages show them: one form each, whatever the value."""

import pytest

from quant_assets.common.pages import compact, count, limit, number, percent, sentence


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (12.3054999, "12.3"),
        (0.0123456, "0.0123"),
        (0.099999, "0.100"),
        (-0.3802, "−0.380"),
        (1.0, "1.00"),
        (1234.5, "1,234"),
        (3269, "3,269"),
        (0.00000123, "1.23e−06"),
        (1.5e12, "1.50e+12"),
        (0.0, "0"),
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
    ],
)
def test_a_measured_number_has_three_significant_digits_and_never_fewer_than_its_whole_part(
    value: float | None, shown: str
) -> None:
    assert compact(value) == shown


def test_a_configured_number_is_shown_as_it_was_written() -> None:
    assert [limit(v) for v in (0.95, 1.2, -0.2, 3269, 0.05)] == ["0.95", "1.2", "−0.2", "3,269", "0.05"]


def test_nothing_that_rounds_to_zero_is_negative() -> None:
    assert (percent(-0.00001), number(-0.001), count(-0.2)) == ("0.0%", "0.00", "0")
    assert (percent(-0.054), number(-0.01), count(12345)) == ("−5.4%", "−0.01", "12,345")


def test_a_sentence_has_a_capital_a_stop_and_signs_as_on_paper() -> None:
    assert sentence("it is -0.38, required is >= 1.2") == "It is −0.38, required is ≥ 1.2."
    assert sentence("from 2005-07-05 on path-2 (-3%) <= x_-1!") == "From 2005-07-05 on path-2 (−3%) ≤ x_-1!"
