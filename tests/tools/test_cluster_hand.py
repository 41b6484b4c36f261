"""One object on a server that can fail after it has written, which no fault layer can do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pytest
from aiohttp import web

from domain.effect import Stamp
from domain.errors import OutcomeUnknown, Temporary
from domain.service import Target, Workload
from tests.tools.test_cluster_client import free, kubeconfig, serving
from tools.cluster_client import DEPLOYMENT, ClusterClient
from tools.cluster_hand import Hand
from tools.cluster_objects import first_deployment_spec
from tools.cluster_read import KubernetesReader, pod_reason

Mood = Literal["well", "writes, then 504", "504", "504 for good"]
STAMP = Stamp(run_id=uuid4(), step_id="full.stable", digest="d" * 64, decision_id=uuid4())
TARGET = Target(
    service="web",
    environment="test",
    namespace="shop",
    workload=Workload(deployment="web", container="app"),
    replicas=2,
)


@dataclass
class OneDeployment:
    """An API server that holds one Deployment."""

    body: dict[str, Any]
    mood: Mood = "well"
    writes: int = field(default=0)

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "GET" and self.mood != "504 for good":
            return web.json_response(self.body)
        if request.method == "GET" or self.mood == "504":
            return web.json_response({"message": "etcd timed out"}, status=504)
        if self.mood == "504 for good" and self.writes:
            return web.json_response({}, status=504)
        self.writes += 1
        patch = json.loads(await request.text())
        for part in ("metadata", "spec"):
            self.body[part] = {**self.body[part], **patch.get(part, {})}
        if self.mood == "well":
            return web.json_response(self.body)
        return web.json_response({"message": "etcd timed out"}, status=504)


def deployment(**status: Any) -> dict[str, Any]:
    spec = first_deployment_spec(TARGET, "web:1")
    meta = {
        "name": "web",
        "namespace": "shop",
        "generation": 4,
        "resourceVersion": "7",
        "labels": {"app.kubernetes.io/managed-by": "fermata"},
    }
    return {"metadata": meta, "spec": spec, "status": status}


@asynccontextmanager
async def hand_on(server: OneDeployment, folder: Path) -> AsyncIterator[Hand]:
    async with (
        serving(server.answer) as url,
        ClusterClient(kubeconfig(folder / "k", url)) as client,
    ):
        yield Hand(client, STAMP, free)


def five(current: dict[str, Any] | None) -> dict[str, Any]:
    assert current is not None
    return {**current, "spec": {**current["spec"], "replicas": 5}}


async def test_a_failure_over_a_write_that_came_through_is_a_success(tmp_path: Path) -> None:
    server = OneDeployment(deployment(), mood="writes, then 504")
    async with hand_on(server, tmp_path) as hand:
        change = await hand.ensure(DEPLOYMENT, "shop", "web", five)
    assert change.did == "changed"
    assert change.obj["spec"]["replicas"] == 5
    assert server.writes == 1


async def test_a_failure_over_a_write_that_did_not_is_temporary(tmp_path: Path) -> None:
    server = OneDeployment(deployment(), mood="504")
    async with hand_on(server, tmp_path) as hand:
        with pytest.raises(Temporary, match="etcd timed out"):
            await hand.ensure(DEPLOYMENT, "shop", "web", five)
    assert server.writes == 0


async def test_an_old_stamp_on_an_object_that_drifted_is_no_success(tmp_path: Path) -> None:
    server = OneDeployment(deployment())
    async with hand_on(server, tmp_path) as hand:
        await hand.ensure(DEPLOYMENT, "shop", "web", five)
        server.body["spec"]["replicas"] = 1
        server.mood = "504"
        with pytest.raises(Temporary):
            await hand.ensure(DEPLOYMENT, "shop", "web", five)


async def test_a_failure_that_cannot_be_looked_into_is_unknown(tmp_path: Path) -> None:
    server = OneDeployment(deployment())

    async def guard() -> None:
        server.mood = "504 for good"

    async with hand_on(server, tmp_path) as hand:
        with pytest.raises(OutcomeUnknown):
            await Hand(hand.client, STAMP, guard).ensure(DEPLOYMENT, "shop", "web", five)
    assert server.writes == 1


# --- reading ---

LATE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
ALL_THERE = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}


@pytest.mark.parametrize(
    ("status", "observed", "stalled", "ready"),
    [
        ({"observedGeneration": 4, **ALL_THERE}, True, False, True),
        ({"observedGeneration": 3, **ALL_THERE}, False, False, False),
        ({"observedGeneration": 4, **ALL_THERE, "replicas": 3}, True, False, False),
        ({"observedGeneration": 4, **ALL_THERE, "availableReplicas": 1}, True, False, False),
        ({"observedGeneration": 4, "conditions": [LATE]}, True, True, False),
        # What was said of the generation before does not hold for this one.
        ({"observedGeneration": 3, "conditions": [LATE]}, False, False, False),
        ({}, False, False, False),
    ],
)
async def test_a_track_is_read_as_of_its_present_generation(
    tmp_path: Path, status: dict[str, Any], observed: bool, stalled: bool, ready: bool
) -> None:
    server = OneDeployment(deployment(**status))
    async with hand_on(server, tmp_path) as hand:
        track = (await KubernetesReader(hand.client).workload(TARGET)).stable
    assert track is not None
    assert (track.observed, bool(track.stalled), track.ready) == (observed, stalled, ready)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {
                "containerStatuses": [
                    {"state": {"running": {}}},
                    {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no\nsuch"}}},
                ]
            },
            "pod web-1: ImagePullBackOff (no such)",
        ),
        (
            {"initContainerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
            "pod web-1: CrashLoopBackOff",
        ),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, ""),
        (
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
                ]
            },
            "pod web-1: Unschedulable",
        ),
        ({}, ""),
    ],
)
def test_a_pods_trouble_is_told_in_its_own_words(status: dict[str, Any], reason: str) -> None:
    assert pod_reason({"metadata": {"name": "web-1"}, "status": status}) == reason
