"""Releases through the whole house on Rollouts of a real Argo controller.

Three stories side by side on one worker, which is killed in mid-canary: `shop` gets a good version,
`cart` a bad one, and of `desk` Argo's own analysis cannot tell. Pods run no code: a stand-in for
Prometheus counts requests by the pods that the cluster has.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from evals.world.serving import LocalServer
from tests.contract.argo_bench import ANALYSED_STEPS, OURS, STEPS, Dial
from tests.contract.cluster_site import Obj, Site
from tests.e2e.api import Api, Json, assert_every_effect_was_decided
from tests.e2e.github import merged, sha_of
from tests.e2e.policies import everyday_policy
from tests.e2e.served import SECRET, serving, start

pytest_plugins = ("tests.contract.cluster_fixtures", "tests.contract.argo_fixtures")

SERVICES = ("shop", "cart", "desk")
GOOD = sha_of("a good version on a Rollout")
FIRST = "ghcr.io/acme/{}:1.0.0"
REQUESTS = 100_000
"""In a window, spread over the pods."""
LONG = 200.0
COUNT = re.compile(
    r'count\{what="(\w+)",namespace="([^"]+)",service="([^"]+)",version=(?:"([^"]*)"|~".*")'
)


@dataclass
class Counting:
    """Answers queries as Prometheus would, from the pods that there are."""

    site: Site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        form = await request.form() if request.method == "POST" else {}
        query = str(form.get("query") or request.query_params.get("query", ""))
        asked = COUNT.search(query)
        found = [] if asked is None else await self._counted(*asked.groups())
        data = {"resultType": "vector", "result": found}
        await JSONResponse({"status": "success", "data": data})(scope, receive, send)

    async def _counted(
        self, what: str, namespace: str, service: str, version: str | None
    ) -> list[Obj]:
        answer = await self.site.http.get(
            self.site.path("replicasets", namespace), params={"labelSelector": f"app={service}"}
        )
        pods: dict[str, int] = {}
        for one in answer.json()["items"]:
            image = one["spec"]["template"]["spec"]["containers"][0]["image"]
            tag = image.rpartition(":")[2]
            pods[tag] = pods.get(tag, 0) + (one.get("status", {}).get("availableReplicas") or 0)
        served = {
            tag: REQUESTS * count / sum(pods.values()) for tag, count in pods.items() if count
        }
        wanted = [tag for tag in served if version in (None, tag)]
        if not wanted:
            return []
        rate = {"total": 1.0, "bad": 0.001}[what]
        value = sum(
            served[tag] * (0.08 if what == "bad" and "bad" in tag else rate) for tag in wanted
        )
        return [{"metric": {}, "value": [0, str(round(value))]}]


@dataclass
class Place:
    """Where the Rollouts are, and what the house is told."""

    site: Site
    namespace: str
    settings: dict[str, str] = field(default_factory=dict)

    async def rollout(self, name: str) -> Obj:
        return await self.site.get("rollouts", self.namespace, name)

    async def image(self, name: str) -> str:
        (container,) = (await self.rollout(name))["spec"]["template"]["spec"]["containers"]
        return str(container["image"])


def rollout_of(name: str, steps: list[Obj]) -> Obj:
    pods = {"app": name}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": name, "labels": {**pods, **OURS}},
        "spec": {
            "replicas": 10,
            "selector": {"matchLabels": pods},
            "strategy": {"canary": {"steps": steps}},
            "template": {
                "metadata": {"labels": pods},
                "spec": {"containers": [{"name": name, "image": FIRST.format(name)}]},
            },
        },
    }


def catalogue(namespace: str) -> Obj:
    series = 'namespace="$namespace",service="$service",version="$version",window="$window"'
    sli = {
        "name": "errors",
        "kind": "errors",
        "objective": 0.99,
        "bad": f'count{{what="bad",{series}}}',
        "total": f'count{{what="total",{series}}}',
    }
    steps = [{"weight": weight, "bake": "3s"} for weight in (10, 50)]
    return {
        "version": 1,
        "defaults": {"interval": "1s", "replicas": 10, "slis": [sli]},
        "services": [
            {
                "name": name,
                "repo": f"acme/{name}",
                "image": f"ghcr.io/acme/{name}:{{sha}}",
                "workload": {"executor": "argo-rollouts"},
                "environments": [
                    {"name": "prod", "namespace": namespace, "bake": "2s", "canary": steps}
                ],
            }
            for name in SERVICES
        ],
    }


@pytest.fixture(scope="module")
async def place(argo_site: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("rollouts")
    made = Place(argo_site, await argo_site.namespace())
    prometheus, dial = LocalServer(Counting(argo_site)), Dial(value=0.03)
    analyses = LocalServer(dial)
    url = f"http://127.0.0.1:{await prometheus.start('127.0.0.1', 0)}"
    dial.url = f"http://127.0.0.1:{await analyses.start('127.0.0.1', 0)}/errors"
    await argo_site.create("analysistemplates", made.namespace, dial.template())
    for name in SERVICES:
        steps = ANALYSED_STEPS if name == "desk" else STEPS
        await argo_site.create("rollouts", made.namespace, rollout_of(name, steps))
    async with asyncio.timeout(60):
        for name in SERVICES:
            while (await made.rollout(name)).get("status", {}).get("phase") != "Healthy":  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    services = folder / "services.yaml"
    services.write_text(yaml.safe_dump(catalogue(made.namespace)))
    made.settings = {
        "KUBECONFIG": argo_site.kubeconfig(folder / "kubeconfig"),
        "PROMETHEUS_URL": url,
        "FERMATA_SERVICES": str(services),
        "FERMATA_POLICY": str(everyday_policy(folder)),
    }
    yield made
    await prometheus.stop()
    await analyses.stop()


async def _begin(api: Api, service: str, version: str) -> str:
    run = await api.started("pull_request", merged(f"acme/{service}", 1, version))
    assert (await api.vote(await api.question(run, LONG))).status_code == 200
    return run


@pytest.fixture(scope="module")
async def told(place: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    """How each story ended; its first worker is killed while `shop` is at 10%."""
    data = tmp_path_factory.mktemp("rollouts-data")
    settings = {**place.settings, "GITHUB_WEBHOOK_SECRET": SECRET, "FERMATA_DATA": str(data)}
    ends: dict[str, Json] = {}
    async with serving(data, "--workers", "0", settings=place.settings) as served:
        api = served.api
        first = await start(data / "first.log", "worker", **settings)
        try:
            versions = {"shop": GOOD, "cart": "1.1.0-bad", "desk": GOOD}
            runs = dict(
                zip(
                    versions,
                    await asyncio.gather(*(_begin(api, *one) for one in versions.items())),
                    strict=True,
                )
            )
            await api.until_step(runs["shop"], "shop/prod.canary-10.check", LONG)
            assert (await place.rollout("shop"))["status"]["currentStepIndex"] == 1
        finally:
            await first.kill()
        second = await start(data / "second.log", "worker", **settings)
        try:
            ends["shop"], ends["cart"] = await asyncio.gather(
                api.until_over(runs["shop"], LONG), api.until_over(runs["cart"], LONG)
            )
            # Nobody has answered for `desk`, and all the while nothing went back.
            ends["desk, asked"] = await api.until_state(runs["desk"], "needs_approval", LONG)
            assert await place.image("desk") == f"ghcr.io/acme/desk:{GOOD}"
            assert not (await place.rollout("desk"))["status"].get("abort")
            while (now := await api.run(runs["desk"]))["state"] not in ("succeeded", "failed"):
                if now["state"] == "needs_approval":
                    assert (await api.vote(await api.question(runs["desk"]))).status_code == 200
                await asyncio.sleep(0.2)
            ends["desk"] = now
        finally:
            await second.stop()
    return ends


async def test_a_worker_killed_in_mid_canary_changes_nothing_but_time(
    place: Place, told: dict[str, Json]
) -> None:
    run = told["shop"]
    assert run["state"] == "succeeded", run["reason"]
    assert await place.image("shop") == f"ghcr.io/acme/shop:{GOOD}"
    rollout = await place.rollout("shop")
    assert rollout["status"]["phase"] == "Healthy"
    assert rollout["spec"]["strategy"]["canary"]["steps"] == STEPS
    assert_every_effect_was_decided(run)


async def test_a_bad_version_goes_back_and_its_template_with_it(
    place: Place, told: dict[str, Json]
) -> None:
    run = told["cart"]
    assert run["state"] == "rolled_back", run["reason"]
    assert await place.image("cart") == FIRST.format("cart")
    rollout = await place.rollout("cart")
    assert rollout["status"]["phase"] == "Healthy"
    assert rollout["status"]["availableReplicas"] == 10
    assert_every_effect_was_decided(run)


async def test_what_argo_cannot_decide_is_asked_and_never_goes_back_by_itself(
    place: Place, told: dict[str, Json]
) -> None:
    assert "is inconclusive" in str(told["desk, asked"]["approvals"][-1]["question"])
    run = told["desk"]
    assert run["state"] == "succeeded", run["reason"]
    assert await place.image("desk") == f"ghcr.io/acme/desk:{GOOD}"
