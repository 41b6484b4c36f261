"""Made-up traffic of two versions, with seeds: counts by window, for many releases at once.

One window is a minute, and a check has thirty. The weight splits the requests at random, and errors
fall on them at the rate of the kind of traffic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]

SECONDS = 60.0
WINDOWS = 30
WEIGHT = 0.1
BASE = 0.002
"""Rate of errors of a version that is well."""


@dataclass(frozen=True)
class Streams:
    """Counts of shape (releases, windows)."""

    bad: Array
    total: Array
    base_bad: Array
    base_total: Array


def requests(rng: Generator, releases: int, rpm: float | Array) -> tuple[Array, Array]:
    """Requests by window on the canary and on stable."""
    every = rng.poisson(np.broadcast_to(np.asarray(rpm, dtype=np.float64), (releases, WINDOWS)))
    mine = rng.binomial(every, WEIGHT)
    return mine.astype(np.float64), (every - mine).astype(np.float64)


def errors(rng: Generator, total: Array, rate: float | Array) -> Array:
    """Errors one by one: binomial."""
    return rng.binomial(total.astype(np.int64), np.clip(rate, 0.0, 1.0)).astype(np.float64)


def clumped(rng: Generator, total: Array, rate: float, size: float) -> Array:
    """Errors in clumps of `size` on average, geometrically distributed."""
    clumps = rng.poisson(total * rate / size)
    more = rng.negative_binomial(np.maximum(clumps, 1), 1 / size)
    return np.minimum(np.where(clumps > 0, clumps + more, 0), total).astype(np.float64)


def wavering(rng: Generator, total: Array, rate: float, shape: float) -> Array:
    """Errors at a rate that each version draws anew each minute (gamma): negative binomial."""
    return errors(rng, total, rate * rng.gamma(shape, 1 / shape, total.shape))


def correlated(rng: Generator, total: Array, rate: float, rho: float) -> Array:
    """Errors whose requests of one minute and version are alike by `rho`: beta-binomial."""
    weight = 1 / rho - 1
    return errors(rng, total, rng.beta(rate * weight, (1 - rate) * weight, total.shape))


def steady(rng: Generator, releases: int, rpm: float, times: float) -> Streams:
    """Poisson traffic, errors one by one."""
    mine, theirs = requests(rng, releases, rpm)
    return Streams(errors(rng, mine, BASE * times), mine, errors(rng, theirs, BASE), theirs)


def diurnal(rng: Generator, releases: int, rpm: float, times: float) -> Streams:
    """Traffic and error rate on the slope of a day, both versions alike."""
    phase = rng.uniform(0, 2 * np.pi, (releases, 1))
    wave = np.sin(phase + np.linspace(0, np.pi, WINDOWS))
    mine, theirs = requests(rng, releases, rpm * (1 + 0.6 * wave))
    rate = BASE * (1 + 0.5 * wave)
    return Streams(errors(rng, mine, rate * times), mine, errors(rng, theirs, rate), theirs)


def rushes(rng: Generator, releases: int, rpm: float, times: float) -> Streams:
    """One minute in ten brings ten times the traffic."""
    rush = np.where(rng.random((releases, WINDOWS)) < 0.1, 10.0, 1.0)
    mine, theirs = requests(rng, releases, rpm * rush)
    return Streams(errors(rng, mine, BASE * times), mine, errors(rng, theirs, BASE), theirs)


def bursts(rng: Generator, releases: int, rpm: float, times: float) -> Streams:
    """One minute in twenty fails ten times as often, on each version by itself."""
    mine, theirs = requests(rng, releases, rpm)

    def rate() -> Array:
        return BASE * np.where(rng.random((releases, WINDOWS)) < 0.05, 10.0, 1.0)

    return Streams(errors(rng, mine, rate() * times), mine, errors(rng, theirs, rate()), theirs)


def clumps(rng: Generator, releases: int, rpm: float, times: float) -> Streams:
    """Errors come in clumps of four."""
    mine, theirs = requests(rng, releases, rpm)
    bad, base_bad = clumped(rng, mine, BASE * times, 4), clumped(rng, theirs, BASE, 4)
    return Streams(bad, mine, base_bad, theirs)


def overdispersed(rng: Generator, releases: int, rpm: float, times: float) -> Streams:
    """The rate itself wavers by 70% from minute to minute, on each version by itself."""
    mine, theirs = requests(rng, releases, rpm)
    bad, base_bad = wavering(rng, mine, BASE * times, 2), wavering(rng, theirs, BASE, 2)
    return Streams(bad, mine, base_bad, theirs)


def alike(rng: Generator, releases: int, rpm: float, times: float) -> Streams:
    """Requests of one minute fail together (correlation 0.002: as if in clumps of two on the
    canary, of twelve on stable, at 6,000 requests a minute)."""
    mine, theirs = requests(rng, releases, rpm)
    bad, base_bad = correlated(rng, mine, BASE * times, 0.002), correlated(rng, theirs, BASE, 0.002)
    return Streams(bad, mine, base_bad, theirs)


def incident(rng: Generator, releases: int, rpm: float, times: float) -> Streams:
    """A dependency fails 5% to 60% of the requests of both versions for five to fifteen minutes."""
    mine, theirs = requests(rng, releases, rpm)
    begin = rng.integers(1, 15, (releases, 1))
    length = rng.integers(5, 16, (releases, 1))
    minute = np.arange(WINDOWS)[None, :]
    during = (minute >= begin) & (minute < begin + length)
    rate = np.where(during, rng.uniform(0.05, 0.6, (releases, 1)), 0.0)
    return Streams(
        errors(rng, mine, BASE * times + rate), mine, errors(rng, theirs, BASE + rate), theirs
    )


def cold(rng: Generator, releases: int, rpm: float, times: float) -> Streams:
    """The canary begins with fifty times the errors, a tenth of that a minute later, and so on."""
    mine, theirs = requests(rng, releases, rpm)
    rate = BASE * (times + 49 * np.exp(-2.2 * np.arange(WINDOWS)))[None, :]
    return Streams(errors(rng, mine, rate), mine, errors(rng, theirs, BASE), theirs)


KINDS = {
    "Poisson": steady,
    "diurnal": diurnal,
    "rushes of traffic": rushes,
    "bursts of errors": bursts,
    "clumps of errors": clumps,
    "wavering rate": overdispersed,
    "errors alike": alike,
    "shared incident": incident,
    "cold start": cold,
}
RATES = (30.0, 300.0, 1500.0, 6000.0)
"""Requests a minute, of both versions together."""
