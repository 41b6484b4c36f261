"""Fixtures of the cluster contract, as a pytest plugin: `bench` on each site there is.

Not a conftest, so that other contracts in this folder do not see them by accident.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.contract.cluster_bench import Bench, web_in
from tests.contract.cluster_site import Site, emulator, real
from tools.cluster_client import ClusterClient


@pytest.fixture(scope="session")
async def emulated_site() -> AsyncIterator[Site]:
    async with emulator() as site:
        yield site


@pytest.fixture(scope="session")
def real_cluster(cluster_here: None) -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
async def real_site(real_cluster: Cluster) -> AsyncIterator[Site]:
    async with real(real_cluster) as site:
        yield site


@pytest.fixture(params=["emulator", "real"])
def site(request: pytest.FixtureRequest) -> Site:
    name = "emulated_site" if request.param == "emulator" else "real_site"
    return request.getfixturevalue(name)  # type: ignore[no-any-return]


@pytest.fixture
async def bench(site: Site, tmp_path: Path) -> AsyncIterator[Bench]:
    target = web_in(await site.namespace())
    async with ClusterClient(site.kubeconfig(tmp_path / "kubeconfig"), timeout=5) as client:
        yield Bench(site, target, client)
    site.faults.clear()
    site.hush(False)
