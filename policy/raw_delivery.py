"""The shape of `canary`, `slo` and `checks`: how a release goes and what is measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from policy.raw_values import Names, Raw


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
