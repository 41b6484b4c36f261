"""Real requests while weights shift: etcd, API server, Prometheus and Redis are the real ones, and
the world's gateway carries every request over sockets to a server of each version.

`checkout` gets a good version and walks to all the traffic, `basket` a bad one that goes back. No
request may fail of the shifting, the canary has to get the share that its weight says, and the bad
one has to lose its traffic within two scrapes of the evidence.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import pytest
import yaml

from tests.artifacts import keep
from tests.cluster.cluster import Cluster
from tests.e2e.api import FINAL, Api, Json, described
from tests.e2e.backing import asked, companion
from tests.e2e.github import merged, sha_of
from tests.e2e.load_traffic import Stage, Traffic, stages
from tests.e2e.policies import everyday_policy
from tests.e2e.real_cluster import Site, quick_services, site, spec
from tests.e2e.served import serving

pytestmark = pytest.mark.alone

SERVICES = ("checkout", "basket")
RATES = {
    "checkout.example": 320.0,
    "basket.example": 120.0,
    "checkout.staging.example": 45.0,
    "basket.staging.example": 45.0,
}
LEAST_RATE = 500.0
SCRAPE_SECONDS = 1.0
INTERVAL_SECONDS = 4.0
BAKES = {"staging": (8, ()), "prod": (8, (12, 8, 8))}
OBJECTIVE = 0.95
ERROR_RATE = 0.25
POINTS = 2.0
"""How far the measured share may be from the weight, in points."""
BAD = "1.1.0-bad"
GOOD = sha_of("a good version under load")
LONGEST_SECONDS = 150.0
"""For both stories, set-up apart. They take 65 on a quiet machine."""


@dataclass
class Told:
    """Both runs as they ended, the requests that were sent meanwhile, and what the gateway did."""

    runs: dict[str, Json]
    traffic: Traffic
    history: list[Json]
    scrapes: list[float]
    """When Prometheus scraped the bad version's counters."""
    ended: float

    def stages(self, service: str) -> list[Stage]:
        """What each weight came to in production."""
        mine = [
            one
            for one in self.history
            if (one["namespace"], one["route"]) == ("production", service)
        ]
        return stages(self.traffic.answers, f"{service}.example", mine, self.ended)


@pytest.fixture(scope="module")
async def told(
    tmp_path_factory: pytest.TempPathFactory,
    program: Callable[[str], str],
    cluster_here: None,
    unused_tcp_port_factory: Callable[[], int],
) -> Told:
    """The whole story, once; the tests look at what came of it."""
    folder = tmp_path_factory.mktemp("load")
    urls: dict[str, str] = {}

    async def plane(stack: contextlib.AsyncExitStack, cluster: Cluster) -> str:
        urls.update(await _gateway(stack, folder, cluster.kubeconfig))
        return urls["admin_url"]

    async with site(
        folder,
        SERVICES,
        program,
        unused_tcp_port_factory,
        plane,
        scrape=f"{SCRAPE_SECONDS:g}s",
    ) as place:
        place.settings["FERMATA_POLICY"] = str(everyday_policy(folder))
        place.settings["FERMATA_SERVICES"] = str(_services(folder))
        traffic = Traffic(urls["url"], RATES)
        async with serving(folder, settings=place.settings) as served:
            async with traffic.flowing(), asyncio.timeout(LONGEST_SECONDS):
                versions = {"checkout": GOOD, "basket": BAD}
                ends = await asyncio.gather(
                    *(_release(served.api, one, version) for one, version in versions.items())
                )
            ended = time.time()
        return Told(
            dict(zip(versions, ends, strict=True)),
            traffic,
            await _history(urls["admin_url"]),
            await _scrapes(place),
            ended,
        )


async def _gateway(
    stack: contextlib.AsyncExitStack, folder: Path, kubeconfig: Path
) -> dict[str, str]:
    """The world's gateway in a process of its own."""
    rules = [{"version": "*bad*", "namespace": "production", "error_rate": ERROR_RATE}]
    told = {
        "kubeconfig": str(kubeconfig),
        "seed": 7,
        "services": [dataclasses.asdict(spec(one)) for one in SERVICES],
        "scenario": {"error_rate": 0, "rules": rules},
    }
    said = await companion(stack, folder, "gateway", "evals.world.gateway_main", told)
    found: dict[str, str] = json.loads(said)
    return found


def _services(folder: Path) -> Path:
    """The example's catalogue, with windows of four scrapes and short bakes."""
    path = quick_services(folder, SERVICES)
    catalogue = yaml.safe_load(path.read_text())
    catalogue["defaults"]["interval"] = f"{INTERVAL_SECONDS:g}s"
    for sli in catalogue["defaults"]["slis"]:
        # A tenth of the traffic for some seconds has to be enough to tell.
        sli["objective"] = OBJECTIVE
    for service in catalogue["services"]:
        service["workload"]["share_wait"] = "2s"
        for environment in service["environments"]:
            bake, stage_bakes = BAKES[environment["name"]]
            environment["bake"] = f"{bake}s"
            for stage, seconds in zip(environment.get("canary", ()), stage_bakes, strict=True):
                stage["bake"] = f"{seconds}s"
    path.write_text(yaml.safe_dump(catalogue, sort_keys=False))
    return path


