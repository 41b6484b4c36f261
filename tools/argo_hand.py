"""Saying something to the Argo Rollouts controller, and seeing to it that it is heard.

Controllers up to v1.9.1 may lose a change that lands right after a status write of their own: they
put their older copy back into their cache and sleep on. So nothing counts as done before the
controller shows it. An annotation that changes wakes it with the true state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from domain.errors import OutcomeUnknown, Temporary
from domain.service import Target
from tools.argo_objects import REPLICASET, ROLLOUT, Sight, check_template, rollout_name
from tools.cluster_client import ClusterClient
from tools.cluster_errors import Conflict, Json, Unsure
from tools.cluster_hand import Change, Hand, Shape
from tools.cluster_lookup import missing
from tools.cluster_objects import bears, check_owned, difference, notes_of, stamped

NUDGE = "fermata.dev/nudge"
"""Counts how often the controller had to be woken."""
HEARD_SECONDS = 10.0
"""How long the controller may take to act before the step is tried again later."""
LOOK_SECONDS = 0.1
NUDGE_SECONDS = 0.7
AGAIN_SECONDS = 2.0


@dataclass(frozen=True)
class ArgoHand:
    """The writing hand for one action on one Rollout."""

    hand: Hand
    target: Target

    async def look(self) -> Sight:
        """The Rollout and its ReplicaSets. Raises Permanent where there is no Rollout, or it is
        not ours."""
        sight = await see(self.hand.client, self.target)
        if sight is None:
            raise missing(ROLLOUT, self.target, rollout_name(self.target))
        check_owned(ROLLOUT, sight.rollout)
        return sight

    async def shape(self, shape: Callable[[Json], Json]) -> Change:
        """Bring the Rollout's spec or marks to a shape, as `Hand.ensure` does."""
        return await self.hand.ensure(
            ROLLOUT, self.target.namespace, rollout_name(self.target), self._existing(shape)
        )

    def _existing(self, shape: Callable[[Json], Json]) -> Shape:
        def shaped(current: Json | None) -> Json:
            if current is None:
                raise missing(ROLLOUT, self.target, rollout_name(self.target))
            return shape(current)

        return shaped

    async def until(
        self,
        what: str,
        done: Callable[[Sight], bool],
        say: Callable[[Sight], Json | None] = lambda _: None,
    ) -> Sight:
        """Say it in the status until the controller shows that it has heard.

        `say` gives the status fields to write (None: they stand there already). Each write is tied
        to the state it was worked out from, so that no step is passed twice. Raises Temporary when
        the controller does not act in time.
        """
        loop = asyncio.get_running_loop()
        began = spoke = loop.time()
        while True:
            sight = await self.look()
            if done(sight):
                return sight
            now = loop.time()
            if now - began > HEARD_SECONDS:
                raise Temporary(
                    f"Rollout {sight.name}: {what} was not carried out within {HEARD_SECONDS:g} s; "
                    "is the Argo Rollouts controller running?",
                    AGAIN_SECONDS,
                )
            if changes := say(sight):
                await self._write(sight, {"status": changes}, "status")
                spoke = now
            elif now - spoke > NUDGE_SECONDS:
                await self.nudge(sight)
                spoke = now
            await asyncio.sleep(LOOK_SECONDS)

    async def nudge(self, sight: Sight) -> None:
        """Wake the controller: a changed annotation is an event, a status written again is none."""
        given = notes_of(sight.rollout).get(NUDGE, "")
        count = int(given) + 1 if given.isdigit() else 1
        await self._write(sight, {"metadata": {"annotations": {NUDGE: str(count)}}})

    async def mark(self) -> Json:
        """Put this action's stamp on the Rollout, once what it says is so."""
        sight = await self.look()
        while not bears(sight.rollout, self.hand.stamp):
            changes = difference(sight.rollout, stamped(sight.rollout, self.hand.stamp))
            await self._write(sight, changes)
            sight = await self.look()
        return sight.rollout

    async def _write(self, sight: Sight, changes: Json, subresource: str = "") -> None:
        """One guarded write. One that came too late, or failed, is worked out anew from the state
        that the next look shows."""
        try:
            await self.hand.client.patch(
                ROLLOUT,
                self.target.namespace,
                rollout_name(self.target),
                changes,
                sight.rollout["metadata"]["resourceVersion"],
                self.hand.guard,
                subresource=subresource,
            )
        except Conflict:
            return
        except Unsure as failure:
            raise OutcomeUnknown(str(failure)) from None


async def see(client: ClusterClient, target: Target) -> Sight | None:
    """The target's Rollout with the ReplicaSets that it owns; None where there is no Rollout.

    Raises Permanent for one that takes its pod template from another object.
    """
    rollout = await client.get(ROLLOUT, target.namespace, rollout_name(target))
    if rollout is None:
        return None
    check_template(rollout)
    labels = (rollout["spec"].get("selector") or {}).get("matchLabels") or {}
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    uid = rollout["metadata"]["uid"]
    sets = tuple(
        {**one, "kind": REPLICASET.kind}
        for one in await client.items(REPLICASET, target.namespace, selector)
        if any(owner["uid"] == uid for owner in one["metadata"].get("ownerReferences") or ())
    )
    return Sight(rollout, sets)
