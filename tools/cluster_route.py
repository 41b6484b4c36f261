"""An HTTPRoute's weights and what its gateways say of it, as pure functions on its JSON.

The Gateway API: a weight is a share of the sum over a rule's backendRefs, 1 when it is not given,
0 for no traffic. `rules` and `backendRefs` are atomic lists: whoever writes one writes all of it.
"""

from __future__ import annotations

from copy import deepcopy

from domain.errors import Permanent
from domain.service import Target
from domain.workload import RouteState
from tools.cluster_errors import Json
from tools.cluster_objects import SERVICE_PORT, canary_name, is_owned

WANTED_CONDITIONS = ("Accepted", "ResolvedRefs")


def route_spec(target: Target, gateway: str, hostname: str) -> Json:
    """A route for a first install: one gateway (`name` or `namespace/name`), one host name (so
    that services cannot take one another's traffic on it), all traffic to stable."""
    namespace, _, name = gateway.rpartition("/")
    parent = {"name": name} | ({"namespace": namespace} if namespace else {})
    stable, canary = target.workload.deployment, canary_name(target)
    return {
        "parentRefs": [parent],
        "hostnames": [hostname],
        "rules": [
            {
                "backendRefs": [
                    {"name": stable, "port": SERVICE_PORT, "weight": 100},
                    {"name": canary, "port": SERVICE_PORT, "weight": 0},
                ]
            }
        ],
    }


def route_state(route: Json, target: Target, *, needs_status: bool) -> RouteState:
    """The canary's weight in percent, and whether every gateway has taken this generation over.

    Where rules disagree, or a rule outside of our pair sends ordinary traffic to the canary, the
    largest weight counts and the route is not accepted. With `needs_status` False a route without
    any parent status counts as accepted: for clusters whose gateway writes none.
    """
    weights = canary_weights(route, target)
    reason = _not_accepted(route, needs_status)
    accepted = not reason
    if not weights:
        # Somebody may have taken the canary out: nothing is sent there, which is a weight of 0.
        both = f"{target.workload.deployment} and {canary_name(target)}"
        reason = f"no rule has both {both}" + (f"; {reason}" if reason else "")
    elif len(set(weights)) > 1:
        reason = f"its rules give the canary different weights: {sorted(set(weights))}"
        accepted = False
    return RouteState(
        canary_weight=max(weights, default=0),
        accepted=accepted,
        reason=reason,
        owned=is_owned(route),
    )


def canary_weights(route: Json, target: Target) -> list[int]:
    """The canary's share in percent, for each rule that decides on ordinary traffic.

    A share above zero is never rounded to zero.
    """
    found = []
    for rule in route["spec"].get("rules") or ():
        refs = rule.get("backendRefs") or []
        canary = sum(_weight(ref) for ref in refs if _is(ref, canary_name(target), target))
        has_stable = any(_is(ref, target.workload.deployment, target) for ref in refs)
        has_canary = any(_is(ref, canary_name(target), target) for ref in refs)
        if has_canary and (has_stable or not _is_for_testers(rule)):
            whole = sum(_weight(ref) for ref in refs)
            share = 100 * canary / whole if whole else 0.0
            found.append(max(1, round(share)) if canary else 0)
    return found


def has_pair(rule: Json, target: Target) -> bool:
    """Whether a rule splits traffic between both of the target's backends."""
    refs = rule.get("backendRefs") or []
    names = (target.workload.deployment, canary_name(target))
    return all(any(_is(ref, name, target) for ref in refs) for name in names)


