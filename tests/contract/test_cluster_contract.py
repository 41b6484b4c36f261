"""What the cluster adapter promises, on the emulator and on a real API server.

Every test takes a namespace of its own. Nothing here looks at the adapter's inside: what it did is
read from the server directly.
"""

from __future__ import annotations

import asyncio

import pytest

from domain.action import Action, K8sRetire, K8sRollback, K8sTraffic
from domain.errors import Permanent, Temporary
from domain.strategy import TrafficMatch
from domain.workload import WorkloadState
from tests.contract.cluster_bench import (
    BROKEN,
    V1,
    V2,
    V3,
    Bench,
    canary_ready,
    stable_ready,
    web_in,
    weights,
)
from tests.contract.cluster_site import Obj
from tools.cluster_read import KubernetesReader

pytest_plugins = ("tests.contract.cluster_fixtures",)

# --- first install ---


async def test_nothing_there_reads_as_nothing(bench: Bench) -> None:
    assert await bench.seen() == WorkloadState(stable=None, canary=None, route=None)


async def test_a_first_install_makes_everything_and_becomes_ready(bench: Bench) -> None:
    done = await bench.apply(bench.stable(V1))
    assert done.data["made"] == [
        "Service web",
        "Service web-canary",
        "HTTPRoute web",
        "Deployment web",
    ]
    await bench.until(stable_ready)
    await bench.site.report(bench.where, "web")
    state = await bench.until(lambda now: now.route is not None and now.route.accepted)
    assert state.stable is not None
    assert (state.stable.image, state.stable.desired, state.stable.owned) == (V1, 2, True)
    assert state.canary is None
    assert state.route is not None
    assert (state.route.canary_weight, state.route.owned) == (0, True)
    stable = await bench.site.get("services", bench.where, "web")
    canary = await bench.site.get("services", bench.where, "web-canary")
    assert stable["spec"]["selector"] == {"app": "web", "fermata.dev/track": "stable"}
    assert canary["spec"]["selector"] == {"app": "web", "fermata.dev/track": "canary"}
    assert done.simulated is (bench.site.name == "emulator")


async def test_a_first_install_that_was_broken_off_goes_on_where_it_stopped(bench: Bench) -> None:
    bench.fault("/httproutes", "POST", status=403)
    with pytest.raises(Permanent):
        await bench.apply(bench.stable(V1))
    assert not await bench.site.exists("deployments", bench.where, "web")
    done = await bench.apply(bench.stable(V1))
    assert done.data["made"] == ["HTTPRoute web", "Deployment web"]


async def test_a_first_install_leaves_replicas_to_an_autoscaler(bench: Bench) -> None:
    scaler = {
        "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 1,
            "maxReplicas": 5,
        },
    }
    await bench.site.create("horizontalpodautoscalers", bench.where, scaler)
    await bench.apply(bench.stable(V1))
    made = await bench.site.get("deployments", bench.where, "web")
    assert made["spec"]["replicas"] == 1  # the API's default; the catalogue says 2
    await bench.site.merge("deployments", bench.where, "web", {"spec": {"replicas": 4}})
    await bench.apply(bench.stable(V2))
    await bench.apply(K8sRollback(target=bench.target, image=V1))
    assert (await bench.site.get("deployments", bench.where, "web"))["spec"]["replicas"] == 4


async def test_a_missing_namespace_is_named_with_its_remedy(bench: Bench) -> None:
    bench.target = web_in("nowhere-at-all")
    with pytest.raises(Permanent, match="nowhere-at-all") as refused:
        await bench.apply(bench.stable(V1))
    assert "kubectl create namespace nowhere-at-all" in refused.value.remedy


# --- canary ---


