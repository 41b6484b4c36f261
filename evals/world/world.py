"""The whole world behind one loopback port: Kubernetes, Prometheus, and its own controls."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from evals.world.clock import Clock, WorldClock
from evals.world.control import ControlApp
from evals.world.controllers.cluster import DisruptionBudgets, GarbageCollector, Gateways
from evals.world.controllers.deployments import Deployments
from evals.world.controllers.pods import Kubelet, ReplicaSets
from evals.world.controllers.runner import Runner
from evals.world.dataplane import DataPlane
from evals.world.faults import FaultLayer, Faults
from evals.world.kube.api import KubeApi
from evals.world.kube.app import KubeApp
from evals.world.kube.kinds import Kind, Obj
from evals.world.kube.rules import image_tag
from evals.world.kube.store import FIRST_VERSION, Store
from evals.world.metrics import PrometheusApp
from evals.world.scenario import Scenario
from evals.world.seed import ServiceSpec, seed_emulator
from evals.world.serving import LocalServer
from evals.world.traffic import Traffic

PUMP_SECONDS = 2.0
"""Real seconds between looks at the clock while nobody reads, so that ticks do not pile up."""


class _StoreView:
    def __init__(self, store: Store) -> None:
        self._store = store

    def objects(self, kind: Kind, namespace: str) -> Iterable[Obj]:
        return self._store.all(kind, namespace)


class World:
    """Kubernetes at `/k8s`, Prometheus at `/prometheus` (and `/metrics`), controls at `/world`.

    `data` is a folder: with it, a new World on the same folder finds the Kubernetes objects and
    their resourceVersions again (counters start anew, as after a restart of the pods). `token`
    makes the Kubernetes API demand it as a bearer. `tick` is the sampling interval in simulated
    seconds. A fresh world starts as one that has been running: its seed pods are ready at once, and
    `warm` simulated seconds of past traffic exist.
    """

    def __init__(
        self, seed: int, clock: Clock, services: Iterable[ServiceSpec], data: Path | None = None,
        *, scenario: Scenario | None = None, token: str | None = None, tick: float = 5.0,
        warm: float = 900.0, history: int = 20_000,
    ) -> None:  # fmt: skip
        self.clock: Clock = clock
        self.services = list(services)
        self.scenario = scenario or Scenario()
        self.faults = Faults()
        self.store = Store(data / "kubernetes.sqlite" if data else None, history=history)
        self.api = KubeApi(self.store, clock, seed=seed)
        self._token = token
        self._warm = warm
        self._seeding = False
        self._runner = Runner(
            [
                Deployments(self.api), ReplicaSets(self.api),
                Kubelet(
                    self.api, lambda _: 0.0 if self._seeding else self.scenario.startup_seconds,
                    lambda image: self.scenario.crashes(image_tag(image)),
                ),
                Gateways(self.api, lambda: self.scenario.gateway_down),
                GarbageCollector(self.api), DisruptionBudgets(self.api),
            ],
            self.store, clock,
        )  # fmt: skip
        plane = DataPlane(_StoreView(self.store), lambda: self.scenario.ignored_routes)
        self.traffic = Traffic(
            self.services, plane, lambda: self.scenario, clock, seed=seed, tick=tick
        )
        self.store.subscribe(self.traffic.on_change)
        kube = KubeApp(self.api, token=token)
        prometheus = PrometheusApp(self.traffic, lambda: self.scenario, clock)
        self._server = LocalServer(Front(kube, prometheus, ControlApp(self), self.faults))
        self._base = ""
        self._pump: asyncio.Task[None] | None = None

    # --- life ---

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Create the seed objects that are missing, start controllers and listen.

        Raises OSError when the port is taken.
        """
        # After a restart the past is unknown, and a gap is truer than a made-up history.
        self._seeding = is_fresh = self.store.version == FIRST_VERSION
        seed_emulator(self.api, self.services)
        self._runner.start()
        await self._runner.settle()
        self._seeding = False
        if is_fresh:
            self.traffic.backfill(self._warm)
        actual = await self._server.start(host, port)
        self._base = f"http://{f'[{host}]' if ':' in host else host}:{actual}"
        self._pump = asyncio.create_task(self._keep_up(), name="world-pump")

    async def stop(self) -> None:
        """End watches, controllers and the server; close the file. Safe to call twice."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
            self._pump = None
        await self._runner.stop()
        self.store.close()
        await self._server.stop()

    async def settle(self) -> None:
        """Return once the controllers have nothing left to do but wait for time to pass."""
        await self._runner.settle()

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(PUMP_SECONDS)
            self.traffic.catch_up()

    # --- addresses ---

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        if not self._base:
            raise RuntimeError("the world has not been started")
        return self._base

    @property
    def kubernetes_url(self) -> str:
        """The `host` of a Kubernetes client."""
        return f"{self.url}/k8s"

    @property
    def prometheus_url(self) -> str:
        """What a Prometheus client takes as its base URL."""
        return f"{self.url}/prometheus"

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig for the official clients and kubectl; returns `path`."""
        name = "fermata-simulated"
        user = {"token": self._token} if self._token else {}
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": self.kubernetes_url}}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        }  # fmt: skip
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        path.chmod(0o600)
        return path

    # --- control ---

    def set_scenario(self, scenario: Scenario) -> None:
        """Let `scenario` hold from this simulated instant on; the time before keeps the old one."""
        self.traffic.catch_up()
        self.scenario = scenario
        self.traffic.refresh()
        # Pods and routes look again: an image may have begun to crash, a gateway to answer.
        self._runner.nudge()

    def compact(self) -> None:
        """Forget the change history: a watch from an older resourceVersion gets 410 Gone."""
        self.store.forget()

    def info(self) -> dict[str, Any]:
        """What `GET /world` answers."""
        clock: dict[str, Any] = {"kind": type(self.clock).__name__}
        if isinstance(self.clock, WorldClock):
            spec = self.clock.spec
            clock |= {"epoch": spec.epoch, "start": spec.start.isoformat(), "speed": spec.speed}
        return {
            "simulated": True, "now": self.clock.now().isoformat(), "clock": clock,
            "kubernetes_url": self.kubernetes_url, "prometheus_url": self.prometheus_url,
            "resource_version": self.store.version,
            "services": [
                {
                    "name": s.name, "image": s.image, "namespaces": dict(s.namespaces),
                    "route": s.route, "deployment": s.deployment,
                }
                for s in self.services
            ],
            "flows": [
                {
                    "service": service, "namespace": namespace, "version": f.version,
                    "track": f.track, "share": round(f.share, 6), "outcome": f.outcome,
                }
                for (service, namespace), flows in self.traffic.flows().items() for f in flows
            ],
        }  # fmt: skip


