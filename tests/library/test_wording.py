"""Numbers as people write them: one notation, one minus sign, no digits that mean nothing."""

from __future__ import annotations

import math

import pytest

from glitch_train.wording import change, number, percent, rate_text, shown, with_error


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (31.2, 49.8, "31 ± 50"),
        (-0.00821, 0.00031, "−0.00821 ± 0.00031"),
        (12345.6, 210.0, "12,346 ± 210"),
        (-0.2, 40.0, "0 ± 40"),
        (0.0, 0.0, "0 ± 0"),
        (3e-9, 1e-9, "(3.0 ± 1.0) × 10^−9"),
        (-1.2e8, 3e7, "(−1.20 ± 0.30) × 10^8"),
        (5e-324, 5e-324, "4.94 × 10^−324 ± 4.94 × 10^−324"),
        (1.0, math.inf, "1 ± inf"),
    ],
)
def test_a_number_and_its_error_share_a_format(value: float, error: float, words: str) -> None:
    """Catches "31 ± 5e+01" and "1e+08 ± 3e+07", and digits that the error makes meaningless."""
    assert with_error(value, error) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.08214, "0.08214"),
        (36034.2, "36,030"),
        (-0.5, "−0.5"),
        (999_999.9, "1,000,000"),
        (1e-5, "0.00001"),
        (3.4e38, "3.4 × 10^38"),
        (-1.25e-9, "−1.25 × 10^−9"),
        (0.0, "0"),
    ],
)
def test_numbers_are_written_out(value: float, words: str) -> None:
    """Catches "1e-05" and "3.4e+38" said to a person, and a hyphen for a minus sign."""
    assert number(value) == words


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(0.4, "−60 %"), (1.04, "+4.0 %"), (1.0002, "unchanged"), (0.9998, "unchanged"),
     (12.3, "12 times the start"), (1e30, "1 × 10^30 times the start")],
)  # fmt: skip
def test_a_change_has_one_sign(ratio: float, words: str) -> None:
    """Catches "+less than 0.1 %", and a growth of thirty digits per cent."""
    assert change(ratio) == words


def test_shares_rates_and_settings() -> None:
    """Catches a learning rate of "2e+01" or "1e-04", and a share with an exponent or a hyphen."""
    rates = (2e-4, 6.7e-5, 1.0, 15.0)
    assert [rate_text(rate) for rate in rates] == ["2e-4", "6.7e-5", "1", "15"]
    shares = (0.12, -0.034, -0.0003, 12.0, 1e9)
    told = ["12 %", "−3.4 %", "less than 0.1 %", "1,200 %", "1 × 10^11 %"]
    assert [percent(share) for share in shares] == told
    assert shown(1e-6) == "1e-6"
