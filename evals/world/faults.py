"""Faults on demand: an ASGI layer that answers wrongly, hangs, or cuts connections by rule."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evals.world.kube.errors import ApiError

_REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict",
    410: "Expired", 422: "Invalid", 429: "TooManyRequests", 500: "InternalError",
    503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip


@dataclass(slots=True)
class FaultRule:
    """One fault. `method` and `path` are regular expressions that must match in full / be found.

    `path` is searched in the path and query, e.g. `/deployments/web$`. `count` is how many matching
    requests it still hits; None means every one. The behaviour happens in this order: hang `hang`
    real seconds, then answer `status` (with `headers`, `reason`, `message`) without doing anything,
    or cut the connection `before` or `after` the request was applied. With neither status nor cut
    the request is served after the hang.
    """

    path: str
    method: str = ".*"
    count: int | None = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    message: str = "injected fault"
    hang: float = 0.0
    cut: Literal["before", "after"] | None = None
    hits: int = 0

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> FaultRule:
        """Build from the control API's JSON. Raises ValueError that names what is wrong."""
        unknown = set(raw) - set(cls.__dataclass_fields__)
        if unknown or "path" not in raw:
            raise ValueError(f"unknown fields {sorted(unknown)}" if unknown else "no path given")
        rule = cls(**raw)
        if rule.cut not in (None, "before", "after"):
            raise ValueError("cut must be 'before', 'after' or null")
        try:
            re.compile(rule.path)
            re.compile(rule.method)
        except re.error as broken:
            raise ValueError(f"not a regular expression: {broken}") from None
        return rule

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads, with the number of hits so far."""
        return asdict(self)

    def hits_request(self, method: str, target: str) -> bool:
        """Whether this rule is still armed and matches."""
        if self.count is not None and self.count <= 0:
            return False
        return bool(re.fullmatch(self.method, method) and re.search(self.path, target))


class Faults:
    """The list of rules; the first that matches a request is the one that acts."""

    def __init__(self) -> None:
        self.rules: list[FaultRule] = []

    def add(self, rule: FaultRule) -> FaultRule:
        """Arm a rule; keep the returned object to read its `hits`."""
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Disarm everything."""
        self.rules.clear()

    def take(self, method: str, target: str) -> FaultRule | None:
        """The rule that acts on this request, with its count used up by one."""
        for rule in self.rules:
            if rule.hits_request(method, target):
                rule.hits += 1
                if rule.count is not None:
                    rule.count -= 1
                return rule
        return None


class FaultLayer:
    """ASGI wrapper that applies `Faults` in front of an app.

    Must be the outermost layer under uvicorn: a cut aborts uvicorn's own transport, which no ASGI
    message can ask for.
    """

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        target = scope["path"] + (f"?{query}" if query else "")
        rule = self._faults.take(scope["method"], target)
        if rule is None:
            await self._app(scope, receive, send)
            return
        if rule.hang:
            await asyncio.sleep(rule.hang)
        if rule.status is not None:
            reason = rule.reason or _REASONS.get(rule.status, "")
            refusal = ApiError(rule.status, reason, rule.message)
            response = JSONResponse(refusal.status(), rule.status, rule.headers)
            await response(scope, receive, send)
        elif rule.cut == "before":
            await _abort(receive, send)
        elif rule.cut == "after":
            await self._apply_then_cut(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _apply_then_cut(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def swallow(message: Message) -> None:
            # The answer begins when the request has been applied; a watch would never end.
            if message["type"] == "http.response.start":
                await _abort(receive, send)

        await self._app(scope, receive, swallow)


async def _abort(receive: Receive, send: Send) -> None:
    """Reset the TCP connection without an answer, and wait until the server has noticed."""
    cycle = getattr(send, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if not isinstance(transport, asyncio.Transport):
        raise RuntimeError("connections can be cut only when served by uvicorn itself")
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
