"""What happened around a change: versions that failed here before, alerts since it began."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.action import Action, K8sDeploy, MetricsCheck, target_of
from domain.configuration import Configuration, for_the_record, is_other
from domain.event import zoned
from domain.service import Target
from domain.verdict import VerdictKind
from policy.facts import AlertFact, ReleaseFact
from store.effects import Effects
from store.records import SignalRow
from store.releases import Releases
from store.verdicts import Verdicts

MOST_RELEASES = 50
"""How many of the latest failures of versions in a place policy gets to see."""


@dataclass(frozen=True)
class Happenings:
    """Reads what the gate has to know of a target's past and present."""

    releases: Releases
    effects: Effects
    verdicts: Verdicts

    async def history(self, action: Action) -> tuple[ReleaseFact, ...]:
        """What failed in the place an action deploys to; () for other actions."""
        if not isinstance(action, K8sDeploy):
            return ()
        target = action.target
        known = for_the_record(action.config)
        rows = await self.releases.failures(target.service, target.environment, MOST_RELEASES)
        return tuple(
            ReleaseFact(image=row.image, status="bad", at=row.at, reason=row.reason)
            for row in rows
            if not (row.image == action.image and is_other(row.config, known))
        )

    async def replaces_bad(
        self, action: Action, running: str | None, config: Configuration = ()
    ) -> bool:
        """Whether the version that runs in an action's place is known to be bad there."""
        target = target_of(action)
        if target is None or running is None or not isinstance(action, K8sDeploy | MetricsCheck):
            return False
        return await self.releases.is_bad(target.service, target.environment, running, config)

    async def alerts(
        self, run_id: UUID, signals: Sequence[SignalRow], target: Target | None
    ) -> tuple[AlertFact, ...]:
        """Alerts that began to fire on a target while the run was changing it.

        None count where the target was not well before: it would be the old version's alert, and
        the fix for a broken version must get through.
        """
        if target is None or not any(signal.kind == "alert" for signal in signals):
            return ()
        began = await self.effects.began(run_id, target.key)
        if began is None:
            return ()
        before = await self.verdicts.before(run_id, target.key)
        if before is not None and before is not VerdictKind.PASS:
            return ()
        return alerts_since(signals, target, began)


def alerts_since(
    signals: Iterable[SignalRow], target: Target, began: datetime
) -> tuple[AlertFact, ...]:
    """Alerts on a target that began to fire after `began` and have not been resolved since.

    An alert without an environment or a namespace is about every environment.
    """
    firing: dict[str, AlertFact] = {}
    for signal in sorted(signals, key=lambda one: one.seq):
        if signal.kind != "alert" or signal.payload.get("service") != target.service:
            continue
        for told in signal.payload.get("alerts", ()):
            key = str(told.get("fingerprint") or told.get("name"))
            firing.pop(key, None)
            at = zoned(datetime.fromisoformat(told["starts_at"]))
            if told.get("status") == "firing" and at >= began and _is_about(told, target):
                severity = str(told.get("severity", ""))
                firing[key] = AlertFact(name=str(told["name"]), severity=severity, since=at)
    return tuple(firing.values())


def _is_about(told: dict[str, Any], target: Target) -> bool:
    named = (("environment", target.environment), ("namespace", target.namespace))
    return all(told.get(label) in (None, "", ours) for label, ours in named)
