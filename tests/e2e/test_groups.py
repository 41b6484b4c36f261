"""Services that are released together: in order, and back together."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from evals.simulated import scenario
from evals.world.scenario import Rule
from tests.e2e.api import Json, assert_every_effect_was_decided, effects_in_order
from tests.e2e.github import comment, merged, sha_of
from tests.e2e.house import Town, open_town
from tests.e2e.served import ROOT

TUESDAY = datetime(2026, 3, 3, 9, 0, tzinfo=ZoneInfo("Europe/Berlin"))
REPO = "acme/platform"
_NUMBERS = itertools.count(950)


def services(folder: Path) -> Path:
    """The shipped services in production alone, two of them as a group."""
    catalogue = yaml.safe_load((ROOT / "services.yaml").read_text())
    for service in catalogue["services"]:
        prod = service["environments"][1]
        prod |= {"interval": "30s", "bake": "2m", "canary": [{"weight": 10, "bake": "4m"}]}
        if service["name"] != "checkout":
            prod["watch"] = {"for": "2h", "every": "1m"}
        service["environments"] = [prod]
    catalogue["groups"] = [
        {"name": "platform", "services": ["search", "payments"], "release": "all"}
    ]
    path = folder / "services.yaml"
    path.write_text(yaml.safe_dump(catalogue, sort_keys=False))
    return path


@pytest.fixture(scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    data = tmp_path_factory.mktemp("groups")
    async with open_town(data, TUESDAY, services(data)) as open_:
        fine = scenario()
        rule = Rule(service="payments", track="canary", error_rate=0.3)
        open_.world.world.set_scenario(fine.model_copy(update={"rules": (*fine.rules, rule)}))
        yield open_


async def started(town: Town, version: str) -> str:
    return await town.admin.started("pull_request", merged(REPO, next(_NUMBERS), version))


def rolled(run: Json) -> list[tuple[str, str, str]]:
    """(place, action, image's tag) of each change of a stable Deployment, in order."""
    return [
        (
            one["action"]["target"]["service"],
            one["action_kind"],
            (one["action"]["image"] or "").rpartition(":")[2],
        )
        for one in effects_in_order(run)
        if one["action_kind"] == "k8s_rollback" or one["action"].get("track") == "stable"
    ]


async def test_a_breach_of_the_second_takes_the_first_back_as_well_newest_first(
    town: Town,
) -> None:
    version = sha_of("half of it is bad")
    run = await started(town, version)
    for place in ("search/prod", "payments/prod"):
        question = await town.admin.question(run)
        assert question["scope"] == place
        assert (await town.admin.vote(question)).status_code == 200
        await town.admin.until_step(run, f"{place}.canary-10.check")
    over = await town.admin.until_over(run, 60)
    assert over["state"] == "rolled_back", over["reason"]
    assert over["reason"].startswith("payments/prod: canary ")
    first, payments, search = rolled(over)
    assert first == ("search", "k8s_deploy", version)
    assert payments == ("payments", "k8s_rollback", "")
    assert search[:2] == ("search", "k8s_rollback")
    assert search[2] not in ("", version)
    assert_every_effect_was_decided(over)
    live: dict[tuple[str, str], Json] = {
        (one["name"], place["environment"]): place["live"]
        for one in (await town.admin.get("/api/services"))["services"]
        for place in one["environments"]
    }
    assert live["search", "prod"]["image"].endswith(search[2])


async def test_a_second_that_nobody_lets_out_takes_the_first_back(town: Town) -> None:
    version = sha_of("nobody wants the rest")
    run = await started(town, version)
    assert (await town.admin.vote(await town.admin.question(run))).status_code == 200
    await town.admin.until_step(run, "search/prod.canary-10.check")
    question = await town.admin.question(run)
    assert question["scope"] == "payments/prod"
    assert (await town.admin.vote(question, "reject")).status_code == 200
    over = await town.admin.until_over(run, 60)
    assert over["state"] == "rolled_back", over["reason"]
    places = [(place, kind) for place, kind, _ in rolled(over)]
    assert places == [("search", "k8s_deploy"), ("search", "k8s_rollback")]


async def test_who_waits_for_a_place_is_seen_in_line(town: Town) -> None:
    runs: list[str] = []
    for name in ("one", "two", "three"):
        said = f"/deploy checkout prod {sha_of(name)}"
        spoken = comment("acme/checkout", next(_NUMBERS), said, by="olga", association="OWNER")
        answer = await town.admin.github("issue_comment", spoken)
        runs.append(str(answer.json()["run_id"]))
        assert (await town.admin.vote(await town.admin.question(runs[-1]))).status_code == 200
        step = "canary-10.check" if name == "one" else "canary-10.pods"
        await town.admin.until_step(runs[-1], f"checkout/prod.{step}")
    last = await town.admin.until(
        runs[2], "its place in line", lambda run: "before this one in line" in run["reason"], 30
    )
    assert "checkout in prod is locked by" in last["reason"]
    assert "1 before this one in line" in last["reason"]
    locks = {one["key"]: one for one in (await town.admin.get("/api/locks"))["locks"]}
    held = locks["checkout/prod"]
    assert [held["run_id"], *(one["run_id"] for one in held["waiting"])] == runs
    for run in reversed(runs):
        await town.admin.tell(run, "cancel")
    for run in runs:
        await town.admin.until_over(run, 60)


async def test_one_of_a_group_that_burns_its_budget_takes_the_others_back(town: Town) -> None:
    fine, version = scenario(), sha_of("burns later")
    town.world.world.set_scenario(fine)
    run = await started(town, version)
    for _ in range(2):
        assert (await town.admin.vote(await town.admin.question(run))).status_code == 200
        await town.admin.until_state(run, "waiting")
    await town.admin.until_step(run, "payments/prod.full.burn")
    burning = Rule(service="search", version=version, error_rate=0.6)
    town.world.world.set_scenario(fine.model_copy(update={"rules": (*fine.rules, burning)}))
    over = await town.admin.until_over(run, 60)
    assert over["state"] == "rolled_back", over["reason"]
    assert over["reason"].startswith("search/prod: errors burns")
    forward, back = rolled(over)[:2], rolled(over)[2:]
    assert [one[:2] for one in forward] == [("search", "k8s_deploy"), ("payments", "k8s_deploy")]
    assert [one[:2] for one in back] == [("payments", "k8s_rollback"), ("search", "k8s_rollback")]
    assert version not in {tag for _, _, tag in back}
    page = await town.admin.get("/api/services")
    live = {
        one["name"]: one["environments"][0]["live"]["image"].rpartition(":")[2]
        for one in page["services"]
        if one["name"] in ("search", "payments")
    }
    assert live == {name: tag for name, _, tag in back}
