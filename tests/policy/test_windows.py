"""Change windows: against a model that looks at every minute, and in the words people read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.decision import Outcome
from policy.evaluate import evaluate
from policy.facts import OverrideFact
from policy.recurrence import Holidays, Part, WeekRange
from policy.rules import Rules
from policy.schedule import Window, next_opening, standing, told
from tests.policy.making import SATURDAY, WEDNESDAY, deploy, facts, policy_with, shipped

# Each span holds a change of the clock: Berlin forward and back, New York forward and back, Lord
# Howe's half hour, and Beirut, whose clock jumps at midnight.
SPANS = [
    ("Europe/Berlin", datetime(2026, 3, 27, 12, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 23, 12, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 6, 12, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 10, 30, 12, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 3, 3, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 2, 3, tzinfo=UTC)),
    ("Asia/Beirut", datetime(2026, 3, 27, 12, tzinfo=UTC)),
]
MODEL_DAYS = 9
MINUTE = timedelta(minutes=1)


def window(
    id: str, zone: str, start: int | None, end: int | None, holidays: str | None = None
) -> Window:
    home = ZoneInfo(zone)
    parts: list[Part] = []
    if start is not None and end is not None:
        parts.append(WeekRange(home, start, end))
    if holidays is not None:
        parts.append(Holidays(home, holidays))
    return Window(id, home, tuple(parts), ("prod",), ("*",))


def covers_minute(one: Window, at: datetime) -> bool:
    """The model: read the wall clock as weekday and time, and walk the range minute by minute."""
    (part,) = one.parts
    assert isinstance(part, WeekRange)
    local = at.astimezone(one.zone)
    shown = local.strftime("%a %H:%M")
    names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    now = names.index(shown[:3]) * 1440 + int(shown[4:6]) * 60 + int(shown[7:9])
    length = (part.end - part.start) % 10080
    return (now - part.start) % 10080 < length


def model_open(deny: list[Window], allow: list[Window], at: datetime) -> bool:
    if any(covers_minute(one, at) for one in deny):
        return False
    return not allow or any(covers_minute(one, at) for one in allow)


@st.composite
def windows(draw: st.DrawFn, zone: str) -> Window:
    # Boundaries are drawn close to the night of the change as often as anywhere in the week.
    near = st.integers(5 * 1440 + 1200, 6 * 1440 + 300)
    minute = st.one_of(near, st.integers(0, 10079))
    start = draw(minute)
    end = draw(minute.filter(lambda m: m != start))
    return window("w", zone, start, end)


@settings(max_examples=120, deadline=None)
@given(data=st.data(), span=st.sampled_from(SPANS), seconds=st.integers(0, 59))
def test_open_and_next_opening_agree_with_every_minute_of_the_wall_clock(
    data: st.DataObject, span: tuple[str, datetime], seconds: int
) -> None:
    zone, begin = span
    deny = data.draw(st.lists(windows(zone), max_size=2))
    allow = data.draw(st.lists(windows(zone), max_size=2))
    begin += data.draw(st.integers(0, 3 * 1440)) * MINUTE
    is_open = [model_open(deny, allow, begin + n * MINUTE) for n in range(MODEL_DAYS * 1440)]
    at = begin + timedelta(seconds=seconds)
    assert (standing(deny, allow, at, look_ahead=False) is None) == is_open[0]
    if is_open[0]:
        assert next_opening(deny, allow, at) == at
    elif True in is_open:
        assert next_opening(deny, allow, at) == begin + is_open.index(True) * MINUTE
    else:
        later = next_opening(deny, allow, at)
        assert later is None or later >= begin + MODEL_DAYS * 1440 * MINUTE


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin"))


WEEKEND = window("weekend", "Europe/Berlin", 4 * 1440 + 1080, 480)


@pytest.mark.parametrize(
    ("at", "opens"),
    [
        ("2026-03-27T18:00", "2026-03-30T08:00"),  # the clock goes forward in between
        ("2026-10-23T18:00", "2026-10-26T08:00"),  # the clock goes back in between
        ("2027-12-31T23:59", "2028-01-03T08:00"),  # over the year's end
        ("2028-02-25T20:00", "2028-02-28T08:00"),  # in a leap year
        ("2026-03-30T07:59", "2026-03-30T08:00"),
    ],
)
def test_a_weekend_ends_on_monday_by_the_clock_on_the_wall(at: str, opens: str) -> None:
    assert next_opening([WEEKEND], [], berlin(at)) == berlin(opens)


@pytest.mark.parametrize("at", ["2026-03-27T17:59", "2026-03-30T08:00"])
def test_the_first_minute_belongs_to_a_window_and_the_last_does_not(at: str) -> None:
    assert standing([WEEKEND], [], berlin(at)) is None


def test_an_end_in_the_hour_that_is_left_out_opens_right_after_it() -> None:
    # Sun 02:30 does not exist in Berlin on 2026-03-29: the clock goes from 01:59 to 03:00.
    night = window("night", "Europe/Berlin", 6 * 1440, 6 * 1440 + 150)
    assert next_opening([night], [], berlin("2026-03-29T00:10")) == berlin("2026-03-29T03:00")


def test_both_passes_of_a_repeated_hour_belong_to_a_window() -> None:
    night = window("night", "Europe/Berlin", 6 * 1440 + 120, 6 * 1440 + 180)
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert standing([night], [], first) is not None
    assert standing([night], [], first + timedelta(hours=1)) is not None
    assert next_opening([night], [], first) == datetime(2026, 10, 25, 2, 0, tzinfo=UTC)


def test_several_allow_windows_add_up_and_deny_beats_them() -> None:
    morning = window("morning", "UTC", 2 * 1440 + 480, 2 * 1440 + 720)
    evening = window("evening", "UTC", 2 * 1440 + 1080, 2 * 1440 + 1200)
    noon = datetime(2026, 3, 25, 13, 0, tzinfo=UTC)
    assert standing([], [morning, evening], noon - timedelta(hours=3)) is None
    assert next_opening([], [morning, evening], noon) == noon.replace(hour=18)
    freeze = window("freeze", "UTC", 2 * 1440 + 1080, 2 * 1440 + 1110)
    assert next_opening([freeze], [morning, evening], noon) == noon.replace(hour=18, minute=30)


def test_public_holidays_close_whole_local_days() -> None:
    unity = window("holidays", "Europe/Berlin", None, None, "DE")
    closed = standing([unity], [], berlin("2026-12-25T00:00"))
    assert closed is not None
    assert "2026-12-25" in closed.why
    assert closed.opens == berlin("2026-12-27T00:00")  # both days of Christmas
    assert standing([unity], [], berlin("2026-12-24T23:59")) is None


def test_a_subdivision_has_holidays_of_its_own() -> None:
    at = berlin("2027-03-08T12:00")  # International Women's Day: in Berlin, not in Bavaria
    assert standing([window("h", "Europe/Berlin", None, None, "DE-BE")], [], at) is not None
    assert standing([window("h", "Europe/Berlin", None, None, "DE-BY")], [], at) is None


def test_what_never_opens_is_found_out_within_bounds() -> None:
    week = [window("a", "UTC", 0, 5000), window("b", "UTC", 5000, 0)]
    assert next_opening(week, [], WEDNESDAY) is None


WEEKEND_TEXT = (
    "  deny: []",
    "  deny:\n"
    '    - {id: no-prod-weekend, from: "Fri 18:00", to: "Mon 08:00", environments: [prod]}',
)


def waiting() -> Rules:
    """A closed weekend that is waited for."""
    return policy_with(WEEKEND_TEXT)


def test_the_shipped_policy_denies_production_at_the_weekend() -> None:
    decision = evaluate(shipped(), facts(), SATURDAY)
    assert decision.outcome is Outcome.DENY
    assert decision.deciding_rules == ("windows.closed",)
    assert "Mon 2026-03-30 08:00 Europe/Berlin" in decision.rules[0].remedy


def test_a_closed_window_waits_and_names_rule_opening_and_way_out() -> None:
    decision = evaluate(waiting(), facts(), SATURDAY)
    assert decision.outcome is Outcome.WAIT
    assert decision.deciding_rules == ("windows.closed",)
    assert decision.until == datetime(2026, 3, 30, 6, 0, tzinfo=UTC)
    assert "no-prod-weekend" in decision.reason
    assert "Mon 2026-03-30 08:00 Europe/Berlin" in decision.reason
    assert "/override" in decision.rules[0].remedy


def test_a_closed_window_denies_where_the_policy_says_so() -> None:
    rules = policy_with(WEEKEND_TEXT, ("when_closed: wait", "when_closed: deny"))
    decision = evaluate(rules, facts(), SATURDAY)
    assert decision.outcome is Outcome.DENY
    assert "Mon 2026-03-30 08:00 Europe/Berlin" in decision.rules[0].remedy


def test_windows_are_about_the_environments_and_services_they_name() -> None:
    assert evaluate(shipped(), facts(deploy("staging")), SATURDAY).outcome is Outcome.ALLOW
    only_pay = (WEEKEND_TEXT[0], WEEKEND_TEXT[1].replace("[prod]}", "[prod], services: [pay*]}"))
    assert "windows.closed" not in rule_ids(policy_with(only_pay))


def rule_ids(rules: Rules, **more: Any) -> list[str]:
    decision = evaluate(rules, facts(**more), SATURDAY)
    return [one.rule for one in decision.rules]


def test_what_has_begun_finishes_or_is_held_but_is_never_taken_back_by_a_window() -> None:
    assert "windows.closed" not in rule_ids(waiting(), in_flight=True)
    hold = policy_with(
        WEEKEND_TEXT,
        ("in_flight_window: finish", "in_flight_window: hold"),
        ("when_closed: wait", "when_closed: deny"),
    )
    assert evaluate(hold, facts(in_flight=True), SATURDAY).outcome is Outcome.WAIT


def test_a_minute_that_comes_twice_is_judged_twice() -> None:
    rules = policy_with(
        ("timezone: Europe/Berlin", "timezone: UTC"),
        (
            "  deny: []",
            '  deny:\n    - {id: backup, from: "Sun 00:15", to: "Sun 00:45", environments: [prod]}',
        ),
    )
    first = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    for at, closed in ((first, True), (first.replace(fold=1), False), (first, True)):
        decision = evaluate(rules, facts(), at)
        assert ("windows.closed" in decision.deciding_rules) is closed


def test_another_policy_has_windows_of_its_own() -> None:
    for rules, outcome in ((waiting(), Outcome.WAIT), (policy_with(), Outcome.NEEDS_APPROVAL)) * 2:
        assert evaluate(rules, facts(), SATURDAY).outcome is outcome


def test_nobody_is_asked_while_the_window_is_closed() -> None:
    decision = evaluate(waiting(), facts(), SATURDAY)
    assert "approval.required" in [one.rule for one in decision.rules]
    assert decision.requirement is None


def override(**more: object) -> OverrideFact:
    values: dict[str, object] = {
        "principal": "sam",
        "roles": ("sre-lead",),
        "reason": "checkout is down for everyone",
        "at": SATURDAY - timedelta(minutes=30),
        "expires_at": SATURDAY + timedelta(minutes=30),
    }
    return OverrideFact.model_validate({**values, **more})


def test_a_valid_override_lifts_the_window_and_is_told_with_who_why_and_until() -> None:
    decision = evaluate(shipped(), facts(overrides=(override(),)), SATURDAY)
    assert decision.outcome is Outcome.NEEDS_APPROVAL
    told_by = next(one for one in decision.rules if one.rule == "override.accepted")
    for word in ("sam", "checkout is down for everyone", "2026-03-28 11:30 UTC", "no-prod-weekend"):
        assert word in told_by.reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"principal": "deploy[bot]"}, "is a bot"),
        ({"roles": ("developer",)}, "without a role"),
        ({"reason": "  urgent   "}, "6 letters"),
        ({"expires_at": SATURDAY}, "ended"),
        ({"at": SATURDAY + MINUTE, "expires_at": SATURDAY + 2 * MINUTE}, "begins only"),
        # Written down for a day, but the policy lets an override last two hours.
        ({"at": SATURDAY - timedelta(hours=2), "expires_at": SATURDAY + timedelta(days=1)}, "end"),
    ],
)
def test_an_override_that_does_not_count_lifts_nothing_and_says_why(
    change: dict[str, object], said: str
) -> None:
    decision = evaluate(waiting(), facts(overrides=(override(**change),)), SATURDAY)
    assert decision.outcome is Outcome.WAIT
    assert said in decision.reason


def test_an_override_lifts_nothing_but_windows() -> None:
    decision = evaluate(shipped(), facts(first_weight=50, overrides=(override(),)), SATURDAY)
    assert decision.outcome is Outcome.DENY
    assert "canary.first_weight" in decision.deciding_rules


def test_times_are_told_in_the_window_s_own_zone() -> None:
    assert told(WEDNESDAY, ZoneInfo("Asia/Tokyo")) == "Wed 2026-03-25 20:00 Asia/Tokyo"
