"""Which request goes where: the Gateway API's rules of precedence, and proportions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from evals.world.gateway_table import Asked, Backend, Wheel, build, refused

Obj = dict[str, Any]


def who(name: str) -> Backend:
    return Backend("production", "web", name, "stable")


def route(*rules: Obj, hosts: tuple[str, ...] = (), name: str = "web", at: str = "") -> Obj:
    meta = {"name": name, "namespace": "production", "creationTimestamp": at}
    return {"metadata": meta, "spec": {"hostnames": list(hosts), "rules": list(rules)}}


def rule(*matches: Obj) -> Obj:
    return {"matches": list(matches)} if matches else {}


def path(value: str, kind: str = "PathPrefix") -> Obj:
    return {"path": {"type": kind, "value": value}}


def header(name: str, value: str, kind: str = "Exact") -> Obj:
    return {"headers": [{"type": kind, "name": name, "value": value}]}


def goes(plan: list[tuple[Obj, list[str]]], asked: Asked) -> str | None:
    """The name of the backend that a request reaches; each rule has one."""
    table = build([(one, [{who(name): 1.0} for name in names]) for one, names in plan])
    wheel = table.wheel(asked)
    if wheel is None:
        return None
    found = wheel.turn()
    assert found is not None
    return found.version


@pytest.mark.parametrize(
    "host, expected",
    [
        ("shop.example", "exact"),
        ("SHOP.example:8080", "exact"),
        ("pay.shop.example", "narrow"),
        ("deep.pay.shop.example", "narrow"),
        ("other.example", "wide"),
        ("elsewhere.test", None),
    ],
)
def test_the_most_specific_hostname_wins(host: str, expected: str | None) -> None:
    plan = [
        (route(rule(), hosts=("*.example",)), ["wide"]),
        (route(rule(), hosts=("*.shop.example",)), ["narrow"]),
        (route(rule(), hosts=("shop.example",)), ["exact"]),
    ]
    assert goes(plan, Asked("GET", host, "/")) == expected


@pytest.mark.parametrize(
    "asked, expected",
    [
        (Asked("GET", "", "/"), "any"),
        (Asked("GET", "", "/foobar"), "any"),
        (Asked("GET", "", "/foo"), "foo"),
        (Asked("GET", "", "/foo/bar"), "foo"),
        (Asked("GET", "", "/foo/bar/baz"), "exact"),
        (Asked("POST", "", "/foo/bar"), "method"),
        (Asked("GET", "", "/foo", "", {"x-tester": "yes"}), "header"),
        (Asked("GET", "", "/foo", "", {"x-tester": "no"}), "foo"),
        (Asked("GET", "", "/foo", "a=1&a=2"), "param"),
        (Asked("GET", "", "/foo", "a=2&a=1"), "foo"),
    ],
)
def test_the_more_specific_match_wins_wherever_it_stands(asked: Asked, expected: str) -> None:
    one = route(
        rule(),
        rule(path("/foo")),
        rule(path("/foo/bar/baz", "Exact")),
        rule({**path("/foo"), "method": "POST"}),
        rule({**path("/foo"), **header("X-Tester", "yes")}),
        rule({**path("/foo"), "queryParams": [{"name": "a", "value": "1"}]}),
    )
    names = ["any", "foo", "exact", "method", "header", "param"]
    assert goes([(one, names)], asked) == expected


def test_of_equal_routes_the_oldest_wins_and_of_equal_rules_the_first() -> None:
    young = route(rule(), name="a", at="2026-01-02T00:00:00Z")
    old = route(rule(), rule(), name="b", at="2026-01-01T00:00:00Z")
    plan = [(young, ["young"]), (old, ["first", "second"])]
    assert goes(plan, Asked("GET", "any.example", "/")) == "first"


def test_testers_are_told_by_a_cookie() -> None:
    cookie = header("Cookie", r"^(.*;\s*)?beta=on(;.*)?$", "RegularExpression")
    one = route(rule(), rule(cookie))
    asked = {
        value: Asked("GET", "", "/", "", {"cookie": value}) for value in ("beta=on", "beta=of")
    }
    assert goes([(one, ["all", "testers"])], asked["beta=on"]) == "testers"
    assert goes([(one, ["all", "testers"])], asked["beta=of"]) == "all"


def test_each_backend_has_its_share_of_any_number_of_requests_give_or_take_one() -> None:
    shares = {who("a"): 90.0, who("b"): 7.0, who("c"): 3.0, who("d"): 0.0}
    wheel = Wheel(shares)
    seen: Counter[str] = Counter()
    for turn in range(1, 1001):
        found = wheel.turn()
        assert found is not None
        seen[found.version] += 1
        for one, share in shares.items():
            assert abs(seen[one.version] - turn * share / 100) <= 1
    assert seen["d"] == 0


def test_nobody_has_a_turn_when_all_weights_are_zero() -> None:
    assert Wheel({who("a"): 0.0}).turn() is None


@pytest.mark.parametrize(
    "wrong, reason",
    [
        ({"filters": [{"type": "RequestMirror"}]}, "filters"),
        (rule(path("/", "Fancy")), "path: type Fancy"),
        (rule(header("a", "(", "RegularExpression")), "no regular expression"),
    ],
)
def test_what_cannot_be_done_is_refused(wrong: Obj, reason: str) -> None:
    assert reason in refused(route(rule(), wrong))
    assert refused(route(rule(), rule(path("/x(")))) == ""
