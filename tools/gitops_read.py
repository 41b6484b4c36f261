"""Looks at a target that is released through Git: the file, the controller's sync, the Deployment.

A version has arrived when all three name it: the file on the branch, the file at the revision that
the controller says it has applied, and the Deployment; and when the controller calls itself done.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.errors import Permanent
from domain.service import Target
from domain.workload import WorkloadState
from tools.cluster_client import ClusterClient, Kind
from tools.gitops_git import GitSide, filled, settings_of, where_of
from tools.gitops_sync import APPLICATION, KUSTOMIZATION, Sync, of_application, of_kustomization
from tools.image_line import value_at, value_for
from tools.ports import ClusterReader


@dataclass(frozen=True)
class GitOpsReader:
    """`ClusterReader` over Git and a cluster; `deployments` looks at the Deployment itself."""

    git: GitSide
    client: ClusterClient
    deployments: ClusterReader

    async def workload(self, target: Target) -> WorkloadState:
        """The stable Deployment, observed only when Git, controller and cluster agree."""
        stable = (await self.deployments.workload(target)).stable
        if stable is None:
            return WorkloadState(stable=None, canary=None, route=None)
        of, where = settings_of(target), where_of(target)
        wanted = value_at((await self.git.present_file(target, of.branch)).text, where)
        sync = await self._sync(target)
        applied = await self._value(target, sync.revision)
        waits, given_up = await self._pull(target, wanted)
        runs = value_for(stable.image, where)
        is_there = sync.is_done and wanted == applied == runs
        failed = ""
        if sync.failed and runs != wanted and await self._value(target, sync.tried) == wanted:
            failed = sync.failed
        if given_up:
            failed = given_up
        told = waits
        if not told and wanted == applied == runs:
            told = sync.reason
        elif not told:
            told = (
                f"Git names {wanted}, {sync.who} has applied {applied or 'nothing that is known'}"
            )
            told += f" and runs {runs}; {sync.reason}"
        return WorkloadState(
            stable=stable.model_copy(
                update={
                    "observed": stable.observed and is_there,
                    "stalled": stable.stalled or failed,
                    # Where all agree the pods say more, unless a change is still asked for.
                    "told": told if waits or not is_there else "",
                }
            ),
            canary=None,
            route=None,
        )

    async def _sync(self, target: Target) -> Sync:
        of = settings_of(target)
        kind, name = (
            (APPLICATION, of.application) if of.application else (KUSTOMIZATION, of.kustomization)
        )
        namespace, _, name = filled(name, target).partition("/")
        found = await self.client.get(kind, namespace, name)
        if found is None:
            raise Permanent(
                f"there is no {kind.kind} {namespace}/{name}", _hint(kind, target.service)
            )
        if kind is APPLICATION:
            return of_application(found, of.repo)
        return of_kustomization(found)

    async def _value(self, target: Target, revision: str) -> str:
        """What the file names at a revision, '' when that cannot be seen."""
        file = await self.git.file(target, revision) if revision else None
        return value_at(file.text, where_of(target)) if file else ""

    async def _pull(self, target: Target, wanted: str) -> tuple[str, str]:
        """(what is waited for, why that will not come) of the target's pull request. One whose
        line stands on the branch by now was merged in another way."""
        if settings_of(target).through != "pull-request":
            return "", ""
        pull = await self.git.latest_pull(target)
        if pull is None or not pull.is_pending:
            return "", ""
        name = f"pull request {settings_of(target).repo}#{pull.number}"
        if pull.is_open:
            return f"{name} waits to be merged", ""
        if await self._value(target, pull.head) == wanted:
            return "", ""
        return "", f"{name} was closed without being merged"


def _hint(kind: Kind, service: str) -> str:
    key = "application" if kind is APPLICATION else "kustomization"
    return f"correct `{key}` under `gitops:` of {service} in services.yaml (namespace/name)"
