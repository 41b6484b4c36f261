"""The shape of `canary`, `slo` and `checks`: how a release goes and what is measured."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from domain.source_hints import wrong
from policy.raw_values import Answer, Duration, Names, Raw


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
    blue_green: Annotated[
        Literal["deny", "approve", "allow"],
        Field(
            default="deny",
            examples=["approve"],
            description="all traffic switched at once to a new version at full size; `deny` holds "
            "it to max_first_weight",
        ),
    ]


class RawSloPhase(Raw):
    """What to do with a check that did not pass. There is no `allow`: unknown is not fine."""

    fail: Answer
    inconclusive: Answer
    nodata: Answer
    error: Answer


class RawErrorBudget(Raw):
    """What is left of the error budget decides whether anything but a fix may go out."""

    environments: Names
    window: Annotated[
        Duration, Field(examples=["28d"], description="over which the objective is promised")
    ]
    ask_below: Annotated[
        float, Field(ge=0, le=100, examples=[25], description="percent left; below it asks people")
    ]
    deny_below: Annotated[
        float,
        Field(
            ge=0,
            le=100,
            examples=[0],
            description="percent left; below it denies, a fix asks people",
        ),
    ]
    fixes: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            default=("fix:*", "fix(*", "hotfix*", "revert*"),
            examples=[["fix:*", "hotfix*"]],
            description="titles of changes that mend; case does not count",
        ),
    ]
    unknown: Annotated[
        Answer, Field(examples=["approve"], description="what is left could not be found out")
    ]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.deny_below > self.ask_below:
            raise wrong("`deny_below` is above `ask_below`", "nobody would be asked; lower it")
        return self


class RawSlo(Raw):
    """Service level checks before the change, at the canary, and after full rollout."""

    pre: RawSloPhase
    canary: RawSloPhase
    post: RawSloPhase
    burn: Annotated[
        Literal["rollback", "page"],
        Field(
            default="rollback",
            examples=["rollback"],
            description="a version burns its error budget after full rollout: back to the last "
            "known good, or a critical notification and a question",
        ),
    ]
    replaces_bad: Annotated[
        Literal["allow", "approve"],
        Field(
            default="allow",
            examples=["allow"],
            description="the check before a change did not pass, and the version that runs is "
            "known to be bad: the release is its fix; `approve` goes by `pre` all the same",
        ),
    ]
    error_budget: Annotated[
        RawErrorBudget | None, Field(default=None, description="gate on the error budget")
    ]


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
