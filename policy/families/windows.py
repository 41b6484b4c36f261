"""Change windows, and the overrides that lift them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from policy.families.overrides import Judged, judged_overrides
from policy.finding import Case, Finding, allow, deny, wait
from policy.rules import Rules, WindowRules
from policy.schedule import SEARCH_DAYS, Standing, standing, told

WHOLE_MINUTES_SINCE = datetime(1973, 1, 1, tzinfo=UTC).timestamp()
"""Before, some zones were off from UTC by seconds as well."""


def findings(case: Case) -> tuple[Finding, ...]:
    """Closed windows. What has begun finishes, unless `releases.in_flight_window` holds it."""
    rules, facts = case.rules.windows, case.facts
    if facts.environment is None or (
        (facts.in_flight or facts.group_begun) and rules.in_flight == "finish"
    ):
        return ()
    closed = _standing(case.rules, facts.environment, facts.service or "", case.now)
    if closed is None:
        return ()
    overrides = judged_overrides(case)
    valid = [one.words for one in overrides if not one.refusal]
    if valid:
        said = " ".join(dict.fromkeys(valid))
        return (allow("override.accepted", f"{said} It lifts {closed.window}: {closed.why}."),)
    return (_closed(case, closed, overrides),)


def opening(rules: Rules, environment: str, service: str, now: datetime) -> str | None:
    """When changes of a service may begin next, in words; None when they may now."""
    closed = _standing(rules, environment, service, now)
    if closed is None:
        return None
    if closed.opens is None:
        return f"not within {SEARCH_DAYS} days"
    return told(closed.opens, closed.zone)


def _standing(rules: Rules, environment: str, service: str, now: datetime) -> Standing | None:
    """Windows are about what clocks show to the minute, so a minute has one answer.

    Minutes are counted in UTC: in other zones an hour that comes twice is equal to itself.
    """
    seconds = now.timestamp()
    if seconds < WHOLE_MINUTES_SINCE:
        return _at(rules.windows, environment, service, now)
    return _at_minute(rules.windows, environment, service, int(seconds) // 60)


@lru_cache(maxsize=1024)
def _at_minute(
    windows: WindowRules, environment: str, service: str, minute: int
) -> Standing | None:
    return _at(windows, environment, service, datetime.fromtimestamp(minute * 60, UTC))


def _at(windows: WindowRules, environment: str, service: str, at: datetime) -> Standing | None:
    return standing(
        [one for one in windows.deny if one.applies(environment, service)],
        [one for one in windows.allow if one.applies(environment, service)],
        at,
    )


def _closed(case: Case, closed: Standing, overrides: tuple[Judged, ...]) -> Finding:
    reason = f"{case.place} is closed by {closed.window}: {closed.why}."
    roles = " or ".join(case.rules.overrides.roles)
    override = f"`/override <reason>` by {roles} lifts it."
    for one in overrides:
        reason += f" {one.refusal}"
    if closed.opens is None:
        return deny(
            "windows.closed",
            f"{reason} It does not open within {SEARCH_DAYS} days.",
            f"Change the windows of the policy, or {override}",
        )
    opens = told(closed.opens, closed.zone)
    reason += f" It opens {opens}."
    # A denial in flight would take back what the window only wants to pause.
    if case.rules.windows.when_closed == "wait" or case.facts.in_flight:
        return wait(
            "windows.closed",
            reason,
            f"It goes on by itself {opens}; {override}",
            closed.opens.astimezone(UTC),
        )
    return deny("windows.closed", reason, f"`/retry` from {opens} on; {override}")
