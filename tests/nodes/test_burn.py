"""Burn rates: both windows of a pair, on numbers that can be told apart from chance and silence."""

from __future__ import annotations

import pytest

from domain.service import SLI
from domain.verdict import Counts, Gap, VerdictKind
from nodes.burn import PAIRS, Reading, judge_burn

SLI_999 = SLI(name="errors", kind="errors", bad="b", total="t", objective=0.999)
SILENT = Gap(kind=VerdictKind.NODATA, reason="no events in 5m")
DOWN = Gap(kind=VerdictKind.ERROR, reason="no answer")
FAST, SLOW = PAIRS


def reading(
    hour: float = 1, five: float = 1, six: float = 1, thirty: float = 1, total: float = 100_000
) -> Reading:
    """Counts whose rates are so many times the thousandth that is allowed."""
    lengths = (FAST.long, FAST.short, SLOW.long, SLOW.short)
    return {
        length: Counts(bad=total * times / 1000, total=total)
        for length, times in zip(lengths, (hour, five, six, thirty), strict=True)
    }


def test_the_pairs_are_those_of_two_and_five_percent_of_a_months_budget() -> None:
    assert [(one.long, one.short, one.factor) for one in PAIRS] == [
        (3600, 300, 14.4),
        (21600, 1800, 6),
    ]


@pytest.mark.parametrize(
    ("given", "burns"),
    [
        (reading(hour=14.5, five=14.5), True),
        (reading(hour=14.5, five=14.3), False),
        (reading(hour=14.3, five=50), False),
        (reading(six=6.1, thirty=6.1), True),
        (reading(six=6.1, thirty=5.9), False),
        (reading(six=5.9, thirty=20, hour=12, five=12), False),
        (reading(hour=14.4, five=14.4), False),
    ],
)
def test_both_windows_of_a_pair_have_to_be_over_the_factor(given: Reading, burns: bool) -> None:
    found = judge_burn(SLI_999, given, final=True)
    assert found.verdict is (VerdictKind.FAIL if burns else VerdictKind.PASS)


def test_the_reason_names_rates_windows_and_counts() -> None:
    said = judge_burn(SLI_999, reading(hour=20, five=30), final=False).reason
    assert "20 times what is allowed over 1 h and 30 times over 5 min" in said
    assert "2.0% (2,000 of 100,000), 0.10% is allowed" in said


def test_a_version_that_only_fails_burns_a_thousand_times_in_plain_digits() -> None:
    dead = reading(hour=1000, five=1000, total=600)
    said = judge_burn(SLI_999, dead, final=False).reason
    assert "burns 1,000 times what is allowed over 1 h and 1,000 times over 5 min" in said
    few = reading(hour=150, five=150, total=60)
    assert "burns 150 times" in judge_burn(SLI_999, few, final=True).reason


def test_a_handful_of_errors_is_no_rate() -> None:
    few = reading(hour=90, five=90, six=90, thirty=90, total=100)
    assert judge_burn(SLI_999, few, final=True).verdict is VerdictKind.PASS


def test_silence_in_a_short_window_does_not_burn_and_an_hour_of_it_is_no_data() -> None:
    quiet = reading(hour=30) | {FAST.short: SILENT}
    assert judge_burn(SLI_999, quiet, final=True).verdict is VerdictKind.PASS
    dead: Reading = dict.fromkeys(reading(), SILENT)
    assert judge_burn(SLI_999, dead, final=False).verdict is VerdictKind.NODATA


def test_what_could_not_be_read_is_an_error_unless_the_rest_burns_all_the_same() -> None:
    assert judge_burn(SLI_999, reading() | {FAST.long: DOWN}, final=True).verdict is (
        VerdictKind.ERROR
    )
    slow = reading(six=7, thirty=7) | {FAST.long: DOWN}
    assert judge_burn(SLI_999, slow, final=True).verdict is VerdictKind.FAIL


def test_it_is_not_over_before_its_time() -> None:
    assert judge_burn(SLI_999, reading(), final=False).verdict is VerdictKind.INCONCLUSIVE
