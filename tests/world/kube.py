"""A raw REST client in one namespace, and the objects that the contract is tested with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

Obj = dict[str, Any]
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
DEADLINE = 20.0


def body_of(answer: httpx.Response) -> Obj:
    """The JSON object in an answer."""
    found: Obj = answer.json()
    return found


@dataclass(frozen=True)
class KubeTarget:
    """Where an API server is. `ca` is a PEM file; without one, plain HTTP is meant."""

    host: str
    token: str | None = None
    ca: Path | None = None


class Kube:
    """Raw REST in one namespace of its own."""

    def __init__(self, http: httpx.AsyncClient, namespace: str) -> None:
        self.http = http
        self.namespace = namespace

    def path(self, plural: str, name: str = "", sub: str = "") -> str:
        group = {
            "deployments": "apis/apps/v1",
            "replicasets": "apis/apps/v1",
            "horizontalpodautoscalers": "apis/autoscaling/v2",
            "poddisruptionbudgets": "apis/policy/v1",
            "httproutes": "apis/gateway.networking.k8s.io/v1",
            "gateways": "apis/gateway.networking.k8s.io/v1",
        }.get(plural, "api/v1")
        parts = [group, "namespaces", self.namespace, plural, name, sub]
        return "/".join(p for p in parts if p)

    async def create(self, plural: str, body: Obj, **params: str) -> Obj:
        answer = await self.http.post(self.path(plural), json=body, params=params)
        assert answer.status_code == 201, answer.text
        return body_of(answer)

    async def get(self, plural: str, name: str) -> Obj:
        answer = await self.http.get(self.path(plural, name))
        assert answer.status_code == 200, answer.text
        return body_of(answer)

    async def items(self, plural: str, **params: str) -> list[Obj]:
        answer = await self.http.get(self.path(plural), params=params)
        assert answer.status_code == 200, answer.text
        found: list[Obj] = body_of(answer)["items"]
        return found

    async def patch(
        self, plural: str, name: str, body: Any, media: str = MERGE, sub: str = "", **params: str
    ) -> httpx.Response:
        return await self.http.patch(
            self.path(plural, name, sub),
            content=json.dumps(body),
            headers={"Content-Type": media},
            params=params,
        )

    async def patched(self, plural: str, name: str, body: Any, media: str = MERGE) -> Obj:
        answer = await self.patch(plural, name, body, media)
        assert answer.status_code == 200, answer.text
        return body_of(answer)

    async def put(self, plural: str, name: str, body: Obj, sub: str = "") -> httpx.Response:
        return await self.http.put(self.path(plural, name, sub), json=body)

    async def apply(self, plural: str, body: Obj, manager: str, **params: str) -> httpx.Response:
        name = body["metadata"]["name"]
        return await self.patch(plural, name, body, APPLY, fieldManager=manager, **params)

    async def until(self, plural: str, name: str, test: Callable[[Obj], bool]) -> Obj:
        loop = asyncio.get_running_loop()
        end = loop.time() + DEADLINE
        while True:
            obj = await self.get(plural, name)
            if test(obj):
                return obj
            assert loop.time() < end, f"never came about: {json.dumps(obj.get('status'))}"
            await asyncio.sleep(0.05)

    async def until_items(self, plural: str, test: Callable[[list[Obj]], bool]) -> list[Obj]:
        loop = asyncio.get_running_loop()
        end = loop.time() + DEADLINE
        while True:
            found = await self.items(plural)
            if test(found):
                return found
            assert loop.time() < end, f"never came about: {json.dumps(found)}"
            await asyncio.sleep(0.05)

    @asynccontextmanager
    async def watch(self, plural: str, **params: str) -> AsyncIterator[Callable[[], Any]]:
        query = {"watch": "true", **params}
        async with self.http.stream("GET", self.path(plural), params=query) as answer:
            assert answer.status_code == 200
            lines = answer.aiter_lines()

            async def following() -> Obj:
                async with asyncio.timeout(DEADLINE):
                    event: Obj = json.loads(await anext(lines))
                    return event

            yield following


def config_map(name: str, **data: str) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "data": data,
    }


def deployment(name: str = "web", image: str = "registry.example/web:1", replicas: int = 2) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [
                        {
                            "name": "main",
                            "image": image,
                            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                            "ports": [{"containerPort": 8080}],
                        }
                    ]
                },
            },
        },
    }


def route(name: str = "web", weights: tuple[int, int] = (100, 0)) -> Obj:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"name": "gate"}],
            "rules": [
                {
                    "backendRefs": [
                        {"name": name, "port": 80, "weight": weights[0]},
                        {"name": f"{name}-canary", "port": 80, "weight": weights[1]},
                    ]
                }
            ],
        },
    }


def refused(answer: httpx.Response, code: int, reason: str) -> Obj:
    """The answer is a `Status` with that code and reason; returns it."""
    status = body_of(answer)
    assert (answer.status_code, status.get("reason")) == (code, reason), answer.text
    assert status["kind"] == "Status"
    assert status["status"] == "Failure"
    assert status["code"] == code
    return status


def fields_of(status: Obj) -> set[str]:
    return {cause["field"] for cause in status["details"]["causes"]}


def conditions(obj: Obj) -> dict[str, Obj]:
    return {c["type"]: c for c in (obj.get("status") or {}).get("conditions") or ()}


def rolled_out(obj: Obj) -> bool:
    status, wanted = obj.get("status") or {}, obj["spec"]["replicas"]
    counts = [status.get(f, 0) for f in ("replicas", "updatedReplicas", "availableReplicas")]
    is_seen = status.get("observedGeneration", 0) >= obj["metadata"]["generation"]
    return is_seen and counts == [wanted] * 3
