"""Freeze calendars: an iCalendar file (RFC 5545) as spans of time. Pure: the text is given.

Read are VEVENTs with DTSTART and DTEND or DURATION, all-day or timed, in a time zone, in UTC or
floating (then on the clock of the window), with RRULE, RDATE, EXDATE and single instances changed
by RECURRENCE-ID. Cancelled events do not count; events marked free do: many calendars mark all-day
ones so. What is not understood makes the calendar broken, since a freeze that is passed over would
open what somebody meant to close.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr
from icalendar import Calendar as Parsed

from domain.digest import digest_of
from policy.raw_values import MINUTES_A_DAY
from policy.recurrence import Span, merged

MOST_BYTES = 1_000_000
MOST_EVENTS = 5_000
MOST_TIMES = 5_000
"""Times that one event may come back in a year."""
LONGEST = timedelta(days=366)
_RARE = frozenset({"DAILY", "WEEKLY", "MONTHLY", "YEARLY"})
_SINGLE = ("DTSTART", "DTEND", "DURATION", "RECURRENCE-ID")
_UTC = ZoneInfo("UTC")


class BrokenCalendar(ValueError):
    """The text is not a calendar that can be followed; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class CalendarEvent:
    """One event. Times are on the wall clock of `zone`; None: of the window's."""

    summary: str
    start: datetime
    length: timedelta
    zone: tzinfo | None
    all_day: bool
    rule: str = ""
    more: tuple[datetime, ...] = ()
    without: frozenset[datetime] = frozenset()


@dataclass(frozen=True, slots=True)
class FreezeCalendar:
    """All events of a file. Two calendars are equal when their files were."""

    name: str
    digest: str
    events: tuple[CalendarEvent, ...] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class CalendarTimes:
    """A part of a window: the events of a calendar. Its days are those of UTC, since each event
    has a clock of its own; `home` is the clock of events that have none."""

    calendar: FreezeCalendar
    home: ZoneInfo

    @property
    def zone(self) -> ZoneInfo:
        """The days of `spans` are UTC's."""
        return _UTC

    @property
    def words(self) -> str:
        """`the calendar freeze.ics`."""
        return f"the calendar {self.calendar.name}"

    def spans(self, day: date) -> tuple[Span, ...]:
        """What the events cover of a UTC day."""
        return _year(self.calendar, self.home, day.year).get(day, ())


