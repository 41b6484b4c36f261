"""What a rollback remembers and restores of a release whose configuration alone was new."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from domain.action import K8sRollback
from domain.configuration import ConfigObjects, Configuration, ConfigVersion
from domain.errors import Temporary
from domain.service import Target, Workload
from domain.state import Baseline, Finding, State
from domain.workload import TrackState, WorkloadState
from nodes.planning import ConfigPlan, release_plan
from nodes.rollback import Rollback
from store.records import ReleaseRow
from tests.nodes.test_planning import CHANGE, PROD, SHOP

IMAGE = "ghcr.io/acme/shop:abc"
UNKNOWN = ConfigVersion(kind="Secret", name="tokens")
OLD, NEW = (UNKNOWN.model_copy(update={"digest": one * 10}) for one in "12")
SERVICE = SHOP.model_copy(
    update={
        "environments": (PROD,),
        "workload": Workload(
            deployment="shop", container="app", route="shop",
            config=ConfigObjects(secrets=("tokens",)),
        ),
    }
)  # fmt: skip
TARGET = Target.of(SERVICE, PROD)


@dataclass
class Words:
    """Releases that remember what they are told, and know one good version."""

    good: Configuration
    said: list[tuple[str, str, Configuration]] = field(default_factory=list)

    async def record(self, lease: object, **row: Any) -> None:
        self.said.append((row["status"], row["image"], row["config"]))

    async def last_good(
        self, service: str, environment: str, but: str | None, but_config: Configuration
    ) -> ReleaseRow | None:
        if but_config == self.good:
            return None
        if not but_config:
            # Where a configuration is not known, only the image counts.
            return cast(ReleaseRow, SimpleNamespace(image="ghcr.io/acme/shop:older", config=()))
        return cast(ReleaseRow, SimpleNamespace(image=IMAGE, config=self.good))

    async def is_bad(
        self, service: str, environment: str, image: str, config: Configuration
    ) -> bool:
        return False


@dataclass
class Cluster:
    """Stable runs `config`, or nobody answers."""

    config: Configuration | None

    async def workload(self, target: Target) -> WorkloadState:
        if self.config is None:
            raise Temporary("no answer")
        stable = TrackState(
            name="shop", image=IMAGE, desired=1, updated=1, available=1, total=1, observed=True,
            config=self.config,
        )  # fmt: skip
        return WorkloadState(stable=stable, canary=None, route=None)


async def went_back(wanted: ConfigVersion, running: Configuration | None) -> tuple[Words, Any]:
    """What is remembered, and the first step of the way back from a roll-out of stable."""
    config = ConfigPlan(running=(OLD,), wanted=(wanted,))
    plan = release_plan(CHANGE, (SERVICE,), {TARGET.key: IMAGE}, configs={TARGET.key: config})
    state: dict[str, Any] = {
        "plan": plan, "steps": plan.steps, "cursor": len(plan.steps) - 1, "mode": "forward",
        "goal": "release", "touched": (TARGET,), "ruling": None, "run_id": "r",
        "finding": Finding(kind="breach", reason="it fails"),
        "baselines": (Baseline(key=TARGET.key, image=IMAGE, config=(OLD,)),),
    }  # fmt: skip
    words, nothing = Words((OLD,)), cast(Any, None)
    rollback = Rollback(
        cast(Any, words),
        cast(Any, SimpleNamespace(cluster=Cluster(running))),
        cast(Any, SimpleNamespace(now=lambda: datetime(2026, 3, 3, tzinfo=UTC))),
    )
    passage = cast(Any, SimpleNamespace(context=SimpleNamespace(lease=nothing)))
    update = await rollback(cast(State, state), passage)
    return words, update["steps"][0].action


async def test_the_same_image_goes_back_to_the_configuration_it_was_good_with() -> None:
    words, back = await went_back(NEW, None)
    assert words.said == [("bad", IMAGE, (NEW,))]
    assert isinstance(back, K8sRollback)
    assert (back.image, back.config) == (IMAGE, (OLD,))


async def test_what_the_plan_could_not_know_is_read_from_what_was_deployed() -> None:
    words, back = await went_back(UNKNOWN, (NEW,))
    assert words.said == [("bad", IMAGE, (NEW,))]
    assert back.config == (OLD,)


async def test_an_image_is_not_blamed_for_a_configuration_that_nobody_knows() -> None:
    words, back = await went_back(UNKNOWN, None)
    assert words.said == []
    assert (back.image, back.config) == (IMAGE, (OLD,))
