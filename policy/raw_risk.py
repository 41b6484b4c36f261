"""The shape of `risk`: what makes a change riskier than its environment alone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from domain.plan import RiskClass
from policy.raw_values import Names, Raw, RuleName


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


class RawManyLines(Raw):
    """A change of many lines."""

    more_than: Annotated[
        int, Field(ge=1, examples=[2000], description="lines added and removed, when known")
    ]
    to: Annotated[RiskClass, Field(examples=["high"], description="at least this risk class")]


class RawBlastRadius(Raw):
    """How much a mistake would reach at once. Each limit may be left out."""

    environments: Names
    traffic: Annotated[
        int | None,
        Field(
            default=None,
            ge=0,
            le=100,
            examples=[25],
            description="percent that the new version gets at first; 100 without a canary",
        ),
    ]
    replicas: Annotated[
        int | None, Field(default=None, ge=0, examples=[50], description="pods of the workload")
    ]
    services: Annotated[
        int | None,
        Field(default=None, ge=1, examples=[3], description="services that one change releases"),
    ]
    to: Annotated[
        RiskClass, Field(examples=["high"], description="at least this, above any of the limits")
    ]


class RawIrreversible(Raw):
    """What cannot be taken back by bringing the last version back."""

    first_install: Annotated[
        RiskClass,
        Field(
            examples=["medium"],
            description="at least this where nothing runs yet: there is no version to go back to",
        ),
    ]
    paths: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            default=(),
            examples=[["**/migrations/**"]],
            description="patterns of paths whose changes stay, such as migrations",
        ),
    ]
    to: Annotated[RiskClass, Field(examples=["high"], description="at least this for such paths")]


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
    many_lines: Annotated[
        RawManyLines | None, Field(default=None, description="a change of many lines")
    ]
    blast_radius: Annotated[
        RawBlastRadius | None, Field(default=None, description="how much a mistake would reach")
    ]
    irreversible: Annotated[
        RawIrreversible | None, Field(default=None, description="what cannot be taken back")
    ]
    raise_: Annotated[
        tuple[RawRaise, ...], Field(default=(), alias="raise", description="paths that are riskier")
    ]
