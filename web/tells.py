"""Telling runs something: hold, resume, cancel, retry, override. Each is an event like any other.

A retry repeats the original event for the same change: the plan is made anew, and its author stays
who it was, so that nobody comes to approve their own change by retrying it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

import orjson

from domain.clock import Clock
from domain.digest import digest_of_bytes
from domain.event import Actor, Command, Commanded, CommandName, Event, EventBody
from domain.intake import Address, Intake, SendSignal, StartRun
from domain.run import RunState
from store.records import Receipt, RunDetail, RunRow
from web.desk import Desk, Told
from web.problems import Problem
from web.receive import Accepts
from web.tokens import Principal

SIGNALS: dict[str, CommandName] = {
    one.value: one
    for one in (
        CommandName.HOLD,
        CommandName.RESUME,
        CommandName.CANCEL,
        CommandName.RETRY,
        CommandName.OVERRIDE,
    )
}
STEERING_ROLES = ("developer", "release-manager", "sre-lead")
"""Any of these may hold, resume, cancel and retry."""
SHORTEST_REASON = 10
"""Characters an override's reason needs; the policy may ask for more."""
WORTH_RETRYING = frozenset(
    {RunState.DENIED, RunState.FAILED, RunState.ROLLED_BACK, RunState.CANCELLED}
)
GOALS = {"rollback": "rollback", "unlock": "unlock", "pr": "preview", "incident": "notify"}
"""What a change is for, by how its key begins; a release where nothing else is said."""


def may_signal(desk: Desk, kind: CommandName, principal: Principal) -> bool:
    """Whether the person's roles allow the signal."""
    roles = desk.override_roles() if kind is CommandName.OVERRIDE else STEERING_ROLES
    return any(principal.has(role) for role in (*roles, "admin"))


async def tell(
    desk: Desk, detail: RunDetail, kind: CommandName, principal: Principal, reason: str
) -> Told:
    """Tell a run something; 403 without the role, 422 for an override without a reason."""
    if not may_signal(desk, kind, principal):
        roles = desk.override_roles() if kind is CommandName.OVERRIDE else STEERING_ROLES
        raise Problem(
            403,
            f"{principal.name} may not {kind.value} runs.",
            f"It takes one of the roles {', '.join((*roles, 'admin'))}.",
        )
    reason = reason.strip()
    if kind is CommandName.OVERRIDE and len(reason) < SHORTEST_REASON:
        raise Problem(
            422,
            f"An override needs a reason of at least {SHORTEST_REASON} characters.",
            "Say what cannot wait, and why.",
            more={"path": "reason"},
        )
    return await desk.tells.tell(detail, kind, principal, reason)


def offered(run: RunRow) -> tuple[CommandName, ...]:
    """What it makes sense to tell a run in its state."""
    if run.state in WORTH_RETRYING:
        return (CommandName.RETRY, CommandName.OVERRIDE)
    if run.state.is_final:
        return ()
    return (CommandName.HOLD, CommandName.RESUME, CommandName.CANCEL, CommandName.OVERRIDE)


class AddsOverrides(Protocol):
    """Where overrides go (`store`)."""

    async def add(
        self,
        run_id: UUID,
        principal: str,
        roles: tuple[str, ...],
        reason: str,
        at: datetime,
        expires_at: datetime,
    ) -> Any:
        """Write an override for the run's change down."""
        ...


@dataclass(frozen=True)
class EventTells:
    """Tells runs by accepting an event, so that it is recorded, deduplicated and hinted as usual.

    `override_seconds` is how long the policy lets an override last.
    """

    events: Accepts
    overrides: AddsOverrides
    hint: Callable[[UUID], Awaitable[None]]
    clock: Clock
    override_seconds: Callable[[], float]

    async def tell(
        self, detail: RunDetail, kind: CommandName, principal: Principal, reason: str
    ) -> Told:
        """See `Tells.tell`. Raises `Problem` 409 when the run's state makes it pointless."""
        run = detail.run
        if kind not in offered(run):
            raise _pointless(run, kind)
        if kind is CommandName.OVERRIDE:
            await self._override(run, principal, reason)
        if run.state.is_final:
            return await self._again(detail, principal, kind, reason)
        await self._signal(run, kind, principal, reason)
        return Told(run_id=run.id, status="signalled")

    async def _override(self, run: RunRow, principal: Principal, reason: str) -> None:
        now = self.clock.now()
        until = now + timedelta(seconds=self.override_seconds())
        await self.overrides.add(run.id, principal.person, principal.roles, reason, now, until)

    async def _signal(
        self, run: RunRow, kind: CommandName, principal: Principal, reason: str
    ) -> None:
        args = (str(run.id), *([reason] if reason else []))
        body = Commanded(
            commands=(Command(name=kind, args=args),),
            author=Actor(login=principal.person),
            repo=run.repo,
            number=run.number,
            roles=principal.roles,
        )
        payload = {
            "author": principal.person,
            "is_bot": False,
            "roles": list(principal.roles),
            "authorised": True,
            "args": list(args),
            "reason": reason,
            "repo": run.repo,
            "number": run.number,
            "via": "api",
        }
        signal = SendSignal(address=Address(run=str(run.id)), kind=kind.value, payload=payload)
        await self._accept(kind, run, body, (signal,), principal, reason)

    async def _again(
        self, detail: RunDetail, principal: Principal, kind: CommandName, reason: str
    ) -> Told:
        run, start = detail.run, begun_again(detail.run)
        receipt = await self._accept(kind, run, detail.event.body, (start,), principal, reason)
        return Told(run_id=receipt.run_id or run.id, status="started")

    async def _accept(
        self,
        kind: CommandName,
        run: RunRow,
        body: EventBody,
        intakes: Sequence[Intake],
        principal: Principal,
        reason: str,
    ) -> Receipt:
        delivery = f"{kind.value}:{run.id}:{uuid4()}"
        said = {"kind": kind.value, "run": str(run.id), "by": principal.name, "reason": reason}
        event = Event(
            id=uuid4(),
            source="api",
            delivery_id=delivery,
            body_digest=digest_of_bytes(delivery.encode()),
            received_at=self.clock.now(),
            body=body,
        )
        receipt = await self.events.accept(event, intakes, orjson.dumps(said))
        for run_id in receipt.run_ids or ((receipt.run_id,) if receipt.run_id else ()):
            await self.hint(run_id)
        return receipt


def begun_again(run: RunRow) -> StartRun:
    """What begins the change of a run that has ended anew, with the goal of the first time: where
    the plan found nothing to do, the run's goal says `nothing`, and the key still knows it."""
    goal = run.goal
    if goal == "nothing":
        goal = GOALS.get(run.change_key.partition(":")[0], "release")
    return StartRun.model_validate(
        {
            "change_key": run.change_key,
            "title": run.title,
            "goal": goal,
            "author": Actor(login=run.author),
            "repo": run.repo,
            "number": run.number,
            "sha": run.sha,
            "again": True,
        }
    )


def _pointless(run: RunRow, kind: CommandName) -> Problem:
    if run.state.is_final:
        return Problem(
            409,
            f"The run is over ({run.state.value}); there is nothing to {kind.value}.",
            "Start a new one: send an event, or retry a run that did not succeed.",
        )
    return Problem(
        409,
        f"The run is still under way ({run.state.value}); {kind.value} is for runs that are over.",
        "Cancel it first, or wait for its end.",
    )