async def test_a_canary_differs_from_stable_in_image_track_and_size_only(bench: Bench) -> None:
    await bench.installed()
    template = {"spec": {"containers": [{"name": "app", "env": [{"name": "MODE", "value": "x"}]}]}}
    answer = await bench.site.http.patch(
        bench.site.path("deployments", bench.where, "web"),
        json={"spec": {"template": template}},
        headers={"Content-Type": "application/strategic-merge-patch+json"},
    )
    assert answer.status_code == 200
    await bench.canaried(V2)
    stable = await bench.site.get("deployments", bench.where, "web")
    canary = await bench.site.get("deployments", bench.where, "web-canary")
    assert canary["spec"]["selector"]["matchLabels"] != stable["spec"]["selector"]["matchLabels"]
    for one in (stable, canary):
        one["spec"]["template"]["metadata"]["labels"].pop("fermata.dev/track")
    theirs = canary["spec"]["template"]["spec"]["containers"][0]
    assert theirs.pop("image") == V2
    assert stable["spec"]["template"]["spec"]["containers"][0].pop("image") == V1
    assert canary["spec"]["template"] == stable["spec"]["template"]
    assert theirs["env"] == [{"name": "MODE", "value": "x"}]
    assert (canary["spec"]["replicas"], stable["spec"]["replicas"]) == (1, 2)
    route = await bench.site.get("httproutes", bench.where, "web")
    assert weights(route) == [[("web", 100), ("web-canary", 0)]]


async def test_a_canary_needs_a_stable(bench: Bench) -> None:
    with pytest.raises(Permanent, match="no Deployment") as refused:
        await bench.apply(bench.canary(V2))
    assert "services.yaml" in refused.value.remedy


async def test_weights_walk_up_and_back_while_stable_stays_whole(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2)
    for weight, pods in ((10, 1), (50, 1), (100, 2)):
        await bench.canaried(V2, weight)
        await bench.apply(bench.traffic(weight))
        await bench.site.report(bench.where, "web")
        state = await bench.until(lambda now: now.route is not None and now.route.accepted)
        assert state.route is not None
        assert state.route.canary_weight == weight
        assert state.canary is not None
        assert state.canary.desired == pods
        assert state.stable is not None
        assert state.stable.available == 2
    await bench.apply(bench.stable(V2))
    await bench.until(lambda now: stable_ready(now) and now.stable.image == V2)  # type: ignore[union-attr]
    await bench.apply(bench.traffic(0))
    await bench.apply(K8sRetire(target=bench.target))
    state = await bench.until(lambda now: now.canary is not None and now.canary.total == 0)
    assert state.route is not None
    assert state.route.canary_weight == 0


async def test_doing_it_twice_changes_nothing_the_second_time(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2)
    actions: list[Action] = [
        bench.stable(V1),
        bench.canary(V2),
        bench.traffic(10),
        bench.traffic(0),
        K8sRollback(target=bench.target, image=V1),
        K8sRetire(target=bench.target),
    ]
    for action in actions:
        await bench.apply(action)
        before = bench.guarded
        again = await bench.apply(action)
        assert again.data["changed"] is False, action
        assert bench.guarded == before, action


async def test_only_the_two_weights_of_a_route_change(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2)
    backends = [{"name": "web", "port": 80}, {"name": "web-canary", "port": 80, "weight": 0}]
    rules = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/static"}}],
            "backendRefs": [{"name": "web", "port": 80, "weight": 7}],
        },
        {
            "matches": [{"headers": [{"name": "x-canary", "value": "always"}]}],
            "backendRefs": [{"name": "web-canary", "port": 80, "weight": 3}],
        },
        {
            "filters": [
                {
                    "type": "RequestHeaderModifier",
                    "requestHeaderModifier": {"set": [{"name": "x-a", "value": "b"}]},
                }
            ],
            "backendRefs": backends,
        },
    ]
    before = await bench.site.merge("httproutes", bench.where, "web", {"spec": {"rules": rules}})
    await bench.apply(bench.traffic(25))
    after = await bench.site.get("httproutes", bench.where, "web")
    assert weights(after) == [[("web", 7)], [("web-canary", 3)], [("web", 75), ("web-canary", 25)]]
    for ref, weight in zip(after["spec"]["rules"][2]["backendRefs"], (1, 0), strict=True):
        ref["weight"] = weight
    assert after["spec"] == before["spec"]


