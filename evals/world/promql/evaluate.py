"""PromQL nodes to values, with the semantics of Prometheus 2.x.

`rate` and `increase` extrapolate to the edges of the window exactly as Prometheus does, and windows
are closed on both sides as in Prometheus 2: with samples on the tick and a query on the tick, they
are exact differences of counters. Counter resets are added up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import NamedTuple, Protocol

from evals.world.promql.parse import (
    COMPARISONS,
    SET_OPERATORS,
    Aggregate,
    Binary,
    Call,
    Expr,
    Matcher,
    Matching,
    Negate,
    Number,
    PromQLError,
    Selector,
    Text,
    type_of,
)

Labels = tuple[tuple[str, str], ...]
LOOKBACK = 300.0
"""How long, in seconds, an instant selector still sees a series' last sample."""


class Sample(NamedTuple):
    """One element of an instant vector."""

    labels: Labels
    value: float


class Points(NamedTuple):
    """One element of a range vector: (Unix seconds, value), oldest first, no stale markers."""

    labels: Labels
    points: list[tuple[float, float]]


class Source(Protocol):
    """Where samples come from."""

    def window(
        self, matchers: Iterable[Matcher], start: float, end: float
    ) -> Iterator[tuple[Labels, list[tuple[float, float | None]]]]:
        """Per series the samples with start <= time <= end; None is a staleness marker."""
        ...


Value = float | str | list[Sample] | list[Points]


def evaluate(expr: Expr, source: Source, at: float) -> Value:
    """The value of an expression at Unix second `at`. Raises PromQLError of kind execution."""
    match expr:
        case Number() | Text():
            return expr.value
        case Selector(range=None):
            return _instant(expr, source, at)
        case Selector():
            return _range(expr, source, at)
        case Negate():
            inner = evaluate(expr.expr, source, at)
            if isinstance(inner, float):
                return -inner
            return [Sample(_nameless(s.labels), -s.value) for s in _vector(inner)]
        case Aggregate():
            return _aggregate(expr, _vector(evaluate(expr.expr, source, at)))
        case Binary():
            return _binary(expr, evaluate(expr.lhs, source, at), evaluate(expr.rhs, source, at))
        case Call():
            return _call(expr, source, at)


def evaluate_range(
    expr: Expr, source: Source, start: float, end: float, step: float
) -> list[Points]:
    """The value at every step, as a matrix in the order of labels."""
    if type_of(expr) not in ("scalar", "vector"):
        raise PromQLError(
            'invalid parameter "query": invalid expression type "range vector" for range query, '
            "must be Scalar or instant Vector"
        )
    rows: dict[Labels, list[tuple[float, float]]] = {}
    count = math.floor((end - start) / step + 1e-9) + 1
    for i in range(count):
        at = start + i * step
        value = evaluate(expr, source, at)
        samples = [Sample((), value)] if isinstance(value, float) else _vector(value)
        for sample in samples:
            rows.setdefault(sample.labels, []).append((at, sample.value))
    return [Points(labels, rows[labels]) for labels in sorted(rows)]


def _vector(value: Value) -> list[Sample]:
    if isinstance(value, list) and all(isinstance(s, Sample) for s in value):
        return [s for s in value if isinstance(s, Sample)]
    raise PromQLError("expected an instant vector", "execution")


def _nameless(labels: Labels) -> Labels:
    return tuple(pair for pair in labels if pair[0] != "__name__")


def _instant(expr: Selector, source: Source, at: float) -> list[Sample]:
    end = at - expr.offset
    out = []
    for labels, points in source.window(expr.matchers, end - LOOKBACK, end):
        if points and (value := points[-1][1]) is not None:
            out.append(Sample(labels, value))
    return sorted(out, key=lambda s: s.labels)


def _range(expr: Selector, source: Source, at: float) -> list[Points]:
    assert expr.range is not None
    end = at - expr.offset
    out = []
    for labels, points in source.window(expr.matchers, end - expr.range, end):
        kept = [(t, v) for t, v in points if v is not None]
        if kept:
            out.append(Points(labels, kept))
    return sorted(out, key=lambda p: p.labels)


# --- functions ------------------------------------------------------------------------------------


