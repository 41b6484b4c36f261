"""Weights of an HTTPRoute and what its gateways say, as pure functions."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Permanent
from domain.service import Target, Workload
from domain.strategy import TrafficMatch
from domain.workload import WorkloadState
from nodes.readiness import shifted
from tools.cluster_route import canary_weights, route_spec, route_state, with_weight
from tools.cluster_testers import with_testers

TARGET = Target(
    service="web",
    environment="test",
    namespace="shop",
    workload=Workload(deployment="web", container="app", route="web"),
    replicas=3,
)


def ref(name: str, weight: int | None = None, **more: Any) -> dict[str, Any]:
    given_weight = {} if weight is None else {"weight": weight}
    return {"name": name, "port": 80, **given_weight, **more}


def rule(*refs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"backendRefs": list(refs), **more}


def route(*rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "namespace": "shop", "generation": 4},
        "spec": {"parentRefs": [{"name": "gate"}], "rules": list(rules), **spec},
    }


def condition(kind: str, status: str = "True", generation: int = 4) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "observedGeneration": generation,
        "reason": "Because",
        "message": "",
    }


def report(*conditions: dict[str, Any], **parent: Any) -> dict[str, Any]:
    return {"parentRef": {"name": "gate", **parent}, "conditions": list(conditions)}


GOOD = (condition("Accepted"), condition("ResolvedRefs"))
HALF = rule(ref("web", 50), ref("web-canary", 50))
HEADER = {"matches": [{"headers": [{"name": "x-canary", "value": "1"}]}]}


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ([rule(ref("web", 90), ref("web-canary", 10))], [10]),
        ([rule(ref("web"), ref("web-canary"))], [50]),
        ([rule(ref("web", 9999), ref("web-canary", 1))], [1]),
        ([rule(ref("web", 0), ref("web-canary", 0))], [0]),
        ([rule(ref("web", 100))], []),
        ([rule(ref("web", 90), ref("web-canary", 10)), HALF], [10, 50]),
        ([rule(ref("web-canary"), **HEADER)], []),
        ([rule(ref("web-canary"))], [100]),
        ([rule(ref("web", 90), ref("web-canary", 10, namespace="elsewhere"))], []),
        ([rule(ref("web", 90), ref("web-canary", 10, kind="ServiceImport", group="x"))], []),
        ([{}], []),
    ],
)
def test_the_canarys_share_is_read_in_percent(
    rules: list[dict[str, Any]], found: list[int]
) -> None:
    assert canary_weights(route(*rules), TARGET) == found


@given(st.integers(0, 100))
def test_what_was_set_is_what_is_read(weight: int) -> None:
    assert canary_weights(with_weight(route(HALF, HALF), TARGET, weight), TARGET) == [weight] * 2


def test_setting_a_weight_leaves_the_original_and_everything_else_alone() -> None:
    filtered = rule(ref("web", 1), ref("web-canary", 0), filters=[{"type": "URLRewrite"}], new=1)
    before = route(rule(ref("web", 7), name="static"), filtered, rule(ref("web-canary"), **HEADER))
    untouched = deepcopy(before)
    after = with_weight(before, TARGET, 30)
    assert before == untouched
    refs = after["spec"]["rules"][1]["backendRefs"]
    assert [one["weight"] for one in refs] == [70, 30]
    refs[0]["weight"], refs[1]["weight"] = 1, 0
    assert after == untouched


def test_a_third_backend_stops_a_weight_but_never_the_way_back() -> None:
    before = route(rule(ref("web", 60), ref("web-canary", 20), ref("legacy", 20)))
    with pytest.raises(Permanent, match="more backends"):
        with_weight(before, TARGET, 10)
    back = with_weight(before, TARGET, 0)
    assert [one["weight"] for one in back["spec"]["rules"][0]["backendRefs"]] == [80, 0, 20]


def test_a_route_without_the_pair_takes_no_weight_but_zero() -> None:
    alone = route(rule(ref("web")))
    with pytest.raises(Permanent) as refused:
        with_weight(alone, TARGET, 10)
    assert "web-canary" in refused.value.remedy
    assert with_weight(alone, TARGET, 0) == alone


@pytest.mark.parametrize(
    ("parents", "reason"),
    [
        ([], "has not reported"),
        ([report(*GOOD)], ""),
        ([report(condition("Accepted"))], "ResolvedRefs is not reported"),
        ([report(condition("Accepted", "False"), condition("ResolvedRefs"))], "Accepted is False"),
        ([report(condition("Accepted"), condition("ResolvedRefs", "Unknown"))], "Unknown"),
        ([report(condition("Accepted", generation=3), condition("ResolvedRefs"))], "generation 3"),
        ([report(condition("Accepted"), condition("ResolvedRefs", generation=3))], "generation 3"),
        ([report(*GOOD, name="another")], "gate has not reported"),
        ([report(*GOOD, namespace="shop")], ""),
        ([report(*GOOD, namespace="elsewhere")], "has not reported"),
        ([report(*GOOD), report(condition("Accepted", "False"))], "Accepted is False"),
    ],
)
def test_a_route_is_accepted_when_its_gateway_says_so_of_this_generation(
    parents: list[dict[str, Any]], reason: str
) -> None:
    seen = route_state({**route(HALF), "status": {"parents": parents}}, TARGET, needs_status=True)
    assert seen.accepted is (reason == "")
    assert reason in seen.reason
    assert seen.canary_weight == 50


def test_every_gateway_has_to_accept() -> None:
    two = route(HALF, parentRefs=[{"name": "gate"}, {"name": "gate", "sectionName": "tls"}])
    one_says = {**two, "status": {"parents": [report(*GOOD)]}}
    both_say = {**two, "status": {"parents": [report(*GOOD), report(*GOOD, sectionName="tls")]}}
    assert not route_state(one_says, TARGET, needs_status=True).accepted
    assert route_state(both_say, TARGET, needs_status=True).accepted


def test_without_status_required_a_report_that_exists_still_counts() -> None:
    bad = {**route(HALF), "status": {"parents": [report(condition("Accepted", "False"))]}}
    assert route_state(route(HALF), TARGET, needs_status=False).accepted
    assert not route_state(bad, TARGET, needs_status=False).accepted


def test_rules_that_disagree_are_not_accepted_and_the_largest_weight_is_shown() -> None:
    mixed = route(HALF, rule(ref("web", 90), ref("web-canary", 10)))
    mixed["status"] = {"parents": [report(*GOOD)]}
    seen = route_state(mixed, TARGET, needs_status=True)
    assert (seen.canary_weight, seen.accepted) == (50, False)
    assert "[10, 50]" in seen.reason


def test_a_route_that_somebody_took_the_canary_out_of_gives_it_nothing() -> None:
    alone = route(rule(ref("web")))
    unseen = route_state(alone, TARGET, needs_status=True)
    assert not unseen.accepted
    alone["status"] = {"parents": [report(*GOOD)]}
    seen = route_state(alone, TARGET, needs_status=True)
    gone = WorkloadState(stable=None, canary=None, route=seen)
    assert shifted(gone, 0, TARGET).kind == "done"
    assert shifted(gone, 10, TARGET).kind == "settling"
    assert "no rule has both web and web-canary" in shifted(gone, 10, TARGET).reason


def test_a_first_route_may_hang_on_a_gateway_of_another_namespace() -> None:
    spec = route_spec(TARGET, "infra/public", "web.shop")
    assert spec["parentRefs"] == [{"name": "public", "namespace": "infra"}]
    assert route_spec(TARGET, "public", "web.shop")["parentRefs"] == [{"name": "public"}]


TESTERS = TrafficMatch(headers=(("x-canary", "yes"),))
COOKIE = TrafficMatch(cookie=("canary", "a.b"))


def filled_in(found: dict[str, Any]) -> dict[str, Any]:
    """What an API server makes of a route: the defaults of its schema stand in it."""
    made = deepcopy(found)
    for one in made["spec"]["rules"]:
        one.setdefault("matches", [{}])
        for each in one["matches"]:
            each.setdefault("path", {"type": "PathPrefix", "value": "/"})
            for header in each.get("headers", []):
                header.setdefault("type", "Exact")
        for backend in one["backendRefs"]:
            backend |= {"group": "", "kind": "Service", "weight": backend.get("weight", 1)}
    return made


def test_testers_get_a_rule_of_their_own_before_all_others() -> None:
    shop = rule(ref("web", 100), ref("web-canary", 0), matches=[{"path": {"value": "/shop"}}])
    made = with_testers(route(shop), TARGET, TESTERS)
    first, second = made["spec"]["rules"]
    assert second == shop
    assert first["matches"][0]["path"] == {"value": "/shop"}
    assert first["matches"][0]["headers"] == [{"type": "Exact", "name": "x-canary", "value": "yes"}]
    assert [one["name"] for one in first["backendRefs"]] == ["web-canary"]
    assert canary_weights(made, TARGET) == [0]
    assert with_testers(filled_in(made), TARGET, TESTERS)["spec"] == filled_in(made)["spec"]


def test_our_rules_for_testers_go_and_everybody_elses_stay() -> None:
    others = rule(ref("web-canary"), matches=[{"headers": [{"name": "x-qa", "value": "1"}]}])
    before = route(others, HALF)
    made = filled_in(with_testers(before, TARGET, TESTERS))
    assert len(made["spec"]["rules"]) == 3
    assert with_testers(made, TARGET, None)["spec"] == filled_in(before)["spec"]
    assert with_testers(before, TARGET, None) == before
    (_, *rest) = with_testers(made, TARGET, COOKIE)["spec"]["rules"]
    assert rest == filled_in(before)["spec"]["rules"]


@pytest.mark.parametrize(
    ("cookies", "reached"),
    [
        ("canary=a.b", True),
        ("session=1; canary=a.b", True),
        ("canary=a.b; session=1", True),
        ("canary=aXb", False),
        ("xcanary=a.b", False),
        ("canary=a.bc", False),
    ],
)
def test_a_cookie_is_found_among_others_and_only_as_a_whole(cookies: str, reached: bool) -> None:
    header = with_testers(route(HALF), TARGET, COOKIE)["spec"]["rules"][0]["matches"][0]["headers"][
        0
    ]
    assert (header["name"], header["type"]) == ("Cookie", "RegularExpression")
    assert bool(re.fullmatch(header["value"], cookies)) is reached
