"""services.yaml: what it becomes, and how its mistakes are told."""

from __future__ import annotations

from pathlib import Path
from string import Template

import pytest

from domain.errors import SourceError
from evals.world.promql.parse import parse
from tools.catalogue import load_catalogue

SHIPPED = Path(__file__).parents[2] / "services.yaml"

GOOD = """\
version: 1
defaults:
  interval: 30s
  slis:
    - name: errors
      kind: errors
      objective: 99%
      bad: sum(increase(e{version="$version"}[$window]))
      total: sum(increase(t{version="$version"}[$window]))
services:
  - name: checkout
    repo: acme/checkout
    image: ghcr.io/acme/checkout:{sha}
    environments:
      - name: staging
        namespace: staging
        bake: 2m
      - name: prod
        namespace: prod
        bake: 1h30m
        canary:
          - {weight: 10, bake: 5m}
          - {weight: 50, bake: 5m}
"""


def findings(text: str) -> list[tuple[int, str, str]]:
    """Line, message and hint of each problem."""
    with pytest.raises(SourceError) as caught:
        load_catalogue(text, "services.yaml")
    assert all(one.file == "services.yaml" and one.column >= 1 for one in caught.value.problems)
    return [(one.line, one.message, one.hint) for one in caught.value.problems]


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_what_is_left_out_has_a_sensible_value() -> None:
    (service,) = load_catalogue(GOOD, "services.yaml").services
    assert service.paths == ("**",)
    assert service.workload.deployment == service.workload.container == "checkout"
    assert service.workload.route is None
    assert [sli.objective for sli in service.slis] == [0.99]
    staging, prod = service.environments
    assert (staging.bake_seconds, prod.bake_seconds) == (120, 5400)
    assert prod.interval_seconds == 30
    assert staging.replicas == 2
    assert [(one.weight, one.bake_seconds) for one in prod.canary] == [(10, 300), (50, 300)]


METRICS = """\
    metrics:
      - name: queue
        query: max(queue_depth{version="$version"})
        tolerance: 20%
        limit: 500
        fail_when: {breaches: 2, of: 4, confirm: 1}
"""


def test_a_service_has_numbers_of_its_own_to_be_judged_by() -> None:
    (service,) = load_catalogue(GOOD + METRICS, "services.yaml").services
    (queue,) = service.metrics
    assert (queue.direction, queue.tolerance, queue.limit) == ("lower", 0.2, 500)
    assert queue.fail_when.fewest == 3


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("        tolerance: 20%\n        limit: 500\n", "", "nothing is said about what queue"),
        ("breaches: 2", "breaches: 5", "5 of 4 windows can never breach"),
        ('"$version"', '"1"', "does not use $version"),
        ("- name: queue", "- name: errors", "'errors' is an SLI of this service already"),
        ("tolerance: 20%", "tolerance: -1", "-1 is not a tolerance"),
    ],
)
def test_a_metric_that_could_not_be_judged_is_refused(old: str, new: str, said: str) -> None:
    assert [one for one in findings(GOOD + METRICS.replace(old, new)) if said in one[1]]


def test_a_step_names_what_it_is_judged_by_and_has_the_time_for_it() -> None:
    named = GOOD.replace("{weight: 10, bake: 5m}", "{weight: 10, bake: 5m, metrics: [queue]}")
    (service,) = load_catalogue(named + METRICS, "services.yaml").services
    assert [step.metrics for step in service.environments[1].canary] == [("queue",), None]
    ((_, said, _),) = findings(named)
    assert "no SLI or metric called 'queue'" in said
    short = named.replace("weight: 10, bake: 5m", "weight: 10, bake: 1m")
    ((_, said, _),) = findings(short + METRICS)
    assert "has 2 windows after the warm-up, and queue takes 3" in said


ROUTED = GOOD.replace("    environments:\n", "    workload: {route: checkout}\n    environments:\n")