def _difference(points: list[tuple[float, float]], is_counter: bool) -> float:
    total = points[-1][1] - points[0][1]
    if is_counter:
        for (_, before), (_, after) in pairwise(points):
            if after < before:
                total += before
    return total


def _extrapolated(
    points: list[tuple[float, float]], start: float, end: float, *, counter: bool, rate: bool
) -> float | None:
    """Prometheus's `extrapolatedRate` (promql/functions.go)."""
    if len(points) < 2:
        return None
    result = _difference(points, counter)
    to_start, to_end = points[0][0] - start, end - points[-1][0]
    sampled = points[-1][0] - points[0][0]
    gap = sampled / (len(points) - 1)
    if counter and result > 0 and points[0][1] >= 0:
        # A counter cannot have been below zero: do not extrapolate beyond that.
        to_start = min(to_start, sampled * (points[0][1] / result))
    covered = sampled
    for edge in (to_start, to_end):
        covered += edge if edge < gap * 1.1 else gap / 2
    factor = covered / sampled
    return result * (factor / (end - start) if rate else factor)


def _irate(points: list[tuple[float, float]]) -> float | None:
    if len(points) < 2:
        return None
    (t0, v0), (t1, v1) = points[-2:]
    return (v1 if v1 < v0 else v1 - v0) / (t1 - t0)