async def test_testers_get_a_rule_of_their_own_that_goes_with_the_next_weight(
    bench: Bench,
) -> None:
    await bench.installed()
    await bench.canaried(V2)
    before = await bench.site.get("httproutes", bench.where, "web")
    match = TrafficMatch(headers=(("x-canary", "yes"),), cookie=("canary", "1"))
    testers = K8sTraffic(target=bench.target, weight=0, match=match)
    await bench.apply(testers)
    seen = await bench.site.get("httproutes", bench.where, "web")
    first, *rest = seen["spec"]["rules"]
    assert rest == before["spec"]["rules"]
    assert [one["name"] for one in first["backendRefs"]] == ["web-canary"]
    headers = {one["name"]: one["type"] for one in first["matches"][0]["headers"]}
    assert headers == {"x-canary": "Exact", "Cookie": "RegularExpression"}
    assert (await bench.apply(testers)).data["changed"] is False
    assert await bench.writer.read_back(testers, bench.stamp(testers)) is not None
    await bench.apply(bench.traffic(10))
    after = await bench.site.get("httproutes", bench.where, "web")
    assert weights(after) == [[("web", 90), ("web-canary", 10)]]
    assert len(after["spec"]["rules"]) == len(before["spec"]["rules"])


async def test_a_canary_without_a_ready_pod_gets_no_traffic(bench: Bench) -> None:
    await bench.installed()
    await bench.apply(bench.canary(BROKEN))
    with pytest.raises(Temporary, match="no available pod") as refused:
        await bench.apply(bench.traffic(10))
    assert refused.value.retry_after is not None
    route = await bench.site.get("httproutes", bench.where, "web")
    assert weights(route) == [[("web", 100), ("web-canary", 0)]]


async def test_a_canary_that_serves_does_not_get_another_image(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2)
    await bench.apply(bench.traffic(10))
    with pytest.raises(Permanent, match="still serves traffic"):
        await bench.apply(bench.canary(V3))
    await bench.apply(bench.traffic(0))
    await bench.canaried(V3)


async def test_a_canary_of_the_same_image_is_never_made_smaller(bench: Bench) -> None:
    await bench.installed()
    for image, weight, pods in ((V2, 100, 2), (V2, 10, 2), (V3, 10, 1)):
        done = await bench.apply(bench.canary(image, weight))
        assert done.data["replicas"] == pods


async def test_a_stall_is_told_with_the_pods_reason(bench: Bench) -> None:
    await bench.installed()
    hasty = {"spec": {"progressDeadlineSeconds": 1}}
    await bench.site.merge("deployments", bench.where, "web", hasty)
    await bench.apply(bench.canary(BROKEN))
    state = await bench.until(lambda now: now.canary is not None and bool(now.canary.stalled))
    assert state.canary is not None
    assert "ProgressDeadlineExceeded" in state.canary.stalled
    assert "web-canary-" in state.canary.stalled
    assert not state.canary.ready


# --- the route's status ---


async def test_a_route_counts_once_the_gateway_has_its_present_generation(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2)
    await bench.until(lambda now: now.route is not None and now.route.accepted)
    bench.site.hush(True)
    await bench.apply(bench.traffic(10))
    state = await bench.seen()
    assert state.route is not None
    assert state.route.canary_weight == 10
    assert not state.route.accepted
    assert "generation" in state.route.reason
    bench.site.hush(False)
    await bench.site.report(bench.where, "web")
    await bench.until(lambda now: now.route is not None and now.route.accepted)


async def test_a_route_nobody_reports_on_counts_only_where_that_is_allowed(bench: Bench) -> None:
    bench.site.hush(True)
    await bench.apply(bench.stable(V1))
    state = await bench.seen()
    assert state.route is not None
    assert not state.route.accepted
    assert "has not reported" in state.route.reason
    lenient = KubernetesReader(bench.client, require_route_status=False)
    route = (await lenient.workload(bench.target)).route
    assert route is not None
    assert route.accepted


# --- rollback and retire ---


async def test_a_rollback_restores_image_and_capacity(bench: Bench) -> None:
    await bench.installed()
    await bench.apply(bench.stable(BROKEN))
    await bench.site.merge("deployments", bench.where, "web", {"spec": {"replicas": 0}})
    done = await bench.apply(K8sRollback(target=bench.target, image=V1))
    state = await bench.until(stable_ready)
    assert state.stable is not None
    assert (state.stable.image, state.stable.desired) == (V1, 2)
    assert "goes back to" in done.summary


