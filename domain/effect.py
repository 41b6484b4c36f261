"""Effects: what was done to the outside world, each with the decision that allowed it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from domain.event import Frozen


class EffectState(StrEnum):
    """`started` without an outcome means: read the world back before anything else."""

    STARTED = "started"
    APPLIED = "applied"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Stamp(Frozen):
    """Travels with each write so that the world itself says which run and step caused it."""

    run_id: UUID
    step_id: str
    digest: str
    decision_id: UUID


class Applied(Frozen):
    """What an adapter reports after a write, or after finding it already done.

    `summary` is one sentence for people; `data` is small, JSON-able and free of secrets;
    `simulated` says that no real system was touched.
    """

    summary: str
    data: dict[str, Any] = {}
    url: str = ""
    simulated: bool = False


class Attempt(Frozen):
    """How trying a step's action went: applied, or why not."""

    state: EffectState
    applied: Applied | None = None
    error: str = ""
    remedy: str = ""
    retry_at: datetime | None = None
    most_tries: int | None = None
    """Tries in a row after which it is no longer worth while; None: nothing says so."""
    tries: int = 1
