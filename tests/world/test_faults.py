"""Faults that strike between a client and the world."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from evals.world.faults import FaultRule
from evals.world.world import World
from tests.world.kube import config_map

MAPS = "/api/v1/namespaces/production/configmaps"


async def names(world: World, http: httpx.AsyncClient) -> set[str]:
    found = (await http.get(world.kubernetes_url + MAPS)).json()["items"]
    return {o["metadata"]["name"] for o in found}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "Unauthorized"), (403, "Forbidden"), (404, "NotFound"), (409, "Conflict"),
        (422, "Invalid"), (429, "TooManyRequests"), (500, "InternalError"),
    ],
)  # fmt: skip
async def test_status_is_answered_in_the_servers_shape_and_nothing_is_applied(
    world: World, http: httpx.AsyncClient, status: int, reason: str
) -> None:
    rule = FaultRule("configmaps", method="POST", status=status, headers={"Retry-After": "7"})
    world.faults.add(rule)
    answer = await http.post(world.kubernetes_url + MAPS, json=config_map("one"))
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert answer.json()["kind"] == "Status"
    assert answer.headers["Retry-After"] == "7"
    assert await names(world, http) == set()
    assert rule.hits == 1


async def test_rule_strikes_only_as_often_as_it_says(world: World, http: httpx.AsyncClient) -> None:
    world.faults.add(FaultRule("configmaps", method="GET", status=500, count=2))
    codes = [(await http.get(world.kubernetes_url + MAPS)).status_code for _ in range(3)]
    assert codes == [500, 500, 200]


async def test_cut_before_applies_nothing(world: World, http: httpx.AsyncClient) -> None:
    world.faults.add(FaultRule("configmaps", method="POST", cut="before"))
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await http.post(world.kubernetes_url + MAPS, json=config_map("one"))
    assert await names(world, http) == set()


async def test_cut_after_has_applied(world: World, http: httpx.AsyncClient) -> None:
    world.faults.add(FaultRule("configmaps", method="POST", cut="after"))
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await http.post(world.kubernetes_url + MAPS, json=config_map("one"))
    assert await names(world, http) == {"one"}


async def test_cut_watch_ends_with_an_error(world: World, http: httpx.AsyncClient) -> None:
    world.faults.add(FaultRule("watch=true", cut="after"))
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await http.get(world.kubernetes_url + MAPS + "?watch=true&resourceVersion=0")


async def test_hang_delays_and_then_serves(world: World, http: httpx.AsyncClient) -> None:
    world.faults.add(FaultRule("configmaps", hang=0.3))
    loop = asyncio.get_running_loop()
    start = loop.time()
    assert (await http.get(world.kubernetes_url + MAPS)).status_code == 200
    assert loop.time() - start >= 0.3


async def test_hang_can_outlast_a_client(world: World, http: httpx.AsyncClient) -> None:
    world.faults.add(FaultRule("/prometheus/", hang=0.5))
    with pytest.raises(httpx.ReadTimeout):
        await http.get(f"{world.prometheus_url}/api/v1/query?query=up", timeout=0.2)


async def test_control_api_sets_and_clears_faults(world: World, http: httpx.AsyncClient) -> None:
    url = f"{world.url}/world/faults"
    rule: dict[str, Any] = {"path": "/k8s/", "status": 503, "count": None}
    assert (await http.post(url, json=[rule])).status_code == 200
    assert (await http.get(world.kubernetes_url + MAPS)).status_code == 503
    (listed,) = (await http.get(url)).json()
    assert listed["hits"] == 1
    await http.delete(url)
    assert (await http.get(world.kubernetes_url + MAPS)).status_code == 200


@pytest.mark.parametrize(
    "wrong", [{"status": 500}, {"path": "("}, {"path": "x", "cut": "later"}, {"path": "x", "z": 1}]
)
async def test_bad_rule_is_refused(
    world: World, http: httpx.AsyncClient, wrong: dict[str, Any]
) -> None:
    answer = await http.post(f"{world.url}/world/faults", json=wrong)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert world.faults.rules == []


async def test_scenario_changes_through_the_control_api(
    world: World, http: httpx.AsyncClient
) -> None:
    url = f"{world.url}/world/scenario"
    patch = {"rules": [{"version": "*bad*", "error_rate": 0.5}], "metrics": {"nan": True}}
    assert (await http.patch(url, json=patch)).status_code == 200
    assert world.scenario.rules[0].error_rate == 0.5
    assert world.scenario.metrics.nan
    assert (await http.patch(url, json={"error_rate": 7})).status_code == 400
    assert (await http.get(url)).json()["error_rate"] == 0.001


async def test_control_api_tells_and_steps_the_clock(world: World, http: httpx.AsyncClient) -> None:
    before = (await http.get(f"{world.url}/world")).json()
    assert before["simulated"] is True
    assert before["services"][0]["name"] == "web"
    answer = await http.post(f"{world.url}/world/clock", json={"advance": 60})
    assert answer.json()["now"] == "2026-01-05T09:01:00+00:00"
    assert (await http.get(f"{world.url}/world/nothing")).status_code == 404
