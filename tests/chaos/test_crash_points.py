"""SIGKILL before and after every superstep and on both sides of every effect: all of them.

The points are enumerated by an undisturbed run. A tortured run is then driven by a succession of
workers, each killed at the first point that has not been a killing point yet, until it ends.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from domain.run import RunState
from tests.chaos.scene import Scene, open_scene
from tests.chaos.tally import Tally, Traces, examine, traces
from tests.chaos.workers import Zygote

GOOD, BAD = "2.0.0", "2.0.0-bad"


async def undisturbed(
    scene: Scene, zygote: Zygote, service: str, version: str
) -> tuple[Traces, list[str]]:
    """What a run leaves behind when nothing happens to it, and the points that it passes."""
    run_id = await scene.release(service, version)
    points = scene.data / f"points-{service}"
    worker = await zygote.start(scene.order(record=str(points), only=str(run_id)))
    detail = await scene.ended(run_id)
    worker.send(signal.SIGTERM)
    assert await worker.gone() == 0
    passed = list(dict.fromkeys(points.read_text(encoding="utf-8").splitlines()))
    return traces(scene, detail, service), passed


@pytest.mark.parametrize(
    "version, state", [(GOOD, RunState.SUCCEEDED), (BAD, RunState.ROLLED_BACK)]
)
async def test_a_run_survives_a_kill_at_every_point_it_passes(
    postgres_url: str, data: Path, zygote: Zygote, tally: Tally, version: str, state: RunState
) -> None:
    async with open_scene(postgres_url, data, ["calm", "shop"]) as scene:
        expected, points = await undisturbed(scene, zygote, "calm", version)
        assert expected.state is state
        run_id = await scene.release("shop", version)
        killed = data / "killed"
        order = scene.order(kill_new=str(killed), only=str(run_id), held=True)
        worker = await zygote.start(order)
        deadline = time.monotonic() + 280
        while True:
            worker.send(signal.SIGUSR1)
            # The next one opens its house while this one works.
            following = await zygote.start(order)
            ended = asyncio.create_task(worker.gone(120))
            while not ended.done() and not (await scene.detail(run_id)).run.state.is_final:
                await scene.vote()
                await asyncio.sleep(0.02)
                assert time.monotonic() < deadline, f"stuck\n{scene.log()}"
            if not ended.done():
                # The last points lie behind the run's end.
                worker.send(signal.SIGTERM)
            code = await ended
            assert code in (-signal.SIGKILL, 0), scene.log()
            if (await scene.detail(run_id)).run.state.is_final:
                break
            await scene.orphaned(run_id)
            worker = following
        following.send(signal.SIGKILL)
        detail = await scene.ended(run_id)
        tried = killed.read_text(encoding="utf-8").splitlines()
        found = await examine(scene, detail, "shop", version, expected)
        tally.points += len(tried)
        tally.lost += len(found.lost)
        tally.doubled += len(found.doubled)
        assert not found, found
        missed = {one.replace("calm", "*") for one in points} - {
            one.replace("shop", "*") for one in tried
        }
        assert not missed, f"never killed at {missed}"
