"""Blast radius: what a new version did to users while it was watched."""

from __future__ import annotations

from datetime import datetime

from domain.event import Frozen


class Impact(Frozen):
    """Requests that a version served in the windows that were judged, and how many went wrong.

    Only what the checks measured counts: seconds between two checks are not in it. `expected` is
    how many would have gone wrong at the rate of stable in the same windows (None: nothing to
    compare with), `share` the part of all requests that the version served (0 to 1).
    """

    key: str
    """Target, as `service/environment`."""
    metric: str
    version: str
    baseline: str | None
    since: datetime
    until: datetime
    requests: float
    bad: float
    expected: float | None
    share: float | None

    @property
    def caused(self) -> float | None:
        """Bad events beyond what stable's rate explains; never below zero."""
        return None if self.expected is None else max(0.0, self.bad - self.expected)
