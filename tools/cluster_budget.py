"""PodDisruptionBudgets, asked before pods are taken away.

Kubernetes asks them for evictions alone: a Deployment that is made smaller deletes its pods
whatever a budget says. So it is asked here, for the pods that would be left.
"""

from __future__ import annotations

import math

from domain.errors import Temporary
from domain.service import Target
from tools.cluster_client import DEPLOYMENT, PDB, POD, ClusterClient
from tools.cluster_errors import Json
from tools.cluster_objects import canary_name, labels_of, replicas, selects

WAIT_SECONDS = 10.0
MOST_TRIES = 6
"""How often a budget is waited for, ten seconds apart."""


async def budgets_over(client: ClusterClient, deployment: Json) -> list[Json]:
    """The budgets that select a Deployment's pods. Raises Permanent when they may not be read."""
    pods = deployment["spec"]["template"]["metadata"].get("labels") or {}
    found = await client.items(PDB, deployment["metadata"]["namespace"])
    # An empty selector of a budget selects every pod of the namespace, one that is absent none.
    return [one for one in found if _has_selector(one) and selects(one["spec"]["selector"], pods)]


async def why_kept(client: ClusterClient, target: Target, deployment: Json, count: int) -> str:
    """Which budget forbids it to leave the Deployment `count` pods, in words; '' for none."""
    if count >= replicas(deployment):
        return ""
    budgets = await budgets_over(client, deployment)
    if not budgets:
        return ""
    ours = await _own_sizes(client, target, deployment, count)
    for budget in budgets:
        selector = budget["spec"]["selector"]
        pods = await client.items(POD, target.namespace, _query(selector))
        matched = [one for one in pods if selects(selector, labels_of(one)) and not _goes(one)]
        others = [one for one in matched if not any(_is_of(one, each) for each, _ in ours)]
        expected, healthy = len(others), sum(map(_is_ready, others))
        for one, size in ours:
            if not selects(selector, one["spec"]["template"]["metadata"].get("labels") or {}):
                continue
            ready = sum(1 for pod in matched if _is_of(pod, one) and _is_ready(pod))
            expected += size
            healthy += min(ready, size)
        wanted = needed(budget["spec"], expected)
        if healthy < wanted:
            return (
                f"PodDisruptionBudget {target.namespace}/{budget['metadata']['name']} wants "
                f"{wanted} ready pod(s), and {healthy} would be left"
            )
    return ""


async def check_budgets(
    client: ClusterClient, target: Target, deployment: Json, count: int
) -> None:
    """Raises Temporary, with the budget's name, while the pods have to stay."""
    if why := await why_kept(client, target, deployment, count):
        name = deployment["metadata"]["name"]
        raise Temporary(
            f"Deployment {target.namespace}/{name} is not made smaller: {why}",
            WAIT_SECONDS,
            most_tries=MOST_TRIES,
        )


def needed(spec: Json, expected: int) -> int:
    """Ready pods that a budget wants out of those expected; percentages as its controller rounds.

    `expected` counts the pods that are wanted after the change: what is taken away on purpose is
    not a disruption, so `maxUnavailable` is a share of what is to remain.
    """
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None:
        return _part(least, expected)
    if most is not None:
        return max(0, expected - _part(most, expected))
    return 0


def _part(value: int | str, whole: int) -> int:
    if isinstance(value, str) and value.endswith("%"):
        return math.ceil(int(value[:-1]) * whole / 100)
    return int(value)


async def _own_sizes(
    client: ClusterClient, target: Target, deployment: Json, count: int
) -> list[tuple[Json, int]]:
    """Both tracks with the pods they are to have, once this Deployment has `count`."""
    sizes = [(deployment, count)]
    for name in (target.workload.deployment, canary_name(target)):
        if name != deployment["metadata"]["name"]:
            other = await client.get(DEPLOYMENT, target.namespace, name)
            if other is not None:
                sizes.append((other, replicas(other)))
    return sizes


def _query(selector: Json) -> str:
    """The labels that a selector names, for the server; expressions are looked at afterwards."""
    return ",".join(f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items())


def _has_selector(budget: Json) -> bool:
    return budget["spec"].get("selector") is not None


def _is_of(pod: Json, deployment: Json) -> bool:
    return selects(deployment["spec"]["selector"], labels_of(pod))


def _goes(pod: Json) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return bool(pod["metadata"].get("deletionTimestamp")) or phase in ("Succeeded", "Failed")


def _is_ready(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
