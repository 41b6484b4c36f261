"""Analyses, routers and crashes around the Argo Rollouts adapter, on the real controller."""

from __future__ import annotations

import pytest

from domain.action import Action, K8sRetire, K8sRollback
from domain.errors import Permanent, Temporary
from nodes.readiness import interrupted, shifted
from tests.contract.argo_bench import ANALYSED_STEPS, ArgoBench, Dial, manifest
from tests.contract.cluster_bench import V1, V2, stable_ready
from tests.contract.cluster_site import Obj

pytest_plugins = ("tests.contract.cluster_fixtures", "tests.contract.argo_fixtures")

# --- analyses that Argo runs itself ---


async def test_an_inconclusive_analysis_waits_for_a_person_and_never_goes_back_by_itself(
    argo: ArgoBench, dial: Dial
) -> None:
    await argo.analysed(dial)
    dial.value = 0.03
    await argo.adopted(manifest(steps=ANALYSED_STEPS))
    await argo.apply(argo.canary(V2))
    await argo.apply_again(argo.traffic(10))
    state = await argo.until(lambda now: now.canary is not None and now.canary.undecided != "")
    reading = shifted(state, 10, argo.target)
    assert reading.kind == "unsure"
    assert "is inconclusive" in reading.reason
    assert state.route is not None
    assert (state.route.canary_weight, state.route.accepted) == (10, False)
    # It stays so, whatever else happens to the Rollout.
    for count in range(3):
        rollout = await argo.changed({"metadata": {"annotations": {"n": str(count)}}}, is_paused)
        assert not rollout["status"].get("abort")
    assert await argo.pods() == {V1: 4, V2: 1}
    # A person has accepted it: on to the next stop, past the analysis.
    await argo.apply_again(argo.traffic(50))
    await argo.at(50)
    assert await argo.pods() == {V1: 2, V2: 2}


async def test_an_inconclusive_analysis_in_the_background_halts_at_the_stop(
    argo: ArgoBench, dial: Dial
) -> None:
    await argo.analysed(dial)
    dial.value = 0.03
    background = {"templates": [{"templateName": "errors"}]}
    await argo.adopted(manifest(analysis=background))
    await argo.apply(argo.canary(V2))
    state = await argo.until(lambda now: now.canary is not None and now.canary.undecided != "")
    reading = interrupted(state)
    assert reading is not None
    assert reading.kind == "unsure"
    await argo.apply(K8sRollback(target=argo.target, image=None))
    await argo.until(lambda now: stable_ready(now) and now.canary is None)
    assert await argo.pods() == {V1: 4}


async def test_a_failed_analysis_is_a_stall_in_its_own_words_and_the_way_back_ends_it(
    argo: ArgoBench, dial: Dial
) -> None:
    await argo.analysed(dial)
    dial.value = 0.5
    await argo.adopted(manifest(steps=ANALYSED_STEPS))
    await argo.apply(argo.canary(V2))
    state = await argo.until(lambda now: now.canary is not None and now.canary.stalled != "")
    reading = shifted(state, 10, argo.target)
    assert reading.kind == "stalled"
    assert "RolloutAborted" in reading.reason
    assert 'Metric "errors" assessed Failed' in reading.reason
    with pytest.raises(Permanent, match="was aborted"):
        await argo.apply(argo.traffic(50))
    await argo.apply(K8sRollback(target=argo.target, image=None))
    await argo.until(lambda now: stable_ready(now) and now.canary is None)
    assert await argo.pods() == {V1: 4}
    # The same version once more, now that the analysis has no objection.
    dial.value = 0.0
    await argo.apply(argo.canary(V2))
    await argo.at(10)


async def test_an_aborted_update_to_the_same_image_is_retried(argo: ArgoBench) -> None:
    await argo.adopted()
    await argo.apply(argo.canary(V2))
    await argo.at(10)
    await argo.apply(argo.traffic(0))
    await argo.at(0)
    done = await argo.apply(argo.canary(V2))
    assert done.data["retried"] is True
    await argo.at(10)


# --- a traffic router ---


