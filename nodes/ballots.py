"""Ballots: slash commands in comments become votes and authorised signals. Who may is looked up.

Votes through the API are judged where they arrive; a comment carries only a login, so its roles
are read from the forge here, in the run, where a slow or failing forge holds nothing else up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from uuid import UUID

from domain.approval import ApprovalRequest, ApprovalState, Vote
from domain.clock import Clock
from domain.event import CommandName
from policy.votes import judge_vote
from store.approvals import Approvals
from store.records import Lease, RunFacts, SignalRow
from tools.ports import ForgeReader

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
    forge: ForgeReader
    clock: Clock

    async def count(self, lease: Lease, known: RunFacts, after: int) -> bool:
        """Cast every new comment vote; True when any was cast (facts have to be read again)."""
        cast = False
        for signal in known.signals:
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
            roles=await self.roles(signal),
            decision="approve" if signal.kind == CommandName.APPROVE.value else "reject",
            comment=" ".join(args),
            via="comment",
            at=self.clock.now(),
        )

    async def roles(self, signal: SignalRow) -> tuple[str, ...]:
        """Roles behind a signal: the token's where one was used, the forge's word on a commenter,
        else what GitHub signed into the payload."""
        payload = signal.payload
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
