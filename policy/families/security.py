"""Vulnerabilities in what is released: scores, known exploits, VEX statements and exceptions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from domain.evidence import Scan, VexStatement, Vulnerability
from policy.finding import Case, Finding, answered, note
from policy.matching import name_matches
from policy.rules import Rules
from policy.rules_evidence import Answer, ExceptionRule, VulnerabilityRules

MOST_NAMED = 5
"""Findings that one sentence names; the rest is counted."""


def findings(case: Case) -> Iterable[Finding]:
    """Scans that are missing, skipped or failed; then what the others found, worst first."""
    rules, scans = case.rules.vulnerabilities, case.facts.evidence.scans
    if not scans:
        return (_missing(case),) if case.listed in rules.required_in else ()
    if case.listed not in rules.environments:
        return ()
    unknown = _not_done(rules, [one for one in scans if one.state != "done"])
    found = {
        (one.id.casefold(), one.package, one.version): one
        for scan in scans
        if scan.state == "done"
        for one in scan.findings
    }
    return (*unknown, *_judged(case, list(found.values())))


def _missing(case: Case) -> Finding:
    return answered(
        case.rules.vulnerabilities.missing,
        "security.scan_missing",
        f"Nobody has scanned what would be released to {case.place} for vulnerabilities.",
        "Run the scan and deliver its report, then `/retry`",
    )


def _not_done(rules: VulnerabilityRules, scans: list[Scan]) -> Iterator[Finding]:
    """A scan that was skipped or failed has found nothing out, which is not the same as nothing."""
    for scan in scans:
        state = "was skipped" if scan.state == "skipped" else "failed"
        why = f": {scan.reason}" if scan.reason else ""
        yield answered(
            rules.missing,
            "security.scan_unknown",
            f"The scan by {scan.tool} {state}{why}. What it would have found is not known.",
            "Make it run through, then `/retry`",
        )


def _judged(case: Case, found: list[Vulnerability]) -> Iterator[Finding]:
    """Each vulnerability once: let pass by a statement or an exception, or by its worst rule."""
    rules = case.rules.vulnerabilities
    groups: dict[tuple[str, Answer], list[str]] = {}
    passed: dict[str, list[str]] = {}
    for one in sorted(found, key=lambda v: (-(v.cvss if v.cvss is not None else 11), v.id)):
        against = list(_against(rules, one))
        if not against:
            continue
        let = _let_pass(case, one)
        if let is not None:
            passed.setdefault(let[0], []).append(let[1])
            continue
        rule, answer, words = min(against, key=lambda entry: entry[1] != "deny")
        expired = _expired(case, one)
        groups.setdefault((rule, answer), []).append(words + expired)
    for (rule, answer), told in groups.items():
        yield answered(
            answer,
            rule,
            f"Vulnerabilities in what would be released to {case.place}: {_listed(told)}.",
            "Update what is affected, have the supplier state that it does not apply (VEX), or add "
            "an exception with owner and expiry under security.exceptions",
        )
    for rule, told in passed.items():
        yield note(rule, f"Let pass: {_listed(told)}.")


def _against(rules: VulnerabilityRules, one: Vulnerability) -> Iterator[tuple[str, Answer, str]]:
    """Every rule that a vulnerability falls under, with what it wants."""
    name = f"{one.id}{' in ' + one.package if one.package else ''}"
    fix = f", fixed in {one.fixed_in}" if one.fixed_in else ""
    if one.known_exploited:
        yield "security.known_exploited", rules.known_exploited, f"{name} is being exploited{fix}"
    if rules.epss is not None and one.epss is not None and one.epss >= rules.epss[0]:
        yield (
            "security.likely_exploited",
            rules.epss[1],
            f"{name} is exploited with a probability of {one.epss:.0%}{fix}",
        )
    if one.cvss is None:
        yield "security.unscored", rules.unscored, f"{name} has no CVSS score{fix}"
    elif one.cvss >= rules.deny_from:
        yield "security.cvss", "deny", f"{name} has CVSS {one.cvss:g}{fix}"
    elif one.cvss >= rules.ask_from:
        yield "security.cvss", "approve", f"{name} has CVSS {one.cvss:g}{fix}"


def _let_pass(case: Case, one: Vulnerability) -> tuple[str, str] | None:
    """The statement or exception that lets a vulnerability pass, as rule and words."""
    for statement in case.facts.evidence.vex:
        if _settles(case.rules.vulnerabilities, statement, one):
            by = f" by {statement.by}" if statement.by else ""
            return (
                "security.vex",
                f"{one.id}, {statement.status.replace('_', ' ')}{by}: {statement.justification}",
            )
    for rule in _exceptions(case, one):
        if _holds(case, rule):
            return (
                "security.exception",
                f"{one.id} until {rule.expires.isoformat()}, owner {rule.owner}: {rule.reason}",
            )
    return None


def _settles(rules: VulnerabilityRules, statement: VexStatement, one: Vulnerability) -> bool:
    """Whether a trusted supplier has said, with a reason, that it does not apply."""
    return (
        statement.status in ("not_affected", "fixed")
        and bool(statement.justification.strip())
        and statement.finding.casefold() in one.names
        and statement.product.casefold() in ("", one.package.casefold())
        and name_matches(statement.by, rules.vex_trusted)
    )


def _exceptions(case: Case, one: Vulnerability) -> Iterator[ExceptionRule]:
    facts = case.facts
    for rule in case.rules.vulnerabilities.exceptions:
        if rule.covers(one, case.listed or "", facts.service or ""):
            yield rule


def _holds(case: Case, rule: ExceptionRule) -> bool:
    """To the end of its last day, in UTC."""
    return case.now.astimezone(UTC).date() <= rule.expires


def _expired(case: Case, one: Vulnerability) -> str:
    over = [rule for rule in _exceptions(case, one) if not _holds(case, rule)]
    if not over:
        return ""
    rule = max(over, key=lambda entry: entry.expires)
    return f" (the exception of {rule.owner} ended on {rule.expires.isoformat()})"


def ended_exceptions(rules: Rules, now: datetime) -> Iterator[str]:
    """A sentence for each exception that lets nothing pass any more, for its keepers."""
    today = now.astimezone(UTC).date()
    for one in rules.vulnerabilities.exceptions:
        if one.expires < today:
            yield (
                f"the exception for {one.finding} of {one.owner} ended on "
                f"{one.expires.isoformat()}; renew it or take it out"
            )


def _listed(words: list[str]) -> str:
    more = len(words) - MOST_NAMED
    return "; ".join(words[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
