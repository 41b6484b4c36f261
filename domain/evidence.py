"""Evidence about a change that others have gathered: scans, signatures, bills of materials, costs.

Each piece has a state of its own for what is not known. A scan that was skipped is not a scan that
found nothing, and a finding without a score is not a harmless one.
"""

from __future__ import annotations

from typing import Literal

from domain.event import Frozen


class Vulnerability(Frozen):
    """A known weakness in something that the artefact contains."""

    id: str
    """As the scanner names it: `CVE-2026-1234`, `GHSA-...`."""
    aliases: tuple[str, ...] = ()
    package: str = ""
    version: str = ""
    fixed_in: str = ""
    cvss: float | None = None
    """Base score, 0 to 10; None: nobody has scored it."""
    epss: float | None = None
    """Probability of exploitation within 30 days, 0 to 1; None: not known."""
    known_exploited: bool | None = None
    """Whether it is on CISA's list of known exploited vulnerabilities; None: not looked up."""

    @property
    def names(self) -> frozenset[str]:
        """Every name it goes by, without regard to case."""
        return frozenset(one.casefold() for one in (self.id, *self.aliases))


class Scan(Frozen):
    """What a scanner of dependencies or images has to say. Only `done` says anything."""

    tool: str
    state: Literal["done", "skipped", "failed"]
    reason: str = ""
    findings: tuple[Vulnerability, ...] = ()


class VexStatement(Frozen):
    """A supplier's word on whether a vulnerability matters (OpenVEX, CycloneDX, CSAF)."""

    finding: str
    product: str = ""
    """Package it is about; '': all of the artefact."""
    status: Literal["not_affected", "affected", "fixed", "under_investigation"]
    justification: str = ""
    by: str = ""


class Signature(Frozen):
    """Whether the artefact's signature was checked, and what came out."""

    state: Literal["verified", "unverified", "unknown"]
    by: str = ""
    reason: str = ""


class Sbom(Frozen):
    """Whether there is a bill of materials for the artefact."""

    state: Literal["present", "absent", "unknown"]
    format: str = ""
    components: int | None = None
    reason: str = ""


class CostEstimate(Frozen):
    """What the change would make the infrastructure cost a month."""

    currency: str
    monthly: float | None
    """After the change; None: not known."""
    before: float | None
    """Now; None: not known."""
    unpriced: tuple[str, ...] = ()
    """Resources that have no price."""


class ErrorBudget(Frozen):
    """What is left of a service level objective's error budget over its window."""

    sli: str
    remaining: float | None
    """Share of the budget that is left: 1 untouched, 0 used up, negative overspent; None: not
    known."""
    window_seconds: float
    reason: str = ""


class ModelUse(Frozen):
    """What a model-backed agent has used in a run so far."""

    agent: str
    turns: int = 0
    tokens: int = 0
    cost: float | None = 0.0
    """In the currency of the budget; None: the model has no known price."""
    seconds: float = 0.0
    tools: tuple[str, ...] = ()
    """Tools it has called."""


class OwnedPath(Frozen):
    """A changed path and those whom CODEOWNERS names for it (`@login`, `@org/team`, an address)."""

    path: str
    owners: tuple[str, ...]


class Evidence(Frozen):
    """All of it, as far as it was delivered; None: nobody has delivered any."""

    scans: tuple[Scan, ...] = ()
    vex: tuple[VexStatement, ...] = ()
    signature: Signature | None = None
    sbom: Sbom | None = None
    cost: CostEstimate | None = None
    model: ModelUse | None = None
