"""What the gate learns of the objects that a deploy would write, and what policy makes of it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import pytest
import yaml

from domain.action import K8sDeploy, K8sTraffic
from domain.decision import Outcome
from domain.errors import Temporary
from domain.rendered import Rendered
from domain.service import Target, Workload
from nodes.examining import Examiner
from nodes.manifests import Manifests
from policy.evaluate import evaluate
from policy.rules import ManifestRules
from tests.policy.making import WEDNESDAY, facts, shipped
from tests.policy.manifests.test_constraints import constraint, never, template
from tools.cluster_deploy import first_objects
from tools.cluster_render import ExecutorRenderer
from tools.ports import Renderer

TARGET = Target(
    service="checkout",
    environment="staging",
    namespace="shop",
    workload=Workload(deployment="checkout", container="app"),
    replicas=2,
)
RULES = shipped().manifests
OLD = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "checkout", "namespace": "shop"},
    "spec": {"template": {"spec": {"containers": [{"name": "app", "image": "app:1"}]}}},
}


@dataclass(frozen=True)
class Showing:
    """Renders what it was given, or fails."""

    objects: tuple[Rendered, ...] = ()
    failure: Exception | None = None

    async def rendered(self, action: K8sDeploy) -> tuple[Rendered, ...]:
        if self.failure is not None:
            raise self.failure
        return self.objects


def deploy(image: str = "registry.example.com/app:4f2a9c1") -> K8sDeploy:
    return K8sDeploy(target=TARGET, track="stable", image=image)


def no_constraints(rules: ManifestRules) -> Examiner:
    return Examiner.of([])


def told(rules: ManifestRules) -> Examiner:
    return Examiner.of([("p.yaml", yaml.safe_dump_all([template(never()), constraint()]))])


def existing(image: str, **of_pod: Any) -> Showing:
    changed: dict[str, Any] = deepcopy(OLD)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = image
    changed["spec"]["template"]["spec"].update(of_pod)
    return Showing((Rendered(changed, existed=True),))


async def broken(renderer: Renderer, rules: ManifestRules = RULES) -> list[str]:
    found = await Manifests(renderer, no_constraints).facts(rules, deploy())
    return [one.rule for one in found["manifests"]]


async def test_what_fermata_makes_itself_meets_every_rule() -> None:
    bodies = first_objects(TARGET, "registry.example.com/app:4f2a9c1", "gateway", "host")
    made = tuple(Rendered(body, existed=False) for _, body in bodies)
    assert await broken(Showing(made)) == []
    assert RULES.bearing.keys() >= {"probes", "resources", "non-root"}


async def test_a_new_object_is_held_to_every_rule_about_pods() -> None:
    made = Showing((Rendered(OLD, existed=False),))
    assert set(await broken(made)) == {"resources", "probes", "non-root", "privilege-escalation"}


async def test_what_was_there_before_is_held_to_its_image_alone_unless_policy_says_all() -> None:
    assert await broken(existing("app:1", hostNetwork=True)) == []
    assert await broken(existing("app", hostNetwork=True)) == ["image-tag"]
    strict = replace(RULES, adopted="all")
    assert "host-namespaces" in await broken(existing("app:1", hostNetwork=True), strict)


async def test_constraints_hold_for_what_was_there_before_as_well() -> None:
    found = await Manifests(existing("app:1"), told).facts(RULES, deploy())
    (one,) = found["manifests"]
    assert (one.rule, one.message, one.bearing) == ("K8sTold/told", "never", "deny")


async def test_steps_that_write_no_pods_are_not_looked_at() -> None:
    manifests = Manifests(Showing(failure=Temporary("down")), told)
    assert await manifests.facts(RULES, K8sTraffic(target=TARGET, weight=10)) == {}


@pytest.mark.parametrize(
    "renderer",
    [
        Showing(failure=Temporary("the cluster does not answer")),
        Showing((Rendered({"apiVersion": "apps/v1", "kind": "Deployment"}, existed=True),)),
    ],
)
async def test_what_cannot_be_rendered_or_read_is_unknown(renderer: Renderer) -> None:
    found = await Manifests(renderer, no_constraints).facts(RULES, deploy())
    assert found["manifests"] is None
    assert found["manifests_unknown"]


async def test_of_another_executor_the_image_is_enough_for_image_rules_only() -> None:
    renderer = ExecutorRenderer({})
    assert (await Manifests(renderer, no_constraints).facts(RULES, deploy("app")))["manifests"][
        0
    ].rule == "image-tag"
    assert await broken(renderer) == []
    for manifests, rules in (
        (Manifests(renderer, told), RULES),
        (Manifests(renderer, no_constraints), replace(RULES, adopted="all")),
    ):
        assert (await manifests.facts(rules, deploy()))["manifests"] is None


async def test_the_decision_names_rule_path_and_fix() -> None:
    found = await Manifests(existing("app:latest"), no_constraints).facts(RULES, deploy())
    decision = evaluate(shipped(), facts().model_copy(update=found), WEDNESDAY)
    assert decision.outcome is Outcome.DENY
    (rule,) = [one for one in decision.rules if one.rule == "manifests.image-tag"]
    assert "$.spec.template.spec.containers[0].image" in rule.reason
    assert "digest" in rule.remedy


async def test_unknown_objects_ask_or_are_denied_and_never_pass() -> None:
    found = await Manifests(Showing(failure=Temporary("down")), no_constraints).facts(
        RULES, deploy()
    )
    unknown = facts().model_copy(update=found)
    assert evaluate(shipped(), unknown, WEDNESDAY).outcome is Outcome.NEEDS_APPROVAL
    strict = replace(shipped(), manifests=replace(RULES, unreadable="deny"))
    assert evaluate(strict, unknown, WEDNESDAY).outcome is Outcome.DENY
