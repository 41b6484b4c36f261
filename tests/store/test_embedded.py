"""The embedded server: shared by processes, durable, and back after it was killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from store import embedded, migrate
from store.database import Database
from store.embedded import EmbeddedPostgres
from store.events import EventLog
from tests.store.house import event, pushed, start

ROOT = Path(__file__).parents[2]
ATTACH = """
import sys
from pathlib import Path
import psycopg
from store import embedded
server = embedded.start(Path(sys.argv[1]))
with psycopg.connect(server.url) as conn:
    print(server.pid, conn.execute("SHOW fsync").fetchone()[0])
    conn.execute("CREATE TABLE IF NOT EXISTS seen (pid int)")
if sys.argv[2] == "die":
    import os
    os.kill(os.getpid(), 9)
server.stop()
"""


@pytest.fixture
def own(data: Path) -> Iterator[EmbeddedPostgres]:
    """A server that the test may kill."""
    server = embedded.start(data)
    yield server
    server.stop()


def attach(data: Path, how: str) -> list[str]:
    """Another process that uses the server of a folder; the server's pid and its fsync."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ATTACH, str(data), how],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )
    assert done.stdout, done.stderr
    return done.stdout.split()


def test_processes_of_one_folder_share_one_server(own: EmbeddedPostgres, data: Path) -> None:
    pid = str(own.pid)
    assert attach(data, "leave") == [pid, "on"]
    assert attach(data, "die") == [pid, "on"]
    assert own.running
    with psycopg.connect(own.url) as conn:
        assert conn.execute("SELECT count(*) FROM seen").fetchone() == (0,)


def test_the_last_process_stops_it_though_another_was_killed(data: Path) -> None:
    first = attach(data, "die")
    server = embedded.start(data)
    assert str(server.pid) == first[0], "the killed process left it running"
    server.stop()
    assert not server.running


async def test_a_pool_heals_after_the_server_was_killed(own: EmbeddedPostgres) -> None:
    db = await Database.open(own.url, min_size=3, max_size=6)
    await migrate.apply(db)
    log = EventLog(db)
    await asyncio.gather(*(db.value("SELECT pg_sleep(0.05)") for _ in range(6)))
    promised = []

    async def accept() -> None:
        sha = uuid4().hex
        receipt = await log.accept(event(pushed(sha)), [start(sha)], b"x")
        promised.append(receipt.event_id)

    await accept()
    old = own.pid
    assert old is not None
    os.kill(old, signal.SIGKILL)
    watching = asyncio.create_task(own.watch())
    try:
        async with asyncio.timeout(60):
            # children of the killed server may still answer for a moment; what they promise holds
            while own.pid == old:
                # refused, or waited for until the server is back
                with contextlib.suppress(psycopg.OperationalError):
                    await accept()
            for _ in range(20):
                await accept()
        # every connection of the pool works again, not only the first
        pids = await asyncio.gather(
            *(db.value("SELECT pg_backend_pid() FROM pg_sleep(0.05)") for _ in range(6))
        )
    finally:
        watching.cancel()
    assert len(set(pids)) > 1
    kept = await db.value("SELECT count(*) FROM events WHERE id = ANY (%s)", (promised,))
    assert kept == len(promised)
    assert await db.alive()
    await db.close()


async def test_a_server_that_is_gone_is_told_from_one_that_answers(own: EmbeddedPostgres) -> None:
    db = await Database.open(own.url, min_size=1, max_size=2)
    assert await db.alive()
    pid = own.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        while await db.alive():
            pass  # its last children answer until they notice
    async with asyncio.timeout(30):
        while not own.revive():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while not await db.alive():
            pass
    assert not own.revive()
    await db.close()
