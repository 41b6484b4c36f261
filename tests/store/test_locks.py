"""Locks: first come, first served; nobody is forgotten and nobody holds up a line for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

from domain.run import RunState
from store.records import Lease
from tests.store.house import NOW, House


async def sleep(house: House, lease: Lease) -> None:
    """Put a run to sleep that has read all its signals."""
    signals = await house.signals.of_run(lease.run_id)
    seen = max((one.seq for one in signals), default=0)
    await house.leases.release(lease, state=RunState.WAITING, reason="", seen_seq=seen)


async def end(house: House, lease: Lease) -> None:
    """Finish a run."""
    await house.leases.release(lease, state=RunState.SUCCEEDED, reason="")


async def told(house: House, lease: Lease) -> list[str]:
    """Kinds of signals the run has had."""
    return [one.kind for one in await house.signals.of_run(lease.run_id)]


async def woken(house: House, lease: Lease) -> AsyncIterator[Lease]:
    """The run's next lease, as soon as it is due (at most half a minute)."""
    for _ in range(3000):
        again = await house.leases.take(lease.run_id, house.worker, NOW)
        if again is not None:
            yield again
        await asyncio.sleep(0.01)
    raise TimeoutError(f"{lease.run_id} was never called")


async def test_the_line_is_served_in_order(house: House) -> None:
    key = f"shop/{uuid4().hex[:6]}"
    first, second, third = [await house.leased() for _ in range(3)]
    assert await house.locks.acquire(first, key) is None
    assert await house.locks.acquire(first, key) is None, "it has it already"
    before = await house.locks.acquire(second, key)
    assert before is not None
    run = await house.runs.get(first.run_id)
    assert run is not None
    assert (before.run_id, before.title) == (first.run_id, run.title)
    assert await house.locks.acquire(third, key) is not None
    [row] = [one for one in await house.locks.list() if one.key == key]
    assert [one.run_id for one in row.waiting] == [second.run_id, third.run_id]
    await sleep(house, second)
    await sleep(house, third)
    await end(house, first)
    assert (await told(house, second), await told(house, third)) == (["lock_free"], [])
    due = await house.runs.due(NOW, 1000)
    assert second.run_id in due
    assert third.run_id not in due
    overtaking = await house.locks.acquire(await house.leased(), key)
    assert overtaking is not None
    assert overtaking.run_id == second.run_id, "the free lock is kept for whose turn it is"
    second = await house.taken(second.run_id)
    assert await house.locks.acquire(second, key) is None
    await end(house, second)
    assert await told(house, third) == ["lock_free"]


async def test_a_lock_can_be_given_to_the_next_in_line_before_the_runs_end(house: House) -> None:
    key = f"shop/{uuid4().hex[:6]}"
    first, second, third = [await house.leased() for _ in range(3)]
    await house.locks.acquire(first, key)
    assert await house.locks.next_in_line(key) is None
    seen = [await house.locks.acquire(one, key) for one in (second, second, third)]
    assert [(one.joined, one.ahead) for one in seen if one] == [(True, 0), (False, 0), (True, 1)]
    waiting = await house.locks.next_in_line(key)
    assert waiting is not None
    assert waiting.run_id == second.run_id
    assert not await house.locks.give(second, key), "it is not its to give"
    assert await house.locks.give(first, key)
    assert not await house.locks.give(first, key), "once is enough"
    assert (await told(house, second), await told(house, third)) == (["lock_free"], [])
    assert await house.locks.acquire(second, key) is None
    behind = await house.locks.acquire(first, key)
    assert behind is not None
    assert (behind.run_id, behind.joined, behind.ahead) == (second.run_id, True, 1)


async def test_who_is_called_and_does_not_take_it_gives_its_turn_away(house: House) -> None:
    key = f"shop/{uuid4().hex[:6]}"
    first, second, third = [await house.leased() for _ in range(3)]
    for lease in (first, second, third):
        await house.locks.acquire(lease, key)
    await sleep(house, second)
    await sleep(house, third)
    await end(house, first)
    second = await house.taken(second.run_id)
    await sleep(house, second)
    assert await told(house, third) == ["lock_free"]
    assert await house.locks.acquire(await house.taken(third.run_id), key) is None


