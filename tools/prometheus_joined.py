"""Several questions about one instant in one request: each a marked part of one PromQL expression.

A look at a canary asks for eight numbers (bad and total events, of two versions, by two
indicators). `label_replace(…) or label_replace(…)` brings them in one answer, in which a label says
which series answers which question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

Answer = TypeVar("Answer")
MARK = "fermata_ask"
MOST_TOGETHER = 16
MOST_CHARACTERS = 4_000
"""Of the queries in one request, which travel in its URL."""


def joined(queries: Sequence[str]) -> str:
    """One expression for all of them. The line break ends a comment that a query may end with."""
    return " or ".join(
        [f'label_replace({one}\n, "{MARK}", "{n}", "", "")' for n, one in enumerate(queries)]
    )


def parted(result: Any, count: int) -> list[list[dict[str, Any]]] | None:
    """The series of each query, without the mark; None when not every series has a good one."""
    if not isinstance(result, list):
        return None
    parts: list[list[dict[str, Any]]] = [[] for _ in range(count)]
    for series in result:
        labels = dict(series.get("metric") or {}) if isinstance(series, dict) else {}
        mark = labels.pop(MARK, "")
        if not mark.isdecimal() or int(mark) >= count:
            return None
        parts[int(mark)].append({**series, "metric": labels})
    return parts


def portions(queries: Sequence[str]) -> Iterator[list[str]]:
    """The queries, each once, in portions that one request can carry."""
    portion: list[str] = []
    for one in dict.fromkeys(queries):
        full = len(portion) == MOST_TOGETHER
        if portion and (full or len(one) + sum(map(len, portion)) > MOST_CHARACTERS):
            yield portion
            portion = []
        portion.append(one)
    if portion:
        yield portion


class Together(Generic[Answer]):
    """Collects what is asked about an instant within one turn of the event loop.

    `ask` is handed all of it, and answers each query; it must not raise.
    """

    def __init__(
        self, ask: Callable[[Sequence[str], datetime], Awaitable[dict[str, Answer]]]
    ) -> None:
        self._ask = ask
        self._open: dict[datetime, tuple[list[str], asyncio.Task[dict[str, Answer]]]] = {}

    async def __call__(self, queries: Sequence[str], at: datetime) -> list[Answer]:
        """The answers to these, in their order."""
        if at not in self._open:
            # The task begins when everything has run that is ready now: whoever else is about to
            # ask within this turn joins in.
            self._open[at] = ([], asyncio.create_task(self._close(at)))
        asked, task = self._open[at]
        asked += queries
        # Whoever gives up must not take the answer away from the others.
        found = await asyncio.shield(task)
        return [found[one] for one in queries]

    async def _close(self, at: datetime) -> dict[str, Answer]:
        asked, _ = self._open.pop(at)
        return await self._ask(asked, at)
