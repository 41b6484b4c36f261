"""Evidence of a sample as the facts have it."""

from __future__ import annotations

from domain.evidence import (
    CostEstimate,
    ErrorBudget,
    Evidence,
    ModelUse,
    OwnedPath,
    Sbom,
    Scan,
    Signature,
    VexStatement,
    Vulnerability,
)
from domain.secret import SecretHit, SecretScan
from policy.raw_sample_evidence import RawSampleEvidence, RawSampleScan
from policy.raw_samples import RawSampleFacts
from policy.rules import Rules


def evidence_of(rules: Rules, short: RawSampleEvidence) -> Evidence:
    """What the sample says has been delivered."""
    return Evidence(
        scans=(_scan(short.scan),) if short.scan is not None else (),
        vex=tuple(VexStatement.model_validate(one.model_dump()) for one in short.vex),
        signature=Signature(state=short.signature) if short.signature is not None else None,
        sbom=Sbom(state=short.sbom, format="CycloneDX") if short.sbom is not None else None,
        cost=CostEstimate(
            currency=short.cost.currency or rules.cost.currency,
            monthly=short.cost.monthly,
            before=short.cost.before,
            unpriced=short.cost.unpriced,
        )
        if short.cost is not None
        else None,
        model=ModelUse.model_validate(short.model.model_dump()) if short.model else None,
    )


def _scan(short: RawSampleScan) -> Scan:
    findings = tuple(Vulnerability.model_validate(one.model_dump()) for one in short.findings)
    return Scan(tool="a scanner", state=short.state, findings=findings)


def secrets_of(short: RawSampleEvidence) -> SecretScan | None:
    """Files with a secret, as a scan of the whole change."""
    if short.secrets is None:
        return None
    return SecretScan(
        hits=tuple(
            SecretHit(file=file, line=1, rule="sample", advice="revoke it")
            for file in short.secrets
        )
    )


def budgets_of(rules: Rules, short: RawSampleFacts) -> tuple[ErrorBudget, ...] | None:
    """The share that is left, as one objective's; null in the sample is not known."""
    seconds = rules.error_budget.seconds if rules.error_budget is not None else 0.0
    left = short.error_budget_left
    remaining = left / 100 if left is not None else None
    return (ErrorBudget(sli="a", remaining=remaining, window_seconds=seconds, reason="no data"),)


def owned_of(short: RawSampleFacts) -> tuple[OwnedPath, ...] | None:
    """Owners by path."""
    if short.owners is None:
        return None
    return tuple(OwnedPath(path=path, owners=names) for path, names in short.owners.items())
