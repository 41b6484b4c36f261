"""Metrics over HTTP: the text format for a scraper, and Prometheus's query API.

Every answer says that it is simulated: in a header, and in the JSON's `warnings`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from evals.world.clock import Clock
from evals.world.promql.evaluate import LOOKBACK, Points, Sample, evaluate, evaluate_range
from evals.world.promql.parse import Matcher, PromQLError, Selector, parse, seconds, type_of
from evals.world.scenario import Scenario
from evals.world.traffic import DURATION, REQUESTS, Traffic

SIMULATED = {"X-Fermata-Simulated": "true"}
WARNING = "simulated: these samples come from Fermata's world, not from real traffic"
MAX_POINTS = 11_000
_EVERYTHING = (Matcher("__name__", "!=", ""),)


def number(value: float) -> str:
    """A sample value as Prometheus prints it: shortest digits, never an exponent."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


class PrometheusApp:
    """ASGI app: `/metrics`, `/api/v1/query`, `query_range`, `labels`, `label/<name>/values`,
    `series`, `/-/ready`, `/-/healthy`. Times default to the simulated now."""

    def __init__(self, traffic: Traffic, scenario: Callable[[], Scenario], clock: Clock) -> None:
        self._traffic = traffic
        self._scenario = scenario
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except PromQLError as wrong:
            code = 400 if wrong.kind == "bad_data" else 422
            body = {"status": "error", "errorType": wrong.kind, "error": str(wrong)}
            response = JSONResponse(body, code)
        response.headers.update(SIMULATED)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        if self._scenario().metrics.down:
            return PlainTextResponse("Service Unavailable", 503)
        if path in ("/-/ready", "/-/healthy"):
            return PlainTextResponse("Prometheus Server is Ready. (simulated)\n")
        params: dict[str, str] = dict(request.query_params)
        matches = request.query_params.getlist("match[]")
        if request.method == "POST":
            form = parse_qs((await request.body()).decode("utf-8", "replace"))
            params |= {name: values[-1] for name, values in form.items()}
            matches += form.get("match[]", [])
        elif request.method != "GET":
            return PlainTextResponse("Method Not Allowed", 405)
        self._traffic.catch_up()
        if path == "/metrics":
            text = self.exposition(timestamps=params.get("timestamps") == "1")
            return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
        if path == "/api/v1/query":
            return self._success(self._query(params))
        if path == "/api/v1/query_range":
            return self._success(self._query_range(params))
        if path == "/api/v1/labels":
            names = {k for labels in self._known(matches) for k in labels}
            return self._success(sorted(names))
        if path.startswith("/api/v1/label/") and path.endswith("/values"):
            label = path.split("/")[4]
            values = {labels[label] for labels in self._known(matches) if label in labels}
            return self._success(sorted(values))
        if path == "/api/v1/series":
            if not matches:
                raise PromQLError("no match[] parameter provided")
            return self._success(self._known(matches))
        if path == "/api/v1/status/buildinfo":
            return self._success({"version": "2.42.0+fermata-simulated"})
        return PlainTextResponse("404 page not found\n", 404)

    def _success(self, data: Any) -> Response:
        return JSONResponse({"status": "success", "data": data, "warnings": [WARNING]})

    # --- queries ---

    def _query(self, params: Mapping[str, str]) -> dict[str, Any]:
        at = self._time(params, "time", self._clock.now().timestamp())
        expr = _parsed(params)
        value = evaluate(expr, self._traffic, at)
        stamp = _stamp(at)
        if isinstance(value, float):
            return {"resultType": "scalar", "result": [stamp, number(value)]}
        if isinstance(value, str):
            return {"resultType": "string", "result": [stamp, value]}
        if type_of(expr) == "matrix":
            return {"resultType": "matrix", "result": _matrix(value)}
        result = [
            {"metric": dict(s.labels), "value": [stamp, number(s.value)]}
            for s in value
            if isinstance(s, Sample)
        ]
        return {"resultType": "vector", "result": result}

    def _query_range(self, params: Mapping[str, str]) -> dict[str, Any]:
        start, end = self._time(params, "start", None), self._time(params, "end", None)
        if end < start:
            raise PromQLError(
                'invalid parameter "end": end timestamp must not be before start time'
            )
        step = _duration(params, "step")
        if step <= 0:
            raise PromQLError(
                'invalid parameter "step": zero or negative query resolution step widths are not '
                "accepted. Try a positive integer"
            )
        if (end - start) / step > MAX_POINTS:
            raise PromQLError(
                "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the "
                "query resolution (?step=XX)"
            )
        rows = evaluate_range(_parsed(params), self._traffic, start, end, step)
        return {"resultType": "matrix", "result": _matrix(rows)}

    def _time(self, params: Mapping[str, str], name: str, default: float | None) -> float:
        text = params.get(name, "")
        if not text and default is not None:
            return default
        try:
            return round(float(text), 3)
        except ValueError:
            pass
        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            raise PromQLError(
                f'invalid parameter "{name}": cannot parse "{text}" to a valid timestamp'
            ) from None

    def _known(self, matches: list[str]) -> list[dict[str, str]]:
        end = self._clock.now().timestamp()
        out: dict[tuple[tuple[str, str], ...], None] = {}
        for text in matches or [""]:
            matchers: tuple[Matcher, ...] = _EVERYTHING
            if text:
                selector = parse(text)
                if not isinstance(selector, Selector) or selector.range is not None:
                    raise PromQLError(f'invalid parameter "match[]": not a selector: {text}')
                matchers = selector.matchers
            for labels, points in self._traffic.window(matchers, 0, end):
                if points:
                    out[labels] = None
        return [dict(labels) for labels in sorted(out)]

    # --- exposition ---

    def exposition(self, *, timestamps: bool = False) -> str:
        """The newest samples in the text format 0.0.4; with `timestamps`, in simulated time."""
        lines = [
            "# HELP fermata_simulated 1: all of this is simulated.",
            "# TYPE fermata_simulated gauge",
            "fermata_simulated 1",
        ]
        now = self._clock.now().timestamp()
        families = (
            (REQUESTS, "counter", "Simulated requests.", (REQUESTS,)),
            (
                DURATION, "histogram", "Simulated request durations in seconds.",
                tuple(f"{DURATION}_{part}" for part in ("bucket", "sum", "count")),
            ),
        )  # fmt: skip
        for family, kind, text, names in families:
            lines += [f"# HELP {family} {text}", f"# TYPE {family} {kind}"]
            for name in names:
                matcher = (Matcher("__name__", "=", name),)
                for labels, points in self._traffic.window(matcher, now - LOOKBACK, now):
                    if not points or points[-1][1] is None:
                        continue
                    pairs = ",".join(f'{k}="{v}"' for k, v in labels if k != "__name__")
                    stamp = f" {round(points[-1][0] * 1000)}" if timestamps else ""
                    lines.append(f"{name}{{{pairs}}} {number(points[-1][1])}{stamp}")
        return "\n".join(lines) + "\n"


def _stamp(at: float) -> float | int:
    rounded = round(at, 3)
    return int(rounded) if rounded.is_integer() else rounded


def _parsed(params: Mapping[str, str]) -> Any:
    try:
        return parse(params.get("query", ""))
    except PromQLError as wrong:
        raise PromQLError(f'invalid parameter "query": {wrong}', wrong.kind) from None


def _duration(params: Mapping[str, str], name: str) -> float:
    text = params.get(name, "")
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return seconds(text)
    except PromQLError:
        raise PromQLError(
            f'invalid parameter "{name}": cannot parse "{text}" to a valid duration'
        ) from None


def _matrix(rows: Any) -> list[dict[str, Any]]:
    return [
        {
            "metric": dict(row.labels),
            "values": [[_stamp(t), number(v)] for t, v in row.points],
        }
        for row in rows
        if isinstance(row, Points)
    ]
