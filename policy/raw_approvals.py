"""The shape of `approvals` and `overrides`: who has to say yes, and who may lift a window."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from domain.plan import RiskClass
from domain.source_hints import wrong
from policy.raw_values import Answer, Duration, Names, Raw, Roles

TEAM = r"^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$"


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

    teams: Annotated[
        tuple[Annotated[str, Field(pattern=TEAM)], ...],
        Field(
            default=(),
            examples=[["acme/release"]],
            description="GitHub teams, as org/team; a member may answer as well",
        ),
    ]
    code_owners: Annotated[
        bool,
        Field(
            default=False,
            examples=[True],
            description="whether each changed path that CODEOWNERS names needs one of its owners",
        ),
    ]

    @model_validator(mode="after")
    def _who(self) -> RawNeed:
        if self.count > 0 and not (self.roles or self.teams):
            raise wrong("approvals are asked for, but of nobody", "add `roles: [release-manager]`")
        if self.count == 0 and (self.roles or self.teams or self.code_owners):
            raise wrong("somebody is named, but no approval is asked for", "raise `count`")
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
    unknown_owners: Annotated[
        Answer,
        Field(
            default="approve",
            examples=["approve"],
            description="code owners are wanted, and CODEOWNERS or the changed paths are unknown",
        ),
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


class RawOverrides(Raw):
    """Break-glass: lifts change windows, nothing else."""

    roles: Roles
    min_reason: Annotated[
        int, Field(ge=1, le=500, examples=[10], description="letters a reason needs at least")
    ]
    second_person: Annotated[
        tuple[RiskClass, ...],
        Field(
            default=(RiskClass.CRITICAL,),
            examples=[["critical"]],
            description="risk classes at which two people have to override",
        ),
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
