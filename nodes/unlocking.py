"""Frees locks on behalf of `execute`: the table is our own, the rules for touching it are the same.

A dead holder loses the lock. A live one is told to cancel and gives it up at its end, so that a
change that has begun is taken back and not abandoned half way.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.action import Action, LockRelease
from domain.effect import Applied, Stamp
from domain.errors import Permanent
from domain.event import CommandName
from store.locks import Locks
from store.signals import Signals
from tools.ports import Guard


@dataclass(frozen=True)
class Unlocking:
    """The `WritePort` for `lock_release`."""

    locks: Locks
    signals: Signals

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        """Free the lock, or have its holder give it up; nothing when it is another's by now."""
        release = _release(action)
        held = await self.locks.holder(release.key)
        if held is None or held.run_id != release.holder:
            return Applied(summary=f"run {str(release.holder)[:8]} holds {release.key} no more")
        await guard()
        if held.alive:
            await self.signals.send(
                release.holder,
                CommandName.CANCEL.value,
                {
                    "author": release.principal,
                    "authorised": True,
                    "why": f"/unlock {release.key}: {release.reason}",
                },
            )
            summary = (
                f"run {str(release.holder)[:8]} was cancelled; it frees {release.key} at its end"
            )
            return Applied(summary=summary, data={"cancelled": str(release.holder)})
        await self.locks.unlock(
            release.key, release.principal, release.reason, holder=release.holder
        )
        return Applied(
            summary=f"took {release.key} from run {str(release.holder)[:8]}, which nobody advances",
            data={"freed": str(release.holder)},
        )

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        """Doing it again does no harm, so nothing has to be known."""
        return None


def _release(action: Action) -> LockRelease:
    if not isinstance(action, LockRelease):
        raise Permanent(f"locks know nothing of {action.kind}", "report a defect in the plan")
    return action
