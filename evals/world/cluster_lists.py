"""Routes, Services and pods of an API server, read and reported on through the official client."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, ApiException, Configuration

from evals.world.kube.kinds import HTTPROUTE, POD, SERVICE, Kind, Obj

log = logging.getLogger(__name__)

Query = Sequence[tuple[str, str]]
Lists = dict[tuple[Kind, str], list[Obj]]
"""Objects by kind and namespace."""
REQUEST_SECONDS = 10
REWATCH_SECONDS = 0.5


class Seen:
    """The objects as last read."""

    def __init__(self) -> None:
        self.lists: Lists = {}

    def objects(self, kind: Kind, namespace: str) -> Iterable[Obj]:
        """All objects of a kind in a namespace."""
        return self.lists.get((kind, namespace), [])


class ClusterLists:
    """One connection to the API server that a kubeconfig names. Open it before use.

    Raises the client's errors: `ApiException`, `OSError`, `TimeoutError`.
    """

    def __init__(self, kubeconfig: Path, namespaces: Iterable[str]) -> None:
        self._kubeconfig = kubeconfig
        self._namespaces = tuple(dict.fromkeys(namespaces))
        self._client: ApiClient | None = None

    async def open(self) -> None:
        """Read the kubeconfig."""
        configuration = Configuration()
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=str(self._kubeconfig), client_configuration=configuration
        )
        self._client = ApiClient(configuration)

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        if self._client is not None:
            await self._client.close()  # type: ignore[no-untyped-call]
            self._client = None

    async def read(self) -> Lists:
        """Everything that a data plane looks at, as it is now."""
        fresh: Lists = {}
        for namespace in self._namespaces:
            for kind in (POD, SERVICE, HTTPROUTE):
                found = await self._request("GET", _path(kind, namespace))
                fresh[kind, namespace] = found.get("items") or []
        return fresh

    async def watch(self, changed: asyncio.Event) -> None:
        """Set `changed` whenever something that `read` tells changes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for namespace in self._namespaces:
                for kind in (POD, SERVICE, HTTPROUTE):
                    group.create_task(self._watch_one(_path(kind, namespace), changed))

    async def _watch_one(self, path: str, changed: asyncio.Event) -> None:
        """One watch after the other; each begins with what is there, so that nothing is missed."""
        while True:
            try:
                response = await self._send("GET", path, query=[("watch", "true")])
                async for _ in response.content.iter_any():
                    changed.set()
            except (ApiException, OSError, TimeoutError, aiohttp.ClientError) as broken:
                log.debug("a watch broke off: %s", broken)
            await asyncio.sleep(REWATCH_SECONDS)

    async def report(self, route: Obj, parents: list[Obj]) -> Obj:
        """Set a route's status where it differs; the route as it is then."""
        if parents == (route.get("status") or {}).get("parents"):
            return route
        path = _path(HTTPROUTE, route["metadata"]["namespace"])
        changed = {**route, "status": {"parents": parents}}
        try:
            return await self._request("PUT", f"{path}/{route['metadata']['name']}/status", changed)
        except ApiException as refusal:
            if refusal.status not in (404, 409):
                raise
            # Somebody wrote the route meanwhile; the next look sees what they wrote.
            return route

    async def _request(self, method: str, path: str, body: Obj | None = None) -> Obj:
        response = await self._send(method, path, body)
        found: Obj = json.loads(await response.read())
        if kind := found.get("kind", "").removesuffix("List"):
            # Items of a list come without their own kind and apiVersion.
            for item in found.get("items") or ():
                item.setdefault("kind", kind)
                item.setdefault("apiVersion", found["apiVersion"])
        return found

    async def _send(
        self, method: str, path: str, body: Obj | None = None, query: Query = ()
    ) -> aiohttp.ClientResponse:
        """A request's answer, its body still to be read."""
        assert self._client is not None
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        request = await self._client.param_serialize(
            method=method, resource_path=path, header_params=headers, body=body,
            query_params=list(query), auth_settings=["BearerToken"],
        )  # fmt: skip
        seconds = None if query else REQUEST_SECONDS
        limit = aiohttp.ClientTimeout(total=seconds, sock_connect=REQUEST_SECONDS)
        answer = await self._client.call_api(*request, _request_timeout=limit)
        response: aiohttp.ClientResponse = answer.response
        if response.status >= 300:
            response.release()
            raise ApiException(status=response.status, reason=response.reason)
        return response


def _path(kind: Kind, namespace: str) -> str:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    return f"{root}/namespaces/{namespace}/{kind.plural}"
