"""A release that a benchmark asks for, and where it has got to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from uuid import UUID, uuid4

from bench.ground import BenchError
from domain.event import Actor, Command, Commanded, CommandName, Event
from server import House
from store.records import RunRow
from web.correlate import correlate

LONGEST_SECONDS = 60.0
POLL_SECONDS = 0.1


async def ask(house: House, environment: str) -> UUID:
    """Somebody asks for a release of `checkout`; its run."""
    key = uuid4().hex
    event = Event(
        id=uuid4(),
        source="api",
        delivery_id=key,
        body_digest=key * 2,
        received_at=house.clock.now(),
        body=Commanded(
            commands=(
                Command(name=CommandName.DEPLOY, args=("checkout", environment, "4f2c1a9d")),
            ),
            author=Actor(login="ada"),
            roles=("developer",),
        ),
    )
    receipt = await house.books.events.accept(event, correlate(event, house.catalogue), b"{}")
    if receipt.run_id is None:
        raise BenchError(f"the release was not taken up: {receipt.reason}")
    return receipt.run_id


async def until(house: House, run_id: UUID, there: Callable[[RunRow], bool], where: str) -> None:
    """Wait until a run is there. Raises `BenchError` when it does not come to it."""
    run = None
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        run = await house.books.runs.get(run_id)
        if run is not None and there(run):
            return
        await asyncio.sleep(POLL_SECONDS)
    raise BenchError(f"the run did not come to {where}: {run and (run.state.value, run.reason)}")
