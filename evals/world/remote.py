"""The data plane beside a real API server: the pods there run no code, so the requests are made up.

Reads routes, Services and pods through the official client, reports on the routes as a gateway
would, and serves the resulting counters for a real Prometheus to scrape.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kubernetes.aio.client import ApiException

from evals.world.clock import Clock
from evals.world.cluster_lists import ClusterLists, Seen
from evals.world.control import ControlApp
from evals.world.controllers.cluster import route_parents
from evals.world.dataplane import DataPlane
from evals.world.faults import Faults
from evals.world.kube.kinds import HTTPROUTE, SERVICE, Obj
from evals.world.metrics import PrometheusApp
from evals.world.scenario import Scenario
from evals.world.seed import ServiceSpec
from evals.world.serving import LocalServer
from evals.world.traffic import Traffic
from evals.world.world import Front

log = logging.getLogger(__name__)


class RemoteWorld:
    """Like `World`, but the cluster is a real one, named by a kubeconfig.

    It runs no Kubernetes controllers. With `report_routes` it is the gateway's controller: it sets
    Accepted and ResolvedRefs on the HTTPRoutes of its services. Serves `/metrics`, `/prometheus`
    and `/world`. Looks at the cluster every `poll` real seconds; while it cannot be reached, the
    last known state goes on, as a real gateway's does.
    """

    def __init__(
        self, kubeconfig: Path, seed: int, clock: Clock, services: Iterable[ServiceSpec],
        *, scenario: Scenario | None = None, tick: float = 5.0, poll: float = 0.5,
        report_routes: bool = True,
    ) -> None:  # fmt: skip
        self.clock: Any = clock
        self.services = list(services)
        self.scenario = scenario or Scenario()
        self.faults = Faults()
        self._poll = poll
        self._report = report_routes
        self._seen = Seen()
        spaces = [ns for s in self.services for ns in s.namespaces.values()]
        self._cluster = ClusterLists(kubeconfig, spaces)
        self._task: asyncio.Task[None] | None = None
        self._base = ""
        plane = DataPlane(self._seen, lambda: self.scenario.ignored_routes)
        self.traffic = Traffic(
            self.services, plane, lambda: self.scenario, clock, seed=seed, tick=tick
        )
        prometheus = PrometheusApp(self.traffic, lambda: self.scenario, clock)
        self._server = LocalServer(Front(None, prometheus, ControlApp(self), self.faults))

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Read the cluster once, then listen. Raises the client's errors if it cannot be read."""
        await self._cluster.open()
        await self.look()
        self._base = f"http://{host}:{await self._server.start(host, port)}"
        self._task = asyncio.create_task(self._follow(), name="world-remote")

    async def stop(self) -> None:
        """Stop following and serving. Safe to call twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._server.stop()
        await self._cluster.close()

    @property
    def url(self) -> str:
        """Where it listens; `/metrics` is there to be scraped."""
        return self._base

    @property
    def prometheus_url(self) -> str:
        """Its own query API, as in `World`."""
        return f"{self._base}/prometheus"

    def set_scenario(self, scenario: Scenario) -> None:
        """Let `scenario` hold from now on. `crash` and `startup_seconds` have no effect here."""
        self.traffic.catch_up()
        self.scenario = scenario
        self.traffic.refresh()

    def compact(self) -> None:
        """There is no change history of our own to forget."""

    def info(self) -> dict[str, Any]:
        """What `GET /world` answers."""
        flows = [
            {"service": s, "namespace": ns, "version": f.version, "track": f.track,
             "share": round(f.share, 6), "outcome": f.outcome}
            for (s, ns), found in self.traffic.flows().items() for f in found
        ]  # fmt: skip
        return {
            "simulated": True, "now": self.clock.now().isoformat(), "cluster": "real",
            "prometheus_url": self.prometheus_url, "flows": flows,
        }  # fmt: skip

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll)
            try:
                await self.look()
            except (ApiException, OSError, TimeoutError) as broken:
                log.warning("the cluster cannot be read, the last state goes on: %s", broken)

    async def look(self) -> None:
        """Read the cluster, report on the routes, account for what changed."""
        fresh = await self._cluster.read()
        if self._report and not self.scenario.gateway_down:
            for (kind, namespace), routes in list(fresh.items()):
                if kind is HTTPROUTE:
                    names = {s["metadata"]["name"] for s in fresh[SERVICE, namespace]}
                    fresh[kind, namespace] = [await self._accept(r, names) for r in routes]
        self.traffic.catch_up()
        self._seen.lists = fresh
        self.traffic.refresh()

    async def _accept(self, route: Obj, services: set[str]) -> Obj:
        if route["metadata"]["name"] not in {s.route for s in self.services}:
            return route
        parents = route_parents(route, services.__contains__, self.clock.now())
        return await self._cluster.report(route, parents)