def read_calendar(data: bytes, name: str) -> FreezeCalendar:
    """The calendar in a file's bytes. Raises BrokenCalendar."""
    if len(data) > MOST_BYTES:
        raise BrokenCalendar(f"it has {len(data):,} bytes; at most {MOST_BYTES:,} are read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BrokenCalendar(f"it is not UTF-8 at byte {error.start}") from error
    try:
        parsed = Parsed.from_ical(text)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise BrokenCalendar(f"it is not iCalendar: {_line(str(error))}") from error
    if getattr(parsed, "name", None) != "VCALENDAR":
        raise BrokenCalendar("it does not begin with BEGIN:VCALENDAR")
    if parsed.walk("VFREEBUSY"):
        raise BrokenCalendar("it tells busy times (VFREEBUSY), which are not read; export events")
    found = list(parsed.walk("VEVENT"))
    if len(found) > MOST_EVENTS:
        raise BrokenCalendar(f"it has more than {MOST_EVENTS:,} events")
    return FreezeCalendar(name, digest_of(text), tuple(_events(found)))


def _events(found: list[Any]) -> Iterator[CalendarEvent]:
    """Masters and single events; a changed instance takes its place out of its master's times."""
    changed: dict[str, set[datetime]] = defaultdict(set)
    read = [(one, _event(one)) for one in found]
    for one, event in read:
        instance = one.get("RECURRENCE-ID")
        if instance is not None:
            if str(instance.params.get("RANGE", "")).upper() == "THISANDFUTURE":
                raise _broken(event.summary, "a change of all later instances is not read")
            changed[str(one.get("UID", ""))].add(_wall(instance.dt, event.zone)[0])
    for one, event in read:
        if str(one.get("STATUS", "")).upper() == "CANCELLED":
            continue
        taken = changed.get(str(one.get("UID", "")), set())
        if event.rule or event.more:
            yield CalendarEvent(
                event.summary,
                event.start,
                event.length,
                event.zone,
                event.all_day,
                event.rule,
                event.more,
                event.without | taken,
            )
        elif one.get("RECURRENCE-ID") is not None or event.start not in taken:
            yield event


def _event(one: Any) -> CalendarEvent:
    summary = _line(str(one.get("SUMMARY") or "a freeze without a name"))
    if one.errors:
        raise _broken(summary, "; ".join(f"{name}: {_line(str(why))}" for name, why in one.errors))
    for name in _SINGLE:
        if isinstance(one.get(name), list):
            raise _broken(summary, f"it has more than one {name}")
    for name in (*_SINGLE, "RDATE", "EXDATE"):
        _check_zone(one.get(name), name, summary)
    if one.get("DTSTART") is None:
        raise _broken(summary, "it has no DTSTART")
    first = one["DTSTART"].dt
    start, zone, all_day = *_wall(first, None, own=True), not isinstance(first, datetime)
    length = _length(one, first, summary)
    rules = one.get("RRULE")
    if isinstance(rules, list):
        raise _broken(summary, "it has more than one RRULE")
    if one.get("EXRULE") is not None:
        raise _broken(summary, "EXRULE is not read; use EXDATE")
    return CalendarEvent(
        summary,
        start,
        length,
        zone,
        all_day,
        _rule(rules, zone, summary) if rules is not None else "",
        tuple(at for at in _listed(one, "RDATE", zone, summary)),
        frozenset(_listed(one, "EXDATE", zone, summary)),
    )


def _check_zone(value: Any, name: str, summary: str) -> None:
    """A zone that nobody knows is not passed over: its times would be those of another clock."""
    for single in value if isinstance(value, list) else [] if value is None else [value]:
        zone = getattr(single, "params", {}).get("TZID")
        times = [one.dt for one in getattr(single, "dts", [single]) if hasattr(one, "dt")]
        if zone and any(isinstance(at, datetime) and at.tzinfo is None for at in times):
            raise _broken(summary, f"{name}: the time zone {_line(str(zone))} is not known here")


def _length(one: Any, first: Any, summary: str) -> timedelta:
    if one.get("DTEND") is not None and one.get("DURATION") is not None:
        raise _broken(summary, "it has DTEND and DURATION")
    if one.get("DTEND") is not None:
        last = one["DTEND"].dt
        if isinstance(first, datetime) != isinstance(last, datetime):
            raise _broken(summary, "DTSTART and DTEND are not of one kind")
        aware = isinstance(first, datetime) and first.tzinfo is not None
        if aware and last.tzinfo is not None:
            length = last.astimezone(UTC) - first.astimezone(UTC)
        elif aware or (isinstance(first, datetime) and last.tzinfo is not None):
            raise _broken(summary, "DTSTART and DTEND are not of one kind")
        else:
            length = last - first
    elif one.get("DURATION") is not None:
        length = one["DURATION"].dt
    else:
        length = timedelta(0) if isinstance(first, datetime) else timedelta(days=1)
    if not timedelta(0) < length <= LONGEST:
        raise _broken(summary, "it does not last between a moment and a year")
    return timedelta(seconds=length.total_seconds())


def _rule(rule: Any, zone: tzinfo | None, summary: str) -> str:
    """The RRULE, with UNTIL on the event's own wall clock as the times are."""
    frequency = [str(one) for one in rule.get("FREQ", [])]
    if len(frequency) != 1 or frequency[0] not in _RARE:
        raise _broken(summary, "it comes back more often than daily, which is not read")
    a_day = 1
    for name in ("BYHOUR", "BYMINUTE", "BYSECOND"):
        a_day *= max(1, len(rule.get(name, [])))
    if a_day > 24:
        raise _broken(summary, "it comes back more than 24 times a day")
    rule = type(rule)(rule)
    until = rule.get("UNTIL")
    if until:
        last = until[0] if isinstance(until, list) else until
        at = _wall(last, zone)[0]
        rule["UNTIL"] = [at if isinstance(last, datetime) else at.replace(hour=23, minute=59)]
    for name in ("INTERVAL", "COUNT"):
        if any(int(one) < 1 for one in rule.get(name, [])):
            raise _broken(summary, f"RRULE: {name} is less than 1")
    endless = type(rule)({key: rule[key] for key in rule if key not in ("UNTIL", "COUNT")})
    try:
        # What never comes round is looked for up to the year 9999, at each decision anew.
        first = next(iter(rrulestr(endless.to_ical().decode(), dtstart=datetime(2024, 1, 1))), None)
    except (ValueError, KeyError, TypeError) as error:
        raise _broken(summary, f"RRULE: {_line(str(error))}") from error
    if first is None:
        raise _broken(summary, "RRULE: it never comes round")
    return str(rule.to_ical().decode())


def _listed(one: Any, name: str, zone: tzinfo | None, summary: str) -> Iterator[datetime]:
    value = one.get(name)
    lists = value if isinstance(value, list) else [] if value is None else [value]
    for entry in lists:
        for item in entry.dts:
            if isinstance(item.dt, tuple):
                raise _broken(summary, f"{name} with periods is not read")
            yield _wall(item.dt, zone)[0]


def _wall(
    value: date | datetime, zone: tzinfo | None, *, own: bool = False
) -> tuple[datetime, tzinfo | None]:
    """A time on the wall clock of a zone (with `own`, of its own), and that zone."""
    if not isinstance(value, datetime):
        return datetime.combine(value, time()), None
    if value.tzinfo is None:
        return value, None
    home = value.tzinfo if own or zone is None else zone
    return value.astimezone(home).replace(tzinfo=None), home


@lru_cache(maxsize=64)
def _year(calendar: FreezeCalendar, home: ZoneInfo, year: int) -> dict[date, tuple[Span, ...]]:
    """Spans by UTC day of a year."""
    begin, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    days: dict[date, list[Span]] = defaultdict(list)
    for event in calendar.events:
        words = f"{event.summary} ({calendar.name})"
        for start, stop in _instances(event, home, begin, end):
            _paint(days, max(start, begin), min(stop, end), words)
    return {day: merged(spans) for day, spans in days.items()}


def _instances(
    event: CalendarEvent, home: ZoneInfo, begin: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime]]:
    zone = event.zone or home
    slack = timedelta(days=2)
    low = (begin - event.length - slack).replace(tzinfo=None)
    high = (end + slack).replace(tzinfo=None)
    for wall in sorted(_times(event, low, high)):
        # A day without a time takes out whatever begins on it.
        if wall in event.without or datetime.combine(wall.date(), time()) in event.without:
            continue
        start = wall.replace(tzinfo=zone).astimezone(UTC)
        if event.all_day:
            stop = (wall + event.length).replace(tzinfo=zone).astimezone(UTC)
        else:
            stop = start + event.length
        if start < end and stop > begin:
            yield start, stop


