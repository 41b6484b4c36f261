"""Alerts on a target that began to fire while it was being changed."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from domain.service import Target, Workload
from nodes.happenings import alerts_since
from store.records import SignalRow

BEGAN = datetime(2026, 5, 4, 12, tzinfo=UTC)


def test_a_signal_that_was_stored_without_a_zone_can_be_compared() -> None:
    told = {"name": "Slow", "status": "firing", "fingerprint": "f", "severity": "critical"}
    payload = {"service": "mail", "alerts": [{**told, "starts_at": "2026-05-04T12:00:01"}]}
    signal = SignalRow(
        run_id=UUID(int=1), seq=1, kind="alert", payload=payload, event_id=None, at=BEGAN
    )
    target = Target(
        service="mail",
        environment="prod",
        namespace="prod",
        workload=Workload(deployment="mail", container="mail"),
        replicas=1,
    )
    (found,) = alerts_since([signal], target, BEGAN)
    assert (found.name, found.since) == ("Slow", BEGAN.replace(second=1))
