"""A service without a route: the numbers of pods are the weight, from first step to last."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
import yaml

from tests.e2e.api import assert_every_effect_was_decided, described
from tests.e2e.github import merged, sha_of
from tests.e2e.house import Town, open_town, production_alone

TUESDAY = datetime(2026, 3, 3, 9, 0, tzinfo=ZoneInfo("Europe/Berlin"))
STEPS = [{"weight": 10, "bake": "4m"}, {"weight": 100, "bake": "2m"}]


@pytest.fixture(scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    data = tmp_path_factory.mktemp("pods")
    path = production_alone(data, interval="30s", bake="2m", canary=STEPS)
    catalogue = yaml.safe_load(path.read_text())
    for service in catalogue["services"]:
        del service["workload"]["route"]
    path.write_text(yaml.safe_dump(catalogue, sort_keys=False))
    async with open_town(data, TUESDAY, path) as open_:
        yield open_


@pytest.mark.parametrize(
    ("version", "ending"), [(sha_of("by pods"), "succeeded"), ("2.0.0-bad", "rolled_back")]
)
async def test_three_pods_are_enough_to_judge_a_canary_by(
    town: Town, version: str, ending: str
) -> None:
    number = 3000 + len(ending)
    run = await town.admin.started("pull_request", merged("acme/checkout", number, version))
    assert (await town.admin.vote(await town.admin.question(run))).status_code == 200
    over = await town.admin.until_over(run)
    assert over["state"] == ending, described(over)
    assert len(over["approvals"]) == 1, "nobody had to be asked about the share"
    assert_every_effect_was_decided(over)
