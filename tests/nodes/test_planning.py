"""The deterministic planner: what a change becomes, before anything is done."""

from __future__ import annotations

import pytest

from domain.action import K8sDeploy, K8sRetire, K8sRollback, K8sTraffic, MetricsCheck
from domain.event import Actor
from domain.plan import Change, Plan
from domain.service import Environment, Service, Workload
from domain.strategy import BlueGreen, BurnWatch, CanaryStep, ReleaseGroup, TrafficMatch
from nodes.grouping import with_companions
from nodes.planning import image_for, release_plan, version_of, way_back

STAGING = Environment(name="staging", namespace="staging", bake_seconds=10, interval_seconds=5)
PROD = Environment(
    name="prod",
    namespace="prod",
    bake_seconds=10,
    interval_seconds=5,
    canary=(CanaryStep(weight=10, bake_seconds=20), CanaryStep(weight=100, bake_seconds=20)),
)
SHOP = Service(
    name="shop",
    repo="acme/shop",
    image="ghcr.io/acme/shop:{sha}",
    workload=Workload(deployment="shop", container="app", route="shop"),
    environments=(STAGING, PROD),
    slis=(),
)
CHANGE = Change(
    key="release:acme/shop@abc",
    title="A change",
    repo="acme/shop",
    number=7,
    sha="abc",
    author=Actor(login="ada"),
    paths=("main.py",),
)
RUNNING: dict[str, str | None] = {
    "shop/staging": "ghcr.io/acme/shop:old",
    "shop/prod": "ghcr.io/acme/shop:old",
}


def plan(**changes: object) -> Plan:
    given: dict[str, object] = {"change": CHANGE, "services": (SHOP,), "running": RUNNING}
    return release_plan(**{**given, **changes})  # type: ignore[arg-type]


def test_staging_is_released_and_judged_before_production_is_touched() -> None:
    scopes = [step.scope for step in plan().steps]
    assert scopes.index("shop/prod") > max(i for i, s in enumerate(scopes) if s == "shop/staging")
    assert [type(step.action) for step in plan().steps if step.scope == "shop/staging"] == [
        K8sDeploy,
        MetricsCheck,
    ]


def test_each_canary_step_is_capacity_then_weight_then_check() -> None:
    prod = [step.action for step in plan().steps if step.scope == "shop/prod"]
    kinds = [(type(a), getattr(a, "weight", None)) for a in prod]
    assert kinds == [
        (MetricsCheck, 0),
        (K8sDeploy, 10),
        (K8sTraffic, 10),
        (MetricsCheck, 10),
        (K8sDeploy, 100),
        (K8sTraffic, 100),
        (MetricsCheck, 100),
        (K8sDeploy, 100),
        (K8sTraffic, 0),
        (K8sRetire, None),
        (MetricsCheck, 100),
    ]


def kinds_in_prod(prod: Environment) -> list[tuple[str, int | None]]:
    service = SHOP.model_copy(update={"environments": (prod,)})
    steps = plan(services=(service,)).steps
    assert len({step.id for step in steps}) == len(steps)
    return [(step.action.kind, getattr(step.action, "weight", None)) for step in steps]


def test_testers_come_before_everybody_and_a_person_may_be_asked_in_between() -> None:
    match = TrafficMatch(headers=(("x-canary", "yes"),))
    steps = (
        CanaryStep(weight=0, bake_seconds=20, match=match, pause=True, metrics=("errors",)),
        CanaryStep(weight=10, bake_seconds=20),
    )
    prod = PROD.model_copy(update={"canary": steps})
    assert kinds_in_prod(prod)[1:8] == [
        ("k8s_deploy", 1),
        ("k8s_traffic", 0),
        ("metrics_check", 0),
        ("pause", None),
        ("k8s_deploy", 10),
        ("k8s_traffic", 10),
        ("metrics_check", 10),
    ]
    service = SHOP.model_copy(update={"environments": (prod,)})
    made = [one.action for one in plan(services=(service,)).steps]
    assert [one.match for one in made if isinstance(one, K8sTraffic)] == [match, None, None]
    checks = [one.metrics for one in made if isinstance(one, MetricsCheck)]
    assert checks == [None, ("errors",), None, None]


def test_blue_green_stands_at_full_size_before_all_traffic_is_switched() -> None:
    prod = PROD.model_copy(
        update={"canary": (), "blue_green": BlueGreen(keep_seconds=60, pause=True)}
    )
    assert kinds_in_prod(prod)[1:] == [
        ("k8s_deploy", 100),
        ("pause", None),
        ("k8s_deploy", 100),
        ("k8s_traffic", 100),
        ("metrics_check", 100),
        ("k8s_deploy", 100),
        ("k8s_traffic", 0),
        ("k8s_retire", None),
        ("metrics_check", 100),
    ]


def named(name: str, *environments: Environment) -> Service:
    return SHOP.model_copy(update={"name": name, "environments": environments or (STAGING, PROD)})


def places(made: Plan) -> list[str]:
    return list(dict.fromkeys(step.scope for step in made.steps))


def test_a_group_passes_each_environment_in_its_order_before_the_next_one() -> None:
    group = ReleaseGroup(name="all", services=("b", "a"))
    services = (named("a"), named("lone"), named("b"))
    made = plan(services=services, groups=(group,), running={})
    assert places(made) == ["b/staging", "a/staging", "b/prod", "a/prod",
                            "lone/staging", "lone/prod"]  # fmt: skip
    assert made.together == (("b/staging", "a/staging"), ("b/prod", "a/prod"))
    assert made.companions("a/prod") == ("b/prod", "a/prod")
    assert made.companions("lone/prod") == ("lone/prod",)


