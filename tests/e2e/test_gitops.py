"""Releases by the whole program on a real API server that takes changes from Git alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.contract.cluster_site import Site, real
from tests.contract.gitops_controller import Controller, install
from tests.contract.test_gitops_contract import RULES, deployment
from tests.e2e.api import Api, Json, assert_every_effect_was_decided
from tests.e2e.github import merged, sha_of
from tests.e2e.policies import everyday_policy
from tests.e2e.served import serving
from tests.servers.github import Pull
from tests.servers.github_git import GitHubGitServer, GitRepo
from tests.servers.prometheus import ScriptedPrometheus
from tests.tools.test_gitops import TEXT, V1

FILE = "envs/prod/web.yaml"
FIRST, SECOND = (sha_of(f"a version of the web, number {n}") for n in (1, 2))
BROKEN = {SECOND}
SERVICES = """\
version: 1
defaults:
  interval: 500ms
  slis:
    - name: errors
      kind: errors
      objective: 99%
      bad: bad{namespace="$namespace",version="$version"}[$window]
      total: total{namespace="$namespace",version="$version"}[$window]
services:
  - name: web
    repo: acme/web
    image: registry.example/web:{sha}
    workload:
      executor: gitops
      container: app
      gitops:
        repo: acme/deploy
        file: envs/{environment}/{service}.yaml
        application: NAMESPACE/{service}-{environment}
    environments:
      - {name: prod, namespace: NAMESPACE, bake: 3s}
"""


@dataclass
class Place:
    """The program, the repository that it writes to, and the cluster that follows it."""

    api: Api
    repo: GitRepo
    site: Site
    namespace: str

    async def released(self, number: int, version: str) -> Json:
        """The run of a merged change when it is over, with somebody's yes to production."""
        run = await self.api.started("pull_request", merged("acme/web", number, version))
        answer = await self.api.vote(await self.api.question(run))
        assert answer.status_code == 200, answer.text
        return await self.api.until_over(run, 90)

    async def image(self) -> str:
        """What the Deployment names."""
        found = await self.site.get("deployments", self.namespace, "web")
        return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


async def follow(controller: Controller) -> None:
    """Apply the branch whenever it has moved, as the controller's own loop would."""
    while True:
        if controller.repo.branches["main"] != controller.applied:
            await controller.sync()
        await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
async def place(
    tmp_path_factory: pytest.TempPathFactory, cluster_here: None
) -> AsyncIterator[Place]:
    folder: Path = tmp_path_factory.mktemp("gitops")
    deploy = GitRepo()
    deploy.commit("main", {FILE: TEXT}, "Begin")
    source = GitRepo(pulls={n: Pull(files=[("web.py", None)]) for n in (1, 2)})

    def rates(namespace: str, version: str) -> tuple[float, float]:
        return 20_000.0, 0.08 if version in BROKEN else 0.002

    async with contextlib.AsyncExitStack() as stack:
        cluster = stack.enter_context(Cluster())
        site = await stack.enter_async_context(real(cluster))
        await install(site)
        namespace = await site.namespace()
        controller = Controller(site, deploy, "Application", namespace, "web-prod", FILE)
        await controller.create()
        await site.create("deployments", namespace, deployment())
        following = asyncio.create_task(follow(controller))
        stack.callback(following.cancel)
        github = await stack.enter_async_context(GitHubGitServer())
        github.repos |= {"acme/deploy": deploy, "acme/web": source}
        prometheus = await stack.enter_async_context(ScriptedPrometheus(rates))
        assert site.restricted is not None
        account = site.restricted(namespace, RULES)
        (folder / "services.yaml").write_text(SERVICES.replace("NAMESPACE", namespace))
        settings = {
            "KUBECONFIG": site.kubeconfig(folder / "kubeconfig", token=account),
            "FERMATA_SERVICES": str(folder / "services.yaml"),
            "FERMATA_POLICY": str(everyday_policy(folder)),
            "GITHUB_TOKEN": github.token,
            "GITHUB_API_URL": github.url,
            "PROMETHEUS_URL": prometheus.url,
        }
        served = await stack.enter_async_context(serving(folder, settings=settings))
        yield Place(served.api, deploy, site, namespace)


async def test_a_good_commit_is_synced_and_stays_and_a_bad_one_is_reverted(place: Place) -> None:
    ready = await place.api.get("/readyz")
    assert {one["mode"] for one in ready["backends"] if one["name"] == "gitops"} == {"real"}

    good = await place.released(1, FIRST)
    assert good["state"] == "succeeded", good["reason"]
    assert await place.image() == f"registry.example/web:{FIRST}"
    assert_every_effect_was_decided(good)

    bad = await place.released(2, SECOND)
    assert bad["state"] == "rolled_back", bad["reason"]
    assert await place.image() == f"registry.example/web:{FIRST}"
    assert_every_effect_was_decided(bad)

    reverted, released, *_ = place.repo.log("main")
    assert reverted.message.startswith(f'Revert "Release web/prod to registry.example/web:{SECOND}')
    assert f"This reverts commit {released.sha}." in reverted.message
    assert f"Fermata-Run: {bad['id']}" in reverted.message
    assert reverted.files[FILE] == TEXT.replace(V1, f"registry.example/web:{FIRST}")
