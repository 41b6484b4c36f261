"""What the tests of executors have in common: a run that has one of them do things to `web`."""

from __future__ import annotations

from uuid import UUID, uuid4

from domain.action import Action, K8sDeploy, K8sRollback, action_digest
from domain.effect import Applied, Stamp
from domain.service import Target
from tests.tools.forge_cases import Asked
from tools.ports import WritePort


class Acting:
    """A run, and the executor that it uses."""

    def __init__(self, writer: WritePort, target: Target) -> None:
        self.writer, self.target = writer, target
        self.run = uuid4()
        self.guard = Asked()

    def stamp(self, action: Action, run: UUID | None = None) -> Stamp:
        step, digest = f"web/prod.{action.kind}", action_digest(action)
        return Stamp(run_id=run or self.run, step_id=step, digest=digest, decision_id=uuid4())

    async def apply(self, action: Action) -> Applied:
        return await self.writer.apply(action, self.stamp(action), self.guard)

    def stable(self, image: str) -> K8sDeploy:
        return K8sDeploy(target=self.target, track="stable", image=image, weight=100)

    def back(self, image: str | None) -> K8sRollback:
        return K8sRollback(target=self.target, image=image)
