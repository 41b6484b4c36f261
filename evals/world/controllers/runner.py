"""Runs control loops: a set of dirty keys, filled by the change stream and by due times."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from evals.world.clock import Clock
from evals.world.kube.errors import ApiError
from evals.world.kube.store import Change, Key, Store

log = logging.getLogger(__name__)


class Controller(Protocol):
    """One control loop. All its writes happen inside `reconcile`, in one go."""

    name: str

    def touched(self, change: Change) -> Iterable[Key]:
        """Which keys a change makes dirty. Must not write."""
        ...

    def all_keys(self) -> Iterable[Key]:
        """What to look at once on start."""
        ...

    def reconcile(self, key: Key) -> datetime | None:
        """Bring one key closer to its spec; return when to look again, if time alone matters."""
        ...


class Runner:
    """One asyncio task a controller; sleeps until a change or a due time concerns it."""

    def __init__(self, controllers: Iterable[Controller], store: Store, clock: Clock) -> None:
        self._clock = clock
        self._loops = [_Loop(c, clock) for c in controllers]
        self._tasks: list[asyncio.Task[None]] = []
        store.subscribe(self._spread)

    def _spread(self, change: Change) -> None:
        for loop in self._loops:
            loop.mark(loop.controller.touched(change))

    def start(self) -> None:
        """Start the tasks; every existing key is looked at once."""
        self.nudge()
        for loop in self._loops:
            self._tasks.append(asyncio.create_task(loop.run(), name=loop.controller.name))

    def nudge(self) -> None:
        """Look at every existing key once more: something outside the store has changed."""
        for loop in self._loops:
            loop.mark(loop.controller.all_keys())

    async def stop(self) -> None:
        """Cancel the tasks and wait for them."""
        tasks = [*self._tasks, *(t for loop in self._loops for t in loop.timers.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    async def settle(self) -> None:
        """Return once no key is dirty: everything that does not need time has happened."""
        while busy := [loop for loop in self._loops if loop.dirty]:
            await busy[0].idle.wait()


class _Loop:
    def __init__(self, controller: Controller, clock: Clock) -> None:
        self.controller = controller
        self.clock = clock
        self.dirty: dict[Key, None] = {}
        self.timers: dict[Key, asyncio.Task[None]] = {}
        self._due: dict[Key, datetime] = {}
        self._wake = asyncio.Event()
        self.idle = asyncio.Event()

    def mark(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.dirty[key] = None
            self.idle.clear()
            self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.dirty:
                key = next(iter(self.dirty))
                del self.dirty[key]
                try:
                    due = self.controller.reconcile(key)
                except ApiError as refusal:
                    # For instance the namespace went away meanwhile; its deletion wakes us again.
                    log.debug("%s %s: %s", self.controller.name, key, refusal)
                    due = None
                self._schedule(key, due)
                # Let requests in between two keys of a long list.
                await asyncio.sleep(0)
            self.idle.set()

    def _schedule(self, key: Key, due: datetime | None) -> None:
        if due is not None and self._due.get(key) == due and key in self.timers:
            return
        if (old := self.timers.pop(key, None)) is not None:
            old.cancel()
        self._due.pop(key, None)
        if due is not None:
            self._due[key] = due
            self.timers[key] = asyncio.create_task(self._remind(key, due))

    async def _remind(self, key: Key, due: datetime) -> None:
        while (left := (due - self.clock.now()).total_seconds()) > 0:
            await self.clock.sleep(left)
        self.timers.pop(key, None)
        self._due.pop(key, None)
        self.mark([key])
