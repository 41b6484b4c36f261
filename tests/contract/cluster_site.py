"""A cluster to run the contract on: the emulator, or real servers behind a proxy that can fail."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import yaml
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from evals.world.clock import WorldClock
from evals.world.faults import FaultLayer, Faults
from evals.world.scenario import Scenario
from evals.world.serving import LocalServer
from evals.world.world import World
from tests.cluster.cluster import Cluster

Obj = dict[str, Any]
GATEWAY_API = "apis/gateway.networking.k8s.io/v1"
COLLECTIONS = {
    "deployments": "apis/apps/v1",
    "services": "api/v1",
    "httproutes": GATEWAY_API,
    "gateways": GATEWAY_API,
    "horizontalpodautoscalers": "apis/autoscaling/v2",
    "replicasets": "apis/apps/v1",
    "pods": "api/v1",
    "configmaps": "api/v1",
    "secrets": "api/v1",
    "poddisruptionbudgets": "apis/policy/v1",
    "ingresses": "apis/networking.k8s.io/v1",
    "rollouts": "apis/argoproj.io/v1alpha1",
    "analysisruns": "apis/argoproj.io/v1alpha1",
    "analysistemplates": "apis/argoproj.io/v1alpha1",
}


@dataclass
class Site:
    """One API server, seen by the tests without any of the code under test.

    `http` goes straight to the server; a `kubeconfig` leads past `faults`.
    """

    name: str
    url: str
    token: str
    http: httpx.AsyncClient
    faults: Faults
    has_gateway: bool
    hush: Callable[[bool], None] = field(default=lambda _: None)
    restricted: Callable[[str, list[Obj]], str] | None = None
    """Makes a token with just these RBAC rules in a namespace; None: this server knows no RBAC."""

    def kubeconfig(self, path: Path, token: str | None = None, url: str | None = None) -> str:
        """Write a kubeconfig for this server; returns its path."""
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [{"name": "test", "cluster": {"server": url or self.url}}],
                    "users": [{"name": "test", "user": {"token": token or self.token}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                }
            )
        )
        return str(path)

    async def namespace(self) -> str:
        """A fresh namespace."""
        name = f"contract-{uuid4().hex[:10]}"
        made = await self.http.post("api/v1/namespaces", json={"metadata": {"name": name}})
        made.raise_for_status()
        return name

    def path(self, plural: str, namespace: str, name: str = "", sub: str = "") -> str:
        parts = [COLLECTIONS[plural], "namespaces", namespace, plural, name, sub]
        return "/".join(part for part in parts if part)

    async def create(self, plural: str, namespace: str, body: Obj) -> Obj:
        """Create an object as somebody else would."""
        made = await self.http.post(self.path(plural, namespace), json=body)
        assert made.status_code == 201, made.text
        return made.json()  # type: ignore[no-any-return]

    async def get(self, plural: str, namespace: str, name: str) -> Obj:
        """An object as the server has it."""
        answer = await self.http.get(self.path(plural, namespace, name))
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]

    async def exists(self, plural: str, namespace: str, name: str) -> bool:
        return (await self.http.get(self.path(plural, namespace, name))).status_code == 200

    async def merge(
        self, plural: str, namespace: str, name: str, changes: Obj, sub: str = ""
    ) -> Obj:
        """Change an object as somebody else would."""
        answer = await self.http.patch(
            self.path(plural, namespace, name, sub),
            json=changes,
            headers={"Content-Type": "application/merge-patch+json"},
        )
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]

    async def report(self, namespace: str, name: str, *, resolved: bool = True) -> None:
        """Be the gateway: take the route over at its present generation. Where the site has a
        gateway of its own, that one does it by itself."""
        if self.has_gateway:
            return
        route = await self.get("httproutes", namespace, name)
        seen = {
            "observedGeneration": route["metadata"]["generation"],
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "message": "",
        }
        parents = [
            {
                "parentRef": ref,
                "controllerName": "example.org/test",
                "conditions": [
                    {"type": "Accepted", "status": "True", "reason": "Accepted", **seen},
                    {
                        "type": "ResolvedRefs",
                        "status": str(resolved),
                        "reason": "ResolvedRefs" if resolved else "BackendNotFound",
                        **seen,
                    },
                ],
            }
            for ref in route["spec"]["parentRefs"]
        ]
        changes = {"status": {"parents": parents}}
        await self.merge("httproutes", namespace, name, changes, sub="status")


class Relay:
    """ASGI app that hands every request on to the real server."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        wanted = ("authorization", "content-type", "accept")
        answer = await self._http.request(
            request.method,
            request.url.path,
            params=request.url.query,
            content=await request.body(),
            headers={key: request.headers[key] for key in wanted if key in request.headers},
        )
        kept = {"content-type": answer.headers.get("content-type", "application/json")}
        response = Response(answer.content, answer.status_code, kept)
        await response(scope, receive, send)


@asynccontextmanager
async def emulator() -> AsyncIterator[Site]:
    """The emulator of `evals/world`, with its controllers and its gateway."""
    clock = WorldClock(datetime(2026, 1, 5, tzinfo=UTC), speed=20.0)
    world = World(1, clock, [], scenario=Scenario(startup_seconds=0.5), token="t0ken-of-the-test")
    await world.start()

    def hush(silent: bool) -> None:
        world.set_scenario(world.scenario.model_copy(update={"gateway_down": silent}))

    headers = {"Authorization": "Bearer t0ken-of-the-test"}
    async with httpx.AsyncClient(base_url=world.kubernetes_url + "/", headers=headers) as http:
        yield Site(
            name="emulator",
            url=world.kubernetes_url,
            token="t0ken-of-the-test",
            http=http,
            faults=world.faults,
            has_gateway=True,
            hush=hush,
        )
    await world.stop()


@asynccontextmanager
async def real(cluster: Cluster) -> AsyncIterator[Site]:
    """A real API server; the adapter reaches it through a relay that the faults sit in front of."""
    verify = ssl.create_default_context(cafile=str(cluster.ca))
    headers = {"Authorization": f"Bearer {cluster.token}"}
    faults = Faults()
    async with (
        httpx.AsyncClient(base_url=cluster.url, verify=verify, headers=headers) as http,
        httpx.AsyncClient(base_url=cluster.url, verify=verify) as onward,
    ):
        server = LocalServer(FaultLayer(Relay(onward), faults))
        port = await server.start("127.0.0.1", 0)

        def restricted(namespace: str, rules: list[Obj]) -> str:
            return cluster.create_token(f"restricted-{time.monotonic_ns()}", rules, namespace)

        yield Site(
            name="real",
            url=f"http://127.0.0.1:{port}",
            token=cluster.token,
            http=http,
            faults=faults,
            has_gateway=False,
            restricted=restricted,
        )
        await server.stop()
