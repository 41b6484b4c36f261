"""Refusals: words of people that changed nothing, and why. Kept, so that they can be shown."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from domain.event import Frozen

RefusalKind = Literal[
    "replayed",
    "edited",
    "bot",
    "not_understood",
    "older",
    "nothing_asked",
    "role",
    "unknown",
    "head_moved",
    "pointless",
]
"""`replayed`: the delivery or its comment was read before. `edited`: only new comments are read.
`older`: said before the question was asked. `role`: the person may not. `unknown`: it could not be
found out whether they may, or what the head is. `pointless`: the run is not in a state for it."""


class Unheard(Frozen):
    """A command that is refused as soon as it is read."""

    kind: RefusalKind
    command: str
    """Name of the command, '' when there was none to name."""
    principal: str
    reason: str
    repo: str | None = None
    number: int | None = None
    comment_id: int | None = None


class Refusal(Unheard):
    """A command that was refused before it became a vote or changed a run, as it is kept."""

    via: str
    at: datetime
    event_id: UUID | None = None
    run_id: UUID | None = None
    signal_seq: int | None = None
