"""How much could go wrong: the risk class of a change, with the facts it rests on. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from domain.action import K8sDeploy
from domain.plan import RiskClass
from policy.facts import Facts
from policy.matching import name_matches
from policy.rules import Rules

Raised = tuple[RiskClass, str]


def listed_environment(rules: Rules, environment: str | None) -> str | None:
    """The name under which the policy lists an environment: its own, else a pattern's."""
    if environment is None:
        return None
    if environment in rules.risk.environments:
        return environment
    return next((one for one in rules.risk.environments if name_matches(environment, (one,))), None)


def wants_canary(rules: Rules, facts: Facts, listed: str | None) -> bool:
    """Whether the policy wants a canary for this release."""
    return (
        listed is not None
        and facts.goal == "release"
        and name_matches(listed, rules.canary.required_in)
    )


def risk_of(rules: Rules, facts: Facts, listed: str | None) -> tuple[RiskClass, tuple[str, ...]]:
    """The highest class that any fact gives, and a phrase for each fact that counted.

    All steps of a scope get the same class, so that one approval can cover them. Steps that only
    speak are low; an environment that is not listed is critical.
    """
    if facts.step.only_speaks:
        return RiskClass.LOW, ("it only speaks",)
    found = list(_raised(rules, facts, listed))
    highest, most = found[0][0], -1
    for one, _ in found:
        rank = one.rank
        if rank > most:
            highest, most = one, rank
    return highest, tuple([f"{why} ({one})" for one, why in found])


def _raised(rules: Rules, facts: Facts, listed: str | None) -> Iterator[Raised]:
    if listed is None:
        yield RiskClass.CRITICAL, f"environment {facts.environment} is not listed"
    else:
        yield rules.risk.environments[listed], f"environment {facts.environment}"
    if wants_canary(rules, facts, listed) and not facts.canary_planned:
        yield rules.risk.without_canary, "no canary is planned"
    yield from _by_reach(rules, facts, listed)
    if rules.risk.first_install is not None and facts.first_install is not False:
        why = (
            "nothing runs there yet, so there is no version to go back to"
            if facts.first_install
            else "it is not known whether anything runs there"
        )
        yield rules.risk.first_install, why
    yield from _by_lines(rules, facts.change.lines)
    yield from _by_paths(rules, facts.change.paths)


def _by_reach(rules: Rules, facts: Facts, listed: str | None) -> Iterator[Raised]:
    """How much a mistake would reach at once: traffic, pods, services."""
    radius = rules.risk.blast_radius
    if radius is None or listed is None or not name_matches(listed, radius.environments):
        return
    share = 100 if facts.first_weight is None else facts.first_weight
    if radius.traffic is not None and share > radius.traffic:
        yield radius.to, f"{share}% of the traffic at first, more than {radius.traffic}%"
    if radius.replicas is not None and (facts.replicas or 0) > radius.replicas:
        yield radius.to, f"{facts.replicas} pods, more than {radius.replicas}"
    if radius.services is not None and facts.services > radius.services:
        yield radius.to, f"{facts.services} services at once, more than {radius.services}"


def _by_lines(rules: Rules, lines: int | None) -> Iterator[Raised]:
    many = rules.risk.many_lines
    if many is not None and lines is not None and lines > many[0]:
        yield many[1], f"{lines} lines change, more than {many[0]}"


def _by_paths(rules: Rules, paths: tuple[str, ...] | None) -> Iterator[Raised]:
    if paths is None:
        yield rules.risk.unknown_paths, "the changed paths are unknown"
        return
    many = rules.risk.many_paths
    if many is not None and len(paths) > many[0]:
        yield many[1], f"{len(paths)} paths change, more than {many[0]}"
    for rule in rules.risk.raises:
        for path in paths:
            if rule.fits.fullmatch(path) is not None:
                text = next(one.text for one in rule.patterns if one.matches(path))
                yield rule.to, f"{path} matches {text} of {rule.id}"
                break


def rolls_stable_first(facts: Facts) -> bool:
    """Whether the first change to a target is its stable version, past the planned canary."""
    action = facts.step.action
    return (
        facts.canary_planned
        and not facts.in_flight
        and isinstance(action, K8sDeploy)
        and action.track == "stable"
    )
