"""PostgreSQL killed and restarted, Redis flushed and killed, in the middle of runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest
import redis.asyncio as redis

from store.embedded import EmbeddedPostgres
from store.records import RunDetail
from tests.chaos.runs import POLL_SECONDS, Patience
from tests.chaos.scene import open_scene
from tests.chaos.tally import Tally
from tests.chaos.test_crash_points import ENDINGS, GOOD, undisturbed
from tests.chaos.workers import Zygote

EARLY, LATE = ("announce", "canary-10.pods"), ("full.stable", "full.check", "rollback.stable")
"""Steps, at the first of which to be seen the database is killed."""
MIDST = "effect:shop/prod.canary-10.weight:claimed"
"""Where the worker is held while the database is killed: nothing of the effect is done yet."""
SPOTTED = '"event": "database did not answer"'
"""Logged when a passage ends for it."""
EVENTS = 120


async def kill(server: EmbeddedPostgres) -> None:
    """SIGKILL for the server."""
    process = psutil.Process(server.pid)
    process.kill()
    await asyncio.to_thread(process.wait, 60)


async def kill_and_restart(server: EmbeddedPostgres) -> None:
    """SIGKILL for the server, then start it again; its data is what it had written down."""
    pid = server.pid
    await kill(server)
    assert await asyncio.to_thread(server.revive)
    assert server.pid != pid


def is_at(detail: RunDetail, steps: tuple[str, ...]) -> bool:
    """Whether a run has come to one of these steps, or past them to its end."""
    return (detail.run.step_id or "").endswith(steps) or detail.run.state.is_final


@pytest.mark.parametrize("version", ENDINGS)
async def test_a_run_survives_its_database_being_killed_several_times(
    own_postgres: EmbeddedPostgres, data: Path, zygote: Zygote, tally: Tally, version: str
) -> None:
    async with open_scene(own_postgres.url, data, ["calm", "shop"], durable=True) as scene:
        expected, _ = await undisturbed(scene, zygote, "calm", version)
        run_id = await scene.release("shop", f"{version}-killed")
        strikes = data / "strikes"
        strikes.write_text(f"{version}-killed {MIDST}\n", encoding="utf-8")
        worker = await zygote.start(scene.order(at=str(strikes), how="SIGSTOP"))
        killed: list[str] = []

        async def kill_at(steps: tuple[str, ...]) -> None:
            detail = await scene.until(run_id, partial(is_at, steps=steps))
            if not detail.run.state.is_final:
                killed.append(detail.run.step_id or "")
            await kill_and_restart(own_postgres)
            await scene.books.database.pool.check()

        await kill_at(EARLY)
        await scene.until(run_id, lambda _: worker.is_stopped)
        await kill(own_postgres)
        worker.send(signal.SIGCONT)
        patience = Patience()
        while SPOTTED not in scene.log():
            patience.check(None, f"the worker has not noticed\n{scene.log()}")
            await asyncio.sleep(POLL_SECONDS)
        assert await asyncio.to_thread(own_postgres.revive)
        await scene.books.database.pool.check()
        killed.append(MIDST)
        await kill_at(LATE)
        (detail,) = await scene.ended(run_id)
        worker.send(signal.SIGTERM)
        assert await worker.gone() == 0, scene.log()
        assert len(killed) >= 2
        await tally.hold(scene, detail, "shop", expected, what="PostgreSQL killed", points=killed)
        page = await scene.page(run_id)
        # The second, when the database was away for longer than the lease.
        assert "the database did not answer" in page or "stopped or lost touch" in page


async def test_a_receipt_outlives_the_database_and_a_refused_event_can_be_sent_again(
    own_postgres: EmbeddedPostgres, data: Path, tally: Tally
) -> None:
    async with open_scene(own_postgres.url, data, ["shop"], durable=True) as scene:
        promised, refused = [], []

        async def send(index: int) -> None:
            try:
                promised.append(await scene.release("shop", f"3.0.{index}"))
            except psycopg.Error:
                refused.append(index)

        async with asyncio.TaskGroup() as senders:
            for index in range(EVENTS):
                senders.create_task(send(index))
                if index == EVENTS // 2:
                    senders.create_task(kill_and_restart(own_postgres))
                await asyncio.sleep(0)
        await scene.books.database.pool.check()
        for index in refused:
            promised.append(await scene.release("shop", f"3.0.{index}"))
        assert len(set(promised)) == EVENTS
        for run_id in promised:
            assert (await scene.detail(run_id)).run.state == "queued"
        tally.note("PostgreSQL killed", f"{EVENTS} events coming in", "all kept")


@contextlib.asynccontextmanager
async def redis_server(binary: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Redis that keeps nothing, killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(20), redis.Redis(port=port) as client:
            while True:
                try:
                    await client.dbsize()
                    break
                except redis.ConnectionError:
                    await asyncio.sleep(0.02)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_flushing_and_killing_redis_loses_nothing(
    postgres_url: str,
    data: Path,
    zygote: Zygote,
    tally: Tally,
    program: Callable[[str], str],
) -> None:
    port, binary = free_port(), program("redis-server")
    services = ["calm", "flushed", "killed", "without", "after"]
    async with open_scene(
        postgres_url, data, services, redis_url=f"redis://127.0.0.1:{port}"
    ) as scene:

        async def held(detail: RunDetail, service: str, point: str) -> None:
            await tally.hold(
                scene, detail, service, expected, what="Redis flushed and killed", points=[point]
            )

        async with redis_server(binary, port) as server, redis.Redis(port=port) as client:
            expected, _ = await undisturbed(scene, zygote, "calm", GOOD)
            worker = await zygote.start(scene.order())
            run_id = await scene.release("flushed", GOOD)
            flushes = 0
            patience, flushes = Patience(), 0
            while not await scene.is_final(run_id):
                await client.flushall()
                flushes += 1
                await scene.vote()
                patience.check(
                    (await scene.detail(run_id)).run.step_id, f"flushed for ever\n{scene.log()}"
                )
                await asyncio.sleep(POLL_SECONDS)
            assert flushes > 5
            await held(await scene.detail(run_id), "flushed", "Redis flushed all the time")
            run_id = await scene.release("killed", GOOD)
            await scene.until(run_id, lambda detail: detail.run.state != "queued")
            server.kill()
            await held((await scene.ended(run_id))[0], "killed", "Redis killed")
        run_id = await scene.release("without", GOOD)
        await held((await scene.ended(run_id))[0], "without", "no Redis")
        async with redis_server(binary, port):
            run_id = await scene.release("after", GOOD)
            await held((await scene.ended(run_id))[0], "after", "Redis back again, empty")
            worker.send(signal.SIGTERM)
            assert await worker.gone() == 0, scene.log()
