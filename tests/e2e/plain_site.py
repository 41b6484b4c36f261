"""Many small services on one real control plane, for stories that are told side by side.

Production alone, and checks of a few seconds, made clear-cut by the number of requests: chance
decides none of them. The objects are those of `docs/real-cluster.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from evals.world.scenario import Rule, Scenario
from evals.world.seed import ServiceSpec
from tests.cluster.api import ApiError
from tests.cluster.cluster import Cluster
from tests.e2e.backing import Backing, asked, companion, prometheus, until
from tests.e2e.chronicle import WATCHED, Chronicle, chronicle
from tests.e2e.policies import everyday_policy
from tests.e2e.real_cluster import EXAMPLES, FIRST_IMAGE, account, manifests

Obj = dict[str, Any]
NAMESPACE = "production"
RATE = 20_000.0
"""Requests a second: 16,000 at 10% of the traffic within a check of 8 seconds."""
BAD_SHARE = 0.3
"""Of the requests to a version with `bad` in its name; a thousandth of them to any other one."""
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
ROUTES = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes"


@dataclass(frozen=True)
class Plain:
    """A service of a story: how it stands in the cluster, and how it is released."""

    name: str
    canary: Sequence[Obj] = ({"weight": 10, "bake": "8s"},)
    bake: str = "4s"
    interval: str = "2s"
    replicas: int = 4
    rate: float = RATE
    deadline: int = 600
    """Its progress deadline in seconds; ours is twice as long, and leaves pauses out."""
    recreate: bool = False
    """Its pods are replaced all at once, the old ones first."""
    watched: bool = True
    """Whether the gateway reports on its route by itself; where not, the test does."""

    @property
    def image(self) -> str:
        """What runs before the first release."""
        return FIRST_IMAGE.format(self.name)

    def objects(self) -> list[Obj]:
        """The example's objects of production, under the service's name."""
        texts = yaml.safe_load_all(manifests("checkout.yaml", self.name))
        found = [one for one in texts if one["metadata"]["namespace"] == NAMESPACE]
        for one in found:
            if one["kind"] == "Deployment":
                one["spec"] |= {
                    "replicas": self.replicas,
                    "progressDeadlineSeconds": self.deadline,
                }
                if self.recreate:
                    one["spec"]["strategy"] = {"type": "Recreate"}
        return found

    def entry(self) -> Obj:
        """What services.yaml says of it."""
        return {
            "name": self.name,
            "repo": f"acme/{self.name}",
            "image": f"ghcr.io/acme/{self.name}:{{sha}}",
            "owners": [f"team-{self.name}"],
            "workload": {
                "deployment": self.name,
                "container": self.name,
                "port": 8080,
                "route": self.name,
                "progress_deadline": f"{2 * self.deadline}s",
            },
            "environments": [
                {
                    "name": "prod",
                    "namespace": NAMESPACE,
                    "replicas": self.replicas,
                    "interval": self.interval,
                    "bake": self.bake,
                    "canary": list(self.canary),
                }
            ],
        }


@dataclass
class PlainSite:
    """Where the services stand, and what a test may ask and do there itself."""

    cluster: Cluster
    prometheus: Backing
    journal: Chronicle
    settings: dict[str, str] = field(default_factory=dict)
    """Environment that makes the cluster and the metrics real ones."""

    async def deployment(self, name: str, changes: Obj | None = None) -> Obj:
        """A Deployment, after changes as somebody else would make them (a merge patch)."""
        return await self._object(f"{DEPLOYMENTS}/{name}", changes)

    async def route(self, name: str) -> Obj:
        """An HTTPRoute."""
        return await self._object(f"{ROUTES}/{name}", None)

    async def report(self, name: str, parents: list[Obj]) -> None:
        """Be the gateway of a route."""
        await self._object(f"{ROUTES}/{name}/status", {"status": {"parents": parents}})

    async def find(self, kind: str, name: str) -> Obj | None:
        """An object of a kind that the journal follows; None when there is none."""
        path = f"/{WATCHED[kind].format(NAMESPACE)}/{name}"
        try:
            return await self._object(path, None)
        except ApiError as refused:
            if refused.status != 404:
                raise
            return None

    async def stands(self, service: str) -> Stand:
        """What runs, and how the traffic is split."""
        stable, canary = await self.deployment(service), None
        if self.journal.of("Deployment", f"{service}-canary"):
            canary = await self.deployment(f"{service}-canary")
        (rule,) = (await self.route(service))["spec"]["rules"]
        refs = {ref["name"]: ref["weight"] for ref in rule["backendRefs"]}
        return Stand(
            image=image_of(stable),
            replicas=stable["spec"]["replicas"],
            available=stable["status"].get("availableReplicas", 0),
            canary_replicas=0 if canary is None else canary["spec"]["replicas"],
            weights=(refs[service], refs[f"{service}-canary"]),
        )

    async def _object(self, path: str, changes: Obj | None) -> Obj:
        api = self.cluster.api
        if changes is None:
            return await asyncio.to_thread(api.get, path)
        return await asyncio.to_thread(api.merge, path, changes)


@dataclass(frozen=True)
class Stand:
    """A service in the cluster."""

    image: str
    replicas: int
    available: int
    canary_replicas: int
    weights: tuple[int, int]
    """Of stable and of the canary."""


def image_of(deployment: Obj) -> str:
    """What a Deployment's only container runs."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return str(container["image"])


