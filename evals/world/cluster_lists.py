"""Routes, Services and pods of an API server, read and reported on through the official client."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, ApiException, Configuration

from evals.world.kube.kinds import HTTPROUTE, POD, SERVICE, Kind, Obj

Lists = dict[tuple[Kind, str], list[Obj]]
"""Objects by kind and namespace."""
REQUEST_SECONDS = 10


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
        assert self._client is not None
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        request = await self._client.param_serialize(
            method=method, resource_path=path, header_params=headers, body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        response = await self._client.call_api(*request, _request_timeout=REQUEST_SECONDS)
        data = await response.read()  # type: ignore[no-untyped-call]
        if response.status >= 300:
            raise ApiException(status=response.status, reason=response.reason)
        found: Obj = json.loads(data)
        if kind := found.get("kind", "").removesuffix("List"):
            # Items of a list come without their own kind and apiVersion.
            for item in found.get("items") or ():
                item.setdefault("kind", kind)
                item.setdefault("apiVersion", found["apiVersion"])
        return found


def _path(kind: Kind, namespace: str) -> str:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    return f"{root}/namespaces/{namespace}/{kind.plural}"
