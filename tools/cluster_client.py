"""One connection to one Kubernetes API server: plain JSON objects in and out.

Objects are kept as the JSON the server sent and are written as JSON merge patches of what differs,
so that a field which this client's models do not know can never get lost. Each patch carries the
`resourceVersion` it was worked out from. PATCH and not PUT, because aiohttp sends a PUT by itself
a second time when a kept-alive connection breaks, and no second write may leave unguarded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import tenacity
import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from domain.errors import OutcomeUnknown, Permanent, Temporary
from tools.cluster_errors import (
    Answer,
    Json,
    Request,
    Silent,
    error_of,
    error_of_silence,
    is_missing_object,
)
from tools.ports import Guard

MERGE_PATCH = "application/merge-patch+json"
FIELD_MANAGER = "fermata"
SIMULATED_HEADER = "X-Fermata-Simulated"
"""The emulator answers with it; a real API server does not."""
READ_TRIES = 3
BEARER = "BearerToken"
PAGE, MOST_PAGES = 500, 100
MALFORMED = (ValueError, TypeError, AttributeError, KeyError)
"""What the official loader raises for YAML that is no kubeconfig."""


@dataclass(frozen=True)
class Kind:
    """A resource type: where it is served and what it is called."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        """`apps/v1`; `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """`deployments.apps`, as kubectl and RBAC name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str, name: str = "") -> str:
        """The URL path of the collection, or of one object."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        path = f"{root}/namespaces/{quote(namespace, safe='')}/{self.plural}"
        return f"{path}/{quote(name, safe='')}" if name else path


DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
CONFIGMAP = Kind("", "v1", "ConfigMap", "configmaps")
SECRET = Kind("", "v1", "Secret", "secrets")
SERVICE = Kind("", "v1", "Service", "services")
POD = Kind("", "v1", "Pod", "pods")
HPA = Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
PDB = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
HTTPROUTE = Kind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")


class ClusterClient:
    """Connects on first use; one per process, closed on shutdown (`close`, or `async with`).

    `kubeconfig` is a file (or several, separated as in KUBECONFIG); None takes the service account
    of the pod it runs in. `timeout` is seconds for one whole request. Every method raises only
    `Temporary`, `Permanent` or `OutcomeUnknown` (and lets a guard's `LeaseLost` pass).
    """

    def __init__(self, kubeconfig: str | Path | None = None, *, timeout: float = 10.0) -> None:
        self._kubeconfig = None if kubeconfig is None else str(kubeconfig)
        self._timeout = timeout
        self._api: ApiClient | None = None
        self._connecting = asyncio.Lock()
        self._simulated = False

    @property
    def simulated(self) -> bool:
        """Whether the server has said that it is simulated. False before the first answer."""
        return self._simulated

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Safe to call twice; a later request connects anew."""
        api, self._api = self._api, None
        if api is not None:
            await api.close()  # type: ignore[no-untyped-call]

    # --- reading ---

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """One object, or None when it does not exist. Tried again a few times when it fails."""
        request = Request("get", kind.resource, namespace, name)
        answer = await self._read(request, kind.path(namespace, name))
        if is_missing_object(answer, request):
            return None
        return _object(answer, request)

    async def items(
        self, kind: Kind, namespace: str, labels: str = "", *, whole: bool = True
    ) -> list[Json]:
        """The objects of a kind in a namespace, by label selector.

        Not `whole`: the first page will do. Raises Permanent for more than can be looked through.
        """
        request = Request("list", kind.resource, namespace, "")
        query = {"limit": str(PAGE)} | ({"labelSelector": labels} if labels else {})
        found: list[Json] = []
        for _ in range(MOST_PAGES):
            page = _object(await self._read(request, kind.path(namespace), query), request)
            items, more = page.get("items"), (page.get("metadata") or {}).get("continue")
            found += items if isinstance(items, list) else []
            if not more or not whole:
                return found
            query["continue"] = more
        raise Permanent(
            f"namespace {namespace} has more than {MOST_PAGES * PAGE:,} {kind.plural} to look at",
            "give the service a namespace of its own",
        )

    # --- writing: each request is sent at most once, right after its guard ---

    async def create(self, kind: Kind, body: Json, guard: Guard) -> Json:
        """Create an object. Raises `Conflict` when it exists already."""
        meta = body["metadata"]
        request = Request("create", kind.resource, meta["namespace"], meta["name"])
        path = kind.path(meta["namespace"])
        return _object(await self._write(request, "POST", path, body, guard), request)

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        changes: Json,
        version: str,
        guard: Guard,
        *,
        subresource: str = "",
    ) -> Json:
        """Merge `changes` into an object, or into a subresource of it (`status`).

        Raises `Conflict` unless it still is at `version`.
        """
        below = f"/{subresource}" if subresource else ""
        request = Request("patch", kind.resource + below, namespace, name)
        metadata = {**changes.get("metadata", {}), "resourceVersion": version}
        body = {**changes, "metadata": metadata}
        answer = await self._write(
            request, "PATCH", kind.path(namespace, name) + below, body, guard
        )
        return _object(answer, request)

    async def delete(self, kind: Kind, namespace: str, name: str, meta: Json, guard: Guard) -> None:
        """Delete an object, if it still is the one that was read (`meta`, its metadata).

        One that is gone already is fine. Raises `Conflict` when there is another one.
        """
        request = Request("delete", kind.resource, namespace, name)
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {key: meta[key] for key in ("uid", "resourceVersion") if key in meta},
        }
        answer = await self._send(
            request, "DELETE", kind.path(namespace, name), body=body, guard=guard
        )
        if answer.status >= 300 and not is_missing_object(answer, request):
            raise error_of(answer, request)

    # --- the wire ---

    async def _read(
        self, request: Request, path: str, query: Mapping[str, str] | None = None
    ) -> Answer:
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_is_brief),
            stop=tenacity.stop_after_attempt(READ_TRIES),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=1.0),
            reraise=True,
        ):
            with attempt:
                answer = await self._send(request, "GET", path, query=query)
                if answer.status >= 400 and not is_missing_object(answer, request):
                    raise error_of(answer, request)
        return answer

    async def _write(
        self, request: Request, method: str, path: str, body: Json, guard: Guard
    ) -> Answer:
        query = {"fieldManager": FIELD_MANAGER}
        answer = await self._send(request, method, path, query=query, body=body, guard=guard)
        if answer.status >= 300:
            raise error_of(answer, request)
        return answer

    async def _send(
        self,
        request: Request,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        guard: Guard | None = None,
    ) -> Answer:
        api = await self._connected()
        token = api.configuration.api_key.get(BEARER)
        answer = await self._send_once(api, request, method, path, query, body, guard)
        if answer.status == 401 and await self._renew(api, token):
            # Tokens of cloud clusters live for an hour; what got a 401 was not carried out, so
            # asking again with a new token is safe.
            answer = await self._send_once(api, request, method, path, query, body, guard)
        return answer

    async def _send_once(
        self,
        api: ApiClient,
        request: Request,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Json | None,
        guard: Guard | None,
    ) -> Answer:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = MERGE_PATCH if method == "PATCH" else "application/json"
        try:
            prepared = await api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=[BEARER],
            )
        except (ConfigException, OSError) as error:
            raise _unusable(error) from None
        if guard is not None:
            await guard()
        limit = aiohttp.ClientTimeout(total=self._timeout, sock_connect=self._timeout / 2)
        try:
            response = await api.call_api(*prepared, _request_timeout=limit)
            raw = await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise error_of_silence(error, request, self._timeout) from None
        self._simulated = self._simulated or SIMULATED_HEADER in response.headers
        token = api.configuration.api_key.get(BEARER, "")
        return Answer(response.status, response.headers, _body(response.status, raw, token))

    # --- credentials ---

    async def _connected(self) -> ApiClient:
        async with self._connecting:
            if self._api is None:
                self._api = ApiClient(await self._configuration())
                self._api.user_agent = FIELD_MANAGER
            return self._api

    async def _configuration(self) -> Configuration:
        configuration = Configuration()
        # Only the code here knows which requests may be sent twice.
        configuration.retries = None
        try:
            if self._kubeconfig is None:
                load_incluster_config(configuration)  # type: ignore[no-untyped-call]
            else:
                await load_kube_config(  # type: ignore[no-untyped-call]
                    self._kubeconfig, client_configuration=configuration, persist_config=False
                )
        except (ConfigException, OSError, yaml.YAMLError, *MALFORMED) as error:
            raise _unusable(error) from None
        return configuration

    async def _renew(self, api: ApiClient, refused: str | None) -> bool:
        """Read the credentials anew. False when they are still those that were refused."""
        async with self._connecting:
            if api.configuration.api_key.get(BEARER) == refused:
                api.configuration.api_key = (await self._configuration()).api_key
            return bool(api.configuration.api_key.get(BEARER) != refused)


def _is_brief(error: BaseException) -> bool:
    """Whether a failed read may be tried again within the call: not when it would take long."""
    return isinstance(error, Temporary) and not isinstance(error, Silent) and not error.retry_after


def _object(answer: Answer, request: Request) -> Json:
    if answer.body:
        return answer.body
    what = f"the cluster's answer to {request} is not a JSON object"
    raise OutcomeUnknown(what) if request.is_write else Temporary(what)


def _body(status: int, raw: bytes, token: str) -> Json:
    try:
        body: Any = json.loads(raw)
    except ValueError:
        # A proxy in between answers in HTML or plain text, and some echo the request.
        secret = token.rpartition(" ")[2]
        text = raw.decode(errors="replace")
        text = text.replace(secret, "***") if secret else text
        return {"message": text} if status >= 400 else {}
    return body if isinstance(body, dict) else {}


def _unusable(error: Exception) -> Permanent:
    # Other errors quote the file, and the file may hold a token.
    is_worded = isinstance(error, (ConfigException, OSError))
    what = str(error) if is_worded else f"the kubeconfig is malformed ({type(error).__name__})"
    return Permanent(
        f"the cluster's credentials cannot be used: {what}",
        "set KUBECONFIG to a readable kubeconfig file with a current context",
    )
