"""A page about a version that burns its error budget, while its pull request goes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

from domain.action import Pause
from domain.plan import Plan, Step
from nodes.burning import KEEP
from nodes.gate import Gate
from nodes.planning import notify_step
from tests.graph.test_routes import PROD, state
from tests.nodes.test_planning import CHANGE

PAGE = notify_step("shop/prod.burn.page", "it burns", "It stays.", "on-call", "critical")
ASK = Step(
    id=f"shop/prod{KEEP}", title="Ask", agent="release", stage="shop/prod full", scope="shop/prod",
    action=Pause(target=PROD, question="Keep it?"),
)  # fmt: skip


async def test_what_is_pushed_meanwhile_neither_hides_a_page_nor_answers_it() -> None:
    heads = SimpleNamespace(now=AsyncMock(return_value=(True, "newer")))
    gate = Gate(*(cast(Any, SimpleNamespace(heads=heads)) for _ in range(10)))
    plan = Plan(change=CHANGE, goal="release", steps=())
    assert await gate._head_moved(state(plan=plan, steps=(PAGE, ASK))) is False
    assert await gate._head_moved(state(plan=plan, steps=(PAGE,))) is True
