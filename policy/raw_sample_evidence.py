"""The shape of evidence in a sample: scans, statements, signature, costs, budgets, owners."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from policy.raw_values import Raw


class RawSampleFinding(Raw):
    """A vulnerability."""

    id: str
    aliases: tuple[str, ...] = ()
    package: str = ""
    cvss: Annotated[float | None, Field(default=None, ge=0, le=10)]
    epss: Annotated[float | None, Field(default=None, ge=0, le=1)]
    known_exploited: bool | None = None


class RawSampleScan(Raw):
    """A scan and what it found."""

    state: Literal["done", "skipped", "failed"] = "done"
    findings: tuple[RawSampleFinding, ...] = ()


class RawSampleVex(Raw):
    """A supplier's statement on a vulnerability."""

    finding: str
    product: str = ""
    status: Literal["not_affected", "affected", "fixed", "under_investigation"]
    justification: str = ""
    by: str = ""


class RawSampleCost(Raw):
    """An estimate of the monthly cost; null: not known."""

    monthly: float | None
    before: float | None
    currency: str | None = None
    """Left out: the policy's."""
    unpriced: tuple[str, ...] = ()


class RawSampleModel(Raw):
    """What a model-backed agent has used."""

    agent: str
    turns: int = 0
    tokens: int = 0
    cost: float | None = 0.0
    seconds: float = 0.0
    tools: tuple[str, ...] = ()


class RawSampleEvidence(Raw):
    """What has been delivered about the change; whatever is left out has not been."""

    scan: RawSampleScan | None = None
    vex: tuple[RawSampleVex, ...] = ()
    signature: Literal["verified", "unverified", "unknown"] | None = None
    sbom: Literal["present", "absent", "unknown"] | None = None
    cost: RawSampleCost | None = None
    model: RawSampleModel | None = None
    secrets: Annotated[
        tuple[str, ...] | None,
        Field(
            examples=[["src/app.py"]],
            description="files with a secret; []: looked through, none; left out: nobody looked",
        ),
    ] = None
