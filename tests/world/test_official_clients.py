"""The clients that people use, against the world over real HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes import client, config, watch
from kubernetes.aio import client as aio_client
from kubernetes.aio import config as aio_config

from evals.world.clock import SteppedClock
from evals.world.remote import RemoteWorld
from evals.world.seed import ServiceSpec, apply_seed, seed_objects
from evals.world.world import World, in_thread
from tests.world.conftest import START

KUBECTL = shutil.which("kubectl")
SPEC = ServiceSpec(
    "web", "registry.example/web:1.0.0", {"staging": "web-staging", "production": "web-prod"}
)


@pytest.fixture
def apart() -> Iterator[World]:
    """A world on a thread of its own, for clients that block."""
    with in_thread(World(5, SteppedClock(START), [SPEC], token="t0ken")) as world:
        yield world


@pytest.fixture
def api(apart: World, tmp_path: Path) -> Iterator[client.ApiClient]:
    kubeconfig = apart.kubeconfig(tmp_path / "config")
    assert kubeconfig.stat().st_mode & 0o777 == 0o600
    load: Any = config.new_client_from_config
    with load(config_file=str(kubeconfig)) as made:
        yield made


def test_typed_client_reads_patches_and_meets_conflicts(api: client.ApiClient) -> None:
    apps: Any = client.AppsV1Api(api)
    found = apps.read_namespaced_deployment("web", "web-prod")
    assert found.status.available_replicas == 3
    stale = apps.read_namespaced_deployment("web", "web-prod")
    patched = apps.patch_namespaced_deployment("web", "web-prod", {"spec": {"replicas": 2}})
    assert patched.metadata.generation == 2
    stale.spec.replicas = 9
    with pytest.raises(client.ApiException) as caught:
        apps.replace_namespaced_deployment("web", "web-prod", stale)
    assert caught.value.status == 409
    assert json.loads(caught.value.body or "")["reason"] == "Conflict"
    with pytest.raises(client.ApiException) as caught:
        apps.read_namespaced_deployment("ghost", "web-prod")
    assert caught.value.status == 404
    core: Any = client.CoreV1Api(api)
    assert [n.metadata.name for n in core.list_namespace().items] == [
        "web-prod", "web-staging",
    ]  # fmt: skip


def test_custom_objects_client_sets_route_weights(api: client.ApiClient) -> None:
    custom: Any = client.CustomObjectsApi(api)
    where = ("gateway.networking.k8s.io", "v1", "web-prod", "httproutes", "web")
    route = custom.get_namespaced_custom_object(*where)
    route["spec"]["rules"][0]["backendRefs"][1]["weight"] = 10
    replaced = custom.replace_namespaced_custom_object(*where, route)
    assert replaced["metadata"]["generation"] == 2
    with pytest.raises(client.ApiException) as caught:
        custom.replace_namespaced_custom_object(*where, route)
    assert caught.value.status == 409


def test_watch_of_the_typed_client_follows(api: client.ApiClient) -> None:
    apps: Any = client.AppsV1Api(api)
    listed = apps.list_namespaced_deployment("web-prod")
    apps.patch_namespaced_deployment("web", "web-prod", {"metadata": {"labels": {"x": "y"}}})
    watcher: Any = watch.Watch()  # type: ignore[no-untyped-call]
    events = watcher.stream(
        apps.list_namespaced_deployment, "web-prod",
        resource_version=listed.metadata.resource_version, timeout_seconds=5,
    )  # fmt: skip
    event = next(iter(events))
    assert (event["type"], event["object"].metadata.labels["x"]) == ("MODIFIED", "y")


def test_wrong_token_is_unauthorized(apart: World) -> None:
    anonymous = client.ApiClient(client.Configuration(host=apart.kubernetes_url))
    with pytest.raises(client.ApiException) as caught:
        client.CoreV1Api(anonymous).list_namespace()
    assert caught.value.status == 401


def test_seed_can_be_applied_twice_through_the_client(api: client.ApiClient) -> None:
    other = ServiceSpec("pay", "registry.example/pay:1.0.0", {"production": "pay-prod"})
    apply_seed(api, [other])
    apply_seed(api, [other])
    apps: Any = client.AppsV1Api(api)
    found = apps.read_namespaced_deployment("pay", "pay-prod")
    assert found.metadata.generation == 1
    assert found.spec.selector.match_labels == {"app": "pay", "fermata.dev/track": "stable"}


def test_seed_keeps_the_tracks_apart() -> None:
    objects = seed_objects(SPEC)
    services = [o["spec"]["selector"] for o in objects if o["kind"] == "Service"]
    assert {s["fermata.dev/track"] for s in services} == {"stable", "canary"}
    (route, _) = [o for o in objects if o["kind"] == "HTTPRoute"]
    weights = {r["name"]: r["weight"] for r in route["spec"]["rules"][0]["backendRefs"]}
    assert weights == {"web": 100, "web-canary": 0}
    assert {o["metadata"]["labels"]["app.kubernetes.io/managed-by"] for o in objects} == {"fermata"}


async def test_asyncio_client(world: World, tmp_path: Path) -> None:
    path = str(world.kubeconfig(tmp_path / "config"))
    configuration = aio_client.Configuration()
    load: Any = aio_config.load_kube_config
    await load(config_file=path, client_configuration=configuration)
    async with aio_client.ApiClient(configuration) as made:
        apps: Any = aio_client.AppsV1Api(made)
        found = await apps.read_namespaced_deployment("web", "production")
        assert found.status.ready_replicas == 3
        scaled = await apps.patch_namespaced_deployment_scale(
            "web", "production", {"spec": {"replicas": 1}}
        )
        assert scaled.spec.replicas == 1


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is missing: put it on PATH")
async def test_kubectl(world: World, tmp_path: Path) -> None:
    path = world.kubeconfig(tmp_path / "config")

    async def kubectl(*arguments: str, stdin: str = "") -> str:
        process = await asyncio.create_subprocess_exec(
            str(KUBECTL), f"--cache-dir={tmp_path}", *arguments,
            env={**os.environ, "KUBECONFIG": str(path)}, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate(stdin.encode())
        assert process.returncode == 0, out.decode()
        return out.decode()

    shown = await kubectl("-n", "production", "get", "deploy", "web", "-o", "jsonpath={.status}")
    assert '"availableReplicas":3' in shown
    assert "web" in await kubectl("-n", "production", "get", "httproutes,pods")
    image = "web=registry.example/web:2.0.0"
    assert "image updated" in await kubectl("-n", "production", "set", "image", "deploy/web", image)
    extra = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "1"}}
    apply = ("-n", "production", "apply", "--server-side", "--validate=false", "-f", "-")
    assert "serverside-applied" in await kubectl(*apply, stdin=json.dumps(extra))
    assert "deleted" in await kubectl("-n", "production", "delete", "configmap", "x")


async def test_remote_world_reads_any_api_server_and_reports_on_routes(
    world: World, clock: SteppedClock, services: list[ServiceSpec], tmp_path: Path
) -> None:
    """The emulator stands in for the real server; its own gateway is switched off."""
    world.set_scenario(world.scenario.model_copy(update={"gateway_down": True}))
    remote = RemoteWorld(world.kubeconfig(tmp_path / "config"), 9, clock, services)
    await remote.start()
    async with httpx.AsyncClient(verify=False) as http:
        url = (
            f"{world.kubernetes_url}/apis/gateway.networking.k8s.io/v1/namespaces/production/"
            "httproutes/web"
        )
        route: dict[str, Any] = (await http.get(url)).json()
        route["spec"]["rules"][0]["backendRefs"][0]["weight"] = 70
        route["spec"]["rules"][0]["backendRefs"][1]["weight"] = 30
        assert (await http.put(url, json=route)).status_code == 200
        await remote.look()
        seen = (await http.get(url)).json()["status"]["parents"][0]["conditions"]
        assert {c["observedGeneration"] for c in seen} == {2}
        clock.advance(60)
        text = "sum by (code,track) (increase(http_requests_total[1m])) > 0"
        answer = await http.get(f"{remote.prometheus_url}/api/v1/query", params={"query": text})
        rows = {
            (r["metric"]["track"], r["metric"]["code"]): float(r["value"][1])
            for r in answer.json()["data"]["result"]
        }
        # There is no canary yet: its share of the requests finds no endpoint.
        share = rows["canary", "503"] / sum(rows.values())
        assert share == pytest.approx(0.3, abs=0.03)
        assert "http_requests_total" in (await http.get(f"{remote.url}/metrics")).text
        assert (await http.get(f"{remote.url}/world")).json()["cluster"] == "real"
    await remote.stop()


async def test_world_with_three_services_starts_at_once() -> None:
    specs = [ServiceSpec(n, f"registry.example/{n}:1") for n in ("web", "api", "pay")]
    start = time.perf_counter()
    world = World(1, SteppedClock(START), specs)
    await world.start()
    taken = time.perf_counter() - start
    await world.stop()
    assert taken < 1.0
