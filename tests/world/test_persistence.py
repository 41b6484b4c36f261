"""A world that is stopped and started again on the same data."""

from __future__ import annotations

from pathlib import Path

import httpx

from evals.world.clock import SteppedClock
from evals.world.seed import ServiceSpec
from evals.world.world import World
from tests.world.conftest import START, Cluster
from tests.world.kube import config_map

SPEC = ServiceSpec("web", "registry.example/web:1.0.0")
MAPS = "/api/v1/namespaces/production/configmaps"


async def test_objects_and_versions_survive_a_restart(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    clock = SteppedClock(START)
    first = World(1, clock, [SPEC], tmp_path)
    await first.start()
    made = (await http.post(first.kubernetes_url + MAPS, json=config_map("one", a="1"))).json()
    route = "apis/gateway.networking.k8s.io/v1/namespaces/production/httproutes/web"
    await Cluster(first, clock, http).weights(90, 10)
    version = first.store.version
    await first.stop()

    second = World(1, clock, [SPEC], tmp_path)
    await second.start()
    await second.settle()
    assert (await http.get(f"{second.kubernetes_url}{MAPS}/one")).json() == made
    kept = (await http.get(f"{second.kubernetes_url}/{route}")).json()
    assert [r["weight"] for r in kept["spec"]["rules"][0]["backendRefs"]] == [90, 10]
    # Nothing was left to do, so nothing was written.
    assert second.store.version == version
    new = (await http.post(second.kubernetes_url + MAPS, json=config_map("two"))).json()
    assert int(new["metadata"]["resourceVersion"]) == version + 1
    assert new["metadata"]["uid"] != made["metadata"]["uid"]
    await second.stop()


async def test_rollout_goes_on_after_a_restart(tmp_path: Path, http: httpx.AsyncClient) -> None:
    clock = SteppedClock(START)
    first = World(1, clock, [SPEC], tmp_path)
    await first.start()
    path = "apis/apps/v1/namespaces/production/deployments/web"
    containers = [{"name": "web", "image": "registry.example/web:2.0.0"}]
    body = {"spec": {"template": {"spec": {"containers": containers}}}}
    await Cluster(first, clock, http).patch(path, body)
    await first.stop()

    second = World(1, clock, [SPEC], tmp_path)
    await second.start()
    cluster = Cluster(second, clock, http)
    await cluster.advance(30)
    status = (await cluster.get(path))["status"]
    assert status["updatedReplicas"] == status["availableReplicas"] == status["replicas"] == 3
    await second.stop()


async def test_watch_from_before_the_restart_is_gone(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    clock = SteppedClock(START)
    first = World(1, clock, [SPEC], tmp_path)
    await first.start()
    await http.post(first.kubernetes_url + MAPS, json=config_map("one"))
    await first.stop()
    second = World(1, clock, [SPEC], tmp_path)
    await second.start()
    query = {"watch": "true", "timeoutSeconds": "1", "resourceVersion": "1005"}
    text = (await http.get(second.kubernetes_url + MAPS, params=query)).text
    assert '"code":410' in text
    assert '"reason":"Expired"' in text
    query["resourceVersion"] = str(second.store.version)
    assert (await http.get(second.kubernetes_url + MAPS, params=query)).text == ""
    await second.stop()