async def test_a_turn_that_was_not_read_is_not_given_away(house: House) -> None:
    key = f"shop/{uuid4().hex[:6]}"
    first, second = [await house.leased() for _ in range(2)]
    await house.locks.acquire(first, key)
    await house.locks.acquire(second, key)
    await end(house, first)
    await house.leases.release(second, state=RunState.WAITING, reason="", seen_seq=0)
    second = await house.taken(second.run_id)
    assert await house.locks.acquire(second, key) is None


async def test_a_run_that_ends_in_the_line_leaves_it(house: House) -> None:
    key = f"shop/{uuid4().hex[:6]}"
    first, second, third = [await house.leased() for _ in range(3)]
    for lease in (first, second, third):
        await house.locks.acquire(lease, key)
    await end(house, second)
    await sleep(house, third)
    await end(house, first)
    assert await told(house, third) == ["lock_free"]


async def test_a_lock_can_be_taken_away_and_that_is_kept(house: House) -> None:
    key = f"shop/{uuid4().hex[:6]}"
    first, second = [await house.leased() for _ in range(2)]
    await house.locks.acquire(first, key)
    await house.locks.acquire(second, key)
    assert await house.locks.unlock(key, "ada", "stuck") == first.run_id
    assert await house.locks.unlock(key, "ada", "stuck") is None
    assert await told(house, second) == ["lock_free"]
    assert await house.locks.acquire(second, key) is None
    assert await house.locks.acquire(first, key) is not None
    removals = await house.db.rows(
        "SELECT run_id, principal, reason FROM lock_removals WHERE key = %s", (key,)
    )
    assert removals == [(first.run_id, "ada", "stuck")]


async def test_ends_and_new_comers_at_the_same_moment_lose_nobody(house: House) -> None:
    """Every run gets the lock once, whatever the order in which ends and arrivals interleave."""
    key = f"shop/{uuid4().hex[:6]}"
    leases = [await house.leased() for _ in range(12)]
    had: list[str] = []

    async def passage(lease: Lease) -> None:
        while await house.locks.acquire(lease, key) is not None:
            await sleep(house, lease)
            lease = await anext(woken(house, lease))
        had.append(str(lease.run_id))
        await end(house, lease)

    await asyncio.gather(*(passage(one) for one in leases))
    assert sorted(had) == sorted(str(one.run_id) for one in leases)
    assert [one for one in await house.locks.list() if one.key == key] == []


async def test_two_runs_that_wait_for_each_other_s_locks_can_both_end(house: House) -> None:
    for _ in range(10):
        one, two = await house.leased(), await house.leased()
        here, there = uuid4().hex, uuid4().hex
        await house.locks.acquire(one, here)
        await house.locks.acquire(two, there)
        await house.locks.acquire(one, there)
        await house.locks.acquire(two, here)
        await asyncio.gather(end(house, one), end(house, two))


async def test_whatever_changes_a_lock_waits_for_whoever_is_changing_it(house: House) -> None:
    """Otherwise an end could miss a newcomer that is just standing in line, who then sleeps on."""
    key = f"shop/{uuid4().hex[:6]}"
    first, second = [await house.leased() for _ in range(2)]
    await house.locks.acquire(first, key)
    changes: dict[str, Callable[[], Awaitable[object]]] = {
        "stand in line": lambda: house.locks.acquire(second, key),
        "take away": lambda: house.locks.unlock(key, "ada", "stuck"),
        "stand in line again": lambda: house.locks.acquire(first, key),
        "end": lambda: end(house, first),
    }
    waited = []
    for name, change in changes.items():
        async with house.db.transaction() as conn:
            await conn.execute("SELECT fermata_lock_key(%s)", (key,))
            doing = asyncio.ensure_future(change())
            done, _ = await asyncio.wait({doing}, timeout=0.3)
            if not done:
                waited.append(name)
        await doing
    assert waited == list(changes)
