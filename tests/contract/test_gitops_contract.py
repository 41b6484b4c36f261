"""A release through Git as seen on a real API server: branch, controller and Deployment agree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from domain.action import K8sDeploy, K8sRollback, action_digest
from domain.effect import Stamp
from domain.errors import Permanent
from domain.service import Target
from nodes.readiness import Reading, deployed
from tests.contract.cluster_site import Obj, Site
from tests.contract.gitops_controller import Controller, install
from tests.servers.github_git import GitHubGitServer, GitRepo
from tests.tools.forge_cases import QUICK, SECRET, Asked
from tests.tools.test_gitops import FILE, TEXT, V1, V2, web
from tools.cluster_client import ClusterClient
from tools.cluster_read import KubernetesReader
from tools.github_client import GitHubClient, Token
from tools.gitops import GitOpsWriter
from tools.gitops_git import GitSide
from tools.gitops_read import GitOpsReader

pytest_plugins = ("tests.contract.cluster_fixtures",)
DEADLINE_SECONDS = 30.0
BROKEN = "registry.example/web:broken-2"
RULES: list[Obj] = [
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    {"apiGroups": ["argoproj.io"], "resources": ["applications"], "verbs": ["get"]},
    {
        "apiGroups": ["kustomize.toolkit.fluxcd.io"],
        "resources": ["kustomizations"],
        "verbs": ["get"],
    },
]
"""All that docs/executors.md asks for: the account of these tests has no more."""


@dataclass
class GitBench:
    """The executor on a repository and a real API server, in a namespace of its own."""

    repo: GitRepo
    controller: Controller
    target: Target
    writer: GitOpsWriter
    reader: GitOpsReader
    site: Site
    run: UUID = field(default_factory=uuid4)

    async def release(self, image: str) -> None:
        action = K8sDeploy(target=self.target, track="stable", image=image, weight=100)
        await self._apply(action, "s")

    async def back(self, image: str | None) -> None:
        await self._apply(K8sRollback(target=self.target, image=image), "b")

    async def _apply(self, action: K8sDeploy | K8sRollback, step: str) -> None:
        digest = action_digest(action)
        stamp = Stamp(run_id=self.run, step_id=step, digest=digest, decision_id=uuid4())
        await self.writer.apply(action, stamp, Asked())

    async def reading(self, image: str | None) -> Reading:
        return deployed(await self.reader.workload(self.target), "stable", image)

    async def until(self, image: str | None, kind: str) -> Reading:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (found := await self.reading(image)).kind != kind:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return found


@pytest.fixture(params=["Application", "Kustomization"])
async def bench(
    request: pytest.FixtureRequest, real_site: Site, tmp_path: Path
) -> AsyncIterator[GitBench]:
    site, kind = real_site, str(request.param)
    await install(site)
    namespace = await site.namespace()
    key = "application" if kind == "Application" else "kustomization"
    change: dict[str, object] = {"application": "", key: f"{namespace}/{{service}}-{{environment}}"}
    target = web("commit", **change).model_copy(update={"namespace": namespace})
    repo = GitRepo()
    repo.commit("main", {FILE: TEXT}, "Begin")
    controller = Controller(site, repo, kind, namespace, "web-prod", FILE)
    await controller.create()
    await site.create("deployments", namespace, deployment())
    await controller.sync()
    assert site.restricted is not None
    account = site.restricted(namespace, RULES)
    kubeconfig = site.kubeconfig(tmp_path / "kubeconfig", token=account)
    async with (
        GitHubGitServer(token=SECRET) as server,
        ClusterClient(kubeconfig, timeout=5) as client,
    ):
        server.repos["acme/deploy"] = repo
        github = GitHubClient(Token(SecretStr(SECRET)), base_url=server.url, pace=QUICK)
        git = GitSide(github)
        reader = GitOpsReader(git, client, KubernetesReader(client))
        made = GitBench(repo, controller, target, GitOpsWriter(git), reader, site)
        await made.until(V1, "done")
        yield made
        await github.aclose()


def deployment() -> Obj:
    labels = {"app": "web"}
    return {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "progressDeadlineSeconds": 1,
            "minReadySeconds": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "app", "image": V1}]},
            },
        },
    }


async def test_a_release_has_arrived_when_all_three_name_it(bench: GitBench) -> None:
    await bench.release(V2)
    waiting = await bench.reading(V2)
    assert waiting.kind == "settling"
    assert f"Git names {V2}" in waiting.reason
    await bench.controller.report(synced=False)
    assert (await bench.reading(V2)).kind == "settling"
    await bench.controller.sync()
    await bench.until(V2, "done")


async def test_an_image_that_was_set_by_hand_has_not_arrived(bench: GitBench) -> None:
    containers = [{"name": "app", "image": V2}]
    change = {"spec": {"template": {"spec": {"containers": containers}}}}
    await bench.site.merge("deployments", bench.target.namespace, "web", change)
    reading = await bench.reading(V2)
    assert reading.kind == "settling"
    assert f"Git names {V1}" in reading.reason


async def test_a_controller_that_is_in_sync_with_an_older_commit_has_not_applied_ours(
    bench: GitBench,
) -> None:
    await bench.release(V2)
    containers = [{"name": "app", "image": V2}]
    change = {"spec": {"template": {"spec": {"containers": containers}}}}
    await bench.site.merge("deployments", bench.target.namespace, "web", change)
    reading = await bench.reading(V2)
    assert reading.kind == "settling"
    assert f"has applied {V1}" in reading.reason


async def test_a_sync_that_fails_on_our_revision_is_a_stall_with_the_controllers_words(
    bench: GitBench,
) -> None:
    await bench.release(V2)
    await bench.controller.fail("Deployment.apps web is invalid")
    reading = await bench.reading(V2)
    assert reading.kind == "stalled"
    assert "Deployment.apps web is invalid" in reading.reason
    # What went wrong with that revision says nothing of the next one.
    await bench.back(V1)
    assert (await bench.reading(V1)).kind == "settling"
    await bench.controller.sync()
    await bench.until(V1, "done")


async def test_a_version_that_never_becomes_ready_is_a_stall_and_the_revert_heals_it(
    bench: GitBench,
) -> None:
    await bench.release(BROKEN)
    await bench.controller.sync()
    reading = await bench.until(BROKEN, "stalled")
    assert "ProgressDeadlineExceeded" in reading.reason
    await bench.back(V1)
    await bench.controller.sync()
    await bench.until(V1, "done")
    assert bench.repo.log("main")[0].message.startswith("Revert")


async def test_a_controller_that_is_not_there_is_named(bench: GitBench) -> None:
    gone = await bench.site.http.delete(f"{bench.controller.path}/web-prod")
    assert gone.status_code == 200
    with pytest.raises(Permanent, match=r"there is no (Application|Kustomization)") as caught:
        await bench.reading(V1)
    assert "services.yaml" in caught.value.remedy


async def test_a_pull_request_is_waited_for_and_a_closed_one_is_a_stall(bench: GitBench) -> None:
    git = bench.target.workload.gitops
    assert git is not None
    asking = git.model_copy(update={"through": "pull-request"})
    workload = bench.target.workload.model_copy(update={"gitops": asking})
    bench.target = bench.target.model_copy(update={"workload": workload})
    await bench.release(V2)
    waiting = await bench.reading(V2)
    assert waiting.kind == "settling"
    assert "pull request acme/deploy#1 waits to be merged" in waiting.reason
    bench.repo.requests[1].state = "closed"
    assert "closed without being merged" in (await bench.reading(V2)).reason
    assert (await bench.reading(V2)).kind == "stalled"
    await bench.back(V1)
    await bench.until(V1, "done")
