"""Windows against a model that looks at every minute of three years in three time zones.

The model knows the wall clock of each minute (from the zone's offsets) and the definition of each
kind of window, and nothing of how the implementation steps from change to change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import holidays
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy.calendars import CalendarTimes, read_calendar
from policy.raw_values import MINUTES_A_DAY, MINUTES_A_WEEK
from policy.recurrence import CronTimes, Holidays, Part, WeekRange
from policy.schedule import Window, next_opening, standing
from tests.policy.counting import counted

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
"""Two with an hour of summer time, on either side of the ocean; one with half, in the south."""
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2029, 1, 1, tzinfo=UTC)  # 2028 is a leap year
MINUTES = round((END - BEGIN).total_seconds()) // 60
EPOCH = datetime(1970, 1, 1)
FIRST = round((BEGIN.replace(tzinfo=None) - EPOCH).total_seconds()) // 60
MARGIN = 3 * MINUTES_A_DAY
PROPERTY = "windows agree with every minute of three years, windows x minutes"

Clock = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


@cache
def wall(zone: str) -> Clock:
    """The wall clock of each minute, as minutes since 1970-01-01 00:00 on the wall."""
    offsets = [
        round(offset.total_seconds()) // 60
        for n in range(0, MINUTES, 15)
        if (offset := (BEGIN + timedelta(minutes=n)).astimezone(ZoneInfo(zone)).utcoffset())
        is not None
    ]
    clock: Clock = FIRST + np.arange(MINUTES) + np.repeat(np.array(offsets), 15)[:MINUTES]
    return clock


def in_week(clock: Clock) -> Clock:
    """Minutes since Monday 00:00: 1970-01-01 was a Thursday."""
    return (clock + 3 * MINUTES_A_DAY) % MINUTES_A_WEEK


@dataclass(frozen=True)
class Cron:
    """A cron expression with its fields as sets; None: every one."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...] | None
    months: tuple[int, ...] | None
    weekdays: tuple[int, ...] | None  # 0 is Sunday

    @property
    def text(self) -> str:
        fields = (self.minutes, self.hours, self.days, self.months, self.weekdays)
        return " ".join("*" if one is None else ",".join(map(str, one)) for one in fields)

    def begins(self, day: date) -> bool:
        by_day = self.days is None or day.day in self.days
        by_weekday = self.weekdays is None or day.isoweekday() % 7 in self.weekdays
        both = self.days is not None and self.weekdays is not None
        fits = (by_day or by_weekday) if both else (by_day and by_weekday)
        return fits and (self.months is None or day.month in self.months)


def covered_by_cron(cron: Cron, lasts: int, clock: Clock) -> Flags:
    low = int(clock.min()) - MARGIN - lasts
    starts = np.zeros(int(clock.max()) - low + 2, dtype=np.int32)
    first = EPOCH + timedelta(minutes=low)
    day = first.date()
    last = (EPOCH + timedelta(minutes=int(clock.max()))).date()
    while day <= last:
        if cron.begins(day):
            midnight = round((datetime(day.year, day.month, day.day) - EPOCH).total_seconds()) // 60
            for hour in cron.hours:
                for minute in cron.minutes:
                    at = midnight + hour * 60 + minute - low
                    if 0 <= at < len(starts):
                        starts[at] = 1
        day += timedelta(days=1)
    seen = np.concatenate(([0], np.cumsum(starts)))
    here = clock - low
    flags: Flags = seen[here + 1] - seen[np.maximum(here + 1 - lasts, 0)] > 0
    return flags


def covered_by_week(start: int, end: int, clock: Clock) -> Flags:
    return (in_week(clock) - start) % MINUTES_A_WEEK < (end - start) % MINUTES_A_WEEK


