"""Releases through Git, against a local GitHub with history behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast
from uuid import uuid4

import pytest
from pydantic import SecretStr

from domain.action import Action, K8sDeploy, K8sRetire, K8sTraffic
from domain.errors import LeaseLost, OutcomeUnknown, Permanent, Temporary
from domain.service import GitOps, Target, Workload
from domain.workload import TrackState, WorkloadState
from tests.servers.github_git import GitHubGitServer, GitRepo
from tests.servers.local import Fault
from tests.tools.acting import Acting
from tests.tools.forge_cases import QUICK, SECRET, Asked
from tools.cluster_client import ClusterClient
from tools.cluster_errors import Json
from tools.github_client import GitHubClient, Token
from tools.gitops import GitOpsWriter
from tools.gitops_git import GitSide, bears
from tools.gitops_read import GitOpsReader
from tools.ports import ClusterReader

V1, V2, V3 = (f"registry.example/web:{n}.0.0" for n in (1, 2, 3))
FILE = "envs/prod/web.yaml"
TEXT = f"""\
# Of team-web.
kind: Deployment
metadata: {{name: web}}
spec:
  template:
    spec:
      containers:
        - name: app
          image: {V1}  # written by releases
"""
PUT, OPEN = r"/contents/", r"/pulls$"


class Bench(Acting):
    """The writer on a repository, and a run that uses it."""

    def __init__(self, server: GitHubGitServer, client: GitHubClient, through: str) -> None:
        self.git = GitSide(client)
        super().__init__(GitOpsWriter(self.git), web(through))
        self.server = server
        self.repo = GitRepo()
        server.repos["acme/deploy"] = self.repo
        self.repo.commit("main", {FILE: TEXT, "README.md": "hello"}, "Begin")

    @property
    def text(self) -> str:
        files = self.repo.files_at("main")
        assert files is not None
        return files[FILE]


def web(through: str = "commit", **change: object) -> Target:
    gitops = GitOps.model_validate(
        {
            "repo": "acme/deploy",
            "branch": "main",
            "file": "envs/{environment}/{service}.yaml",
            "through": through,
            "application": "argocd/{service}-{environment}",
            **change,
        }
    )
    workload = Workload(executor="gitops", deployment="web", container="app", gitops=gitops)
    return Target(
        service="web", environment="prod", namespace="shop", workload=workload, replicas=2
    )


@pytest.fixture
async def client_of() -> AsyncIterator[tuple[GitHubGitServer, GitHubClient]]:
    async with GitHubGitServer(token=SECRET) as server:
        client = GitHubClient(Token(SecretStr(SECRET)), base_url=server.url, pace=QUICK)
        yield server, client
        await client.aclose()


@pytest.fixture
def bench(client_of: tuple[GitHubGitServer, GitHubClient]) -> Bench:
    return Bench(*client_of, "commit")


@pytest.fixture
def asking(client_of: tuple[GitHubGitServer, GitHubClient]) -> Bench:
    return Bench(*client_of, "pull-request")


# --- commits -------------------------------------------------------------------------------------


async def test_a_release_is_one_commit_that_changes_one_line_and_says_why(bench: Bench) -> None:
    action = bench.stable(V2)
    applied = await bench.apply(action)
    assert bench.text == TEXT.replace(V1, V2)
    commit, first = bench.repo.log("main")
    assert commit.message.startswith(f"Release web/prod to {V2}\n\nIt was {V1}.\n")
    assert bears(commit.message, bench.stamp(action))
    assert first.message == "Begin"
    assert applied.url == f"https://forge.example/commit/{commit.sha}"
    assert bench.guard.times == 1


async def test_nothing_is_committed_where_the_file_names_the_image(bench: Bench) -> None:
    await bench.apply(bench.stable(V2))
    applied = await bench.apply(bench.stable(V2))
    assert applied.data["changed"] is False
    assert len(bench.repo.log("main")) == 2


async def test_a_rollback_is_a_commit_that_reverts_the_releases_own(bench: Bench) -> None:
    await bench.apply(bench.stable(V2))
    released = bench.repo.branches["main"]
    await bench.apply(bench.back(V1))
    assert bench.text == TEXT
    message = bench.repo.log("main")[0].message
    assert message.startswith(f'Revert "Release web/prod to {V2}"')
    assert f"This reverts commit {released}." in message


async def test_a_rollback_past_other_releases_names_the_version_and_keeps_other_edits(
    bench: Bench,
) -> None:
    await bench.apply(bench.stable(V2))
    await bench.apply(bench.stable(V3))
    bench.repo.commit("main", {FILE: bench.text + "# by hand\n"}, "Note")
    await bench.apply(bench.back(V1))
    assert bench.text == TEXT + "# by hand\n"
    assert bench.repo.log("main")[0].message.startswith(f"Roll back web/prod to {V1}")


@pytest.mark.parametrize("image", [None, V1])
async def test_a_rollback_with_nothing_to_take_back_commits_nothing(
    bench: Bench, image: str | None
) -> None:
    applied = await bench.apply(bench.back(image))
    assert applied.data["changed"] is False
    assert len(bench.repo.log("main")) == 1


async def test_a_push_that_comes_in_between_is_built_upon(bench: Bench) -> None:
    bench.server.faults.append(Fault("PUT", PUT, status=409, times=2))
    await bench.apply(bench.stable(V2))
    assert bench.text == TEXT.replace(V1, V2)


async def test_pushes_that_do_not_end_are_temporary(bench: Bench) -> None:
    bench.server.faults.append(Fault("PUT", PUT, status=409, times=99))
    with pytest.raises(Temporary, match="409"):
        await bench.apply(bench.stable(V2))


async def test_a_protected_branch_is_permanent_and_another_way_is_named(bench: Bench) -> None:
    told = {
        "message": "Repository rule violations found: Changes must be made through a pull request."
    }
    bench.server.faults.append(Fault("PUT", PUT, status=409, body=told))
    with pytest.raises(Permanent, match="rule violations") as caught:
        await bench.apply(bench.stable(V2))
    assert "through: pull-request" in caught.value.remedy
    assert len(bench.server.requests("PUT")) == 1


@pytest.mark.parametrize("weightless", ["canary", "traffic", "retire"])
async def test_weights_are_refused_with_another_way(bench: Bench, weightless: str) -> None:
    actions: dict[str, Action] = {
        "canary": K8sDeploy(target=bench.target, track="canary", image=V2, weight=10),
        "traffic": K8sTraffic(target=bench.target, weight=10),
        "retire": K8sRetire(target=bench.target),
    }
    action = actions[weightless]
    with pytest.raises(Permanent, match="needs weights") as caught:
        await bench.apply(action)
    assert "another executor" in caught.value.remedy


async def test_a_file_that_is_not_there_is_named(bench: Bench) -> None:
    bench.target = web(file="envs/{environment}/nowhere.yaml")
    with pytest.raises(Permanent, match=r"acme/deploy has no envs/prod/nowhere\.yaml") as caught:
        await bench.apply(bench.stable(V2))
    assert "services.yaml" in caught.value.remedy


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cut", "hang"])
async def test_a_commit_whose_answer_was_lost_is_found_and_not_made_twice(
    bench: Bench, how: str
) -> None:
    fault = Fault("PUT", PUT, cut="after") if how == "cut" else Fault("PUT", PUT, hang=True)
    bench.server.faults.append(fault)
    action = bench.stable(V2)
    with pytest.raises(OutcomeUnknown):
        await bench.apply(action)
    found = await bench.writer.read_back(action, bench.stamp(action))
    assert found is not None
    assert found.data["commit"] == bench.repo.branches["main"]
    assert await bench.writer.read_back(action, bench.stamp(action, uuid4())) is None
    await bench.apply(action)
    assert len(bench.repo.log("main")) == 2


async def test_a_commit_that_never_arrived_is_not_found_and_made_anew(bench: Bench) -> None:
    bench.server.faults.append(Fault("PUT", PUT, cut="before"))
    action = bench.stable(V2)
    with pytest.raises(OutcomeUnknown):
        await bench.apply(action)
    assert await bench.writer.read_back(action, bench.stamp(action)) is None
    await bench.apply(action)
    assert len(bench.repo.log("main")) == 2


@pytest.mark.parametrize("status", [401, 403, 404, 422])
async def test_a_refusal_is_permanent_with_what_helps(bench: Bench, status: int) -> None:
    bench.server.faults.append(Fault("PUT", PUT, status=status))
    with pytest.raises(Permanent) as caught:
        await bench.apply(bench.stable(V2))
    assert caught.value.remedy
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_limit_or_a_failure_is_temporary(bench: Bench, status: int) -> None:
    bench.server.faults.append(Fault("PUT", PUT, status=status, headers={"retry-after": "3"}))
    with pytest.raises(Temporary) as caught:
        await bench.apply(bench.stable(V2))
    assert caught.value.retry_after == 3
    assert len(bench.repo.log("main")) == 1


async def test_a_worker_without_its_lease_commits_nothing(bench: Bench) -> None:
    bench.guard = Asked(lost_at=1)
    with pytest.raises(LeaseLost):
        await bench.apply(bench.stable(V2))
    assert bench.server.requests("PUT") == []


# --- pull requests -------------------------------------------------------------------------------


async def test_a_release_asks_by_one_pull_request_and_leaves_the_branch_alone(
    asking: Bench,
) -> None:
    action = asking.stable(V2)
    applied = await asking.apply(action)
    assert asking.text == TEXT
    (pull,) = asking.repo.requests.values()
    assert (pull.head, pull.base) == ("fermata/web-prod", "main")
    assert pull.title == f"Release web/prod to {V2}"
    assert bears(pull.body, asking.stamp(action))
    assert applied.url == "https://forge.example/pull/1"
    await asking.apply(action)
    assert len(asking.repo.requests) == 1
    asking.repo.merge(1)
    assert asking.text == TEXT.replace(V1, V2)
    found = await asking.writer.read_back(action, asking.stamp(action))
    assert found is not None
    assert "commit" in found.data


class Applied:
    """A cluster in which Argo CD has applied the branch, and the Deployment runs an image."""

    def __init__(self, repo: GitRepo, image: str) -> None:
        self.repo, self.image = repo, image

    async def get(self, *_: object) -> Json:
        sync = {"status": "Synced", "revision": self.repo.branches["main"]}
        return {
            "metadata": {"namespace": "argocd", "name": "web-prod"},
            "status": {"sync": sync, "health": {"status": "Healthy"}},
        }

    async def workload(self, target: Target) -> WorkloadState:
        pods = dict.fromkeys(("desired", "updated", "available", "total"), 2)
        stable = TrackState(name="web", image=self.image, observed=True, stalled="", **pods)
        return WorkloadState(stable=stable, canary=None, route=None)


@pytest.mark.parametrize("by_hand", [True, False])
async def test_a_pull_request_that_was_closed_has_failed_unless_its_line_came_in_otherwise(
    asking: Bench, by_hand: bool
) -> None:
    await asking.apply(asking.stable(V2))
    asking.repo.requests[1].state = "closed"
    if by_hand:  # as merge trains and people at a command line do
        asking.repo.commit("main", {FILE: TEXT.replace(V1, V2)}, "Bump web")
    seen = Applied(asking.repo, V2 if by_hand else V1)
    reader = GitOpsReader(asking.git, cast("ClusterClient", seen), cast("ClusterReader", seen))
    stable = (await reader.workload(asking.target)).stable
    assert stable is not None
    assert (stable.stalled == "") == by_hand, stable.stalled
    assert stable.observed


async def test_a_newer_release_takes_the_open_pull_request_over(asking: Bench) -> None:
    await asking.apply(asking.stable(V2))
    asking.run = uuid4()
    await asking.apply(asking.stable(V3))
    (pull,) = asking.repo.requests.values()
    assert pull.title == f"Release web/prod to {V3}"
    asking.repo.merge(1)
    assert asking.text == TEXT.replace(V1, V3)


async def test_a_later_release_begins_at_what_the_branch_has_become(asking: Bench) -> None:
    await asking.apply(asking.stable(V2))
    asking.repo.merge(1)
    asking.repo.commit("main", {"README.md": "changed"}, "Readme")
    asking.run = uuid4()
    await asking.apply(asking.stable(V3))
    asking.repo.merge(2)
    files = asking.repo.files_at("main")
    assert files == {FILE: TEXT.replace(V1, V3), "README.md": "changed"}


async def test_a_rollback_closes_what_nobody_has_merged(asking: Bench) -> None:
    await asking.apply(asking.stable(V2))
    applied = await asking.apply(asking.back(V1))
    assert applied.data["changed"] is False
    (pull,) = asking.repo.requests.values()
    assert pull.state == "closed"
    assert asking.text == TEXT


async def test_a_rollback_of_what_was_merged_asks_to_revert_it(asking: Bench) -> None:
    await asking.apply(asking.stable(V2))
    asking.repo.merge(1)
    await asking.apply(asking.back(V1))
    assert asking.repo.requests[2].title.startswith('Revert "Release web/prod')
    asking.repo.merge(2)
    assert asking.text == TEXT


async def test_our_own_pull_request_is_merged_where_the_catalogue_says_so(asking: Bench) -> None:
    asking.target = web("pull-request", merge=True)
    action = asking.stable(V2)
    await asking.apply(action)
    assert asking.text == TEXT.replace(V1, V2)
    (pull,) = asking.repo.requests.values()
    assert pull.merged_at
    assert bears(asking.repo.log("main")[0].message, asking.stamp(action))
    await asking.apply(asking.back(V1))
    assert asking.text == TEXT


async def test_a_merge_that_github_does_not_allow_yet_is_tried_again(asking: Bench) -> None:
    asking.target = web("pull-request", merge=True)
    told = {"message": "Required status check is expected."}
    asking.server.faults.append(Fault("PUT", "/merge$", status=405, body=told))
    action = asking.stable(V2)
    with pytest.raises(Temporary, match="status check") as caught:
        await asking.apply(action)
    assert caught.value.retry_after == 30
    assert await asking.writer.read_back(action, asking.stamp(action)) is None
    await asking.apply(action)
    assert asking.text == TEXT.replace(V1, V2)
    assert len(asking.repo.requests) == 1


async def test_what_somebody_pushed_to_our_branch_meanwhile_is_not_merged(asking: Bench) -> None:
    asking.target = web("pull-request", merge=True)
    told = {"message": "Required status check is expected."}
    asking.server.faults.append(Fault("PUT", "/merge$", status=405, body=told))
    with pytest.raises(Temporary):
        await asking.apply(asking.stable(V2))
    asking.repo.commit("fermata/web-prod", {"README.md": "smuggled in"}, "Besides")
    with pytest.raises(Permanent, match="somebody else"):
        await asking.apply(asking.stable(V2))
    assert asking.text == TEXT


@pytest.mark.parametrize("lost", ["refs", "contents", "pulls"])
async def test_a_pull_request_that_broke_off_half_way_is_finished(asking: Bench, lost: str) -> None:
    method, path = {
        "refs": ("POST", "/git/refs"),
        "contents": ("PUT", PUT),
        "pulls": ("POST", OPEN),
    }[lost]
    asking.server.faults.append(Fault(method, path, cut="after"))
    action = asking.stable(V2)
    with pytest.raises(OutcomeUnknown):
        await asking.apply(action)
    found = await asking.writer.read_back(action, asking.stamp(action))
    assert (found is not None) == (lost == "pulls")
    await asking.apply(action)
    assert len(asking.repo.requests) == 1
    asking.repo.merge(1)
    assert asking.text == TEXT.replace(V1, V2)
