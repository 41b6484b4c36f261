"""Fixtures of the Argo Rollouts contract, as a pytest plugin: one controller for the session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from evals.world.serving import LocalServer
from tests.cluster.cluster import Cluster, available
from tests.contract.argo_bench import ArgoBench, Dial, rollout_in
from tests.contract.cluster_site import Site
from tools.cluster_client import ClusterClient


@pytest.fixture(scope="session")
def argo_site(request: pytest.FixtureRequest, lacks: Callable[[str, str], None]) -> Site:
    if available(rollouts=True) is not None:
        lacks("the test cluster's Argo Rollouts controller", "python -m tests.cluster build")
    cluster: Cluster = request.getfixturevalue("real_cluster")
    cluster.start_rollouts_controller()
    return request.getfixturevalue("real_site")  # type: ignore[no-any-return]


@pytest.fixture
async def argo(argo_site: Site, tmp_path: Path) -> AsyncIterator[ArgoBench]:
    target = rollout_in(await argo_site.namespace())
    async with ClusterClient(argo_site.kubeconfig(tmp_path / "kubeconfig"), timeout=5) as client:
        yield ArgoBench(argo_site, target, client)
    argo_site.faults.clear()


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    made = Dial()
    server = LocalServer(made)
    made.url = f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}/errors"
    yield made
    await server.stop()
