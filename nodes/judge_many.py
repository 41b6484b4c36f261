"""The judge over many canaries at once, in arrays: the same bets, the same bounds, no words.

For simulations, and for whoever has thousands of canaries to judge. It says of each what
`nodes/judge.py` says of it after its last window (a test holds them together); windows have to be
in order and all of one length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.verdict import VerdictKind
from nodes.betting import Array, Counted, Evidence, Truth, bet, calm, spread_of, without_worst
from nodes.evidence import LARGEST_LOG, lower_beyond, within
from nodes.judge import SHORT_CHECK, WORST_FIRST, JudgeConfig

CHUNK = 64
"""Canaries at a time: what fits into the processor's cache is judged twice as fast."""


@dataclass(frozen=True)
class Many:
    """What was said of each canary."""

    kinds: NDArray[np.int64]
    """Index into `WORST_FIRST`."""
    decided_at: NDArray[np.int64]
    """Index of the window at which a canary failed; -1 where it did not."""

    def are(self, kind: VerdictKind) -> Truth:
        """Which canaries were given this verdict."""
        found: Truth = self.kinds == WORST_FIRST.index(kind)
        return found


def judge_many(
    counted: Counted, *, allowed: Array, config: JudgeConfig, seconds: float, compared: bool = True
) -> Many:
    """Judge canaries by counts of shape (canaries, metrics, windows), after their last window.

    `allowed` is the allowed rate of bad events by metric (NaN: no SLO), `seconds` the length of a
    window. A window without requests on the canary has no data.
    """
    parts = [
        _judge_chunk(
            Counted(
                counted.bad[at : at + CHUNK],
                counted.total[at : at + CHUNK],
                counted.base_bad[at : at + CHUNK],
                counted.base_total[at : at + CHUNK],
            ),
            allowed,
            config,
            seconds,
            compared,
        )
        for at in range(0, counted.bad.shape[0], CHUNK)
    ]
    return Many(
        np.concatenate([one.kinds for one in parts]),
        np.concatenate([one.decided_at for one in parts]),
    )


def _judge_chunk(
    counted: Counted, allowed: Array, config: JudgeConfig, seconds: float, compared: bool
) -> Many:
    canaries, metrics, windows = counted.bad.shape
    warmup = _warmup(config, seconds, windows)
    sound = _sound(counted.bad, counted.total) & _sound(counted.base_bad, counted.base_total)
    usable = sound & (counted.total > 0)
    used = Counted(
        *(
            np.where(usable, one, 0.0)[..., warmup:]
            for one in (counted.bad, counted.total, counted.base_bad, counted.base_total)
        )
    )
    limit = math.log(metrics / config.alpha)
    slo = np.broadcast_to(allowed, (canaries, metrics))
    spread = spread_of(seconds, windows - warmup)
    evidence = bet(
        used,
        tolerance=config.tolerance,
        allowed=slo,
        compared=np.full((canaries, metrics), compared),
        limit=limit,
        spread=spread,
    )
    proven = evidence.proven
    fails = proven.any(-1)
    when = np.where(fails, proven.argmax(-1) + warmup, windows)
    kinds = np.where(
        fails,
        WORST_FIRST.index(VerdictKind.FAIL),
        _ends(used, evidence, usable[..., warmup:], sound, slo, config, compared, limit, spread),
    )
    first = when.min(-1)
    return Many(kinds.min(-1), np.where(first < windows, first, -1))


def _warmup(config: JudgeConfig, seconds: float, windows: int) -> int:
    if config.warmup is not None:
        return config.warmup
    return min(math.ceil(config.warmup_seconds / seconds), windows // SHORT_CHECK)


def _sound(bad: Array, total: Array) -> Truth:
    found: Truth = np.isfinite(bad) & np.isfinite(total) & (bad >= 0) & (bad <= total)
    return found


def _ends(
    used: Counted,
    evidence: Evidence,
    usable: Truth,
    sound: Truth,
    slo: Array,
    config: JudgeConfig,
    compared: bool,
    limit: float,
    spread: int,
) -> NDArray[np.int64]:
    """What stands at the end of each metric that has not failed, by the order of the judge."""
    windows = usable.shape[-1]
    bad, total, base_bad, base_total = (
        one.sum(-1) for one in (used.bad, used.total, used.base_bad, used.base_total)
    )
    gaps = windows - usable.sum(-1)
    log = np.minimum(evidence.log[..., -1], LARGEST_LOG)
    calm = ~evidence.lone[..., -1] & (log < math.log(config.suspicion))
    has_slo = ~np.isnan(slo)
    enough = np.where(has_slo, config.within_slo * np.where(has_slo, slo, 0.0), config.negligible)
    own = evidence.own[..., -1]
    good = within(bad / own, total / own, enough, config.confidence)
    if compared:
        broken = lower_beyond(base_bad, base_total, slo, config.confidence)
        good |= _like_stable(used, evidence.split[..., -1], config) & ~broken
    passes = calm & (total >= config.min_total) & good
    others = without_worst(Counted(*(one[passes] for one in _columns(used))))
    hidden = bet(
        others,
        tolerance=config.tolerance,
        allowed=slo[passes],
        compared=np.full(int(passes.sum()), compared),
        limit=limit,
        spread=spread,
    ).log[..., -1]
    passes[passes] = np.minimum(hidden, LARGEST_LOG) < math.log(config.suspicion)
    index = WORST_FIRST.index
    kinds = np.where(passes, index(VerdictKind.PASS), index(VerdictKind.INCONCLUSIVE))
    empty = (gaps > config.gap_share * windows) | (gaps == windows)
    if not compared:
        empty |= ~has_slo
    kinds = np.where(empty, index(VerdictKind.NODATA), kinds)
    found: NDArray[np.int64] = np.where(sound.all(-1), kinds, index(VerdictKind.ERROR))
    return found


def _columns(counted: Counted) -> tuple[Array, Array, Array, Array]:
    return counted.bad, counted.total, counted.base_bad, counted.base_total


def _like_stable(used: Counted, split: Array, config: JudgeConfig) -> Truth:
    """Whether the upper bound of the ratio, incidents aside, is within the tolerance, and whether
    there were enough errors to expect for that to mean something."""
    quiet = calm(used)
    bad, total, base_bad, base_total = (
        np.where(quiet, one, 0.0).sum(-1)
        for one in (used.bad, used.total, used.base_bad, used.base_total)
    )
    odds = config.tolerance * total
    share = np.divide(odds, odds + base_total, out=np.zeros_like(odds), where=total > 0)
    bounded = within(bad / split, (bad + base_bad) / split, share, config.confidence)
    per = np.divide(total, base_total, out=np.zeros_like(total), where=base_total > 0)
    expected = per * base_bad / split
    found: Truth = (base_bad > 0) & bounded & (expected >= config.min_expected)
    return found
