"""The gateway's data plane: an ASGI app that passes each request on to whose turn it is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import Receive, Scope, Send
from yarl import URL

from evals.world.gateway_servers import VersionServers
from evals.world.gateway_table import Asked, Backend, Table
from evals.world.traffic import BUCKETS, DURATION, REQUESTS

LABELS = ("namespace", "service", "version", "track", "code")
NAME = b"fermata-simulated-gateway"
HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te",
     b"trailer", b"transfer-encoding", b"upgrade")
)  # fmt: skip
OURS = HOP_BY_HOP | {b"date", b"server"}
"""Headers of an answer that are the gateway's own to set."""
SAID = [(b"via", b"1.1 " + NAME), (b"x-fermata-simulated", b"true")]
KEEP_SECONDS = 60.0
LONGEST_SECONDS = 60.0
EXPORTED = ("200", "500")
"""Codes whose counters exist from the first moment of a version on, as `increase()` needs it."""


@dataclass
class Meters:
    """What the gateway counts, by namespace, service, version, track and code."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self._requests = Counter(REQUESTS, "Requests answered", LABELS, registry=self.registry)
        bounds = tuple(float(one) for one in BUCKETS)
        self._duration = Histogram(
            DURATION, "Seconds to the last byte", LABELS, buckets=bounds, registry=self.registry
        )

    def know(self, who: Backend) -> None:
        """Export a version's counters from zero."""
        for code in EXPORTED:
            labels = (who.namespace, who.service, who.version, who.track, code)
            self._requests.labels(*labels)
            self._duration.labels(*labels)

    def count(self, who: Backend, code: int, seconds: float) -> None:
        """One request was answered."""
        labels = (who.namespace, who.service, who.version, who.track, str(code))
        self._requests.labels(*labels).inc()
        self._duration.labels(*labels).observe(seconds)


class Proxy:
    """Looks the table up once per request: a new table changes nothing for those under way.

    Answers 404 where no rule fits, 503 for a Service without a ready pod, 500 where there is no
    such Service or all weights are 0, as the Gateway API wants it, and 502 when a backend does not
    answer. Its own answers have the header `x-world-gateway`. Open it before use.
    """

    def __init__(self, table: Callable[[], Table], servers: VersionServers, meters: Meters) -> None:
        self._table = table
        self._servers = servers
        self._meters = meters
        self._client: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool of connections to the backends."""
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_SECONDS),
            timeout=aiohttp.ClientTimeout(total=LONGEST_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        headers = {
            name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]
        }
        asked = Asked(
            scope["method"], headers.get("host", ""), scope["path"],
            scope["query_string"].decode("latin-1"), headers,
        )  # fmt: skip
        wheel = self._table().wheel(asked)
        if wheel is None:
            await _answer(send, 404, "no rule of any HTTPRoute fits")
            return
        who = wheel.turn()
        if who is None:
            await _answer(send, 500, "all weights of the rule are 0")
        elif who.outcome == "served":
            code = await self._pass_on(who, scope, receive, send)
            self._meters.count(who, code, time.perf_counter() - began)
        else:
            code = 503 if who.outcome == "unavailable" else 500
            await _answer(send, code, f"the backend is {who.outcome}")
            self._meters.count(who, code, time.perf_counter() - began)

    async def _pass_on(self, who: Backend, scope: Scope, receive: Receive, send: Send) -> int:
        assert self._client is not None
        running = self._servers.running.get(who)
        if running is None:
            await _answer(send, 503, "the backend has just gone")
            return 503
        running.busy += 1
        begun = False
        try:
            path = scope["raw_path"].decode("latin-1")
            query = scope["query_string"].decode("latin-1")
            async with self._client.request(
                scope["method"],
                URL(running.url + path + (f"?{query}" if query else ""), encoded=True),
                headers=[
                    (n.decode("latin-1"), v.decode("latin-1"))
                    for n, v in scope["headers"]
                    if n not in HOP_BY_HOP
                ],
                data=_body(receive) if _has_body(scope) else None,
                allow_redirects=False,
            ) as answer:
                begun = True
                passed = [(n, v) for n, v in answer.raw_headers if n.lower() not in OURS]
                start = {"type": "http.response.start", "status": answer.status}
                await send({**start, "headers": [*passed, *SAID]})
                async for piece in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if begun:
                # The caller has part of an answer; only hanging up tells that it is not whole.
                raise
            await _answer(send, 502, f"the backend did not answer: {type(error).__name__}")
            return 502
        finally:
            running.busy -= 1


def _has_body(scope: Scope) -> bool:
    return any(
        (n == b"content-length" and v != b"0") or n == b"transfer-encoding"
        for n, v in scope["headers"]
    )


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if piece := message.get("body"):
            yield piece
        if not message.get("more_body"):
            return


async def _answer(send: Send, code: int, reason: str) -> None:
    body = f"{NAME.decode()}: {reason}\n".encode()
    headers = [
        (b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode()),
        (b"x-world-gateway", reason.encode()), *SAID,
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body})
