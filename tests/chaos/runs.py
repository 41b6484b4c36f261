"""Runs that outlive their workers: what a test asks of them, and how long it waits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import httpx
import psycopg

import server
from domain.approval import ApprovalState, Vote
from domain.clock import Clock
from policy.votes import judge_vote
from settings import Settings
from store.books import Books
from store.records import RunDetail
from surface import open_access
from tests.chaos.zygote import Order
from tests.e2e.api import Api

LEASE_SECONDS = 10.0
"""Longer than a busy machine keeps a worker from its heartbeat. A scene does not wait for it where
it has killed the worker itself, see `Runs.bury`."""
STUCK_SECONDS = 90.0
"""A run that has not got any further for so long is stuck, however busy the machine is."""
LONGEST_SECONDS = 600.0
"""A run that still is not at its end goes round in circles."""
POLL_SECONDS = 0.05
DOUBT = "Go on all the same?"
"""How a question about a check that did not pass outright ends."""


class Stuck(AssertionError):
    """A run does not come to its end; counted as such."""


@dataclass
class Patience:
    """Waits as long as something moves: raises `Stuck` once nothing has for `STUCK_SECONDS`."""

    _seen: object = None
    _began: float = field(default_factory=time.monotonic)
    _moved: float = field(default_factory=time.monotonic)

    def check(self, mark: object, told: str) -> None:
        """`mark` is compared with the last one; `told` says where things stand."""
        now = time.monotonic()
        if mark != self._seen:
            self._seen, self._moved = mark, now
        if now - self._moved > STUCK_SECONDS:
            raise Stuck(f"nothing has moved for {STUCK_SECONDS:.0f} s: {told}")
        if now - self._began > LONGEST_SECONDS:
            raise Stuck(f"no end after {LONGEST_SECONDS:.0f} s: {told}")


@dataclass(kw_only=True)
class Runs:
    """A database, the settings of the workers on it, and the time they go by."""

    data: Path
    url: str
    books: Books
    clock: Clock
    env: dict[str, str]
    lease: float = LEASE_SECONDS

    def order(self, **more: object) -> Order:
        """An order for a worker."""
        return Order(
            env=self.env, log=str(self.data / "workers.log"), lease=self.lease, **more  # type: ignore[arg-type]
        )  # fmt: skip

    def log(self) -> str:
        """The end of what the workers have said."""
        file = self.data / "workers.log"
        return file.read_text(encoding="utf-8")[-6000:] if file.exists() else ""

    async def detail(self, run_id: UUID) -> RunDetail:
        """Everything about a run."""
        found = await self.books.queries.run_detail(run_id)
        assert found is not None
        return found

    async def vote(self) -> None:
        """Say yes to whatever is asked, but no when a bad version's check is in doubt."""
        for request in await self.books.approvals.list(ApprovalState.PENDING, 100):
            now = self.clock.now()
            in_doubt = request.question.endswith(DOUBT)
            bad = in_doubt and "-bad" in ((await self.detail(request.run_id)).run.sha or "")
            vote = Vote(
                principal="grace", roles=("release-manager",),
                decision="reject" if bad else "approve",
                comment="looked at it", via="api", at=now,
            )  # fmt: skip
            await self.books.approvals.vote(
                request.id, vote, request.digest, partial(judge_vote, now=now)
            )

    async def until(
        self, run_id: UUID, what: Callable[[RunDetail], bool], *, vote: bool = True
    ) -> RunDetail:
        """Poll a run until `what` holds, voting on the way. Raises `Stuck` with where it stands."""
        patience = Patience()
        while True:
            if vote:
                await self.vote()
            detail = await self.detail(run_id)
            if what(detail):
                return detail
            run = detail.run
            patience.check(
                (run.state, run.step_id, len(detail.verdicts)),
                f"{run.state} at {run.step_id}: {run.reason}\n{self.log()}",
            )
            await asyncio.sleep(POLL_SECONDS)

    async def is_final(self, run_id: UUID) -> bool:
        """Whether a run has ended."""
        return run_id in await self.finals([run_id])

    async def finals(self, run_ids: Iterable[UUID]) -> set[UUID]:
        """Those of some runs that have ended."""
        rows = await self.books.database.rows(
            "SELECT id FROM runs WHERE id = ANY (%(runs)s) AND finished_at IS NOT NULL",
            {"runs": list(run_ids)},
        )
        return {one for (one,) in rows}

    async def ended(self, *run_ids: UUID) -> list[RunDetail]:
        """Wait for the end of runs, voting on the way. Raises `Stuck` with where they stand."""
        patience, left = Patience(), set(run_ids)
        while True:
            rows = await self.books.database.rows(
                "SELECT id, finished_at IS NOT NULL, concat_ws(' ', id, state, step_id, "
                "(SELECT count(*) FROM verdicts v WHERE v.run_id = r.id)), reason "
                "FROM runs r WHERE id = ANY (%(runs)s)",
                {"runs": list(left)},
            )
            left -= {run_id for run_id, final, _, _ in rows if final}
            if not left:
                return [await self.detail(run_id) for run_id in run_ids]
            stands = sorted(where for _, final, where, _ in rows if not final)
            reasons = sorted(reason for _, final, _, reason in rows if not final)
            patience.check(stands, f"{stands} {reasons}\n{self.log()}")
            await self.vote()
            await asyncio.sleep(POLL_SECONDS)

    async def bury(self, pid: int) -> None:
        """Let the leases of a worker that is dead run out at once, instead of waiting for it.

        It was forked on this machine, so its number is in its name.
        """
        await self.books.database.count(
            "UPDATE workers SET until = clock_timestamp() - interval '1 second' "
            "WHERE name LIKE '%%:' || %(pid)s",
            {"pid": str(pid)},
        )


@contextlib.asynccontextmanager
async def opened(env: Mapping[str, str]) -> AsyncIterator[Api]:
    """The API of a house in this process, which advances no runs."""
    settings = Settings(_env_file=None, **{key.lower(): one for key, one in env.items()})  # type: ignore[arg-type]
    async with server.open_house(settings, base_url="http://fermata.test", host=False) as house:
        access = open_access(settings)
        transport = httpx.ASGITransport(app=house.app(access))
        async with httpx.AsyncClient(transport=transport) as http:
            secret = env.get("GITHUB_WEBHOOK_SECRET", "")
            yield Api(house.base_url, secret, http, access.admin_token)


async def new_database(server_url: str, *, durable: bool = False) -> str:
    """An empty database on a server. `durable`: waits for the disk at every commit."""
    name = f"chaos_{uuid4().hex[:10]}"
    async with await psycopg.AsyncConnection.connect(server_url, autocommit=True) as conn:
        await conn.execute(f"CREATE DATABASE {name}")
        if not durable:
            await conn.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
