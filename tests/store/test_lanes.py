"""Commits side by side while few events come, one after the other when many do."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import orjson
import pytest

from domain.intake import Ignore
from store import events
from store.events import EventLog
from store.records import Receipt
from tests.store.house import event, pushed


class Held:
    """A database whose commits end when they are told to."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.under_way: list[asyncio.Event] = []

    async def rows(self, _sql: str, params: dict[str, Any]) -> list[tuple[str]]:
        records = params["events"].obj
        self.sizes.append(len(records))
        end = asyncio.Event()
        self.under_way.append(end)
        await end.wait()
        self.under_way.remove(end)
        told = [{"event_id": str(one["id"]), "status": "ignored"} for one in records]
        return [(orjson.dumps(one).decode(),) for one in told]


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


class Senders:
    """Events on their way into a log over such a database."""

    def __init__(self) -> None:
        self.database = Held()
        self.log = EventLog(self.database)  # type: ignore[arg-type]
        self.sent: list[asyncio.Task[Receipt]] = []

    async def send(self, count: int) -> None:
        """So many at once."""
        for _ in range(count):
            one = event(pushed(uuid4().hex))
            accepted = self.log.accept(one, [Ignore(reason="nothing")], None)
            self.sent.append(asyncio.create_task(accepted))
        await settled()

    async def end(self, number: int = 0) -> None:
        """End one of the commits under way."""
        self.database.under_way[number].set()
        await settled()

    async def all_answered(self) -> bool:
        """End what is under way until everybody has an answer; whether it is the right one."""
        while self.database.under_way:
            await self.end()
        return [one.result().status for one in self.sent] == ["ignored"] * len(self.sent)


async def test_a_few_events_are_committed_side_by_side() -> None:
    s = Senders()
    for _ in range(3):
        await s.send(1)
    assert s.database.sizes == [1, 1], "the third waits for one of the two"
    await s.end(1)
    assert s.database.sizes == [1, 1, 1]
    assert len(s.database.under_way) == 2
    assert await s.all_answered()


async def test_a_crowd_shares_one_commit_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SLOW_SECONDS", 60.0)
    s = Senders()
    await s.send(1)
    await s.send(20)
    await s.send(30)
    assert s.database.sizes == [1, 20]
    await s.end(0)  # its lane leaves the thirty to the other
    assert s.database.sizes == [1, 20]
    await s.send(5)
    await s.end(0)
    assert s.database.sizes == [1, 20, 35]
    assert await s.all_answered()
    await s.send(1)
    await s.send(1)
    assert s.database.sizes[3:] == [1, 1], "the crowd is gone"
    assert await s.all_answered()


async def test_a_slow_commit_does_not_hold_the_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SLOW_SECONDS", 0.0)
    s = Senders()
    await s.send(20)
    await s.send(30)
    assert s.database.sizes == [20, 30]
    await s.send(10)
    await s.end(1)  # the first is still under way
    assert s.database.sizes == [20, 30, 10]
    assert await s.all_answered()
