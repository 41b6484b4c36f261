"""What an event asks of the engine, worked out at the edge before anything is stored."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from domain.event import Actor, Frozen
from domain.run import thread_id_of


class StartRun(Frozen):
    """Begin a run for a change, or join the run that is already under way for it.

    `change_key` identifies the change (`release:acme/shop@<sha>`, `pr:acme/shop#7@<sha>`,
    `release:checkout:prod:<sha>`, `incident:<fingerprint>`); the thread follows from it.
    Active runs of the same `supersede_group` with another key get a `superseded` signal.
    `again` starts a new run although one of this change has already ended (`/retry`, `/override`).
    """

    change_key: str
    title: str
    goal: Literal["release", "rollback", "preview", "notify", "answer", "unlock"]
    author: Actor
    repo: str | None = None
    number: int | None = None
    sha: str | None = None
    supersede_group: str | None = None
    again: bool = False

    @property
    def thread_id(self) -> UUID:
        """Thread of the change."""
        return thread_id_of(self.change_key)


class Address(Frozen):
    """Which runs a signal is for: every criterion that is given has to match.

    `run` is a run id or a prefix of one, at least 6 hex digits.
    """

    run: str | None = None
    repo: str | None = None
    number: int | None = None
    sha: str | None = None
    service: str | None = None
    include_final: bool = False


class SendSignal(Frozen):
    """Tell running changes something. `kind` is a command name, `superseded`, `ci_result`,
    `alert`, `closed`, or `vote`; `payload` is what the gate reads."""

    address: Address
    kind: str
    payload: dict[str, Any]


class Ignore(Frozen):
    """Record the event and do nothing, for this reason (shown on the event's page)."""

    reason: str


Intake = StartRun | SendSignal | Ignore
