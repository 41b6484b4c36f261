"""Ballots: slash commands in comments become votes and authorised signals. Who may is looked up.

Votes through the API are judged where they arrive; a comment carries only a login, so its roles
are read from the forge here, in the run, where a slow or failing forge holds nothing else up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from domain.approval import ApprovalRequest, ApprovalState, Vote
from domain.clock import Clock
from domain.event import Commanded, CommandName, Event
from policy.facts import Commander
from policy.families.commands import MAY_COMMAND
from policy.votes import judge_vote
from store.approvals import Approvals
from store.overrides import Overrides
from store.records import Lease, RunFacts, SignalRow
from tools.ports import ForgeReader

STEERING_KINDS = (CommandName.HOLD, CommandName.RESUME, CommandName.CANCEL)
ASSOCIATION_ROLES = {
    "OWNER": ("admin", "release-manager", "developer"),
    "MEMBER": ("developer",),
    "COLLABORATOR": ("developer",),
}
"""What a signed payload's author_association gives when the forge cannot be asked."""


@dataclass(frozen=True)
class Ballots:
    """Counts the votes that came as comments since the gate last looked."""

    approvals: Approvals
    overrides: Overrides
    forge: ForgeReader
    clock: Clock
    override_seconds: Callable[[], float]
    """How long an override lasts, as policy says."""

    async def count(self, lease: Lease, known: RunFacts, after: int) -> bool:
        """Cast every new comment vote; True when any was cast (facts have to be read again)."""
        cast = False
        for signal in known.signals:
            if signal.seq > after and signal.kind == CommandName.OVERRIDE.value:
                cast = await self._override(known, signal) or cast
                continue
            if signal.seq <= after or signal.kind not in (
                CommandName.APPROVE.value,
                CommandName.REJECT.value,
            ):
                continue
            request = _pending(known, signal)
            if request is None:
                continue
            vote = await self._vote(signal)
            await self.approvals.vote(
                request.id, vote, request.digest, partial(self._judge, signal=signal)
            )
            cast = True
        return cast

    async def _override(self, known: RunFacts, signal: SignalRow) -> bool:
        """Write an override that came as a comment down; policy judges role and reason.

        One that came through the API was written down where it arrived.
        """
        if signal.payload.get("authorised") is True:
            return False
        now = self.clock.now()
        await self.overrides.add(
            known.run.id,
            str(signal.payload.get("author") or ""),
            await self.roles(signal.payload),
            str(signal.payload.get("reason") or ""),
            now,
            now + timedelta(seconds=self.override_seconds()),
        )
        return True

    async def steering(self, signals: tuple[SignalRow, ...]) -> tuple[SignalRow, ...]:
        """The hold, resume and cancel signals of people who may give them."""
        return tuple(
            [
                signal
                for signal in signals
                if signal.kind in STEERING_KINDS and await self._may_steer(signal)
            ]
        )

    async def _may_steer(self, signal: SignalRow) -> bool:
        if signal.payload.get("authorised") is True:
            return True
        return bool(set(await self.roles(signal.payload)) & set(MAY_COMMAND))

    async def commander(self, event: Event) -> Commander | None:
        """Who gave the command an event is about, with roles; None for other events."""
        body = event.body
        if not isinstance(body, Commanded):
            return None
        roles = await self.roles(
            {
                "author": body.author.login,
                "association": body.association,
                "roles": body.roles,
                "repo": body.repo,
            }
        )
        return Commander(login=body.author.login, roles=roles)

    def _judge(
        self, request: ApprovalRequest, vote: Vote, digest: str, *, signal: SignalRow
    ) -> str | None:
        if signal.at < request.requested_at and self.clock.speed == 1.0:
            return "the comment is older than the question it would answer"
        if signal.payload.get("is_bot"):
            return f"{vote.principal} is a bot"
        return judge_vote(request, vote, digest, vote.at)

    async def _vote(self, signal: SignalRow) -> Vote:
        payload = signal.payload
        login = str(payload.get("author") or "")
        args = [str(arg) for arg in payload.get("args") or ()]
        return Vote(
            principal=login,
            roles=await self.roles(payload),
            decision="approve" if signal.kind == CommandName.APPROVE.value else "reject",
            comment=" ".join(args),
            via="comment",
            at=self.clock.now(),
        )

    async def roles(self, payload: Mapping[str, Any]) -> tuple[str, ...]:
        """Roles behind a command: the token's where one was used, the forge's word on a commenter,
        else what GitHub signed into the payload."""
        given = tuple(str(role) for role in payload.get("roles") or ())
        if given:
            return given
        repo, login = payload.get("repo"), str(payload.get("author") or "")
        if isinstance(repo, str) and repo and login:
            told = await self.forge.roles_of(repo, login)
            if told is not None:
                return told
        return ASSOCIATION_ROLES.get(str(payload.get("association") or "").upper(), ())


def _pending(known: RunFacts, signal: SignalRow) -> ApprovalRequest | None:
    """The request a comment answers: the pending one; a digest named in it has to be its prefix."""
    pending = [one for one in known.approvals if one.state is ApprovalState.PENDING]
    named = [str(arg).lower() for arg in signal.payload.get("args") or () if _is_hex(str(arg))]
    for request in pending:
        if not named or any(
            request.digest.startswith(one) or _is_run(request.run_id, one) for one in named
        ):
            return request
    return None


def _is_hex(word: str) -> bool:
    return 7 <= len(word) <= 64 and all(c in "0123456789abcdef-" for c in word.lower())


def _is_run(run_id: UUID, word: str) -> bool:
    return str(run_id).startswith(word)
