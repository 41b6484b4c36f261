"""The API server over HTTP: paths, query parameters, body formats, discovery, watches."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from evals.world.kube import errors, kinds
from evals.world.kube.api import APPLY, JSON_PATCH, MERGE, STRATEGIC, KubeApi
from evals.world.kube.errors import ApiError
from evals.world.kube.kinds import Kind, Obj
from evals.world.kube.store import Change, Store

VERSION = {
    "major": "1", "minor": "36", "gitVersion": "v1.36.3+fermata-simulated", "gitCommit": "",
    "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none",
    "compiler": "none", "platform": "simulated",
}  # fmt: skip
SIMULATED = {"X-Fermata-Simulated": "true"}
_SUBRESOURCES = ("status", "scale")


@dataclass(frozen=True, slots=True)
class Target:
    """What a path points at. An empty name is the collection; namespace None means all of them."""

    kind: Kind
    namespace: str | None
    name: str
    subresource: str


class KubeApp:
    """ASGI app that serves a `KubeApi`. With `token`, every request must carry it as a bearer."""

    def __init__(self, api: KubeApi, *, token: str | None = None) -> None:
        self.api = api
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ApiError as refusal:
            headers = {**SIMULATED, **refusal.headers}
            response = JSONResponse(refusal.status(), refusal.code, headers)
        response.headers.update(SIMULATED)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        parts = [p for p in path.split("/") if p]
        if path in ("/healthz", "/livez", "/readyz"):
            return PlainTextResponse("ok")
        if self._token is not None:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                raise errors.unauthorized()
        if request.method == "GET" and (document := _discovery(parts)) is not None:
            return JSONResponse(document)
        target = self._target(parts)
        if target.name:
            return await self._one(request, target)
        return await self._many(request, target)

    def _target(self, parts: list[str]) -> Target:
        if len(parts) >= 3 and parts[:2] == ["api", "v1"]:
            group, version, rest = "", "v1", parts[2:]
        elif len(parts) >= 4 and parts[0] == "apis":
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            raise errors.no_such_resource()
        namespace: str | None = None
        # `namespaces/x/pods` is scoped; `namespaces/x` and `namespaces/x/status` are the object.
        if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        kind = kinds.BY_PATH.get((group, version, rest[0]))
        if kind is None or len(rest) > 3 or (namespace is not None and not kind.namespaced):
            raise errors.no_such_resource()
        name = rest[1] if len(rest) > 1 else ""
        sub = rest[2] if len(rest) > 2 else ""
        if (
            (sub and sub not in _SUBRESOURCES)
            or (sub == "status" and not kind.status)
            or (sub == "scale" and not kind.scale)
            or (name and kind.namespaced and namespace is None)
        ):
            raise errors.no_such_resource()
        return Target(kind, namespace, name, sub)

    async def _one(self, request: Request, target: Target) -> Response:
        kind, name, sub = target.kind, target.name, target.subresource
        namespace = target.namespace or ""
        query = request.query_params
        manager, dry = _manager(request), _dry(request)
        if request.method == "GET":
            found = self.api.scale(kind, namespace, name) if sub == "scale" else self.api.get(
                kind, namespace, name
            )  # fmt: skip
            return JSONResponse(found)
        if request.method == "DELETE" and not sub:
            options = await _body(request, "application/json", optional=True)
            if not isinstance(options, dict):
                options = {}
            if policy := query.get("propagationPolicy"):
                options["propagationPolicy"] = policy
            last = self.api.delete(kind, namespace, name, options=options, dry=dry)
            if last["metadata"].get("deletionTimestamp") or kind is kinds.POD:
                return JSONResponse(last)
            details = {"name": name, "kind": kind.plural, "uid": last["metadata"]["uid"]}
            if kind.group:
                details["group"] = kind.group
            done = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
            return JSONResponse({**done, "details": details})
        if request.method == "PUT":
            body = await _body(request, _media_type(request) or "application/json")
            if not isinstance(body, dict):
                raise errors.bad_request("the body is not an object")
            if sub == "scale":
                scaled = self.api.set_scale(kind, namespace, name, body, manager=manager, dry=dry)
                return JSONResponse(scaled)
            return JSONResponse(
                self.api.update(
                    kind, namespace, name, body, subresource=sub, manager=manager, dry=dry
                )
            )
        if request.method == "PATCH":
            return await self._patch(request, target, manager, dry)
        raise errors.method_not_allowed()

    async def _patch(self, request: Request, target: Target, manager: str, dry: bool) -> Response:
        kind, name, sub = target.kind, target.name, target.subresource
        namespace = target.namespace or ""
        media = _media_type(request)
        if media not in (MERGE, JSON_PATCH, STRATEGIC, APPLY):
            raise errors.unsupported_media_type([JSON_PATCH, MERGE, STRATEGIC, APPLY])
        body = await _body(request, media)
        if media == APPLY and not request.query_params.get("fieldManager"):
            # The kind of the complaint is PatchOptions, whatever the object.
            options = Kind("meta.k8s.io", "v1", "PatchOptions", "patchoptions")
            cause = errors.Cause("fieldManager", "Required value", "is required for apply patch")
            raise errors.invalid(options, "", [cause])
        if sub == "scale":
            if not isinstance(body, dict) or media not in (MERGE, STRATEGIC):
                raise errors.unsupported_media_type([MERGE, STRATEGIC])
            scaled = self.api.set_scale(kind, namespace, name, body, manager=manager, dry=dry)
            return JSONResponse(scaled)
        force = request.query_params.get("force") in ("true", "1", "True")
        obj, created = self.api.patch(
            kind, namespace, name, body, media,
            subresource=sub, manager=manager, force=force, dry=dry,
        )  # fmt: skip
        return JSONResponse(obj, 201 if created else 200)

    async def _many(self, request: Request, target: Target) -> Response:
        kind, namespace, query = target.kind, target.namespace, request.query_params
        if request.method == "POST":
            if kind.namespaced and namespace is None:
                raise errors.method_not_allowed()
            body = await _body(request, _media_type(request) or "application/json")
            if not isinstance(body, dict):
                raise errors.bad_request("the body is not an object")
            made = self.api.create(
                kind, namespace or "", body, manager=_manager(request), dry=_dry(request)
            )
            return JSONResponse(made, 201)
        labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
        if request.method == "GET" and query.get("watch") in ("true", "1", "True"):
            return self._watch(request, kind, namespace, labels, fields)
        if request.method == "GET":
            found = self.api.select(kind, namespace, labels=labels, fields=fields)
            return JSONResponse(self._page(kind, found, query.get("limit"), query.get("continue")))
        if request.method == "DELETE":
            options = await _body(request, "application/json", optional=True)
            found = self.api.select(kind, namespace, labels=labels, fields=fields)
            for obj in found:
                meta = obj["metadata"]
                self.api.delete(
                    kind, meta.get("namespace", ""), meta["name"],
                    options=options if isinstance(options, dict) else None, dry=_dry(request),
                )  # fmt: skip
            return JSONResponse(self._page(kind, found, None, None))
        raise errors.method_not_allowed()

    def _page(self, kind: Kind, found: list[Obj], limit: str | None, token: str | None) -> Obj:
        meta: Obj = {"resourceVersion": str(self.api.store.version)}
        if token:
            try:
                after = json.loads(base64.urlsafe_b64decode(token))
            except ValueError:
                raise errors.bad_request("continue key is not valid") from None
            found = [o for o in found if [o["metadata"].get("namespace", ""),
                                          o["metadata"]["name"]] > after]  # fmt: skip
        most = int(limit) if limit and limit.isdigit() else 0
        if most and len(found) > most:
            last = found[most - 1]["metadata"]
            key = json.dumps([last.get("namespace", ""), last["name"]])
            meta["continue"] = base64.urlsafe_b64encode(key.encode()).decode()
            meta["remainingItemCount"] = len(found) - most
            found = found[:most]
        if not kind.custom:
            # Go's typed lists do not repeat the type in their items; lists of CRD kinds do.
            found = [{k: v for k, v in o.items() if k not in ("kind", "apiVersion")} for o in found]
        return {
            "kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": meta,
            "items": found,
        }  # fmt: skip

    def _watch(
        self, request: Request, kind: Kind, namespace: str | None, labels: str, fields: str
    ) -> Response:
        keep = self.api.filter(kind, labels, fields)
        query = request.query_params
        raw = query.get("resourceVersion", "")
        if raw and not raw.isdigit():
            raise errors.internal(
                f'resourceVersion: Invalid value: "{raw}": strconv.ParseUint: parsing "{raw}": '
                "invalid syntax"
            )
        timeout = query.get("timeoutSeconds", "")
        seconds = float(timeout) if timeout.isdigit() and int(timeout) else 3600.0
        start = int(raw or 0)

        async def lines() -> AsyncIterator[bytes]:
            store, version = self.api.store, start
            if version and version < store.oldest:
                refusal = errors.expired(version, store.oldest)
                yield _line("ERROR", refusal.status())
                return
            if not version:
                version = store.version
                for obj in store.all(kind, namespace):
                    if keep(obj):
                        yield _line("ADDED", obj)
            async for change in _changes(store, version, seconds):
                concerned = change.kind is kind and namespace in (None, change.key[0])
                if concerned and (seen := _seen(change, keep)) is not None:
                    yield _line(seen, change.object)

        return StreamingResponse(lines(), media_type="application/json")


async def _changes(store: Store, version: int, seconds: float) -> AsyncIterator[Change]:
    """Changes after `version` as they come, for `seconds` real seconds or until the store closes.

    Ends silently when the reader is so slow that changes were forgotten: the client then lists
    again or meets 410.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    with store.waker() as waker:
        while not store.closed:
            waker.clear()
            if version < store.oldest:
                return
            for change in store.since(version):
                version = change.version
                yield change
            if waker.is_set():
                continue
            try:
                async with asyncio.timeout_at(end):
                    await waker.wait()
            except TimeoutError:
                return


