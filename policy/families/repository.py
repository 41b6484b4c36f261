"""The policy that a repository carries for itself, read at the commit that a change is based on."""

from __future__ import annotations

from collections.abc import Iterator

from policy.finding import Case, Finding, answered, note


def findings(case: Case) -> Iterator[Finding]:
    """Whether it was read; what it says has become part of the rules already."""
    rules, own = case.rules.repositories, case.facts.repository
    if not rules.tighten:
        return
    match own.state:
        case "read":
            yield note("repository.policy", f"{own.where} tightens the policy.")
        case "absent":
            yield note("repository.none", f"There is no {own.where}.")
        case "broken":
            yield answered(
                rules.broken,
                "repository.broken",
                f"{own.where} is not valid: {own.reason}",
                "Mend it on the base branch, then `/retry`",
            )
        case "no_forge" if rules.without_forge == "ignore":
            yield note(
                "repository.no_forge",
                "No forge is connected, so the repository was not asked for a policy of its own.",
            )
        case _:
            yield answered(
                rules.unknown,
                "repository.unknown",
                "Whether the repository has a policy of its own could not be found out"
                f"{': ' + own.reason if own.reason else ''}.",
                "Make the forge reachable, then `/retry`",
            )