class Front:
    """Spreads requests by their first path segment; faults strike everywhere but in `/world`."""

    def __init__(
        self, kube: KubeApp | None, prometheus: PrometheusApp, control: ControlApp, faults: Faults
    ) -> None:
        # None beside a real cluster.
        self._kube = kube
        self._prometheus = prometheus
        self._control = control
        self._faulty = FaultLayer(self._route, faults)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/world" or scope["path"].startswith("/world/"):
            await self._control(scope, receive, send)
        else:
            await self._faulty(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        first = scope["path"].split("/")[1]
        if first == "k8s" and self._kube is not None:
            await self._kube({**scope, "root_path": "/k8s"}, receive, send)
        elif first == "prometheus":
            await self._prometheus({**scope, "root_path": "/prometheus"}, receive, send)
        elif scope["path"] == "/metrics":
            await self._prometheus(scope, receive, send)
        else:
            places = ["/k8s", "/prometheus", "/metrics", "/world"]
            await JSONResponse({"simulated": True, "places": places}, 404)(scope, receive, send)


@contextlib.contextmanager
def in_thread(world: World, host: str = "127.0.0.1", port: int = 0) -> Iterator[World]:
    """Run a world on an event loop in a thread of its own, for synchronous callers.

    While it runs, touch it only over HTTP, through its clock, and through `faults`.
    """
    ready = threading.Event()
    failure: list[BaseException] = []
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def live() -> None:
        end = asyncio.Event()
        try:
            await world.start(host, port)
        except OSError as broken:
            failure.append(broken)
            ready.set()
            return
        stop.append((asyncio.get_running_loop(), end))
        ready.set()
        await end.wait()
        await world.stop()

    thread = threading.Thread(target=lambda: asyncio.run(live()), name="world", daemon=True)
    thread.start()
    ready.wait()
    if failure:
        raise failure[0]
    try:
        yield world
    finally:
        loop, end = stop[0]
        loop.call_soon_threadsafe(end.set)
        thread.join()
