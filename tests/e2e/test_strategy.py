"""Strategies of services: testers and pauses, blue-green, and numbers of a service's own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from tests.e2e.api import (
    Json,
    assert_every_effect_was_decided,
    changes_in,
    deciding,
    effects_in_order,
)
from tests.e2e.github import comment, sha_of
from tests.e2e.house import Town, open_town
from tests.e2e.served import ROOT

TUESDAY = datetime(2026, 3, 3, 9, 0, tzinfo=ZoneInfo("Europe/Berlin"))
_NUMBERS = itertools.count(800)
FAILING = """\
100 * sum(increase(http_requests_total{service="$service",version="$version",code="500"}[$window]))
/ sum(increase(http_requests_total{service="$service",version="$version"}[$window]))"""


def services(folder: Path) -> Path:
    """The shipped services, each released to production in a way of its own, without staging."""
    catalogue = yaml.safe_load((ROOT / "services.yaml").read_text())
    own: dict[str, dict[str, Any]] = {
        "checkout": {
            "canary": [
                {"weight": 0, "match": {"cookie": "canary=1"}, "pause": True},
                {"weight": 10, "bake": "2m", "pause": True},
            ]
        },
        "payments": {"blue_green": {"pause": True, "keep": "2m"}},
        "search": {
            "canary": [
                {"weight": 10, "bake": "5m", "metrics": ["failing"]},
                {"weight": 50, "bake": "2m"},
            ]
        },
    }
    for service in catalogue["services"]:
        prod = service["environments"][1]
        prod.pop("canary")
        prod |= {"interval": "30s", "bake": "2m", **own[service["name"]]}
        service["environments"] = [prod]
        if service["name"] == "search":
            service["metrics"] = [
                {
                    "name": "failing",
                    "query": FAILING,
                    "tolerance": "300%",
                    "fail_when": {"breaches": 2, "of": 4, "confirm": 1},
                }
            ]
    path = folder / "services.yaml"
    path.write_text(yaml.safe_dump(catalogue, sort_keys=False))
    return path


@pytest.fixture(scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    data = tmp_path_factory.mktemp("strategy")
    async with open_town(data, TUESDAY, services(data)) as open_:
        yield open_


async def released(town: Town, service: str, version: str) -> str:
    """A release of one service that somebody approved for production."""
    said = f"/deploy {service} prod {version}"
    repo = "acme/checkout" if service == "checkout" else "acme/platform"
    spoken = comment(repo, next(_NUMBERS), said, by="olga", association="OWNER")
    run = (await town.admin.github("issue_comment", spoken)).json()["run_id"]
    assert (await town.admin.vote(await town.admin.question(run))).status_code == 200
    return str(run)


def routes(run: Json) -> list[tuple[int, bool]]:
    """Weight, and whether testers reach the canary, of each change of a route."""
    return [
        (int(one["action"]["weight"]), one["action"]["match"] is not None)
        for one in effects_in_order(run)
        if one["action_kind"] == "k8s_traffic"
    ]


async def paused(town: Town, run: str, step: str) -> Json:
    """The question of a pause."""
    await town.admin.until_step(run, f"{step}.pause")
    question = await town.admin.question(run)
    assert question["step_id"] == f"{step}.pause"
    return question


async def test_testers_come_first_and_people_say_that_it_goes_on(town: Town) -> None:
    run = await released(town, "checkout", sha_of("careful"))
    first = await paused(town, run, "checkout/prod.canary-0")
    assert "cookie canary=1" in first["question"]
    assert (await town.admin.vote(first)).status_code == 200
    await paused(town, run, "checkout/prod.canary-10")
    assert (await town.admin.tell(run, "resume")).status_code < 300
    over = await town.admin.until_over(run, 60)
    assert over["state"] == "succeeded", over["reason"]
    assert routes(over) == [(0, True), (10, False), (0, False)]
    resumed = [one for one in over["decisions"] if "pause.resumed" in deciding(one)]
    assert [one["step_id"] for one in resumed] == ["checkout/prod.canary-10.pause"]
    assert_every_effect_was_decided(over)


async def test_a_pause_that_is_rejected_goes_back(town: Town) -> None:
    run = await released(town, "checkout", sha_of("disliked"))
    question = await paused(town, run, "checkout/prod.canary-0")
    assert (await town.admin.vote(question, "reject")).status_code == 200
    over = await town.admin.until_over(run, 60)
    assert over["state"] == "rolled_back", over["reason"]
    assert routes(over) == [(0, True), (0, False)]


async def test_blue_green_switches_everything_at_once_when_policy_and_people_agree(
    town: Town,
) -> None:
    run = await released(town, "payments", sha_of("green"))
    seen = await town.admin.run(run)
    asked = {rule for one in seen["decisions"] for rule in deciding(one)}
    assert "canary.blue_green" in asked
    question = await paused(town, run, "payments/prod.canary-0")
    pods = changes_in(await town.admin.run(run), "prod")
    assert [(one["action_kind"], one["action"]["weight"]) for one in pods] == [("k8s_deploy", 100)]
    assert (await town.admin.vote(question)).status_code == 200
    over = await town.admin.until_over(run, 60)
    assert over["state"] == "succeeded", over["reason"]
    assert routes(over) == [(100, False), (0, False)]


async def test_a_number_of_the_services_own_decides_where_the_step_names_it(town: Town) -> None:
    run = await released(town, "search", "3.0.0-bad")
    over = await town.admin.until_over(run, 60)
    assert over["state"] == "rolled_back", over["reason"]
    assert "failing" in over["reason"]
    assert "(2 of 4 and 1 more fail it)" in over["reason"]
    (last, *_) = [one["verdict"] for one in over["verdicts"] if one["verdict"]["kind"] == "fail"]
    assert [one["metric"] for one in last["metrics"]] == ["failing"]
    run = await released(town, "search", sha_of("found"))
    over = await town.admin.until_over(run, 60)
    assert over["state"] == "succeeded", over["reason"]
    passed = [one["verdict"] for one in over["verdicts"] if one["verdict"]["kind"] == "pass"]
    assert {metric["metric"] for one in passed for metric in one["metrics"]} >= {
        "failing",
        "errors",
    }