def test_a_group_of_which_one_service_is_touched_is_none() -> None:
    group = ReleaseGroup(name="all", services=("b", "a"))
    made = plan(services=(named("a"),), groups=(group,), running={})
    assert (places(made), made.together) == (["a/staging", "a/prod"], ())


def test_a_group_need_not_stand_and_fall_together() -> None:
    group = ReleaseGroup(name="all", services=("b", "a"), together=False)
    made = plan(services=(named("a"), named("b")), groups=(group,), running={})
    assert places(made)[:2] == ["b/staging", "a/staging"]
    assert made.together == ()


def test_a_whole_group_is_released_when_one_of_it_is_touched() -> None:
    a, b, c = named("a"), named("b"), named("c")
    whole = ReleaseGroup(name="all", services=("c", "a"), whole=True)
    assert with_companions((a,), (a, b, c), (whole,)) == (a, c)
    assert with_companions((b,), (a, b, c), (whole,)) == (b,)
    touched = whole.model_copy(update={"whole": False})
    assert with_companions((a,), (a, b, c), (touched,)) == (a,)


def test_a_group_is_watched_when_all_of_it_is_out() -> None:
    prod = PROD.model_copy(update={"burn": BurnWatch(for_seconds=60, every_seconds=10)})
    group = ReleaseGroup(name="all", services=("a", "b"))
    made = plan(services=(named("a", prod), named("b", prod)), groups=(group,), running={})
    last = made.steps[-1]
    assert isinstance(last.action, MetricsCheck)
    assert (last.id, last.action.phase) == ("b/prod.full.burn", "burn")
    assert [one.target.key for one in last.action.watched] == ["a/prod", "b/prod"]
    alone = group.model_copy(update={"together": False})
    made = plan(services=(named("a", prod), named("b", prod)), groups=(alone,), running={})
    assert [step.id for step in made.steps][-2:] == ["a/prod.full.burn", "b/prod.full.burn"]


def test_stable_is_rolled_only_while_the_canary_carries_all_traffic() -> None:
    prod = [step.action for step in plan().steps if step.scope == "shop/prod"]
    stable = next(i for i, a in enumerate(prod) if isinstance(a, K8sDeploy) and a.track == "stable")
    weights = [a.weight for a in prod[:stable] if isinstance(a, K8sTraffic)]
    assert weights[-1] == 100


def test_the_canary_is_compared_with_what_ran_before() -> None:
    first = next(
        s.action
        for s in plan().steps
        if isinstance(s.action, MetricsCheck) and s.action.phase == "canary"
    )
    assert (first.version, first.baseline) == ("abc", "old")


def test_a_first_install_has_no_canary_and_says_so() -> None:
    made = plan(running={"shop/staging": None, "shop/prod": None})
    assert not [s for s in made.steps if isinstance(s.action, K8sTraffic)]
    assert [note for note in made.notes if "first install" in note]


def test_what_runs_already_is_left_alone() -> None:
    made = plan(running={**RUNNING, "shop/staging": "ghcr.io/acme/shop:abc"})
    assert {step.scope for step in made.steps} == {"shop/prod"}
    assert [note for note in made.notes if "already runs abc" in note]


def test_unknown_paths_are_taken_as_touching_everything_and_the_plan_says_so() -> None:
    unknown = CHANGE.model_copy(update={"paths": None})
    assert [note for note in plan(change=unknown).notes if "could not be read" in note]
    assert SHOP.touches(None)


def test_one_environment_can_be_named() -> None:
    assert {s.scope for s in plan(only_environment="staging").steps} == {"shop/staging"}


def test_the_way_back_gives_stable_capacity_before_the_canary_loses_its_traffic() -> None:
    steps = way_back(SHOP, PROD, "ghcr.io/acme/shop:old", had_canary=True)
    assert [type(s.action) for s in steps] == [K8sRollback, K8sTraffic, K8sRetire]
    traffic = steps[1].action
    assert isinstance(traffic, K8sTraffic)
    assert traffic.weight == 0


def test_an_approval_covers_exactly_the_steps_of_its_scope() -> None:
    made = plan()
    other = plan(services=(SHOP.model_copy(update={"image": "ghcr.io/acme/shop:x-{sha}"}),))
    assert made.scope_digest("shop/prod") != other.scope_digest("shop/prod")
    assert made.scope_digest("shop/prod") != made.scope_digest("shop/staging")
    assert made.scope_digest("shop/prod") == plan().scope_digest("shop/prod")


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("ghcr.io/acme/shop:1.2", "1.2"),
        ("localhost:5000/shop", "latest"),
        ("localhost:5000/shop:7", "7"),
        ("ghcr.io/acme/shop@sha256:" + "ab" * 32, "ab" * 6),
        (None, ""),
    ],
)
def test_the_version_of_an_image_is_its_tag_or_the_start_of_its_digest(
    image: str | None, version: str
) -> None:
    assert version_of(image) == version


def test_a_tag_names_the_image_where_the_template_asks_for_it() -> None:
    service = SHOP.model_copy(update={"image": "ghcr.io/acme/shop:{tag}"})
    tagged = CHANGE.model_copy(update={"ref": "refs/tags/v3"})
    assert image_for(service, tagged) == "ghcr.io/acme/shop:v3"
    assert image_for(service, CHANGE) == "ghcr.io/acme/shop:abc"