def _times(event: CalendarEvent, low: datetime, high: datetime) -> set[datetime]:
    """Beginnings on the event's wall clock between two such times."""
    times = {at for at in (event.start, *event.more) if low <= at <= high}
    if event.rule:
        rule = rrulestr(event.rule, dtstart=event.start)
        for at in rule.xafter(low, inc=True):
            if at > high:
                break
            times.add(at)
            if len(times) > MOST_TIMES:
                raise BrokenCalendar(f"{event.summary} comes back too often")
    return times


def _paint(days: dict[date, list[Span]], start: datetime, stop: datetime, words: str) -> None:
    """Add a span of time to each day it touches, to the minute, rounded outwards."""
    while start < stop:
        midnight = datetime.combine(start.date() + timedelta(days=1), time(), UTC)
        until = min(stop, midnight)
        first = start.hour * 60 + start.minute
        last = -int(-(until - datetime.combine(start.date(), time(), UTC)).total_seconds() // 60)
        days[start.date()].append((first, min(last, MINUTES_A_DAY), words))
        start = midnight


def _broken(summary: str, why: str) -> BrokenCalendar:
    return BrokenCalendar(f"the event {summary!r} cannot be followed: {why}")


def _line(text: str) -> str:
    """One printable line of bounded length: calendars come from elsewhere."""
    flat = " ".join(text.split())
    return "".join(one if one.isprintable() else " " for one in flat)[:120]
