"""What the cluster says about a workload, in our own words."""

from __future__ import annotations

from typing import Any

from domain.configuration import Configuration
from domain.event import Frozen

TOO_LATE = "ProgressDeadlineExceeded"
"""How a Deployment says that its own deadline has passed. Its clock knows nothing of pauses."""


class TrackState(Frozen):
    """One Deployment (stable or canary). Replica counts as Kubernetes reports them."""

    name: str
    image: str
    desired: int
    updated: int
    available: int
    total: int
    observed: bool
    """Whether the controller has seen the latest generation."""
    stalled: str = ""
    """Why it cannot progress (ProgressDeadlineExceeded), '' when it can."""
    why: str = ""
    """What keeps its pods from being ready, in the kubelet's or the scheduler's words."""
    undecided: str = ""
    """What an analysis of the executor's own could not decide, so that a person has to say."""
    owned: bool = True
    config: Configuration = ()
    """The versions of the catalogue's configuration that its pods take."""
    told: str = ""
    """What its executor says of it, in words; replaces the counts where it counts no pods."""

    @property
    def ready(self) -> bool:
        """All replicas updated and available, none left of an older version, latest spec seen."""
        return (
            self.observed
            and not self.stalled
            and self.updated == self.available == self.total == self.desired
        )


class RouteState(Frozen):
    """The canary's weight in percent, and whether what shifts traffic has taken it over: the
    gateway an HTTPRoute's, or another executor the one it was told."""

    canary_weight: int
    accepted: bool
    """Accepted and ResolvedRefs are true at the current generation."""
    reason: str = ""
    owned: bool = True
    stalled: str = ""
    """Why the weight will not come about by itself, '' when it may."""
    by: str = "the gateway"
    """What shifts the traffic, for sentences."""


class WorkloadState(Frozen):
    """All that a release has to know of a target. None: the object does not exist."""

    stable: TrackState | None
    canary: TrackState | None
    route: RouteState | None


Json = dict[str, Any]
