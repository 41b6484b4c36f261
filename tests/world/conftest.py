"""A small world on a clock that the test moves, and a client on the same event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from evals.world.clock import SteppedClock
from evals.world.seed import ServiceSpec
from evals.world.world import World

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock(START)


@pytest.fixture
def services() -> list[ServiceSpec]:
    return [ServiceSpec("web", "registry.example/web:1.0.0", default_rate=200.0)]


@pytest.fixture
async def world(clock: SteppedClock, services: list[ServiceSpec]) -> AsyncIterator[World]:
    made = World(7, clock, services)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    # Plain HTTP only; loading the certificates would cost more than most tests.
    async with httpx.AsyncClient(timeout=10, verify=False) as client:
        yield client


class Cluster:
    """Acts on the world as a release would, and lets the controllers come to rest."""

    def __init__(self, world: World, clock: SteppedClock, http: httpx.AsyncClient) -> None:
        self.world = world
        self.clock = clock
        self.http = http

    async def advance(self, seconds: float) -> None:
        """Move time and let everything happen that this makes due."""
        end = self.clock.now() + timedelta(seconds=seconds)
        while self.clock.now() < end:
            self.clock.advance(min(1.0, (end - self.clock.now()).total_seconds()))
            # Timers wake first, then the controllers work.
            for _ in range(5):
                await asyncio.sleep(0)
            await self.world.settle()

    async def patch(self, path: str, body: Any) -> dict[str, Any]:
        answer = await self.http.patch(
            f"{self.world.kubernetes_url}/{path}",
            content=json.dumps(body),
            headers={"Content-Type": "application/merge-patch+json"},
        )
        assert answer.status_code == 200, answer.text
        await self.world.settle()
        found: dict[str, Any] = answer.json()
        return found

    async def get(self, path: str) -> dict[str, Any]:
        answer = await self.http.get(f"{self.world.kubernetes_url}/{path}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def canary(self, version: str, replicas: int = 1, service: str = "web") -> None:
        """Create the canary Deployment of a version and wait until it had time to start."""
        labels = {"app": service, "fermata.dev/track": "canary"}
        container = {"name": service, "image": f"registry.example/{service}:{version}"}
        body = {
            "metadata": {"name": f"{service}-canary", "labels": labels},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }
        url = f"{self.world.kubernetes_url}/apis/apps/v1/namespaces/production/deployments"
        answer = await self.http.post(url, json=body)
        assert answer.status_code == 201, answer.text
        await self.world.settle()
        await self.advance(10)

    async def weights(self, stable: int, canary: int, service: str = "web") -> None:
        """Set the route's weights."""
        refs = [
            {"name": service, "port": 80, "weight": stable},
            {"name": f"{service}-canary", "port": 80, "weight": canary},
        ]
        await self.patch(ROUTES + service, {"spec": {"rules": [{"backendRefs": refs}]}})

    async def query(self, text: str) -> dict[tuple[str, ...], float]:
        """An instant query; values by the label values in the order of label names."""
        answer = await self.http.get(
            f"{self.world.prometheus_url}/api/v1/query", params={"query": text}
        )
        assert answer.status_code == 200, answer.text
        return {
            tuple(v for k, v in sorted(row["metric"].items()) if k != "__name__"): float(
                row["value"][1]
            )
            for row in answer.json()["data"]["result"]
        }


ROUTES = "apis/gateway.networking.k8s.io/v1/namespaces/production/httproutes/"
DEPLOYMENTS = "apis/apps/v1/namespaces/production/deployments/"


@pytest.fixture
def cluster(world: World, clock: SteppedClock, http: httpx.AsyncClient) -> Cluster:
    return Cluster(world, clock, http)