async def _release(api: Api, service: str, version: str) -> Json:
    run = await api.started("pull_request", merged(f"acme/{service}", 1, version))
    assert (await api.vote(await api.question(run, LONGEST_SECONDS))).status_code == 200
    while True:
        seen = await api.run(run)
        pending = [one["question"] for one in seen["approvals"] if one["state"] == "pending"]
        assert not pending, f"{pending}\n{described(seen)}"
        if seen["state"] in FINAL:
            return seen
        await asyncio.sleep(1)


async def _history(admin_url: str) -> list[Json]:
    async with httpx.AsyncClient(trust_env=False) as http:
        return list((await http.get(f"{admin_url}/world")).json()["history"])


async def _scrapes(place: Site) -> list[float]:
    labels = f'namespace="production",service="basket",version="{BAD}",code="500"'
    query = f"http_requests_total{{{labels}}}[10m]"
    (found,) = await asked(place.settings["PROMETHEUS_URL"], query)
    return [float(at) for at, _ in found["values"]]


async def test_no_request_fails_because_weights_shift(told: Told) -> None:
    assert told.runs["checkout"]["state"] == "succeeded", described(told.runs["checkout"])
    assert told.runs["basket"]["state"] == "rolled_back", described(told.runs["basket"])
    torn = [one for one in told.traffic.answers if one.torn]
    assert not torn, torn[:5]
    injected = [one for one in told.traffic.answers if one.injected]
    assert {(one.host, one.version) for one in injected} == {("basket.example", BAD)}
    assert told.traffic.rate() >= LEAST_RATE


async def test_the_canary_gets_the_share_that_its_weight_says(told: Told) -> None:
    found = told.stages("checkout")
    assert [one.weight for one in found] == [0, 10, 50, 100, 0]
    for one in found:
        assert one.requests >= 500
        assert one.share == pytest.approx(one.weight, abs=POINTS)
    assert [one.weight for one in told.stages("basket")] == [0, 10, 0]


async def test_a_bad_version_loses_its_traffic_within_two_scrapes_of_the_evidence(
    told: Told,
) -> None:
    way = _way_back(told)
    keep("load/table.txt", _table(told, way))
    assert way.confirmed - way.evidence <= 2 * SCRAPE_SECONDS


@dataclass(frozen=True)
class WayBack:
    """How the bad version lost its traffic. Unix seconds."""

    exposed: float
    """Its weight came into force."""
    evidence: float
    """The newest scrape of the window with which the judge had enough."""
    verdict: float
    written: float
    """Weight 0 is in the cluster."""
    in_force: float
    """The gateway has taken it over."""
    confirmed: float
    """And the last request that reached the bad version was sent."""


def _way_back(told: Told) -> WayBack:
    run = told.runs["basket"]
    failed = next(one for one in run["verdicts"] if one["verdict"]["kind"] == "fail")
    looks = [_unix(one["at"]) for one in run["verdicts"] if one["step_id"] == failed["step_id"]]
    # The n-th look is due at the end of the n-th window, and never comes before.
    began = min(at - n * INTERVAL_SECONDS for n, at in enumerate(looks, 1))
    verdict = _unix(failed["at"])
    due = began + (verdict - began) // INTERVAL_SECONDS * INTERVAL_SECONDS
    (shift,) = (one for one in run["effects"] if one["step_id"].endswith("rollback.weight"))
    _, at_ten, back = told.stages("basket")
    last = told.traffic.last_of("basket.example", BAD)
    return WayBack(
        exposed=at_ten.since,
        evidence=max(at for at in told.scrapes if at <= due),
        verdict=verdict,
        written=_unix(shift["finished_at"]),
        in_force=back.since,
        confirmed=max(back.since, last),
    )


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _table(told: Told, way: WayBack) -> str:
    """The figures, as they are printed and kept."""
    answers = told.traffic.answers
    lines = [
        f"{len(answers):,} requests, {told.traffic.rate():.0f} a second; "
        f"{sum(one.torn for one in answers)} failed of the shifting, "
        f"{sum(one.injected for one in answers)} failed by the bad version itself",
        "",
        f"{'service':<10}{'weight':>8}{'requests':>10}{'measured':>10}",
    ]
    for service in SERVICES:
        lines += [
            f"{service:<10}{one.weight:>7.0f}%{one.requests:>10,}{one.share:>9.2f}%"
            for one in told.stages(service)
        ]
    lines += ["", f"{'the way back of basket':<52}seconds"]
    for name, at in (
        ("weight 10 in force at the gateway", way.exposed),
        ("evidence: newest scrape of the deciding window", way.evidence),
        ("verdict", way.verdict),
        ("weight 0 written", way.written),
        ("weight 0 in force at the gateway", way.in_force),
        ("last request of the bad version", way.confirmed),
    ):
        lines.append(f"{name:<52}{at - way.evidence:+7.2f}")
    text = "\n".join(lines) + "\n"
    print(text)
    return text
