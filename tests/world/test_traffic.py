"""Where the requests go and how they end."""

from __future__ import annotations

import httpx
import pytest

from evals.world.clock import SteppedClock
from evals.world.scenario import Metering, Outage, Rule, Scenario
from evals.world.seed import ServiceSpec
from evals.world.world import World
from tests.world.conftest import START, Cluster

BY_TRACK = "sum by (track) (increase(http_requests_total[5m]))"
ERRORS = (
    'sum by (track) (increase(http_requests_total{code=~"5.."}[5m]))'
    " / sum by (track) (increase(http_requests_total[5m]))"
)


async def test_fresh_world_has_a_past(cluster: Cluster) -> None:
    found = await cluster.query("sum(increase(http_requests_total[10m]))")
    assert found[()] == pytest.approx(200 * 600, rel=0.02)
    assert await cluster.query("up") == {("fermata-world", "production", "web"): 1.0}


async def test_split_follows_the_accepted_weights(cluster: Cluster) -> None:
    await cluster.canary("2.0.0")
    await cluster.weights(90, 10)
    await cluster.advance(300)
    found = await cluster.query(BY_TRACK)
    share = found["canary",] / (found["canary",] + found["stable",])
    assert share == pytest.approx(0.10, abs=0.01)
    await cluster.weights(100, 0)
    await cluster.advance(305)
    assert (await cluster.query(BY_TRACK))["canary",] == 0


async def test_unaccepted_weights_do_not_move_traffic(world: World, cluster: Cluster) -> None:
    await cluster.canary("2.0.0")
    world.set_scenario(Scenario(gateway_down=True))
    await cluster.weights(0, 100)
    await cluster.advance(300)
    assert (await cluster.query(BY_TRACK))["canary",] == 0


async def test_data_plane_can_ignore_accepted_weights(world: World, cluster: Cluster) -> None:
    await cluster.canary("2.0.0")
    world.set_scenario(Scenario(ignored_routes=("web",)))
    await cluster.weights(50, 50)
    await cluster.advance(300)
    assert (await cluster.query(BY_TRACK))["canary",] == 0


async def test_bad_version_fails_where_it_serves(world: World, cluster: Cluster) -> None:
    world.set_scenario(Scenario(rules=(Rule(service="web", version="*bad*", error_rate=0.08),)))
    await cluster.canary("2.0.0-bad")
    await cluster.weights(75, 25)
    await cluster.advance(300)
    found = await cluster.query(ERRORS)
    assert found["canary",] == pytest.approx(0.08, abs=0.01)
    assert found["stable",] == pytest.approx(0.001, abs=0.001)


async def test_slow_version_shows_in_the_histogram(world: World, cluster: Cluster) -> None:
    world.set_scenario(Scenario(rules=(Rule(version="2.*", slow=0.4),)))
    await cluster.canary("2.0.0")
    await cluster.weights(50, 50)
    await cluster.advance(300)
    found = await cluster.query(
        '1 - sum by (track) (increase(http_request_duration_seconds_bucket{le="0.3"}[5m]))'
        " / sum by (track) (increase(http_request_duration_seconds_count[5m]))"
    )
    assert found["canary",] == pytest.approx(0.4, abs=0.02)
    assert found["stable",] == pytest.approx(0.01, abs=0.005)


async def test_outage_is_shared_by_both_versions(world: World, cluster: Cluster) -> None:
    await cluster.canary("2.0.0")
    await cluster.weights(50, 50)
    world.set_scenario(Scenario(outages=(Outage(error_rate=0.2),)))
    await cluster.advance(300)
    found = await cluster.query(ERRORS)
    assert found["canary",] == pytest.approx(0.2, abs=0.03)
    assert found["stable",] == pytest.approx(0.2, abs=0.03)


async def test_weight_on_a_canary_without_endpoints_gives_503(cluster: Cluster) -> None:
    await cluster.canary("2.0.0-crash")
    await cluster.weights(80, 20)
    await cluster.advance(300)
    found = await cluster.query("sum by (code, track) (increase(http_requests_total[5m]))")
    total = sum(found.values())
    assert found["503", "canary"] / total == pytest.approx(0.2, abs=0.02)
    assert found["200", "canary"] == 0


