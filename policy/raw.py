"""The shape of `policy.yaml`, exactly as written. What it means is made of it in `rules.py`.

Every section has to be there, so that no gate is missing because a name was left out; unknown keys
are refused. Field descriptions and examples end up in error hints and in the JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from domain.plan import RiskClass
from policy.raw_approvals import RawApprovals, RawOverrides, RawRoles
from policy.raw_autonomy import RawAutonomy
from policy.raw_delivery import RawCanary, RawChecks, RawSlo
from policy.raw_manifests import RawManifests
from policy.raw_repository import RawRepositories
from policy.raw_risk import RawRisk
from policy.raw_samples import RawSample
from policy.raw_security import RawSbom, RawSecurity, RawSigning
from policy.raw_spending import RawBudget, RawCost
from policy.raw_values import Raw
from policy.raw_windows import RawWindows


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
    security: RawSecurity
    signing: RawSigning
    sbom: RawSbom
    cost: RawCost
    models: Annotated[
        dict[Annotated[str, Field(min_length=1)], RawBudget],
        Field(
            examples=[{}],
            description="what each model-backed agent may use; one that is not named uses no model",
        ),
    ]
    repositories: RawRepositories
    overrides: RawOverrides
    autonomy: RawAutonomy
    manifests: RawManifests
    roles: Annotated[RawRoles, Field(default=RawRoles(), description="who has which role")]
    samples: Annotated[
        tuple[RawSample, ...],
        Field(default=(), description="cases that this policy has to decide as stated"),
    ]
