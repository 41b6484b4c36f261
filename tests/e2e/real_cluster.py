"""A real control plane with the examples of `docs/real-cluster.md` on it, a real Prometheus, a real
Redis. Pods here run no code, so Prometheus scrapes a stand-in for the gateway's data plane: either
`RemoteWorld`, which makes the requests up, or the world's gateway, which carries real ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from domain.clock import SystemClock
from evals.world.clock import WorldClock
from evals.world.remote import RemoteWorld
from evals.world.scenario import Rule, Scenario
from evals.world.seed import ServiceSpec
from tests.cluster.cluster import Cluster
from tests.configured import config_of, tokens
from tests.e2e.backing import prometheus, redis
from tests.e2e.chronicle import Chronicle, chronicle
from tests.e2e.served import ROOT

Obj = dict[str, Any]
EXAMPLES = ROOT / "examples" / "real-cluster"
FIRST_IMAGE = "ghcr.io/acme/{}:1.0.0"
REQUEST_RATE = 1500.0
"""Requests a second: enough for the judge to be sure of a tenth of them within twelve seconds."""


def manifests(name: str, service: str = "checkout") -> str:
    """An example file, its service called something else."""
    return (EXAMPLES / name).read_text().replace("checkout", service)


def quick_services(folder: Path, services: Iterable[str], configured: Iterable[str] = ()) -> Path:
    """The example's catalogue with these services, judged every 3 seconds for 12 at each weight.

    Those `configured` have a ConfigMap and a Secret that belong to their versions.
    """
    catalogue = yaml.safe_load((EXAMPLES / "services.yaml").read_text())
    (example,) = catalogue["services"]
    for environment in example["environments"]:
        environment["bake"] = "6s"
        for step in environment.get("canary", []):
            step["bake"] = "12s"
    catalogue["defaults"]["interval"] = "3s"
    text = yaml.safe_dump(example, sort_keys=False)
    catalogue["services"] = [yaml.safe_load(text.replace("checkout", one)) for one in services]
    for one in catalogue["services"]:
        if one["name"] in configured:
            one["workload"]["config"] = config_of(one["name"])
    path = folder / "services.yaml"
    path.write_text(yaml.safe_dump(catalogue, sort_keys=False))
    return path


@dataclass
class Site:
    """Where Fermata is to work, and what a test may ask the cluster itself."""

    cluster: Cluster
    settings: dict[str, str]
    """Environment that makes every backend real; tests add a data folder."""
    services: tuple[str, ...]
    journal: Chronicle
    """What became of the objects in production."""

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints, asked as the administrator."""
        return self.cluster.kubectl(*arguments).strip()

    def image(self, deployment: str, namespace: str = "production") -> str:
        """The image of a Deployment."""
        path = "jsonpath={.spec.template.spec.containers[0].image}"
        return self.kubectl("-n", namespace, "get", "deployment", deployment, "-o", path)

    def weights(self, route: str, namespace: str = "production") -> dict[str, int]:
        """The weight of each backend of a route."""
        found = json.loads(self.kubectl("-n", namespace, "get", "httproute", route, "-o", "json"))
        (rule,) = found["spec"]["rules"]
        return {ref["name"]: int(ref["weight"]) for ref in rule["backendRefs"]}

    def replicas(self, deployment: str, namespace: str = "production") -> int:
        """Pods that a Deployment asks for."""
        path = "jsonpath={.spec.replicas}"
        return int(self.kubectl("-n", namespace, "get", "deployment", deployment, "-o", path))

    def objects(self) -> list[Obj]:
        """Every Deployment, Service, HTTPRoute, Gateway and more of both namespaces."""
        kinds = "deployments,services,httproutes,gateways,configmaps,serviceaccounts"
        found: list[Obj] = []
        for namespace in ("staging", "production"):
            told = self.kubectl(
                *("-n", namespace, "get", kinds, "-o", "json", "--show-managed-fields")
            )
            found += json.loads(told)["items"]
        return found


