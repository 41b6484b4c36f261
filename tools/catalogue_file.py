"""The shape of services.yaml: what may stand where, and what each value has to look like.

Only single values are checked here, so that each mistake is named at its own line. What values mean
together is checked in `tools/catalogue.py`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from domain.service import Executor
from tools.catalogue_config import ConfigShape
from tools.catalogue_executors import CloudDeployShape, GitOpsShape
from tools.catalogue_metrics import MetricShape
from tools.catalogue_strategy import BlueGreenShape, CanaryShape, GroupShape, WatchShape
from tools.catalogue_values import (
    DeploymentName,
    Image,
    Interval,
    Label,
    Link,
    PathPattern,
    Query,
    Repository,
    Seconds,
    Shape,
    Share,
    Word,
)


class SliShape(Shape):
    """A service level indicator."""

    name: Label = Field(description="what it is called in verdicts", examples=["errors"])
    kind: Literal["errors", "latency"]
    objective: Share = Field(description="promised share of good events", examples=[0.99])
    bad: Query = Field(description="PromQL: how many events were bad")
    total: Query = Field(description="PromQL: how many events there were")


class EnvironmentShape(Shape):
    """One place a service runs in."""

    name: Label = Field(description="what it is called in commands", examples=["prod"])
    namespace: Label = Field(description="Kubernetes namespace", examples=["prod"])
    canary: list[CanaryShape] = Field(default=[], description="steps of growing weight")
    blue_green: BlueGreenShape | None = Field(
        default=None, description="all traffic at once instead of a canary"
    )
    watch: WatchShape | None = Field(
        default=None, description="burn rates of the error budget after full roll-out"
    )
    bake: Seconds = Field(default=60.0, description="how long metrics are watched after roll-out")
    interval: Interval | None = Field(default=None, description="length of one judged window")
    replicas: int | None = Field(default=None, ge=1, le=10_000)
    request_rate: float = Field(
        default=20.0, ge=0, description="requests a second in the simulated world"
    )


class WorkloadShape(Shape):
    """The Kubernetes objects that carry a service."""

    executor: Executor = Field(
        default="kubernetes", description="what carries releases out", examples=["argo-rollouts"]
    )
    deployment: DeploymentName | None = None
    container: Label | None = None
    port: int = Field(default=8080, ge=1, le=65535)
    route: Label | None = Field(default=None, description="name of the HTTPRoute")
    progress_deadline: Interval = Field(
        default=600.0, description="how long pods may take to become ready", examples=["10m"]
    )
    share_wait: Seconds | None = Field(
        default=None,
        description="how long the measured share of the traffic is waited for; 0s: not at all",
        examples=["1m"],
    )
    config: ConfigShape | None = Field(
        default=None, description="ConfigMaps and Secrets that are versioned with the image"
    )
    cloud_deploy: CloudDeployShape | None = None
    gitops: GitOpsShape | None = None


class ServiceShape(Shape):
    """One deployable service."""

    name: DeploymentName = Field(
        description="what it is called in commands and metrics", examples=["checkout"]
    )
    description: str = ""
    repo: Repository = Field(description="repository that releases it", examples=["acme/checkout"])
    paths: list[PathPattern] = Field(
        default=["**"], min_length=1, description="which paths of the repository belong to it"
    )
    image: Image = Field(description="image of a release", examples=["ghcr.io/acme/checkout:{sha}"])
    owners: list[Word] = Field(default=[], description="who is told", examples=[["team-checkout"]])
    docs: Link = ""
    tags: list[Word] = []
    workload: WorkloadShape = WorkloadShape()
    environments: list[EnvironmentShape] = Field(
        min_length=1, description="in promotion order, the first one is released to first"
    )
    slis: list[SliShape] | None = Field(default=None, min_length=1)
    metrics: list[MetricShape] | None = Field(
        default=None, description="numbers of its own, judged beside the SLIs"
    )


class DefaultsShape(Shape):
    """What holds for every service that does not say otherwise."""

    slis: list[SliShape] = []
    metrics: list[MetricShape] = []
    interval: Interval = 30.0
    replicas: int = Field(default=2, ge=1, le=10_000)


class CatalogueShape(Shape):
    """The whole file."""

    version: Literal[1]
    defaults: DefaultsShape = DefaultsShape()
    services: list[ServiceShape] = Field(min_length=1)
    groups: list[GroupShape] = Field(
        default=[], description="services of one repository that are released together"
    )