def with_steps(*steps: str) -> str:
    head = ROUTED[: ROUTED.index("          - {weight: 10")]
    return head + "".join(f"          - {one}\n" for one in steps)


def test_a_step_for_testers_and_a_pause() -> None:
    text = with_steps(
        "{weight: 0, match: {headers: {x-canary: 'yes'}, cookie: canary=1}, pause: true}",
        "{weight: 10, bake: 5m}",
    )
    first, second = load_catalogue(text, "services.yaml").services[0].environments[1].canary
    assert first.match is not None
    assert first.match.words == "header x-canary: yes and cookie canary=1"
    assert (first.weight, first.bake_seconds, first.pause) == (0, 0, True)
    assert (second.match, second.pause) == (None, False)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("{weight: 10}", "without a bake is never judged"),
        ("{weight: 0, bake: 5m, pause: true}", "nobody reaches a step of weight 0"),
        ("{weight: 0}", "does nothing"),
        ("{weight: 0, match: {}}", "matches every request"),
        ("{weight: 0, match: {headers: {'x y': '1'}}}", "is not the name of a header"),
        ("{weight: 0, match: {headers: {x-canary: 1}}}", "has to be text"),
        ("{weight: 0, match: {cookie: canary}}", "is not a cookie"),
    ],
)
def test_a_step_that_means_nothing_is_refused(step: str, said: str) -> None:
    assert [one for one in findings(with_steps(step)) if said in one[1]]


def test_testers_need_a_route() -> None:
    text = with_steps("{weight: 0, match: {cookie: canary=1}}").replace("{route: checkout}", "{}")
    assert [one for one in findings(text) if "without an HTTPRoute" in one[1]]


def test_blue_green_stands_instead_of_a_canary() -> None:
    head = ROUTED[: ROUTED.index("        canary:")]
    text = head + "        blue_green: {match: {cookie: canary=1}, preview: 5m, keep: 30m}\n"
    prod = load_catalogue(text, "services.yaml").services[0].environments[1]
    assert [(one.weight, one.bake_seconds) for one in prod.stages] == [(0, 300), (100, 1800)]
    assert [one for one in findings(ROUTED + "        blue_green: {keep: 30m}\n")
            if "not both" in one[1]]  # fmt: skip
    nobody = text.replace("match: {cookie: canary=1}, ", "")
    assert [one for one in findings(nobody) if "nobody reaches the preview" in one[1]]


def test_a_watch_is_looked_at_within_its_time() -> None:
    watch = GOOD + "        watch: {for: 1h}\n"
    burn = load_catalogue(watch, "services.yaml").services[0].environments[1].burn
    assert burn is not None
    assert (burn.for_seconds, burn.every_seconds) == (3600, 60)
    assert [one for one in findings(watch.replace("1h}", "30s}")) if "is never" in one[1]]


SECOND = """\
  - name: search
    repo: acme/checkout
    image: ghcr.io/acme/search:{sha}
    environments:
      - {name: staging, namespace: staging, bake: 2m}
"""


def test_services_are_grouped_in_an_order() -> None:
    text = GOOD + SECOND + "groups:\n  - {name: shop, services: [search, checkout], release: all}\n"
    (group,) = load_catalogue(text, "services.yaml").groups
    assert (group.services, group.whole, group.together) == (("search", "checkout"), True, True)


@pytest.mark.parametrize(
    ("second", "group", "said"),
    [
        (SECOND, "[search, serach]", "there is no service 'serach'"),
        (SECOND, "[search]", "at least 2"),
        (SECOND, "[search, checkout]}\n  - {name: two, services: [search, checkout]", "group shop"),
        (SECOND.replace("acme/checkout", "acme/else"), "[search, checkout]", "is released by"),
        (
            SECOND.replace("{name: staging", "{name: prod, namespace: p, bake: 2m}\n"
                           "      - {name: staging"),
            "[search, checkout]",
            "in another order",
        ),
    ],
)  # fmt: skip
def test_a_group_that_no_change_can_release_is_refused(second: str, group: str, said: str) -> None:
    text = GOOD + second + f"groups:\n  - {{name: shop, services: {group}}}\n"
    assert [one for one in findings(text) if said in " ".join(map(str, one[1:]))], findings(text)