def covered_by_holidays(country: str, clock: Clock) -> Flags:
    subdivision = country.partition("-")[2] or None
    known = holidays.country_holidays(country[:2], subdiv=subdivision, years=range(2025, 2031))
    days = {(day - EPOCH.date()).days for day in known}
    return np.isin(clock // MINUTES_A_DAY, np.array(sorted(days)))


def stepped(part: Part) -> Flags:
    """What the implementation says, stepping from one change to the next."""
    window = Window("w", part.zone, (part,), ("*",), ("*",))
    flags = np.zeros(MINUTES, dtype=bool)
    at = BEGIN
    while at < END:
        then = window.next_change(at)
        assert then > at
        begin = round((at - BEGIN).total_seconds()) // 60
        end = min(MINUTES, round((then - BEGIN).total_seconds()) // 60)
        flags[begin:end] = window.covers(at) is not None
        at = then
    return flags


def agree(part: Part, model: Flags) -> None:
    flags = stepped(part)
    wrong = np.flatnonzero(flags != model)
    assert not len(wrong), f"{part.words}: {BEGIN + timedelta(minutes=int(wrong[0]))}"
    window = Window("w", part.zone, (part,), ("*",), ("*",))
    for n in np.flatnonzero(model[1:] != model[:-1])[:40]:
        for minute in (int(n), int(n) + 1):
            at = BEGIN + timedelta(minutes=minute, seconds=59)
            assert (window.covers(at) is not None) == model[minute], at
    counted(PROPERTY, MINUTES)


NEAR = st.integers(5 * MINUTES_A_DAY + 1200, 6 * MINUTES_A_DAY + 300)
"""The nights in which clocks change."""
MINUTE_OF_WEEK = st.one_of(NEAR, st.integers(0, MINUTES_A_WEEK - 1))
CRONS = st.builds(
    Cron,
    minutes=st.lists(st.integers(0, 59), min_size=1, max_size=2, unique=True).map(tuple),
    hours=st.lists(st.integers(0, 23), min_size=1, max_size=4, unique=True).map(tuple),
    days=st.none() | st.lists(st.integers(1, 31), min_size=1, max_size=3, unique=True).map(tuple),
    months=st.none() | st.lists(st.integers(1, 12), min_size=6, max_size=9, unique=True).map(tuple),
    weekdays=st.none()
    | st.lists(st.integers(0, 6), min_size=1, max_size=2, unique=True).map(tuple),
)
LENGTHS = st.one_of(st.integers(1, 300), st.integers(1, 3 * MINUTES_A_DAY))


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(start=MINUTE_OF_WEEK, end=MINUTE_OF_WEEK)
def test_weekly_ranges_agree_with_every_minute_of_three_years(
    zone: str, start: int, end: int
) -> None:
    if start == end:
        end = (start + 1) % MINUTES_A_WEEK
    part = WeekRange(ZoneInfo(zone), start, end)
    agree(part, covered_by_week(start, end, wall(zone)))


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cron=CRONS, lasts=LENGTHS)
def test_cron_windows_agree_with_every_minute_of_three_years(
    zone: str, cron: Cron, lasts: int
) -> None:
    agree(CronTimes(ZoneInfo(zone), cron.text, lasts), covered_by_cron(cron, lasts, wall(zone)))


@pytest.mark.parametrize("zone", ZONES)
def test_known_corners_agree_as_well(zone: str) -> None:
    clock, home = wall(zone), ZoneInfo(zone)
    corners = [
        (Cron((30,), (2,), None, None, None), 240),  # begins in the hour that is left out
        (Cron((30,), (1,), None, None, (0,)), 60),  # on Sundays, when an hour comes twice
        (Cron((0,), (0,), (29,), (2,), None), MINUTES_A_DAY),  # leap day
        (Cron((0,), (22,), (31,), None, None), 720),  # over the end of a month and of a year
        (Cron((0,), (12,), None, None, (6,)), 9 * MINUTES_A_DAY),  # longer than its own week
    ]
    for cron, lasts in corners:
        agree(CronTimes(home, cron.text, lasts), covered_by_cron(cron, lasts, clock))
    for start, end in ((6 * 1440 + 1380, 60), (150, 10070), (4 * 1440 + 1080, 480)):
        agree(WeekRange(home, start, end), covered_by_week(start, end, clock))


@pytest.mark.parametrize(
    ("zone", "country"), list(zip(ZONES, ("DE-BE", "US", "AU-NSW"), strict=True))
)
def test_holidays_are_whole_days_on_the_wall(zone: str, country: str) -> None:
    agree(Holidays(ZoneInfo(zone), country), covered_by_holidays(country, wall(zone)))


@pytest.mark.parametrize("zone", ZONES)
def test_a_calendar_agrees_with_every_minute_of_three_years(zone: str) -> None:
    """Every second Friday for five hours, two taken out; Christmas; the end of March."""
    text = f"""BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//t//t//EN
BEGIN:VEVENT
UID:a
SUMMARY:Fortnightly
DTSTART;TZID={zone}:20260102T223000
DTEND;TZID={zone}:20260103T033000
RRULE:FREQ=WEEKLY;INTERVAL=2
EXDATE;TZID={zone}:20260327T223000,20261023T223000
END:VEVENT
BEGIN:VEVENT
UID:b
SUMMARY:Christmas
DTSTART;VALUE=DATE:20261224
DTEND;VALUE=DATE:20261227
RRULE:FREQ=YEARLY
END:VEVENT
BEGIN:VEVENT
UID:c
SUMMARY:Year's end
DTSTART:20260331T230000Z
DURATION:PT2H
RDATE:20270331T230000Z
END:VEVENT
END:VCALENDAR
"""
    home, clock = ZoneInfo(zone), wall(zone)
    utc = FIRST + np.arange(MINUTES)
    model = np.zeros(MINUTES, dtype=bool)
    # The model of elapsed time: five hours from the first minute that the wall shows 22:30.
    start = datetime(2026, 1, 2, 22, 30)
    while start < datetime(2029, 1, 1):
        if start.date() not in (date(2026, 3, 27), date(2026, 10, 23)):
            n = round((start - EPOCH).total_seconds()) // 60
            first = np.flatnonzero(clock == n)
            if len(first):
                model[int(first[0]) : int(first[0]) + 300] = True
        start += timedelta(days=14)
    for year in (2025, 2026, 2027, 2028):
        days = [(date(year, 12, day) - EPOCH.date()).days for day in (24, 25, 26)]
        if year >= 2026:
            model |= np.isin(clock // MINUTES_A_DAY, np.array(days))
    for year in (2026, 2027):
        n = round((datetime(year, 3, 31, 23) - EPOCH).total_seconds()) // 60
        model |= (utc >= n) & (utc < n + 120)
    agree(CalendarTimes(read_calendar(text.encode(), "t.ics"), home), model)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.data(),
    zone=st.sampled_from(ZONES),
    minute=st.integers(0, MINUTES - 420 * MINUTES_A_DAY),
)
def test_the_next_opening_is_the_first_open_minute_over_all_kinds_of_windows(
    data: st.DataObject, zone: str, minute: int
) -> None:
    home, clock = ZoneInfo(zone), wall(zone)

    def window() -> tuple[Window, Flags]:
        if data.draw(st.booleans()):
            cron, lasts = data.draw(CRONS), data.draw(LENGTHS)
            part: Part = CronTimes(home, cron.text, lasts)
            flags = covered_by_cron(cron, lasts, clock)
        else:
            start, end = data.draw(MINUTE_OF_WEEK), data.draw(MINUTE_OF_WEEK)
            end = (start + 1) % MINUTES_A_WEEK if start == end else end
            part, flags = WeekRange(home, start, end), covered_by_week(start, end, clock)
        return Window("w", home, (part,), ("*",), ("*",)), flags

    deny = [window() for _ in range(data.draw(st.integers(0, 2)))]
    allow = [window() for _ in range(data.draw(st.integers(0, 2)))]
    is_open = np.ones(MINUTES, dtype=bool)
    for _, flags in deny:
        is_open &= ~flags
    if allow:
        is_open &= np.logical_or.reduce([flags for _, flags in allow])
    at = BEGIN + timedelta(minutes=minute)
    shut, open_to = [one for one, _ in deny], [one for one, _ in allow]
    assert (standing(shut, open_to, at, look_ahead=False) is None) == bool(is_open[minute])
    found = next_opening(shut, open_to, at)
    later = np.flatnonzero(is_open[minute : minute + 400 * MINUTES_A_DAY])
    if len(later):
        assert found == at + timedelta(minutes=int(later[0]))
    else:
        assert found is None or found >= at + timedelta(days=400)
    counted("the next opening is the first open minute", 1)
