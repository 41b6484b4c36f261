"""What went wrong here before: versions in quarantine, and places that flap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from domain.action import K8sDeploy
from policy.facts import ReleaseFact
from policy.families.overrides import judged_overrides
from policy.finding import Case, Finding, allow, ask, deny


def findings(case: Case) -> Iterable[Finding]:
    """Only about what begins: a change in flight has been let in already."""
    action, history = case.facts.step.action, case.facts.history
    if not isinstance(action, K8sDeploy) or case.facts.in_flight:
        return ()
    if history is None:
        return (_unknown(case),)
    if not history:
        return ()
    return (*_quarantine(case, action.image, history), *_flapping(case, history))


def _unknown(case: Case) -> Finding:
    return ask(
        "autonomy.unknown",
        f"It could not be read what happened in {case.place} before.",
        "Look at the releases of the service, then approve; or `/retry` later.",
    )


def _quarantine(case: Case, image: str, history: tuple[ReleaseFact, ...]) -> Iterator[Finding]:
    rules = case.rules.autonomy
    failed = [one for one in _bad_since(case, history, rules.quarantine_within)
              if one.image == image]  # fmt: skip
    if len(failed) < rules.quarantine_after:
        return
    valid = next((one for one in judged_overrides(case) if not one.refusal), None)
    said = f"{image} failed {len(failed)} times in {case.place}, last at {_told(failed)} UTC"
    if valid is not None:
        yield allow("override.accepted", f"{valid.words} It lifts the quarantine: {said}.")
        return
    yield deny(
        "autonomy.quarantined",
        f"{said}; it is in quarantine ({failed[0].reason[:200]}).",
        "Fix it and release a new version, or "
        f"`/override <reason>` by {' or '.join(case.rules.overrides.roles)} to try it once more.",
    )


def _flapping(case: Case, history: tuple[ReleaseFact, ...]) -> Iterator[Finding]:
    rules = case.rules.autonomy
    bad = _bad_since(case, history, rules.flapping_within)
    if len(bad) < rules.flapping_rollbacks:
        return
    hours = rules.flapping_within / timedelta(hours=1)
    said = f"{case.place} was rolled back {len(bad)} times within {hours:g} h, last at {_told(bad)}"
    reason = f"{said} UTC: more than versions may be wrong there."
    remedy = "Find out what is wrong first; then `/approve`, or `/retry` when it has calmed down."
    if rules.flapping_then == "deny":
        yield deny("autonomy.flapping", reason, remedy)
    else:
        yield ask("autonomy.flapping", reason, remedy)


def _bad_since(
    case: Case, history: tuple[ReleaseFact, ...], within: timedelta
) -> list[ReleaseFact]:
    """Failures of the last while, newest first."""
    bad = [one for one in history if one.status == "bad" and case.now - within < one.at <= case.now]
    return sorted(bad, key=lambda one: one.at, reverse=True)


def _told(failed: list[ReleaseFact]) -> str:
    return f"{failed[0].at:%Y-%m-%d %H:%M}"
