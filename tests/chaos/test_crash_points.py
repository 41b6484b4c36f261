"""SIGKILL before and after every superstep and on both sides of every effect: all of them.

The points are enumerated by an undisturbed run. Then one run is driven by a succession of workers,
each killed at the first point that has not been a killing point yet, until it ends. And for each
boundary of each effect (and for what such a run may not come by) there is a run of its own that is
killed there once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from domain.run import RunState
from store.records import RunDetail
from tests.chaos.scene import Scene, open_scene
from tests.chaos.tally import Tally, Traces, traces
from tests.chaos.workers import Worker, Zygote
from tests.chaos.zygote import locked

GOOD, BAD = "2.0.0", "2.0.0-bad"
ENDINGS = {GOOD: RunState.SUCCEEDED, BAD: RunState.ROLLED_BACK}
LONGEST_SECONDS = 250.0
WARM = "1.1.0"
LANES = 8
"""Runs that are under way at once, each of a service of its own."""
WORKERS = 3


async def undisturbed(
    scene: Scene, zygote: Zygote, service: str, version: str
) -> tuple[Traces, list[str]]:
    """What a run leaves behind when nothing happens to it, and the points that it passes."""
    run_id = await scene.release(service, version)
    points = scene.data / f"points-{service}"
    worker = await zygote.start(scene.order(record=str(points), only=version))
    detail = await scene.ended(run_id)
    worker.send(signal.SIGTERM)
    assert await worker.gone() == 0, scene.log()
    assert detail.run.state is ENDINGS[version], detail.run.reason
    passed = points.read_text(encoding="utf-8").replace(service, "*").splitlines()
    return traces(scene, detail, service), list(dict.fromkeys(passed))


def beside_effects(version: str, points: list[str]) -> list[str]:
    """The boundaries of effects; of a rollback those of the way back, the way there is the same."""
    return [
        point
        for point in points
        if point.startswith("effect:") and (version == GOOD or "rollback." in point)
    ]


def by_itself(version: str, points: list[str]) -> list[str]:
    """Points that get a run of their own.

    The boundaries of effects, and what a run that is killed all the time may not come by: there is
    nothing left to wait for when it is taken up, and Slack is not told after a kill beside it.
    """
    passed_over = [one for one in points if "wait:" in one or one.endswith("notify:before_write")]
    return list(dict.fromkeys(beside_effects(version, points) + passed_over))


@pytest.fixture(params=ENDINGS)
def version(request: pytest.FixtureRequest) -> str:
    """A version that is released, and one that is rolled back."""
    return str(request.param)


async def test_a_run_survives_kills_at_every_point_it_passes(
    postgres_url: str, data: Path, zygote: Zygote, tally: Tally
) -> None:
    async with asyncio.TaskGroup() as both:
        for version in ENDINGS:
            both.create_task(_survives(postgres_url, data / version, zygote, tally, version))


async def _survives(
    postgres_url: str, data: Path, zygote: Zygote, tally: Tally, version: str
) -> None:
    slack = version == BAD
    async with open_scene(postgres_url, data, ["calm", "shop"], tells_slack=slack) as scene:
        expected, points = await undisturbed(scene, zygote, "calm", version)
        own = f"{version}-tortured"
        run_id = await scene.release("shop", own)
        killed = data / "killed"
        detail = await _tortured(scene, zygote, run_id, own, killed)
        tried = killed.read_text(encoding="utf-8").replace("shop", "*").splitlines()
        await tally.hold(scene, detail, "shop", expected, points=len(tried))
        assert set(points) - set(tried) <= set(by_itself(version, points))
        assert "taken over" in [node for node, _ in detail.path]


async def _tortured(
    scene: Scene, zygote: Zygote, run_id: UUID, version: str, killed: Path
) -> RunDetail:
    order = scene.order(kill_new=str(killed), only=version, held=True)
    worker = await zygote.start(order)
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        worker.send(signal.SIGUSR1)
        # The next one opens its house while this one works.
        following = await zygote.start(order)
        while worker.code is None and not await scene.is_final(run_id):
            await scene.vote()
            await asyncio.sleep(0.02)
            assert time.monotonic() < deadline, f"stuck\n{scene.log()}"
        if await scene.is_final(run_id):
            # A point that lies behind the run's end may kill it yet.
            worker.send(signal.SIGTERM)
        assert await worker.gone() in (-signal.SIGKILL, 0), scene.log()
        if await scene.is_final(run_id):
            following.send(signal.SIGKILL)
            return await scene.detail(run_id)
        await scene.orphaned(run_id)
        worker = following


@dataclass
class Lane:
    """A service whose runs come one after the other, each killed once, at one point."""

    service: str
    running: str = WARM
    point: str = ""
    run_id: UUID | None = None


async def test_a_single_kill_beside_an_effect_loses_and_doubles_nothing(
    postgres_url: str, data: Path, zygote: Zygote, tally: Tally, version: str
) -> None:
    lanes = [Lane(f"shop-{index}") for index in range(LANES)]
    strikes = data.parent / "strikes"
    strikes.touch()
    services = ["calm", *(lane.service for lane in lanes)]
    async with open_scene(postgres_url, data, services, tells_slack=version == BAD) as scene:
        # The first release of a service makes objects that the later ones find.
        warming = [await scene.release(service, WARM) for service in services]
        worker = await zygote.start(scene.order())
        for run_id in warming:
            assert (await scene.ended(run_id)).run.state is RunState.SUCCEEDED
        worker.send(signal.SIGTERM)
        assert await worker.gone() == 0, scene.log()
        expected, points = await undisturbed(scene, zygote, "calm", version)
        waiting = deque(by_itself(version, points))
        deadline = time.monotonic() + LONGEST_SECONDS
        async with crew(scene, zygote, strikes):
            while waiting or any(lane.run_id for lane in lanes):
                await scene.vote()
                for lane in lanes:
                    if lane.run_id is None and waiting:
                        lane.point = waiting.popleft()
                        lane.run_id = await _begin(
                            scene, lane, f"{version}-{len(waiting)}", strikes
                        )
                    elif lane.run_id is not None:
                        await _look(scene, lane, tally, expected)
                if time.monotonic() > deadline:
                    stuck = [lane for lane in lanes if lane.run_id]
                    tally.stuck += len(stuck)
                    pytest.fail(f"stuck: {stuck}\n{scene.log()}")
                await asyncio.sleep(0.02)
        left = strikes.read_text(encoding="utf-8")
        assert left == "", f"never killed at: {left}"


async def _begin(scene: Scene, lane: Lane, version: str, strikes: Path) -> UUID:
    """Start a run that is to be killed; the file says where before any worker can see it."""
    with locked(strikes) as lines:
        lines.append(f"{version} {lane.point.replace('*', lane.service)}\n")
    return await scene.release(lane.service, version)


async def _look(scene: Scene, lane: Lane, tally: Tally, expected: Traces) -> None:
    """When the lane's run has ended: examine it, and free the lane."""
    assert lane.run_id is not None
    if not await scene.is_final(lane.run_id):
        return
    detail = await scene.detail(lane.run_id)
    await tally.hold(scene, detail, lane.service, expected, before=lane.running)
    lane.run_id = None
    if detail.run.state is RunState.SUCCEEDED:
        lane.running = detail.run.sha or ""


