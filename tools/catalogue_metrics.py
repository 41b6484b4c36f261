"""Metrics of a service's own in services.yaml: their shape, and what it has to mean."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from domain.errors import SourceProblem
from domain.metric import FailWhen, Metric
from domain.source_hints import wrong
from domain.yaml_source import Located, Path
from tools.catalogue_values import Label, Query, Shape

SHORT_CHECK = 4
WARMUP_SECONDS = 60.0
"""How the judge's warm-up counts: a minute, at most a quarter of the windows."""


def tolerance(value: Any) -> float:
    """A part of stable's value: `20%` or `0.2`, from zero on."""
    hint = "write a part of stable's value: 20% or 0.2"
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?\s*%", value.strip()):
        return float(f"{value.strip().rstrip('% ')}e-2")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong("expected a tolerance", hint)
    if not (math.isfinite(value) and value >= 0):
        raise wrong(f"{value} is not a tolerance", hint)
    return float(value)


def number(value: Any) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise wrong("expected a number", "write it plainly, for example 0.35")
    return float(value)


Tolerance = Annotated[float, BeforeValidator(tolerance)]
Number = Annotated[float, BeforeValidator(number)]


class FailWhenShape(Shape):
    """How many windows have to breach."""

    breaches: int = Field(default=3, ge=1, le=100, description="windows that breach")
    of: int = Field(default=5, ge=1, le=100, description="of so many last windows")
    confirm: int = Field(default=0, ge=0, le=20, description="further windows that breach as well")


class MetricShape(Shape):
    """A number of the service's own choice."""

    name: Label = Field(description="what it is called in verdicts", examples=["queue-depth"])
    query: Query = Field(description="PromQL with one number as its result")
    direction: Literal["lower", "higher"] = Field(
        default="lower", description="what is better", examples=["lower"]
    )
    tolerance: Tolerance | None = Field(
        default=None, description="how much worse than stable it may be", examples=["20%"]
    )
    limit: Number | None = Field(default=None, description="never worse than this", examples=[0.35])
    fail_when: FailWhenShape = FailWhenShape()


def metric_problems(
    metrics: Sequence[MetricShape], taken: Sequence[str], path: Path, located: Located
) -> Iterator[SourceProblem]:
    """What the values of a list of metrics do not mean together. `taken`: names of indicators."""
    seen = dict.fromkeys(taken, "an SLI")
    for index, metric in enumerate(metrics):
        here: Path = (*path, index)
        if metric.name in seen:
            yield located.problem(
                (*here, "name"),
                f"{metric.name!r} is {seen[metric.name]} of this service already",
                "give it another name: verdicts are told apart by it",
            )
        seen[metric.name] = "a metric"
        if metric.tolerance is None and metric.limit is None:
            yield located.problem(
                here,
                f"nothing is said about what {metric.name} may be",
                "add `tolerance: 20%` (against stable), `limit:` (a number), or both",
            )
        rule = metric.fail_when
        if rule.breaches > rule.of:
            yield located.problem(
                (*here, "fail_when", "breaches"),
                f"{rule.breaches} of {rule.of} windows can never breach",
                "let `of` be at least as large as `breaches`",
            )


def chosen_problems(
    chosen: Sequence[str] | None, known: Sequence[str], path: Path, located: Located
) -> Iterator[SourceProblem]:
    """Names of indicators and metrics that a step is to be judged by."""
    for index, name in enumerate(chosen or ()):
        if name not in known:
            yield located.problem(
                (*path, index),
                f"there is no SLI or metric called {name!r}",
                f"the service has {', '.join(known) or 'none'}",
            )


def length_problems(
    metrics: Sequence[MetricShape],
    chosen: Sequence[str] | None,
    bake: float,
    interval: float,
    path: Path,
    located: Located,
) -> Iterator[SourceProblem]:
    """A check with too few windows for a metric to fail could only ever be inconclusive."""
    windows = max(1, math.floor(bake / interval))
    usable = windows - min(math.ceil(WARMUP_SECONDS / interval), windows // SHORT_CHECK)
    for metric in metrics:
        needed = metric.fail_when.breaches + metric.fail_when.confirm
        if (chosen is None or metric.name in chosen) and usable < needed:
            yield located.problem(
                path,
                f"a bake of {bake:g}s has {usable} windows after the warm-up, and {metric.name} "
                f"takes {needed} to tell",
                "make the bake longer, `interval:` shorter, or ask for fewer in `fail_when`",
            )


def metric_of(shape: MetricShape) -> Metric:
    """The domain's metric."""
    rule = shape.fail_when
    return Metric(
        name=shape.name,
        query=shape.query.strip(),
        direction=shape.direction,
        tolerance=shape.tolerance,
        limit=shape.limit,
        fail_when=FailWhen(breaches=rule.breaches, of=rule.of, confirm=rule.confirm),
    )
