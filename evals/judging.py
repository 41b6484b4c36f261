"""`fermata judge`: judge recorded windows one by one, as the canary check would have, live."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from domain.errors import SourceError, SourceProblem
from domain.verdict import Counts, Gap, MetricWindow, VerdictKind
from nodes.judge import JudgeConfig, judge


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _CountsIn(_Strict):
    bad: float
    total: float


class _WindowIn(_Strict):
    start: datetime | float
    seconds: float = Field(gt=0)
    metric: str
    kind: str = Field(pattern="^(errors|latency)$")
    stable: _CountsIn | None = None
    canary: _CountsIn | None = None


class _CaseIn(_Strict):
    id: str
    config: dict[str, Any] = {}
    windows: list[_WindowIn]


def judge_lines(text: str, file: str) -> Iterator[dict[str, Any]]:
    """Judge each case of a JSON document or of a `.jsonl` file.

    Raises SourceError with the line of a case that cannot be read.
    """
    if file.endswith(".jsonl"):
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                yield judge_case(_case(line, file, number))
        return
    yield judge_case(_case(text, file, 1))


def _case(text: str, file: str, line: int) -> _CaseIn:
    try:
        return _CaseIn.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SourceError(
            (SourceProblem(file, line, 1, f"{place}: {first['msg']}", "see docs/judge.md"),)
        ) from error


def judge_case(case: _CaseIn) -> dict[str, Any]:
    """Judge after each window; the first pass or fail decides, otherwise the last word stands."""
    objectives = dict(case.config.get("objectives") or {})
    for window in case.windows:
        objectives.setdefault(window.metric, 0.99 if window.kind == "errors" else 0.95)
    rest = {key: value for key, value in case.config.items() if key != "objectives"}
    config = JudgeConfig(**rest)
    windows = [_window(one) for one in case.windows]
    starts = sorted({window.start for window in windows})
    decided_at: int | None = None
    verdict = judge(windows, objectives=objectives, config=config, final=True)
    for index, start in enumerate(starts):
        final = index == len(starts) - 1
        seen = [window for window in windows if window.start <= start]
        verdict = judge(seen, objectives=objectives, config=config, final=final)
        if verdict.kind is VerdictKind.FAIL or (final and verdict.kind is VerdictKind.PASS):
            decided_at = index
            break
    return {
        "id": case.id,
        "verdict": verdict.kind.value,
        "decided_at": decided_at,
        "reason": verdict.reason,
        "metrics": [json.loads(one.model_dump_json()) for one in verdict.metrics],
    }


def _window(one: _WindowIn) -> MetricWindow:
    start = (
        one.start
        if isinstance(one.start, datetime)
        else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=one.start)
    )
    if start.tzinfo is None:
        start = start.replace(tzinfo=UTC)
    gap = (
        Gap(kind=VerdictKind.NODATA, reason="the canary has no counts in this window")
        if one.canary is None
        else None
    )
    return MetricWindow(
        start=start,
        seconds=one.seconds,
        metric=one.metric,
        kind=one.kind,
        stable=Counts(bad=one.stable.bad, total=one.stable.total) if one.stable else None,
        canary=Counts(bad=one.canary.bad, total=one.canary.total) if one.canary else None,
        gap=gap,
    )
