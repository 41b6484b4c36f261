"""Effects: nothing twice, nothing that was not allowed; questions, votes and what they carry."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.action import action_digest
from domain.approval import ApprovalState
from domain.decision import Outcome
from domain.digest import digest_of
from domain.effect import Applied, Attempt, EffectState
from domain.run import RunState
from store.records import Claim, Lease
from tests.store.house import NOW, SCOPE, House, fine, plan, vote

STEP = plan().steps[0]


async def claim(house: House, lease: Lease, decision: UUID, **changes: Any) -> Claim:
    """Claim the step's effect."""
    return await house.effects.claim(
        lease,
        **{
            "step_id": STEP.id,
            "action": STEP.action,
            "digest": action_digest(STEP.action),
            "scope_digest": SCOPE,
            "decision_id": decision,
            "approval_id": None,
            "now": NOW,
            **changes,
        },
    )


async def test_an_effect_is_done_once_and_then_answered_from_the_ledger(house: House) -> None:
    lease = await house.leased()
    fresh = await claim(house, lease, await house.decided(lease))
    assert (fresh.status, fresh.tries) == ("fresh", 1)
    done = Applied(summary="rolled out", data={"generation": 3}, simulated=True)
    attempt = Attempt(state=EffectState.APPLIED, applied=done)
    await house.effects.finish(lease, fresh.effect_id, attempt, now=NOW)
    again = await claim(house, lease, await house.decided(lease))
    assert (again.status, again.effect_id, again.result) == ("applied", fresh.effect_id, done)
    late = Attempt(state=EffectState.REFUSED, error="late")
    await house.effects.finish(lease, fresh.effect_id, late, now=NOW)
    [row] = await house.effects.of_run(lease.run_id)
    assert (row.state, row.result) == (EffectState.APPLIED, done)


async def test_a_crash_between_claim_and_outcome_leaves_it_unknown(house: House) -> None:
    lease = await house.leased()
    fresh = await claim(house, lease, await house.decided(lease))
    heir = await house.robbed(lease)
    again = await claim(house, heir, await house.decided(heir))
    assert (again.status, again.effect_id, again.tries) == ("unknown", fresh.effect_id, 2)
    unknown = Attempt(state=EffectState.UNKNOWN, error="cut off")
    await house.effects.finish(heir, again.effect_id, unknown, now=NOW)
    assert (await claim(house, heir, await house.decided(heir))).status == "unknown"


async def test_what_is_known_to_have_changed_nothing_may_be_tried_again(house: House) -> None:
    lease = await house.leased()
    first = await house.decided(lease)
    fresh = await claim(house, lease, first)
    refused = Attempt(state=EffectState.REFUSED, error="409")
    await house.effects.finish(lease, fresh.effect_id, refused, now=NOW)
    second = await house.decided(lease)
    again = await claim(house, lease, second)
    assert (again.status, again.tries) == ("retry", 2)
    [row] = await house.effects.of_run(lease.run_id)
    assert (row.state, row.decision_id) == (EffectState.STARTED, second)


@pytest.mark.parametrize("outcome", [Outcome.DENY, Outcome.WAIT])
async def test_no_effect_without_a_decision_that_allows_it(house: House, outcome: Outcome) -> None:
    lease = await house.leased()
    with pytest.raises(ValueError, match="does not allow"):
        await claim(house, lease, await house.decided(lease, outcome))
    with pytest.raises(ValueError, match="there is no decision"):
        await claim(house, lease, uuid4())
    allowed = await house.decided(lease)
    with pytest.raises(ValueError, match="something else"):
        await claim(house, lease, allowed, digest=digest_of("another action"))
    with pytest.raises(ValueError, match="something else"):
        await claim(house, lease, allowed, scope_digest=digest_of("another scope"))
    with pytest.raises(ValueError, match="another run or step"):
        await claim(house, lease, allowed, step_id="another")
    with pytest.raises(ValueError, match="another run or step"):
        await claim(house, await house.leased(), allowed)
    assert await house.effects.of_run(lease.run_id) == []


async def test_the_tables_themselves_refuse_an_effect_that_was_not_allowed(house: House) -> None:
    lease = await house.leased()
    denied = await house.decided(lease, Outcome.DENY)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        await house.db.count(
            """
            INSERT INTO effects (id, run_id, step_id, action_kind, digest, scope_digest,
                                 decision_id, state, action, started_at)
            VALUES (%s, %s, 's', 'k8s_deploy', %s, 'x', %s, 'started', '{}', now())
            """,
            (uuid4(), lease.run_id, action_digest(STEP.action), denied),
        )


