"""The policy that a repository carries for itself, read at the commit that a change is based on."""

from __future__ import annotations

from policy.finding import Case, Finding, answered, note
from policy.matching import name_matches


def findings(case: Case) -> tuple[Finding, ...]:
    """Whether it was read; what it says has become part of the rules already."""
    return (_read(case),) if case.rules.repositories.tighten else ()


def _read(case: Case) -> Finding:
    rules, own = case.rules.repositories, case.facts.repository
    match own.state:
        case "read":
            return note("repository.policy", f"{own.where} tightens the policy.")
        case "absent":
            return note("repository.none", f"There is no {own.where}.")
        case "broken":
            return answered(
                rules.broken,
                "repository.broken",
                f"{own.where} is not valid: {own.reason}",
                "Mend it on the base branch, then `/retry`",
            )
        case "no_forge" if rules.without_forge == "ignore":
            return note(
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
                return answered(rules.unknown, "repository.unknown", said, remedy)
            return note("repository.unknown", f"{said} It has to be known elsewhere only.")
