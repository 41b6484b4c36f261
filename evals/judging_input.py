"""Recorded windows as people hand them in: a JSON object, one a line in `.jsonl`, or CSV.

Counts may be anything a metrics provider answers, NaN and negative numbers included: judging those
is the judge's business. What cannot be read at all is refused with file, line and a hint.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from domain.errors import SourceError, SourceProblem
from domain.metric import Metric
from domain.verdict import Counts, MetricWindow
from nodes.judge import JudgeConfig

EXAMPLE = (
    '{"id": "a release", "windows": [{"start": 0, "seconds": 60, "metric": "errors", "kind": '
    '"errors", "stable": {"bad": 2, "total": 5400}, "canary": {"bad": 3, "total": 600}}]}'
)
COLUMNS = (
    "start", "seconds", "metric", "kind", "stable_bad", "stable_total", "canary_bad", "canary_total"
)  # fmt: skip
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = 4_000_000_000.0
"""Seconds since 1970 up to which a start is taken for seconds; above, for milliseconds."""


class _Loose(BaseModel):
    """Recorded data may carry more than is asked for."""

    model_config = ConfigDict(extra="ignore")


class _Strict(BaseModel):
    """A setting that is not known would silently not hold."""

    model_config = ConfigDict(extra="forbid")


def _count(value: Any) -> Any:
    return None if value == "" else value


Count = Annotated[float | None, BeforeValidator(_count)]


class _CountsIn(_Loose):
    bad: Count = None
    total: Count = None


class _WindowIn(_Loose):
    start: float | datetime
    seconds: float = Field(gt=0, le=31_536_000, allow_inf_nan=False)
    metric: str = Field(min_length=1)
    kind: Literal["errors", "latency"]
    stable: _CountsIn | None = None
    canary: _CountsIn | None = None


class _OptionsIn(_Strict):
    """What a case or `--config` may set besides the fields of `JudgeConfig`."""

    objectives: dict[str, Annotated[float, Field(gt=0, lt=1)]] = {}
    weight: float | None = Field(default=None, gt=0, le=100)
    """Percent of the traffic that the canary was given; below 1 it is meant as a share."""


ConfigIn: type[BaseModel] = create_model(
    "ConfigIn",
    __base__=_OptionsIn,
    **{name: (one.annotation, one) for name, one in JudgeConfig.model_fields.items()},
)  # type: ignore[call-overload]


class _CaseIn(_Loose):
    id: str | int | None = None
    config: dict[str, Any] | None = None
    windows: list[_WindowIn]


@dataclass(frozen=True)
class Options:
    """How a case is to be judged."""

    judge: JudgeConfig
    objectives: dict[str, float]
    weight: float | None


@dataclass(frozen=True)
class Case:
    """One release: its windows in the order of the file, and how to judge them."""

    id: str
    windows: tuple[MetricWindow, ...]
    options: Options
    metrics: tuple[Metric, ...] = ()
    """The service's own numbers among the windows, and how they are judged."""
    compared: bool = True
    """Whether there was a stable beside the version."""


def read_cases(text: str, file: str, base: dict[str, Any] | None = None) -> Iterator[Case]:
    """The cases of a file, told apart by its name, or by how it begins. `base` is what holds for
    all cases unless they say otherwise. Raises SourceError."""
    text = text.removeprefix("\ufeff")
    base = base or {}
    name = file.lower()
    if not text.strip():
        raise _error(file, 1, "the file is empty", f"such as {EXAMPLE}")
    if name.endswith(".csv") or (not name.endswith((".json", ".jsonl")) and _looks_like_csv(text)):
        yield from _csv_cases(text, file, base)
    elif name.endswith((".jsonl", ".ndjson")) or _looks_like_lines(text):
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield _case(line, file, number, base, f"line {number}")
    else:
        yield _case(text, file, 1, base, "the case")


def read_options(config: dict[str, Any], file: str, line: int = 1) -> Options:
    """Settings from a case or from a file. Raises SourceError that names the one that is wrong."""
    try:
        found = ConfigIn.model_validate(config).model_dump()
    except ValidationError as error:
        known = ", ".join(sorted(ConfigIn.model_fields))
        raise _refused(error, file, line, f"settings are {known}", "config.") from error
    objectives, weight = found.pop("objectives"), found.pop("weight")
    if weight is not None and weight < 1:
        weight *= 100
    return Options(JudgeConfig(**found), objectives, weight)


def _looks_like_csv(text: str) -> bool:
    return not text.lstrip().startswith(("{", "[")) and "," in text.split("\n", 1)[0]