async def test_an_approval_is_spent_by_its_first_effect_and_only_in_its_run(house: House) -> None:
    lease = await house.leased()
    asked = await house.asked(lease)
    pending = await house.decided(lease, approval_id=asked)
    with pytest.raises(ValueError, match="does not cover"):
        await claim(house, lease, pending, approval_id=asked)
    request, refused = await house.approvals.vote(asked, vote("ann"), SCOPE, fine)
    assert (request.state, refused) == (ApprovalState.APPROVED, None)
    with pytest.raises(ValueError, match="another approval"):
        await claim(house, lease, pending)
    await claim(house, lease, pending, approval_id=asked)
    spent = await house.approvals.get(asked)
    assert spent is not None
    assert spent.state is ApprovalState.SPENT
    await claim(house, lease, await house.decided(lease, approval_id=asked), approval_id=asked)
    elsewhere = await house.asked(lease, digest_of("another scope"))
    await house.approvals.vote(elsewhere, vote("ann"), digest_of("another scope"), fine)
    misused = await house.decided(lease, approval_id=elsewhere)
    with pytest.raises(ValueError, match="does not cover"):
        await claim(house, lease, misused, approval_id=elsewhere)
    stranger = await house.leased()
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        await house.decided(stranger, approval_id=asked)
    with pytest.raises(ValueError, match="was not given"):
        await house.approvals.spend(stranger, asked)


async def test_a_question_is_asked_once_and_dismissed_by_another(house: House) -> None:
    lease = await house.leased()
    first = await house.asked(lease)
    assert await house.asked(lease) == first
    other = await house.asked(lease, digest_of("replanned"))
    facts = await house.runs.facts(lease.run_id)
    states = {one.id: one.state for one in facts.approvals}
    assert states == {first: ApprovalState.DISMISSED, other: ApprovalState.PENDING}
    _, refused = await house.approvals.vote(first, vote("ann"), SCOPE, fine)
    assert refused is not None
    last = await house.decisions.last(lease.run_id, STEP.id)
    assert last is not None
    assert last.approval_id == other


async def test_votes_at_the_same_moment_are_counted_one_by_one(house: House) -> None:
    lease = await house.leased()
    asked = await house.asked(lease, count=3)
    people = ["ann", "bob", "cid", "dee", "eve", "Ann"]
    answers = await asyncio.gather(
        *(house.approvals.vote(asked, vote(one), SCOPE, fine) for one in people)
    )
    late = [refused for _, refused in answers if refused is not None]
    request = await house.approvals.get(asked)
    assert request is not None
    assert request.state is ApprovalState.APPROVED
    counted = {one.principal.casefold() for one in request.votes}
    assert len(counted) == 3
    assert len(request.votes) + len(late) == len(people)
    assert len(await house.approvals.refusals(asked)) == len(late)
    facts = await house.runs.facts(lease.run_id)
    assert [one.kind for one in facts.signals] == ["vote"] * len(request.votes)


async def test_one_person_approving_twice_is_one_approval(house: House) -> None:
    lease = await house.leased()
    asked = await house.asked(lease, count=2)
    for name in ("ann", "ANN"):
        request, _ = await house.approvals.vote(asked, vote(name), SCOPE, fine)
        assert request.state is ApprovalState.PENDING
    request, _ = await house.approvals.vote(asked, vote("bob", "reject"), SCOPE, fine)
    assert request.state is ApprovalState.REJECTED
    _, refused = await house.approvals.vote(asked, vote("cid"), SCOPE, fine)
    assert refused == "the request is no longer pending, it is rejected"


async def test_a_refused_vote_is_kept_with_its_reason_and_wakes_nobody(house: House) -> None:
    lease = await house.leased()
    asked = await house.asked(lease)
    request, refused = await house.approvals.vote(asked, vote("ann"), "0" * 64, fine)
    assert (request.votes, refused) == ((), "it is about something else")
    [(one, reason)] = await house.approvals.refusals(asked)
    assert (one.model_copy(update={"statement": ""}), reason) == (vote("ann"), refused)
    assert len(one.statement) == 64
    assert (await house.runs.facts(lease.run_id)).signals == ()
    with pytest.raises(LookupError):
        await house.approvals.vote(uuid4(), vote("ann"), SCOPE, fine)


async def test_a_question_expires_once(house: House) -> None:
    lease = await house.leased()
    asked = await house.asked(lease)
    assert await house.approvals.expire(lease, asked)
    assert not await house.approvals.expire(lease, asked)
    assert asked in {one.id for one in await house.approvals.list(ApprovalState.EXPIRED)}
    await house.leases.release(lease, state=RunState.DENIED, reason="nobody answered")
