"""Prometheus's query API, on loopback, with numbers that a test works out."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.servers.local import LocalServer
from tools.prometheus_joined import MARK

QUERY = re.compile(r'(bad|total)\{namespace="([^"]*)",version=~?"([^"]*)"\}\[(\d+)(ms|s)\]')


PART = re.compile(rf'label_replace\((.*?)\n, "{MARK}", "(\d+)", "", ""\)')


class ScriptedPrometheus(LocalServer):
    """Answers `bad{...}[w]` and `total{...}[w]`.

    `rates` gives, for a namespace and a version, requests a second and the share of bad ones; the
    version `.+` is all of them together.
    """

    def __init__(self, rates: Callable[[str, str], tuple[float, float]], *, seed: int = 7) -> None:
        super().__init__()
        self._rates = rates
        self._random = random.Random(seed)

    async def handle(self, request: web.Request, body: Any) -> web.Response:
        query = request.query.get("query", "")
        parts = [(one, {MARK: mark}) for one, mark in PART.findall(query)] or [(query, {})]
        asked = [(QUERY.fullmatch(one), labels) for one, labels in parts]
        if request.path != "/api/v1/query" or not all(one for one, _ in asked):
            self.wrong(f"{request.path}: {query}")
            return web.json_response({"status": "error", "errorType": "bad_data"}, status=400)
        result = [
            {"metric": labels, "value": [0, str(value)]}
            for one, labels in asked
            if one is not None and (value := self._value(one)) is not None
        ]
        data = {"resultType": "vector", "result": result}
        return web.json_response({"status": "success", "data": data})

    def _value(self, asked: re.Match[str]) -> int | None:
        what, namespace, version, number, unit = asked.groups()
        seconds = float(number) / (1000 if unit == "ms" else 1)
        rate, share = self._rates(namespace, version)
        mean = rate * seconds * (share if what == "bad" else 1.0)
        value = max(0.0, self._random.gauss(mean, mean**0.5))
        return round(value) if mean else None
