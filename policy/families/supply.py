"""Where an artefact comes from and what is in it: secrets in the change, signature, SBOM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from domain.secret import SecretScan
from policy.finding import Case, Finding, answered, note

MOST_NAMED = 5


def findings(case: Case) -> Iterable[Finding]:
    """Secrets that were found or not looked for; a signature or an SBOM that is not there."""
    if case.listed is None:
        return ()
    return (*_secrets(case), *_signature(case), *_sbom(case))


def _secrets(case: Case) -> Iterable[Finding]:
    scan = case.facts.change.secret_scan
    wanted = case.listed in case.rules.secrets.required_in
    return _judged(case, scan, wanted=wanted) if scan is not None or wanted else ()


def _judged(case: Case, scan: SecretScan | None, *, wanted: bool) -> Iterator[Finding]:
    rules = case.rules.secrets
    if scan is not None and scan.hits:
        places = [f"{one.file}:{one.line} ({one.rule})" for one in scan.hits[:MOST_NAMED]]
        more = len(scan.hits) - MOST_NAMED
        yield answered(
            rules.found,
            "security.secret",
            f"The change adds secrets: {', '.join(places)}{f' and {more} more' * (more > 0)}.",
            f"Take them out of use first ({scan.hits[0].advice}), then out of the change and its "
            "history",
        )
    if wanted and (scan is None or not scan.complete):
        unread = f"{len(scan.unread)} files could not be read" if scan and scan.unread else ""
        why = (scan.reason if scan else "nobody has") or unread
        yield answered(
            rules.missing,
            "security.secrets_unknown",
            f"The change was not looked through for secrets: {why}.",
            "Make the forge reachable, then `/retry`",
        )


def _signature(case: Case) -> tuple[Finding, ...]:
    rules, signature = case.rules.signing, case.facts.evidence.signature
    wanted = case.listed in rules.required_in
    if signature is not None and signature.state == "verified":
        by = signature.by or "a trusted key"
        return (note("signing.verified", f"Signed by {by}."),) if wanted else ()
    why = f": {signature.reason}" if signature is not None and signature.reason else ""
    if signature is not None and signature.state == "unverified":
        # A signature that does not hold is a finding wherever somebody looked.
        broken = answered(
            rules.unverified,
            "signing.unverified",
            f"The signature of what would be released to {case.place} does not hold{why}.",
            "Build and sign it anew with the release's own identity",
        )
        return (broken,)
    if not wanted:
        return ()
    unknown = answered(
        rules.unknown,
        "signing.unknown",
        f"It is not known who signed what would be released to {case.place}{why}.",
        "Sign it, and let the check of the signature run",
    )
    return (unknown,)


def _sbom(case: Case) -> tuple[Finding, ...]:
    return (_listed(case),) if case.listed in case.rules.sbom.required_in else ()


def _listed(case: Case) -> Finding:
    rules, sbom = case.rules.sbom, case.facts.evidence.sbom
    if sbom is not None and sbom.state == "present":
        parts = f" of {sbom.components} components" if sbom.components is not None else ""
        return note("sbom.present", f"There is a bill of materials{parts} ({sbom.format}).")
    why = f": {sbom.reason}" if sbom is not None and sbom.reason else ""
    if sbom is not None and sbom.state == "absent":
        return answered(
            rules.absent,
            "sbom.absent",
            f"What would be released to {case.place} has no bill of materials{why}.",
            "Let the build make one (CycloneDX or SPDX)",
        )
    return answered(
        rules.unknown,
        "sbom.unknown",
        f"It is not known whether there is a bill of materials for {case.place}{why}.",
        "Let the build make one and deliver it",
    )
