"""Samples in memory: series by labels, with staleness, for a limited time."""

from __future__ import annotations

import math
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping

from evals.world.promql.parse import Matcher

Labels = tuple[tuple[str, str], ...]
"""Label pairs in the order of their names, the metric's name as `__name__` among them."""

_STALE_BITS = 0x7FF0000000000002
STALE: float = struct.unpack("<d", struct.pack("<Q", _STALE_BITS))[0]
"""Prometheus's staleness marker: a NaN with bits of its own."""


def is_stale(value: float) -> bool:
    """Whether this is the staleness marker, not just any NaN."""
    return math.isnan(value) and struct.unpack("<Q", struct.pack("<d", value))[0] == _STALE_BITS


def labels_of(name: str, labels: Mapping[str, str]) -> Labels:
    """Sorted pairs with the name among them."""
    return tuple(sorted({**labels, "__name__": name}.items()))


class Series:
    """One time series. Times are Unix seconds, rising."""

    __slots__ = ("labels", "times", "values")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.times: array[float] = array("d")
        self.values: array[float] = array("d")

    def window(self, start: float, end: float) -> tuple[array[float], array[float]]:
        """Samples with start <= time <= end, staleness markers among them."""
        a, b = bisect_left(self.times, start), bisect_right(self.times, end)
        return self.times[a:b], self.values[a:b]


class SeriesStore:
    """Every series that has a sample younger than `retention` simulated seconds."""

    def __init__(self, retention: float) -> None:
        self._retention = retention
        self._series: dict[str, dict[Labels, Series]] = {}

    def append(self, name: str, labels: Labels, time: float, value: float) -> None:
        """Add a sample; `labels` must include the name. Times must not go back."""
        by_labels = self._series.setdefault(name, {})
        series = by_labels.get(labels)
        if series is None:
            series = by_labels[labels] = Series(labels)
        series.times.append(time)
        series.values.append(value)

    def last(self, name: str, labels: Labels) -> tuple[float, float] | None:
        """Time and value of a series' youngest sample, or None."""
        series = self._series.get(name, {}).get(labels)
        if series is None or not series.times:
            return None
        return series.times[-1], series.values[-1]

    def trim(self, now: float) -> None:
        """Forget samples older than the retention."""
        oldest = now - self._retention
        for by_labels in self._series.values():
            for labels, series in list(by_labels.items()):
                # Cutting arrays costs; do it when a tenth of the retention has gathered.
                if series.times and series.times[0] < oldest - self._retention / 10:
                    cut = bisect_left(series.times, oldest)
                    del series.times[:cut], series.values[:cut]
                if not series.times:
                    del by_labels[labels]

    def select(self, matchers: Iterable[Matcher]) -> Iterator[Series]:
        """Series that pass all matchers."""
        matchers = tuple(matchers)
        exact = next((m.value for m in matchers if m.label == "__name__" and m.op == "="), None)
        names = [exact] if exact is not None else list(self._series)
        for name in names:
            for labels, series in self._series.get(name, {}).items():
                pairs = dict(labels)
                if all(m.test(pairs.get(m.label, "")) for m in matchers):
                    yield series

    def names(self) -> list[str]:
        """Names of all metrics."""
        return sorted(name for name, found in self._series.items() if found)

    def all(self) -> Iterator[Series]:
        """Every series, grouped by metric name."""
        for name in self.names():
            yield from self._series[name].values()
