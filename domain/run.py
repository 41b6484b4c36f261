"""Runs: one passage of one change through the house."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID, uuid5

THREADS = UUID("5e1a0c3e-7f0b-5c53-9a49-0f6e7a1d2b60")
"""Namespace of thread ids."""


class RunState(StrEnum):
    """What a run is doing, as the API and the pages show it."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    NEEDS_APPROVAL = "needs_approval"
    SUCCEEDED = "succeeded"
    ROLLED_BACK = "rolled_back"
    DENIED = "denied"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the run."""
        return self in FINAL


FINAL = frozenset(
    {
        RunState.SUCCEEDED,
        RunState.ROLLED_BACK,
        RunState.DENIED,
        RunState.FAILED,
        RunState.SUPERSEDED,
        RunState.CANCELLED,
    }
)


def thread_id_of(change_key: str) -> UUID:
    """The thread of a change: the same change gives the same thread, everywhere."""
    return uuid5(THREADS, change_key)
