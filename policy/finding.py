"""What the rule families work on (`Case`) and what they say (`Finding`).

The same sentence is the same finding: a gate looks at a waiting step again and again, and says the
same of it each time. Findings never change, so the few thousand last ones are kept. Both are
named tuples: frozen dataclasses take three times as long to be made.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Literal, NamedTuple, ParamSpec, cast

from domain.action import (
    READ_ONLY_KINDS,
    K8sPrune,
    K8sRetire,
    K8sRollback,
    K8sTraffic,
    MetricsCheck,
)
from domain.decision import MatchedRule, Outcome
from domain.plan import RiskClass
from policy.facts import Facts
from policy.rules import Rules

Said = ParamSpec("Said")
MOST_KEPT = 2048
"""Findings of one kind that are kept, the last ones asked for."""


class Finding(NamedTuple):
    """One thing a rule family has to say."""

    rule: MatchedRule
    until: datetime | None = None
    """For wait: when it is worth looking again."""
    patient: bool = False
    """For wait: people are not asked for approval until it is over."""
    noted: bool = False
    """Only told: it neither stands against the step nor settles anything."""

    @property
    def outcome(self) -> Outcome:
        """What the rule wants."""
        return self.rule.outcome


class Case(NamedTuple):
    """One question to policy, with what several families need to know about it."""

    rules: Rules
    facts: Facts
    now: datetime
    listed: str | None
    """The name under which the policy lists the environment; None: it does not."""
    risk: RiskClass
    risk_reasons: tuple[str, ...]
    place: str
    """`checkout in prod`, for sentences."""

    @property
    def only_looks(self) -> bool:
        """Whether the step changes nothing outside."""
        return self.facts.step.action.kind in READ_ONLY_KINDS

    @property
    def leads_back(self) -> bool:
        """Whether the action can only take a change back, or tidies up after one.

        The leniency for rollbacks rests on what the step does, not on what the plan calls itself.
        """
        match self.facts.step.action:
            case K8sRollback() | K8sRetire() | K8sPrune() | MetricsCheck():
                return True
            case K8sTraffic(weight=weight, match=match):
                return weight == 0 and match is None
            case _:
                return False


def _kept(say: Callable[Said, Finding]) -> Callable[Said, Finding]:
    """The finding that was made of the same words before. The signature stays what it was."""
    return cast(Callable[Said, Finding], lru_cache(maxsize=MOST_KEPT)(say))


@_kept
def allow(rule: str, reason: str) -> Finding:
    """Nothing against it, and why."""
    return Finding(MatchedRule(rule=rule, outcome=Outcome.ALLOW, reason=reason))


@_kept
def note(rule: str, reason: str) -> Finding:
    """Something that readers of the decision should know."""
    return Finding(MatchedRule(rule=rule, outcome=Outcome.ALLOW, reason=reason), noted=True)


@_kept
def deny(rule: str, reason: str, remedy: str) -> Finding:
    """No, and what would make it pass."""
    return Finding(MatchedRule(rule=rule, outcome=Outcome.DENY, reason=reason, remedy=remedy))


@_kept
def ask(rule: str, reason: str, remedy: str = "a person has to say yes") -> Finding:
    """People have to say yes to this."""
    return Finding(
        MatchedRule(rule=rule, outcome=Outcome.NEEDS_APPROVAL, reason=reason, remedy=remedy)
    )


def answered(answer: Literal["approve", "deny"], rule: str, reason: str, remedy: str) -> Finding:
    """What the policy says to something that is not known or not good: ask people, or deny.

    `remedy` comes without its full stop.
    """
    if answer == "deny":
        return deny(rule, reason, f"{remedy}.")
    return ask(rule, reason, f"{remedy}; or look at it, and approve.")


def wait(
    rule: str, reason: str, remedy: str, until: datetime | None = None, *, patient: bool = True
) -> Finding:
    """Not yet. `until` None: a signal ends it."""
    matched = MatchedRule(rule=rule, outcome=Outcome.WAIT, reason=reason, remedy=remedy)
    return Finding(matched, until=until, patient=patient)
