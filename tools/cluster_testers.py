"""Testers: requests that ask for the new version by a header or a cookie, whatever its weight.

For each rule of the HTTPRoute that has both backends, a rule of ours is put before all others: the
same paths, the wanted headers on top, the canary as its only backend. Which rules are ours stands
in an annotation, so that nobody else's is ever taken away. Pure functions on the route's JSON.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy

from domain.service import Target
from domain.strategy import TrafficMatch
from tools.cluster_errors import Json
from tools.cluster_objects import canary_name, notes_of
from tools.cluster_route import has_pair

TESTERS = "fermata.dev/testers"
COPIED = ("filters", "timeouts", "retry", "sessionPersistence")
"""What a rule of ours takes over from the rule that it stands before."""


def with_testers(route: Json, target: Target, match: TrafficMatch | None) -> Json:
    """A copy whose rules of ours are exactly those for `match`; none with None."""
    changed = deepcopy(route)
    before = set(json.loads(notes_of(route).get(TESTERS) or "[]"))
    kept = [one for one in changed["spec"].get("rules") or () if _mark(one) not in before]
    made = [] if match is None else [_rule(one, target, match) for one in kept
                                     if has_pair(one, target)]  # fmt: skip
    marks = sorted(_mark(one) for one in made)
    if not marks and not before:
        return changed
    changed["spec"]["rules"] = [*made, *kept]
    notes = {**notes_of(changed), TESTERS: json.dumps(marks)}
    changed["metadata"] = {**changed["metadata"], "annotations": notes}
    return changed


def tester_marks(route: Json) -> list[str]:
    """The marks of the rules of ours that the route has."""
    ours = set(json.loads(notes_of(route).get(TESTERS) or "[]"))
    return sorted(mark for one in route["spec"].get("rules") or () if (mark := _mark(one)) in ours)


def _rule(pair: Json, target: Target, match: TrafficMatch) -> Json:
    """The rule that takes testers' requests out of those that a rule with both backends gets."""
    wanted = _headers(match)
    names = {one["name"].lower() for one in wanted}
    matches = []
    for one in pair.get("matches") or [{}]:
        others = [h for h in one.get("headers") or () if h["name"].lower() not in names]
        path = one.get("path") or {"type": "PathPrefix", "value": "/"}
        matches.append({**one, "path": path, "headers": [*others, *wanted]})
    canary = next(ref for ref in pair["backendRefs"] if ref.get("name") == canary_name(target))
    copied = {key: deepcopy(pair[key]) for key in COPIED if key in pair}
    return {**copied, "matches": matches, "backendRefs": [{**canary, "weight": 1}]}


def _headers(match: TrafficMatch) -> list[Json]:
    headers = [{"type": "Exact", "name": name, "value": value} for name, value in match.headers]
    if match.cookie is not None:
        # The header holds all cookies. Gateways match with RE2, which knows no look-ahead.
        name, value = (re.escape(one) for one in match.cookie)
        pattern = rf"^(.*;\s*)?{name}={value}(;.*)?$"
        headers.append({"type": "RegularExpression", "name": "Cookie", "value": pattern})
    return headers


def _mark(rule: Json) -> str:
    """What tells a rule from others, the same before and after a server filled defaults in."""
    matches = [
        {
            "path": [(one.get("path") or {}).get("type", "PathPrefix"),
                     (one.get("path") or {}).get("value", "/")],
            "method": one.get("method", ""),
            "headers": sorted(
                [h["name"].lower(), h.get("type", "Exact"), h["value"]]
                for h in one.get("headers") or ()
            ),
            "query": sorted([q["name"], q["value"]] for q in one.get("queryParams") or ()),
        }
        for one in rule.get("matches") or [{}]
    ]  # fmt: skip
    backends = sorted(str(one.get("name")) for one in rule.get("backendRefs") or ())
    return json.dumps([matches, backends], sort_keys=True)
