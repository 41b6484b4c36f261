"""The shape of `cost` and `models`: what a change may cost, and what a model may use and do."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, field_validator

from domain.source_hints import wrong
from policy.raw_values import Answer, Duration, MaybeNames, Names, Raw


class RawCost(Raw):
    """Monthly cost of the infrastructure after the change, absolute and against now."""

    environments: Names
    required_in: MaybeNames
    currency: Annotated[
        str,
        Field(pattern="^[A-Z]{3}$", examples=["EUR"], description="three capital letters"),
    ]
    most_monthly: Annotated[
        float, Field(gt=0, examples=[5000], description="most that it may cost a month")
    ]
    most_growth: Annotated[
        float, Field(ge=0, examples=[10], description="percent by which it may grow, against now")
    ]
    over: Annotated[Answer, Field(examples=["approve"], description="above either of the two")]
    unpriced: Annotated[
        Answer,
        Field(examples=["deny"], description="a resource without a price, or another currency"),
    ]
    unknown: Annotated[Answer, Field(examples=["deny"], description="there is no estimate")]


class RawBudget(Raw):
    """What one run of an agent may use of a model, and which tools it may call."""

    turns: Annotated[
        int, Field(ge=0, le=1000, examples=[12], description="answers of the model; 0: no model")
    ]
    tokens: Annotated[
        int, Field(ge=0, le=100_000_000, examples=[60000], description="tokens, in and out")
    ]
    cost: Annotated[
        float,
        Field(ge=0, examples=[0.5], description="money, in the currency of the model's price"),
    ]
    wall_time: Annotated[Duration, Field(examples=["60s"], description="from first to last turn")]
    tools: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            examples=[["find_service", "query_metrics"]],
            description="tools it may call; `*` stands for any letters",
        ),
    ]

    @field_validator("wall_time")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if value > timedelta(hours=1):
            raise wrong("a model may not think longer than an hour", 'write "60s"')
        return value
