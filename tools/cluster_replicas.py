"""Replica weighting: how traffic is split where there is no route, as pure functions.

One Service, `<deployment>`, carries the traffic and spreads it evenly over the pods it selects.
Its selector is the switch: at weight 0 it selects stable's pods alone, at 100 the canary's alone,
between them it selects both (`app` without the track), and the numbers of pods are the weight.
"""

from __future__ import annotations

from domain.errors import Permanent
from domain.service import Target
from tools.cluster_errors import Json
from tools.cluster_objects import TRACK, selector_of, service_selects, track_labels


def sizes(full: int, weight: int) -> tuple[int, int]:
    """(stable pods, canary pods) for a canary weight of 1 to 100 percent.

    The larger side has `full` pods, so capacity never falls below that of stable alone, and never
    needs more than twice as many. The smaller side is rounded so that the canary's share is not
    above `weight`, except that a track which is to serve has at least one pod: with 3 pods the
    least share is 25%. At 100 stable keeps all its pods, without traffic, for a quick way back.
    """
    if weight >= 100:
        return full, full
    if weight <= 50:
        return full, max(1, full * weight // (100 - weight))
    return max(1, -(-full * (100 - weight) // weight)), full


def with_selector(service: Json, stable: Json, target: Target, weight: int) -> Json:
    """A copy of the Service that selects the tracks which serve at this weight.

    Raises Permanent when stable's pods do not carry the track label: then the Service could not
    tell both apart.
    """
    pods = stable["spec"]["template"]["metadata"].get("labels") or {}
    if pods.get(TRACK) != "stable":
        raise Permanent(
            f"pods of Deployment {target.namespace}/{target.workload.deployment} do not carry the "
            f"label {TRACK}=stable, so its Service cannot keep the canary apart",
            f"add {TRACK}=stable to the Deployment's selector and pod template",
        )
    track = "canary" if weight >= 100 else "stable"
    selector = selector_of(target, track_labels(target, stable, track))
    if 0 < weight < 100:
        del selector[TRACK]
    # Further labels that its owner selects by, and that both tracks share, stay.
    before = service["spec"].get("selector") or {}
    kept = {key: value for key, value in before.items() if key != TRACK and pods.get(key) == value}
    return {**service, "spec": {**service["spec"], "selector": {**kept, **selector}}}


def is_exposed(service: Json | None, stable: Json, canary: Json | None, target: Target) -> bool:
    """Whether the Service sends any traffic to the canary as it is."""
    if service is None or canary is None or not canary["spec"].get("replicas"):
        return False
    return service_selects(service, track_labels(target, stable, "canary"))
