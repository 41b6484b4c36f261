"""What the Argo Rollouts adapter promises, on the real controller and a real API server.

Every test takes a namespace of its own. What was done is read from the server directly.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from domain.action import Action, K8sRetire, K8sRollback
from domain.errors import LeaseLost, OutcomeUnknown, Permanent
from domain.workload import WorkloadState
from nodes.readiness import deployed, shifted
from tests.contract.argo_bench import STEPS, ArgoBench, manifest
from tests.contract.cluster_bench import BROKEN, V1, V2, V3, stable_ready
from tests.contract.cluster_site import Obj
from tools.argo_render import ArgoRenderer
from tools.cluster_client import ClusterClient
from tools.cluster_objects import ADOPT

pytest_plugins = ("tests.contract.cluster_fixtures", "tests.contract.argo_fixtures")


def image_in(rollout: Obj) -> str:
    return str(rollout["spec"]["template"]["spec"]["containers"][0]["image"])


def is_healthy(rollout: Obj) -> bool:
    return bool(rollout["status"]["phase"] == "Healthy")


def is_observed(rollout: Obj) -> bool:
    seen = rollout["status"]["observedGeneration"]
    return bool(seen == str(rollout["metadata"]["generation"]))


async def test_a_release_goes_from_stop_to_stop_and_then_all_the_way(argo: ArgoBench) -> None:
    await argo.adopted()
    before = await argo.seen()
    assert before.stable is not None
    assert before.stable.ready
    assert (before.stable.image, before.canary) == (V1, None)
    assert before.route is not None
    assert (before.route.canary_weight, before.route.accepted) == (0, True)

    await argo.apply(argo.canary(V2, 10))
    await argo.apply(argo.traffic(10))
    state = await argo.at(10)
    assert state.canary is not None
    assert state.canary.ready
    assert state.canary.image == V2
    assert await argo.pods() == {V1: 4, V2: 1}

    await argo.apply(argo.canary(V2, 50))
    assert (await argo.seen()).route == state.route
    await argo.apply(argo.traffic(50))
    await argo.at(50)
    assert await argo.pods() == {V1: 2, V2: 2}

    await argo.apply(argo.stable(V2))
    state = await argo.until(lambda now: stable_ready(now) and now.canary is None)
    assert state.stable is not None
    assert state.stable.image == V2
    assert (await argo.apply(argo.traffic(0))).data["changed"] is False
    await argo.apply(K8sRetire(target=argo.target))
    assert await argo.pods() == {V2: 4}
    rollout = await argo.rollout()
    assert rollout["spec"]["strategy"]["canary"]["steps"] == STEPS
    assert rollout["status"]["phase"] == "Healthy"


# --- the way back ---


async def test_a_rollback_aborts_and_restores_the_template(argo: ArgoBench) -> None:
    await argo.adopted()
    await argo.apply(argo.canary(V2))
    await argo.at(10)
    done = await argo.apply(K8sRollback(target=argo.target, image=None))
    assert done.data["aborted"] is True
    rollout = await argo.until_rollout(lambda one: one["status"]["phase"] == "Healthy")
    assert image_in(rollout) == V1
    assert not rollout["status"].get("abort")
    state = await argo.until(lambda now: stable_ready(now) and now.canary is None)
    assert state.route is not None
    assert (state.route.canary_weight, state.route.accepted) == (0, True)
    assert await argo.pods() == {V1: 4}
    await argo.apply(argo.traffic(0))
    await argo.apply(K8sRetire(target=argo.target))


async def test_aborts_right_after_the_pause_are_heard_every_time(argo: ArgoBench) -> None:
    await argo.adopted()
    for _ in range(3):
        await argo.apply(argo.canary(V2))
        await argo.until_rollout(lambda one: one["status"]["phase"] == "Paused")
        await argo.apply(argo.traffic(0))
        rollout = await argo.rollout()
        assert rollout["status"]["phase"] == "Degraded"
        await argo.apply(K8sRollback(target=argo.target, image=None))
        await argo.until_rollout(lambda one: one["status"]["phase"] == "Healthy")


async def test_an_abort_with_nothing_in_progress_changes_nothing(argo: ArgoBench) -> None:
    await argo.adopted()
    before = await argo.rollout()
    for action in (
        argo.traffic(0),
        K8sRollback(target=argo.target, image=None),
        K8sRollback(target=argo.target, image=V1),
        K8sRetire(target=argo.target),
    ):
        assert (await argo.apply(action)).data["changed"] is False
    after = await argo.rollout()
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_after_full_promotion_the_last_known_good_comes_back_past_the_steps(
    argo: ArgoBench,
) -> None:
    await argo.adopted()
    await argo.apply(argo.stable(V2))
    await argo.until(lambda now: now.canary is None and stable_ready(now))
    assert await argo.pods() == {V2: 4}
    await argo.apply(K8sRollback(target=argo.target, image=V1))
    state = await argo.until(lambda now: now.canary is None and stable_ready(now))
    assert state.stable is not None
    assert state.stable.image == V1
    assert await argo.pods() == {V1: 4}


async def test_what_else_a_release_changed_in_the_template_goes_back_too(argo: ArgoBench) -> None:
    await argo.adopted()
    await argo.apply(argo.canary(V2))
    await argo.at(10)
    spec = {"containers": [{"name": "app", "image": V2, "env": [{"name": "A", "value": "b"}]}]}
    await argo.site.merge("rollouts", argo.where, "web", {"spec": {"template": {"spec": spec}}})
    await argo.apply(K8sRollback(target=argo.target, image=None))
    rollout = await argo.until_rollout(lambda one: one["status"]["phase"] == "Healthy")
    (container,) = rollout["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container.get("env")) == (V1, None)
    assert await argo.pods() == {V1: 4}


async def test_a_version_that_somebody_promoted_by_hand_goes_back_to_what_was_before(
    argo: ArgoBench,
) -> None:
    await argo.adopted()
    await argo.apply(argo.canary(V2))
    await argo.at(10)
    await argo.changed({"status": {"promoteFull": True}}, is_healthy, sub="status")
    with pytest.raises(Permanent, match="promoted or taken back by somebody else"):
        await argo.apply(argo.traffic(50))
    await argo.apply(K8sRollback(target=argo.target, image=None))
    state = await argo.until(lambda now: now.canary is None and stable_ready(now))
    assert state.stable is not None
    assert state.stable.image == V1


async def test_an_update_that_somebody_paused_by_hand_goes_back_all_the_same(
    argo: ArgoBench,
) -> None:
    await argo.adopted()
    await argo.apply(argo.canary(V2))
    await argo.at(10)
    await argo.changed({"spec": {"paused": True}}, is_observed)
    with pytest.raises(Permanent, match="paused by hand"):
        await argo.apply(argo.stable(V2))
    await argo.apply(K8sRollback(target=argo.target, image=None))
    await argo.until(lambda now: stable_ready(now) and now.canary is None)
    rollout = await argo.rollout()
    assert (image_in(rollout), rollout["spec"].get("paused")) == (V1, None)
    assert await argo.pods() == {V1: 4}


# --- what users rely on ---


async def test_two_bad_images_in_a_row_leave_stable_at_full_size(argo: ArgoBench) -> None:
    await argo.adopted(manifest(maxSurge=1, maxUnavailable=0))
    for bad in (BROKEN, BROKEN.replace("2", "3")):
        await argo.apply(argo.canary(bad))
        await argo.until(lambda now: now.canary is not None and now.canary.total > 0)
        assert await argo.pods() == {V1: 4}
    await argo.apply(K8sRollback(target=argo.target, image=None))
    state = await argo.until(lambda now: now.canary is None and stable_ready(now))
    assert state.stable is not None
    assert (state.stable.image, state.stable.available) == (V1, 4)
    assert await argo.pods() == {V1: 4}


async def test_a_broken_stable_never_blocks_a_good_fix(argo: ArgoBench) -> None:
    await argo.site.create("rollouts", argo.where, manifest(BROKEN))
    await argo.until(lambda now: now.stable is not None and now.stable.total == 4)
    assert await argo.pods() == {}
    await argo.apply(argo.canary(V2))
    await argo.until(lambda now: now.canary is not None and now.canary.ready)
    await argo.apply(argo.traffic(10))
    await argo.at(10)
    await argo.apply(argo.stable(V2))
    state = await argo.until(lambda now: now.canary is None and stable_ready(now))
    assert state.stable is not None
    assert state.stable.image == V2
    assert await argo.pods() == {V2: 4}


async def test_a_pause_longer_than_the_progress_deadline_is_not_a_stall(argo: ArgoBench) -> None:
    rollout = manifest()
    rollout["spec"]["progressDeadlineSeconds"] = 2
    await argo.adopted(rollout)
    await argo.apply(argo.canary(V2))
    paused = (await argo.until_rollout(lambda one: one["status"]["phase"] == "Paused"))["status"]
    began = datetime.fromisoformat(paused["pauseConditions"][0]["startTime"])
    await argo.until_rollout(lambda _: datetime.now(UTC) - began > timedelta(seconds=5))
    state = await argo.at(10)
    assert state.canary is not None
    assert state.canary.stalled == ""
    assert shifted(state, 10, argo.target).kind == "done"
    await argo.apply(argo.traffic(50))
    await argo.at(50)


async def test_a_canary_that_cannot_start_is_a_stall_with_its_reason(argo: ArgoBench) -> None:
    rollout = manifest()
    rollout["spec"]["progressDeadlineSeconds"] = 2
    await argo.adopted(rollout)
    await argo.apply(argo.canary(BROKEN))
    state = await argo.until(lambda now: now.canary is not None and now.canary.stalled != "")
    assert state.canary is not None
    assert "ProgressDeadlineExceeded" in state.canary.stalled
    assert "ImagePullBackOff" in state.canary.stalled
    assert state.stable is not None
    assert (state.stable.stalled, state.stable.available) == ("", 4)
    assert deployed(state, "canary", BROKEN).kind == "stalled"


async def test_a_paused_change_follows_a_replica_change(argo: ArgoBench) -> None:
    await argo.adopted()
    await argo.apply(argo.canary(V2))
    await argo.at(10)
    await argo.apply(argo.traffic(50))
    await argo.at(50)
    await argo.changed({"spec": {"replicas": 8}}, is_observed)
    state = await argo.until(
        lambda now: now.canary is not None and now.canary.ready and now.canary.desired == 4
    )
    assert state.stable is not None
    assert state.stable.desired == 4
    assert (await argo.at(50)).canary == state.canary
    await argo.apply(argo.stable(V2))
    await argo.until(lambda now: now.canary is None and stable_ready(now))
    assert await argo.pods() == {V2: 8}


# --- what is refused before anything is begun ---


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"setWeight": 20}, {"pause": {}}], "stops at 20%, and web/test is to be judged at 10%"),
        ([{"setWeight": 10}, {"pause": {"duration": "1h"}}], "stops at no weight"),
        ([*STEPS, {"setWeight": 80}, {"pause": {}}], "stops at 10%, 50%, 80%"),
        ([{"setWeight": 60}, *STEPS], "goes up to 60% before it stops at 10%"),
    ],
)
async def test_steps_that_do_not_fit_the_plan_are_refused_with_both_lists(
    argo: ArgoBench, steps: list[Obj], words: str
) -> None:
    await argo.adopted(manifest(steps=steps))
    before = await argo.rollout()
    with pytest.raises(Permanent, match=words):
        await argo.apply(argo.canary(V2))
    assert (await argo.rollout())["metadata"] == before["metadata"]


async def test_a_rollout_of_others_is_left_alone_until_it_is_handed_over(argo: ArgoBench) -> None:
    rollout = manifest()
    rollout["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm"
    await argo.adopted(rollout)
    with pytest.raises(Permanent, match="managed by Helm") as refused:
        await argo.apply(argo.canary(V2))
    assert f"annotate rollouts.argoproj.io web {ADOPT}=true" in refused.value.remedy
    await argo.changed({"metadata": {"annotations": {ADOPT: "true"}}}, is_healthy)
    await argo.apply(argo.canary(V2))
    await argo.at(10)


async def test_a_rollout_is_never_made(argo: ArgoBench) -> None:
    assert await argo.seen() == WorkloadState(stable=None, canary=None, route=None)
    for action in (argo.stable(V1), argo.canary(V1), argo.traffic(10), argo.traffic(0)):
        with pytest.raises(Permanent, match="there is no Rollout"):
            await argo.apply(action)
    assert not await argo.site.exists("rollouts", argo.where, "web")


async def test_what_a_deploy_would_write_is_the_whole_rollout_with_the_image_in_it(
    argo: ArgoBench,
) -> None:
    renderer = ArgoRenderer(argo.client)
    with pytest.raises(Permanent, match="there is no Rollout"):
        await renderer.rendered(argo.canary(V2))
    await argo.adopted()
    (one,) = await renderer.rendered(argo.canary(V2))
    assert (one.object["kind"], one.existed, one.is_whole) == ("Rollout", True, True)
    assert image_in(dict(one.object)) == V2
    assert "status" not in one.object
    assert image_in(await argo.rollout()) == V1


async def test_another_update_that_serves_traffic_is_not_pushed_aside(argo: ArgoBench) -> None:
    await argo.adopted()
    await argo.apply(argo.canary(V2))
    await argo.at(10)
    with pytest.raises(Permanent, match="in the middle of an update"):
        await argo.apply(argo.canary(V3))


# --- stamps, leases, silences ---


async def test_what_was_done_can_be_read_back_by_run_step_and_digest(argo: ArgoBench) -> None:
    await argo.adopted()
    actions: list[tuple[Action, int]] = [
        (argo.canary(V2), 10),
        (argo.traffic(50), 50),
        (argo.traffic(0), 0),
        (K8sRollback(target=argo.target, image=V1), 0),
        (argo.stable(V2), 0),
    ]
    for action, weight in actions:
        stamp = argo.stamp(action)
        assert await argo.writer.read_back(action, stamp) is None, action
        await argo.apply(action)
        await argo.at(weight)
        found = await argo.writer.read_back(action, stamp)
        assert found is not None, action
        assert found.data["read_back"] is True
        for other in ({"step_id": "another"}, {"run_id": uuid4()}, {"digest": "0" * 64}):
            assert await argo.writer.read_back(action, stamp.model_copy(update=other)) is None


async def test_doing_it_twice_changes_nothing_the_second_time(argo: ArgoBench) -> None:
    await argo.adopted()
    for action, weight in ((argo.canary(V2), 10), (argo.traffic(50), 50), (argo.stable(V2), 0)):
        assert (await argo.apply(action)).data["changed"] is True
        await argo.at(weight)
        await argo.until(lambda now: now.canary is None or now.canary.ready)
        before = (await argo.rollout())["metadata"]
        assert (await argo.apply(action)).data["changed"] is False
        after = (await argo.rollout())["metadata"]
        for part in ("annotations", "generation"):
            assert after[part] == before[part]


async def test_nothing_is_sent_once_the_lease_is_lost(argo: ArgoBench) -> None:
    await argo.adopted()
    await argo.apply(argo.canary(V2))
    await argo.at(10)
    argo.has_lease = False
    before = await argo.rollout()
    for action in (
        argo.traffic(50),
        argo.stable(V2),
        argo.traffic(0),
        K8sRollback(target=argo.target, image=None),
    ):
        with pytest.raises(LeaseLost):
            await argo.apply(action)
    assert (await argo.rollout())["metadata"] == before["metadata"]


@pytest.mark.parametrize("cut", ["before", "after"])
@pytest.mark.parametrize("path", ["/rollouts/web(?!/)", "/rollouts/web/status"])
async def test_a_write_that_was_cut_off_is_unknown_and_the_next_try_ends_in_the_same_place(
    argo: ArgoBench, path: str, cut: str
) -> None:
    await argo.adopted()
    await argo.apply(argo.canary(V2))
    await argo.at(10)
    for action, weight in (
        (argo.traffic(50), 50),
        (K8sRollback(target=argo.target, image=None), 0),
    ):
        fault = argo.fault(path, "PATCH", cut=cut)
        with pytest.raises(OutcomeUnknown):
            await argo.apply(action)
        assert fault.hits == 1
        argo.site.faults.clear()
        if await argo.writer.read_back(action, argo.stamp(action)) is None:
            await argo.apply(action)
        await argo.at(weight)
    assert image_in(await argo.rollout()) == V1
    await argo.until(lambda now: stable_ready(now) and now.canary is None)


async def test_the_role_in_the_documentation_is_enough_for_a_release_and_its_way_back(
    argo: ArgoBench, tmp_path: Path
) -> None:
    text = Path(__file__).parents[2].joinpath("docs/executors.md").read_text(encoding="utf-8")
    role = yaml.safe_load(text[text.index("apiVersion: rbac") :].partition("```")[0])
    await argo.adopted()
    assert argo.site.restricted is not None
    token = argo.site.restricted(argo.where, role["rules"])
    async with ClusterClient(argo.site.kubeconfig(tmp_path / "role", token)) as client:
        argo.client = client
        await argo.apply(argo.canary(V2))
        await argo.at(10)
        await argo.apply(argo.traffic(50))
        await argo.at(50)
        await argo.apply(K8sRollback(target=argo.target, image=None))
        await argo.until(lambda now: stable_ready(now) and now.canary is None)
