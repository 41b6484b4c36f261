"""Events: a delivery becomes rows exactly once, together with everything it asks for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never
from uuid import UUID, uuid4

import orjson
import psycopg
from psycopg import errors

from domain.event import Event
from domain.intake import Address, Ignore, Intake, SendSignal, StartRun
from store.database import CONFLICTS, Database, again, jsonb, text
from store.records import Receipt

ACCEPT_ALL = "SELECT fermata_accept_all(%(events)s, %(payloads)b::bytea[])::text"
SETTLE = "SELECT fermata_settle_group(one) FROM unnest(%(groups)s::text[]) AS one ORDER BY one"
PAYLOAD = "SELECT payload FROM events WHERE id = %(id)s"

SHORTEST_PREFIX = 6
"""Hex digits a run's prefix needs to count."""
MOST_TOGETHER = 64
"""Events that share one commit at most."""
LANES = 2
"""Commits under way at the same time."""
CROWD, SLOW_SECONDS = 8, 0.02
"""Where that many events shared the last commit one lane will do, unless its commit takes longer: a
commit costs PostgreSQL 0.6 ms, and each event in it 0.07 ms."""


@dataclass
class _Delivery:
    """One event on its way in, and who waits for its receipt."""

    record: dict[str, Any]
    payload: bytes | None
    receipt: asyncio.Future[Receipt]


class _Stored(Receipt):
    """A receipt as `fermata_accept_all` writes it."""

    crowded: tuple[str, ...] = ()
    """Groups of changes that somebody else was busy with, to be settled after the commit."""


@dataclass
class EventLog:
    """Where events go in.

    Events that arrive while a commit is under way share the next one; one that arrives alone is
    committed at once. On two cores that doubles what a hundred concurrent senders get through.
    """

    db: Database
    _waiting: deque[_Delivery] = field(default_factory=deque)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _open_lanes: int = 0
    _shared: int = 0
    """Events in the commit that began last."""
    _under_way: dict[object, float] = field(default_factory=dict)
    """When the commit of each lane began, by the loop's clock."""

    async def accept(
        self, event: Event, intakes: Sequence[Intake], payload: bytes | None
    ) -> Receipt:
        """Store the event and do what it asks for, in one transaction.

        A delivery that was stored before, by its id or by its body, is a `duplicate` and answers
        with what became of the first. `payload` is the raw body, kept for replay. Raises
        `psycopg.OperationalError` when the database does not answer: nothing was promised then.
        """
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Delivery(_record(event, intakes), payload, receipt))
        if self._open_lanes == 0 or (self._open_lanes < LANES and not self._one_lane_will_do()):
            self._open_lanes += 1
            lane = asyncio.create_task(self._commit_waiting(), name="fermata-events")
            self._tasks.add(lane)
            lane.add_done_callback(self._tasks.discard)
        return await receipt

    async def payload(self, event_id: UUID) -> bytes | None:
        """The raw body as it came, or None."""
        found: bytes | None = await self.db.value(PAYLOAD, {"id": event_id})
        return found

    async def _commit_waiting(self) -> None:
        together: list[_Delivery] = []
        lane, loop = object(), asyncio.get_running_loop()
        try:
            while self._waiting and (self._open_lanes == 1 or not self._one_lane_will_do()):
                self._shared = min(len(self._waiting), MOST_TOGETHER)
                together = [self._waiting.popleft() for _ in range(self._shared)]
                self._under_way[lane] = loop.time()
                try:
                    await self._commit(together)
                finally:
                    del self._under_way[lane]
        finally:
            # Nothing is awaited between finding the line empty and closing the lane, so nobody
            # can join a line that no lane serves.
            self._open_lanes -= 1
            for one in together:
                one.receipt.cancel()

    def _one_lane_will_do(self) -> bool:
        """Whether a commit beside the one under way would only make two small ones of it."""
        began = min(self._under_way.values(), default=0.0)
        slow = asyncio.get_running_loop().time() - began > SLOW_SECONDS
        return self._shared >= CROWD and not slow

    async def _commit(self, together: list[_Delivery]) -> None:
        try:
            receipts = await self._accept(together)
        except psycopg.Error as error:
            if len(together) > 1 and not isinstance(error, psycopg.OperationalError):
                # One that cannot be stored must not take the others with it.
                for one in together:
                    await self._commit([one])
                return
            for one in together:
                if not one.receipt.done():
                    one.receipt.set_exception(error)
            return
        for one, receipt in zip(together, receipts, strict=True):
            if not one.receipt.done():
                one.receipt.set_result(receipt)

    async def _accept(self, together: list[_Delivery]) -> Sequence[Receipt]:
        params = {
            "events": jsonb([one.record for one in together]),
            "payloads": [one.payload for one in together],
        }
        try:
            rows = await self.db.rows(ACCEPT_ALL, params)
        except (errors.UniqueViolation, *CONFLICTS):
            # The same delivery twice at one moment: one of them fails, and finds the other now.
            async for attempt in again(errors.UniqueViolation):
                with attempt:
                    rows = await self.db.rows(ACCEPT_ALL, params)
        found = [_Stored.model_validate_json(row[0]) for row in rows]
        crowded = {group for one in found for group in one.crowded}
        if crowded:
            await self.db.insist(SETTLE, {"groups": sorted(crowded)})
        return found


