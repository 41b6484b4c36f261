"""Requests that nobody sends: counters that grow as they would behind the cluster's routes.

Time is cut into ticks, aligned to multiples of the tick since the Unix epoch. The draws of a tick
depend only on the seed, the tick and the version, so the same history of the cluster gives the same
counters. Ticks are made up when somebody reads or when the cluster changes, with the state that
held until then.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from evals.world.clock import Clock
from evals.world.dataplane import DataPlane, Flow
from evals.world.kube.kinds import HTTPROUTE, POD, SERVICE
from evals.world.kube.store import Change
from evals.world.promql.parse import Matcher
from evals.world.scenario import Scenario
from evals.world.seed import ServiceSpec
from evals.world.series import STALE, Labels, SeriesStore, is_stale, labels_of

BUCKETS = ("0.1", "0.3", "1", "+Inf")
REQUESTS = "http_requests_total"
DURATION = "http_request_duration_seconds"
_FAST = (0.8, 0.2, 0.0, 0.0)
_SLOW = (0.0, 0.0, 0.85, 0.15)
_MEAN = (0.05, 0.2, 0.6, 2.0)
_RELEVANT = (POD, SERVICE, HTTPROUTE)

Who = tuple[str, str, str, str]
"""(namespace, service, version, track)"""


def poisson(rng: random.Random, mean: float) -> int:
    """A Poisson draw; above 50 by the normal approximation, whose error does not matter here."""
    if mean <= 0:
        return 0
    if mean > 50:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count


@dataclass(slots=True)
class _Counter:
    """Counts of one (namespace, service, version, track, code), with its series' labels."""

    series: list[tuple[str, Labels]]
    buckets: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    seconds: float = 0.0

    def values(self) -> Iterator[float]:
        """In the order of `series`: total, cumulative buckets, count, sum."""
        total = sum(self.buckets)
        yield total
        running = 0
        for count in self.buckets:
            running += count
            yield running
        yield total
        yield self.seconds


def _counter(who: Who, code: str) -> _Counter:
    base = dict(zip(("namespace", "service", "version", "track"), who, strict=True))
    base["code"] = code
    named: list[tuple[str, dict[str, str]]] = [
        (REQUESTS, base),
        *((f"{DURATION}_bucket", {**base, "le": le}) for le in BUCKETS),
        (f"{DURATION}_count", base),
        (f"{DURATION}_sum", base),
    ]
    return _Counter([(name, labels_of(name, labels)) for name, labels in named])