async def test_a_rollback_with_nothing_to_do_says_so_and_writes_nothing(bench: Bench) -> None:
    await bench.installed()
    guarded = bench.guarded
    done = await bench.apply(K8sRollback(target=bench.target, image=None))
    assert done.summary.startswith("nothing to roll back")
    assert bench.guarded == guarded


async def test_a_rollback_keeps_more_pods_than_the_catalogue_says(bench: Bench) -> None:
    await bench.installed()
    await bench.site.merge("deployments", bench.where, "web", {"spec": {"replicas": 5}})
    await bench.apply(bench.stable(BROKEN))
    await bench.apply(K8sRollback(target=bench.target, image=V1))
    assert (await bench.site.get("deployments", bench.where, "web"))["spec"]["replicas"] == 5


async def test_a_paused_stable_takes_no_release_but_does_go_back(bench: Bench) -> None:
    await bench.installed(V1)
    await bench.apply(bench.stable(BROKEN))
    await bench.site.merge("deployments", bench.where, "web", {"spec": {"paused": True}})
    with pytest.raises(Permanent, match="is paused") as refused:
        await bench.apply(bench.stable(V2))
    assert "rollout resume" in refused.value.remedy
    await bench.apply(K8sRollback(target=bench.target, image=V1))
    state = await bench.until(stable_ready)
    assert state.stable is not None
    assert state.stable.image == V1


async def test_a_canary_with_traffic_is_not_retired(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2)
    await bench.apply(bench.traffic(10))
    with pytest.raises(Permanent, match="10%"):
        await bench.apply(K8sRetire(target=bench.target))
    canary = await bench.site.get("deployments", bench.where, "web-canary")
    assert canary["spec"]["replicas"] == 1


async def test_retiring_a_canary_that_never_was_is_done_at_once(bench: Bench) -> None:
    await bench.installed()
    done = await bench.apply(K8sRetire(target=bench.target))
    assert done.data["changed"] is False
    assert "no canary" in done.summary


# --- what is not ours ---


async def test_what_belongs_to_others_is_left_alone(bench: Bench) -> None:
    await bench.installed()
    label = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}}
    for plural, action in (
        ("deployments", bench.stable(V2)),
        ("deployments", bench.canary(V2)),
        ("httproutes", bench.canary(V2)),
        ("httproutes", bench.traffic(0)),
    ):
        foreign = await bench.site.merge(plural, bench.where, "web", label)
        if action.kind == "k8s_traffic":
            foreign = await bench.site.merge(
                plural, bench.where, "web", {"spec": {"rules": _one_to_nine()}}
            )
        with pytest.raises(Permanent, match="managed by Helm") as refused:
            await bench.apply(action)
        assert f"kubectl -n {bench.where} label" in refused.value.remedy
        after = await bench.site.get(plural, bench.where, "web")
        assert after["spec"] == foreign["spec"]
        ours = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "fermata"}}}
        await bench.site.merge(plural, bench.where, "web", ours)
    assert not await bench.site.exists("deployments", bench.where, "web-canary")


def _one_to_nine() -> list[Obj]:
    refs = [{"name": "web", "port": 80, "weight": 9}, {"name": "web-canary", "port": 80}]
    return [{"backendRefs": refs}]


async def test_an_adopted_object_is_changed_and_keeps_its_owners_label(bench: Bench) -> None:
    await bench.installed()
    adopted = {
        "metadata": {
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"fermata.dev/adopt": "true"},
        }
    }
    await bench.site.merge("deployments", bench.where, "web", adopted)
    await bench.apply(bench.stable(V2))
    after = await bench.site.get("deployments", bench.where, "web")
    assert after["spec"]["template"]["spec"]["containers"][0]["image"] == V2
    assert after["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


async def test_a_stable_whose_selector_takes_in_the_canary_gets_none(bench: Bench) -> None:
    labels = {"app": "web"}
    body = {
        "metadata": {"name": "web", "labels": {"app.kubernetes.io/managed-by": "fermata"}},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "app", "image": V1}]},
            },
        },
    }
    await bench.site.create("deployments", bench.where, body)
    with pytest.raises(Permanent, match="would match the canary's pods") as refused:
        await bench.apply(bench.canary(V2))
    assert "fermata.dev/track=stable" in refused.value.remedy


