"""Prometheus down, empty, NaN, or with two series where one is expected: unknown is not fine.

Nothing passes on such numbers and nothing is rolled back for them: people are asked, with the fault
in the question.
"""

from __future__ import annotations

import asyncio
import signal

import pytest

from domain.approval import ApprovalState
from domain.run import RunState
from domain.verdict import VerdictKind
from evals.simulated import scenario
from evals.world.scenario import Metering
from store.records import RunDetail
from tests.chaos.scene import open_scene
from tests.chaos.test_crash_points import GOOD
from tests.chaos.workers import Zygote

FAULTS = {
    "down": (Metering(down=True), VerdictKind.ERROR, "503"),
    "empty": (Metering(no_data=True), VerdictKind.NODATA, "no series"),
    "nan": (Metering(nan=True), VerdictKind.ERROR, "nan"),
    "twice": (Metering(duplicates=True), VerdictKind.ERROR, "2 series where one is expected"),
}


def asks_about(detail: RunDetail, step: str, says: str) -> bool:
    """Whether people are asked to accept a check, and told what is wrong with it."""
    return detail.run.state is RunState.NEEDS_APPROVAL and any(
        one.state is ApprovalState.PENDING
        and one.step_id.endswith(step)
        and says in one.question.casefold()
        for one in detail.approvals
    )
