"""Break-glass overrides: which of those on record count, and why the others do not."""

from __future__ import annotations

from typing import NamedTuple

from policy.facts import OverrideFact
from policy.finding import Case
from policy.votes import is_bot


class Judged(NamedTuple):
    """An override in words. `refusal` says why it does not count; '' when it does."""

    who: str
    words: str = ""
    """What it says, when it counts."""
    refusal: str = ""


def judged_overrides(case: Case) -> tuple[Judged, ...]:
    """Every override on record, judged at the case's time; where the risk wants a second person,
    one alone does not count."""
    found = tuple([_judged(case, one) for one in case.facts.overrides])
    people = {one.who.casefold() for one in found if not one.refusal}
    if len(people) != 1 or case.risk not in case.rules.overrides.second_person:
        return found
    alone = (
        f"At risk {case.risk.value} two people have to override; only {{}} has, and a second "
        "`/override <reason>` is missing."
    )
    return tuple(
        one if one.refusal else Judged(one.who, refusal=alone.format(one.who)) for one in found
    )


def _judged(case: Case, override: OverrideFact) -> Judged:
    rules = case.rules.overrides
    until = min(override.expires_at, override.at + rules.max_duration)
    who, reason = override.principal, override.reason.strip()
    refusal = ""
    if is_bot(who):
        refusal = f"{who} is a bot, so its override does not count."
    elif not set(override.roles) & set(rules.roles):
        refusal = f"{who} overrode it without a role that may ({' or '.join(rules.roles)})."
    elif len(reason) < rules.min_reason:
        refusal = (
            f"The override by {who} gives a reason of {len(reason)} letters; "
            f"it takes {rules.min_reason}."
        )
    elif override.at > case.now:
        refusal = f"The override by {who} begins only at {override.at:%Y-%m-%d %H:%M} UTC."
    elif until <= case.now:
        refusal = f"The override by {who} ended at {until:%Y-%m-%d %H:%M} UTC."
    if refusal:
        return Judged(who, refusal=refusal)
    return Judged(who, f"{who} overrode it until {until:%Y-%m-%d %H:%M} UTC: {reason}.")
