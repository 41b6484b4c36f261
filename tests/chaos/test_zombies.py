"""SIGSTOP of a worker past its lease at each boundary of each effect, then SIGCONT.

Another worker has finished the run meanwhile; what wakes up then may write nothing anywhere.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from tests.chaos.runs import POLL_SECONDS, Patience
from tests.chaos.scene import Scene, open_scene
from tests.chaos.tally import Tally, Traces
from tests.chaos.test_crash_points import BAD, GOOD, STORIES, beside_effects, undisturbed
from tests.chaos.workers import Worker, Zygote
from tests.chaos.zygote import locked

BATCH = 10
AT_ONCE = 2
"""Batches under way side by side."""
AT_WORK = 2
LEASE_SECONDS = 3.0
"""Really waited for here, unlike elsewhere in this folder."""
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
    slots = asyncio.Semaphore(AT_ONCE)

    async def play(batch: list[tuple[str, str]], place: Path) -> None:
        async with slots:
            await _play(postgres_url, place, zygote, tally, batch, known)

    async with asyncio.TaskGroup() as all_of_them:
        for first in range(0, len(cases), BATCH):
            batch = cases[first : first + BATCH]
            all_of_them.create_task(play(batch, data / str(first)))


async def _play(
    postgres_url: str,
    place: Path,
    zygote: Zygote,
    tally: Tally,
    batch: list[tuple[str, str]],
    known: dict[str, tuple[Traces, list[str]]],
) -> None:
    services = [f"shop-{index:02}" for index in range(len(batch))]
    async with open_scene(postgres_url, place, services) as scene:
        scene.lease = LEASE_SECONDS
        strikes = place / "strikes"
        strikes.touch()
        runs = []
        for service, (version, point) in zip(services, batch, strict=True):
            with locked(strikes) as lines:
                lines.append(f"{version}-{service} {point.replace('*', service)}\n")
            runs.append(await scene.release(service, f"{version}-{service}"))
        zombies, workers = await _stop_them_all(scene, zygote, strikes, len(batch))
        workers.append(await zygote.start(scene.order()))
        details = await scene.ended(*runs)
        for worker in workers:
            worker.send(signal.SIGTERM)
        assert [await worker.gone() for worker in workers] == [0] * len(workers), scene.log()
        before = await _everything(scene)
        await _wake(scene, zombies, [str(run_id) for run_id in runs])
        assert await _everything(scene) == before
        for detail, service, (version, point) in zip(details, services, batch, strict=True):
            await tally.hold(
                scene, detail, service, known[version][0],
                what=f"SIGSTOP past the lease, then SIGCONT, {STORIES[version]}", points=[point],
            )  # fmt: skip
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
    patience = Patience()
    while len(zombies) < count:
        while len(at_work) < AT_WORK:
            at_work.append(await zygote.start(order))
        await scene.vote()
        await asyncio.sleep(POLL_SECONDS)
        zombies += [worker for worker in at_work if worker.is_stopped]
        at_work = [worker for worker in at_work if not worker.is_stopped]
        with locked(strikes) as left:
            patience.check((len(zombies), tuple(left)), f"never stopped at {left}\n{scene.log()}")
        assert all(worker.code is None for worker in at_work), scene.log()
    return zombies, at_work


async def _wake(scene: Scene, zombies: list[Worker], runs: list[str]) -> None:
    """Let them go on until each run has been given up by the one that was stopped at it."""
    for zombie in zombies:
        zombie.send(signal.SIGCONT)
    log = scene.data / "workers.log"
    patience, waiting = Patience(), set(runs)
    while waiting:
        lost = [line for line in log.read_text(encoding="utf-8").splitlines() if LOST in line]
        waiting = {run for run in waiting if not any(run in line for line in lost)}
        patience.check(len(waiting), f"{waiting} not given up\n{scene.log()}")
        await asyncio.sleep(POLL_SECONDS)
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
