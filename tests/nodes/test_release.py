"""The release agent works a step out against what is known when its turn comes."""

from __future__ import annotations

from typing import Any, cast

from domain.action import K8sPrune
from domain.clock import SystemClock
from domain.configuration import ConfigObjects, Configuration, ConfigVersion
from domain.service import Target, Workload
from domain.state import State
from nodes.planning import ConfigPlan, release_steps
from nodes.release import Release
from tests.nodes.test_planning import PROD, SHOP

OLD, OTHERS, NEW = (
    ConfigVersion(kind="ConfigMap", name="shop", digest=one * 10) for one in ("1", "2", "3")
)


class Proven:
    """Releases that have proven one configuration since the plan was made."""

    asked: tuple[str, str, int] = ("", "", 0)

    async def kept(self, service: str, environment: str, count: int) -> Configuration:
        self.asked = (service, environment, count)
        return (OTHERS, OLD)


async def test_what_others_have_proven_since_the_plan_is_not_tidied_up() -> None:
    config = ConfigObjects(configmaps=("shop",), keep=3)
    workload = Workload(deployment="shop", container="app", config=config)
    service = SHOP.model_copy(update={"environments": (PROD,), "workload": workload})
    steps = release_steps(
        service, PROD, "shop:2", "shop:1", ConfigPlan(running=(OLD,), wanted=(NEW,))
    )
    assert isinstance(steps[-1].action, K8sPrune)
    proven = Proven()
    state: dict[str, Any] = {
        "steps": steps, "cursor": len(steps) - 1, "progress": None, "seen_seq": 0, "finding": None,
    }  # fmt: skip
    update = await Release(SystemClock(), cast(Any, proven))(cast(State, state))
    proposal = update["proposal"]
    assert proposal is not None
    assert isinstance(proposal.step.action, K8sPrune)
    assert proposal.step.action.keep == (OLD, NEW, OTHERS)
    assert proven.asked == (service.name, PROD.name, 3)
    assert proposal.step.id == steps[-1].id
    assert Target.of(service, PROD) == proposal.step.action.target
