"""The planner on configuration: when it alone is a release, and what steps carry of it."""

from __future__ import annotations

from domain.action import K8sDeploy, K8sPrune, K8sRollback, MetricsCheck
from domain.configuration import ConfigObjects, ConfigVersion, for_the_record, is_other
from domain.plan import Plan
from domain.service import Workload
from nodes.planning import ConfigPlan, deployed_config, release_plan, release_steps, way_back
from tests.nodes.test_planning import CHANGE, PROD, RUNNING, SHOP

OLD, NEW, OLDER = (
    ConfigVersion(kind="ConfigMap", name="shop", digest=one * 10) for one in ("1", "2", "0")
)
UNKNOWN = ConfigVersion(kind="Secret", name="tokens")
CONFIGURED = SHOP.model_copy(
    update={
        "workload": Workload(
            deployment="shop", container="app", route="shop",
            config=ConfigObjects(configmaps=("shop",)),
        )
    }
)  # fmt: skip
SAME = {**RUNNING, "shop/prod": "ghcr.io/acme/shop:abc"}


def planned(config: ConfigPlan) -> Plan:
    """A release to production of the image that runs there."""
    return release_plan(
        CHANGE, (CONFIGURED,), SAME, only_environment="prod", configs={"shop/prod": config}
    )


def test_an_image_that_runs_with_the_same_configuration_is_nothing_to_do() -> None:
    made = planned(ConfigPlan(running=(OLD,), wanted=(OLD,)))
    assert made.steps == ()
    assert "nothing to do there" in made.notes[0]


def test_a_new_configuration_of_the_same_image_is_released_step_by_step() -> None:
    made = planned(ConfigPlan(running=(OLD,), wanted=(NEW,), keep=(OLDER, OLD)))
    assert "its configuration is new (ConfigMap shop)" in made.notes[0]
    deploys = [one.action for one in made.steps if isinstance(one.action, K8sDeploy)]
    assert {one.config for one in deploys} == {(NEW,)}
    assert [one.track for one in deploys] == ["canary", "canary", "stable"]
    checks = [one.action for one in made.steps if isinstance(one.action, MetricsCheck)]
    assert {one.baseline for one in checks} == {None}, "metrics cannot tell the tracks apart"
    last = made.steps[-1].action
    assert isinstance(last, K8sPrune)
    assert last.keep == (OLD, NEW, OLDER)
    assert deployed_config(made, "shop/prod") == (NEW,)


def test_what_is_not_known_counts_as_new_and_is_not_remembered() -> None:
    made = planned(ConfigPlan(running=(OLD, UNKNOWN), wanted=(OLD, UNKNOWN)))
    assert "ConfigMap" not in made.notes[0].partition("configuration is new")[2].partition(")")[0]
    assert "Secret tokens" in made.notes[0]
    assert deployed_config(made, "shop/prod") == ()
    assert for_the_record((OLD,)) == (OLD,)
    assert not is_other((), (OLD,))
    assert is_other((NEW,), (OLD,))


def test_approvals_cover_the_configuration() -> None:
    one = planned(ConfigPlan(running=(OLDER,), wanted=(OLD,)))
    other = planned(ConfigPlan(running=(OLDER,), wanted=(NEW,)))
    assert one.scope_digest("shop/prod") != other.scope_digest("shop/prod")


def test_a_service_without_configuration_has_nothing_to_tidy_up() -> None:
    steps = release_steps(SHOP, PROD, "ghcr.io/acme/shop:new", "ghcr.io/acme/shop:old")
    assert not any(isinstance(one.action, K8sPrune) for one in steps)


def test_the_way_back_names_the_configuration_or_leaves_it_alone() -> None:
    for config in ((OLD,), None):
        step = way_back(CONFIGURED, PROD, "i:1", had_canary=False, config=config)[0]
        assert isinstance(step.action, K8sRollback)
        assert step.action.config == config