class Traffic:
    """The traffic simulator. Reading goes through `window`, which first catches up with the clock.

    `tick` and `retention` are simulated seconds.
    """

    def __init__(
        self, services: Iterable[ServiceSpec], plane: DataPlane, scenario: Callable[[], Scenario],
        clock: Clock, *, seed: int, tick: float = 5.0, retention: float = 6 * 3600.0,
    ) -> None:  # fmt: skip
        self._services = [(s, ns) for s in services for ns in dict.fromkeys(s.namespaces.values())]
        self._plane = plane
        self._scenario = scenario
        self._clock = clock
        self._seed = seed
        self._tick = tick
        self._retention = retention
        self._done = math.floor(clock.now().timestamp() / tick) * tick
        self._flows: dict[tuple[str, str], list[Flow]] = {}
        self._counters: dict[tuple[Who, str], _Counter] = {}
        self.series = SeriesStore(retention)
        self.refresh()

    # --- following the cluster ---

    def on_change(self, change: Change) -> None:
        """A listener for the emulator's store."""
        if change.kind in _RELEVANT:
            self.refresh(change.key[0])

    def refresh(self, namespace: str | None = None) -> None:
        """The cluster may have changed: account for the time until now, then look again."""
        self.catch_up()
        for spec, where in self._services:
            if namespace in (None, where):
                self._flows[spec.name, where] = self._plane.flows(spec, where)

    def flows(self) -> dict[tuple[str, str], list[Flow]]:
        """The present flows by (service, namespace)."""
        return dict(self._flows)

    # --- time ---

    def catch_up(self) -> None:
        """Make up all ticks that have passed. Call before the scenario or the cluster changes."""
        now = self._clock.now().timestamp()
        behind = now - self._done
        if behind > self._retention:
            # Nobody will ask for samples that old: one long tick stands for them.
            skipped = math.floor((behind - self._retention) / self._tick) * self._tick
            self._advance(skipped)
        while self._done + self._tick <= now:
            self._advance(self._tick)
        self.series.trim(now)

    def backfill(self, sim_seconds: float) -> None:
        """Make up the traffic of the past `sim_seconds` as if the present state had always held.

        Only for a world in which no tick has passed yet.
        """
        self._counters.clear()
        self.series = SeriesStore(self._retention)
        now = self._clock.now().timestamp()
        self._done = math.floor((now - min(sim_seconds, self._retention)) / self._tick) * self._tick
        self.catch_up()

    def _advance(self, length: float) -> None:
        before = self._done
        # Multiplying from the epoch keeps tick times free of accumulated rounding.
        self._done = round((before + length) / self._tick) * self._tick
        scenario = self._scenario()
        alive: set[tuple[Who, str]] = set()
        for spec, namespace in self._services:
            flows = self._flows.get((spec.name, namespace), [])
            for flow in flows:
                who = (namespace, spec.name, flow.version, flow.track)
                mean = spec.rate(namespace) * scenario.traffic * flow.share * length
                alive |= self._requests(who, flow, mean, scenario)
            served = any(f.outcome == "served" and f.share for f in flows)
            up = labels_of(
                "up", {"job": "fermata-world", "namespace": namespace, "service": spec.name}
            )
            if not scenario.metrics.scrape_gap:
                self.series.append("up", up, self._done, float(served))
        for key, counter in list(self._counters.items()):
            if key in alive or (key[1] != "500" and key[1] != "200" and (key[0], "200") in alive):
                self._record(counter, before, scenario)
            else:
                self._retire(counter)
                del self._counters[key]

    def _requests(
        self, who: Who, flow: Flow, mean: float, scenario: Scenario
    ) -> set[tuple[Who, str]]:
        rng = random.Random(f"{self._seed}/{'/'.join(who)}/{flow.outcome}/{self._done}")
        namespace, service, version, track = who
        error, slow = scenario.behaviour(service, namespace, version, track)
        shares = {"200": 1 - error, "500": error}
        if flow.outcome == "unavailable":
            shares, slow = {"503": 1.0}, 0.0
        elif flow.outcome == "unresolved":
            shares, slow = {"500": 1.0}, 0.0
        keys = set()
        for code, share in shares.items():
            counter = self._counters.get((who, code))
            if counter is None:
                counter = self._counters[who, code] = _counter(who, code)
            for i in range(4):
                split = _FAST[i] * (1 - slow) + _SLOW[i] * slow
                drawn = poisson(rng, mean * share * split)
                counter.buckets[i] += drawn
                counter.seconds += drawn * _MEAN[i]
            keys.add((who, code))
        return keys

    def _record(self, counter: _Counter, before: float, scenario: Scenario) -> None:
        if scenario.metrics.scrape_gap:
            return
        for (name, labels), value in zip(counter.series, counter.values(), strict=True):
            last = self.series.last(name, labels)
            if last is None or (last[0] < before and is_stale(last[1])):
                # Client libraries export known counters from zero; increase() needs that start.
                self.series.append(name, labels, before, 0.0)
            self.series.append(name, labels, self._done, value)

    def _retire(self, counter: _Counter) -> None:
        for name, labels in counter.series:
            if self.series.last(name, labels) is not None:
                self.series.append(name, labels, self._done, STALE)

    # --- reading ---

    def window(
        self, matchers: Iterable[Matcher], start: float, end: float
    ) -> Iterator[tuple[Labels, list[tuple[float, float | None]]]]:
        """Samples by series with start <= time <= end, as the scenario lets them be seen."""
        metering = self._scenario().metrics
        if metering.no_data:
            return
        matchers = tuple(matchers)
        copies: list[Callable[[Labels], Labels]] = [lambda labels: labels]
        if metering.duplicates:
            copies.append(lambda labels: tuple(sorted((*labels, ("replica", "b")))))
        for series in self.series.select(matchers):
            times, values = series.window(start, end)
            points = [
                (t, None if is_stale(v) else math.nan if metering.nan else v)
                for t, v in zip(times, values, strict=True)
            ]
            for copy in copies:
                yield copy(series.labels), points
