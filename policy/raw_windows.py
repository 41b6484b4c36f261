"""The shape of `windows`: when changes may begin."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from domain.source_hints import wrong
from policy.raw_values import Country, Cron, Duration, Names, Raw, RuleName, WeekTime, Zone


class RawWindow(Raw):
    """Some time that comes back: a range of the week, or what a cron expression begins."""

    id: RuleName
    from_: Annotated[
        WeekTime | None,
        Field(
            default=None,
            alias="from",
            examples=["Fri 18:00"],
            description="weekday and time it begins",
        ),
    ]
    to: Annotated[
        WeekTime | None,
        Field(default=None, examples=["Mon 08:00"], description="weekday and time it ends"),
    ]
    cron: Annotated[
        Cron | None,
        Field(
            default=None,
            examples=["0 22 28-31 * *"],
            description="when it begins: minute, hour, day of the month, month, weekday",
        ),
    ]
    lasts: Annotated[
        Duration | None,
        Field(default=None, examples=["6h"], description="how long it lasts from there"),
    ]
    timezone: Annotated[
        Zone | None,
        Field(default=None, examples=["Europe/Berlin"], description="IANA time zone"),
    ]
    environments: Names
    services: Names = ("*",)

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if (self.from_ is None) != (self.to is None):
            raise wrong("a range needs both `from` and `to`", 'add the other: to: "Mon 08:00"')
        if (self.cron is None) != (self.lasts is None):
            raise wrong("a cron window needs both `cron` and `lasts`", "add the other: lasts: 6h")
        if self.from_ is not None and self.cron is not None:
            raise wrong("a window is a range or a cron expression", "make two windows of it")
        if self.lasts is not None and self.lasts.total_seconds() % 60:
            raise wrong("windows are told to the minute", "write `lasts` in whole minutes")
        return self


class RawDenyWindow(RawWindow):
    """When nothing may begin. `holidays` and `calendar` may stand beside a range, or alone."""

    holidays: Annotated[
        Country | None,
        Field(default=None, examples=["DE-BE"], description="country, or country and subdivision"),
    ]
    calendar: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            examples=["freeze.ics"],
            description="iCalendar file with the times of a freeze, beside this file",
        ),
    ]

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not any((self.from_ is not None, self.cron, self.holidays, self.calendar)):
            raise wrong(
                "this window never applies",
                "give `from` and `to`, `cron` and `lasts`, `holidays`, or a `calendar`",
            )
        return self


class RawAllowWindow(RawWindow):
    """When changes may begin, and at no other time."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.from_ is None and self.cron is None:
            raise wrong(
                "an allow window needs `from` and `to`, or `cron` and `lasts`",
                'from: "Mon 08:00"',
            )
        return self


class RawWindows(Raw):
    """Change windows. Deny beats allow; several allow windows add up."""

    timezone: Annotated[
        Zone, Field(examples=["Europe/Berlin"], description="IANA time zone of all windows")
    ]
    when_closed: Annotated[
        Literal["wait", "deny"],
        Field(
            examples=["wait"],
            description="wait for the next opening, or deny at once",
        ),
    ]
    deny: tuple[RawDenyWindow, ...] = ()
    allow: tuple[RawAllowWindow, ...] = ()
