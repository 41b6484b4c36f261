"""Real requests at a steady rate, each written down with who answered, and what they add up to."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bench.wire import Wire

TICK_SECONDS = 0.01
LONGEST_SECONDS = 30.0
TOLD = re.compile(r"\r\nx-world-(\w+):([^\r]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: when it was sent and answered (Unix seconds), and how. Code 0: no answer."""

    host: str
    sent: float
    done: float
    code: int
    version: str = ""
    track: str = ""
    injected: bool = False
    """Whether the version says that it failed on purpose."""
    said: str = ""
    """What the gateway said by itself, or why there was no answer."""

    @property
    def torn(self) -> bool:
        """Whether it failed, and not by its version's own doing."""
        return self.code != 200 and not self.injected


@dataclass
class Traffic:
    """Sends to one gateway: `rates` are requests a second by host, whatever becomes of them."""

    url: str
    rates: Mapping[str, float]
    answers: list[Answered] = field(default_factory=list)
    _idle: list[Wire] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """For the length of the block; what is under way at its end is waited for."""
        end = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            pace = group.create_task(self._pace(group, end))
            try:
                yield
            finally:
                end.set()
                await pace
        for wire in self._idle:
            wire.close()

    async def _pace(self, group: asyncio.TaskGroup, end: asyncio.Event) -> None:
        began = time.monotonic()
        sent = dict.fromkeys(self.rates, 0)
        while not end.is_set():
            past = time.monotonic() - began
            for host, rate in self.rates.items():
                while sent[host] < past * rate:
                    sent[host] += 1
                    group.create_task(self._one(host))
            await asyncio.sleep(TICK_SECONDS)

    async def _one(self, host: str) -> None:
        sent = time.time()
        try:
            wire = await self._wire()
            async with asyncio.timeout(LONGEST_SECONDS):
                raw = await wire.ask(f"GET /cart HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            self._idle.append(wire)
        except (TimeoutError, OSError) as error:
            said = f"{type(error).__name__}: {error}"
            self.answers.append(Answered(host, sent, time.time(), 0, said=said))
            return
        head = raw[: raw.find(b"\r\n\r\n")]
        told = {name.lower(): value.strip() for name, value in TOLD.findall(head.decode())}
        self.answers.append(
            Answered(
                host,
                sent,
                time.time(),
                int(head[9:12]),
                told.get("version", ""),
                told.get("track", ""),
                "injected" in told,
                told.get("gateway", ""),
            )
        )

    async def _wire(self) -> Wire:
        """A connection that nobody uses; the gateway keeps them for longer than any is idle."""
        while self._idle:
            wire = self._idle.pop()
            if wire.is_open:
                return wire
        host, _, port = self.url.removeprefix("http://").partition(":")
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(Wire, host, int(port))
        return made

    def rate(self) -> float:
        """Answers a second, from the first request to the last."""
        times = [one.sent for one in self.answers]
        return len(times) / (max(times) - min(times))

    def last_of(self, host: str, version: str) -> float:
        """When the last request that a version answered was sent."""
        return max(a.sent for a in self.answers if a.host == host and a.version == version)


@dataclass(frozen=True)
class Stage:
    """A stretch of time in which the canary had a weight (percent), and what it really got."""

    weight: float
    since: float
    requests: int
    canary: int

    @property
    def share(self) -> float:
        """Percent of the requests that the canary answered."""
        return 100 * self.canary / self.requests


def stages(
    answers: Iterable[Answered], host: str, history: Iterable[Mapping[str, object]], end: float
) -> list[Stage]:
    """What each weight that a gateway had in force came to; `history` is of the host's route."""
    weights: list[tuple[float, float]] = []
    for one in history:
        shares = one["shares"]
        assert isinstance(shares, dict)
        total = sum(shares.values())
        canary = sum(share for who, share in shares.items() if who.endswith("/canary"))
        weight = round(100 * canary / total)
        if not weights or weights[-1][1] != weight:
            at = datetime.fromisoformat(str(one["at"])).astimezone(UTC).timestamp()
            weights.append((at, weight))
    here = [one for one in answers if one.host == host]
    found = []
    for (since, weight), until in zip(weights, [*(at for at, _ in weights[1:]), end], strict=True):
        # A request that was on its way to the gateway as the weight changed belongs to neither.
        mine = [one for one in here if since <= one.sent and one.done < until]
        canary = sum(one.track == "canary" for one in mine)
        if mine:
            found.append(Stage(weight, since, len(mine), canary))
    return found
