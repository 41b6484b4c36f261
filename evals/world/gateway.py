"""A gateway that carries real requests: programs itself from HTTPRoutes, as a Gateway API
controller does, and splits what it gets over real little servers, one per version.

Pods of a test cluster run no code. `RemoteWorld` makes the requests up, which is enough to judge
releases; this is the data plane for load tests, where each request has to arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from kubernetes.aio.client import ApiException
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from evals.world.cluster_lists import ClusterLists, Lists
from evals.world.controllers.cluster import route_parents
from evals.world.dataplane import behind
from evals.world.gateway_proxy import Meters, Proxy
from evals.world.gateway_servers import VersionServers
from evals.world.gateway_table import Backend, Plan, Table, build, meaning, refused, rules
from evals.world.kube.kinds import HTTPROUTE, POD, SERVICE, Obj
from evals.world.metrics import SIMULATED
from evals.world.scenario import Scenario
from evals.world.seed import ServiceSpec
from evals.world.serving import LocalServer

log = logging.getLogger(__name__)

HISTORY = 1000
"""Changes of shares that `/world` tells."""
SETTLE_SECONDS = 0.05


class Gateway:
    """The gateway of a cluster that is named by a kubeconfig, and its control plane in one.

    Looks at the cluster when something in it changes, and every `poll` seconds; while it cannot be
    reached, the last state goes on.
    The new table is in force before the route's status says Accepted. Requests are taken at `url`;
    `/metrics`, `/world` and `/world/scenario` are on a port of their own, at `admin_url`. Of the
    scenario it heeds `error_rate`, `slow`, `rules`, `outages`, `ignored_routes` and `gateway_down`.
    """

    def __init__(
        self, kubeconfig: Path, seed: int, services: Iterable[ServiceSpec],
        *, scenario: Scenario | None = None, poll: float = 5.0,
    ) -> None:  # fmt: skip
        self.scenario = scenario or Scenario()
        self._specs = {
            (namespace, one.route): one for one in services for namespace in one.namespaces.values()
        }
        self._cluster = ClusterLists(kubeconfig, (namespace for namespace, _ in self._specs))
        self._poll = poll
        self._programmed: dict[tuple[str, str], Obj] = {}
        self._plan: Plan = []
        self._last: dict[tuple[str, str], dict[str, float]] = {}
        self.history: deque[dict[str, object]] = deque(maxlen=HISTORY)
        self._table = Table({})
        self._meters = Meters()
        self._servers = VersionServers(seed, lambda: self.scenario)
        self._proxy = Proxy(lambda: self._table, self._servers, self._meters)
        self._front = LocalServer(self._proxy, keep_seconds=75)
        self._admin = LocalServer(
            Starlette(
                routes=[
                    Route("/metrics", self._exported),
                    Route("/world", self._info),
                    Route("/world/scenario", self._set_scenario, methods=["PUT"]),
                ]
            )
        )
        self._looking = asyncio.Lock()
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.url = self.admin_url = ""

    async def start(self, host: str = "127.0.0.1", port: int = 0, admin_port: int = 0) -> None:
        """Read the cluster once, then listen. Raises the client's errors if it cannot be read."""
        await self._cluster.open()
        await self._proxy.open()
        await self.look()
        self.url = f"http://{host}:{await self._front.start(host, port)}"
        self.admin_url = f"http://{host}:{await self._admin.start(host, admin_port)}"
        self._tasks = [
            asyncio.create_task(self._cluster.watch(self._changed), name="world-gateway-watch"),
            asyncio.create_task(self._follow(), name="world-gateway"),
        ]

    async def stop(self) -> None:
        """Stop following and serving. Safe to call twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._front.stop()
        await self._admin.stop()
        await self._proxy.close()
        await self._servers.stop()
        await self._cluster.close()

    async def look(self) -> None:
        """Read the cluster, put a new table in force, and report on the routes."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        seen = await self._cluster.read()
        routes = [
            route for (kind, _), found in seen.items() if kind is HTTPROUTE for route in found
            if _key(route) in self._specs
        ]  # fmt: skip
        wrong = {_key(route): refused(route) for route in routes}
        self._program(routes, wrong)
        plan = [
            (
                route,
                [_shares(self._specs[key], rule, seen, key[0]) for rule in rules(route)],
            )
            for key, route in self._programmed.items()
        ]
        backends = (who for _, parts in plan for shares in parts for who in shares)
        wanted = {who for who in backends if who.outcome == "served"}
        await self._servers.start(wanted)
        for one in wanted:
            self._meters.know(one)
        if meaning(plan) != meaning(self._plan):
            # A route's own status changes nothing: the wheels go on where they are.
            self._plan, self._table = plan, build(plan)
            self._remember(plan)
        await self._servers.retire(wanted)
        if not self.scenario.gateway_down:
            for route in routes:
                await self._report(route, wrong[_key(route)], seen)

    def _remember(self, plan: Plan) -> None:
        """Keep when which shares came into force; of a route's rules the last one counts, which
        ordinary requests fall under."""
        for route, parts in plan:
            now = {f"{who.version}/{who.track}": share for who, share in parts[-1].items() if share}
            key = _key(route)
            if self._last.get(key) != now:
                self._last[key] = now
                at = datetime.now(UTC).isoformat()
                self.history.append({"at": at, "namespace": key[0], "route": key[1], "shares": now})

    def _program(self, routes: Iterable[Obj], wrong: Mapping[tuple[str, str], str]) -> None:
        """Take over what routes say; one that says what cannot be done stays as it was."""
        kept = {_key(route) for route in routes}
        for key in set(self._programmed) - kept:
            del self._programmed[key]
        for route in routes:
            key = _key(route)
            frozen = any(fnmatchcase(key[1], one) for one in self.scenario.ignored_routes)
            if not wrong[key] and not (frozen and key in self._programmed):
                self._programmed[key] = route

    async def _report(self, route: Obj, wrong: str, seen: Lists) -> None:
        services = seen.get((SERVICE, route["metadata"]["namespace"]), [])
        names = {one["metadata"]["name"] for one in services}
        parents = route_parents(route, names.__contains__, datetime.now(UTC), wrong)
        await self._cluster.report(route, parents)

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll):
                    await self._changed.wait()
            # What changes together is looked at together.
            await asyncio.sleep(SETTLE_SECONDS)
            self._changed.clear()
            try:
                await self.look()
            except (ApiException, OSError, TimeoutError) as broken:
                log.warning("the cluster cannot be read, the last state goes on: %s", broken)

    async def _exported(self, _: Request) -> Response:
        text = generate_latest(self._meters.registry)
        return Response(text, headers=SIMULATED, media_type=CONTENT_TYPE_LATEST)

    async def _info(self, _: Request) -> Response:
        routes = [
            {"namespace": ns, "route": name, "generation": route["metadata"].get("generation")}
            for (ns, name), route in self._programmed.items()
        ]
        servers = [
            {"namespace": one.namespace, "service": one.service, "version": one.version,
             "track": one.track, "url": running.url, "busy": running.busy}
            for one, running in self._servers.running.items()
        ]  # fmt: skip
        said = {
            "simulated": True,
            "url": self.url,
            "routes": routes,
            "servers": servers,
            "history": list(self.history),
        }
        return JSONResponse(said, headers=SIMULATED)

    async def _set_scenario(self, request: Request) -> Response:
        try:
            self.scenario = Scenario.model_validate(await request.json())
        except (ValueError, ValidationError) as wrong:
            return JSONResponse({"simulated": True, "error": str(wrong)}, 400, SIMULATED)
        return JSONResponse(self.scenario.model_dump(mode="json"), headers=SIMULATED)


def _key(route: Obj) -> tuple[str, str]:
    return route["metadata"]["namespace"], route["metadata"]["name"]


def _shares(spec: ServiceSpec, rule: Obj, seen: Lists, namespace: str) -> dict[Backend, float]:
    """The backends of a rule, those of a Service in proportion to its ready pods."""
    services = {one["metadata"]["name"]: one for one in seen.get((SERVICE, namespace), [])}
    pods = seen.get((POD, namespace), [])
    found: dict[Backend, float] = {}
    for ref in rule.get("backendRefs") or ():
        weight = float(ref.get("weight", 1))
        for flow in behind(spec, ref["name"], services.get(ref["name"]), pods, weight):
            who = Backend(namespace, spec.name, flow.version, flow.track, flow.outcome)
            found[who] = found.get(who, 0.0) + flow.share
    return found
