"""Releases on a real Kubernetes control plane, judged by a real Prometheus, hinted through Redis.

The stories take real time, so they are told side by side, each on a service of its own:
`checkout` gets a good version, `basket` a bad one, `ledger` stands in somebody else's way, and
`search` loses its worker in mid-canary.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.api import Api, Json, assert_every_effect_was_decided, weights
from tests.e2e.github import merged, sha_of
from tests.e2e.policies import everyday_policy
from tests.e2e.real_cluster import EXAMPLES, FIRST_IMAGE, Site, manifests, site
from tests.e2e.served import SECRET, serving, start

RELEASE_SECONDS = 240.0
"""A release takes 70 seconds here; the machine may be busy."""
NEIGHBOUR = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: NAME
  namespace: production
  labels: {app: NAME, app.kubernetes.io/managed-by: Helm}
spec:
  replicas: 1
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec: {containers: [{name: ledger, image: "ghcr.io/neighbour/NAME:7"}]}
---
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: production, labels: {app: NAME}}
spec: {selector: {app: NAME}, ports: [{port: 80}]}
"""
SERVICES = ("checkout", "basket", "ledger", "search")
GOOD = sha_of("a good version on a real cluster")


@dataclass
class Stories:
    """Where they are told, and what becomes of each, by service."""

    api: Api
    told: dict[str, asyncio.Task[Json]]

    async def end_of(self, service: str) -> Json:
        """The run when it is over."""
        return await self.told[service]


