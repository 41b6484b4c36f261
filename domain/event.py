"""What happened outside, in our own words. Raw payloads end in `web/`; these begin there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """Base of all domain models: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Actor(Frozen):
    """Who did it: a login on the forge or a principal of a token."""

    login: str
    is_bot: bool = False


class PullRequestChanged(Frozen):
    """A pull request was opened, pushed to, reopened or closed (merged or not)."""

    kind: Literal["pull_request"] = "pull_request"
    action: Literal["opened", "synchronize", "reopened", "closed"]
    merged: bool
    repo: str
    number: int
    title: str
    author: Actor
    head_sha: str
    head_ref: str
    base_sha: str
    base_ref: str
    default_branch: str
    merge_sha: str | None = None
    from_fork: bool = False
    merged_by: Actor | None = None
    lines: int | None = None
    """Lines added and removed; None when the payload does not say."""


class Pushed(Frozen):
    """Commits reached a branch. `paths` is None when the payload did not list them all; `forced`:
    the branch was moved to where it did not grow to, which may be a commit that it had before."""

    kind: Literal["push"] = "push"
    repo: str
    branch: str
    default_branch: str
    sha: str
    before: str
    author: Actor
    paths: tuple[str, ...] | None = None
    deleted: bool = False
    forced: bool = False


class Tagged(Frozen):
    """A tag was pushed."""

    kind: Literal["tag"] = "tag"
    repo: str
    tag: str
    sha: str
    author: Actor
    deleted: bool = False


class CheckResult(Frozen):
    """A CI system reported on a commit. `conclusion` is None while it is still running."""

    kind: Literal["ci_result"] = "ci_result"
    source: Literal["check_run", "check_suite", "workflow_run", "status"]
    repo: str
    sha: str
    name: str
    conclusion: (
        Literal[
            "success",
            "failure",
            "neutral",
            "cancelled",
            "skipped",
            "timed_out",
            "action_required",
            "stale",
            "startup_failure",
            "error",
            "pending",
        ]
        | None
    ) = None
    url: str = ""


WHOLE_SECOND = timedelta(seconds=1)


class CommandName(StrEnum):
    """The slash commands that are understood."""

    DEPLOY = "deploy"
    ROLLBACK = "rollback"
    APPROVE = "approve"
    REJECT = "reject"
    HOLD = "hold"
    RESUME = "resume"
    RETRY = "retry"
    CANCEL = "cancel"
    OVERRIDE = "override"
    UNLOCK = "unlock"
    EXPLAIN = "explain"
    HELP = "help"


class Command(Frozen):
    """One typed command. `line` is 1-based in the comment it stood in."""

    name: CommandName
    args: tuple[str, ...] = ()
    line: int = 1


class Commanded(Frozen):
    """A person gave commands: in a comment (`number`, `comment_id`), or through the API or CLI."""

    kind: Literal["command"] = "command"
    commands: tuple[Command, ...]
    author: Actor
    repo: str | None = None
    number: int | None = None
    comment_id: int | None = None
    association: str = ""
    roles: tuple[str, ...] = ()
    said_at: datetime | None = None
    """When the comment was written, as the forge says; None where there was no comment."""
    misread: tuple[str, ...] = ()
    """Lines that were meant as commands and are none, each in a sentence."""


def older(said_at: datetime, moment: datetime) -> bool:
    """Whether a comment was written before a moment. Forges tell the time of a comment in whole
    seconds, so one of the same second may be the younger."""
    return said_at + WHOLE_SECOND <= moment


def zoned(time: datetime) -> datetime:
    """The time with a zone; without one it is UTC. Times with and without cannot be compared."""
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


Moment = Annotated[datetime, AfterValidator(zoned)]


class Alert(Frozen):
    """One alert of an Alertmanager group."""

    name: str
    status: Literal["firing", "resolved"]
    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: Moment
    ends_at: Moment | None = None
    generator_url: str = ""


class AlertGroup(Frozen):
    """What Alertmanager sent: a group of alerts that belong together."""

    kind: Literal["alert"] = "alert"
    group_key: str
    status: Literal["firing", "resolved"]
    receiver: str
    alerts: tuple[Alert, ...]
    external_url: str = ""


class Unhandled(Frozen):
    """Something we record and answer politely, but do nothing about."""

    kind: Literal["unhandled"] = "unhandled"
    what: str
    repo: str | None = None


EventBody = Annotated[
    PullRequestChanged | Pushed | Tagged | CheckResult | Commanded | AlertGroup | Unhandled,
    Field(discriminator="kind"),
]


class Event(Frozen):
    """An event with its envelope. `delivery_id` is the sender's own id for this delivery."""

    id: UUID
    source: Literal["github", "alertmanager", "cloudevents", "api", "cli"]
    delivery_id: str
    body_digest: str
    received_at: datetime
    body: EventBody
