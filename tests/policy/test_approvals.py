"""Whose yes counts: counted again by the evaluator, and judged at the door by `judge_vote`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from domain.approval import ApprovalRequest
from domain.decision import Decision, Outcome, Requirement
from policy.evaluate import evaluate
from policy.votes import judge_vote
from tests.policy.making import (
    DIGEST,
    EVERYTHING,
    WEDNESDAY,
    facts,
    policy_with,
    request,
    shipped,
    vote,
)

HOUR = timedelta(hours=1)
RITA = vote("rita", "release-manager")
ADA = vote("ada", "admin")


def decide(approval: ApprovalRequest | None, **more: Any) -> Decision:
    return evaluate(shipped(), facts(approval=approval, **more), WEDNESDAY)


def test_nothing_given_asks_for_what_the_row_says() -> None:
    decision = decide(None)
    assert decision.outcome is Outcome.NEEDS_APPROVAL
    assert decision.requirement is not None
    assert decision.requirement.roles == ("release-manager", "admin")
    assert decision.requirement.expires_seconds == 86400
    assert "1 approval by release-manager or admin" in decision.reason


@pytest.mark.parametrize("state", ["approved", "spent"])
def test_enough_approvals_allow_and_are_named(state: str) -> None:
    decision = decide(request(RITA, state=state))
    assert decision.outcome is Outcome.ALLOW
    granted = next(one for one in decision.rules if one.rule == "approval.granted")
    assert "rita (release-manager)" in granted.reason
    assert "approval.required" in granted.reason


@pytest.mark.parametrize("state", ["pending", "expired", "dismissed"])
def test_votes_on_a_request_that_was_not_approved_do_not_count(state: str) -> None:
    assert decide(request(RITA, state=state)).outcome is Outcome.NEEDS_APPROVAL


@pytest.mark.parametrize(
    ("votes", "more", "said"),
    [
        ([vote("Ann", "admin")], {}, "Ann made this change"),
        ([vote("deploy[bot]", "admin")], {}, "is a bot"),
        ([vote("joe", "developer")], {}, "joe has none of the roles"),
        ([vote("rita", "admin", at=WEDNESDAY + 24 * HOUR)], {}, "after the request had expired"),
        ([vote("", "admin")], {}, "needs a name"),
        ([RITA, vote("RITA", "admin")], {"paths": ("src/auth/x",)}, "1 of 2 given so far (rita)"),
    ],
)
def test_votes_that_do_not_count_are_named_with_the_reason(
    votes: list[Any], more: dict[str, Any], said: str
) -> None:
    decision = decide(request(*votes), **more)
    assert decision.outcome is Outcome.NEEDS_APPROVAL
    assert said in decision.reason


def test_the_author_of_the_change_counts_not_only_the_one_in_the_request() -> None:
    assert decide(request(RITA, author="somebody"), author="rita").outcome is not Outcome.ALLOW


def test_two_people_are_two_people() -> None:
    assert decide(request(RITA, ADA), paths=("src/auth/x",)).outcome is Outcome.ALLOW


def test_an_approval_of_something_else_is_none() -> None:
    decision = decide(request(RITA, digest="e" * 64))
    assert decision.outcome is Outcome.NEEDS_APPROVAL
    assert decision.rules[0].rule == "approval.required"


def test_an_empty_digest_binds_nothing() -> None:
    decision = decide(request(RITA, digest=""), scope_digest="")
    assert decision.outcome is Outcome.NEEDS_APPROVAL


def test_a_rejection_denies_with_name_and_words_even_where_nobody_had_to_be_asked() -> None:
    no = vote("rita", "release-manager", decision="reject", comment="not before the talk")
    decision = decide(request(no, state="rejected"))
    assert decision.deciding_rules == ("approval.rejected",)
    assert "rita rejected it: not before the talk" in decision.reason


@pytest.mark.parametrize("state", ["pending", "approved"])
def test_what_was_not_used_in_time_is_asked_anew(state: str) -> None:
    decision = decide(request(RITA, state=state, expires_at=WEDNESDAY))
    assert decision.outcome is Outcome.NEEDS_APPROVAL
    assert "approval.expired" in decision.deciding_rules
    assert decision.until is None


def test_a_spent_approval_holds_to_the_end_of_its_scope() -> None:
    old = request(RITA, state="spent", expires_at=WEDNESDAY - timedelta(minutes=20))
    assert decide(old, in_flight=True).outcome is Outcome.ALLOW


def test_a_pending_question_is_looked_at_again_when_it_escalates_then_when_it_expires() -> None:
    requirement = Requirement(
        count=1,
        roles=("release-manager",),
        expires_seconds=86400,
        escalate_seconds=14400,
        asks=EVERYTHING,
    )
    asked = request(state="pending", requirement=requirement)
    assert decide(asked).until == asked.requested_at + 4 * HOUR
    later = evaluate(shipped(), facts(approval=asked), WEDNESDAY + 4 * HOUR)
    assert later.until == asked.expires_at


def test_a_stricter_policy_counts_old_votes_by_its_own_measure() -> None:
    strict = policy_with(("count: 1, roles: [release-manager]}", "count: 2, roles: [admin]}"))
    known = facts(approval=request(RITA))
    assert evaluate(strict, known, WEDNESDAY).outcome is Outcome.NEEDS_APPROVAL


def test_the_merger_may_approve_unless_the_policy_says_otherwise() -> None:
    known = facts(approval=request(RITA), merged_by="Rita")
    assert evaluate(policy_with(), known, WEDNESDAY).outcome is Outcome.ALLOW
    strict = policy_with(("merger_may_approve: true", "merger_may_approve: false"))
    refused = evaluate(strict, known, WEDNESDAY)
    assert refused.outcome is Outcome.NEEDS_APPROVAL
    assert "rita merged this change" in refused.reason


def test_authors_may_approve_where_the_policy_lets_them() -> None:
    lax = policy_with(("author_may_approve: false", "author_may_approve: true"))
    known = facts(approval=request(vote("ann", "release-manager")))
    assert evaluate(lax, known, WEDNESDAY).outcome is Outcome.ALLOW


# --- at the door ---

PENDING = request(state="pending")


def test_a_good_vote_is_taken() -> None:
    assert judge_vote(PENDING, RITA, DIGEST, WEDNESDAY) is None
    no = vote("rita", "release-manager", decision="reject")
    assert judge_vote(PENDING, no, DIGEST, WEDNESDAY) is None


@pytest.mark.parametrize(
    ("asked", "cast", "digest", "said"),
    [
        (PENDING, RITA, DIGEST[:12], "what is asked has changed"),
        (PENDING, RITA, "", "for nothing"),
        (request(state="approved"), RITA, DIGEST, "no longer pending: it is approved"),
        (request(state="pending", expires_at=WEDNESDAY), RITA, DIGEST, "expired at"),
        (PENDING, vote("ANN", "release-manager"), DIGEST, "somebody else"),
        (PENDING, vote("x[bot]", "release-manager"), DIGEST, "is a bot"),
        (PENDING, vote("joe", "developer"), DIGEST, "may vote here: release-manager"),
        (request(RITA, state="pending"), vote("Rita", "release-manager"), DIGEST, "already voted"),
        (PENDING, vote("rita", "release-manager", decision="maybe"), DIGEST, "approve or reject"),
        (PENDING, vote(" ", "release-manager"), DIGEST, "needs a name"),
    ],
)
def test_a_vote_that_does_not_count_is_refused_with_a_sentence(
    asked: ApprovalRequest, cast: Any, digest: str, said: str
) -> None:
    refusal = judge_vote(asked, cast, digest, WEDNESDAY)
    assert refusal is not None
    assert said in refusal
    assert refusal.endswith(".")


def test_authors_may_reject_their_own_change_with_the_right_role() -> None:
    no = vote("ann", "release-manager", decision="reject")
    assert judge_vote(PENDING, no, DIGEST, WEDNESDAY) is None


def test_escalation_adds_roles_once_its_time_has_come() -> None:
    requirement = Requirement(
        count=1,
        roles=("release-manager",),
        expires_seconds=86400,
        escalate_seconds=3600,
        escalate_roles=("sre-lead",),
    )
    asked = request(state="pending", requirement=requirement)
    early = vote("sam", "sre-lead", at=asked.requested_at + timedelta(minutes=59))
    late = vote("sam", "sre-lead", at=asked.requested_at + HOUR)
    assert judge_vote(asked, early, DIGEST, early.at) is not None
    assert judge_vote(asked, late, DIGEST, late.at) is None
    old_role = vote("rita", "release-manager", at=late.at)
    assert judge_vote(asked, old_role, DIGEST, late.at) is None


def test_what_the_door_takes_the_gate_counts() -> None:
    for cast in (RITA, ADA):
        asked = decide(None).requirement
        assert asked is not None
        pending = request(state="pending", requirement=asked)
        assert judge_vote(pending, cast, DIGEST, cast.at) is None
        assert decide(request(cast, requirement=asked)).outcome is Outcome.ALLOW
