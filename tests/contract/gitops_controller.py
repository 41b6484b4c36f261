"""What Argo CD or Flux does, as far as Fermata sees it, on a real API server: it applies what a
file of a Git repository says to a Deployment, and reports so on an object of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tests.contract.cluster_site import Obj, Site
from tests.servers.github_git import GitRepo

CRDS = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PLACES = {
    "Application": ("argoproj.io", "v1alpha1", "applications"),
    "Kustomization": ("kustomize.toolkit.fluxcd.io", "v1", "kustomizations"),
}
MERGE = {"Content-Type": "application/merge-patch+json"}


async def install(site: Site) -> None:
    """Serve both kinds, with any content."""
    for kind, (group, version, plural) in PLACES.items():
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        crd = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                "versions": [
                    {
                        "name": version,
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": schema},
                        # Argo CD's Application has no status subresource, Flux's has one.
                        "subresources": {"status": {}} if kind == "Kustomization" else {},
                    }
                ],
            },
        }
        made = await site.http.post(CRDS, json=crd)
        assert made.status_code in (201, 409), made.text


@dataclass
class Controller:
    """One Application or Kustomization, and the Deployment `web` that it applies."""

    site: Site
    repo: GitRepo
    kind: str
    namespace: str
    name: str
    file: str
    applied: str = ""

    @property
    def path(self) -> str:
        """The object's URL path."""
        group, version, plural = PLACES[self.kind]
        return f"apis/{group}/{version}/namespaces/{self.namespace}/{plural}"

    async def create(self) -> None:
        """Put the object there, as its owner would."""
        group, version, _ = PLACES[self.kind]
        body = {
            "apiVersion": f"{group}/{version}",
            "kind": self.kind,
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {"syncPolicy": {"automated": {}}} if self.kind == "Application" else {},
        }
        made = await self.site.http.post(self.path, json=body)
        while made.status_code == 404:  # a kind that was made a moment ago is served a bit later
            made = await self.site.http.post(self.path, json=body)
        assert made.status_code == 201, made.text

    async def sync(self) -> None:
        """Apply the head of the branch, and say so."""
        self.applied = self.repo.branches["main"]
        text = self.repo.commits[self.applied].files[self.file]
        found = re.search(r"image: (\S+)", text)
        assert found is not None
        containers = [{"name": "app", "image": found[1]}]
        change = {"spec": {"template": {"spec": {"containers": containers}}}}
        await self.site.merge("deployments", self.namespace, "web", change)
        await self.report(synced=True)

    async def fail(self, message: str) -> None:
        """Try the head of the branch, and say why it could not be applied."""
        await self.report(synced=False, failed=message)

    async def report(self, *, synced: bool, failed: str = "") -> None:
        """Write the status."""
        head = self.repo.branches["main"]
        status = (
            _argo(head, self.applied, synced, failed)
            if self.kind == "Application"
            else _flux(head, self.applied, synced, failed)
        )
        sub = "/status" if self.kind == "Kustomization" else ""
        answer = await self.site.http.patch(
            f"{self.path}/{self.name}{sub}", json={"status": status}, headers=MERGE
        )
        assert answer.status_code == 200, answer.text


def _argo(head: str, applied: str, synced: bool, failed: str) -> Obj:
    phase = {"phase": "Failed", "message": failed} if failed else {"phase": "Succeeded"}
    status: dict[str, Any] = {
        "sync": {"status": "Synced" if synced else "OutOfSync", "revision": head},
        "health": {"status": "Healthy"},
        "operationState": {**phase, "syncResult": {"revision": head if failed else applied}},
    }
    return {**status, "history": [{"revision": applied}] if applied else []}


def _flux(head: str, applied: str, synced: bool, failed: str) -> Obj:
    ready = {
        "type": "Ready",
        "status": "True" if synced else "False" if failed else "Unknown",
        "reason": "ReconciliationFailed" if failed else "Progressing",
        "message": failed or "Reconciliation in progress",
    }
    return {
        "observedGeneration": 1,
        "conditions": [ready],
        "lastAppliedRevision": f"main@sha1:{applied}",
        "lastAttemptedRevision": f"main@sha1:{head}",
    }
