"""What Fermata counts of itself, for Prometheus.

Each process counts what it does itself; those that serve one socket (`web.crew`) count together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol, TypeVar
from uuid import UUID

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.action import Action
from domain.effect import Applied, Stamp
from domain.errors import OutcomeUnknown, Permanent, Temporary
from domain.event import Event
from domain.intake import Intake
from domain.run import RunState
from store.records import Receipt
from tools.ports import Guard, WritePort
from web.receive import Accepts

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LAG_EVERY_SECONDS = 0.5


class Passed(Protocol):
    """What a passage reports (`graph.run.Passed`)."""

    @property
    def state(self) -> RunState:
        """The state the run was left in."""
        ...


AnyPassed = TypeVar("AnyPassed", bound=Passed)


class Metrics:
    """A registry of its own with everything Fermata exports.

    The composition root puts the wrappers around the parts that do the work: `counted` around the
    event log, `watched` around the writers, `timed` around `Engine.advance`.
    """

    def __init__(self) -> None:
        kept = self.registry = CollectorRegistry()
        self._stored = _Stored()
        self.events = Counter(
            "fermata_events",
            "Deliveries by source and what became of them",
            ["source", "status"],
            registry=kept,
        )
        self.effects = Counter(
            "fermata_effects",
            "Tries at effects by action and outcome",
            ["action", "outcome"],
            registry=kept,
        )
        self.accept_seconds = _seconds(
            kept, "fermata_event_accept_seconds", "Time to store an event with all it asks for"
        )
        self.effect_seconds = _seconds(
            kept, "fermata_effect_seconds", "Time a backend took for an effect", "action"
        )
        self.passages = _seconds(
            kept,
            "fermata_passage_seconds",
            "Time of one passage of a run through the graph, by the state it was left in",
            "state",
        )
        self.loop_lag = _seconds(
            kept, "fermata_event_loop_lag_seconds", "How late the event loop is"
        )
        self.http = _seconds(
            kept,
            "fermata_http_request_seconds",
            "Time to answer a request",
            "method",
            "route",
            "status",
        )

    def refresh(self, runs: Mapping[RunState, int] | None, pending: int | None) -> None:
        """Set what is read from the database; None: it did not answer, so nothing is claimed."""
        self._stored = _Stored(runs, pending)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        stored, counted = CollectorRegistry(), self.registry
        stored.register(self._stored)
        if values.ValueClass is not values.MutexValue:  # several processes count together
            counted = CollectorRegistry()
            MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
        return generate_latest(stored) + generate_latest(counted)

    def counted(self, events: Accepts) -> Accepts:
        """The event log, with deliveries counted and timed."""
        return _Counted(events, self)

    def watched(self, writers: Mapping[str, WritePort]) -> dict[str, WritePort]:
        """The writers by action kind, with every try counted by its outcome, and timed."""
        return {kind: _Watched(kind, writer, self) for kind, writer in writers.items()}

    def timed(
        self, advance: Callable[[UUID], Awaitable[AnyPassed | None]]
    ) -> Callable[[UUID], Awaitable[AnyPassed | None]]:
        """`Engine.advance`, with the passages that were made timed."""

        async def advance_timed(run_id: UUID) -> AnyPassed | None:
            began = perf_counter()
            passed = await advance(run_id)
            if passed is not None:
                self.passages.labels(passed.state.value).observe(perf_counter() - began)
            return passed

        return advance_timed

    async def watch_loop(self) -> None:
        """Measure how late the event loop is, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_EVERY_SECONDS
            await asyncio.sleep(LAG_EVERY_SECONDS)
            self.loop_lag.observe(max(0.0, loop.time() - due))


@dataclass(frozen=True, eq=False)
class _Stored(Collector):
    """What the database said at this scrape; None: it did not answer."""

    runs: Mapping[RunState, int] | None = None
    pending: int | None = None

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        runs = GaugeMetricFamily("fermata_runs", "Runs by state", labels=["state"])
        if self.runs is not None:
            for state in RunState:
                runs.add_metric([state.value], self.runs.get(state, 0))
        yield runs
        yield GaugeMetricFamily(
            "fermata_approvals_pending",
            "Questions waiting for people",
            value=float("nan") if self.pending is None else self.pending,
        )
        yield GaugeMetricFamily(
            "fermata_database_up",
            "1 when the database answered this scrape",
            value=0 if self.runs is None else 1,
        )


@dataclass(frozen=True)
class _Counted:
    events: Accepts
    metrics: Metrics
    _counters: dict[tuple[str, str], Counter] = field(default_factory=dict)
    """By source and status; looking a label up costs more than counting."""

    async def accept(self, event: Event, intakes: Sequence[Intake], payload: bytes) -> Receipt:
        began = perf_counter()
        try:
            receipt = await self.events.accept(event, intakes, payload)
        finally:
            self.metrics.accept_seconds.observe(perf_counter() - began)
        kind = event.source, receipt.status
        counter = self._counters.get(kind)
        if counter is None:
            counter = self._counters[kind] = self.metrics.events.labels(*kind)
        counter.inc()
        return receipt


@dataclass(frozen=True)
class _Watched:
    kind: str
    writer: WritePort
    metrics: Metrics

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        outcome = "broken_off"
        try:
            with self.metrics.effect_seconds.labels(self.kind).time():
                applied = await self.writer.apply(action, stamp, guard)
            outcome = "simulated" if applied.simulated else "applied"
            return applied
        except Temporary:
            outcome = "temporary"
            raise
        except Permanent:
            outcome = "permanent"
            raise
        except OutcomeUnknown:
            outcome = "unknown"
            raise
        finally:
            self.metrics.effects.labels(self.kind, outcome).inc()

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        return await self.writer.read_back(action, stamp)


class TimedRequests:
    """Times every request by its route's template, so that ids make no new series."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through; note the status when the answer begins."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        began = perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            labels = self.metrics.http.labels(method, _route(scope), str(status))
            labels.observe(perf_counter() - began)


def _seconds(registry: CollectorRegistry, name: str, help_: str, *labels: str) -> Histogram:
    return Histogram(name, help_, labels, buckets=SECONDS, registry=registry)


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _route(scope: Scope) -> str:
    """The template of the route that answered; `other` when none did, or a static file."""
    route = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    return str(path) if path else "other"


__all__ = ["Metrics", "TimedRequests"]
