"""Times that come back, as spans of minutes on the days of a wall clock. Pure.

A part is about what a clock on the wall of its time zone says, to the minute: the first minute of a
span belongs to it, the last does not. When an hour comes twice in autumn both passes count alike;
the hour that is left out in spring never comes, and a span that would begin in it begins right
after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from croniter import croniter

from policy.raw_values import MINUTES_A_DAY, MINUTES_A_WEEK, week_time_words

Span = tuple[int, int, str]
"""First minute of the day, the minute after the last (up to 24:00), and what it is, in words."""


class Part(Protocol):
    """Some time that comes back."""

    @property
    def zone(self) -> ZoneInfo:
        """Whose wall clock it is about."""
        ...

    @property
    def words(self) -> str:
        """`Fri 18:00 to Mon 08:00 Europe/Berlin`."""
        ...

    def spans(self, day: date) -> tuple[Span, ...]:
        """What it covers of a day, in order and without overlaps."""
        ...


@dataclass(frozen=True, slots=True)
class WeekRange:
    """Minutes since Monday 00:00, `end` excluded; it may run past Sunday."""

    zone: ZoneInfo
    start: int
    end: int

    @property
    def words(self) -> str:
        """`Fri 18:00 to Mon 08:00 Europe/Berlin`."""
        return f"{week_time_words(self.start)} to {week_time_words(self.end)} {self.zone.key}"

    def spans(self, day: date) -> tuple[Span, ...]:
        """The part of the week's range, or of its two ends, that falls on the day."""
        return _week_spans(self, day.weekday())


@dataclass(frozen=True, slots=True)
class CronTimes:
    """From each time that a cron expression names, for some minutes of the wall clock."""

    zone: ZoneInfo
    expression: str
    minutes: int

    @property
    def words(self) -> str:
        """`6 h from 0 22 * * 5 Europe/Berlin`."""
        hours, rest = divmod(self.minutes, 60)
        length = " ".join([f"{hours} h"] * (hours > 0) + [f"{rest} min"] * (rest > 0))
        return f"{length} from cron {self.expression} {self.zone.key}"

    def spans(self, day: date) -> tuple[Span, ...]:
        """What beginnings on this day, and on earlier days that still last, cover of it."""
        return _cron_spans(self, day)


@dataclass(frozen=True, slots=True)
class Holidays:
    """Public holidays of a country or a subdivision: whole days on the clock of the zone."""

    zone: ZoneInfo
    code: str

    @property
    def words(self) -> str:
        """`public holidays of DE-BE`."""
        return f"public holidays of {self.code}"

    def spans(self, day: date) -> tuple[Span, ...]:
        """All of a holiday, or nothing."""
        name = _holiday(self.code, day)
        if name is None:
            return ()
        return ((0, MINUTES_A_DAY, f"{day.isoformat()} is {name} in {self.code}"),)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans in order, those that touch or overlap made one; the first one's words stay."""
    out: list[Span] = []
    for start, end, words in sorted(spans, key=lambda one: one[:2]):
        if out and start <= out[-1][1]:
            first = out[-1]
            out[-1] = (first[0], max(first[1], end), first[2])
        else:
            out.append((start, end, words))
    return tuple(out)


@lru_cache(maxsize=4096)
def _week_spans(week: WeekRange, weekday: int) -> tuple[Span, ...]:
    ranges = (
        ((week.start, week.end),)
        if week.start < week.end
        else ((0, week.end), (week.start, MINUTES_A_WEEK))
    )
    begin = weekday * MINUTES_A_DAY
    return tuple(
        (max(start - begin, 0), min(end - begin, MINUTES_A_DAY), week.words)
        for start, end in ranges
        if start < begin + MINUTES_A_DAY and end > begin
    )


@lru_cache(maxsize=8192)
def _cron_spans(times: CronTimes, day: date) -> tuple[Span, ...]:
    found: list[Span] = []
    for back in range((times.minutes - 1) // MINUTES_A_DAY + 2):
        before = back * MINUTES_A_DAY
        if date.min.toordinal() + back > day.toordinal():
            break
        for start in cron_starts(times.expression, day - timedelta(days=back)):
            begin, end = start - before, start - before + times.minutes
            if end > 0:
                found.append((max(begin, 0), min(end, MINUTES_A_DAY), times.words))
    return merged(found)


@lru_cache(maxsize=8192)
def cron_starts(expression: str, day: date) -> tuple[int, ...]:
    """The minutes of a day at which a cron expression begins something."""
    minutes, hours = _clock(expression)
    first = datetime(day.year, day.month, day.day, hours[0], minutes[0])
    if not croniter.match(expression, first):  # type: ignore[no-untyped-call]
        return ()
    return tuple(hour * 60 + minute for hour in hours for minute in minutes)


@lru_cache(maxsize=256)
def _clock(expression: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The minutes and hours of an expression, spelt out."""
    fields = croniter.expand(expression)[0]
    minutes, hours = (
        tuple(range(most)) if "*" in field else tuple(sorted(int(one) for one in field))
        for field, most in ((fields[0], 60), (fields[1], 24))
    )
    return minutes, hours


def begins_a_day(expression: str) -> int:
    """How often a cron expression begins something on a day on which it does."""
    minutes, hours = _clock(expression)
    return len(minutes) * len(hours)


@lru_cache(maxsize=64)
def _calendar(code: str) -> Any:
    import holidays  # 0.4 s to load, and most policies name no country

    country, _, subdivision = code.partition("-")
    return holidays.country_holidays(country, subdiv=subdivision or None, language="en_US")


@lru_cache(maxsize=4096)
def _holiday(code: str, day: date) -> str | None:
    """Name of the public holiday that a day is, or None."""
    name = _calendar(code).get(day)
    return str(name) if name is not None else None
