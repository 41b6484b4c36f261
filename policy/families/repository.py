"""The policy that a repository carries for itself, read at the commit that a change is based on."""

from __future__ import annotations

from collections.abc import Iterator

from policy.finding import Case, Finding, answered, note
from policy.matching import name_matches


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
            said = (
                "Whether the repository has a policy of its own could not be found out"
                f"{': ' + own.reason if own.reason else ''}."
            )
            if name_matches(case.listed or "", rules.required_in):
                remedy = "Make the forge reachable, then `/retry`"
                yield answered(rules.unknown, "repository.unknown", said, remedy)
            else:
                yield note("repository.unknown", f"{said} It has to be known elsewhere only.")
