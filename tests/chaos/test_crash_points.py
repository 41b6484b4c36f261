"""SIGKILL before and after every superstep and on both sides of every effect: all of them.

The points are enumerated by an undisturbed run. Then one run is driven by a succession of workers,
each killed at the first point that has not been a killing point yet, until it ends. And for each
boundary of each effect (and for what such a run may not come by) there is a run of its own that is
killed there once.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from domain.run import RunState
from store.records import RunDetail
from tests.chaos.runs import POLL_SECONDS, Patience
from tests.chaos.scene import Scene, open_scene
from tests.chaos.tally import Tally, Traces, traces
from tests.chaos.workers import Zygote, crew
from tests.chaos.zygote import locked, struck_out

GOOD, BAD = "2.0.0", "2.0.0-bad"
ENDINGS = {GOOD: RunState.SUCCEEDED, BAD: RunState.ROLLED_BACK}
STORIES = {GOOD: "good release", BAD: "bad release"}
WARM = "1.1.0"
LANES = 8
"""Runs that are under way at once, each of a service of its own."""
WORKERS = 3
KILL_POLL_SECONDS = 0.02
MOST_MISSED = 8
"""Runs that may go by a point without passing it before it counts as never tried."""


async def undisturbed(
    scene: Scene, zygote: Zygote, service: str, version: str
) -> tuple[Traces, list[str]]:
    """What a run leaves behind when nothing happens to it, and the points that it passes."""
    run_id = await scene.release(service, version)
    points = scene.data / f"points-{service}"
    worker = await zygote.start(scene.order(record=str(points), only=version))
    (detail,) = await scene.ended(run_id)
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
    names = ["calm", "shop"]
    async with open_scene(postgres_url, data, names, tells_slack=slack, configured=True) as scene:
        expected, points = await undisturbed(scene, zygote, "calm", version)
        own = f"{version}-tortured"
        run_id = await scene.release("shop", own)
        killed = data / "killed"
        detail = await _tortured(scene, zygote, run_id, own, killed)
        tried = killed.read_text(encoding="utf-8").replace("shop", "*").splitlines()
        await tally.hold(
            scene, detail, "shop", expected,
            what=f"SIGKILL, one run killed everywhere, {STORIES[version]}", points=tried,
        )  # fmt: skip
        left_out = set(points) - set(tried) - set(by_itself(version, points))
        assert not left_out, f"never killed at {sorted(left_out)}"
        assert "taken over" in [node for node, _ in detail.path]
        assert "another one took it over" in await scene.page(run_id)


async def _tortured(
    scene: Scene, zygote: Zygote, run_id: UUID, version: str, killed: Path
) -> RunDetail:
    order = scene.order(kill_new=str(killed), only=version, held=True)
    worker = await zygote.start(order)
    patience, has_asked = Patience(), False
    while True:
        worker.send(signal.SIGUSR1)
        # The next one opens its house while this one works.
        following = asyncio.create_task(zygote.start(order))
        while worker.code is None and not await scene.is_final(run_id):
            # An answer that comes before the run waits for it would spare it the waiting.
            has_asked = has_asked or await asyncio.to_thread(_names, killed, "node:approve:before")
            if has_asked:
                await scene.vote()
            await asyncio.sleep(KILL_POLL_SECONDS)
            patience.check(worker.pid, f"not killed and not at its end\n{scene.log()}")
        if await scene.is_final(run_id):
            # A point that lies behind the run's end may kill it yet.
            worker.send(signal.SIGTERM)
        assert await worker.gone() in (-signal.SIGKILL, 0), scene.log()
        await scene.bury(worker.pid)
        worker = await following
        if await scene.is_final(run_id):
            worker.send(signal.SIGKILL)
            return await scene.detail(run_id)


def _names(file: Path, start: str) -> bool:
    return file.exists() and f"\n{start}" in file.read_text(encoding="utf-8")


@dataclass
class Lane:
    """A service whose runs come one after the other, each killed once, at one point."""

    service: str
    running: str = WARM
    point: str = ""
    run_id: UUID | None = None


async def test_a_single_kill_beside_an_effect_loses_and_doubles_nothing(
    postgres_url: str, data: Path, zygote: Zygote, tally: Tally
) -> None:
    async with asyncio.TaskGroup() as both:
        for version in ENDINGS:
            both.create_task(_kill_once(postgres_url, data / version, zygote, tally, version))


async def _kill_once(
    postgres_url: str, data: Path, zygote: Zygote, tally: Tally, version: str
) -> None:
    lanes = [Lane(f"shop-{index}") for index in range(LANES)]
    services = ["calm", *(lane.service for lane in lanes)]
    what = f"SIGKILL, a run of its own for each, {STORIES[version]}"
    async with open_scene(
        postgres_url, data, services, tells_slack=version == BAD, configured=True
    ) as scene:
        strikes = data / "strikes"
        strikes.touch()
        # The first release of a service makes objects that the later ones find.
        warming = [await scene.release(service, WARM) for service in services]
        worker = await zygote.start(scene.order())
        for warmed in await scene.ended(*warming):
            assert warmed.run.state is RunState.SUCCEEDED
        worker.send(signal.SIGTERM)
        assert await worker.gone() == 0, scene.log()
        expected, points = await undisturbed(scene, zygote, "calm", version)
        waiting = deque(by_itself(version, points))
        begun, missed, patience = 0, Counter[str](), Patience()
        # One run at a time: a kill is to hit one run, at one point.
        order = scene.order(at=str(strikes), concurrency=1)
        async with crew(zygote, order, scene.bury, WORKERS) as check:
            while waiting or any(lane.run_id for lane in lanes):
                check()
                await scene.vote()
                for lane in lanes:
                    if lane.run_id is None and waiting:
                        lane.point = waiting.popleft()
                        begun += 1
                        await _begin(scene, lane, f"{version}-{begun}", strikes)
                    elif (
                        lane.run_id is not None
                        and await scene.is_final(lane.run_id)
                        and not await _look(scene, lane, tally, expected, what, strikes)
                    ):
                        missed[lane.point] += 1
                        assert missed[lane.point] < MOST_MISSED, lane.point
                        waiting.append(lane.point)
                under_way = [lane for lane in lanes if lane.run_id]
                with locked(strikes) as left:
                    mark = (begun, len(under_way), tuple(left))
                patience.check(mark, f"{under_way}\n{scene.log()}")
                await asyncio.sleep(POLL_SECONDS)
        with locked(strikes) as left:
            assert left == [], "never killed at these"


async def _begin(scene: Scene, lane: Lane, version: str, strikes: Path) -> None:
    """Start a run that is to be killed; the file says where before any worker can see it."""
    with locked(strikes) as lines:
        lines.append(f"{version} {lane.point.replace('*', lane.service)}\n")
    lane.run_id = await scene.release(lane.service, version)


async def _look(
    scene: Scene, lane: Lane, tally: Tally, expected: Traces, what: str, strikes: Path
) -> bool:
    """Examine the lane's run, which has ended, and free the lane. False when it did not pass its
    point: it waits only for what is not there yet, so it passes some only when it is fast enough.
    """
    assert lane.run_id is not None
    detail = await scene.detail(lane.run_id)
    left = struck_out(strikes, detail.run.sha or "")
    await tally.hold(
        scene, detail, lane.service, expected,
        what=what, points=[] if left else [lane.point], before=lane.running,
    )  # fmt: skip
    lane.run_id = None
    if detail.run.state is RunState.SUCCEEDED:
        lane.running = detail.run.sha or ""
    return not left


async def test_an_error_that_nobody_has_foreseen_does_not_hold_the_run(
    postgres_url: str, data: Path, zygote: Zygote, tally: Tally
) -> None:
    struck = {"here": "node:gate:before@forward.3", "there": "engine:before_release"}
    async with open_scene(postgres_url, data, ["calm", *struck]) as scene:
        expected, points = await undisturbed(scene, zygote, "calm", GOOD)
        assert set(struck.values()) <= set(points)
        strikes = data / "strikes"
        strikes.write_text("".join(f"{GOOD}-{name} {point}\n" for name, point in struck.items()))
        runs = [await scene.release(name, f"{GOOD}-{name}") for name in struck]
        worker = await zygote.start(scene.order(at=str(strikes), how="ERROR"))
        details = await scene.ended(*runs)
        worker.send(signal.SIGTERM)
        assert await worker.gone() == 0, scene.log()
        assert strikes.read_text(encoding="utf-8") == ""
        for detail, (name, point) in zip(details, struck.items(), strict=True):
            await tally.hold(
                scene, detail, name, expected, what="an unforeseen exception", points=[point]
            )
