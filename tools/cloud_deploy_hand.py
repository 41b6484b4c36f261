"""How what a step needs in Cloud Deploy is brought about: made when missing, then waited for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

from domain.effect import Stamp
from domain.errors import Permanent, Temporary
from domain.service import Target
from tools import cloud_deploy_words as words
from tools.cloud_deploy_client import CloudDeployClient
from tools.cloud_deploy_errors import Exists
from tools.cloud_deploy_words import Release, Rollout, last_part
from tools.ports import Guard

LOOK_SECONDS = 0.5
AGAIN_SECONDS = 15.0
"""After which a step is tried again that waits for Cloud Deploy."""
RENDER_SECONDS = 30.0


@dataclass(frozen=True)
class Hand:
    """What the steps share while one action is carried out."""

    client: CloudDeployClient
    stamp: Stamp
    guard: Guard
    patience: float

    async def release(self, target: Target, image: str) -> Release:
        """The release of this run for the target, made when it is not there."""
        name = words.release_name(target, image, self.stamp.run_id)
        found = await self.client.release(name, target)
        if found is None:
            source = words.settings_of(target).source
            # Where it exists, an earlier try of ours has made it meanwhile.
            with contextlib.suppress(Exists):
                await self.client.create_release(
                    target,
                    last_part(name),
                    artifact=words.artifact_of(target, image),
                    image=image,
                    source=source.replace("{version}", words.version_in(image)),
                    notes=words.notes(target, self.stamp),
                    request_id=words.request_id(self.stamp, "release"),
                    guard=self.guard,
                )
            found = await self._until_there(name, target)
        if not words.is_of_run(found, target, self.stamp.run_id):
            raise Permanent(
                f"release {last_part(name)} exists and is not of this run",
                "somebody made it by hand under our name: abandon it and retry",
            )
        if found.abandoned:
            raise Permanent(f"release {last_part(name)} was abandoned", "start the release anew")
        return found

    async def _until_there(self, name: str, target: Target) -> Release:
        deadline = time.monotonic() + self.patience
        while True:
            found = await self.client.release(name, target)
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise Temporary(f"release {last_part(name)} has not appeared yet", AGAIN_SECONDS)
            await asyncio.sleep(min(LOOK_SECONDS, self.patience / 3))

    async def roll_out(self, target: Target, release: Release, phase: str) -> Rollout:
        """The rollout of the release to the target, from a phase on ('': the first)."""
        id = f"{last_part(release.name)}-1"
        # Where it exists, an earlier try of ours made it.
        with contextlib.suppress(Exists):
            await self.client.create_rollout(
                target,
                release.name,
                id,
                phase=phase,
                notes=words.notes(target, self.stamp),
                request_id=words.request_id(self.stamp, "rollout"),
                guard=self.guard,
            )
        return await self.until(target, id)

    async def until(self, target: Target, id: str, *, ended: bool = False) -> Rollout:
        """A rollout once it is there (or has ended)."""
        deadline = time.monotonic() + self.patience
        while True:
            found = next((one for one in await self.client.rollouts(target) if one.id == id), None)
            if found is not None and not (ended and found.is_live):
                return found
            if time.monotonic() > deadline:
                what = "has not ended" if ended else "has not appeared"
                raise Temporary(f"rollout {id} {what} yet", AGAIN_SECONDS)
            await asyncio.sleep(min(LOOK_SECONDS, self.patience / 3))

    async def approved(self, target: Target, rollout: Rollout) -> str:
        """Approve a rollout that waits for it, where we may. Returns words about it, or ''."""
        may = words.settings_of(target).approve
        if rollout.state == "PENDING_RELEASE" and rollout.needs_approval and may:
            raise Temporary(
                f"rollout {rollout.id} waits for its release to be rendered, then for approval",
                RENDER_SECONDS,
            )
        if rollout.state != "PENDING_APPROVAL":
            return ""
        if not may:
            return ", which waits for approval in Cloud Deploy"
        try:
            await self.client.approve(rollout.name, self.guard)
        except Exists:
            return ", which somebody has decided on meanwhile"
        return ", approved"