@pytest.fixture(scope="module")
async def place(
    tmp_path_factory: pytest.TempPathFactory,
    program: Callable[[str], str],
    cluster_here: None,
    unused_tcp_port_factory: Callable[[], int],
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("real-cluster")
    async with site(
        folder, SERVICES, program, unused_tcp_port_factory, configured=("checkout",)
    ) as made:
        made.settings["FERMATA_POLICY"] = str(everyday_policy(folder))
        # Somebody else's objects: one minds its own business, one has the name of our canary.
        await asyncio.to_thread(_neighbours, made)
        yield made


def _neighbours(made: Site) -> None:
    made.cluster.kubectl("-n", "production", "delete", "service", "ledger-canary")
    for name in ("neighbour", "ledger-canary"):
        made.cluster.kubectl("apply", "-f", "-", stdin=NEIGHBOUR.replace("NAME", name))


@pytest.fixture(scope="module")
async def stories(place: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stories]:
    """All four, begun at once; each test waits for its own."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    async with serving(one, settings=place.settings) as served:
        await served.program.until_said(re.compile(r"kubernetes\s+real"))
        await served.program.until_said(re.compile(r"metrics\s+real"))
        await served.program.until_said(re.compile(r"queue\s+real\s+Redis"))
        api = served.api
        told = {
            "checkout": asyncio.create_task(_release(api, "checkout", GOOD)),
            "basket": asyncio.create_task(_release(api, "basket", "1.1.0-bad")),
            "ledger": asyncio.create_task(_release(api, "ledger", GOOD)),
            "search": asyncio.create_task(_release_with_a_crash(place, two)),
        }
        yield Stories(api, told)
        for task in told.values():
            task.cancel()
        await asyncio.gather(*told.values(), return_exceptions=True)


async def _release(api: Api, service: str, version: str) -> Json:
    payload = merged(f"acme/{service}", 1, version)
    run = await api.started("pull_request", payload)
    question = await api.question(run, RELEASE_SECONDS)
    assert (await api.vote(question)).status_code == 200
    return await api.until_over(run, RELEASE_SECONDS)


async def _release_with_a_crash(place: Site, data: Path) -> Json:
    """A house of its own, whose only worker is killed in mid-canary; then there is another."""
    settings = {
        **place.settings,
        "REDIS_URL": place.settings["REDIS_URL"].removesuffix("/0") + "/1",
    }
    async with serving(data, "--workers", "0", settings=settings) as served:
        told = {**settings, "GITHUB_WEBHOOK_SECRET": SECRET, "FERMATA_DATA": str(data)}
        first = await start(data / "first.log", "worker", **told)
        try:
            run = await served.api.started("pull_request", merged("acme/search", 1, GOOD))
            question = await served.api.question(run, RELEASE_SECONDS)
            assert (await served.api.vote(question)).status_code == 200
            await served.api.until_step(run, "search/prod.canary-10.check", RELEASE_SECONDS)
            assert place.weights("search") == {"search": 90, "search-canary": 10}
        finally:
            await first.kill()
        second = await start(data / "second.log", "worker", **told)
        try:
            over = await served.api.until_over(run, RELEASE_SECONDS)
        finally:
            await second.stop()
        return over


async def test_a_good_version_walks_to_all_the_traffic(place: Site, stories: Stories) -> None:
    run = await stories.end_of("checkout")
    assert run["state"] == "succeeded", run["reason"]
    assert not any(run["simulated"][one] for one in ("database", "queue", "kubernetes", "metrics"))
    assert place.journal.weights("checkout") == [0, 10, 50, 100, 0]
    assert weights(run) == [10, 50, 100, 0]
    image = f"ghcr.io/acme/checkout:{GOOD}"
    assert place.image("checkout") == place.image("checkout", "staging") == image
    assert place.weights("checkout") == {"checkout": 100, "checkout-canary": 0}
    assert place.replicas("checkout") == 4
    assert place.replicas("checkout-canary") == 0
    assert_every_effect_was_decided(run)


async def test_verdicts_rest_on_what_prometheus_counted(stories: Stories) -> None:
    run = await stories.end_of("checkout")
    checks = {
        one["step_id"].partition(".")[2]: one["verdict"]
        for one in run["verdicts"]
        if one["step_id"].startswith("checkout/prod.")
    }
    assert {one["kind"] for one in checks.values()} == {"pass"}
    at_ten = checks["canary-10.check"]
    assert at_ten["share"] == pytest.approx(0.1, abs=0.03)
    (metric,) = at_ten["metrics"]
    assert metric["canary_total"] > 500
    assert checks["canary-50.check"]["share"] == pytest.approx(0.5, abs=0.05)
    shares = {one["step_id"].partition("/prod.")[2]: one["verdict"] for one in run["shares"]}
    for step, share in (("canary-10", 0.1), ("canary-50", 0.5), ("canary-100", 1.0)):
        assert shares[f"{step}.weight"]["kind"] == "pass"
        assert shares[f"{step}.weight"]["share"] == pytest.approx(share, abs=0.05)
    assert "not measured: both tracks run" in shares["full.weight"]["reason"]


async def test_the_objects_say_which_run_and_step_made_them_so(
    place: Site, stories: Stories
) -> None:
    run = await stories.end_of("checkout")
    path = r"jsonpath={.metadata.annotations.fermata\.dev/run}"
    for kind in ("deployment", "httproute"):
        assert place.kubectl("-n", "production", "get", kind, "checkout", "-o", path) == run["id"]


async def test_a_version_runs_with_copies_of_its_configuration(
    place: Site, stories: Stories
) -> None:
    run = await stories.end_of("checkout")
    path = "jsonpath={.spec.template.spec.containers[0].env[*].valueFrom.*.name}"
    names = place.kubectl("-n", "production", "get", "deployment", "checkout", "-o", path).split()
    assert [one.rpartition("-")[0] for one in names] == ["checkout", "checkout-tokens"]
    for kind, name in zip(("configmap", "secret"), names, strict=True):
        told = place.kubectl("-n", "production", "get", kind, name, "-o", "json")
        copy = json.loads(told)
        assert copy["immutable"] is True
        assert copy["metadata"]["annotations"]["fermata.dev/run"] == run["id"]
    (tidy,) = [one for one in run["effects"] if one["step_id"] == "checkout/prod.full.prune"]
    assert tidy["state"] == "applied"


async def test_a_bad_version_goes_back_to_the_last_known_good(
    place: Site, stories: Stories
) -> None:
    run = await stories.end_of("basket")
    assert run["state"] == "rolled_back", run["reason"]
    assert place.journal.weights("basket") == [0, 10, 0]
    assert place.image("basket") == FIRST_IMAGE.format("basket")
    assert place.replicas("basket") == 4
    assert place.weights("basket") == {"basket": 100, "basket-canary": 0}
    assert place.replicas("basket-canary") == 0
    assert run["verdicts"][-1]["verdict"]["kind"] == "fail"
    gone = run["shares"][-1]
    assert gone["step_id"] == "basket/prod.rollback.weight"
    assert (gone["verdict"]["kind"], gone["verdict"]["share"]) == ("pass", 0)
    assert "basket/prod" in run["targets"]
    assert_every_effect_was_decided(run)


async def test_what_belongs_to_others_is_left_alone(place: Site, stories: Stories) -> None:
    run = await stories.end_of("ledger")
    assert run["state"] in ("failed", "rolled_back"), run["reason"]
    assert "production/ledger-canary is managed by Helm" in run["reason"]
    assert place.image("ledger-canary") == "ghcr.io/neighbour/ledger-canary:7"
    assert place.image("ledger") == FIRST_IMAGE.format("ledger")
    assert place.weights("ledger") == {"ledger": 100, "ledger-canary": 0}
    assert place.journal.weights("ledger") == [0]
    await asyncio.gather(*stories.told.values())
    ours = {
        *SERVICES,
        *(f"{one}-canary" for one in SERVICES if one != "ledger"),
    }
    written = {
        one["metadata"]["name"]
        for one in place.objects()
        if one["kind"] != "ConfigMap"
        for field in one["metadata"].get("managedFields", ())
        if field["manager"] == "fermata"
    }
    assert written <= ours
    assert {"checkout", "checkout-canary", "basket", "basket-canary"} <= written


async def test_a_plan_that_cannot_be_made_fails_at_once_and_says_why(
    place: Site, stories: Stories
) -> None:
    await stories.end_of("ledger")
    await asyncio.to_thread(
        place.kubectl, "-n", "production", "delete", "deployment", "ledger-canary"
    )
    odd = NEIGHBOUR.replace("NAME", "ledger-canary").replace("name: ledger,", "name: other,")
    await asyncio.to_thread(place.cluster.kubectl, "apply", "-f", "-", stdin=odd)
    payload = merged("acme/ledger", 2, sha_of("nobody can tell what runs there"))
    run = await stories.api.started("pull_request", payload)
    over = await stories.api.until_over(run, 30)
    assert over["state"] == "failed"
    assert "Deployment production/ledger-canary has no container 'ledger'" in over["reason"]
    assert "What would help" in over["reason"]


async def test_a_worker_killed_in_mid_canary_changes_nothing_but_time(
    place: Site, stories: Stories
) -> None:
    run = await stories.end_of("search")
    assert run["state"] == "succeeded", run["reason"]
    assert place.journal.weights("search") == [0, 10, 50, 100, 0]
    assert place.image("search") == f"ghcr.io/acme/search:{GOOD}"
    assert_every_effect_was_decided(run)
    assert all(one["tries"] == 1 for one in run["effects"])


def test_the_example_manifests_are_what_the_page_shows() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "real-cluster.md").read_text()
    for name in sorted(path.name for path in EXAMPLES.iterdir()):
        assert f"examples/real-cluster/{name}" in page
    assert "checkout" not in manifests("checkout.yaml", "basket")
