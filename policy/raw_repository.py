"""The shape of `repositories`, and of the policy that a repository may carry for itself.

A repository's own policy can only tighten: whatever can be written in it adds a denial, a question
or a risk. There is no key that takes one away.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from policy.raw_risk import RawRaise
from policy.raw_values import Answer, Raw, Zone
from policy.raw_windows import RawDenyWindow


class RawRepositories(Raw):
    """Whether the repositories' own policies are asked for, and what if one cannot be read."""

    own_policy: Annotated[
        Literal["ignore", "tighten"],
        Field(
            examples=["tighten"],
            description="read .fermata/policy.yaml at the commit that a change is based on",
        ),
    ]
    without_forge: Annotated[
        Literal["ignore", "approve", "deny"],
        Field(examples=["ignore"], description="no forge is connected that could be asked"),
    ]
    required_in: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            examples=[["prod"]],
            description="environments where it has to be known whether there is one",
        ),
    ]
    unknown: Annotated[
        Answer,
        Field(
            examples=["approve"],
            description="there, when it could not be read, or there is no base",
        ),
    ]
    broken: Annotated[Answer, Field(examples=["deny"], description="it was read and is not valid")]


class RawOwnWindows(Raw):
    """Deny windows of the repository."""

    timezone: Annotated[
        Zone, Field(examples=["Europe/Berlin"], description="IANA time zone of all windows")
    ]
    deny: tuple[RawDenyWindow, ...] = ()


class RawOwnNeed(Raw):
    """Approvals on top of the central policy's, by the people that are asked for there."""

    environments: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(min_length=1, examples=[["prod"]], description="names; `*` stands for any letters"),
    ]
    at_least: Annotated[
        int, Field(ge=1, le=10, examples=[2], description="approvals needed at least")
    ]
    code_owners: Annotated[
        bool, Field(default=False, examples=[True], description="code owners are needed as well")
    ]


class RawOwnCanary(Raw):
    """A smaller first step."""

    max_first_weight: Annotated[
        int, Field(ge=1, le=100, examples=[5], description="percent of the traffic")
    ]


class RawOwnChecks(Raw):
    """More checks that must have succeeded, wherever the central policy asks about checks."""

    required: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(min_length=1, examples=[["contract tests"]], description="names of checks"),
    ]


class RawOwnPolicy(Raw):
    """All of a repository's `.fermata/policy.yaml`. Sections may be left out."""

    version: Annotated[Literal[1], Field(examples=[1], description="version of this format")]
    windows: RawOwnWindows | None = None
    risk: Annotated[
        tuple[RawRaise, ...], Field(default=(), description="paths that are riskier here")
    ]
    approvals: Annotated[
        tuple[RawOwnNeed, ...], Field(default=(), description="more approvals than elsewhere")
    ]
    canary: RawOwnCanary | None = None
    checks: RawOwnChecks | None = None
