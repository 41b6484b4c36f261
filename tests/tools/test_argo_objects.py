"""A Rollout's steps and what they mean for a plan, as pure functions on its JSON."""

from __future__ import annotations

import pytest

from domain.errors import Permanent
from domain.service import Target, Workload
from tools.argo_objects import Sight, Stop, check_drivable, check_steps, stops
from tools.cluster_errors import Json

PAUSE: Json = {"pause": {}}


def rollout(steps: list[Json] | None, status: Json | None = None, **canary: object) -> Json:
    strategy = {"canary": {"steps": steps, **canary}} if steps is not None else {"blueGreen": {}}
    return {
        "kind": "Rollout",
        "metadata": {"name": "web", "namespace": "shop", "generation": 3},
        "spec": {"strategy": strategy},
        "status": status or {},
    }


def judged_at(*weights: int) -> Target:
    workload = Workload(executor="argo-rollouts", deployment="web", container="app")
    return Target(
        service="web",
        environment="prod",
        namespace="shop",
        workload=workload,
        replicas=4,
        weights=weights,
    )


def weight(number: int) -> Json:
    return {"setWeight": number}


def test_a_stop_is_a_pause_that_does_not_end_by_itself() -> None:
    steps = [PAUSE, weight(10), {"pause": {"duration": "5m"}}, PAUSE, weight(50), {"pause": None}]
    assert stops(rollout(steps)) == (Stop(0, 0), Stop(3, 10), Stop(5, 50))


@pytest.mark.parametrize(
    ("steps", "planned"),
    [
        ([weight(10), PAUSE, weight(50), PAUSE], (10, 50)),
        ([PAUSE, weight(10), PAUSE], (10,)),
        ([PAUSE, weight(10), PAUSE], (0, 10)),
        ([weight(5), {"pause": {"duration": 60}}, weight(10), PAUSE, weight(100)], (10,)),
        ([weight(10), PAUSE, {"analysis": {}}, PAUSE, weight(50), PAUSE], (10, 50)),
        ([weight(10), PAUSE, weight(100), PAUSE], (10, 100)),
    ],
)
def test_steps_that_stop_where_the_plan_judges_fit(
    steps: list[Json], planned: tuple[int, ...]
) -> None:
    check_steps(rollout(steps), judged_at(*planned), planned[0])


@pytest.mark.parametrize(
    ("steps", "planned"),
    [
        ([weight(10), PAUSE, weight(50), PAUSE], (10,)),
        ([weight(10), PAUSE], (10, 50)),
        ([weight(50), PAUSE, weight(10), PAUSE], (10, 50)),
        ([weight(10), PAUSE], (0, 10)),
        ([weight(10), {"pause": {"duration": "1h"}}], (10,)),
        ([weight(10), {"pause": {"duration": 0}}, weight(50), PAUSE], (10, 50)),
        ([], (10,)),
        ([weight(90), weight(10), PAUSE], (10,)),
    ],
)
def test_steps_that_do_not_are_refused_with_what_would_help(
    steps: list[Json], planned: tuple[int, ...]
) -> None:
    with pytest.raises(Permanent) as refused:
        check_steps(rollout(steps), judged_at(*planned), planned[0])
    assert "Rollout shop/web" in str(refused.value)
    assert refused.value.remedy


def test_other_strategies_and_borrowed_templates_are_refused() -> None:
    with pytest.raises(Permanent, match="does not use the canary strategy"):
        check_drivable(rollout(None))
    borrowed = rollout([])
    borrowed["spec"]["workloadRef"] = {"kind": "Deployment", "name": "web"}
    with pytest.raises(Permanent, match="takes its pod template from another object"):
        check_drivable(borrowed)


def test_the_generation_that_was_seen_is_a_string() -> None:
    assert Sight(rollout([], {"observedGeneration": "3"}), ()).observed
    for other in ({}, {"observedGeneration": "2"}, {"observedGeneration": "5f4d"}):
        assert not Sight(rollout([], other), ()).observed


@pytest.mark.parametrize(("given", "most", "percent"), [(10, 100, 10), (50, 1000, 5), (1, 1000, 1)])
def test_a_routers_weight_is_a_share_of_its_maximum(given: int, most: int, percent: int) -> None:
    status = {"canary": {"weights": {"canary": {"weight": given}}}}
    routed = rollout([], status, trafficRouting={"nginx": {}, "maxTrafficWeight": most})
    assert Sight(routed, ()).weight == percent


def test_without_a_router_an_aborted_update_has_no_weight() -> None:
    steps = [weight(10), PAUSE]
    status = {"currentPodHash": "b", "stableRS": "a", "currentStepIndex": 1}
    assert Sight(rollout(steps, status), ()).weight == 10
    ended = {**status, "abort": True, "abortedAt": "2026-11-26T23:00:00Z", "currentStepIndex": 0}
    assert Sight(rollout(steps, ended), ()).weight == 0
    # Said, but not heard yet: it still serves.
    assert Sight(rollout(steps, {**status, "abort": True}), ()).weight == 10
