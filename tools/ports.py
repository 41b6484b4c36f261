"""Ports: what the rest of the house may ask of the outside world. Reading and writing are apart.

Only `nodes/execute.py` is ever handed a write port (law 1).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol

from domain.action import Action, K8sDeploy
from domain.configuration import Configuration
from domain.effect import Applied, Stamp
from domain.metric import Metric
from domain.rendered import Rendered
from domain.repository import RepoFile
from domain.secret import FilePatch
from domain.service import SLI, Target
from domain.verdict import Counts, Gap
from domain.workload import WorkloadState

Guard = Callable[[], Awaitable[None]]
"""Raises `LeaseLost` unless the caller still owns the run."""


EVERY_VERSION = "*"
"""As a version: the events of all versions of a service together."""


class WritePort(Protocol):
    """Performs the actions of one backend.

    Both methods raise only `Temporary`, `Permanent` or `OutcomeUnknown`.
    """

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        """Do it; doing it twice has the same end state as doing it once.

        `guard` is awaited right before each request that changes something; it raises
        `LeaseLost` when another worker has taken the run over, and nothing may be sent then.
        """
        ...

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        """Whether the world shows that this very action (run, step, digest) was done; None: not."""
        ...


class ClusterReader(Protocol):
    """Looks at workloads."""

    async def workload(self, target: Target) -> WorkloadState:
        """The target's Deployments and route. Missing objects are None, never invented."""
        ...


class ConfigReader(Protocol):
    """Looks at the configuration that belongs to a target's versions."""

    async def configuration(self, target: Target) -> Configuration:
        """The versions that the catalogue's ConfigMaps and Secrets hold now; () where it names
        none. Raises Temporary, or Permanent for one that is not there."""
        ...


class Renderer(Protocol):
    """Works out what a deploy would write."""

    async def rendered(self, action: K8sDeploy) -> tuple[Rendered, ...]:
        """The objects as they would be after the action. Raises Temporary or Permanent."""
        ...


class MetricsReader(Protocol):
    """Looks at service level indicators. Never raises for missing data: that is a `Gap`."""

    async def counts(
        self, sli: SLI, target: Target, version: str, at: datetime, window_seconds: float
    ) -> Counts | Gap:
        """Bad and total events of a version in the window that ends at `at`.

        `EVERY_VERSION` asks for all of them together.
        """
        ...

    async def value(
        self, metric: Metric, target: Target, version: str, at: datetime, window_seconds: float
    ) -> float | Gap:
        """The number that a metric's query has for a version in the window that ends at `at`."""
        ...


class ForgeReader(Protocol):
    """Looks at the code forge. None means that it cannot be known (no credentials, not there)."""

    async def changed_paths(self, repo: str, number: int) -> tuple[str, ...] | None:
        """Paths a pull request changes; None when unknown (never an empty guess)."""
        ...

    async def patches(self, repo: str, number: int) -> tuple[FilePatch, ...] | None:
        """What a pull request does to each file; None when not all of it can be seen."""
        ...

    async def patches_between(
        self, repo: str, base: str, head: str
    ) -> tuple[FilePatch, ...] | None:
        """What came between two commits does to each file; None when not all can be seen."""
        ...

    async def head_sha(self, repo: str, number: int) -> str | None:
        """The pull request's head right now; None when unknown."""
        ...

    async def file_text(self, repo: str, path: str, ref: str | None) -> RepoFile | None:
        """A file at a commit (None: at the tip of the default branch); None when unknown."""
        ...

    async def opener(self, repo: str, number: int) -> str | None:
        """Login of whoever opened the pull request; None when unknown."""
        ...

    async def branch_sha(self, repo: str, branch: str) -> str | None:
        """The commit a branch points at right now; None when unknown."""
        ...

    async def roles_of(self, repo: str, login: str) -> tuple[str, ...] | None:
        """Fermata roles that the login's permission on the repository gives; None when unknown."""
        ...

    async def teams_of(self, login: str, teams: tuple[str, ...]) -> tuple[str, ...] | None:
        """Those of the teams (`organisation/team`) that the login is an active member of.

        None when it could not be found out for one of them.
        """
        ...

    @property
    def can_look(self) -> bool:
        """Whether there are credentials to look with; without, unknown is all it can say."""
        ...
