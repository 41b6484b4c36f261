"""The shape of `windows`: when changes may begin."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from domain.source_hints import wrong
from policy.raw_values import Country, Names, Raw, RuleName, WeekTime, Zone


class RawWindow(Raw):
    """A range of the week, on the clock of its time zone, that comes back every week."""

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
    timezone: Annotated[
        Zone | None,
        Field(default=None, examples=["Europe/Berlin"], description="IANA time zone"),
    ]
    environments: Names
    services: Names = ("*",)


class RawDenyWindow(RawWindow):
    """When nothing may begin: a weekly range, the public holidays of a country, or both."""

    holidays: Annotated[
        Country | None,
        Field(default=None, examples=["DE-BE"], description="country, or country and subdivision"),
    ]

    @model_validator(mode="after")
    def _something(self) -> RawDenyWindow:
        if (self.from_ is None) != (self.to is None):
            raise wrong("a range needs both `from` and `to`", 'add the other: to: "Mon 08:00"')
        if self.from_ is None and self.holidays is None:
            raise wrong("this window never applies", "give `from` and `to`, or `holidays`")
        return self


class RawAllowWindow(RawWindow):
    """When changes may begin, and at no other time."""

    @model_validator(mode="after")
    def _range(self) -> RawAllowWindow:
        if self.from_ is None or self.to is None:
            raise wrong("an allow window needs `from` and `to`", 'from: "Mon 08:00"')
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