def _pairs(points: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    values = [v for _, v in points]
    return pairwise(values)


_OVER_TIME: dict[str, Callable[[list[tuple[float, float]]], float | None]] = {
    "irate": _irate,
    "avg_over_time": lambda ps: sum(v for _, v in ps) / len(ps),
    "sum_over_time": lambda ps: sum(v for _, v in ps),
    "min_over_time": lambda ps: min(v for _, v in ps),
    "max_over_time": lambda ps: max(v for _, v in ps),
    "count_over_time": lambda ps: float(len(ps)),
    "last_over_time": lambda ps: ps[-1][1],
    "changes": lambda ps: float(sum(a != b for a, b in _pairs(ps))),
    "resets": lambda ps: float(sum(b < a for a, b in _pairs(ps))),
}
_MAPPED: dict[str, Callable[[float], float]] = {
    "abs": abs, "ceil": lambda v: float(math.ceil(v)), "floor": lambda v: float(math.floor(v)),
}  # fmt: skip


def _call(expr: Call, source: Source, at: float) -> Value:
    name = expr.function
    if name == "time":
        return float(at)
    if name in _OVER_TIME or name in ("rate", "increase", "delta"):
        return _over_range(name, expr.args[0], source, at)
    args = [evaluate(arg, source, at) for arg in expr.args]
    if name == "vector":
        return [Sample((), _scalar(args[0]))]
    if name == "scalar":
        found = _vector(args[0])
        return found[0].value if len(found) == 1 else math.nan
    if name == "absent":
        return [] if _vector(args[0]) else [Sample(_absent_labels(expr.args[0]), 1.0)]
    if name == "histogram_quantile":
        return _histogram_quantile(_scalar(args[0]), _vector(args[1]))
    samples = _vector(args[0])
    if name == "label_replace":
        return _label_replace(samples, *[_text(one) for one in args[1:]])
    if name in ("sort", "sort_desc"):
        return sorted(samples, key=lambda s: s.value, reverse=name == "sort_desc")
    if name in ("clamp_min", "clamp_max"):
        bound, pick = _scalar(args[1]), max if name == "clamp_min" else min
        change: Callable[[float], float] = lambda v: v if math.isnan(v) else pick(v, bound)  # noqa: E731
    elif name == "round":
        step = _scalar(args[1]) if len(args) > 1 else 1.0
        change = lambda v: math.floor(v / step + 0.5) * step  # noqa: E731
    else:
        plain = _MAPPED[name]
        change = lambda v: v if math.isnan(v) or math.isinf(v) else plain(v)  # noqa: E731
    return [Sample(_nameless(s.labels), change(s.value)) for s in samples]


def _over_range(name: str, arg: Expr, source: Source, at: float) -> list[Sample]:
    assert isinstance(arg, Selector)
    assert arg.range is not None
    end = at - arg.offset
    start = end - arg.range
    out = []
    for labels, points in _range(arg, source, at):
        if name in ("rate", "increase", "delta"):
            value = _extrapolated(points, start, end, counter=name != "delta", rate=name == "rate")
        else:
            value = _OVER_TIME[name](points)
        if value is not None:
            out.append(Sample(labels if name == "last_over_time" else _nameless(labels), value))
    return out


def _scalar(value: Value) -> float:
    if isinstance(value, float):
        return value
    raise PromQLError("expected a scalar", "execution")


def _text(value: Value) -> str:
    if isinstance(value, str):
        return value
    raise PromQLError("expected a string", "execution")


def _label_replace(
    samples: list[Sample], label: str, template: str, source: str, pattern: str
) -> list[Sample]:
    """`$1` and `${name}` of the template stand for groups of the pattern, which fits in full."""
    try:
        regex = re.compile(pattern)
    except re.error as broken:
        raise PromQLError(f"invalid regular expression: {broken}", "execution") from None
    out = []
    for sample in samples:
        pairs = dict(sample.labels)
        if found := regex.fullmatch(pairs.get(source, "")):
            pairs[label] = _GROUP.sub(partial(_group, found), template)
        out.append(Sample(tuple(sorted(one for one in pairs.items() if one[1])), sample.value))
    return out


_GROUP = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def _group(found: re.Match[str], asked: re.Match[str]) -> str:
    name = asked[1] or asked[2]
    groups = (found[0], *found.groups())
    if name.isdecimal():
        return (groups[int(name)] or "") if int(name) < len(groups) else ""
    return found.groupdict("").get(name, "")


def _absent_labels(expr: Expr) -> Labels:
    if not isinstance(expr, Selector):
        return ()
    return tuple(
        sorted((m.label, m.value) for m in expr.matchers if m.op == "=" and m.label != "__name__")
    )


def _histogram_quantile(q: float, samples: list[Sample]) -> list[Sample]:
    groups: dict[Labels, list[tuple[float, float]]] = {}
    for sample in samples:
        pairs = dict(sample.labels)
        try:
            bound = float(pairs.pop("le", "").replace("Inf", "inf"))
        except ValueError:
            continue
        pairs.pop("__name__", None)
        groups.setdefault(tuple(sorted(pairs.items())), []).append((bound, sample.value))
    return [Sample(labels, _bucket_quantile(q, found)) for labels, found in sorted(groups.items())]


def _bucket_quantile(q: float, buckets: list[tuple[float, float]]) -> float:
    """Prometheus's `bucketQuantile` (promql/quantile.go), monotonic correction included."""
    if math.isnan(q):
        return math.nan
    if q < 0:
        return -math.inf
    if q > 1:
        return math.inf
    buckets = sorted(buckets)
    if not math.isinf(buckets[-1][0]) or len(buckets) < 2:
        return math.nan
    highest, counts = 0.0, []
    for _, count in buckets:
        highest = max(highest, count)
        counts.append(highest)
    observations = counts[-1]
    if observations == 0 or math.isnan(observations):
        return math.nan
    rank = q * observations
    at = next(i for i, c in enumerate(counts) if c >= rank or i == len(counts) - 1)
    if at == len(buckets) - 1:
        return buckets[-2][0]
    upper = buckets[at][0]
    if at == 0 and upper <= 0:
        return upper
    lower = buckets[at - 1][0] if at else 0.0
    below = counts[at - 1] if at else 0.0
    return lower + (upper - lower) * ((rank - below) / (counts[at] - below))


# --- aggregation and binary operators -------------------------------------------------------------


def _aggregate(expr: Aggregate, samples: list[Sample]) -> list[Sample]:
    groups: dict[Labels, list[float]] = {}
    for sample in samples:
        if expr.without:
            drop = {*expr.labels, "__name__"}
            labels = tuple(p for p in sample.labels if p[0] not in drop)
        else:
            labels = tuple(p for p in sample.labels if p[0] in expr.labels)
        groups.setdefault(labels, []).append(sample.value)
    return [Sample(labels, _FOLD[expr.op](values)) for labels, values in sorted(groups.items())]


def _ignoring_nan(pick: Callable[[list[float]], float]) -> Callable[[list[float]], float]:
    return lambda values: pick([v for v in values if not math.isnan(v)] or [math.nan])


_FOLD: dict[str, Callable[[list[float]], float]] = {
    "sum": lambda vs: float(sum(vs)), "avg": lambda vs: sum(vs) / len(vs),
    "count": lambda vs: float(len(vs)), "max": _ignoring_nan(max), "min": _ignoring_nan(min),
}  # fmt: skip


def _divide(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a)
    return a / b


def _power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.nan if a else math.inf


_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": _divide,
    "%": lambda a, b: math.fmod(a, b) if b and math.isfinite(a) else math.nan, "^": _power,
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}  # fmt: skip


