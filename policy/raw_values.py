"""Values of `policy.yaml` that are more than text: durations, week times, zones, countries."""

from __future__ import annotations

import re
import zoneinfo
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from croniter import CroniterBadDateError, croniter
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from domain.source_hints import wrong

WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MINUTES_A_DAY: Final = 24 * 60
MINUTES_A_WEEK: Final = 7 * MINUTES_A_DAY

_DURATION = re.compile(r"(?:(\d{1,5})d)?(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?")
_DURATION_PATTERN = r"^(\d{1,5}d)?(\d{1,5}h)?(\d{1,5}m)?(\d{1,6}s)?$"
_WEEK_TIME = re.compile(r"(?i)(Mon|Tue|Wed|Thu|Fri|Sat|Sun) +([01]?\d|2[0-3]):([0-5]\d)")
_WEEK_TIME_PATTERN = r"^(Mon|Tue|Wed|Thu|Fri|Sat|Sun) +([01]?\d|2[0-3]):[0-5]\d$"
_COUNTRY = re.compile(r"([A-Z]{2})(?:-([A-Z0-9]{1,3}))?")


_CRON_LETTERS = re.compile(
    r"(?i)(?:[0-9*,/ #-]|L|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
    r"|mon|tue|wed|thu|fri|sat|sun)+"
)
"""Not what croniter draws by lot (`R`) or from a name (`H`): a window is the same for everybody."""
_CRON_BY = 2036
"""A leap day comes round within eight years of 2024, even past a century."""


class Raw(BaseModel):
    """Base of the shapes: nothing unknown, nothing changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _duration(value: Any) -> timedelta:
    """Seconds, minutes, hours and days as people write them: `90s`, `1h30m`, `2d`."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or not value:
        raise wrong(f"{value!r} is not a duration", "write 30s, 90m, 24h, 1h30m or 2d")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    length = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not timedelta(0) < length <= timedelta(days=366):
        raise wrong(f"{value!r} is not between a second and a year", "write 30s, 90m, 24h or 2d")
    return length


def _week_time(value: Any) -> int:
    """Minutes since Monday 00:00 on the wall clock."""
    match = _WEEK_TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise wrong(
            f"{value!r} is not a weekday and a time",
            'write "Fri 18:00": Mon, Tue, Wed, Thu, Fri, Sat or Sun, then 00:00 to 23:59',
        )
    day = WEEKDAYS.index(match[1].title())
    return day * MINUTES_A_DAY + int(match[2]) * 60 + int(match[3])


def _zone(value: Any) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(str(value))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise wrong(
            f"the time zone {value!r} is not known here",
            "write an IANA name such as Europe/Berlin or UTC; if it is one, install tzdata",
        ) from error


def _country(value: Any) -> str:
    import holidays  # 0.4 s to load, and most policies name no country

    match = _COUNTRY.fullmatch(value) if isinstance(value, str) else None
    offered = holidays.list_supported_countries(include_aliases=True)
    if match is None or match[1] not in offered:
        raise wrong(
            f"no public holidays are known for {value!r}",
            "write a country's two letters, such as DE, or with its subdivision, DE-BE",
        )
    if match[2] is not None and match[2] not in offered[match[1]]:
        raise wrong(
            f"{match[1]} has no subdivision {match[2]!r}",
            f"write one of {', '.join(offered[match[1]]) or 'none: it has no subdivisions'}",
        )
    return str(value)


def _day(value: Any) -> date:
    try:
        return date.fromisoformat(value if isinstance(value, str) else "")
    except ValueError as error:
        raise wrong(f"{value!r} is not a day", 'write "2026-12-31"') from error


def _cron(value: Any) -> str:
    """A cron expression of five fields that comes round at least once in some years."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if len(text.split(" ")) != 5 or not _CRON_LETTERS.fullmatch(text):
        raise wrong(
            f"{value!r} is not a cron expression of five fields",
            'write minute, hour, day of the month, month and weekday: "0 22 * * 1-5"',
        )
    try:
        begins: datetime = croniter(text, datetime(2024, 1, 1)).get_next(datetime)  # type: ignore[no-untyped-call]
    except (ValueError, KeyError) as error:
        what = "never comes round" if isinstance(error, CroniterBadDateError) else str(error)
        raise wrong(
            f"{value!r}: {what}", 'write numbers that exist, such as "0 22 * * 1-5"'
        ) from error
    if begins.year > _CRON_BY:
        raise wrong(f"{value!r} never comes round", "write a day that exists")
    return text


def _moment(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() is None:
        raise wrong(
            f"{value!r} is not a time with its offset from UTC", 'write "2026-03-27T19:00+01:00"'
        )
    return moment


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": _DURATION_PATTERN, "minLength": 2}),
]
WeekTime = Annotated[
    int,
    BeforeValidator(_week_time),
    WithJsonSchema({"type": "string", "pattern": _WEEK_TIME_PATTERN}),
]
"""A weekday and time of day, as minutes since Monday 00:00."""
Zone = Annotated[
    zoneinfo.ZoneInfo, BeforeValidator(_zone), WithJsonSchema({"type": "string", "minLength": 1})
]
Country = Annotated[
    str,
    BeforeValidator(_country),
    WithJsonSchema({"type": "string", "pattern": "^[A-Z]{2}(-[A-Z0-9]{1,3})?$"}),
]
Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]
Cron = Annotated[
    str,
    BeforeValidator(_cron),
    WithJsonSchema({"type": "string", "pattern": r"^\S+( +\S+){4}$"}),
]
"""Five fields: minute, hour, day of the month, month, weekday."""
Moment = Annotated[
    datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})
]
RuleName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$"),
    Field(
        examples=["no-weekend"], description="a name of its own: small letters, digits and hyphens"
    ),
]
Names = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(min_length=1, examples=[["prod"]], description="names; `*` stands for any letters"),
]
Roles = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(
        min_length=1,
        examples=[["release-manager", "admin"]],
        description="roles; any one of them is enough",
    ),
]

MaybeNames = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(
        examples=[["prod"]],
        description="environments in which it has to be there; []: in none",
    ),
]
Answer = Annotated[
    Literal["approve", "deny"], Field(examples=["approve"], description="ask people, or deny")
]
"""There is no `allow`: what is not known, or not good, is never let pass by itself."""


def week_time_words(minutes: int) -> str:
    """`Fri 18:00` for minutes since Monday 00:00."""
    day, rest = divmod(minutes % MINUTES_A_WEEK, MINUTES_A_DAY)
    return f"{WEEKDAYS[day]} {rest // 60:02d}:{rest % 60:02d}"
