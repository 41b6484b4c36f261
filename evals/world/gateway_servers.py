"""The programs behind the gateway: a real little HTTP server for each version of each service.

Pods of the cluster run no code; one server stands for all pods of a version, on a loopback port.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from starlette.types import Receive, Scope, Send

from evals.world.gateway_table import Backend
from evals.world.scenario import Scenario
from evals.world.serving import LocalServer

FAST_SECONDS = (0.001, 0.02)
SLOW_SECONDS = (0.35, 0.9)
KEEP_SECONDS = 300
"""How long an idle connection is kept: longer than the gateway keeps it, so that no request is sent
on a connection that is just being closed."""


class VersionServer:
    """ASGI app that behaves as the scenario says its version does. An error that it makes on
    purpose has the header `x-world-injected`."""

    def __init__(self, who: Backend, seed: int, scenario: Callable[[], Scenario]) -> None:
        self._who = who
        self._scenario = scenario
        self._rng = random.Random(f"{seed}/{who.namespace}/{who.service}/{who.version}/{who.track}")
        said = {
            "simulated": True, "service": who.service, "namespace": who.namespace,
            "version": who.version, "track": who.track,
        }  # fmt: skip
        self._body = json.dumps(said).encode() + b"\n"
        self._headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(self._body)).encode()),
            (b"x-world-version", who.version.encode()),
            (b"x-world-track", who.track.encode()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        who = self._who
        error, slow = self._scenario().behaviour(who.service, who.namespace, who.version, who.track)
        fails = self._rng.random() < error
        span = SLOW_SECONDS if self._rng.random() < slow else FAST_SECONDS
        while (await receive()).get("more_body"):
            pass
        await asyncio.sleep(self._rng.uniform(*span))
        headers = [*self._headers, (b"x-world-injected", b"error")] if fails else self._headers
        start = {"type": "http.response.start", "status": 500 if fails else 200}
        await send({**start, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})


@dataclass
class Running:
    """A server, where it listens, and how many requests are on their way to it."""

    server: LocalServer
    url: str
    busy: int = 0


@dataclass
class VersionServers:
    """The servers that are up. One that nothing leads to any more ends with its last request."""

    seed: int
    scenario: Callable[[], Scenario]
    running: dict[Backend, Running] = field(default_factory=dict)

    async def start(self, wanted: Iterable[Backend]) -> None:
        """Have a server for each of these."""
        for who in wanted:
            if who not in self.running:
                app = VersionServer(who, self.seed, self.scenario)
                server = LocalServer(app, keep_seconds=KEEP_SECONDS)
                port = await server.start("127.0.0.1", 0)
                self.running[who] = Running(server, f"http://127.0.0.1:{port}")

    async def retire(self, wanted: Iterable[Backend]) -> None:
        """Stop those that are neither wanted nor busy. No new request must lead to them."""
        kept = set(wanted)
        for who, one in list(self.running.items()):
            if who not in kept and not one.busy:
                del self.running[who]
                await one.server.stop()

    async def stop(self) -> None:
        """Stop all of them."""
        for who in list(self.running):
            await self.running.pop(who).server.stop()
