"""A gateway whose controller says nothing: the change ends, and says what of it is left undone."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from evals.simulated import scenario
from tests.e2e.api import assert_every_effect_was_decided, described, weights
from tests.e2e.github import comment, sha_of
from tests.e2e.house import Town, open_town
from tests.e2e.served import ROOT

TUESDAY = datetime(2026, 3, 3, 9, 0, tzinfo=ZoneInfo("Europe/Berlin"))
_NUMBERS = itertools.count(990)


def services(folder: Path) -> Path:
    """The shipped services in production alone."""
    catalogue = yaml.safe_load((ROOT / "services.yaml").read_text())
    for service in catalogue["services"]:
        prod = service["environments"][1]
        prod |= {"interval": "30s", "bake": "2m", "canary": [{"weight": 10, "bake": "4m"}]}
        service["environments"] = [prod]
        service["workload"]["progress_deadline"] = "5m"
    path = folder / "services.yaml"
    path.write_text(yaml.safe_dump(catalogue, sort_keys=False))
    return path


@pytest.fixture(scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    data = tmp_path_factory.mktemp("away")
    async with open_town(data, TUESDAY, services(data)) as open_:
        yield open_


async def test_a_weight_that_nobody_takes_over_ends_the_run_with_what_is_left_undone(
    town: Town,
) -> None:
    said = f"/deploy checkout prod {sha_of('nobody takes it over')}"
    spoken = comment("acme/checkout", next(_NUMBERS), said, by="olga", association="OWNER")
    run = str((await town.admin.github("issue_comment", spoken)).json()["run_id"])
    question = await town.admin.question(run)
    town.world.world.set_scenario(scenario().model_copy(update={"gateway_down": True}))
    assert (await town.admin.vote(question)).status_code == 200
    over = await town.admin.until_over(run)
    assert over["state"] == "failed", described(over)
    assert over["reason"].count("the weight did not come about within 300 s") == 2
    assert "is of generation 1, the route is at 2" in over["reason"]
    assert over["reason"].endswith("Left undone: checkout/prod: Retire the canary.")
    assert weights(over) == [10, 0]
    assert_every_effect_was_decided(over)
