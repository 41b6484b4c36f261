"""The gateway that carries real requests, on the emulator's API."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from evals.world.gateway import Gateway
from evals.world.kube.kinds import Obj
from evals.world.scenario import Rule, Scenario
from evals.world.seed import ServiceSpec
from evals.world.world import World
from tests.world.conftest import ROUTES, Cluster

HOST = {"Host": "web.production.example"}
NO_FAULTS = Scenario(error_rate=0, slow=0)


@pytest.fixture
async def gateway(
    world: World, cluster: Cluster, services: list[ServiceSpec], tmp_path: Path
) -> AsyncIterator[Gateway]:
    """In front of version 1.0.0; the emulator's own gateway is switched off."""
    world.set_scenario(world.scenario.model_copy(update={"gateway_down": True}))
    await cluster.advance(10)
    made = Gateway(world.kubeconfig(tmp_path / "config"), 3, services, scenario=NO_FAULTS)
    await made.start()
    yield made
    await made.stop()


async def seen(http: httpx.AsyncClient, url: str, count: int) -> Counter[str]:
    """Who answered: `version/code`, or what the gateway itself had to say."""
    found: Counter[str] = Counter()
    for _ in range(count):
        answer = await http.get(f"{url}/cart?item=1", headers=HOST)
        own = answer.headers.get("x-world-gateway")
        found[own or f"{answer.headers['x-world-version']}/{answer.status_code}"] += 1
        assert answer.headers["x-fermata-simulated"] == "true"
    return found


async def conditions(cluster: Cluster) -> dict[str, Obj]:
    status = (await cluster.get(ROUTES + "web"))["status"]["parents"][0]
    return {one["type"]: one for one in status["conditions"]}


async def test_requests_are_split_by_weight_and_by_ready_pods(
    gateway: Gateway, cluster: Cluster, http: httpx.AsyncClient
) -> None:
    assert await seen(http, gateway.url, 10) == {"1.0.0/200": 10}
    await cluster.canary("1.1.0")
    await cluster.weights(75, 25)
    await gateway.look()
    assert await seen(http, gateway.url, 40) == {"1.0.0/200": 30, "1.1.0/200": 10}
    generation = (await cluster.get(ROUTES + "web"))["metadata"]["generation"]
    told = await conditions(cluster)
    assert {(k, c["status"], c["observedGeneration"]) for k, c in told.items()} == {
        ("Accepted", "True", generation),
        ("ResolvedRefs", "True", generation),
    }


async def test_what_a_gateway_answers_by_itself(
    gateway: Gateway, cluster: Cluster, http: httpx.AsyncClient
) -> None:
    other = await http.get(gateway.url, headers={"Host": "unknown.example"})
    assert other.status_code == 404
    await cluster.weights(0, 100)
    await gateway.look()
    assert await seen(http, gateway.url, 2) == {"the backend is unavailable": 2}
    await cluster.weights(0, 0)
    await gateway.look()
    assert await seen(http, gateway.url, 2) == {"all weights of the rule are 0": 2}
    refs = [{"name": "nobody", "port": 80}]
    await cluster.patch(ROUTES + "web", {"spec": {"rules": [{"backendRefs": refs}]}})
    await gateway.look()
    assert await seen(http, gateway.url, 2) == {"the backend is unresolved": 2}
    assert (await conditions(cluster))["ResolvedRefs"]["reason"] == "BackendNotFound"


async def test_a_change_is_followed_as_soon_as_it_is_made(
    gateway: Gateway, cluster: Cluster
) -> None:
    await cluster.weights(40, 60)
    async with asyncio.timeout(3):
        while gateway.history[-1]["shares"] != {"1.0.0/stable": 40, "unknown/canary": 60}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_route_that_cannot_be_done_is_refused_and_the_last_one_goes_on(
    gateway: Gateway, cluster: Cluster, http: httpx.AsyncClient
) -> None:
    refs = [{"name": "web-canary", "port": 80}]
    wrong = {"filters": [{"type": "RequestMirror"}], "backendRefs": refs}
    await cluster.patch(ROUTES + "web", {"spec": {"rules": [wrong]}})
    await gateway.look()
    told = (await conditions(cluster))["Accepted"]
    assert (told["status"], told["reason"]) == ("False", "UnsupportedValue")
    assert await seen(http, gateway.url, 2) == {"1.0.0/200": 2}


