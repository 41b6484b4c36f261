"""Simulated time: one clock flows with real time at a given speed, tests push the other by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the world's parts need of time. Elsewhere in the product only `now` is used."""

    def now(self) -> datetime:
        """The simulated instant, aware, in UTC."""
        ...

    async def sleep(self, sim_seconds: float) -> None:
        """Return once `sim_seconds` simulated seconds have passed; at once if not positive."""
        ...


@dataclass(frozen=True, slots=True)
class ClockSpec:
    """The three numbers that make clocks of several processes agree.

    `epoch` is the real instant (Unix seconds) at which simulated time stood at `start`; `speed` is
    simulated seconds per real second.
    """

    epoch: float
    start: datetime
    speed: float

    def dumps(self) -> str:
        """One line of JSON, fit for an environment variable or a file."""
        return json.dumps(
            {"epoch": self.epoch, "start": self.start.isoformat(), "speed": self.speed}
        )

    @classmethod
    def loads(cls, text: str) -> ClockSpec:
        """Read what `dumps` wrote. Raises ValueError or KeyError on anything else."""
        raw = json.loads(text)
        return cls(float(raw["epoch"]), datetime.fromisoformat(raw["start"]), float(raw["speed"]))


class WorldClock:
    """Simulated time that runs `speed` times as fast as real time from `start` on.

    It is derived from the wall clock and a fixed epoch, not from when the object was made, so that
    every process given the same three numbers reads the same simulated time.
    """

    def __init__(self, start: datetime, speed: float = 1.0, *, epoch: float | None = None) -> None:
        if start.tzinfo is None:
            raise ValueError("start must carry a time zone")
        if not speed > 0:
            raise ValueError("speed must be positive")
        self.spec = ClockSpec(
            time.time() if epoch is None else epoch, start.astimezone(UTC), float(speed)
        )

    @classmethod
    def from_spec(cls, spec: ClockSpec) -> WorldClock:
        """The clock that agrees with the one `spec` was taken from."""
        return cls(spec.start, spec.speed, epoch=spec.epoch)

    def now(self) -> datetime:
        """The simulated instant, in UTC."""
        elapsed = (time.time() - self.spec.epoch) * self.spec.speed
        return self.spec.start + timedelta(seconds=elapsed)

    @property
    def speed(self) -> float:
        """Simulated seconds per real second."""
        return self.spec.speed

    def jump(self, to: datetime) -> None:
        """Put simulated time forward to `to`; other processes have to be told the new numbers.

        Raises ValueError when that would be backwards.
        """
        if to < self.now():
            raise ValueError("time does not run backwards")
        self.spec = ClockSpec(time.time(), to.astimezone(UTC), self.spec.speed)

    async def sleep(self, sim_seconds: float) -> None:
        """Sleep `sim_seconds / speed` real seconds."""
        await asyncio.sleep(max(0.0, sim_seconds) / self.spec.speed)


class SteppedClock:
    """Simulated time that stands still until `advance` is called. For tests.

    Sleepers are woken in the order of their due times; their code runs when the event loop next
    gets control. `advance` may be called from any thread.
    """

    speed = 1.0

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("start must carry a time zone")
        self._now = start.astimezone(UTC)
        self._order = itertools.count()
        self._sleepers: list[
            tuple[datetime, int, asyncio.AbstractEventLoop, asyncio.Future[None]]
        ] = []

    def now(self) -> datetime:
        """The simulated instant, in UTC."""
        return self._now

    def advance(self, seconds: float) -> datetime:
        """Move time forward by `seconds` (not negative), wake what is due, return the new time."""
        if seconds < 0:
            raise ValueError("time does not run backwards")
        self._now += timedelta(seconds=seconds)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, loop, future = heapq.heappop(self._sleepers)
            if not loop.is_closed():
                loop.call_soon_threadsafe(_finish, future)
        return self._now

    async def sleep(self, sim_seconds: float) -> None:
        """Return once `advance` has carried time `sim_seconds` further."""
        if sim_seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        due = self._now + timedelta(seconds=sim_seconds)
        heapq.heappush(self._sleepers, (due, next(self._order), loop, future))
        await future


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def rfc3339(moment: datetime) -> str:
    """Kubernetes' `metav1.Time`: UTC, whole seconds, with a Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