def test_a_service_has_its_own_slis_where_it_names_them() -> None:
    own = """\
    slis:
      - {name: mine, kind: latency, objective: 0.9, bad: "b $version $window",
         total: "t $version $window"}
"""
    (service,) = load_catalogue(GOOD + own, "services.yaml").services
    assert [sli.name for sli in service.slis] == ["mine"]


@pytest.mark.parametrize(
    ("old", "new", "at", "message", "hint"),
    [
        ("bake: 2m", "bake: 2", "bake: 2", "needs a unit", "30s"),
        ("bake: 2m", "bake: 2 moons", "bake: 2 moons", "not a duration", "5m"),
        ("bake: 2m", "bake: 10s", "bake: 10s", "shorter than one window", "interval"),
        ("bake: 2m", "bake: 30d", "bake: 30d", "longer than a week", "watched"),
        ("interval: 30s", "interval: 0s", "interval: 0s", "some length", "30s"),
        (":{sha}", ":{commit}", "image:", "{commit}", "{sha}"),
        (":{sha}", ":{sha.__class__}", "image:", "{sha.__class__}", "{sha}"),
        (":{sha}", ":latest", "image:", "no {sha}", "checkout:{sha}"),
        (":{sha}", ":{sha}}", "image:", "placeholder", "{tag}"),
        (":{sha}", "/{sha}", "image:", "with a tag", "registry"),
        ("objective: 99%", "objective: 99", "objective: 99", "between 0 and 1", "99%"),
        ("objective: 99%", "objective: 1.0", "objective: 1.0", "between 0 and 1", "0.99"),
        ("weight: 10", "weight: 60", "weight: 60", "is none", "10"),
        ("weight: 50", "weight: 5", "weight: 5,", "from 10% to 5%", "grow"),
        ("weight: 50", "weight: 150", "weight: 150", "less than or equal to 100", "percent"),
        ("name: prod\n", "name: staging\n", "namespace: prod", "second environment", "line 15"),
        ("namespace: prod", "namespace: staging", "bake: 1h30m", "staging's already", "namespace"),
        ("name: checkout", "name: Check_out", "name: Check_out", "cannot be a name", "a-z"),
        ("acme/checkout\n", "checkout\n", "repo:", "not a repository", "owner/name"),
        ("[$window]))\n      total", "[30s]))\n      total", "bad:", "$window", "earlier"),
        ('e{version="$version"}', "e", "bad:", "$version", "told apart"),
        ('e{version="$version"}', 'e{v="$version",s="$sevice"}', "bad:", "$sevice", "$service"),
        ('e{version="$version"}', 'e{v=~"$version$"}', "bad:", "stands alone", "$$"),
        ("kind: errors", "kind: error", "kind: error", "expected 'errors'", "'errors'"),
        ("    repo:", "    rep:", "    rep:", "unknown key", "'repo'"),
        ("version: 1", "version: 2", "version: 2", "expected 1", "1"),
    ],
)
def test_a_mistake_is_told_at_its_line_with_a_hint(
    old: str, new: str, at: str, message: str, hint: str
) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    found = findings(text)
    expected = line_of(text, at)
    # A wrong namespace or name stands one line above the anchor that makes the place unique.
    near = {expected, expected - 1} if at in ("namespace: prod", "bake: 1h30m") else {expected}
    assert any(
        line in near and message in said and hint in advice for line, said, advice in found
    ), found


def test_a_second_service_of_the_same_name_is_told_with_the_first_ones_line() -> None:
    service = GOOD[GOOD.index("  - name: checkout") :]
    found = findings(GOOD + service)
    ours = [one for one in found if "second service" in one[1]]
    assert [line for line, _, _ in ours] == [line_of(GOOD, "  - name: checkout") + 13]
    assert f"line {line_of(GOOD, '  - name: checkout')}" in ours[0][2]


