"""SIGSTOP of a worker past its lease at each boundary of each effect, then SIGCONT.

Another worker has finished the run meanwhile; what wakes up then may write nothing anywhere.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

from tests.chaos.scene import FIRST, Scene, open_scene
from tests.chaos.tally import Tally, examine
from tests.chaos.test_crash_points import BAD, GOOD, beside_effects, undisturbed
from tests.chaos.workers import Worker, Zygote
from tests.chaos.zygote import locked

BATCH = 14
AT_WORK = 2
LONGEST_SECONDS = 90.0
LOST = "lease lost, nothing more is written"


async def test_a_worker_that_wakes_up_after_its_lease_writes_nothing(
    postgres_url: str, data: Path, zygote: Zygote, tally: Tally
) -> None:
    async with open_scene(postgres_url, data / "calm", ["good", "bad"]) as scene:
        known = {
            GOOD: await undisturbed(scene, zygote, "good", GOOD),
            BAD: await undisturbed(scene, zygote, "bad", BAD),
        }
    cases = [
        (version, point)
        for version, (_, points) in known.items()
        for point in beside_effects(version, points)
    ]
    assert len(cases) >= 5 * (8 + 3)
    for first in range(0, len(cases), BATCH):
        batch = cases[first : first + BATCH]
        services = [f"shop-{index:02}" for index in range(len(batch))]
        place = data / str(first)
        strikes = data / f"strikes-{first}"
        strikes.touch()
        async with open_scene(postgres_url, place, services) as scene:
            runs = []
            for service, (version, point) in zip(services, batch, strict=True):
                with locked(strikes) as lines:
                    lines.append(f"{version}-{service} {point.replace('*', service)}\n")
                runs.append(await scene.release(service, f"{version}-{service}"))
            zombies, workers = await _stop_them_all(scene, zygote, strikes, len(batch))
            workers.append(await zygote.start(scene.order()))
            details = [await scene.ended(run_id) for run_id in runs]
            for worker in workers:
                worker.send(signal.SIGTERM)
            assert [await worker.gone() for worker in workers] == [0] * len(workers), scene.log()
            before = await _everything(scene)
            await _wake(scene, zombies, [str(run_id) for run_id in runs])
            assert await _everything(scene) == before
            for detail, service, (version, _) in zip(details, services, batch, strict=True):
                image = f"{version}-{service}" if version == GOOD else FIRST
                found = await examine(scene, detail, service, image, known[version][0])
                tally.points += 1
                tally.doubled += len(found.doubled)
                tally.lost += len(found.lost)
                assert not found, found
                assert "taken over" in [node for node, _ in detail.path]


async def _stop_them_all(
    scene: Scene, zygote: Zygote, strikes: Path, count: int
) -> tuple[list[Worker], list[Worker]]:
    """Put workers to work until each point has stopped one; those, and the ones still at work."""
    # One run at a time: a worker that is stopped between its last look at the lease and the first
    # byte of a request to somebody who knows no leases does send it when it wakes up.
    order = scene.order(at=str(strikes), how="SIGSTOP", concurrency=1)
    zombies: list[Worker] = []
    at_work: list[Worker] = []
    deadline = time.monotonic() + LONGEST_SECONDS
    while len(zombies) < count:
        while len(at_work) < AT_WORK:
            at_work.append(await zygote.start(order))
        await scene.vote()
        await asyncio.sleep(0.03)
        zombies += [worker for worker in at_work if worker.is_stopped]
        at_work = [worker for worker in at_work if not worker.is_stopped]
        assert time.monotonic() < deadline, f"{count - len(zombies)} left\n{scene.log()}"
        assert all(worker.code is None for worker in at_work), scene.log()
    return zombies, at_work


async def _wake(scene: Scene, zombies: list[Worker], runs: list[str]) -> None:
    """Let them go on until each run has been given up by the one that was stopped at it."""
    for zombie in zombies:
        zombie.send(signal.SIGCONT)
    log = scene.data / "workers.log"
    deadline = time.monotonic() + LONGEST_SECONDS
    waiting = set(runs)
    while waiting:
        lost = [line for line in log.read_text(encoding="utf-8").splitlines() if LOST in line]
        waiting = {run for run in waiting if not any(run in line for line in lost)}
        assert time.monotonic() < deadline, f"{waiting} not given up\n{scene.log()}"
        await asyncio.sleep(0.05)
    for zombie in zombies:
        zombie.send(signal.SIGTERM)
    for zombie in zombies:
        assert await zombie.gone() == 0, scene.log()


async def _everything(scene: Scene) -> tuple[object, ...]:
    """What is stored, and how often anybody was asked to change something."""
    return (
        await scene.digests(),
        scene.writes.hits,
        sum(one.method != "GET" for one in scene.github.seen),
        len(scene.sink.seen),
    )
