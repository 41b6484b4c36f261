"""Who may advance a run, and what becomes of those who no longer may."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest

from domain.action import action_digest
from domain.effect import Applied, Attempt, EffectState
from domain.errors import LeaseLost
from domain.run import RunState
from domain.verdict import Verdict, VerdictKind
from store.records import Claim, Lease
from tests.store.house import NOW, SCOPE, House, plan


async def test_a_queued_run_is_taken_once(house: House) -> None:
    receipt = await house.started()
    assert receipt.run_id is not None
    other = await house.leases.register("other", 60)
    taken = await asyncio.gather(
        *(house.leases.take(receipt.run_id, worker, NOW) for worker in (house.worker, other) * 5)
    )
    [lease] = [one for one in taken if one is not None]
    assert (lease.fence, lease.started, lease.state) == (1, False, RunState.RUNNING)
    assert lease.event.id == receipt.event_id
    assert lease.thread_id == receipt.thread_id


async def test_a_run_is_taken_over_only_when_its_worker_has_run_out(house: House) -> None:
    lease = await house.leased()
    other = await house.leases.register("other", 60)
    assert await house.leases.take(lease.run_id, other, NOW) is None
    second = await house.robbed(lease)
    assert second.fence == lease.fence + 1
    assert second.started
    with pytest.raises(LeaseLost):
        await house.leases.check(lease)
    await house.leases.check(second)


async def test_a_zombie_can_write_nothing(house: House) -> None:
    lease = await house.leased()
    decision = await house.decided(lease)
    claim = await _claim(house, lease, decision)
    await house.robbed(lease)
    verdict = Verdict(kind=VerdictKind.PASS, reason="fine")
    attempt = Attempt(state=EffectState.APPLIED, applied=Applied(summary="done"))
    writes: dict[str, Callable[[], Awaitable[object]]] = {
        "claim": lambda: _claim(house, lease, decision),
        "finish": lambda: house.effects.finish(lease, claim.effect_id, attempt, now=NOW),
        "decide": lambda: house.decided(lease),
        "ask": lambda: house.asked(lease),
        "plan": lambda: house.runs.save_plan(lease, plan()),
        "start": lambda: house.runs.mark_started(lease),
        "step": lambda: house.runs.note_step(lease, "x"),
        "path": lambda: house.runs.append_path(lease, [("gate", NOW)]),
        "verdict": lambda: house.verdicts.record(lease, "s", "canary", verdict, [], now=NOW),
        "lock": lambda: house.locks.acquire(lease, "zombie/prod"),
        "release": lambda: house.releases.record(
            lease,
            service="s",
            environment="e",
            image="i",
            sha=None,
            status="good",
            reason="",
            at=NOW,
        ),
        "give back": lambda: house.leases.release(
            lease, state=RunState.SUCCEEDED, reason="", path=[("x", NOW)]
        ),
        "check": lambda: house.leases.check(lease),
    }
    before = await house.queries.run_detail(lease.run_id)
    refused = []
    for name, write in writes.items():
        with pytest.raises(LeaseLost):
            await write()
        refused.append(name)
    assert refused == list(writes)
    assert await house.queries.run_detail(lease.run_id) == before
    assert await house.locks.list() == []


async def test_a_take_over_waits_for_a_write_that_is_under_way(house: House) -> None:
    """The fence is checked and the row held until the write commits: nothing slips in between."""
    lease = await house.leased()
    other = await house.leases.register("other", 60)
    async with house.db.transaction() as conn:
        await conn.execute("SELECT fermata_hold(%s, %s)", (lease.run_id, lease.fence))
        await house.db.count(
            "UPDATE workers SET until = clock_timestamp() - interval '1 s' WHERE id = %s",
            (house.worker,),
        )
        taking = asyncio.create_task(house.leases.take(lease.run_id, other, NOW))
        done, _ = await asyncio.wait({taking}, timeout=0.3)
        assert not done
    assert (await taking) is not None
    await house.leases.heartbeat(house.worker)


async def test_an_expired_lease_that_nobody_took_is_renewed(house: House) -> None:
    lease = await house.leased()
    await house.db.count(
        "UPDATE workers SET until = clock_timestamp() - interval '1 s' WHERE id = %s",
        (house.worker,),
    )
    await house.leases.check(lease)
    other = await house.leases.register("other", 60)
    assert await house.leases.take(lease.run_id, other, NOW) is None


async def test_the_heartbeat_says_when_runs_were_lost(house: House) -> None:
    worker = await house.leases.register("beating", 60)
    receipt = await house.started()
    assert receipt.run_id is not None
    lease = await house.taken(receipt.run_id, worker)
    assert await house.leases.heartbeat(worker)
    await house.robbed(lease)
    assert not await house.leases.heartbeat(worker)
    assert await house.leases.heartbeat(worker)
    await house.db.count("DELETE FROM workers WHERE id = %s", (worker,))
    assert not await house.leases.heartbeat(worker)
    assert await house.leases.heartbeat(worker), "a forgotten worker is known again"


async def test_a_worker_that_leaves_gives_its_runs_back(house: House) -> None:
    worker = await house.leases.register("leaving", 60)
    receipt = await house.started()
    assert receipt.run_id is not None
    await house.taken(receipt.run_id, worker)
    assert receipt.run_id not in await house.runs.due(NOW, 1000)
    await house.leases.deregister(worker)
    assert receipt.run_id in await house.runs.due(NOW, 1000)


async def test_a_sleeping_run_wakes_by_its_timer_or_by_a_signal(house: House) -> None:
    lease = await house.leased()
    later = NOW + timedelta(minutes=5)
    assert not await house.leases.release(
        lease, state=RunState.WAITING, reason="baking", step_id="s", due_at=later
    )
    assert await house.leases.take(lease.run_id, house.worker, NOW) is None
    assert lease.run_id not in await house.runs.due(NOW, 1000)
    assert lease.run_id in await house.runs.due(later, 1000)
    assert await house.runs.next_due(NOW) == later
    await house.signals.send(lease.run_id, "hold", {"author": "dana"})
    assert lease.run_id in await house.runs.due(NOW, 1000)
    again = await house.taken(lease.run_id)
    assert again.waiting_seq == 0
    run = await house.runs.get(lease.run_id)
    assert run is not None
    assert (run.state, run.step_id, run.due_at) == (RunState.RUNNING, "s", None)


async def test_news_that_came_during_the_passage_is_not_slept_through(house: House) -> None:
    lease = await house.leased()
    seq = await house.signals.send(lease.run_id, "alert", {})
    assert await house.leases.release(lease, state=RunState.WAITING, reason="", seen_seq=0)
    assert lease.run_id in await house.runs.due(NOW, 1000)
    again = await house.taken(lease.run_id)
    assert not await house.leases.release(again, state=RunState.WAITING, reason="", seen_seq=seq)
    assert lease.run_id not in await house.runs.due(NOW, 1000)


async def test_a_final_run_is_never_due_nor_taken(house: House) -> None:
    lease = await house.leased()
    approval = await house.asked(lease)
    path = [("conductor", NOW), ("gate", NOW), ("report", NOW)]
    await house.leases.release(lease, state=RunState.FAILED, reason="broken", path=path)
    await house.signals.send(lease.run_id, "retry", {})
    assert lease.run_id not in await house.runs.due(NOW + timedelta(days=9), 1000)
    assert await house.leases.take(lease.run_id, house.worker, NOW) is None
    detail = await house.queries.run_detail(lease.run_id)
    assert detail is not None
    assert detail.run.finished_at is not None
    assert [node for node, _ in detail.path] == ["conductor", "gate", "report"]
    request = await house.approvals.get(approval)
    assert request is not None
    assert request.state == "dismissed"


async def test_a_lease_granted_in_an_answer_that_was_lost_is_given_up(house: House) -> None:
    lease = await house.leased()
    house.leases._in_doubt.add((house.worker, lease.run_id))
    assert lease.run_id not in await house.runs.due(NOW, 1000)
    await house.leases.heartbeat(house.worker)
    assert lease.run_id in await house.runs.due(NOW, 1000)
    with pytest.raises(LeaseLost):
        await house.leases.check(lease)


async def _claim(house: House, lease: Lease, decision: UUID) -> Claim:
    step = plan().steps[0]
    return await house.effects.claim(
        lease,
        step_id=step.id,
        action=step.action,
        digest=action_digest(step.action),
        scope_digest=SCOPE,
        decision_id=decision,
        approval_id=None,
        now=NOW,
    )