async def test_a_routers_weights_are_the_weight(argo: ArgoBench) -> None:
    port = {"name": "http", "port": 80, "targetPort": 8080}
    for name in ("web", "web-canary"):
        service = {
            "metadata": {"name": name},
            "spec": {"selector": {"app": "web"}, "ports": [port]},
        }
        await argo.site.create("services", argo.where, service)
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    rules = [{"host": "web.example", "http": {"paths": [path]}}]
    ingress = {"metadata": {"name": "web"}, "spec": {"ingressClassName": "nginx", "rules": rules}}
    await argo.site.create("ingresses", argo.where, ingress)
    routing = {"nginx": {"stableIngress": "web"}}
    await argo.adopted(
        manifest(
            stableService="web",
            canaryService="web-canary",
            trafficRouting=routing,
            abortScaleDownDelaySeconds=1,
        )
    )

    async def ingress_weight() -> str:
        found = await argo.site.get("ingresses", argo.where, "web-web-canary")
        return str(found["metadata"]["annotations"]["nginx.ingress.kubernetes.io/canary-weight"])

    await argo.apply(argo.canary(V2))
    await argo.at(10)
    assert await ingress_weight() == "10"
    assert await argo.pods() == {V1: 4, V2: 1}
    await argo.apply(argo.traffic(50))
    await argo.at(50)
    assert await ingress_weight() == "50"
    # With a router stable keeps all its pods.
    assert await argo.pods() == {V1: 4, V2: 2}
    await argo.apply(K8sRollback(target=argo.target, image=None))
    await argo.at(0)
    assert await ingress_weight() == "0"
    await argo.until(lambda now: stable_ready(now) and now.canary is None)
    await argo.apply(K8sRetire(target=argo.target))
    await argo.apply(argo.stable(V2))
    await argo.until(lambda now: stable_ready(now) and now.canary is None)
    assert (await argo.at(0)).canary is None


# --- crashes ---


class Killed(Exception):
    """The worker is gone."""


async def test_a_worker_killed_before_any_write_leaves_what_another_finishes(
    argo: ArgoBench,
) -> None:
    await argo.adopted()
    story: list[tuple[Action, int]] = [
        (argo.canary(V2), 10),
        (argo.traffic(50), 50),
        (K8sRollback(target=argo.target, image=None), 0),
        (argo.stable(V2), 0),
        (K8sRollback(target=argo.target, image=V1), 0),
    ]
    kills = 0
    for action, weight in story:
        for survived in range(20):
            left = survived

            async def guard() -> None:
                nonlocal left
                if left == 0:
                    raise Killed
                left -= 1

            stamp = argo.stamp(action)
            if await argo.writer.read_back(action, stamp) is not None:
                break
            try:
                await argo.writer.apply(action, stamp, guard)
            except Killed:
                kills += 1
                continue
            break
        await argo.at(weight)
        await argo.until(lambda now: now.canary is None or now.canary.ready)
    assert kills >= len(story)
    await argo.until(lambda now: stable_ready(now) and now.canary is None)
    assert await argo.pods() == {V1: 4}


async def test_a_controller_that_is_down_is_temporary_and_says_so(
    argo: ArgoBench, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    cluster = request.getfixturevalue("real_cluster")
    await argo.adopted()
    monkeypatch.setattr("tools.argo_hand.HEARD_SECONDS", 1.0)
    cluster.pause("rollouts-controller")
    try:
        with pytest.raises(Temporary, match="is the Argo Rollouts controller running"):
            await argo.apply(argo.canary(V2))
        state = await argo.seen()
        assert state.canary is not None
        assert not state.canary.ready
        assert state.route is not None
        assert not state.route.accepted
    finally:
        cluster.resume("rollouts-controller")
    await argo.apply_again(argo.canary(V2))
    await argo.at(10)
    # On the way back all is said at once, so that it is there when the controller is.
    cluster.pause("rollouts-controller")
    try:
        with pytest.raises(Temporary, match="is the Argo Rollouts controller running"):
            await argo.apply(K8sRollback(target=argo.target, image=None))
        rollout = await argo.rollout()
        assert rollout["status"]["abort"] is True
        assert rollout["spec"]["template"]["spec"]["containers"][0]["image"] == V1
    finally:
        cluster.resume("rollouts-controller")
    await argo.apply_again(K8sRollback(target=argo.target, image=None))
    await argo.until(lambda now: stable_ready(now) and now.canary is None)
    assert await argo.pods() == {V1: 4}


def is_paused(rollout: Obj) -> bool:
    return bool(rollout["status"]["phase"] == "Paused")
