"""Simulated time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from evals.world.clock import ClockSpec, SteppedClock, WorldClock

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def test_clocks_of_the_same_three_numbers_agree() -> None:
    one = WorldClock(START, 600.0)
    other = WorldClock.from_spec(ClockSpec.loads(one.spec.dumps()))
    assert abs((one.now() - other.now()).total_seconds()) < 60
    assert other.spec == one.spec


def test_speed_multiplies_real_time() -> None:
    past = WorldClock(START, 60.0, epoch=WorldClock(START).spec.epoch - 10)
    assert timedelta(minutes=10) <= past.now() - START < timedelta(minutes=11)


def test_naive_start_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        WorldClock(datetime(2026, 1, 5))
    with pytest.raises(ValueError, match="speed"):
        WorldClock(START, 0)


async def test_stepped_clock_wakes_sleepers_in_due_order() -> None:
    clock, woken = SteppedClock(START), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.create_task(sleeper(s)) for s in (30, 10, 20)]
    await asyncio.sleep(0)
    clock.advance(25)
    await asyncio.gather(tasks[1], tasks[2])
    assert woken == [10, 20]
    clock.advance(5)
    await tasks[0]
    assert clock.now() == START + timedelta(seconds=30)


def test_stepped_clock_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="backwards"):
        SteppedClock(START).advance(-1)
