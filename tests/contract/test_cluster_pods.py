"""Pods: what would leave too few of them waits, traffic never does, and why they are not ready."""

from __future__ import annotations

from typing import Any

import pytest

from domain.action import K8sRetire, K8sRollback
from domain.errors import Permanent, Temporary
from tests.contract.cluster_bench import BROKEN, V1, V2, Bench, canary_ready, stable_ready, web_in

pytest_plugins = ("tests.contract.cluster_fixtures",)

BOTH = {"matchLabels": {"app": "web"}}
STABLE = {"matchLabels": {"app": "web", "fermata.dev/track": "stable"}}
CANARY = {
    "matchExpressions": [{"key": "fermata.dev/track", "operator": "In", "values": ["canary"]}]
}


async def budget(bench: Bench, selector: dict[str, Any], **spec: int | str) -> None:
    """A budget called `web`."""
    body = {"metadata": {"name": "web"}, "spec": {"selector": selector, **spec}}
    await bench.site.create("poddisruptionbudgets", bench.where, body)


async def replicas(bench: Bench, name: str) -> int:
    found = await bench.site.get("deployments", bench.where, name)
    return int(found["spec"]["replicas"])


async def test_a_canary_is_retired_once_stable_has_what_the_budget_wants(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2)
    await budget(bench, BOTH, minAvailable=2)
    small = {"spec": {"replicas": 1}}
    await bench.site.merge("deployments", bench.where, "web", small)
    await bench.until(lambda now: stable_ready(now) and now.stable.total == 1)  # type: ignore[union-attr]
    with pytest.raises(Temporary, match=r"PodDisruptionBudget \S+/web wants 2") as kept:
        await bench.apply(K8sRetire(target=bench.target))
    assert "1 would be left" in str(kept.value)
    assert kept.value.most_tries is not None
    assert await replicas(bench, "web-canary") == 1
    await bench.apply(K8sRollback(target=bench.target, image=V1))
    await bench.until(lambda now: stable_ready(now) and now.stable.total == 2)  # type: ignore[union-attr]
    await bench.apply(K8sRetire(target=bench.target))
    assert await replicas(bench, "web-canary") == 0


async def test_a_budget_counts_however_many_there_are(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.cluster_client.PAGE", 1)
    await bench.installed()
    await bench.canaried(V2)
    other = {"metadata": {"name": "another"}, "spec": {"selector": {"matchLabels": {"app": "x"}}}}
    await bench.site.create("poddisruptionbudgets", bench.where, other)
    await budget(bench, CANARY, minAvailable=1)
    with pytest.raises(Temporary, match=r"PodDisruptionBudget \S+/web wants 1"):
        await bench.apply(K8sRetire(target=bench.target))


async def test_percentages_are_of_what_is_to_remain(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2)
    await budget(bench, BOTH, maxUnavailable="50%")
    # Two of three remain, and none of those may be missing more than a half.
    await bench.apply(K8sRetire(target=bench.target))
    assert await replicas(bench, "web-canary") == 0


async def test_a_budget_of_the_canary_alone_keeps_its_pods_and_says_so(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2)
    await budget(bench, CANARY, minAvailable=1)
    with pytest.raises(Temporary, match="wants 1 ready pod"):
        await bench.apply(K8sRetire(target=bench.target))


async def test_a_budget_of_other_pods_keeps_nothing(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2)
    await budget(bench, {"matchLabels": {"app": "other"}}, minAvailable=5)
    await bench.apply(K8sRetire(target=bench.target))
    assert await replicas(bench, "web-canary") == 0


async def test_what_keeps_pods_from_being_ready_is_told_before_the_deadline(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2)
    nowhere = {"spec": {"template": {"spec": {"nodeSelector": {"there-is": "no-such-node"}}}}}
    if bench.site.name == "emulator":
        await bench.apply(bench.canary(BROKEN))
    else:
        await bench.site.merge("deployments", bench.where, "web-canary", nowhere)
    state = await bench.until(lambda now: now.canary is not None and bool(now.canary.why))
    assert state.canary is not None
    assert state.canary.why.startswith("pod web-canary-")
    assert not state.canary.stalled
    assert not state.canary.ready


async def test_where_pods_are_the_weight_traffic_goes_back_and_pods_that_are_wanted_stay(
    bench: Bench,
) -> None:
    bench.target = web_in(bench.where, route=None, replicas=4)
    await bench.installed()
    await bench.canaried(V2, 75)
    await budget(bench, STABLE, minAvailable=3)
    with pytest.raises(Temporary, match="web is not made smaller: PodDisruptionBudget"):
        await bench.apply(bench.traffic(75))
    assert await replicas(bench, "web") == 4
    await bench.site.merge(
        "poddisruptionbudgets",
        bench.where,
        "web",
        {"spec": {"selector": {**CANARY, "matchLabels": None}}},
    )
    await bench.until(canary_ready)
    done = await bench.apply(bench.traffic(0))
    assert "its pods stay for now: PodDisruptionBudget" in done.summary
    service = await bench.site.get("services", bench.where, "web")
    assert service["spec"]["selector"]["fermata.dev/track"] == "stable"
    assert await replicas(bench, "web-canary") > 0


async def test_stable_that_was_scaled_to_nothing_has_its_pods_before_it_takes_over(
    bench: Bench,
) -> None:
    await bench.installed()
    await bench.canaried(V2, 100)
    await bench.site.merge("deployments", bench.where, "web", {"spec": {"replicas": 0}})
    await bench.apply(bench.stable(V2))
    assert await replicas(bench, "web") == bench.target.replicas
    # Without a canary nobody waits for it: zero is what somebody wants.
    await bench.apply(K8sRetire(target=bench.target))
    await bench.site.merge("deployments", bench.where, "web", {"spec": {"replicas": 0}})
    await bench.apply(bench.stable(V1))
    assert await replicas(bench, "web") == 0


async def test_stable_that_is_gone_beside_its_canary_is_not_installed_anew(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2, 100)
    gone = await bench.site.http.delete(bench.site.path("deployments", bench.where, "web"))
    assert gone.status_code == 200
    with pytest.raises(Permanent, match="is gone while its canary has pods"):
        await bench.apply(bench.stable(V2))
    assert not await bench.site.exists("deployments", bench.where, "web")
