"""Which executor an action goes to."""

from __future__ import annotations

from uuid import uuid4

import pytest

from domain.action import Action, GitCommentPr, K8sRetire
from domain.effect import Applied, Stamp
from domain.errors import Permanent
from domain.service import Executor, Target, Workload
from domain.workload import WorkloadState
from tools.executors import ExecutorReader, ExecutorWriter
from tools.ports import Guard

STAMP = Stamp(run_id=uuid4(), step_id="s", digest="d", decision_id=uuid4())


class Named:
    """Answers with its own name."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        await guard()
        return Applied(summary=self.name)

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        return Applied(summary=f"read by {self.name}")

    async def workload(self, target: Target) -> WorkloadState:
        return WorkloadState(stable=None, canary=None, route=None)


async def guard() -> None:
    """The lease is held."""


def retire(executor: Executor) -> K8sRetire:
    workload = Workload(executor=executor, deployment="web", container="web")
    return K8sRetire(
        target=Target(
            service="web", environment="prod", namespace="shop", workload=workload, replicas=2
        )
    )


async def test_an_action_goes_to_the_executor_its_service_names() -> None:
    writer = ExecutorWriter({"kubernetes": Named("plain"), "argo-rollouts": Named("argo")})
    assert (await writer.apply(retire("argo-rollouts"), STAMP, guard)).summary == "argo"
    assert (await writer.apply(retire("kubernetes"), STAMP, guard)).summary == "plain"
    found = await writer.read_back(retire("argo-rollouts"), STAMP)
    assert found is not None
    assert found.summary == "read by argo"


async def test_an_executor_that_is_not_set_up_is_refused_and_never_replaced() -> None:
    writer = ExecutorWriter({"kubernetes": Named("plain")})
    with pytest.raises(Permanent, match="cloud-deploy, which is not set up"):
        await writer.apply(retire("cloud-deploy"), STAMP, guard)
    with pytest.raises(Permanent, match="gitops"):
        await ExecutorReader({"kubernetes": Named("plain")}).workload(retire("gitops").target)


async def test_words_have_no_executor() -> None:
    words = GitCommentPr(repo="acme/web", number=1, marker="m", body="b")
    with pytest.raises(Permanent, match="not an action on a workload"):
        await ExecutorWriter({"kubernetes": Named("plain")}).apply(words, STAMP, guard)
