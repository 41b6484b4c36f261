"""Typed actions: everything the system can do to the world, or has to look at, and nothing else."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from domain.configuration import Configuration
from domain.digest import digest_of
from domain.event import Frozen
from domain.service import Target
from domain.strategy import TrafficMatch


class K8sDeploy(Frozen):
    """Bring one track of a workload to an image.

    `canary`: create or update the canary Deployment with enough replicas for `weight` percent of
    the traffic, without giving it any yet. `stable`: roll the stable Deployment to the image.
    """

    kind: Literal["k8s_deploy"] = "k8s_deploy"
    target: Target
    track: Literal["stable", "canary"]
    image: str
    weight: int = Field(default=0, ge=0, le=100)
    config: Configuration = ()
    """The configuration that belongs to the version."""


class K8sTraffic(Frozen):
    """Give the canary `weight` percent of the traffic; stable gets the rest.

    Requests that `match` reach the canary on top of that; None ends this for those that did.
    """

    kind: Literal["k8s_traffic"] = "k8s_traffic"
    target: Target
    weight: int = Field(ge=0, le=100)
    match: TrafficMatch | None = None


class K8sRollback(Frozen):
    """Bring stable back to the last known good image, with full capacity (None: it is there).

    `config` is the configuration it ran with; None: it stays as it is.
    """

    kind: Literal["k8s_rollback"] = "k8s_rollback"
    target: Target
    image: str | None
    config: Configuration | None = None


class K8sRetire(Frozen):
    """Scale the canary to zero once no traffic reaches it."""

    kind: Literal["k8s_retire"] = "k8s_retire"
    target: Target


class K8sPrune(Frozen):
    """Delete copies of the target's configuration that are neither in use nor to be kept."""

    kind: Literal["k8s_prune"] = "k8s_prune"
    target: Target
    keep: Configuration


class Watched(Frozen):
    """A version of another target that a watch over burn rates looks at as well."""

    target: Target
    version: str


class MetricsCheck(Frozen):
    """Watch the SLIs of one version for `bake_seconds` and judge. Changes nothing."""

    kind: Literal["metrics_check"] = "metrics_check"
    target: Target
    phase: Literal["pre", "canary", "post", "burn"]
    """`burn`: not judged window by window, but looked at by its burn rates, every interval."""
    version: str
    baseline: str | None
    """The version to compare with while both serve; None: only the SLO counts."""
    weight: int = Field(ge=0, le=100)
    bake_seconds: float = Field(ge=0)
    interval_seconds: float = Field(gt=0)
    metrics: tuple[str, ...] | None = None
    """Names of the indicators and metrics that count; None: all that the service has."""
    also: tuple[Watched, ...] = ()
    """For `burn`: those that stand and fall with the target, watched at the same time."""

    @property
    def watched(self) -> tuple[Watched, ...]:
        """Everything that is looked at, the target last: it was changed last."""
        return (*self.also, Watched(target=self.target, version=self.version))


class Pause(Frozen):
    """Go on only when a person says so. Changes nothing."""

    kind: Literal["pause"] = "pause"
    target: Target
    question: str


class GitCommentPr(Frozen):
    """Upsert the one sticky comment of `marker` on a pull request."""

    kind: Literal["git_comment_pr"] = "git_comment_pr"
    repo: str
    number: int
    marker: str
    body: str


class Notify(Frozen):
    """Tell people. `severity` picks how loud."""

    kind: Literal["notify"] = "notify"
    channel: str
    severity: Literal["info", "warning", "critical"]
    title: str
    text: str
    links: tuple[tuple[str, str], ...] = ()
    """(label, URL) pairs."""
    facts: tuple[tuple[str, str], ...] = ()
    """(label, sentence) pairs, shown one below the other."""
    buttons: tuple[tuple[str, str], ...] = ()
    """(label, URL) pairs of what the reader may do next; each leads to a page that asks first."""
    picture: str = ""
    """Address of a PNG that anybody with the address may see; '' for none."""


class GitReact(Frozen):
    """Put a reaction under somebody's comment: what was said has been read."""

    kind: Literal["git_react"] = "git_react"
    repo: str
    comment_id: int
    content: Literal["eyes", "+1", "confused"]


class LockRelease(Frozen):
    """Free the lock of a target from the run that holds it.

    A holder that nobody advances loses it. One that is under way is cancelled: it takes back what
    it has begun, and gives the lock up at its end.
    """

    kind: Literal["lock_release"] = "lock_release"
    key: str
    """`service/environment`."""
    holder: UUID
    principal: str
    reason: str


Action = Annotated[
    K8sDeploy
    | K8sTraffic
    | K8sRollback
    | K8sRetire
    | K8sPrune
    | MetricsCheck
    | Pause
    | GitCommentPr
    | GitReact
    | LockRelease
    | Notify,
    Field(discriminator="kind"),
]

READ_ONLY_KINDS = frozenset({"metrics_check", "pause"})
"""Actions that change nothing outside, so that they need no effect row."""

COMMS_KINDS = frozenset({"git_comment_pr", "git_react", "notify"})
"""Actions that only speak."""


def action_digest(action: Action) -> str:
    """Digest of exactly what will be done; decisions, approvals and effects are bound to it."""
    return digest_of(action)


def target_of(action: Action) -> Target | None:
    """The target an action works on, or None for actions that only speak."""
    match action:
        case K8sDeploy() | K8sTraffic() | K8sRollback() | K8sRetire() | K8sPrune():
            return action.target
        case MetricsCheck() | Pause():
            return action.target
        case GitCommentPr() | GitReact() | LockRelease() | Notify():
            return None