def _seen(change: Change, keep: Any) -> str | None:
    """The event type for a watcher with a selector: leaving the selection is a deletion."""
    before = change.previous is not None and keep(change.previous)
    after = change.type != "DELETED" and keep(change.object)
    if before and after:
        return "MODIFIED"
    if after:
        return "ADDED"
    return "DELETED" if before else None


def _line(event: str, obj: Obj) -> bytes:
    return json.dumps({"type": event, "object": obj}, separators=(",", ":")).encode() + b"\n"


def _discovery(parts: list[str]) -> Obj | None:
    match parts:
        case ["version"]:
            return dict(VERSION)
        case ["api"]:
            return kinds.api_versions()
        case ["api", "v1"]:
            return kinds.resource_list("", "v1")
        case ["apis"]:
            return kinds.api_group_list()
        case ["apis", group]:
            return kinds.find_group(group)
        case ["apis", group, version]:
            return kinds.resource_list(group, version)
    return None


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _manager(request: Request) -> str:
    """The field manager: the parameter, or else the first word of the user agent."""
    agent = request.headers.get("user-agent", "unknown").partition("/")[0]
    return (request.query_params.get("fieldManager") or agent or "unknown")[:128]


def _dry(request: Request) -> bool:
    given = request.query_params.get("dryRun", "")
    if given not in ("", "All"):
        verb = {"POST": "Create", "DELETE": "Delete", "PATCH": "Patch"}.get(
            request.method, "Update"
        )
        options = Kind("meta.k8s.io", "v1", f"{verb}Options", "options")
        cause = errors.Cause("dryRun", "Unsupported value", 'supported values: "All"', [given])
        raise errors.invalid(options, "", [cause])
    return given == "All"


async def _body(request: Request, media: str, *, optional: bool = False) -> Any:
    raw = await request.body()
    if not raw.strip():
        if optional:
            return None
        raise errors.bad_request(
            "the object provided is unrecognized: couldn't get version/kind; json parse error: "
            "unexpected end of JSON input (<empty>)"
        )
    is_yaml = media in (APPLY, "application/yaml")
    if not is_yaml and not media.endswith("json"):
        raise errors.unsupported_media_type(["application/json", "application/yaml"])
    try:
        return json.loads(raw)
    except ValueError as broken:
        if not is_yaml:
            raise errors.bad_request(
                "the object provided is unrecognized: couldn't get version/kind; json parse "
                f"error: {broken}"
            ) from None
    try:
        return yaml.safe_load(raw)
    except yaml.YAMLError as broken:
        raise errors.bad_request(f"error decoding YAML: {broken}") from None
