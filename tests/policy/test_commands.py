"""Who may begin a change by a command."""

from __future__ import annotations

import pytest

from domain.action import Notify
from domain.decision import Outcome
from policy.evaluate import evaluate
from policy.facts import Commander
from tests.policy.making import WEDNESDAY, deploy, facts, shipped


def decide(commander: Commander | None) -> tuple[Outcome, set[str]]:
    given = facts(deploy("staging"), environment="staging", commander=commander)
    decision = evaluate(shipped(), given, WEDNESDAY)
    return decision.outcome, {rule.rule for rule in decision.rules}


@pytest.mark.parametrize("role", ["developer", "release-manager", "sre-lead", "admin"])
def test_a_role_on_the_repository_is_enough_to_ask(role: str) -> None:
    outcome, _ = decide(Commander(login="ada", roles=(role,)))
    assert outcome is Outcome.ALLOW


@pytest.mark.parametrize("roles", [(), ("viewer",)])
def test_somebody_without_a_role_is_denied(roles: tuple[str, ...]) -> None:
    outcome, rules = decide(Commander(login="mallory", roles=roles))
    assert outcome is Outcome.DENY
    assert "command.role" in rules


def test_unknown_rights_are_not_taken_for_rights() -> None:
    outcome, rules = decide(Commander(login="mallory", roles=None))
    assert outcome is Outcome.DENY
    assert "command.roles_unknown" in rules


def test_runs_that_nobody_commanded_are_not_concerned() -> None:
    outcome, rules = decide(None)
    assert outcome is Outcome.ALLOW
    assert not {rule for rule in rules if rule.startswith("command.")}


def test_saying_that_a_command_was_denied_is_allowed() -> None:
    words = facts(
        Notify(channel="c", severity="info", title="t", text="t"),
        environment=None,
        commander=Commander(login="mallory", roles=()),
    )
    assert evaluate(shipped(), words, WEDNESDAY).outcome is Outcome.ALLOW
