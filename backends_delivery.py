"""Part of the composition root: what carries releases out, an executor a way.

With a simulated cluster everything is simulated: its emulator stands in for each executor that is
not set up, and says so. With a real one, a release is only ever carried out by the executor that
its service names.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import get_args

from domain.clock import Clock
from domain.service import Catalogue, Executor
from settings import Settings
from tools.argo_read import ArgoReader
from tools.argo_render import ArgoRenderer
from tools.argo_write import ArgoWriter
from tools.cluster_client import ClusterClient
from tools.cluster_read import KubernetesReader
from tools.cluster_render import ExecutorRenderer, KubernetesRenderer
from tools.cluster_write import KubernetesWriter
from tools.executors import ExecutorReader, ExecutorWriter
from tools.github_client import GitHubClient
from tools.gitops import GitOpsWriter
from tools.gitops_git import GitSide
from tools.gitops_read import GitOpsReader
from tools.ports import ClusterReader, ConfigReader, Renderer, WritePort
from tools.stand_in import StandInReader, StandInRenderer, StandInWriter
from tools.toolbox import Backend


@dataclass(frozen=True)
class Delivery:
    """The executors behind their one port."""

    writer: WritePort
    reader: ClusterReader
    renderer: Renderer
    config: ConfigReader
    backends: tuple[Backend, ...]


async def open_delivery(
    settings: Settings,
    catalogue: Catalogue,
    client: ClusterClient,
    github: GitHubClient | None,
    stack: contextlib.AsyncExitStack,
    *,
    is_real: bool,
    clock: Clock,
) -> Delivery:
    """Every executor that there is what it takes for. `is_real`: the cluster is a real one; `clock`
    is its time."""
    plain = KubernetesReader(client, clock=clock)
    writers: dict[Executor, WritePort] = {"kubernetes": KubernetesWriter(client)}
    readers: dict[Executor, ClusterReader] = {"kubernetes": plain}
    renderers: dict[Executor, Renderer] = {"kubernetes": KubernetesRenderer(client)}
    backends: list[Backend] = []
    if settings.cloud_deploy_url:
        # The library is large: it is loaded only where it is used.
        from tools.cloud_deploy import CloudDeployWriter
        from tools.cloud_deploy_client import CloudDeployClient
        from tools.cloud_deploy_read import CloudDeployReader

        cloud = CloudDeployClient(settings.cloud_deploy_url)
        stack.push_async_callback(cloud.aclose)
        writers["cloud-deploy"] = CloudDeployWriter(cloud)
        readers["cloud-deploy"] = CloudDeployReader(cloud)
        backends.append(Backend("cloud-deploy", "real", settings.cloud_deploy_url))
    if is_real:
        writers["argo-rollouts"] = ArgoWriter(client)
        readers["argo-rollouts"] = ArgoReader(client)
        renderers["argo-rollouts"] = ArgoRenderer(client)
        if any(one.workload.executor == "argo-rollouts" for one in catalogue.services):
            backends.append(Backend("argo-rollouts", "real", "drives Rollouts that exist"))
    if is_real and github is not None:
        git = GitSide(github)
        writers["gitops"] = GitOpsWriter(git)
        readers["gitops"] = GitOpsReader(git, client, plain)
        backends.append(Backend("gitops", "real", f"commits with {github.detail}"))
    if not is_real:
        for executor in get_args(Executor):
            if executor not in writers:
                writers[executor] = StandInWriter(writers["kubernetes"])
                readers[executor] = StandInReader(plain)
                renderers[executor] = StandInRenderer(renderers["kubernetes"])
                if any(one.workload.executor == executor for one in catalogue.services):
                    told = "the simulated cluster stands in for it"
                    backends.append(Backend(executor, "simulated", told))
    return Delivery(
        ExecutorWriter(writers),
        ExecutorReader(readers),
        ExecutorRenderer(renderers),
        plain,
        tuple(backends),
    )
