"""Ballots: slash commands in comments become votes and authorised signals. Who may is looked up.

Votes through the API are judged where they arrive; a comment carries only a login, so its roles
are read from the forge here, in the run, where a slow or failing forge holds nothing else up.
Each command is judged once, when it is first read. What is refused is kept with its reason, and
an answer is begun that tells its author.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from domain.approval import ApprovalRequest, ApprovalState, Vote
from domain.clock import Clock
from domain.event import Commanded, CommandName, Event, older
from domain.naming import named
from domain.refusal import Refusal, RefusalKind
from nodes.standing import Heads, Standing, WhoMay, teams_named
from policy.facts import Commander
from policy.families.commands import MAY_COMMAND
from policy.votes import is_bot, judge_vote
from store.answers import Answers
from store.approvals import Approvals
from store.overrides import Overrides
from store.records import Lease, RunFacts, RunRow, SignalRow
from store.refusals import Refusals

STEERING_KINDS = (CommandName.HOLD, CommandName.RESUME, CommandName.CANCEL)
JUDGED = frozenset(
    one.value
    for one in (*STEERING_KINDS, CommandName.APPROVE, CommandName.REJECT, CommandName.OVERRIDE)
)
VOTES = (CommandName.APPROVE.value, CommandName.REJECT.value)


@dataclass(frozen=True)
class Ballots:
    """Judges the commands that came since the gate last looked, and writes down what they are."""

    approvals: Approvals
    overrides: Overrides
    refusals: Refusals
    answers: Answers
    who: WhoMay
    heads: Heads
    clock: Clock
    override_seconds: Callable[[], float]
    """How long an override lasts, as policy says."""
    override_roles: Callable[[], tuple[str, ...]]

    async def count(self, lease: Lease, known: RunFacts, after: int) -> bool:
        """Judge every new command; True when facts have to be read again."""
        changed = False
        heard: set[tuple[object, ...]] = set()
        spoken_to: dict[UUID, SignalRow] = {}
        for signal in known.signals:
            said = (signal.event_id, signal.kind, str(signal.payload.get("args")))
            # one comment may reach a run twice: by the pull request, and by the run it names
            twice = signal.event_id is not None and said in heard
            heard.add(said)
            if signal.seq <= after or twice or signal.kind not in JUDGED:
                continue
            if signal.payload.get("authorised") is True:
                continue
            if signal.kind in VOTES:
                judged = await self._ballot(lease, known, signal)
            elif signal.kind == CommandName.OVERRIDE.value:
                judged = await self._override(known, signal)
            else:
                judged = await self._steer(signal)
            changed = changed or judged
            if judged and signal.event_id is not None and signal.payload.get("comment_id"):
                spoken_to[signal.event_id] = signal
        for event_id, signal in spoken_to.items():
            await self.answers.begin(event_id, signal)
        return changed

    def steering(self, known: RunFacts) -> tuple[SignalRow, ...]:
        """The hold, resume and cancel signals that were not refused when they were read."""
        return tuple(
            signal
            for signal in known.signals
            if signal.kind in STEERING_KINDS and signal.seq not in known.refused
        )

    async def commander(self, event: Event, known: RunFacts) -> Commander | None:
        """Who gave the command that began the run, with roles; None when something else did."""
        body = event.body
        # what began the change anew came after the event that it is planned from
        again = next((one for one in known.signals if _began(one, known.run)), None)
        if again is not None:
            standing = await self.who.of(again.payload)
        elif isinstance(body, Commanded):
            standing = await self.who.of(
                {
                    "author": body.author.login,
                    "association": body.association,
                    "roles": body.roles,
                    "repo": body.repo,
                }
            )
        else:
            return None
        unknown = standing.unknown and not standing.has_any(MAY_COMMAND)
        return Commander(login=standing.login, roles=None if unknown else standing.roles)

    # --- votes -----------------------------------------------------------------------------------

    async def _ballot(self, lease: Lease, known: RunFacts, signal: SignalRow) -> bool:
        """Cast a vote that came as a command, or keep why there is nothing to vote on."""
        request, word = _meant(known, signal)
        if word is not None and await self.answers.names_another(known.run, word):
            return False
        if request is None:
            await self._refuse(signal, "nothing_asked", _nothing_asked(known))
            return True
        standing = await self.who.of(signal.payload, teams_named(request.requirement))
        head = await self.heads.refusal(request, lease.event, known.run.goal)
        await self.approvals.vote(
            request.id,
            _vote(signal, standing, self.clock),
            word or request.digest,
            partial(self._judge, signal=signal, standing=standing, head=head),
            key=f"{signal.run_id}:{signal.seq}",
            event_id=signal.event_id,
        )
        return True

    def _judge(
        self,
        request: ApprovalRequest,
        vote: Vote,
        digest: str,
        *,
        signal: SignalRow,
        standing: Standing,
        head: str | None,
    ) -> str | None:
        if self._is_older(request, signal):
            return "The comment is older than the question it would answer."
        if signal.payload.get("is_bot"):
            return f"{vote.principal} is a bot; only people may vote."
        refused = judge_vote(request, vote, digest, vote.at)
        owned = bool(request.requirement.owners)
        if standing.unknown and (refused is not None or owned):
            # what is not known may be all that is missing; a vote is counted once, so not on half
            needed = request.requirement
            roles = (*vote.roles, *needed.roles, *needed.escalate_roles)
            able = vote.model_copy(update={"roles": roles, "teams": teams_named(needed)})
            if judge_vote(request, able, digest, vote.at) is None:
                return f"{standing.unknown} Nothing was counted; say it again when it answers."
        return refused or head

    def _is_older(self, request: ApprovalRequest, signal: SignalRow) -> bool:
        return request.asked_at is not None and _said_before(signal, request.asked_at)

    # --- overrides and steering ------------------------------------------------------------------

    async def _override(self, known: RunFacts, signal: SignalRow) -> bool:
        """Write an override that came as a comment down; policy judges role and reason."""
        standing = await self.who.of(signal.payload)
        roles = self.override_roles()
        if standing.unknown and not standing.has_any(roles):
            await self._refuse(signal, "unknown", f"{standing.unknown} Nothing was overridden.")
            return True
        began = signal.event_id is not None and signal.event_id == known.run.event_id
        if not began and _said_before(signal, known.run.created_at):
            await self._refuse(signal, "older", "The comment is older than the run.")
            return True
        if not standing.has_any(roles):
            reason = f"{standing.login} may not override: it takes {' or '.join(roles)}."
            await self._refuse(signal, "role", reason)
        told = str(signal.payload.get("reason") or "").strip()
        if not told:
            reason = "An override needs a reason. Say why: /override REASON…"
            await self._refuse(signal, "not_understood", reason)
            return True
        now = self.clock.now()
        await self.overrides.add(
            known.run.id,
            standing.login,
            standing.roles,
            told,
            now,
            now + timedelta(seconds=self.override_seconds()),
        )
        return True

    async def _steer(self, signal: SignalRow) -> bool:
        """Judge a hold, resume or cancel, once; the refusal's row keeps what came out."""
        standing = await self.who.of(signal.payload)
        if signal.payload.get("is_bot") or is_bot(standing.login):
            await self._refuse(signal, "bot", f"{standing.login} is a bot.")
        elif not standing.has_any(MAY_COMMAND):
            kind: RefusalKind = "unknown" if standing.unknown else "role"
            needed = " or ".join(MAY_COMMAND)
            reason = f"{standing.login} may not {signal.kind} runs: it takes {needed}."
            await self._refuse(signal, kind, standing.unknown or reason)
        return True

    async def _refuse(self, signal: SignalRow, kind: RefusalKind, reason: str) -> None:
        payload = signal.payload
        await self.refusals.add(
            Refusal(
                kind=kind,
                command=signal.kind,
                principal=str(payload.get("author") or ""),
                reason=reason,
                via="comment" if payload.get("comment_id") else "api",
                at=signal.at,
                event_id=signal.event_id,
                run_id=signal.run_id,
                signal_seq=signal.seq,
                repo=payload.get("repo"),
                number=payload.get("number"),
                comment_id=payload.get("comment_id"),
            )
        )


