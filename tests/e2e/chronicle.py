"""What became of the objects of a namespace: every version that the API server had, by its watch.

A poll may miss what comes and goes between two looks; a watch is told of each write.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.cluster.cluster import Cluster

Obj = dict[str, Any]
WATCHED = {
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "HTTPRoute": "apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes",
    "Service": "api/v1/namespaces/{}/services",
}
WATCH_SECONDS = 3600


@dataclass
class Chronicle:
    """Every version of each Deployment, HTTPRoute and Service of a namespace, in order of time."""

    versions: dict[tuple[str, str], list[Obj]] = field(default_factory=dict)

    def of(self, kind: str, name: str) -> list[Obj]:
        """An object's versions; none for one that never was."""
        return self.versions.get((kind, name), [])

    def last(self, kind: str, name: str) -> Obj:
        """An object as it was last seen."""
        return self.of(kind, name)[-1]

    def specs(self, kind: str, name: str) -> Iterator[Obj]:
        """The versions that brought another spec; the first is how it was found or made."""
        before = None
        for one in self.of(kind, name):
            if one["spec"] != before:
                yield one
            before = one["spec"]

    def weights(self, route: str) -> list[int]:
        """The canary's weights that a route has had."""
        found: list[int] = []
        for one in self.of("HTTPRoute", route):
            (rule,) = one["spec"]["rules"]
            refs = {ref["name"]: int(ref["weight"]) for ref in rule["backendRefs"]}
            if not found or found[-1] != refs[f"{route}-canary"]:
                found.append(refs[f"{route}-canary"])
        return found

    def available(self, deployment: str) -> list[int]:
        """How many of its pods were available, each time that a Deployment was written."""
        return [
            one["status"].get("availableReplicas", 0) for one in self.of("Deployment", deployment)
        ]

    def note(self, kind: str, obj: Obj) -> None:
        """Another version of an object."""
        self.versions.setdefault((kind, obj["metadata"]["name"]), []).append(obj)


def managers(obj: Obj) -> list[str]:
    """Who has written an object, by its managed fields; once for each set of fields."""
    return [one["manager"] for one in obj["metadata"]["managedFields"]]


@contextlib.asynccontextmanager
async def chronicle(cluster: Cluster, namespace: str) -> AsyncIterator[Chronicle]:
    """Keep one for the length of the block; complete from the objects as they are at its start."""
    kept = Chronicle()
    async with httpx.AsyncClient(
        base_url=cluster.url + "/",
        verify=ssl.create_default_context(cafile=str(cluster.ca)),
        headers={"Authorization": f"Bearer {cluster.token}"},
        timeout=httpx.Timeout(30, read=None),
    ) as http:
        followed = []
        for kind, path in WATCHED.items():
            listed = (await http.get(path.format(namespace))).raise_for_status().json()
            for one in listed["items"]:
                kept.note(kind, one)
            since = listed["metadata"]["resourceVersion"]
            followed.append(
                asyncio.create_task(_follow(http, kept, kind, path.format(namespace), since))
            )
        try:
            yield kept
            assert not any(task.done() for task in followed), f"a watch has ended: {followed}"
        finally:
            for task in followed:
                task.cancel()
            await asyncio.gather(*followed, return_exceptions=True)


async def _follow(
    http: httpx.AsyncClient, kept: Chronicle, kind: str, path: str, since: str
) -> None:
    asked = {"watch": "true", "resourceVersion": since, "timeoutSeconds": str(WATCH_SECONDS)}
    async with http.stream("GET", path, params=asked) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            told = json.loads(line)
            assert told["type"] in ("ADDED", "MODIFIED", "DELETED"), told
            if told["type"] != "DELETED":
                kept.note(kind, told["object"])
