"""The contract on the emulator, and on the real API server where one has been built."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest

from evals.world.clock import WorldClock
from evals.world.scenario import Scenario
from evals.world.world import World
from tests.cluster.cluster import Cluster
from tests.world.kube import KubeTarget
from tests.world.kube_contract import KubeContract


@pytest.fixture(scope="module")
async def emulator() -> AsyncIterator[KubeTarget]:
    clock = WorldClock(datetime(2026, 1, 5, tzinfo=UTC), speed=10.0)
    world = World(1, clock, [], scenario=Scenario(startup_seconds=0.5), token="t0ken")
    await world.start()
    yield KubeTarget(world.kubernetes_url, "t0ken")
    await world.stop()


@pytest.fixture(scope="module")
def real_api_server(cluster_here: None) -> Iterator[KubeTarget]:
    with Cluster() as cluster:
        yield KubeTarget(cluster.url, cluster.token, cluster.ca)


class TestEmulator(KubeContract):
    @pytest.fixture
    def kube_api(self, emulator: KubeTarget) -> KubeTarget:
        return emulator


class TestRealApiServer(KubeContract):
    @pytest.fixture
    def kube_api(self, real_api_server: KubeTarget) -> KubeTarget:
        return real_api_server