def _looks_like_lines(text: str) -> bool:
    """Whether the first line is a JSON object of its own and others follow."""
    first, _, rest = text.strip().partition("\n")
    if not rest.strip():
        return False
    try:
        return isinstance(json.loads(first), dict)
    except ValueError:
        return False


def _case(text: str, file: str, line: int, base: dict[str, Any], name: str) -> Case:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        at = line + getattr(error, "lineno", 1) - 1
        column = getattr(error, "colno", 1)
        hint = "JSON wants double quotes, no comma at the end, and a file that is whole"
        message = f"not good JSON: {getattr(error, 'msg', 'nested too deep')}"
        raise SourceError((SourceProblem(file, at, column, message, hint),)) from error
    try:
        found = _CaseIn.model_validate(data)
        windows = tuple(_window(one) for one in found.windows)
    except ValidationError as error:
        raise _refused(error, file, line, f"a case looks like {EXAMPLE}") from error
    except (OverflowError, ValueError) as error:
        raise _error(
            file, line, str(error), "seconds since 1970, or 2026-01-31T12:00:00Z"
        ) from error
    options = read_options({**base, **(found.config or {})}, file, line)
    return Case(name if found.id is None else str(found.id), windows, options)


def _csv_cases(text: str, file: str, base: dict[str, Any]) -> Iterator[Case]:
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    given = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = given
    lacking = [name for name in COLUMNS if name not in given]
    if lacking:
        hint = f"the first line is {','.join(COLUMNS)}, and ,id where there are several cases"
        raise _error(file, 1, f"no column {', '.join(lacking)}", hint)
    cases: dict[str, list[MetricWindow]] = {}
    for row in reader:
        window = _csv_window(row, file, reader.line_num)
        cases.setdefault(row.get("id") or "the case", []).append(window)
    if not cases:
        raise _error(file, 1, "no windows below the first line", "one window a line")
    options = read_options(base, file)
    for name, windows in cases.items():
        yield Case(name, tuple(windows), options)


def _csv_window(row: dict[str, Any], file: str, line: int) -> MetricWindow:
    if None in row or None in row.values():
        hint = f"as many as in the first line: {','.join(COLUMNS)}"
        raise _error(file, line, "another number of values than columns", hint)
    sides = {
        side: {"bad": row[f"{side}_bad"].strip(), "total": row[f"{side}_total"].strip()}
        for side in ("stable", "canary")
    }
    data = {name: row[name].strip() for name in ("start", "seconds", "metric", "kind")}
    try:
        return _window(
            _WindowIn.model_validate(
                {**data, **{s: (v if any(v.values()) else None) for s, v in sides.items()}}
            )
        )
    except ValidationError as error:
        raise _refused(
            error, file, line, "numbers as 12 or 1.5; kind is errors or latency"
        ) from error
    except (OverflowError, ValueError) as error:
        raise _error(
            file, line, str(error), "seconds since 1970, or 2026-01-31T12:00:00Z"
        ) from error


def _window(one: _WindowIn) -> MetricWindow:
    return MetricWindow(
        start=_start(one.start, one.seconds),
        seconds=one.seconds,
        metric=one.metric,
        kind=one.kind,
        stable=_counts(one.stable),
        canary=_counts(one.canary),
    )


def _counts(one: _CountsIn | None) -> Counts | None:
    """None where both counts are missing; one without the other is NaN, nothing to guess."""
    if one is None or (one.bad is None and one.total is None):
        return None
    bad, total = (math.nan if value is None else value for value in (one.bad, one.total))
    return Counts(bad=bad, total=total)


def _start(start: float | datetime, seconds: float) -> datetime:
    if isinstance(start, datetime):
        moment = start if start.tzinfo else start.replace(tzinfo=UTC)
    else:
        if not math.isfinite(start):
            raise ValueError(f"start: {start} is no time")
        moment = EPOCH + timedelta(seconds=start / 1000 if abs(start) > LATEST else start)
    moment + timedelta(seconds=2 * seconds)  # raises where the end is out of range
    return moment


def _refused(
    error: ValidationError, file: str, line: int, hint: str, prefix: str = ""
) -> SourceError:
    problems = []
    for one in error.errors(include_url=False)[:5]:
        place = ".".join(str(part) for part in one["loc"] if part not in ("float", "datetime"))
        problems.append(SourceProblem(file, line, 1, f"{prefix}{place}: {one['msg']}", hint))
    return SourceError(tuple(problems))


def _error(file: str, line: int, message: str, hint: str) -> SourceError:
    return SourceError((SourceProblem(file, line, 1, message, hint),))