def _vote(signal: SignalRow, standing: Standing, clock: Clock) -> Vote:
    args = [str(arg) for arg in signal.payload.get("args") or ()]
    return Vote(
        principal=standing.login,
        roles=standing.roles,
        teams=standing.teams,
        decision="approve" if signal.kind == CommandName.APPROVE.value else "reject",
        comment=" ".join(args),
        via="comment" if signal.payload.get("comment_id") else "api",
        at=clock.now(),
    )


def _began(signal: SignalRow, run: RunRow) -> bool:
    """Whether this is the `/retry` in a comment that the run was begun anew for."""
    again = signal.kind == CommandName.RETRY.value and signal.event_id == run.event_id
    return again and bool(signal.payload.get("comment_id"))


def _said_before(signal: SignalRow, moment: datetime) -> bool:
    """Whether a command is older than something: by the comment's own time where there is one,
    else by when it came in."""
    said = signal.payload.get("said_at")
    if isinstance(said, str):
        return older(datetime.fromisoformat(said), moment)
    return signal.at < moment


def _meant(known: RunFacts, signal: SignalRow) -> tuple[ApprovalRequest | None, str | None]:
    """The request a command answers, and the word that names something else than it, if any.

    Without a name it is the pending one, or else the latest, so that the refusal stands where
    people look. A name has to be the beginning of the request's digest or of the run's id.
    """
    args = signal.payload.get("args") or ()
    word = named(str(args[0])) if args else None
    newest = sorted(known.approvals, key=lambda one: one.requested_at, reverse=True)
    pending = [one for one in newest if one.state is ApprovalState.PENDING]
    for request in (*pending, *newest):
        if word is None or request.digest.startswith(word) or _is_run(request.run_id, word):
            return request, None
    if word is not None and _is_run(known.run.id, word):
        return None, None
    return next(iter((*pending, *newest)), None), word


def _nothing_asked(known: RunFacts) -> str:
    return f"Run {str(known.run.id)[:8]} asks nothing that could be answered."


def _is_run(run_id: UUID, word: str) -> bool:
    return run_id.hex.startswith(word.replace("-", ""))
