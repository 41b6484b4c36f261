"""The measured share after a change of weight: when it agrees, and when nobody can say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from domain.action import K8sTraffic, MetricsCheck
from domain.effect import Attempt, EffectState
from domain.metric import Metric
from domain.plan import Step
from domain.service import SLI, Catalogue, Environment, Service, Target, Workload
from domain.state import Progress, Proposal
from domain.strategy import TrafficMatch
from domain.verdict import Counts, Gap, VerdictKind
from domain.workload import RouteState, TrackState, WorkloadState
from nodes.judge import JudgeConfig
from nodes.observe import Observe
from nodes.share import Share, ShareLook
from nodes.watch import Watch

SETTLED = datetime(2026, 3, 3, 9, 0, tzinfo=UTC)
ERRORS = SLI(name="errors", kind="errors", bad="b", total="t", objective=0.99)
PROD = Environment(name="prod", namespace="prod", interval_seconds=30)
NOTHING = Gap(kind=VerdictKind.NODATA, reason="no series")
DOWN = Gap(kind=VerdictKind.ERROR, reason="cannot be reached")
TESTERS = TrafficMatch(headers=(("x-canary", "yes"),))


@dataclass
class Told:
    """Metrics that say what they are told, by version, and remember the windows."""

    totals: Mapping[str, float | Gap]
    asked: list[tuple[datetime, float]] = field(default_factory=list)

    async def counts(
        self, sli: SLI, target: Target, version: str, at: datetime, window_seconds: float
    ) -> Counts | Gap:
        self.asked.append((at, window_seconds))
        total = self.totals[version]
        return total if isinstance(total, Gap) else Counts(bad=0, total=total)

    async def value(
        self, metric: Metric, target: Target, version: str, at: datetime, window_seconds: float
    ) -> float | Gap:
        raise AssertionError("nobody asks for a service's own numbers")


def service(**workload: object) -> Service:
    return Service(
        name="shop", repo="acme/shop", image="shop:{sha}", environments=(PROD,), slis=(ERRORS,),
        workload=Workload.model_validate({"deployment": "shop", "container": "shop", **workload}),
    )  # fmt: skip


def track(image: str, available: int = 1) -> TrackState:
    return TrackState(
        name="shop", image=image, desired=available, updated=available, available=available,
        total=available, observed=True,
    )  # fmt: skip


async def looked(
    weight: int,
    after: float,
    totals: Mapping[str, float | Gap],
    *,
    match: TrafficMatch | None = None,
    images: tuple[str, str] = ("shop:old", "shop:new"),
    of: Service | None = None,
    route: bool = True,
) -> tuple[ShareLook, Told]:
    """A look so many seconds after the weight came about."""
    told, of = Told(totals), of or service()
    seen = WorkloadState(
        stable=track(images[0], 3), canary=track(images[1]),
        route=RouteState(canary_weight=weight, accepted=True) if route else None,
    )  # fmt: skip
    action = K8sTraffic(target=Target.of(of, PROD), weight=weight, match=match)
    share = Share(lambda: Catalogue(services=(of,)), told, JudgeConfig())
    return await share.look(action, seen, SETTLED, SETTLED + timedelta(seconds=after)), told


def seconds_on(look: ShareLook) -> float | None:
    return None if look.next_at is None else (look.next_at - SETTLED).total_seconds()


async def test_the_first_look_comes_after_a_window_and_agreement_ends_the_wait() -> None:
    early, told = await looked(10, 0, {})
    assert (early.verdict, seconds_on(early), told.asked) == (None, 30, [])
    look, told = await looked(10, 30, {"new": 110, "old": 890})
    assert look.verdict is not None
    assert look.verdict.kind is VerdictKind.PASS
    assert (look.verdict.share, look.verdict.expected_share) == (0.11, 0.1)
    assert "110 of 1,000 requests in 30 s went to the canary (11%)" in look.verdict.reason
    assert look.next_at is None
    assert told.asked[0] == (SETTLED + timedelta(seconds=30), 30)


@pytest.mark.parametrize(
    ("totals", "kind", "said"),
    [
        ({"new": 0, "old": 1000}, VerdictKind.INCONCLUSIVE, "it does not agree"),
        ({"new": NOTHING, "old": 1000}, VerdictKind.INCONCLUSIVE, "it does not agree"),
        ({"new": 500, "old": 500}, VerdictKind.INCONCLUSIVE, "its weight stands for 10%"),
        ({"new": 1, "old": 9}, VerdictKind.NODATA, "too few to tell"),
        ({"new": NOTHING, "old": NOTHING}, VerdictKind.NODATA, "no traffic at all"),
        ({"new": DOWN, "old": 900}, VerdictKind.ERROR, "not measured: cannot be reached"),
    ],
)
async def test_what_does_not_agree_is_waited_for_a_minute_and_then_only_said(
    totals: dict[str, float | Gap], kind: VerdictKind, said: str
) -> None:
    for after, later in ((30.0, 60.0), (45.0, 60.0), (60.0, None)):
        look, _ = await looked(10, after, totals)
        assert seconds_on(look) == later
        assert look.verdict is not None
        assert look.verdict.kind is kind
        assert said in look.verdict.reason


async def test_a_share_of_nothing_is_seen_when_none_of_the_last_requests_went_there() -> None:
    look, told = await looked(0, 45, {"new": NOTHING, "old": 70})
    assert look.verdict is not None
    assert look.verdict.kind is VerdictKind.PASS
    assert told.asked[0][1] == 30, "what came before the weight was taken is left out"
    look, _ = await looked(0, 45, {"new": 3, "old": 7000})
    assert look.verdict is not None
    assert look.verdict.kind is VerdictKind.INCONCLUSIVE
    assert seconds_on(look) == 60


async def test_all_of_the_traffic_leaves_none_to_stable() -> None:
    for stable, kind in ((0.2, VerdictKind.PASS), (40.0, VerdictKind.INCONCLUSIVE)):
        look, _ = await looked(100, 30, {"new": 960, "old": stable})
        assert look.verdict is not None
        assert look.verdict.kind is kind


async def test_pods_are_the_expected_share_where_there_is_no_route() -> None:
    look, _ = await looked(10, 30, {"new": 250, "old": 750}, route=False, of=service(route=None))
    assert look.verdict is not None
    assert (look.verdict.kind, look.verdict.expected_share) == (VerdictKind.PASS, 0.25)


async def test_versions_that_cannot_be_told_apart_are_not_waited_for() -> None:
    same, told = await looked(0, 0, {}, images=("shop:new", "shop:new"))
    testers, _ = await looked(0, 0, {}, match=TESTERS)
    for look, why in ((same, "both tracks run new"), (testers, "x-canary: yes")):
        assert look.verdict is not None
        assert look.verdict.kind is VerdictKind.NODATA
        assert why in look.verdict.reason
        assert look.next_at is None
    assert told.asked == []


async def test_how_long_is_waited_is_the_services_to_say() -> None:
    off, _ = await looked(10, 0, {}, of=service(share_wait_seconds=0))
    assert off == ShareLook(verdict=None)
    short = service(share_wait_seconds=10)
    first, _ = await looked(10, 0, {}, of=short)
    assert seconds_on(first) == 10
    over, _ = await looked(10, 10, {"new": 0, "old": 900}, of=short)
    assert over.next_at is None
    another, _ = await looked(10, 0, {}, of=service(executor="argo-rollouts"))
    assert another == ShareLook(verdict=None), "other executors shift traffic their own way"


@pytest.mark.parametrize(("stable", "kind"), [(3, "done"), (99, "ask")])
async def test_where_pods_are_the_weight_a_check_expects_their_share(
    stable: int, kind: str
) -> None:
    """A quarter of the traffic is what one pod of four gets, and not what one of a hundred does."""
    now = SETTLED + timedelta(seconds=300)
    seen = WorkloadState(stable=track("shop:1", stable), canary=track("shop:2"), route=None)
    check = MetricsCheck(
        target=Target.of(service(), PROD), phase="canary", version="2", baseline="1", weight=10,
        bake_seconds=300, interval_seconds=30,
    )  # fmt: skip
    step = Step(id="s", title="s", agent="release", stage="s", scope="shop/prod", action=check)
    here: Any = SimpleNamespace(
        now=lambda: now, workload=AsyncMock(return_value=seen), record=AsyncMock(), lease=None,
    )  # fmt: skip
    here.cluster = here.context = here
    watch = Watch(
        lambda: Catalogue(services=(service(),)), Told({"1": 7500, "2": 2500}), JudgeConfig()
    )
    observe = Observe(here, here, watch, here, here, here, here, here)
    state: Any = {
        "steps": (step,), "cursor": 0, "mode": "forward", "proposal": Proposal(step=step),
        "attempt": Attempt(state=EffectState.APPLIED), "progress": Progress(since=SETTLED),
        "plan": None,
    }  # fmt: skip
    found = (await observe(state, here))["finding"]
    assert found is not None
    assert found.kind == kind, found.reason