def _record(event: Event, intakes: Sequence[Intake]) -> dict[str, Any]:
    """An event as `fermata_accept_all` reads it."""
    return {
        "id": event.id,
        "source": event.source,
        "delivery": text(event.delivery_id),
        "digest": event.body_digest,
        "received": event.received_at,
        "kind": event.body.kind,
        "body": orjson.Fragment(event.body.model_dump_json()),
        "asks": [_ask(one) for one in intakes],
    }


def _ask(intake: Intake) -> dict[str, Any]:
    """An intake as `fermata_accept` reads it."""
    match intake:
        case StartRun():
            return {
                "ask": "start",
                "run_id": uuid4(),
                "thread_id": intake.thread_id,
                "change_key": intake.change_key,
                "supersede_group": intake.supersede_group,
                "goal": intake.goal,
                "title": intake.title,
                "repo": intake.repo,
                "number": intake.number,
                "sha": intake.sha,
                "author": intake.author.login,
                "again": intake.again,
            }
        case SendSignal():
            return {
                "ask": "signal",
                "kind": intake.kind,
                "payload": intake.payload,
                "missed": f"{intake.kind}: {_missed(intake.address)}",
                **_to(intake.address),
            }
        case Ignore():
            return {"ask": "ignore", "reason": intake.reason}
        case _:
            assert_never(intake)


def _to(address: Address) -> dict[str, Any]:
    to = address.model_dump(mode="json", exclude={"run"})
    if address.run is not None:
        between = prefix_range(address.run)
        # A run that cannot be is looked for in vain, like one that is not there.
        first, last = between if between is not None else (UUID(int=0), UUID(int=0))
        to["run_from"], to["run_to"] = str(first), str(last)
    return to


def prefix_range(prefix: str) -> tuple[UUID, UUID] | None:
    """First and last id that begin with a prefix of at least 6 hex digits; None if it is none."""
    digits = prefix.strip().lower().replace("-", "")
    if not SHORTEST_PREFIX <= len(digits) <= 32 or set(digits) - set("0123456789abcdef"):
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


def _missed(address: Address) -> str:
    """Why a signal reached nobody, naming whom it was for."""
    named = [
        f"{word} {value}"
        for word, value in (
            ("run", address.run),
            ("repository", address.repo),
            ("number", address.number),
            ("commit", address.sha),
            ("service", address.service),
        )
        if value is not None
    ]
    what = "change" if address.include_final else "change under way"
    return (
        f"no {what} (or more than one) matches {', '.join(named) or 'nothing'}"
        if (address.run is not None)
        else f"no {what} matches {', '.join(named) or 'nothing'}"
    )