def catalogue(services: Sequence[Plain]) -> str:
    """services.yaml, judged by the same errors as the example's."""
    defaults = yaml.safe_load((EXAMPLES / "services.yaml").read_text())["defaults"]
    entries = [one.entry() for one in services]
    return yaml.safe_dump({"version": 1, "defaults": defaults, "services": entries})


@contextlib.asynccontextmanager
async def plain_site(
    folder: Path,
    services: Sequence[Plain],
    program: Callable[[str], str],
    free_port: Callable[[], int],
) -> AsyncIterator[PlainSite]:
    """Everything running, each service at its first version."""
    async with contextlib.AsyncExitStack() as stack:
        cluster = await asyncio.to_thread(stack.enter_context, Cluster())
        await asyncio.to_thread(_prepare, cluster, services)
        urls = [
            await _world(stack, folder, cluster, [one for one in services if one.watched is here])
            for here in sorted({one.watched for one in services})
        ]
        metrics = await prometheus(stack, folder, program("prometheus"), free_port(), *urls)
        kubeconfig = await asyncio.to_thread(account, cluster, folder)
        (folder / "services.yaml").write_text(catalogue(services))
        await _known(metrics.url)
        yield PlainSite(
            cluster,
            metrics,
            await stack.enter_async_context(chronicle(cluster, NAMESPACE)),
            {
                "KUBECONFIG": str(kubeconfig),
                "PROMETHEUS_URL": metrics.url,
                "FERMATA_SERVICES": str(folder / "services.yaml"),
                "FERMATA_POLICY": str(everyday_policy(folder)),
            },
        )


def _prepare(cluster: Cluster, services: Sequence[Plain]) -> None:
    for name in ("namespaces.yaml", "rbac.yaml"):
        cluster.kubectl("apply", "-f", str(EXAMPLES / name))
    objects = [obj for one in services for obj in one.objects()]
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(listed))
    names = [f"deployment/{one.name}" for one in services]
    wanted = "--for=condition=Available"
    cluster.kubectl("-n", NAMESPACE, "wait", wanted, "--timeout=50s", *names)


async def _known(url: str) -> None:
    """Wait until there is enough to look back at: a check before a change takes four seconds."""

    async def counted() -> bool:
        query = 'min(count_over_time(http_requests_total{code="200"}[10s])) >= 12'
        return bool(await asked(url, query))

    await until("Prometheus to know some seconds of each service", counted)


async def _world(
    stack: contextlib.AsyncExitStack, folder: Path, cluster: Cluster, services: Sequence[Plain]
) -> str:
    """Start one; where it is to be scraped."""
    reports = all(one.watched for one in services)
    name = f"world-{'reports' if reports else 'silent'}"
    specs = [
        ServiceSpec(
            name=one.name,
            image=one.image,
            namespaces={"prod": NAMESPACE},
            route=one.name,
            default_rate=one.rate,
        )
        for one in services
    ]
    scenario = Scenario(rules=(Rule(version="*bad*", error_rate=BAD_SHARE),))
    told = {
        "kubeconfig": str(cluster.kubeconfig),
        "services": [dataclasses.asdict(one) for one in specs],
        "scenario": scenario.model_dump(),
        "report": reports,
    }
    return await companion(stack, folder, name, "tests.e2e.world_main", told)
