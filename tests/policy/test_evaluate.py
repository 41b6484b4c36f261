"""What the evaluator says to each kind of step, and how rules weigh against each other."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from domain.action import Action
from domain.decision import Decision, Outcome
from domain.event import Actor
from domain.plan import RiskClass
from policy.evaluate import evaluate
from policy.facts import CheckFact, Facts
from policy.rules import Rules
from tests.policy.making import (
    DIGEST,
    SATURDAY,
    WEDNESDAY,
    check,
    deploy,
    facts,
    notify,
    policy_with,
    request,
    retire,
    rollback,
    shipped,
    traffic,
    vote,
)

SECONDS = timedelta(seconds=1)
LATER = WEDNESDAY + 40 * SECONDS
NEEDED = (
    "    - {environments: [prod], count: 1, roles: [release-manager]}",
    "    - {environments: [prod], count: 0}",
)
"""Production without approvals, so that other rules decide."""


def ids(decision: Decision) -> list[str]:
    return [one.rule for one in decision.rules]


def decide(action: Action | None = None, rules: Rules | None = None, **more: Any) -> Decision:
    return evaluate(rules or shipped(), facts(action, **more), more.pop("now", WEDNESDAY))


# --- what people and newer events said ---


def test_a_cancelled_run_is_denied_whoever_approved_it() -> None:
    decision = decide(
        cancelled_by=Actor(login="bo"), approval=request(vote("rita", "release-manager"))
    )
    assert (decision.outcome, decision.deciding_rules) == (Outcome.DENY, ("run.cancelled",))
    assert "bo" in decision.reason


def test_a_superseded_release_stops_before_it_has_begun_and_finishes_after() -> None:
    before = decide(deploy("staging"), superseded_by="run 7")
    assert before.deciding_rules == ("run.superseded",)
    during = decide(deploy("staging"), superseded_by="run 7", in_flight=True)
    assert during.outcome is Outcome.ALLOW
    assert "run.superseded" in ids(during)


def test_a_policy_can_stop_superseded_releases_that_have_begun() -> None:
    rules = policy_with(("superseded_in_flight: finish", "superseded_in_flight: stop"))
    decision = decide(deploy("staging"), rules, superseded_by="run 7", in_flight=True)
    assert decision.outcome is Outcome.DENY


def test_a_held_run_waits_for_a_signal_and_asks_nobody() -> None:
    decision = decide(held_by=Actor(login="bo"), lock_holder="another run")
    assert decision.outcome is Outcome.WAIT
    assert decision.until is None
    assert decision.requirement is None


def test_a_moved_head_denies_and_an_unknown_one_asks() -> None:
    assert decide(deploy("staging"), head_moved=True).deciding_rules == ("change.head_moved",)
    unknown = decide(deploy("staging"), head_moved=None)
    assert unknown.deciding_rules == ("change.head_unknown",)
    assert unknown.outcome is Outcome.NEEDS_APPROVAL
    assert unknown.requirement is not None


def test_a_held_lock_is_looked_at_again_and_comes_before_asking() -> None:
    decision = decide(lock_holder="Release of 7 (run 1234)")
    assert decision.outcome is Outcome.WAIT
    assert decision.until == WEDNESDAY + 30 * SECONDS
    assert "Release of 7 (run 1234)" in decision.reason


def test_a_step_waits_for_its_time_and_no_longer() -> None:
    assert decide(deploy("staging"), not_before=LATER).until == LATER
    assert decide(deploy("staging"), not_before=WEDNESDAY).outcome is Outcome.ALLOW


def test_several_waits_end_with_the_last_of_them() -> None:
    decision = decide(deploy("staging"), not_before=LATER, lock_holder="another run")
    assert decision.until == LATER


# --- steps that speak, look, or lead back ---


def test_words_are_allowed_at_any_time() -> None:
    decision = evaluate(shipped(), facts(notify(), checks=FAILED), SATURDAY)
    assert (decision.outcome, ids(decision)) == (Outcome.ALLOW, ["comms.allowed"])
    assert decision.risk is RiskClass.LOW


def test_words_wait_for_their_time_too() -> None:
    assert decide(notify(), not_before=LATER).outcome is Outcome.WAIT


def test_looking_needs_no_window_no_approval_and_no_green_ci() -> None:
    decision = evaluate(shipped(), facts(check(), checks=FAILED), SATURDAY)
    assert decision.outcome is Outcome.ALLOW
    assert "read.allowed" in ids(decision)


@pytest.mark.parametrize("stop", ["held_by", "cancelled_by"])
def test_looking_stops_for_people(stop: str) -> None:
    more: dict[str, Any] = {stop: Actor(login="bo")}
    decision = decide(check(), **more)
    assert decision.outcome is not Outcome.ALLOW


@pytest.mark.parametrize("action", [rollback(), traffic(0), retire()])
def test_the_way_back_passes_windows_checks_and_rejections(action: Action) -> None:
    known = facts(
        action,
        rolling_back=True,
        in_flight=True,
        checks=FAILED,
        approval=request(vote("rita", "release-manager", decision="reject"), state="rejected"),
    )
    decision = evaluate(shipped(), known, SATURDAY)
    assert (decision.outcome, ids(decision)) == (Outcome.ALLOW, ["rollback.always"])


def test_the_way_back_still_waits_for_its_time_and_for_the_lock() -> None:
    assert decide(rollback(), rolling_back=True, not_before=LATER).until == LATER
    assert decide(rollback(), rolling_back=True, lock_holder="x").outcome is Outcome.WAIT


@pytest.mark.parametrize("more", [{"rolling_back": True}, {"goal": "rollback"}])
@pytest.mark.parametrize("action", [deploy(), traffic(10)])
def test_calling_a_step_a_rollback_does_not_make_it_one(
    action: Action, more: dict[str, Any]
) -> None:
    decision = evaluate(shipped(), facts(action, **more), SATURDAY)
    assert "windows.closed" in ids(decision)
    assert decision.outcome is not Outcome.ALLOW


def test_a_rollback_by_a_person_needs_no_window_and_an_approval_only_by_policy() -> None:
    known = facts(rollback(), goal="rollback", canary_planned=False, first_weight=None)
    assert evaluate(shipped(), known, SATURDAY).outcome is Outcome.ALLOW
    strict = policy_with(("manual: allow", "manual: approve"))
    asked = evaluate(strict, known, SATURDAY)
    assert (asked.outcome, asked.deciding_rules) == (Outcome.NEEDS_APPROVAL, ("rollback.manual",))


# --- what a step claims to be ---


def test_an_environment_that_is_not_listed_is_denied() -> None:
    decision = decide(deploy("production"))
    assert decision.outcome is Outcome.DENY
    assert "environment.unknown" in decision.deciding_rules
    assert decision.risk is RiskClass.CRITICAL
    assert "dev, staging, prod" in decision.rules[0].remedy


def test_facts_about_another_target_than_the_step_s_are_denied() -> None:
    decision = decide(deploy("prod"), environment="staging", canary_planned=False)
    assert "environment.mismatch" in decision.deciding_rules


@pytest.mark.parametrize("goal", ["preview", "notify", "nothing"])
def test_a_run_that_only_speaks_may_change_nothing(goal: str) -> None:
    decision = decide(deploy("staging"), goal=goal)
    assert decision.deciding_rules == ("goal.only_speaks",)


# --- risk ---


@pytest.mark.parametrize(
    ("more", "risk", "said"),
    [
        ({}, RiskClass.MEDIUM, "environment prod (medium)"),
        ({"paths": None}, RiskClass.HIGH, "paths are unknown"),
        ({"paths": ("db/migrations/1.py",)}, RiskClass.HIGH, "db/migrations/1.py matches"),
        ({"paths": ("a/b/SCHEMA.SQL",)}, RiskClass.HIGH, "*.sql"),
        ({"paths": ("src/auth/x.py", "a.sql")}, RiskClass.CRITICAL, "identity-and-secrets"),
        ({"paths": tuple(f"f{n}" for n in range(201))}, RiskClass.HIGH, "201 paths"),
        ({"canary_planned": False, "first_weight": None}, RiskClass.HIGH, "no canary"),
    ],
)
def test_risk_is_the_highest_that_any_fact_gives_and_shows_the_fact(
    more: dict[str, Any], risk: RiskClass, said: str
) -> None:
    decision = decide(**more)
    assert decision.risk is risk
    assert said in next(one.reason for one in decision.rules if one.rule == "risk.class")


def test_critical_changes_ask_for_two_people() -> None:
    decision = decide(paths=("src/auth/x.py",))
    assert decision.requirement is not None
    assert decision.requirement.count == 2


# --- canary ---


def test_a_first_weight_above_the_limit_is_denied_with_both_numbers() -> None:
    decision = decide(first_weight=11)
    assert decision.deciding_rules == ("canary.first_weight",)
    assert "11%" in decision.reason
    assert "10%" in decision.reason


def test_the_first_change_itself_is_held_against_the_limit_whatever_the_plan_says() -> None:
    assert "canary.first_weight" in decide(deploy(weight=60)).deciding_rules
    assert "canary.first_weight" in decide(traffic(50)).deciding_rules
    assert "canary.first_weight" not in ids(decide(traffic(50), in_flight=True))


def test_production_without_a_canary_asks_or_is_denied_as_the_policy_says() -> None:
    no_canary: dict[str, Any] = {"canary_planned": False, "first_weight": None}
    stable = deploy(track="stable", weight=100)
    assert "canary.missing" in decide(stable, **no_canary).deciding_rules
    rules = policy_with(NEEDED, ("missing: approve", "missing: deny"))
    decision = decide(stable, rules, **no_canary)
    assert (decision.outcome, decision.deciding_rules) == (Outcome.DENY, ("canary.missing",))


def test_rolling_stable_before_its_canary_counts_as_no_canary() -> None:
    stable = deploy(track="stable", weight=100)
    assert "canary.missing" in decide(stable).deciding_rules
    assert "canary.missing" not in ids(decide(stable, in_flight=True))


# --- service level checks ---


@pytest.mark.parametrize("phase", ["pre", "canary", "post"])
@pytest.mark.parametrize("kind", ["fail", "inconclusive", "nodata", "error"])
def test_a_check_that_did_not_pass_is_never_allowed_by_itself(phase: str, kind: str) -> None:
    decision = decide(check("staging"), verdict=kind, verdict_phase=phase)
    assert decision.outcome in (Outcome.NEEDS_APPROVAL, Outcome.DENY)
    assert decision.deciding_rules == (f"slo.{phase}.{kind}",)
    assert "7 of 90" in decision.reason


def test_a_verdict_of_an_unknown_check_is_denied() -> None:
    decision = decide(check(), verdict="nodata", verdict_phase=None)
    assert decision.deciding_rules == ("slo.phase_unknown",)


def test_a_person_can_take_a_missing_verdict_on() -> None:
    granted = request(vote("rita", "release-manager"))
    decision = decide(check(), verdict="nodata", approval=granted)
    assert decision.outcome is Outcome.ALLOW
    assert "slo.canary.nodata" in decision.reason


def test_the_automatic_way_back_asks_too_before_it_goes_on_without_data() -> None:
    decision = decide(check(), verdict="nodata", rolling_back=True)
    assert decision.outcome is Outcome.NEEDS_APPROVAL


# --- CI ---

FAILED = (CheckFact(name="unit", conclusion="failure"),)
REQUIRED = ("required: []", "required: [unit, lint]")


def ci(**conclusions: str | None) -> tuple[CheckFact, ...]:
    return tuple(CheckFact(name=name, conclusion=word) for name, word in conclusions.items())


def test_without_required_checks_any_failed_one_denies_production_only() -> None:
    decision = decide(checks=FAILED)
    assert decision.deciding_rules == ("checks.failed",)
    assert "unit (failure)" in decision.reason
    assert decide(deploy("staging"), checks=FAILED).outcome is Outcome.ALLOW


@pytest.mark.parametrize(
    "word", ["failure", "cancelled", "timed_out", "action_required", "stale", "error", "weird"]
)
def test_every_conclusion_that_is_not_known_to_be_good_counts_as_failed(word: str) -> None:
    assert decide(checks=ci(unit=word)).deciding_rules == ("checks.failed",)


@pytest.mark.parametrize(
    "conclusions", [{}, {"unit": "success"}, {"unit": None, "lint": "success"}]
)
def test_required_checks_that_are_not_done_are_waited_for(conclusions: dict[str, Any]) -> None:
    decision = decide(None, policy_with(NEEDED, REQUIRED), checks=ci(**conclusions))
    assert (decision.outcome, decision.deciding_rules) == (Outcome.WAIT, ("checks.pending",))
    assert decision.until == WEDNESDAY + 60 * SECONDS


def test_people_may_be_asked_while_ci_still_runs() -> None:
    decision = decide(None, policy_with(REQUIRED))
    assert decision.outcome is Outcome.NEEDS_APPROVAL
    assert "checks.pending" in ids(decision)


def test_a_skipped_required_check_asks_and_others_do_not_matter() -> None:
    rules = policy_with(NEEDED, REQUIRED)
    decision = decide(None, rules, checks=ci(unit="skipped", lint="success", extra="failure"))
    assert decision.deciding_rules == ("checks.skipped",)


@pytest.mark.parametrize("words", [("failure", "success"), ("success", "failure")])
def test_of_two_required_checks_with_one_name_the_worse_counts(words: tuple[str, str]) -> None:
    both = tuple(CheckFact(name="unit", conclusion=word) for word in words)
    decision = decide(None, policy_with(NEEDED, REQUIRED), checks=(*both, *ci(lint="success")))
    assert decision.deciding_rules == ("checks.failed",)


def test_once_under_way_only_a_failed_required_check_counts() -> None:
    rules = policy_with(NEEDED, REQUIRED)
    failed = decide(None, rules, in_flight=True, checks=ci(unit="failure"))
    assert failed.deciding_rules == ("checks.failed",)
    assert decide(None, rules, in_flight=True, checks=ci(unit=None)).outcome is Outcome.ALLOW
    assert "checks.failed" not in ids(decide(in_flight=True, checks=FAILED))


# --- the engine ---


def test_a_failure_inside_denies_and_tells_its_kind_but_not_its_text() -> None:
    class Broken:
        digest = "abc"

        def __getattr__(self, name: str) -> Any:
            raise KeyError("secret-token-123")

    decision = evaluate(Broken(), facts(), WEDNESDAY)  # type: ignore[arg-type]
    assert (decision.outcome, decision.deciding_rules) == (Outcome.DENY, ("engine.error",))
    assert "KeyError" in decision.reason
    assert "secret-token-123" not in decision.model_dump_json()


def test_a_time_without_zone_denies() -> None:
    naive = WEDNESDAY.replace(tzinfo=None)
    known = facts(not_before=LATER)
    assert evaluate(shipped(), known, naive).deciding_rules == ("engine.error",)


def test_the_same_question_gets_the_same_answer() -> None:
    known: Facts = facts(checks=FAILED, first_weight=50)
    assert evaluate(shipped(), known, SATURDAY) == evaluate(shipped(), known, SATURDAY)


def test_a_decision_carries_the_policy_s_digest_and_its_time() -> None:
    decision = decide()
    assert decision.policy_digest == shipped().digest
    assert decision.at == WEDNESDAY
    assert facts().scope_digest == DIGEST
