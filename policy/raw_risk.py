"""The shape of `risk`: what makes a change riskier than its environment alone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from domain.plan import RiskClass
from policy.raw_values import Raw, RuleName


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