async def test_versions_behave_as_the_scenario_says_and_own_up_to_it(
    gateway: Gateway, cluster: Cluster, http: httpx.AsyncClient
) -> None:
    await cluster.canary("1.1.0-bad")
    await cluster.weights(50, 50)
    rules = (Rule(version="*bad*", error_rate=1.0),)
    told = NO_FAULTS.model_copy(update={"rules": rules}).model_dump(mode="json")
    answer = await http.put(f"{gateway.admin_url}/world/scenario", json=told)
    assert answer.status_code == 200
    await gateway.look()
    assert await seen(http, gateway.url, 10) == {"1.0.0/200": 5, "1.1.0-bad/500": 5}
    bad = [a for _ in range(2) if (a := await http.get(gateway.url, headers=HOST)).is_error]
    assert [one.headers["x-world-injected"] for one in bad] == ["error"]
    nonsense = await http.put(f"{gateway.admin_url}/world/scenario", json={"error_rate": 2})
    assert nonsense.status_code == 400


async def test_what_was_answered_is_exported_for_prometheus(
    gateway: Gateway, cluster: Cluster, http: httpx.AsyncClient
) -> None:
    await cluster.canary("1.1.0")
    await cluster.weights(80, 20)
    await gateway.look()
    await seen(http, gateway.url, 20)
    text = (await http.get(f"{gateway.admin_url}/metrics")).text
    labels = 'code="{}",namespace="production",service="web",track="{}",version="{}"'
    for version, track, count in (("1.0.0", "stable", 16), ("1.1.0", "canary", 4)):
        ours = labels.format(200, track, version)
        assert f"http_requests_total{{{ours}}} {count}.0" in text
        assert f"http_requests_total{{{labels.format(500, track, version)}}} 0.0" in text
        assert f"http_request_duration_seconds_count{{{ours}}} {count}.0" in text
        bucket = ours.replace(",namespace", ',le="0.3",namespace')
        assert f"http_request_duration_seconds_bucket{{{bucket}}} {count}.0" in text


async def test_bodies_pass_in_pieces_both_ways(gateway: Gateway) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x" * 10_000

    async with (
        aiohttp.ClientSession() as client,
        client.post(gateway.url, headers=HOST, data=pieces()) as answer,
    ):
        assert answer.status == 200
        assert (await answer.json())["version"] == "1.0.0"


async def test_no_request_fails_while_weights_and_versions_change(
    gateway: Gateway, cluster: Cluster
) -> None:
    await cluster.canary("1.1.0")
    found: Counter[tuple[str, int]] = Counter()
    async with sending(gateway.url, lambda version, code: found.update([(version, code)])):
        for weight in (10, 50, 100, 0, 30, 0):
            await cluster.weights(100 - weight, weight)
            await gateway.look()
            await asyncio.sleep(0.1)
        # The canary's last pod goes while requests that it has begun are under way.
        scale = {"spec": {"replicas": 0}}
        await cluster.patch("apis/apps/v1/namespaces/production/deployments/web-canary", scale)
        await cluster.advance(5)
        await gateway.look()
        await asyncio.sleep(0.1)
        await gateway.look()
    assert {code for _, code in found} == {200}
    assert found["1.1.0", 200] > 50
    info = gateway.admin_url + "/world"
    async with aiohttp.ClientSession() as client, client.get(info) as answer:
        told: dict[str, Any] = await answer.json()
    assert [one["version"] for one in told["servers"]] == ["1.0.0"]


@contextlib.asynccontextmanager
async def sending(url: str, heard: Callable[[str, int], None]) -> AsyncIterator[None]:
    """Requests without a pause over 20 connections, for the length of the block."""
    going = True

    async def one(client: aiohttp.ClientSession) -> None:
        while going:
            async with client.get(url, headers=HOST) as answer:
                await answer.read()
                heard(answer.headers.get("x-world-version", "gateway"), answer.status)

    async with aiohttp.ClientSession() as client:
        tasks = [asyncio.create_task(one(client)) for _ in range(20)]
        try:
            yield
        finally:
            going = False
            await asyncio.gather(*tasks)
