"""The service catalogue: what we operate, where it runs, and how good it has to be."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

from pydantic import Field

from domain.event import Frozen
from domain.metric import Metric
from domain.strategy import BlueGreen, BurnWatch, CanaryStep, ReleaseGroup

Executor = Literal["kubernetes", "argo-rollouts", "cloud-deploy", "gitops"]
"""What carries releases out: our own Deployments and route weights, an existing Argo `Rollout`, a
Cloud Deploy delivery pipeline, or commits that a GitOps controller applies."""


class SLI(Frozen):
    """A service level indicator as two PromQL counts over a window: bad events of all events.

    Both are templates over `$namespace`, `$service`, `$version`, `$window`. `objective` is the
    share of good events that is promised (0.999 means one bad in a thousand is allowed).
    """

    name: str
    kind: str = Field(pattern="^(errors|latency)$")
    bad: str
    total: str
    objective: float = Field(gt=0.0, lt=1.0)


class Environment(Frozen):
    """One place a service runs in. `canary` is empty where a release goes straight to full, and
    where it is switched over at once (`blue_green`)."""

    name: str
    namespace: str
    canary: tuple[CanaryStep, ...] = ()
    blue_green: BlueGreen | None = None
    burn: BurnWatch | None = None
    """Watch over the error budget after full rollout; None: the bake is all there is."""
    bake_seconds: float = Field(default=60, ge=0)
    """How long the metrics are watched after full rollout."""
    interval_seconds: float = Field(default=30, gt=0)
    """Length of one judged window."""
    replicas: int = Field(default=2, ge=1)
    request_rate: float = Field(default=20.0, ge=0)
    """Requests a second in the simulated world; unused with real backends."""

    @property
    def stages(self) -> tuple[CanaryStep, ...]:
        """The steps before full rollout, whichever strategy gives them."""
        return self.canary if self.blue_green is None else self.blue_green.steps


class Workload(Frozen):
    """The Kubernetes objects that carry a service. The canary is `<deployment>-canary`."""

    executor: Executor = "kubernetes"
    deployment: str
    container: str
    port: int = 8080
    route: str | None = None
    """Name of the HTTPRoute; None: replicas are the weight."""


class Service(Frozen):
    """One deployable service of one repository."""

    name: str
    repo: str
    paths: tuple[str, ...] = ("**",)
    image: str
    """Image reference with `{sha}` (and optionally `{tag}`) filled in per release."""
    owners: tuple[str, ...] = ()
    description: str = ""
    docs: str = ""
    workload: Workload
    environments: tuple[Environment, ...]
    """In promotion order: a release passes them from first to last."""
    slis: tuple[SLI, ...]
    metrics: tuple[Metric, ...] = ()
    """Numbers of its own choice, judged beside the indicators."""
    tags: tuple[str, ...] = ()

    def environment(self, name: str) -> Environment | None:
        """The environment of that name, or None."""
        return next((env for env in self.environments if env.name == name), None)

    def touches(self, changed: tuple[str, ...] | None) -> bool:
        """Whether the changed paths belong to this service; unknown paths (None) count as yes."""
        if changed is None:
            return True
        return any(
            fnmatchcase(path, pattern)
            or (pattern.endswith("/**") and path.startswith(pattern[:-2]))
            for path in changed
            for pattern in self.paths
        )


class Catalogue(Frozen):
    """All services, as `services.yaml` states them."""

    services: tuple[Service, ...]
    groups: tuple[ReleaseGroup, ...] = ()

    def service(self, name: str) -> Service | None:
        """The service of that name, or None."""
        return next((one for one in self.services if one.name == name), None)

    def of_repo(self, repo: str) -> tuple[Service, ...]:
        """The services built from a repository (`owner/name`, compared without case)."""
        return tuple(one for one in self.services if one.repo.lower() == repo.lower())


class Target(Frozen):
    """One service in one environment: the thing a lock is held on and a release goes to."""

    service: str
    environment: str
    namespace: str
    workload: Workload
    replicas: int

    @classmethod
    def of(cls, service: Service, environment: Environment) -> Target:
        """The target for a service in one of its environments."""
        return cls(
            service=service.name,
            environment=environment.name,
            namespace=environment.namespace,
            workload=service.workload,
            replicas=environment.replicas,
        )

    @property
    def key(self) -> str:
        """`service/environment`, the name of the lock."""
        return f"{self.service}/{self.environment}"
