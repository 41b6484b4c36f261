"""Change windows on the wall clock: open or closed at an instant, and when it opens next. Pure.

A window is about what a clock on the wall of its time zone says, to the minute: the first minute
belongs to it, the last does not. When an hour comes twice in autumn both passes count alike; the
hour that is left out in spring never comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from policy.matching import name_matches
from policy.raw_values import MINUTES_A_DAY, MINUTES_A_WEEK, week_time_words

SEARCH_DAYS = 400
"""How far ahead an opening is looked for: a year of weekly ranges and public holidays."""
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Window:
    """A weekly range (minutes since Monday 00:00, `end` excluded; it may run past Sunday), public
    holidays, or both, for some services in some environments."""

    id: str
    zone: ZoneInfo
    start: int | None
    end: int | None
    holidays: str | None
    environments: tuple[str, ...]
    services: tuple[str, ...]

    def applies(self, environment: str, service: str) -> bool:
        """Whether the window is about this service there."""
        return name_matches(environment, self.environments) and name_matches(service, self.services)

    def covers(self, at: datetime) -> str | None:
        """What of the window covers an instant, in words; None when nothing does."""
        local = at.astimezone(self.zone)
        if self.start is not None and self.end is not None:
            minute = _minute_of_week(local)
            inside = (
                self.start <= minute < self.end
                if self.start < self.end
                else minute >= self.start or minute < self.end
            )
            if inside:
                return self.range_words
        if self.holidays is not None:
            name = _holiday(self.holidays, local.date())
            if name is not None:
                return f"{local.date().isoformat()} is {name} in {self.holidays}"
        return None

    @property
    def range_words(self) -> str:
        """`Fri 18:00 to Mon 08:00 Europe/Berlin`."""
        if self.start is None or self.end is None:
            return f"public holidays of {self.holidays}"
        return f"{week_time_words(self.start)} to {week_time_words(self.end)} {self.zone.key}"

    def next_change(self, at: datetime) -> datetime:
        """An instant after `at` before which nothing about the window changes; at most a day on.

        Where the zone's offset from UTC changes in between, it is that instant.
        """
        local = at.astimezone(self.zone)
        minute = _minute_of_week(local)
        marks = [MINUTES_A_DAY - minute % MINUTES_A_DAY]
        for mark in (self.start, self.end):
            if mark is not None:
                marks.append((mark - minute - 1) % MINUTES_A_WEEK + 1)
        floor = at - timedelta(seconds=at.second, microseconds=at.microsecond)
        then = floor + min(marks) * _MINUTE
        if then.astimezone(self.zone).utcoffset() == local.utcoffset():
            return then
        return _offset_change(self.zone, floor, then)


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether changes may begin. `why` is what closes it, '' when open; `zone` for telling times;
    `opens` is the next opening, None when there is none within `SEARCH_DAYS` or it is open."""

    window: str
    why: str
    zone: ZoneInfo
    opens: datetime | None = None


def standing(
    deny: Sequence[Window], allow: Sequence[Window], at: datetime, *, look_ahead: bool = True
) -> Standing | None:
    """What closes an instant, given the windows that apply; None when it is open.

    Deny beats allow; with allow windows, at least one has to cover the instant.
    """
    closed = _closed(deny, allow, at)
    if closed is None or not look_ahead:
        return closed
    return Standing(closed.window, closed.why, closed.zone, next_opening(deny, allow, at))


def next_opening(deny: Sequence[Window], allow: Sequence[Window], at: datetime) -> datetime | None:
    """The first instant from `at` on (to the minute, UTC) that no window closes.

    Steps from one instant at which something may change to the next, so it is exact and short.
    """
    at = at.astimezone(UTC)
    limit = at + timedelta(days=SEARCH_DAYS)
    windows = (*deny, *allow)
    while at <= limit:
        if _closed(deny, allow, at) is None:
            return at
        at = min(window.next_change(at) for window in windows)
    return None


def told(at: datetime, zone: ZoneInfo) -> str:
    """`Mon 2026-03-30 08:00 Europe/Berlin`."""
    local = at.astimezone(zone)
    weekday = week_time_words(_minute_of_week(local))[:3]
    return f"{weekday} {local:%Y-%m-%d %H:%M} {zone.key}"


def _closed(deny: Sequence[Window], allow: Sequence[Window], at: datetime) -> Standing | None:
    for window in deny:
        why = window.covers(at)
        if why is not None:
            return Standing(window.id, why, window.zone)
    if allow and all(window.covers(at) is None for window in allow):
        ranges = " or ".join(window.range_words for window in allow)
        ids = ", ".join(window.id for window in allow)
        return Standing(ids, f"only {ranges} is open", allow[0].zone)
    return None


def _minute_of_week(local: datetime) -> int:
    return local.weekday() * MINUTES_A_DAY + local.hour * 60 + local.minute


def _offset_change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first minute in (before, after] with another offset than `before` has."""
    offset = before.astimezone(zone).utcoffset()
    low, high = 0, round((after - before) / _MINUTE)
    while high - low > 1:
        middle = (low + high) // 2
        if (before + middle * _MINUTE).astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return before + high * _MINUTE


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
