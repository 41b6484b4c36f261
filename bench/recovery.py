"""(c) A worker is killed while it is inside an effect: how long until another one is at work on it.

`serve` and two workers are processes of their own. The receiver of notifications leaves the first
try of each message without an answer; the worker that waits for it is killed with SIGKILL, and the
clock runs until the other worker, having waited for the lease to run out and gone on from the
checkpoint, sends the message again.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import httpx

from bench.figures import Figure, Section, Target
from bench.ground import LISTENS, READY, BenchError, Ground, Program
from store.books import Books
from store.database import Database
from store.records import RunDetail

ROUNDS = 5
LONGEST_SECONDS = 30.0
POLL_SECONDS = 0.05
KEY = re.compile(rb"\r\nidempotency-key: *(\S+)\r\n", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
HOLDER = "SELECT w.name FROM runs r JOIN workers w ON w.id = r.worker_id WHERE r.id = %s"


@dataclass
class Receiver:
    """Takes notifications. The first try of each waits for an answer in vain."""

    url: str = ""
    arrivals: asyncio.Queue[tuple[bytes, float]] = field(default_factory=asyncio.Queue)
    """(idempotency key, monotonic time) of every try."""
    _seen: set[bytes] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Receiver]:
        """Listen on a free loopback port."""
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        try:
            yield self
        finally:
            server.close()

    async def next(self) -> tuple[bytes, float]:
        """The next try."""
        async with asyncio.timeout(LONGEST_SECONDS):
            return await self.arrivals.get()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            key, length = KEY.search(head), LENGTH.search(head)
            assert key is not None
            assert length is not None
            await reader.readexactly(int(length[1]))
            first = key[1] not in self._seen
            self._seen.add(key[1])
            self.arrivals.put_nowait((key[1], time.monotonic()))
            if first:
                await reader.read()  # until the sender is gone
            else:
                writer.write(OK)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the sender was killed
        finally:
            writer.close()


async def measure(ground: Ground, tell: Callable[[str], None]) -> Section:
    """Run the benchmark."""
    began = time.perf_counter()
    url, data = await ground.database("recovery"), ground.data("recovery")
    took: list[float] = []
    async with Receiver().listening() as receiver:
        settings = {
            "DATABASE_URL": url,
            "FERMATA_DATA": str(data),
            "NOTIFY_WEBHOOK_URL": receiver.url,
            "FERMATA_LOG": "info",
        }
        server = await ground.program(
            "recovery-server", "cli", "serve", "--workers", "0", "--port", "0", settings=settings
        )
        address = await server.until_said(LISTENS)
        token = (data / "admin-token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        workers: dict[str, Program] = {}

        async def another_worker() -> None:
            name = f"recovery-worker-{uuid4().hex[:6]}"
            worker = await ground.program(name, "cli", "worker", settings=settings)
            await worker.until_said(READY)
            workers[str(worker.pid)] = worker

        db = await Database.open(url)
        try:
            async with httpx.AsyncClient(base_url=address, headers=headers) as client:
                await another_worker()
                for number in range(ROUNDS):
                    await another_worker()
                    took.append(await _round(client, receiver, Books.of(db), workers))
                    tell(f"round {number + 1}: {took[-1]:.2f} s")
        finally:
            await db.close()
    return Section(
        "(c) recovery: SIGKILL inside an effect, 2 workers",
        (
            Figure(
                "slowest, from the kill to the effect being tried again",
                max(took),
                "s",
                Target("at most", 5.0),
                f"{ROUNDS} rounds: " + ", ".join(f"{one:.2f}" for one in sorted(took)),
            ),
        ),
        time.perf_counter() - began,
    )


async def _round(
    client: httpx.AsyncClient, receiver: Receiver, books: Books, workers: dict[str, Program]
) -> float:
    response = await client.post("/event", json=_alert())
    response.raise_for_status()
    run_id = UUID(response.json()["run_id"])
    key, _ = await receiver.next()
    holder = str(await books.database.value(HOLDER, (run_id,)))
    victim = workers.pop(holder.rpartition(":")[2])
    killed = time.monotonic()
    await victim.kill()
    again, at = await receiver.next()
    if again != key:
        raise BenchError("another message arrived than the one that was to be repeated")
    detail = await _ended(books, run_id)
    # Once planned, once ruled on, one effect: it went on, it did not begin anew.
    if (len(detail.decisions), len(detail.effects), detail.run.state.value) != (1, 1, "succeeded"):
        raise BenchError(
            f"the run did not go on from its checkpoint: {len(detail.decisions)} decisions, "
            f"{len(detail.effects)} effects, {detail.run.state.value}"
        )
    return at - killed


async def _ended(books: Books, run_id: UUID) -> RunDetail:
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        detail = await books.queries.run_detail(run_id)
        if detail is not None and detail.run.state.is_final:
            return detail
        await asyncio.sleep(POLL_SECONDS)
    raise BenchError("the run that was taken over did not come to its end")


def _alert() -> dict[str, object]:
    key = uuid4().hex
    return {
        "type": "alert",
        "id": key,
        "group_key": f"bench:{key}",
        "status": "firing",
        "receiver": "fermata",
        "alerts": [
            {
                "name": "HighErrorRate",
                "status": "firing",
                "fingerprint": key[:16],
                "labels": {"alertname": "HighErrorRate", "severity": "warning"},
                "annotations": {"summary": "5% of the requests fail"},
                "starts_at": "2026-03-25T12:00:00Z",
            }
        ],
    }
