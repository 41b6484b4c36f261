"""Releases by the whole program through a delivery pipeline: one that is good, one that is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.api import Api, Json, assert_every_effect_was_decided, weights
from tests.e2e.github import merged, sha_of
from tests.e2e.policies import everyday_policy
from tests.e2e.served import serving
from tests.servers.cloud_deploy import CloudDeployServer
from tests.servers.prometheus import ScriptedPrometheus

PIPELINE = "projects/acme/locations/europe-west1/deliveryPipelines/shop"
FIRST, SECOND, THIRD = (sha_of(f"a version of the shop, number {n}") for n in (1, 2, 3))
SERVICES = """\
version: 1
defaults:
  interval: 500ms
  slis:
    - name: errors
      kind: errors
      objective: 99%
      bad: bad{namespace="$namespace",version="$version"}[$window]
      total: total{namespace="$namespace",version="$version"}[$window]
services:
  - name: shop
    repo: acme/shop
    image: registry.example/shop:{sha}
    workload:
      executor: cloud-deploy
      cloud_deploy:
        project: acme
        location: europe-west1
        pipeline: shop
        source: gs://acme-skaffold/shop/{version}.tar.gz
    environments:
      - {name: staging, namespace: staging, bake: 2s}
      - name: prod
        namespace: prod
        bake: 2s
        canary:
          - {weight: 10, bake: 6s}
          - {weight: 50, bake: 6s}
"""
REQUESTS_PER_SECOND = 20_000.0
BROKEN = {THIRD}


def image(version: str) -> str:
    return f"registry.example/shop:{version}"


@dataclass
class Shop:
    """The program, and the pipeline it works with."""

    api: Api
    cloud: CloudDeployServer

    async def released(self, number: int, version: str) -> Json:
        """The run of a merged change when it is over, with somebody's yes to production."""
        run = await self.api.started("pull_request", merged("acme/shop", number, version))
        answer = await self.api.vote(await self.api.question(run))
        assert answer.status_code == 200, answer.text
        return await self.api.until_over(run, 90)

    def runs(self, target: str) -> dict[str, float]:
        """The images on a target with their part of the traffic, those that have any."""
        return {key: part for key, part in self.cloud.shares(target).items() if part}


@pytest.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder: Path = tmp_path_factory.mktemp("cloud-deploy")
    (folder / "services.yaml").write_text(SERVICES)
    async with CloudDeployServer(token="", swift=True) as cloud:
        cloud.add_pipeline(PIPELINE, {"staging": [], "prod": [10, 50]})
        for target in ("staging", "prod"):
            cloud.deployed(PIPELINE, target, image(FIRST))

        def rates(namespace: str, version: str) -> tuple[float, float]:
            if version == ".+":
                return REQUESTS_PER_SECOND, 0.002
            part = cloud.shares(namespace).get(image(version), 0.0)
            return part * REQUESTS_PER_SECOND, 0.08 if is_bad(namespace, version) else 0.002

        def is_bad(namespace: str, version: str) -> bool:
            return namespace == "prod" and version in BROKEN

        async with ScriptedPrometheus(rates) as prometheus:
            settings = {
                "FERMATA_SERVICES": str(folder / "services.yaml"),
                "FERMATA_POLICY": str(everyday_policy(folder)),
                "CLOUD_DEPLOY_URL": cloud.url,
                "PROMETHEUS_URL": prometheus.url,
            }
            async with serving(folder, settings=settings) as served:
                yield Shop(served.api, cloud)


async def test_a_good_version_goes_through_the_pipeline_and_a_bad_one_comes_back(
    shop: Shop,
) -> None:
    ready = await shop.api.get("/readyz")
    (backend,) = [one for one in ready["backends"] if one["name"] == "cloud-deploy"]
    assert backend["mode"] == "real"

    good = await shop.released(1, SECOND)
    assert good["state"] == "succeeded", good["reason"]
    assert weights(good) == [10, 50, 0]
    assert shop.runs("prod") == {image(SECOND): 1.0}
    assert_every_effect_was_decided(good)

    bad = await shop.released(2, THIRD)
    assert bad["state"] == "rolled_back", bad["reason"]
    assert shop.runs("staging") == {image(THIRD): 1.0}
    assert shop.runs("prod") == {image(SECOND): 1.0}
    assert_every_effect_was_decided(bad)
    states = [one.state.name for one in shop.cloud.rollouts.values()]
    assert states.count("CANCELLED") == 1
