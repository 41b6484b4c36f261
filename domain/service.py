"""The service catalogue: what we operate, where it runs, and how good it has to be."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

from pydantic import Field

from domain.configuration import ConfigObjects
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


class CloudDeploy(Frozen):
    """The delivery pipeline of a service that Google Cloud Deploy releases."""

    project: str
    location: str
    pipeline: str
    source: str
    """Where the Skaffold configuration lies (`gs://...`); `{version}` is the image's tag."""
    artifact: str = ""
    """What the Skaffold configuration calls the image; '': the image without its tag."""
    targets: tuple[tuple[str, str], ...] = ()
    """(environment, target) pairs; an environment that is not in it is a target of its name."""
    approve: bool = False
    """Whether a rollout that waits for approval is approved once our own gate has let it pass."""

    def target(self, environment: str) -> str:
        """The Cloud Deploy target that an environment is."""
        return dict(self.targets).get(environment, environment)


class GitOps(Frozen):
    """Where the image of a service stands in Git, and which controller brings it to the cluster.

    `file`, `application` and `kustomization` may have `{environment}` and `{service}` in them.
    """

    repo: str
    branch: str
    file: str
    kustomize: str = ""
    """Name of the entry in a kustomization's `images`; '': `field` says where the image is."""
    field: str = ""
    """YAML path such as `image.tag`; '': the container's image in the Deployment's manifest."""
    writes: Literal["image", "tag"] = "image"
    through: Literal["commit", "pull-request"] = "commit"
    merge: bool = False
    """Whether we merge our own pull requests, once our gate has let the step pass."""
    application: str = ""
    """Argo CD Application, as `namespace/name`."""
    kustomization: str = ""
    """Flux Kustomization, as `namespace/name`."""


class Workload(Frozen):
    """The Kubernetes objects that carry a service. The canary is `<deployment>-canary`."""

    executor: Executor = "kubernetes"
    deployment: str
    container: str
    port: int = 8080
    route: str | None = None
    """Name of the HTTPRoute; None: replicas are the weight."""
    progress_deadline_seconds: float = Field(default=600.0, gt=0)
    """How long a roll-out may take to become ready before it counts as stalled."""
    share_wait_seconds: float | None = Field(default=None, ge=0)
    """How long the measured share of the traffic is waited for after a change of weight; None: a
    minute, or two judged windows where these are longer."""
    config: ConfigObjects | None = None
    """ConfigMaps and Secrets that are versioned with the image; None: none are."""
    cloud_deploy: CloudDeploy | None = None
    gitops: GitOps | None = None


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
    weights: tuple[int, ...] = ()
    """Weights in percent that its canary is judged at, in order; empty without a canary."""

    @classmethod
    def of(cls, service: Service, environment: Environment) -> Target:
        """The target for a service in one of its environments."""
        return cls(
            service=service.name,
            environment=environment.name,
            namespace=environment.namespace,
            workload=service.workload,
            replicas=environment.replicas,
            weights=tuple(step.weight for step in environment.stages),
        )

    @property
    def key(self) -> str:
        """`service/environment`, the name of the lock."""
        return f"{self.service}/{self.environment}"
