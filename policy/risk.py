"""How much could go wrong: the risk class of a change, with the facts it rests on. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from domain.action import K8sDeploy
from domain.plan import RiskClass
from policy.facts import Facts
from policy.matching import name_matches
from policy.rules import BlastRadius, RiskRules, Rules

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
    return listed in rules.canary.required_in and facts.goal == "release"


def risk_of(rules: Rules, facts: Facts, listed: str | None) -> tuple[RiskClass, tuple[str, ...]]:
    """The highest class that any fact gives, and a phrase for each fact that counted.

    All steps of a scope get the same class, so that one approval can cover them. Steps that only
    speak are low; an environment that is not listed is critical.
    """
    if facts.step.only_speaks:
        return RiskClass.LOW, ("it only speaks",)
    found = _raised(rules.risk, facts, listed)
    if not facts.canary_planned and wants_canary(rules, facts, listed):
        found.insert(1, (rules.risk.without_canary, "no canary is planned"))
    highest, reasons = RiskClass.LOW, []
    for one, why in found:
        if one.rank > highest.rank:
            highest = one
        reasons.append(f"{why} ({one})")
    return highest, tuple(reasons)


def _raised(rules: RiskRules, facts: Facts, listed: str | None) -> list[Raised]:
    """The environment first, then all that is against the change."""
    if listed is None:
        found = [(RiskClass.CRITICAL, f"environment {facts.environment} is not listed")]
    else:
        found = [(rules.environments[listed], f"environment {facts.environment}")]
    radius = rules.blast_radius
    if radius is not None and listed in radius.environments:
        found += _by_reach(radius, facts)
    if rules.first_install is not None and facts.first_install is not False:
        why = (
            "nothing runs there yet, so there is no version to go back to"
            if facts.first_install
            else "it is not known whether anything runs there"
        )
        found.append((rules.first_install, why))
    many, lines = rules.many_lines, facts.change.lines
    if many is not None and lines is not None and lines > many[0]:
        found.append((many[1], f"{lines} lines change, more than {many[0]}"))
    if facts.change.paths is None:
        found.append((rules.unknown_paths, "the changed paths are unknown"))
    elif facts.change.paths:
        found += _by_paths(rules, facts.change.paths)
    return found


def _by_reach(radius: BlastRadius, facts: Facts) -> Iterator[Raised]:
    """How much a mistake would reach at once: traffic, pods, services."""
    share = 100 if facts.first_weight is None else facts.first_weight
    if radius.traffic is not None and share > radius.traffic:
        yield radius.to, f"{share}% of the traffic at first, more than {radius.traffic}%"
    if radius.replicas is not None and (facts.replicas or 0) > radius.replicas:
        yield radius.to, f"{facts.replicas} pods, more than {radius.replicas}"
    if radius.services is not None and facts.services > radius.services:
        yield radius.to, f"{facts.services} services at once, more than {radius.services}"


@lru_cache(maxsize=128)
def _by_paths(rules: RiskRules, paths: tuple[str, ...]) -> tuple[Raised, ...]:
    """How many files change, and which: the same at each look at a change."""
    found: list[Raised] = []
    many = rules.many_paths
    if many is not None and len(paths) > many[0]:
        found.append((many[1], f"{len(paths)} paths change, more than {many[0]}"))
    for rule in rules.raises:
        fits = rule.fits.fullmatch
        for path in paths:
            if fits(path) is not None:
                text = next(one.text for one in rule.patterns if one.matches(path))
                found.append((rule.to, f"{path} matches {text} of {rule.id}"))
                break
    return tuple(found)


def rolls_stable_first(facts: Facts) -> bool:
    """Whether the first change to a target is its stable version, past the planned canary."""
    action = facts.step.action
    return (
        facts.canary_planned
        and not facts.in_flight
        and isinstance(action, K8sDeploy)
        and action.track == "stable"
    )
