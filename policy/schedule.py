"""Change windows: open or closed at an instant, and when it opens next. Pure.

What a part of a window covers is told in `recurrence.py` and `calendars.py`; here they are added
up. Deny beats allow; with allow windows, at least one has to cover the instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from policy.matching import name_matches
from policy.raw_values import MINUTES_A_DAY, week_time_words
from policy.recurrence import Part

SEARCH_DAYS = 400
"""How far ahead an opening is looked for: a year and some weeks of it."""
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Window:
    """One or more parts that close (or open) some services in some environments."""

    id: str
    zone: ZoneInfo
    parts: tuple[Part, ...]
    environments: tuple[str, ...]
    services: tuple[str, ...]

    def applies(self, environment: str, service: str) -> bool:
        """Whether the window is about this service there."""
        return name_matches(environment, self.environments) and name_matches(service, self.services)

    def covers(self, at: datetime) -> str | None:
        """What of the window covers an instant, in words; None when nothing does."""
        for part in self.parts:
            words = _covers(part, at)
            if words is not None:
                return words
        return None

    @property
    def words(self) -> str:
        """Everything it is about."""
        return " and ".join(part.words for part in self.parts)

    def next_change(self, at: datetime) -> datetime:
        """An instant after `at` before which nothing about the window changes; at most a day on."""
        return min(next_change(part, at) for part in self.parts)


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
    """What closes an instant, given the windows that apply; None when it is open."""
    closed, _ = _closed(deny, allow, at)
    if closed is None or not look_ahead:
        return closed
    return Standing(closed.window, closed.why, closed.zone, next_opening(deny, allow, at))


def next_opening(deny: Sequence[Window], allow: Sequence[Window], at: datetime) -> datetime | None:
    """The first instant from `at` on (to the minute, UTC) that no window closes.

    Steps from one instant at which what closes it may change to the next, so it is exact and short.
    """
    at = at.astimezone(UTC)
    closed, until = _closed(deny, allow, at)
    return at if closed is None else _opening(tuple(deny), tuple(allow), until)


@lru_cache(maxsize=2048)
def _opening(deny: tuple[Window, ...], allow: tuple[Window, ...], at: datetime) -> datetime | None:
    """The same from where something may change; what several decisions ask for again and again."""
    limit = at + timedelta(days=SEARCH_DAYS)
    while at <= limit:
        closed, until = _closed(deny, allow, at)
        if closed is None:
            return at
        at = until
    return None


@lru_cache(maxsize=1024)
def told(at: datetime, zone: ZoneInfo) -> str:
    """`Mon 2026-03-30 08:00 Europe/Berlin`."""
    local = at.astimezone(zone)
    minute = local.weekday() * MINUTES_A_DAY + local.hour * 60 + local.minute
    return f"{week_time_words(minute)[:3]} {local:%Y-%m-%d %H:%M} {zone.key}"


def next_change(part: Part, at: datetime) -> datetime:
    """An instant after `at` before which nothing about the part changes; at most a day on.

    Where the zone's offset from UTC changes in between, it is that instant.
    """
    local = at.astimezone(part.zone)
    minute = local.hour * 60 + local.minute
    marks = (mark for span in part.spans(local.date()) for mark in span[:2] if mark > minute)
    floor = at.astimezone(UTC) - timedelta(seconds=at.second, microseconds=at.microsecond)
    then = floor + (min(marks, default=MINUTES_A_DAY) - minute) * _MINUTE
    if then.astimezone(part.zone).utcoffset() == local.utcoffset():
        return then
    return _offset_change(part.zone, floor, then)


def _covers(part: Part, at: datetime) -> str | None:
    local = at.astimezone(part.zone)
    minute = local.hour * 60 + local.minute
    for start, end, words in part.spans(local.date()):
        if start <= minute < end:
            return words
    return None


def _closed(
    deny: Sequence[Window], allow: Sequence[Window], at: datetime
) -> tuple[Standing | None, datetime]:
    """What closes an instant, and until when at least it does.

    While one deny window holds, what the others do does not matter: only its own parts are looked
    at for the end.
    """
    for window in deny:
        for part in window.parts:
            why = _covers(part, at)
            if why is not None:
                return Standing(window.id, why, window.zone), next_change(part, at)
    if allow and all(window.covers(at) is None for window in allow):
        ranges = " or ".join(window.words for window in allow)
        ids = ", ".join(window.id for window in allow)
        until = min(window.next_change(at) for window in allow)
        return Standing(ids, f"only {ranges} is open", allow[0].zone), until
    return None, at


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
