"""How one object is brought to a shape: read, compare, ask the guard, write what differs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import tenacity

from domain.effect import Stamp
from domain.errors import AdapterError, OutcomeUnknown, Temporary
from tools.cluster_client import ClusterClient, Kind
from tools.cluster_errors import Conflict, Json, Unsure
from tools.cluster_objects import bears, check_owned, difference, stamped
from tools.ports import Guard

CONFLICT_TRIES = 6
"""Deployment status writes raise the resourceVersion too, so conflicts during a roll-out are
ordinary; that many in a row are not."""

Shape = Callable[[Json | None], Json]
"""From the object as it is (None: it does not exist) to the object as it should be. Pure; called
anew after each conflict. Raises Permanent or Temporary when it must not be."""


@dataclass(frozen=True)
class Change:
    """An object after `ensure`, and whether anything had to be done to it."""

    obj: Json
    did: Literal["created", "changed", "nothing"]


@dataclass(frozen=True)
class Hand:
    """The writing hand for one action: everything it writes carries the action's stamp."""

    client: ClusterClient
    stamp: Stamp
    guard: Guard

    async def ensure(self, kind: Kind, namespace: str, name: str, shape: Shape) -> Change:
        """Bring an object to a shape. Nothing is written when it has it already.

        Raises Permanent when the object is not ours, Temporary when it keeps changing under our
        hands or the server fails, OutcomeUnknown when it cannot be told whether a write came
        through.
        """
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Conflict),
            stop=tenacity.stop_after_attempt(CONFLICT_TRIES),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=1.0),
            reraise=True,
        ):
            with attempt:
                change = await self._once(kind, namespace, name, shape)
        return change

    async def _once(self, kind: Kind, namespace: str, name: str, shape: Shape) -> Change:
        current = await self.client.get(kind, namespace, name)
        if current is None:
            body = stamped(shape(None), self.stamp)
            made = self.client.create(kind, body, self.guard)
            return Change(await self._settled(made, kind, namespace, name, shape), "created")
        check_owned(kind, current)
        wanted = shape(current)
        if not difference(current, wanted):
            return Change(current, "nothing")
        changes = difference(current, stamped(wanted, self.stamp))
        version = current["metadata"]["resourceVersion"]
        sent = self.client.patch(kind, namespace, name, changes, version, self.guard)
        return Change(await self._settled(sent, kind, namespace, name, shape), "changed")

    async def _settled(
        self, request: Awaitable[Json], kind: Kind, namespace: str, name: str, shape: Shape
    ) -> Json:
        """The answer to a write; when the server failed over it, what the object itself shows."""
        try:
            return await request
        except Unsure as failure:
            try:
                found = await self.client.get(kind, namespace, name)
            except AdapterError:
                raise OutcomeUnknown(str(failure)) from None
            if found and bears(found, self.stamp) and not difference(found, shape(found)):
                return found
            raise Temporary(str(failure), failure.retry_after) from None
