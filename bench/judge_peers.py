"""The decisions that others make by default, as documented, on the same counts.

Written from the documentation; none of their code is used. Each takes counts of one metric by
minute and says of each release: did it end as passed, rolled back, or undecided, and in which
window. What each does with missing data is theirs, too.

* **Argo Rollouts**, AnalysisRun: each measurement is compared with `successCondition`; more than
  `failureLimit` failures fail the run; a run without measurements is successful. Two settings: the
  documentation's example (success rate of at least 95%, every 5 minutes, `failureLimit` 3), and a
  strict one (99%, every minute, `failureLimit` 0, which is the default of the field).
* **Flagger**: `request-success-rate` of at least 99% over each minute; a check that fails, or finds
  no values, counts; at `threshold` 5 the canary is rolled back.
* **Kayenta**: Mann-Whitney's confidence interval (98%) of the shift between the minute rates, with
  a tolerance of a quarter of the estimate; a metric beyond it scores 0, otherwise 100, and an empty
  group scores 100. Below 75 fails, from 95 passes. Judged every ten minutes on all data so far.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.judge_traffic import WINDOWS, Array, Streams

Z_98 = 2.3263478740408408
"""Standard normal quantile of 99%: a two-sided interval of 98%."""
TOLERANCE = 0.25
KAYENTA_EVERY = 10


@dataclass(frozen=True)
class Ruled:
    """Of each release: whether it was rolled back or passed (neither: undecided), and the number
    of windows that took; NaN without a rollback."""

    rolled_back: NDArray[np.bool_]
    passed: NDArray[np.bool_]
    windows: Array


def _ruled(hits: NDArray[np.bool_]) -> Ruled:
    """From whether each window is one at which the release is rolled back; otherwise it passes."""
    back = np.asarray(hits.any(-1))
    return Ruled(back, ~back, np.where(back, hits.argmax(-1) + 1.0, np.nan))


def _success(streams: Streams, every: int) -> Array:
    """Success rate of the canary over each `every` windows; NaN where it had no requests."""
    shape = (streams.bad.shape[0], WINDOWS // every, every)
    bad = streams.bad[:, : shape[1] * every].reshape(shape).sum(-1)
    total = streams.total[:, : shape[1] * every].reshape(shape).sum(-1)
    found: Array = 1 - np.divide(bad, total, out=np.full_like(bad, np.nan), where=total > 0)
    return found


def argo(streams: Streams, condition: float, every: int, failure_limit: int) -> Ruled:
    """Argo Rollouts: more than `failure_limit` measurements below `condition`."""
    rate = _success(streams, every)
    failures = np.cumsum(np.where(np.isnan(rate), False, rate < condition), -1)
    hits = np.zeros(streams.bad.shape, dtype=np.bool_)
    hits[:, every - 1 :: every] = failures > failure_limit
    return _ruled(hits)


def flagger(streams: Streams, minimum: float = 0.99, threshold: int = 5) -> Ruled:
    """Flagger: `threshold` checks that failed or found no values."""
    rate = _success(streams, 1)
    failed = np.cumsum(np.isnan(rate) | (rate < minimum), -1)
    return _ruled(failed >= threshold)


def kayenta(streams: Streams) -> Ruled:
    """Kayenta: a score after every ten minutes."""
    rate = 1 - _success(streams, 1)
    base = np.divide(
        streams.base_bad,
        streams.base_total,
        out=np.full_like(streams.base_bad, np.nan),
        where=streams.base_total > 0,
    )
    hits = np.zeros(rate.shape, dtype=np.bool_)
    for upto in range(KAYENTA_EVERY, WINDOWS + 1, KAYENTA_EVERY):
        hits[:, upto - 1] = [
            _is_high(mine[~np.isnan(mine)], theirs[~np.isnan(theirs)])
            for mine, theirs in zip(rate[:, :upto], base[:, :upto], strict=True)
        ]
    return _ruled(hits)


def _is_high(mine: Array, theirs: Array) -> bool:
    """Whether the interval of the shift lies above the tolerance. Nothing to compare is no harm."""
    m, n = len(mine), len(theirs)
    if m == 0 or n == 0 or np.array_equal(np.sort(mine), np.sort(theirs)):
        return False
    shifts = np.sort((mine[:, None] - theirs[None, :]).ravel())
    rank = math.floor(m * n / 2 - Z_98 * math.sqrt(m * n * (m + n + 1) / 12))
    return bool(shifts[max(rank, 0)] > TOLERANCE * abs(float(np.median(shifts))))


PEERS: dict[str, Callable[[Streams], Ruled]] = {
    "Argo, example": lambda streams: argo(streams, 0.95, 5, 3),
    "Argo, strict": lambda streams: argo(streams, 0.99, 1, 0),
    "Flagger": flagger,
    "Kayenta": kayenta,
}