def with_weight(route: Json, target: Target, weight: int) -> Json:
    """A copy in which each rule that has both backends gives the canary `weight` percent.

    Only these two weights change; other rules, filters, matches and unknown fields stay. Raises
    Permanent when there is no such rule, or when a third backend in one would make the percentage
    wrong. Taking all traffic away (weight 0) is possible in every case.
    """
    changed = deepcopy(route)
    name = route["metadata"]["name"]
    stable, canary = target.workload.deployment, canary_name(target)
    has_pair = False
    for rule in changed["spec"].get("rules") or ():
        refs = rule.get("backendRefs") or []
        ours = [ref for ref in refs if _is(ref, stable, target)]
        theirs = [ref for ref in refs if _is(ref, canary, target)]
        if not ours or not theirs:
            continue
        has_pair = True
        if len(refs) == 2:
            ours[0]["weight"], theirs[0]["weight"] = 100 - weight, weight
        elif weight == 0:
            ours[0]["weight"] = sum(map(_weight, [ours[0], *theirs]))
            for ref in theirs:
                ref["weight"] = 0
        else:
            raise Permanent(
                f"HTTPRoute {target.namespace}/{name} has a rule with more backends than {stable} "
                f"and {canary}, where a weight is not a percentage",
                "move the other backends into a rule of their own",
            )
    if not has_pair and weight > 0:
        raise Permanent(
            f"HTTPRoute {target.namespace}/{name} has no rule with both {stable} and {canary}",
            f"add a backendRef {canary} with weight 0 beside {stable} in each rule that is to be "
            "canaried",
        )
    return changed


def _weight(ref: Json) -> int:
    given = ref.get("weight")
    return 1 if given is None else int(given)


def _is(ref: Json, name: str, target: Target) -> bool:
    """Whether a backendRef is the Service of that name in the target's namespace."""
    return (
        ref.get("name") == name
        and ref.get("kind", "Service") == "Service"
        and ref.get("group", "") == ""
        and ref.get("namespace", target.namespace) == target.namespace
    )


def _is_for_testers(rule: Json) -> bool:
    """Whether a rule takes only requests that ask for it, by a header or a query parameter."""
    matches = rule.get("matches") or []
    return bool(matches) and all(one.get("headers") or one.get("queryParams") for one in matches)


def _not_accepted(route: Json, needs_status: bool) -> str:
    """Why a gateway has not taken the route over at its present generation; '' when all have."""
    parents = (route.get("status") or {}).get("parents") or []
    wanted = route["spec"].get("parentRefs") or []
    if not parents and not needs_status:
        return ""
    if not wanted:
        return "it names no gateway (spec.parentRefs)"
    for ref in wanted:
        reports = [one for one in parents if _same(one["parentRef"], ref, route)]
        if not reports:
            return f"gateway {ref['name']} has not reported on it"
        for report in reports:
            if reason := _lacking(report, route["metadata"].get("generation")):
                return f"gateway {ref['name']}: {reason}"
    return ""


def _lacking(report: Json, generation: int | None) -> str:
    conditions = {one["type"]: one for one in report.get("conditions") or ()}
    for kind in WANTED_CONDITIONS:
        condition = conditions.get(kind)
        if condition is None:
            return f"{kind} is not reported"
        if condition.get("observedGeneration") != generation:
            seen = condition.get("observedGeneration")
            return f"{kind} is of generation {seen}, the route is at {generation}"
        if condition["status"] != "True":
            return f"{kind} is {condition['status']}: {_worded(condition)}".rstrip(": ")
    return ""


def _worded(condition: Json) -> str:
    """What a controller gives as its reason: `NotAllowedByListeners (its message)`."""
    reason, message = condition.get("reason") or "", condition.get("message") or ""
    text = " ".join(message.split())[:200]
    return f"{reason} ({text})" if reason and text else reason or text


def _same(one: Json, other: Json, route: Json) -> bool:
    """Whether two parentRefs mean the same listener, defaults filled in."""
    home = route["metadata"]["namespace"]

    def key(ref: Json) -> tuple[object, ...]:
        return (
            ref.get("group", "gateway.networking.k8s.io"),
            ref.get("kind", "Gateway"),
            ref.get("namespace") or home,
            ref["name"],
            ref.get("sectionName"),
            ref.get("port"),
        )

    return key(one) == key(other)