DataPlane = Callable[[contextlib.AsyncExitStack, Cluster], Awaitable[str]]
"""Starts what stands in for the gateway; the URL whose `/metrics` are to be scraped."""


def made_up(services: Iterable[str]) -> DataPlane:
    """Counters of requests that nobody sends."""

    async def plane(stack: contextlib.AsyncExitStack, cluster: Cluster) -> str:
        world = RemoteWorld(
            cluster.kubeconfig,
            7,
            WorldClock(SystemClock().now()),
            [spec(one) for one in services],
            scenario=Scenario(rules=(Rule(version="*bad*", namespace="prod*", error_rate=0.08),)),
            tick=0.5,
            poll=0.25,
        )
        await world.start()
        stack.push_async_callback(world.stop)
        return world.url

    return plane


@contextlib.asynccontextmanager
async def site(
    folder: Path,
    services: tuple[str, ...],
    program: Callable[[str], str],
    free_port: Callable[[], int],
    plane: DataPlane | None = None,
    scrape: str = "500ms",
    configured: tuple[str, ...] = (),
) -> AsyncIterator[Site]:
    """Everything running, with each service at its first version."""
    async with contextlib.AsyncExitStack() as stack:
        cluster = await asyncio.to_thread(stack.enter_context, Cluster())
        await asyncio.to_thread(_prepare, cluster, services, configured)
        target = await (plane or made_up(services))(stack, cluster)
        metrics = await prometheus(
            stack, folder, program("prometheus"), free_port(), target, every=scrape
        )
        queue = await redis(stack, folder, program("redis-server"), free_port())
        kubeconfig = await asyncio.to_thread(account, cluster, folder)
        yield Site(
            cluster,
            {
                "KUBECONFIG": str(kubeconfig),
                "PROMETHEUS_URL": metrics.url,
                "REDIS_URL": queue.url,
                "FERMATA_SERVICES": str(quick_services(folder, services, configured)),
            },
            services,
            await stack.enter_async_context(chronicle(cluster, "production")),
        )


def account(cluster: Cluster, folder: Path) -> Path:
    """A kubeconfig of the account that the examples have made for Fermata."""
    token = cluster.kubectl("-n", "fermata", "create", "token", "fermata", "--duration=1h")
    return cluster.write_kubeconfig(folder / "fermata-kubeconfig", token.strip())


def _prepare(cluster: Cluster, services: Iterable[str], configured: Iterable[str]) -> None:
    """Apply the examples, in the order in which their page tells to."""
    cluster.kubectl("apply", "-f", str(EXAMPLES / "namespaces.yaml"))
    cluster.kubectl("apply", "-f", str(EXAMPLES / "rbac.yaml"))
    for service in services:
        cluster.kubectl("apply", "-f", "-", stdin=manifests("checkout.yaml", service))
    if configured:
        cluster.kubectl("apply", "-f", str(EXAMPLES / "rbac-config.yaml"))
    for service in configured:
        for namespace in ("staging", "production"):
            _configure(cluster, namespace, service)
    for namespace in ("staging", "production"):
        for service in services:
            cluster.kubectl(
                *("-n", namespace, "rollout", "status", f"deployment/{service}", "--timeout=50s")
            )


def _configure(cluster: Cluster, namespace: str, service: str) -> None:
    """A ConfigMap and a Secret that a service's pods take their environment from."""
    for kind, name in (("configmap",), service), (("secret", "generic"), tokens(service)):
        cluster.kubectl("-n", namespace, "create", *kind, name, "--from-literal=MODE=first")
        cluster.kubectl(
            *("-n", namespace, "set", "env", f"deployment/{service}", f"--prefix={kind[0]}_"),
            f"--from={kind[0]}/{name}",
        )


def spec(service: str) -> ServiceSpec:
    """A service of the example, as the world knows it."""
    return ServiceSpec(
        name=service,
        image=FIRST_IMAGE.format(service),
        namespaces={"staging": "staging", "prod": "production"},
        route=service,
        default_rate=REQUEST_RATE,
    )