@contextlib.asynccontextmanager
async def crew(scene: Scene, zygote: Zygote, strikes: Path) -> AsyncIterator[None]:
    """Workers, each replaced as soon as it has been killed."""
    order = scene.order(at=str(strikes), concurrency=1)
    failures: list[str] = []

    async def place() -> None:
        while True:
            worker = await zygote.start(order)
            at_work.add(worker)
            code = await worker.gone(LONGEST_SECONDS)
            at_work.discard(worker)
            if code != -signal.SIGKILL:
                failures.append(f"a worker ended with {code}")
                return

    at_work: set[Worker] = set()
    places = [asyncio.create_task(place()) for _ in range(WORKERS)]
    try:
        yield
    finally:
        for task in places:
            task.cancel()
        await asyncio.gather(*places, return_exceptions=True)
        for worker in at_work:
            worker.send(signal.SIGKILL)
    assert not failures, f"{failures}\n{scene.log()}"


@pytest.mark.parametrize("point", ["node:gate:before@forward.3", "engine:before_release"])
async def test_an_error_that_nobody_has_foreseen_does_not_hold_the_run(
    postgres_url: str, data: Path, zygote: Zygote, tally: Tally, point: str
) -> None:
    async with open_scene(postgres_url, data, ["calm", "shop"]) as scene:
        expected, _ = await undisturbed(scene, zygote, "calm", GOOD)
        own, strikes = f"{GOOD}-struck", data / "strikes"
        strikes.write_text(f"{own} {point}\n", encoding="utf-8")
        run_id = await scene.release("shop", own)
        worker = await zygote.start(scene.order(at=str(strikes), how="ERROR"))
        detail = await scene.ended(run_id)
        worker.send(signal.SIGTERM)
        assert await worker.gone() == 0, scene.log()
        assert strikes.read_text(encoding="utf-8") == ""
        await tally.hold(scene, detail, "shop", expected)