@pytest.mark.parametrize("site", ["real"], indirect=True)
async def test_a_deployment_is_recreated_with_a_track_as_the_documentation_says(
    bench: Bench,
) -> None:
    http, where = bench.site.http, bench.where
    path = bench.site.path("deployments", where, "web")
    selector, pods = {"app": "web"}, {"app": "web", "fermata.dev/track": "stable"}
    ours = {"name": "web", "labels": {"app.kubernetes.io/managed-by": "fermata"}}
    containers = [{"name": "app", "image": V1}]
    spec: Obj = {
        "replicas": 2,
        "selector": {"matchLabels": selector},
        "template": {"metadata": {"labels": pods}, "spec": {"containers": containers}},
    }
    await bench.site.create("deployments", where, {"metadata": ours, "spec": spec})
    await bench.until(stable_ready)

    async def pod_names() -> set[str]:
        found = (await http.get(f"api/v1/namespaces/{where}/pods")).json()["items"]
        return {pod["metadata"]["name"] for pod in found}

    before = await pod_names()
    await http.request("DELETE", path, json={"propagationPolicy": "Orphan"})
    async with asyncio.timeout(30):
        while await bench.site.exists("deployments", where, "web"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    spec["selector"] = {"matchLabels": pods}
    await bench.site.create("deployments", where, {"metadata": ours, "spec": spec})
    await bench.until(stable_ready)
    assert await pod_names() == before


@pytest.mark.parametrize("site", ["real"], indirect=True)
async def test_a_first_install_runs_where_only_restricted_pods_may(bench: Bench) -> None:
    level = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    answer = await bench.site.http.patch(
        f"api/v1/namespaces/{bench.where}",
        json=level,
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert answer.status_code == 200
    await bench.installed()


async def test_a_wrong_container_name_is_answered_with_the_right_ones(bench: Bench) -> None:
    await bench.installed()
    workload = bench.target.workload.model_copy(update={"container": "main"})
    bench.target = bench.target.model_copy(update={"workload": workload})
    with pytest.raises(Permanent, match="no container 'main'") as refused:
        await bench.apply(bench.stable(V2))
    assert "one of: app" in refused.value.remedy


# --- replica weighting ---


async def test_without_a_route_pods_and_one_selector_are_the_weight(bench: Bench) -> None:
    bench.target = web_in(bench.where, route=None, replicas=4)
    await bench.installed()
    await bench.canaried(V2, 20)

    async def selector() -> Obj:
        service = await bench.site.get("services", bench.where, "web")
        return service["spec"]["selector"]  # type: ignore[no-any-return]

    async def pods() -> tuple[int, int]:
        state = await bench.until(lambda now: stable_ready(now) and canary_ready(now))
        assert state.route is None
        assert state.stable is not None
        assert state.canary is not None
        return state.stable.available, state.canary.available

    assert await selector() == {"app": "web", "fermata.dev/track": "stable"}
    for weight, expected in ((20, (4, 1)), (50, (4, 4)), (75, (2, 4)), (100, (4, 4))):
        await bench.canaried(V2, weight)
        await bench.apply(bench.traffic(weight))
        assert await pods() == expected, weight
        track = {"fermata.dev/track": "canary"} if weight == 100 else {}
        assert await selector() == {"app": "web", **track}, weight
    with pytest.raises(Permanent, match="selects it"):
        await bench.apply(K8sRetire(target=bench.target))
    await bench.apply(bench.traffic(75))
    # The way back, from a stable that has lost half of its pods.
    await bench.apply(K8sRollback(target=bench.target, image=None))
    assert await pods() == (4, 4)
    await bench.apply(bench.traffic(0))
    assert await selector() == {"app": "web", "fermata.dev/track": "stable"}
    assert await pods() == (4, 0)
    stable = await bench.site.get("deployments", bench.where, "web")
    assert "fermata.dev/full-replicas" not in stable["metadata"]["annotations"]
