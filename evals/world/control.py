"""The world's own control API under `/world`: what it is, its scenario, faults and clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from evals.world.clock import SteppedClock
from evals.world.faults import FaultRule, Faults
from evals.world.scenario import Scenario


class Controlled(Protocol):
    """What the control API needs of a world."""

    faults: Faults
    scenario: Scenario
    clock: Any

    def info(self) -> dict[str, Any]:
        """Everything worth knowing, as JSON."""
        ...

    def set_scenario(self, scenario: Scenario) -> None:
        """Make it hold from now on."""
        ...

    def compact(self) -> None:
        """Forget old changes, so that old watches get 410."""
        ...


class ControlApp:
    """ASGI app. GET /world; GET, PUT, PATCH /world/scenario; GET, POST, DELETE /world/faults;
    POST /world/clock {"advance": seconds}; POST /world/compact. Bad input gets 400 {"error"}."""

    def __init__(self, world: Controlled) -> None:
        self._world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except (ValueError, ValidationError) as wrong:
            response = JSONResponse({"simulated": True, "error": str(wrong)}, 400)
        response.headers["X-Fermata-Simulated"] = "true"
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["path"].removeprefix("/world").strip("/")
        handlers: dict[tuple[str, str], Callable[[Any], Any]] = {
            ("GET", ""): lambda _: self._world.info(),
            ("GET", "scenario"): lambda _: self._world.scenario.model_dump(mode="json"),
            ("PUT", "scenario"): self._put,
            ("PATCH", "scenario"): self._patch,
            ("GET", "faults"): lambda _: [r.to_json() for r in self._world.faults.rules],
            ("POST", "faults"): self._add_faults,
            ("DELETE", "faults"): lambda _: self._world.faults.clear(),
            ("POST", "clock"): self._advance,
            ("POST", "compact"): lambda _: self._world.compact(),
        }
        handler = handlers.get((request.method, path))
        if handler is None:
            return JSONResponse({"simulated": True, "error": "no such control"}, 404)
        body = await request.json() if request.method in ("PUT", "PATCH", "POST") and (
            await request.body()
        ) else {}  # fmt: skip
        result = handler(body)
        return JSONResponse({"simulated": True} if result is None else result)

    def _put(self, body: Any) -> Any:
        self._world.set_scenario(Scenario.model_validate(body))
        return self._world.scenario.model_dump(mode="json")

    def _patch(self, body: Any) -> Any:
        """Top-level fields replace; `metrics` is merged field by field."""
        if not isinstance(body, dict):
            raise ValueError("the body must be an object")
        merged = self._world.scenario.model_dump(mode="json")
        metrics = {**merged["metrics"], **(body.get("metrics") or {})}
        return self._put({**merged, **body, "metrics": metrics})

    def _add_faults(self, body: Any) -> Any:
        raw = body if isinstance(body, list) else [body]
        if not all(isinstance(r, dict) for r in raw):
            raise ValueError("each fault must be an object")
        rules = [FaultRule.from_json(r) for r in raw]
        return [self._world.faults.add(rule).to_json() for rule in rules]

    def _advance(self, body: Any) -> Any:
        clock = self._world.clock
        if not isinstance(clock, SteppedClock):
            raise ValueError("this world's clock runs by itself and cannot be stepped")
        return {"simulated": True, "now": clock.advance(float(body["advance"])).isoformat()}
