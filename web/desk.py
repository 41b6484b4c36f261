"""What the read API and the pages are handed: reads, votes, signals, and who judges."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol
from uuid import UUID

from domain.approval import ApprovalRequest, ApprovalState, Vote
from domain.clock import Clock, SystemClock
from domain.decision import Requirement
from domain.event import CommandName
from domain.refusal import Refusal
from domain.run import RunState
from domain.service import Catalogue
from domain.verdict import MetricWindow
from store.locks import LockRow
from store.queries import EventRow
from store.records import ReleaseRow, RunDetail, RunRow
from tools.toolbox import Backend
from web.masking import mask
from web.sharing import PictureLinks
from web.tokens import Principal

Judge = Callable[[ApprovalRequest, Vote, str, datetime], str | None]
"""`policy.votes.judge_vote`: why a vote is refused, or None."""


class Reads(Protocol):
    """Reads of the store (`store/queries.py`)."""

    async def run_detail(self, run_id: UUID) -> RunDetail | None:
        """Everything about one run."""
        ...

    async def list_runs(
        self,
        *,
        state: RunState | None = None,
        service: str | None = None,
        repo: str | None = None,
        limit: int = 50,
        before: UUID | None = None,
    ) -> list[RunRow]:
        """Runs, newest first; `before` is the id of the last run of the page before."""
        ...

    async def find_run(self, prefix: str) -> tuple[RunRow, ...]:
        """Runs whose id begins with `prefix` (6 hex digits at least), newest first, a few."""
        ...

    async def counts_by_state(self) -> dict[RunState, int]:
        """How many runs are in each state."""
        ...

    async def list_events(self, limit: int = 50) -> list[EventRow]:
        """Latest deliveries, newest first."""
        ...

    async def event(self, event_id: UUID) -> EventRow | None:
        """One delivery."""
        ...


class WindowReads(Protocol):
    """What was measured (`store.verdicts.Verdicts`)."""

    async def windows(self, run_id: UUID) -> Mapping[str, Sequence[MetricWindow]]:
        """Every measured window of a run, by step, oldest first."""
        ...


class Votes(Protocol):
    """Requests for approval (`store.approvals.Approvals`)."""

    async def list(self, state: ApprovalState | None, limit: int) -> list[ApprovalRequest]:
        """Requests in a state (None: all), newest first."""
        ...

    async def refusals(self, approval_id: UUID) -> tuple[tuple[Vote, str], ...]:
        """Votes that do not count, each with the reason."""
        ...

    async def get(self, approval_id: UUID) -> ApprovalRequest | None:
        """One request."""
        ...

    async def vote(
        self,
        approval_id: UUID,
        vote: Vote,
        digest: str,
        judge: Callable[[ApprovalRequest, Vote, str], str | None],
    ) -> tuple[ApprovalRequest, str | None]:
        """Judge and record a vote in one transaction; (the request after it, refusal or None)."""
        ...


class LockReads(Protocol):
    """Locks (`store.locks.Locks`)."""

    async def list(self) -> list[LockRow]:
        """All locks that are held."""
        ...


class ReleaseReads(Protocol):
    """What was proven where (`store.releases.Releases`)."""

    async def history(self, service: str, environment: str, limit: int) -> list[ReleaseRow]:
        """Good and bad versions of a target, newest first."""
        ...


@dataclass(frozen=True)
class Told:
    """What telling a run led to. `run_id` is the run told, or the one that was started anew."""

    run_id: UUID
    status: Literal["signalled", "started"]


class Tells(Protocol):
    """Tells a run something on behalf of a person (`web.tells.EventTells`)."""

    async def tell(
        self, detail: RunDetail, kind: CommandName, principal: Principal, reason: str
    ) -> Told:
        """Record it and wake the run. Raises `Problem` when it makes no sense for the run."""
        ...


def _no_roles() -> tuple[str, ...]:
    return ()


async def _no_teams(login: str, asked: Requirement) -> tuple[str, ...]:
    return ()


async def _no_refusal(request: ApprovalRequest) -> str | None:
    return None


async def _none_lately(limit: int) -> list[Refusal]:
    return []


async def _no_refusals(run_id: UUID) -> list[Refusal]:
    return []


@dataclass(frozen=True)
class Desk:
    """Everything the read API and the pages work with."""

    reads: Reads
    windows: WindowReads
    votes: Votes
    locks: LockReads
    releases: ReleaseReads
    tells: Tells
    judge: Judge
    catalogue: Callable[[], Catalogue]
    backends: Callable[[], Sequence[Backend]]
    clock: Clock
    """Time of the world being operated: approvals and timers live in it."""
    wall: Clock = field(default_factory=SystemClock)
    """Real time: ages of rows."""
    warnings: Callable[[], Sequence[str]] = tuple
    """What everybody who looks at a page should know, in sentences."""
    override_roles: Callable[[], tuple[str, ...]] = _no_roles
    """Roles that may break the glass, from the policy; `admin` always may."""
    teams_of: Callable[[str, Requirement], Awaitable[tuple[str, ...]]] = _no_teams
    """Teams of a login on the forge, of those that policy or the question names."""
    head_refusal: Callable[[ApprovalRequest], Awaitable[str | None]] = _no_refusal
    """Why a vote does not count because of the pull request's head, read now; None: it may."""
    refusals: Callable[[UUID], Awaitable[list[Refusal]]] = _no_refusals
    """Commands to a run that were refused before they became votes."""
    latest_refusals: Callable[[int], Awaitable[list[Refusal]]] = _none_lately
    """The latest of all of them."""
    mask: Callable[[str], str] = mask
    """Takes secrets out of text before it is shown."""
    pictures: PictureLinks | None = None
    """Signs addresses of drawings for people who are not signed in."""
    docs: Path = Path("docs")
    """Folder with the Markdown pages served at `/docs/`."""