def test_two_services_cannot_drive_one_deployment() -> None:
    service = GOOD[GOOD.index("  - name: checkout") :].replace(
        "name: checkout\n", "name: till\n    workload: {deployment: checkout}\n"
    )
    assert {said for _, said, _ in findings(GOOD + service)} == {
        "Deployment checkout in namespace staging is checkout/staging's already",
        "Deployment checkout in namespace prod is checkout/prod's already",
    }


def test_a_service_without_slis_is_refused() -> None:
    text = GOOD[: GOOD.index("  slis:")] + GOOD[GOOD.index("services:") :]
    ((_, said, hint),) = findings(text)
    assert "no SLI" in said
    assert "defaults" in hint


def test_a_link_that_is_no_web_address_is_refused() -> None:
    text = GOOD.replace("    image:", "    docs: javascript:alert(1)\n    image:")
    assert [said for _, said, _ in findings(text)] == ["'javascript:alert(1)' is not a web address"]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = GOOD.replace("bake: 2m", "bake: 1s").replace("weight: 50", "weight: 5")
    lines = [line for line, _, _ in findings(text)]
    assert lines == sorted(lines)
    assert len(lines) == 2


def test_the_shipped_catalogue_releases_by_canaries_that_can_be_judged() -> None:
    catalogue = load_catalogue(SHIPPED.read_text(encoding="utf-8"), "services.yaml")
    assert [one.name for one in catalogue.services] == ["checkout", "payments", "search"]
    checkout = catalogue.service("checkout")
    assert checkout is not None
    prod = checkout.environment("prod")
    assert prod is not None
    assert [one.weight for one in prod.canary] == [10, 50, 100]
    # Each step has at least four windows, one of which is warm-up.
    assert all(one.bake_seconds >= 4 * prod.interval_seconds for one in prod.canary)
    assert {sli.name: sli.objective for sli in checkout.slis} == {"errors": 0.99, "latency": 0.95}
    platform = catalogue.of_repo("ACME/platform")
    touched = [one.name for one in platform if one.touches(("services/search/index.py",))]
    assert touched == ["search"]


def test_the_shipped_queries_are_promql() -> None:
    catalogue = load_catalogue(SHIPPED.read_text(encoding="utf-8"), "services.yaml")
    names = {"namespace": "prod", "service": "checkout", "version": "abc1234", "window": "30s"}
    queries = [query for sli in catalogue.services[0].slis for query in (sli.bad, sli.total)]
    assert len(queries) == 4
    for query in queries:
        rendered = Template(query).substitute(names)
        assert "$" not in rendered
        parse(rendered)


@pytest.mark.parametrize(
    ("written", "instead", "message"),
    [
        ("{executor: argo-rollouts, route: web}", "", "sets the weights of its traffic router"),
        ("{executor: argo-rollouts}", "bake: 5m, match: {cookie: a=b}", "own steps"),
    ],
)
def test_what_a_rollout_does_by_itself_is_not_asked_of_it(
    written: str, instead: str, message: str
) -> None:
    text = GOOD.replace("    environments:", f"    workload: {written}\n    environments:", 1)
    text = text.replace("weight: 10, bake: 5m", f"weight: 10, {instead or 'bake: 5m'}")
    with pytest.raises(SourceError) as refused:
        load_catalogue(text, "services.yaml")
    assert message in str(refused.value)


def test_a_rollout_is_not_switched_blue_and_green() -> None:
    text = GOOD.replace(
        "    environments:", "    workload: {executor: argo-rollouts}\n    environments:", 1
    )
    canary = text[text.index("        canary:") :]
    text = text.replace(canary, "        blue_green: {keep: 10m}\n")
    with pytest.raises(SourceError, match="not blue and green"):
        load_catalogue(text, "services.yaml")