def _binary(expr: Binary, left: Value, right: Value) -> Value:
    if expr.op in SET_OPERATORS:
        return _set_operation(expr, _vector(left), _vector(right))
    operate = _OPERATORS[expr.op]
    if isinstance(left, float) and isinstance(right, float):
        return float(operate(left, right))
    if isinstance(left, float) or isinstance(right, float):
        out = []
        for sample in _vector(right if isinstance(left, float) else left):
            if isinstance(left, float):
                value = operate(left, sample.value)
            else:
                value = operate(sample.value, _scalar(right))
            out += _result(expr, sample.labels, sample, value)
        return out
    return _vectors(expr, _vector(left), _vector(right))


def _result(expr: Binary, labels: Labels, kept: Sample, value: float) -> list[Sample]:
    """A comparison without bool filters and keeps the vector's own value and name."""
    if expr.op in COMPARISONS and not expr.bool:
        return [Sample(labels, kept.value)] if value else []
    return [Sample(_nameless(labels), float(value))]


def _signature(labels: Labels, matching: Matching) -> Labels:
    if matching.on:
        return tuple(p for p in labels if p[0] in matching.labels)
    drop = {*matching.labels, "__name__"}
    return tuple(p for p in labels if p[0] not in drop)


def _vectors(expr: Binary, left: list[Sample], right: list[Sample]) -> list[Sample]:
    matching, operate = expr.matching, _OPERATORS[expr.op]
    swapped = matching.group == "group_right"
    many, one = (right, left) if swapped else (left, right)
    index: dict[Labels, Sample] = {}
    for sample in one:
        signature = _signature(sample.labels, matching)
        if signature in index:
            side = "left" if swapped else "right"
            raise PromQLError(
                f"found duplicate series for the match group {_shown(signature)} on the {side} "
                f"hand-side of the operation: [{_shown(index[signature].labels)}, "
                f"{_shown(sample.labels)}];many-to-many matching not allowed: matching labels "
                "must be unique on one side",
                "execution",
            )
        index[signature] = sample
    out: list[Sample] = []
    taken: set[Labels] = set()
    for sample in many:
        signature = _signature(sample.labels, matching)
        partner = index.get(signature)
        if partner is None:
            continue
        a, b = (partner, sample) if swapped else (sample, partner)
        labels = sample.labels
        if matching.group:
            pairs = dict(labels)
            other = dict(partner.labels)
            for name in matching.include:
                pairs.pop(name, None)
                if other.get(name):
                    pairs[name] = other[name]
            labels = tuple(sorted(pairs.items()))
        else:
            if matching.on:
                labels = signature
            elif matching.labels:
                labels = tuple(p for p in labels if p[0] not in matching.labels)
        found = _result(expr, labels, a, operate(a.value, b.value))
        if found and not matching.group:
            if signature in taken:
                raise PromQLError(
                    "multiple matches for labels: many-to-one matching must be explicit "
                    "(group_left/group_right)",
                    "execution",
                )
            taken.add(signature)
        out += found
    return out


def _set_operation(expr: Binary, left: list[Sample], right: list[Sample]) -> list[Sample]:
    matching = expr.matching
    on_left = {_signature(s.labels, matching) for s in left}
    on_right = {_signature(s.labels, matching) for s in right}
    if expr.op == "and":
        return [s for s in left if _signature(s.labels, matching) in on_right]
    if expr.op == "unless":
        return [s for s in left if _signature(s.labels, matching) not in on_right]
    return left + [s for s in right if _signature(s.labels, matching) not in on_left]


def _shown(labels: Labels) -> str:
    return "{" + ", ".join(f'{k}="{v}"' for k, v in labels) + "}"