async def test_without_a_route_ready_replicas_split_the_service(cluster: Cluster) -> None:
    url = cluster.world.kubernetes_url
    gone = await cluster.http.delete(
        f"{url}/apis/gateway.networking.k8s.io/v1/namespaces/production/httproutes/web"
    )
    assert gone.status_code == 200
    await cluster.patch(
        "api/v1/namespaces/production/services/web",
        {"spec": {"selector": {"app": "web", "fermata.dev/track": None}}},
    )
    await cluster.canary("2.0.0", replicas=1)
    await cluster.advance(300)
    found = await cluster.query(BY_TRACK)
    share = found["canary",] / (found["canary",] + found["stable",])
    assert share == pytest.approx(0.25, abs=0.02)


async def test_version_that_is_gone_is_stale_and_starts_again_from_zero(cluster: Cluster) -> None:
    path = "apis/apps/v1/namespaces/production/deployments/web-canary"
    await cluster.canary("2.0.0")
    await cluster.weights(50, 50)
    await cluster.advance(60)
    await cluster.weights(100, 0)
    await cluster.http.delete(f"{cluster.world.kubernetes_url}/{path}")
    await cluster.world.settle()
    await cluster.advance(10)
    assert ("canary",) not in await cluster.query("sum by (track) (http_requests_total)")
    await cluster.canary("2.0.0")
    assert (await cluster.query("sum by (track) (http_requests_total)"))["canary",] == 0


async def test_same_seed_and_history_give_the_same_counters(http: httpx.AsyncClient) -> None:
    seen = []
    for seed in (3, 3, 4):
        clock = SteppedClock(START)
        world = World(seed, clock, [ServiceSpec("web", "registry.example/web:1")])
        await world.start()
        clock.advance(600)
        seen.append((await http.get(f"{world.url}/metrics")).text)
        await world.stop()
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


async def test_old_samples_are_kept_for_hours_and_then_forgotten(
    world: World, cluster: Cluster, clock: SteppedClock
) -> None:
    clock.advance(10 * 3600)
    found = await cluster.query("sum(increase(http_requests_total[5h]))")
    assert found[()] == pytest.approx(200 * 5 * 3600, rel=0.01)
    oldest = min(series.times[0] for series in world.traffic.series.all())
    assert clock.now().timestamp() - oldest <= 6.7 * 3600


async def test_no_data_nan_and_duplicates(world: World, cluster: Cluster) -> None:
    text = 'sum by (version) (http_requests_total{code="200"})'
    before = await cluster.query(text)
    world.set_scenario(Scenario(metrics=Metering(no_data=True)))
    assert await cluster.query(text) == {}
    world.set_scenario(Scenario(metrics=Metering(nan=True)))
    assert str((await cluster.query(text))["1.0.0",]) == "nan"
    world.set_scenario(Scenario(metrics=Metering(duplicates=True)))
    assert (await cluster.query(text))["1.0.0",] == 2 * before["1.0.0",]
    assert len(await cluster.query('http_requests_total{code="200"}')) == 2
    world.set_scenario(Scenario())
    assert await cluster.query(text) == before


async def test_metrics_can_be_down(world: World, http: httpx.AsyncClient) -> None:
    world.set_scenario(Scenario(metrics=Metering(down=True)))
    for url in (f"{world.prometheus_url}/api/v1/query?query=up", f"{world.url}/metrics"):
        assert (await http.get(url)).status_code == 503


async def test_scrape_gap_stays_in_the_history(world: World, cluster: Cluster) -> None:
    world.set_scenario(Scenario(metrics=Metering(scrape_gap=True)))
    await cluster.advance(400)
    assert await cluster.query("sum(increase(http_requests_total[5m]))") == {}
    world.set_scenario(Scenario())
    await cluster.advance(60)
    (count,) = (await cluster.query("count_over_time(up[10m])")).values()
    assert count < 50
