"""Prometheus down, empty, NaN, or with two series where one is expected: unknown is not fine.

Nothing passes on such numbers and nothing is rolled back for them: people are asked, with the fault
in the question.
"""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import pytest

from domain.approval import ApprovalState
from domain.run import RunState
from domain.verdict import VerdictKind
from evals.simulated import scenario
from evals.world.scenario import Metering
from store.records import RunDetail
from tests.chaos.scene import open_scene
from tests.chaos.tally import Tally
from tests.chaos.test_crash_points import GOOD
from tests.chaos.workers import Zygote

SUMMED = "sum by (replica)"
"""A plain `sum` over series that exist twice would be a single number."""
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


@pytest.mark.parametrize("fault", FAULTS)
async def test_numbers_that_cannot_be_had_are_asked_about_and_never_judged(
    postgres_url: str, data: Path, zygote: Zygote, tally: Tally, fault: str
) -> None:
    metering, kind, says = FAULTS[fault]
    fine = scenario()
    broken = fine.model_copy(update={"metrics": metering})
    async with open_scene(postgres_url, data, ["shop"], summed=SUMMED) as scene:
        scene.world.set_scenario(broken)
        run_id = await scene.release("shop", GOOD)
        worker = await zygote.start(scene.order())
        for step in ("shop/prod.pre", "shop/prod.canary-10.check"):
            asked = partial(asks_about, step=step, says=says)
            await scene.until(run_id, asked, vote=False)
            scene.world.set_scenario(fine)
            if step.endswith("pre"):
                await scene.until(run_id, is_baking)
                scene.world.set_scenario(broken)
        (detail,) = await scene.ended(run_id)
        worker.send(signal.SIGTERM)
        assert await worker.gone() == 0, scene.log()
        assert detail.run.state is RunState.SUCCEEDED, detail.run.reason
        for step in ("pre", "canary-10.check"):
            verdicts = [one.verdict for one in detail.verdicts if one.step_id.endswith(step)]
            assert kind in [one.kind for one in verdicts]
            assert all(one.kind is not VerdictKind.PASS for one in verdicts)
            assert any(says in one.reason.casefold() for one in verdicts)
            tally.note(f"Prometheus {fault}", step, detail.run.state.value)
        assert says in (await scene.page(run_id)).casefold()


def is_baking(detail: RunDetail) -> bool:
    """Whether the canary's check has begun."""
    return (detail.run.step_id or "").endswith("canary-10.check")
