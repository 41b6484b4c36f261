"""Execute: the only node that holds write ports. Nothing is written without a claimed effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from domain.action import READ_ONLY_KINDS, Action, target_of
from domain.clock import Clock
from domain.effect import Applied, Attempt, EffectState, Stamp
from domain.errors import OutcomeUnknown, Permanent, Temporary
from domain.service import Target
from domain.state import State, Update
from nodes.passage import Passage, PassageRuntime
from store.effects import Effects
from store.leases import Leases
from store.records import Claim
from tools.ports import WritePort

FIRST_BACKOFF_SECONDS = 2.0
LONGEST_BACKOFF_SECONDS = 60.0


@dataclass(frozen=True)
class Execute:
    """Claims the effect under the lease's fence, acts, and writes the outcome down.

    An effect that was applied before is answered from the ledger. One that was started and never
    finished is read back from the world before anything is tried again.
    """

    writers: Mapping[str, WritePort]
    effects: Effects
    leases: Leases
    clock: Clock

    async def __call__(self, state: State, runtime: PassageRuntime) -> Update:
        proposal, ruling = state["proposal"], state["ruling"]
        assert proposal is not None
        assert ruling is not None
        action = proposal.step.action
        if action.kind in READ_ONLY_KINDS:
            return Update(
                attempt=Attempt(
                    state=EffectState.APPLIED, applied=Applied(summary="changes nothing")
                )
            )
        passage = runtime.context
        where = proposal.step.id
        passage.probe.reached(f"effect:{where}:before_claim")
        claim = await self.effects.claim(
            passage.lease,
            step_id=proposal.step.id,
            action=action,
            digest=ruling.action_digest,
            scope_digest=ruling.scope_digest,
            decision_id=ruling.decision_id,
            approval_id=ruling.approval_id,
            now=self.clock.now(),
        )
        passage.probe.reached(f"effect:{where}:claimed")
        update = Update(touched=_touch(state["touched"], target_of(action)))
        if claim.status == "applied":
            update["attempt"] = Attempt(
                state=EffectState.APPLIED, applied=claim.result, tries=claim.tries
            )
            return update
        stamp = Stamp(
            run_id=passage.lease.run_id,
            step_id=proposal.step.id,
            digest=ruling.action_digest,
            decision_id=ruling.decision_id,
        )
        attempt = await self._attempt(passage, action, stamp, claim)
        passage.probe.reached(f"effect:{where}:done")
        await self.effects.finish(passage.lease, claim.effect_id, attempt, now=self.clock.now())
        passage.probe.reached(f"effect:{where}:recorded")
        update["attempt"] = attempt
        return update

    async def _attempt(
        self, passage: Passage, action: Action, stamp: Stamp, claim: Claim
    ) -> Attempt:
        writer = self.writers.get(action.kind)
        if writer is None:
            return Attempt(
                state=EffectState.REFUSED,
                error=f"no backend is configured for {action.kind}",
                remedy="see the settings table in the README",
                tries=claim.tries,
            )

        async def guard() -> None:
            passage.probe.reached(f"effect:{stamp.step_id}:before_write")
            await self.leases.check(passage.lease)

        try:
            if claim.status == "unknown":
                found = await writer.read_back(action, stamp)
                if found is not None:
                    return Attempt(state=EffectState.APPLIED, applied=found, tries=claim.tries)
            applied = await writer.apply(action, stamp, guard)
        except Temporary as error:
            wait = error.retry_after if error.retry_after is not None else backoff(claim.tries)
            again = self._again(EffectState.REFUSED, str(error), wait, claim)
            return again.model_copy(update={"most_tries": error.most_tries})
        except OutcomeUnknown as error:
            return self._again(EffectState.UNKNOWN, str(error), backoff(claim.tries), claim)
        except Permanent as error:
            return Attempt(
                state=EffectState.REFUSED,
                error=str(error),
                remedy=error.remedy,
                tries=claim.tries,
            )
        return Attempt(state=EffectState.APPLIED, applied=applied, tries=claim.tries)

    def _again(self, state: EffectState, error: str, wait: float, claim: Claim) -> Attempt:
        # The back-off is real time: the world's clock may run faster than the backends do.
        at = self.clock.now() + timedelta(seconds=wait * self.clock.speed)
        return Attempt(state=state, error=error, retry_at=at, tries=claim.tries)


def backoff(tries: int) -> float:
    """Seconds to wait after the n-th failed try: doubling from 2 up to 60."""
    return float(min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** max(0, tries - 1)))


def _touch(touched: Sequence[Target], target: Target | None) -> Sequence[Target]:
    if target is None or any(one.key == target.key for one in touched):
        return touched
    return (*touched, target)
