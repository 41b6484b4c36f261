"""What a Deployment's status says of its progress, as a pure function."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tools.cluster_read import stalled_reason

WRITTEN = datetime(2026, 3, 4, 10, 0, 30, tzinfo=UTC)
"""When its template got another image. The deadline is 10 seconds."""


def deployment(*, said: datetime, written: datetime | None = WRITTEN) -> dict[str, Any]:
    """One whose controller said at a moment that the deadline is over."""
    condition = {
        "type": "Progressing",
        "status": "False",
        "reason": "ProgressDeadlineExceeded",
        "lastUpdateTime": shown(said),
        "message": 'ReplicaSet "web-1" has timed out progressing.',
    }
    ours = {"manager": "fermata", "time": shown(written or said), "fieldsV1": {"f:spec": {}}}
    status = {"manager": "controller", "subresource": "status", "time": shown(said + LATER)}
    return {
        "metadata": {"managedFields": [ours, status | {"fieldsV1": {"f:status": {}}}]}
        if written
        else {},
        "spec": {"progressDeadlineSeconds": 10},
        "status": {"conditions": [condition]},
    }


LATER = timedelta(minutes=1)


def shown(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize("before", [0, 1, 3600])
def test_a_stall_of_the_last_template_is_none_of_the_new_one(before: int) -> None:
    seen = deployment(said=WRITTEN - timedelta(seconds=before))
    assert stalled_reason(seen, WRITTEN + timedelta(seconds=2)) == ""


def test_a_new_template_that_gets_nowhere_by_its_deadline_is_stalled() -> None:
    # Without any progress the controller never writes the condition anew.
    seen = deployment(said=WRITTEN - timedelta(seconds=5))
    assert "timed out progressing" in stalled_reason(seen, WRITTEN + timedelta(seconds=10))


def test_what_was_said_of_the_new_template_counts_at_once() -> None:
    seen = deployment(said=WRITTEN + timedelta(seconds=10))
    assert "timed out progressing" in stalled_reason(seen, WRITTEN + timedelta(seconds=10))


def test_without_an_account_of_who_wrote_what_the_condition_counts() -> None:
    seen = deployment(said=WRITTEN, written=None)
    assert "timed out progressing" in stalled_reason(seen, WRITTEN)
