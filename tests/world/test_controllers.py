"""Deployments, pods, routes and budgets on a clock that stands still between steps."""

from __future__ import annotations

import pytest

from evals.world.scenario import Scenario
from evals.world.world import World
from tests.world.conftest import DEPLOYMENTS, ROUTES, Cluster
from tests.world.kube import conditions


def image(version: str) -> dict[str, object]:
    containers = [{"name": "web", "image": f"registry.example/web:{version}"}]
    return {"spec": {"template": {"spec": {"containers": containers}}}}


async def test_fresh_world_is_ready_and_routed(cluster: Cluster) -> None:
    stable = await cluster.get(DEPLOYMENTS + "web")
    assert stable["status"]["availableReplicas"] == 3
    (parent,) = (await cluster.get(ROUTES + "web"))["status"]["parents"]
    found = {c["type"]: (c["status"], c["observedGeneration"]) for c in parent["conditions"]}
    assert found == {"Accepted": ("True", 1), "ResolvedRefs": ("True", 1)}


async def test_pods_take_the_scenario_start_up_time(cluster: Cluster) -> None:
    await cluster.canary("2.0.0")
    await cluster.patch(DEPLOYMENTS + "web-canary", {"spec": {"replicas": 2}})
    await cluster.advance(4)
    assert (await cluster.get(DEPLOYMENTS + "web-canary"))["status"]["readyReplicas"] == 1
    await cluster.advance(2)
    assert (await cluster.get(DEPLOYMENTS + "web-canary"))["status"]["readyReplicas"] == 2


async def test_rolling_update_stays_within_surge_and_unavailable(cluster: Cluster) -> None:
    await cluster.patch(DEPLOYMENTS + "web", image("2.0.0"))
    for _ in range(20):
        await cluster.advance(1)
        status = (await cluster.get(DEPLOYMENTS + "web"))["status"]
        assert status["replicas"] <= 4
        assert status["availableReplicas"] >= 3
    assert status["updatedReplicas"] == status["replicas"] == 3


async def test_crash_looping_image_exceeds_the_progress_deadline(cluster: Cluster) -> None:
    await cluster.patch(DEPLOYMENTS + "web", {"spec": {"progressDeadlineSeconds": 30}})
    await cluster.patch(DEPLOYMENTS + "web", image("2.0.0-crash"))
    await cluster.advance(20)
    found = conditions(await cluster.get(DEPLOYMENTS + "web"))
    assert found["Progressing"]["reason"] == "ReplicaSetUpdated"
    await cluster.advance(15)
    live = await cluster.get(DEPLOYMENTS + "web")
    assert conditions(live)["Progressing"]["reason"] == "ProgressDeadlineExceeded"
    assert live["status"]["availableReplicas"] == 3
    pods = await cluster.get("api/v1/namespaces/production/pods")
    waiting = [
        p["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
        for p in pods["items"]
        if p["spec"]["containers"][0]["image"].endswith("crash")
    ]
    assert waiting == ["CrashLoopBackOff"]


async def test_pause_longer_than_the_deadline_is_not_a_stall(cluster: Cluster) -> None:
    await cluster.patch(DEPLOYMENTS + "web", {"spec": {"progressDeadlineSeconds": 10}})
    await cluster.patch(DEPLOYMENTS + "web", {"spec": {"paused": True}})
    await cluster.patch(DEPLOYMENTS + "web", image("2.0.0"))
    await cluster.advance(60)
    found = conditions(await cluster.get(DEPLOYMENTS + "web"))
    assert found["Progressing"]["reason"] == "DeploymentPaused"
    await cluster.patch(DEPLOYMENTS + "web", {"spec": {"paused": False}})
    found = conditions(await cluster.get(DEPLOYMENTS + "web"))
    assert found["Progressing"]["reason"] == "ReplicaSetUpdated"


async def test_running_version_can_begin_to_crash_and_recover(
    world: World, cluster: Cluster
) -> None:
    world.set_scenario(Scenario(crash=("1.0.0",)))
    await world.settle()
    status = (await cluster.get(DEPLOYMENTS + "web"))["status"]
    assert status["unavailableReplicas"] == 3
    world.set_scenario(Scenario())
    await world.settle()
    await cluster.advance(6)
    assert (await cluster.get(DEPLOYMENTS + "web"))["status"]["availableReplicas"] == 3


async def test_missing_backend_is_reported_and_heals(cluster: Cluster) -> None:
    services = f"{cluster.world.kubernetes_url}/api/v1/namespaces/production/services"
    kept = (await cluster.http.get(f"{services}/web-canary")).json()
    await cluster.http.delete(f"{services}/web-canary")
    await cluster.world.settle()

    async def resolved() -> tuple[str, str]:
        (parent,) = (await cluster.get(ROUTES + "web"))["status"]["parents"]
        found = {c["type"]: c for c in parent["conditions"]}
        assert found["Accepted"]["status"] == "True"
        return found["ResolvedRefs"]["status"], found["ResolvedRefs"]["reason"]

    assert await resolved() == ("False", "BackendNotFound")
    body = {"metadata": {"name": "web-canary"}, "spec": {"ports": kept["spec"]["ports"]}}
    assert (await cluster.http.post(services, json=body)).status_code == 201
    await cluster.world.settle()
    assert await resolved() == ("True", "ResolvedRefs")


async def test_absent_gateway_leaves_a_stale_generation(world: World, cluster: Cluster) -> None:
    world.set_scenario(Scenario(gateway_down=True))
    await cluster.weights(90, 10)
    route = await cluster.get(ROUTES + "web")
    seen = route["status"]["parents"][0]["conditions"][0]["observedGeneration"]
    assert (route["metadata"]["generation"], seen) == (2, 1)
    world.set_scenario(Scenario())
    await world.settle()
    route = await cluster.get(ROUTES + "web")
    assert route["status"]["parents"][0]["conditions"][0]["observedGeneration"] == 2


async def test_budget_counts_healthy_pods(cluster: Cluster) -> None:
    url = f"{cluster.world.kubernetes_url}/apis/policy/v1/namespaces/production"
    spec = {"selector": {"matchLabels": {"app": "web"}}, "minAvailable": "60%"}
    body = {"metadata": {"name": "web"}, "spec": spec}
    await cluster.http.post(f"{url}/poddisruptionbudgets", json=body)
    await cluster.world.settle()
    status = (await cluster.http.get(f"{url}/poddisruptionbudgets/web")).json()["status"]
    assert (status["expectedPods"], status["desiredHealthy"], status["disruptionsAllowed"]) == (
        3, 2, 1,
    )  # fmt: skip


@pytest.mark.parametrize("replicas", [0, 5])
async def test_scaling_is_followed_in_both_directions(cluster: Cluster, replicas: int) -> None:
    await cluster.patch(DEPLOYMENTS + "web", {"spec": {"replicas": replicas}})
    await cluster.advance(10)
    live = await cluster.get(DEPLOYMENTS + "web")
    assert live["status"].get("availableReplicas", 0) == replicas
    assert live["status"]["observedGeneration"] == live["metadata"]["generation"]
