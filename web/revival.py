"""`/retry` and `/override` in a comment on a run that has ended: its change is begun anew.

The new run is planned from the original event, so the change and its author stay what they were.
Deciding it here, before the event is stored, keeps event and run in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from domain.event import Commanded, CommandName, Event, older
from domain.intake import Address, Ignore, Intake, SendSignal, StartRun
from domain.run import RunState
from store.records import RunDetail, RunRow
from web.tells import WORTH_RETRYING, begun_again

REVIVING = (CommandName.RETRY.value, CommandName.OVERRIDE.value)
TRUSTED = frozenset({"OWNER", "MEMBER", "COLLABORATOR"})
"""Associations, as GitHub signs them, that may begin a change anew; the gate checks the rest."""
LOOK_BACK = 100


class PastRuns(Protocol):
    """Where ended runs are found (`store.queries.Queries`)."""

    async def run_detail(self, run_id: UUID) -> RunDetail | None:
        """One run with its event."""
        ...

    async def list_runs(self, *, repo: str | None = None, limit: int = 50) -> list[RunRow]:
        """Newest first."""
        ...

    async def find_run(self, prefix: str) -> tuple[RunRow, ...]:
        """Runs whose id begins so."""
        ...


@dataclass(frozen=True)
class Revival:
    """Turns a command about an ended run into a new run of the same change."""

    runs: PastRuns

    async def of(self, event: Event, intakes: Sequence[Intake]) -> tuple[Event, list[Intake]]:
        """The event and intakes to store; unchanged where no ended run is meant."""
        body = event.body
        signal = next(
            (one for one in intakes if isinstance(one, SendSignal) and one.kind in REVIVING), None
        )
        if not isinstance(body, Commanded) or signal is None:
            return event, list(intakes)
        row = await self._meant(signal.address)
        if row is None or not row.state.is_final:
            return event, list(intakes)
        # what else the comment asks for stands, its answer among it
        others = [one for one in intakes if one is not signal]
        if row.state not in WORTH_RETRYING:
            reason = f"run {str(row.id)[:8]} ended {row.state.value}; there is nothing to retry"
            return event, [Ignore(reason=reason), *others]
        if body.said_at is not None and older(body.said_at, row.created_at):
            reason = f"the comment is older than run {str(row.id)[:8]}, which it would begin anew"
            return event, [Ignore(reason=reason), *others]
        if not body.roles and body.association.upper() not in TRUSTED:
            who = body.author.login
            reason = f"{who} is no member of the repository and may not /{signal.kind}"
            return event, [Ignore(reason=reason), *others]
        detail = await self.runs.run_detail(row.id)
        if detail is None:
            return event, list(intakes)
        start = begun_again(row)
        follow = [
            one.model_copy(
                update={"address": Address(repo=row.repo, sha=row.sha, number=row.number)}
            )
            for one in (signal,)
            if row.sha is not None or row.number is not None
        ]
        answers = [one for one in others if isinstance(one, StartRun) and one.goal == "answer"]
        revived = event.model_copy(update={"body": detail.event.body})
        return revived, [start, *follow, *answers]

    async def _meant(self, address: Address) -> RunRow | None:
        """The release or rollback that the command is about: the one that ended last, which is what
        people have just been told of, or the newest one under way where that began since, or where
        what ended since wants nothing more."""
        if address.run is not None:
            found = await self.runs.find_run(address.run)
            rows = [row for row in found if address.repo in (None, row.repo)]
            return rows[0] if len(rows) == 1 else None
        if address.repo is None or address.number is None:
            return None
        rows = [
            row
            for row in await self.runs.list_runs(repo=address.repo, limit=LOOK_BACK)
            if row.number == address.number and row.goal in ("release", "rollback", "nothing")
        ]
        live = next((row for row in rows if not row.state.is_final), None)
        meant = WORTH_RETRYING if live is not None else RunState
        over = [row for row in rows if row.state.is_final and row.state in meant]
        last = max(over, key=_ended, default=None)
        if last is None or (live is not None and live.created_at >= _ended(last)):
            return live
        return last


def _ended(row: RunRow) -> datetime:
    return row.finished_at or row.created_at
