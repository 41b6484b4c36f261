"""The shape of the section `autonomy` in `policy.yaml`: when to stop trying by itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from policy.raw_values import Duration, Raw


class RawQuarantine(Raw):
    """A version that failed in a place too often is not tried there again without an override."""

    after: Annotated[
        int, Field(ge=1, le=20, examples=[2], description="failures of one version in one place")
    ]
    within: Annotated[Duration, Field(examples=["14d"], description="how far back they count")]


class RawFlapping(Raw):
    """Too many rollbacks of one place in a short time: something else is wrong there."""

    rollbacks: Annotated[
        int, Field(ge=2, le=50, examples=[3], description="rollbacks of any version")
    ]
    within: Annotated[Duration, Field(examples=["6h"], description="how far back they count")]
    then: Annotated[
        Literal["approve", "deny"],
        Field(examples=["approve"], description="what becomes of the next release there"),
    ]


Severity = Annotated[str, Field(max_length=60)]


class RawAutonomy(Raw):
    """How far the system goes by itself after things went wrong."""

    quarantine: RawQuarantine
    flapping: RawFlapping
    alerts: Annotated[
        tuple[Severity, ...],
        Field(
            examples=[["critical", "warning"]],
            description="severities of alerts that, when they begin on a service during its "
            'release, send it back at once; "" stands for alerts without one',
        ),
    ]
    fast_rollback: Annotated[
        Duration,
        Field(
            examples=["7d"],
            description="a rollback that a person asks for goes at once to a version proven good "
            "within this time; to an older one it goes through the canary",
        ),
    ]
