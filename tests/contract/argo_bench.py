"""The Argo Rollouts adapter on a real controller, in a namespace of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from domain.action import Action
from domain.effect import Applied
from domain.errors import Temporary
from domain.service import Target, Workload
from domain.workload import WorkloadState
from tests.contract.cluster_bench import DEADLINE_SECONDS, V1, Bench
from tests.contract.cluster_site import Obj
from tools.argo_read import ArgoReader
from tools.argo_write import ArgoWriter

STEPS: list[Obj] = [
    {"setWeight": 10},
    {"pause": {}},
    {"setWeight": 50},
    {"pause": {}},
]
ANALYSED_STEPS: list[Obj] = [
    {"setWeight": 10},
    {"analysis": {"templates": [{"templateName": "errors"}]}},
    {"pause": {}},
    {"setWeight": 50},
    {"pause": {}},
]
OURS = {"app.kubernetes.io/managed-by": "fermata"}


def rollout_in(namespace: str, *, replicas: int = 4) -> Target:
    """`web`, a Rollout with stops at 10% and 50%."""
    workload = Workload(executor="argo-rollouts", deployment="web", container="app", port=8080)
    return Target(
        service="web",
        environment="test",
        namespace=namespace,
        workload=workload,
        replicas=replicas,
        weights=(10, 50),
    )


def manifest(image: str = V1, *, steps: list[Obj] | None = None, **canary: object) -> Obj:
    """A Rollout as its owner would write it; `canary` goes into its strategy."""
    pods = {"app": "web"}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "web", "labels": {**pods, **OURS}},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": pods},
            "strategy": {"canary": {"steps": STEPS if steps is None else steps, **canary}},
            "template": {
                "metadata": {"labels": pods},
                "spec": {"containers": [{"name": "app", "image": image}]},
            },
        },
    }


@dataclass
class ArgoBench(Bench):
    """As `Bench`, for a Rollout that is there already."""

    @property
    def writer(self) -> ArgoWriter:  # type: ignore[override]
        return ArgoWriter(self.client)

    async def seen(self) -> WorkloadState:
        return await ArgoReader(self.client).workload(self.target)

    async def adopted(self, rollout: Obj | None = None) -> None:
        """Somebody has a Rollout that is Healthy."""
        await self.site.create("rollouts", self.where, rollout or manifest())
        await self.until_rollout(lambda one: one.get("status", {}).get("phase") == "Healthy")

    async def rollout(self) -> Obj:
        return await self.site.get("rollouts", self.where, "web")

    async def until_rollout(self, done: Callable[[Obj], bool]) -> Obj:
        """The Rollout once it is so; fails after a while, and shows its status."""
        found: Obj = {}
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not done(found := await self.rollout()):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not in time: {found.get('status')}") from None
        return found

    async def changed(self, changes: Obj, heard: Callable[[Obj], bool], sub: str = "") -> Obj:
        """Change the Rollout as somebody else would, and see to it that it is heard: its
        controller may lose a change."""
        await self.site.merge("rollouts", self.where, "web", changes, sub=sub)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not heard(found := await self.rollout()):
                notes = {"annotations": {"woken": found["metadata"]["resourceVersion"]}}
                await self.site.merge("rollouts", self.where, "web", {"metadata": notes})
                await asyncio.sleep(0.5)
        return found

    async def at(self, weight: int) -> WorkloadState:
        """The workload once it rests at a weight."""
        return await self.until(
            lambda now: (
                now.route is not None and now.route.canary_weight == weight and now.route.accepted
            )
        )

    async def apply_again(self, action: Action) -> Applied:
        """Do it as the engine does: again and again while it may work later."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                try:
                    return await self.apply(action)
                except Temporary:
                    await asyncio.sleep(0.3)

    async def analysed(self, dial: Dial) -> None:
        """Argo has an analysis of its own, of the number on a dial."""
        await self.site.create("analysistemplates", self.where, dial.template())

    async def pods(self) -> dict[str, int]:
        """Available pods by image."""
        found: dict[str, int] = {}
        answer = await self.site.http.get(self.site.path("replicasets", self.where))
        for one in answer.json()["items"]:
            image = one["spec"]["template"]["spec"]["containers"][0]["image"]
            count = one.get("status", {}).get("availableReplicas", 0)
            if count:
                found[image] = found.get(image, 0) + count
        return found


@dataclass
class Dial:
    """A number that Argo's own analyses read, and where."""

    url: str = ""
    value: float = 0.0

    def template(self) -> Obj:
        """Below 0.01 it is successful, above 0.05 failed, and inconclusive between."""
        metric = {
            "name": "errors",
            "successCondition": "result < 0.01",
            "failureCondition": "result > 0.05",
            "provider": {"web": {"url": self.url, "jsonPath": "{$.value}"}},
        }
        return {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "AnalysisTemplate",
            "metadata": {"name": "errors"},
            "spec": {"metrics": [metric]},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({"value": self.value})(scope, receive, send)
