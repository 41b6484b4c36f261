"""What the end-to-end tests share: one ordinary `fermata serve` on the simulated world."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.e2e.policies import everyday_policy
from tests.e2e.served import Served, serving


@pytest.fixture(scope="session")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """`fermata serve` with a webhook secret and hardly more: its world runs fast and has no
    weekends."""
    data = tmp_path_factory.mktemp("served")
    settings = {"FERMATA_WORLD_SPEED": "150", "FERMATA_POLICY": str(everyday_policy(data))}
    async with serving(data, settings=settings) as running:
        yield running
