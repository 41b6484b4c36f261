"""The shape of `policy.yaml`, exactly as written. What it means is made of it in `rules.py`.

Every section has to be there, so that no gate is missing because a name was left out; unknown keys
are refused. Field descriptions and examples end up in error hints and in the JSON Schema.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from domain.plan import RiskClass
from domain.source_hints import wrong
from policy.raw_manifests import RawManifests
from policy.raw_samples import RawSample
from policy.raw_values import Country, Duration, Raw, RuleName, WeekTime, Zone

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


class RawEnvironment(Raw):
    """One environment that releases may go to."""

    risk: Annotated[
        RiskClass, Field(examples=["medium"], description="risk class of any change to it")
    ]


class RawReleases(Raw):
    """What becomes of a release that has begun."""

    superseded_in_flight: Annotated[
        Literal["finish", "stop"],
        Field(
            examples=["finish"],
            description="a newer change arrives while this one is being rolled out",
        ),
    ]
    in_flight_window: Annotated[
        Literal["finish", "hold"],
        Field(
            examples=["finish"], description="a change window closes while it is being rolled out"
        ),
    ]


class RawRollback(Raw):
    """A rollback that a person asks for. The one after a breach is always allowed."""

    manual: Annotated[
        Literal["allow", "approve"],
        Field(examples=["allow"], description="a rollback that a person asks for"),
    ]


class RawRaise(Raw):
    """Paths that make a change riskier."""

    id: RuleName
    paths: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            min_length=1,
            examples=[["**/migrations/**"]],
            description="patterns of changed paths; `**` stands for any folders",
        ),
    ]
    to: Annotated[RiskClass, Field(examples=["high"], description="at least this risk class")]


class RawManyPaths(Raw):
    """A change of many files."""

    more_than: Annotated[int, Field(ge=1, examples=[100], description="number of changed paths")]
    to: Annotated[RiskClass, Field(examples=["high"], description="at least this risk class")]


class RawRisk(Raw):
    """What raises the risk class above that of the environment."""

    unknown_paths: Annotated[
        RiskClass,
        Field(examples=["high"], description="at least this when the changed paths are unknown"),
    ]
    without_canary: Annotated[
        RiskClass,
        Field(
            examples=["high"],
            description="at least this for a release without the canary that canary.required_in "
            "wants, such as a first install",
        ),
    ]
    many_paths: Annotated[
        RawManyPaths | None, Field(default=None, description="a change of many files")
    ]
    raise_: Annotated[
        tuple[RawRaise, ...], Field(default=(), alias="raise", description="paths that are riskier")
    ]


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


class RawNeed(Raw):
    """How many approvals by whom, where and at which risk. The first row that fits counts."""

    environments: Names
    risk: Annotated[
        tuple[RiskClass, ...] | None,
        Field(
            default=None,
            min_length=1,
            examples=[["high", "critical"]],
            description="risk classes; left out: all",
        ),
    ]
    count: Annotated[int, Field(ge=0, le=10, examples=[1], description="approvals needed")]
    roles: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            default=(),
            examples=[["release-manager", "admin"]],
            description="roles; any one of them is enough",
        ),
    ]

    @model_validator(mode="after")
    def _who(self) -> RawNeed:
        if self.count > 0 and not self.roles:
            raise wrong("approvals are asked for, but of nobody", "add `roles: [release-manager]`")
        if self.count == 0 and self.roles:
            raise wrong("roles are named, but no approval is asked for", "raise `count`")
        return self


class RawOtherwise(Raw):
    """Who answers a question where no approval is needed as a rule."""

    count: Annotated[int, Field(ge=1, le=10, examples=[1], description="approvals needed")]
    roles: Roles


class RawApprovals(Raw):
    """Who has to say yes."""

    author_may_approve: Annotated[
        bool, Field(examples=[False], description="whether one's own change may be approved")
    ]
    merger_may_approve: Annotated[
        bool,
        Field(examples=[True], description="whether the person who merged the change may approve"),
    ]
    expires: Annotated[
        Duration, Field(examples=["24h"], description="how long a question stands open")
    ]
    escalate_after: Annotated[
        Duration | None,
        Field(default=None, examples=["4h"], description="when others may answer as well"),
    ]
    escalate_to: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(default=(), examples=[["sre-lead"]], description="roles that may answer then"),
    ]
    needed: Annotated[tuple[RawNeed, ...], Field(min_length=1)]
    otherwise: RawOtherwise

    @model_validator(mode="after")
    def _escalation(self) -> RawApprovals:
        if (self.escalate_after is None) != (not self.escalate_to):
            raise wrong("escalation needs both `escalate_after` and `escalate_to`", "add the other")
        if self.escalate_after is not None and self.escalate_after >= self.expires:
            raise wrong(
                "a question expires before it escalates", "make `escalate_after` the shorter one"
            )
        return self


class RawCanary(Raw):
    """How much traffic a new version may get first."""

    max_first_weight: Annotated[
        int, Field(ge=1, le=100, examples=[10], description="percent of the traffic")
    ]
    required_in: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(examples=[["prod"]], description="environments that want a canary"),
    ]
    missing: Annotated[
        Literal["approve", "deny"],
        Field(examples=["approve"], description="a release without the canary that is wanted"),
    ]


Answer = Annotated[
    Literal["approve", "deny"], Field(examples=["approve"], description="ask people, or deny")
]


class RawSloPhase(Raw):
    """What to do with a check that did not pass. There is no `allow`: unknown is not fine."""

    fail: Answer
    inconclusive: Answer
    nodata: Answer
    error: Answer


class RawSlo(Raw):
    """Service level checks before the change, at the canary, and after full rollout."""

    pre: RawSloPhase
    canary: RawSloPhase
    post: RawSloPhase


class RawChecks(Raw):
    """What CI has to say about the commit."""

    environments: Names
    required: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            examples=[["unit tests"]],
            description="names of checks that must have succeeded; none: any failed check denies",
        ),
    ]


class RawOverrides(Raw):
    """Break-glass: lifts change windows, nothing else."""

    roles: Roles
    min_reason: Annotated[
        int, Field(ge=1, le=500, examples=[10], description="letters a reason needs at least")
    ]
    max_duration: Annotated[
        Duration, Field(examples=["2h"], description="how long an override lasts at most")
    ]

    @field_validator("max_duration")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if value > timedelta(days=7):
            raise wrong("an override may not last longer than 7 days", 'write "2h"')
        return value


TeamName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*$",
        examples=["acme/release-managers"],
        description="a team on the forge, as organisation/team",
    ),
]


class RawRoles(Raw):
    """Roles that come from elsewhere than the token file and the permission on the repository."""

    teams: Annotated[
        dict[TeamName, Roles],
        Field(
            default={},
            examples=[{"acme/release-managers": ["release-manager"]}],
            description="teams on the forge, and the roles their members have",
        ),
    ]


class RawPolicy(Raw):
    """All of `policy.yaml`."""

    version: Annotated[Literal[1], Field(examples=[1], description="version of this format")]
    environments: Annotated[
        dict[Annotated[str, Field(min_length=1)], RawEnvironment],
        Field(
            min_length=1,
            description="environments that releases may go to; any other one is denied",
        ),
    ]
    releases: RawReleases
    rollback: RawRollback
    risk: RawRisk
    windows: RawWindows
    approvals: RawApprovals
    canary: RawCanary
    slo: RawSlo
    checks: RawChecks
    overrides: RawOverrides
    manifests: RawManifests
    roles: Annotated[RawRoles, Field(default=RawRoles(), description="who has which role")]
    samples: Annotated[
        tuple[RawSample, ...],
        Field(default=(), description="cases that this policy has to decide as stated"),
    ]
