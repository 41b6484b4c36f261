"""Freeze calendars: what is read of them, and what makes one refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from domain.errors import SourceError
from policy.calendars import BrokenCalendar, CalendarTimes, read_calendar
from policy.rules import load_policy
from policy.schedule import Window
from tests.policy.making import small_with

BERLIN = ZoneInfo("Europe/Berlin")
FREEZE = (
    "  deny: []",
    "  deny:\n    - {id: freeze, calendar: freeze.ics, environments: [prod]}",
)


def calendar(*events: str) -> bytes:
    body = "".join(
        f"BEGIN:VEVENT\r\nUID:{n}\r\n{one}\r\nEND:VEVENT\r\n" for n, one in enumerate(events)
    )
    return f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:t\r\n{body}END:VCALENDAR\r\n".encode()


def covers(data: bytes, at: str) -> str | None:
    times = CalendarTimes(read_calendar(data, "freeze.ics"), BERLIN)
    return Window("w", BERLIN, (times,), ("*",), ("*",)).covers(datetime.fromisoformat(at))


@pytest.mark.parametrize(
    ("at", "closed"),
    [
        ("2026-12-23T23:59+01:00", False),
        ("2026-12-24T00:00+01:00", True),
        ("2026-12-26T23:59+01:00", True),
        ("2026-12-27T00:00+01:00", False),
    ],
)
def test_all_day_events_are_days_on_the_clock_of_the_window(at: str, closed: bool) -> None:
    event = "SUMMARY:Christmas\r\nDTSTART;VALUE=DATE:20261224\r\nDTEND;VALUE=DATE:20261227"
    told = covers(calendar(event), at)
    assert (told == "Christmas (freeze.ics)") if closed else told is None


def test_an_instance_that_was_moved_or_cancelled_leaves_its_place() -> None:
    rule = (
        "SUMMARY:Weekly\r\nDTSTART:20260105T100000Z\r\nDTEND:20260105T110000Z\r\nRRULE:FREQ=WEEKLY"
    )
    moved = "SUMMARY:Moved\r\nDTSTART:20260113T100000Z\r\nDTEND:20260113T110000Z"
    data = calendar(rule).replace(
        b"END:VCALENDAR",
        f"BEGIN:VEVENT\r\nUID:0\r\nRECURRENCE-ID:20260112T100000Z\r\n{moved}\r\nEND:VEVENT\r\n"
        "BEGIN:VEVENT\r\nUID:0\r\nRECURRENCE-ID:20260119T100000Z\r\nSTATUS:CANCELLED\r\n"
        "DTSTART:20260119T100000Z\r\nDTEND:20260119T110000Z\r\nEND:VEVENT\r\nEND:VCALENDAR".encode(),
    )
    assert covers(data, "2026-01-05T10:30+00:00") == "Weekly (freeze.ics)"
    assert covers(data, "2026-01-12T10:30+00:00") is None
    assert covers(data, "2026-01-13T10:30+00:00") == "Moved (freeze.ics)"
    assert covers(data, "2026-01-19T10:30+00:00") is None
    assert covers(data, "2026-01-26T10:30+00:00") == "Weekly (freeze.ics)"


def test_a_zone_given_in_the_file_itself_is_followed() -> None:
    zone = (
        b"BEGIN:VTIMEZONE\r\nTZID:House time\r\nBEGIN:STANDARD\r\nDTSTART:19700101T000000\r\n"
        b"TZOFFSETFROM:+0300\r\nTZOFFSETTO:+0300\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\n"
    )
    event = "SUMMARY:x\r\nDTSTART;TZID=House time:20260105T100000\r\nDURATION:PT1H"
    data = calendar(event).replace(b"PRODID:t\r\n", b"PRODID:t\r\n" + zone)
    assert covers(data, "2026-01-05T07:30+00:00") is not None
    assert covers(data, "2026-01-05T10:30+00:00") is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "iCalendar"),
        (b"hello", "iCalendar"),
        (b"\xff\xfe", "UTF-8"),
        (b"BEGIN:VCALENDAR\r\n" * 100_000, "bytes"),
        (calendar("SUMMARY:a\r\nDTEND:20260105T100000Z"), "no DTSTART"),
        (calendar("SUMMARY:a\r\nDTSTART:2026-01-05"), "'a'"),
        (calendar("SUMMARY:a\r\nDTSTART:20260105T100000Z\r\nDTEND:20260105T090000Z"), "last"),
        (
            calendar(
                "SUMMARY:a\r\nDTSTART:20260105T100000Z\r\nDURATION:PT1S\r\nRRULE:FREQ=SECONDLY"
            ),
            "more often than daily",
        ),
        (
            calendar(
                "SUMMARY:a\r\nDTSTART:20260105T100000Z\r\nDURATION:PT1H\r\nRRULE:FREQ=DAILY;BYDAY=XX"
            ),
            "'a'",
        ),
        *(
            (calendar(f"SUMMARY:a\r\nDTSTART;VALUE=DATE:20260105\r\nRRULE:FREQ={rule}"), said)
            for rule, said in (
                ("DAILY;INTERVAL=0", "INTERVAL is less than 1"),
                ("WEEKLY;COUNT=0", "COUNT is less than 1"),
                ("YEARLY;BYMONTH=2;BYMONTHDAY=30;UNTIL=20300101", "never comes round"),
            )
        ),
        (
            calendar("SUMMARY:a\r\nDTSTART;TZID=Europe/Berln:20260105T100000\r\nDURATION:PT1H"),
            "the time zone Europe/Berln is not known",
        ),
        (
            calendar(
                "SUMMARY:a\r\nDTSTART:20260105T100000Z\r\nDURATION:PT1H\r\n"
                "RDATE;TZID=Nowhere:20260205T100000"
            ),
            "RDATE: the time zone Nowhere",
        ),
        (
            calendar(
                "SUMMARY:a\r\nDTSTART:20260105T100000Z\r\nDTSTART:20260106T100000Z\r\n"
                "DTEND:20260107T100000Z"
            ),
            "more than one DTSTART",
        ),
        (
            calendar(
                "SUMMARY:a\r\nDTSTART:20260105T100000Z\r\nDTEND:20260106T100000Z\r\nDURATION:P9D"
            ),
            "DTEND and DURATION",
        ),
        (calendar("SUMMARY:a").replace(b"VEVENT", b"VFREEBUSY"), "VFREEBUSY"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_event(data: bytes, said: str) -> None:
    with pytest.raises(BrokenCalendar) as caught:
        read_calendar(data, "freeze.ics")
    assert said in str(caught.value)


def test_a_policy_names_its_calendar_and_is_refused_without_it(tmp_path: Path) -> None:
    text = small_with(FREEZE)

    def read(name: str) -> bytes:
        return (tmp_path / name).read_bytes()

    with pytest.raises(SourceError) as caught:
        load_policy(text, "p.yaml", read)
    (problem,) = caught.value.problems
    assert "freeze.ics" in problem.message
    assert "No such file" in problem.message
    assert text.splitlines()[problem.line - 1].strip().startswith("- {id: freeze")
    (tmp_path / "freeze.ics").write_bytes(b"nothing")
    with pytest.raises(SourceError):
        load_policy(text, "p.yaml", read)
    event = "SUMMARY:Launch\r\nDTSTART:20260105T100000Z\r\nDTEND:20260106T100000Z"
    (tmp_path / "freeze.ics").write_bytes(calendar(event))
    one = load_policy(text, "p.yaml", read)
    (tmp_path / "freeze.ics").write_bytes(calendar(event.replace("Launch", "Lunch")))
    other = load_policy(text, "p.yaml", read)
    assert one.digest != other.digest
    (window,) = one.windows.deny
    assert window.covers(datetime(2026, 1, 5, 12, tzinfo=UTC)) == "Launch (freeze.ics)"
