"""The Cloud Deploy executor against a local Cloud Deploy that checks the shape of every request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from google.oauth2.credentials import Credentials

from domain.action import Action, K8sDeploy, K8sRetire, K8sRollback, K8sTraffic
from domain.effect import Stamp
from domain.errors import LeaseLost, OutcomeUnknown, Permanent, Temporary
from domain.service import CloudDeploy, Target, Workload
from domain.workload import WorkloadState
from nodes.readiness import Reading, Settled, reading_of
from tests.servers.cloud_deploy import CloudDeployServer
from tests.servers.local import Fault
from tests.tools.acting import Acting
from tests.tools.forge_cases import Asked
from tools.cloud_deploy import CloudDeployWriter
from tools.cloud_deploy_client import CloudDeployClient
from tools.cloud_deploy_read import CloudDeployReader

PIPELINE = "projects/acme/locations/europe-west1/deliveryPipelines/web"
V1, V2, V3 = (f"registry.example/web:{n}.0.0" for n in (1, 2, 3))
RELEASES, ROLLOUTS = r"/releases$", r"/rollouts$"


class Bench(Acting):
    """The executor on a local server, and a run that uses it."""

    def __init__(self, server: CloudDeployServer, client: CloudDeployClient) -> None:
        super().__init__(CloudDeployWriter(client, patience=0.3), web())
        self.server, self.client = server, client
        self.reader = CloudDeployReader(client)

    async def seen(self) -> WorkloadState:
        return await self.reader.workload(self.target)

    async def reading(self, action: Action) -> Reading:
        assert isinstance(action, Settled)
        return reading_of(action, await self.seen())

    async def step(self, action: Action) -> None:
        """Do it, let Cloud Deploy finish what it is at, and see it done."""
        await self.apply(action)
        self.settle()
        reading = await self.reading(action)
        assert reading.kind == "done", reading.reason

    def settle(self) -> None:
        self.server.render()
        self.server.finish()

    async def installed(self, image: str = V1) -> None:
        """An image that went all the way, by another run."""
        mine, self.run = self.run, uuid4()
        await self.step(self.stable(image))
        self.run = mine

    async def canaried(self, weight: int = 10) -> None:
        await self.step(self.canary(V2, weight))
        await self.step(self.traffic(weight))

    def canary(self, image: str, weight: int = 10) -> K8sDeploy:
        return K8sDeploy(target=self.target, track="canary", image=image, weight=weight)

    def traffic(self, weight: int) -> K8sTraffic:
        return K8sTraffic(target=self.target, weight=weight)

    def rollouts(self) -> list[tuple[str, str]]:
        """(image, state) of each rollout, oldest first."""
        found = sorted(self.server.rollouts.values(), key=lambda one: one.create_time)
        return [(self._image(one), one.state.name) for one in found]

    def _image(self, rollout: Any) -> str:
        release = self.server.releases[rollout.name.rpartition("/rollouts/")[0]]
        return str(release.build_artifacts[0].tag)


def web(*, approve: bool = False, environment: str = "prod") -> Target:
    delivery = CloudDeploy(
        project="acme",
        location="europe-west1",
        pipeline="web",
        source="gs://acme-skaffold/web/{version}.tar.gz",
        targets=(("prod", "web-prod"),),
        approve=approve,
    )
    workload = Workload(
        executor="cloud-deploy", deployment="web", container="app", cloud_deploy=delivery
    )
    return Target(
        service="web", environment=environment, namespace="shop", workload=workload, replicas=2
    )


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with CloudDeployServer() as server:
        server.add_pipeline(PIPELINE, {"web-staging": [], "web-prod": [10, 50]})
        async with asking(server, timeout=20.0) as client:
            yield Bench(server, client)


@asynccontextmanager
async def asking(server: CloudDeployServer, *, timeout: float) -> AsyncIterator[CloudDeployClient]:
    """A client of a server that waits so many seconds for an answer."""
    credentials = Credentials(token=server.token)  # type: ignore[no-untyped-call]
    client = CloudDeployClient(server.url, credentials=credentials, timeout=timeout, pace=1000)
    yield client
    await client.aclose()


# --- the way forward -----------------------------------------------------------------------------


async def test_a_release_goes_through_the_pipelines_canary_to_all_traffic(bench: Bench) -> None:
    await bench.installed(V1)
    await bench.step(bench.canary(V2, 10))
    assert bench.rollouts() == [(V1, "SUCCEEDED")]  # prepared, and nothing runs of it
    await bench.step(bench.traffic(10))
    seen = await bench.seen()
    assert seen.stable is not None
    assert seen.canary is not None
    assert (seen.stable.image, seen.canary.image) == (V1, V2)
    assert seen.route is not None
    assert seen.route.canary_weight == 10
    await bench.step(bench.canary(V2, 50))
    await bench.step(bench.traffic(50))
    await bench.step(bench.stable(V2))
    await bench.step(bench.traffic(0))
    await bench.step(K8sRetire(target=bench.target))
    assert bench.rollouts() == [(V1, "SUCCEEDED"), (V2, "SUCCEEDED")]
    assert len(bench.server.requests("POST", ":advance$")) == 2


async def test_the_source_and_the_artefact_are_those_of_the_image(bench: Bench) -> None:
    await bench.installed(V1)
    (release,) = bench.server.releases.values()
    assert release.skaffold_config_uri == "gs://acme-skaffold/web/1.0.0.tar.gz"
    (artefact,) = release.build_artifacts
    assert (artefact.image, artefact.tag) == ("registry.example/web", V1)
    assert release.annotations["fermata.dev/target"] == "web/prod"


async def test_a_canary_counts_only_once_its_release_is_rendered(bench: Bench) -> None:
    await bench.installed(V1)
    action = bench.canary(V2)
    await bench.apply(action)
    assert (await bench.reading(action)).kind == "settling"
    bench.server.render(fails="manifest web.yaml is malformed")
    reading = await bench.reading(action)
    assert reading.kind == "stalled"
    assert "web.yaml is malformed" in reading.reason


async def test_a_weight_counts_only_once_its_phase_has_ended(bench: Bench) -> None:
    await bench.installed(V1)
    await bench.step(bench.canary(V2))
    await bench.apply(bench.traffic(10))
    reading = await bench.reading(bench.traffic(10))
    assert reading.kind == "settling"
    assert "canary-10 is IN_PROGRESS" in reading.reason
    bench.server.finish()
    assert (await bench.reading(bench.traffic(10))).kind == "done"


async def test_a_phase_that_fails_is_a_stall_with_cloud_deploys_reason(bench: Bench) -> None:
    await bench.installed(V1)
    await bench.step(bench.canary(V2))
    await bench.apply(bench.traffic(10))
    bench.server.finish(fails="ImagePullBackOff")
    reading = await bench.reading(bench.traffic(10))
    assert reading.kind == "stalled"
    assert "ImagePullBackOff" in reading.reason


async def test_a_release_without_canary_skips_the_pipelines_canary(bench: Bench) -> None:
    await bench.installed(V1)
    await bench.step(bench.stable(V2))
    assert bench.rollouts()[-1] == (V2, "SUCCEEDED")
    assert bench.server.requests("POST", ROLLOUTS)[-1].query["startingPhaseId"] == "stable"


async def test_steps_done_twice_send_nothing_the_second_time(bench: Bench) -> None:
    await bench.installed(V1)
    for action in (bench.canary(V2), bench.traffic(10), bench.traffic(50), bench.stable(V2)):
        await bench.step(action)
        before, guarded = len(bench.server.seen), bench.guard.times
        await bench.apply(action)
        sent = [one.path for one in bench.server.seen[before:] if one.method == "POST"]
        assert sent == []
        assert bench.guard.times == guarded


# --- approval ------------------------------------------------------------------------------------


async def test_a_rollout_that_needs_approval_waits_for_people(bench: Bench) -> None:
    await bench.installed(V1)
    bench.server.approval.add("web-prod")
    await bench.step(bench.canary(V2))
    applied = await bench.apply(bench.traffic(10))
    assert "waits for approval" in applied.summary
    reading = await bench.reading(bench.traffic(10))
    assert reading.kind == "settling"
    assert bench.server.requests("POST", ":approve$") == []


async def test_a_rollout_is_approved_where_the_catalogue_says_so(bench: Bench) -> None:
    await bench.installed(V1)
    bench.server.approval.add("web-prod")
    bench.target = web(approve=True)
    await bench.canaried()
    assert bench.rollouts()[-1] == (V2, "IN_PROGRESS")


async def test_without_a_canary_the_approval_follows_the_rendering(bench: Bench) -> None:
    await bench.installed(V1)
    bench.server.approval.add("web-prod")
    bench.target = web(approve=True)
    with pytest.raises(Temporary, match="rendered, then for approval"):
        await bench.apply(bench.stable(V2))
    bench.server.render()
    await bench.step(bench.stable(V2))


@pytest.mark.parametrize("how", ["before", "after"])
async def test_an_approval_whose_answer_was_lost_is_given_once(bench: Bench, how: str) -> None:
    await bench.installed(V1)
    bench.server.approval.add("web-prod")
    bench.target = web(approve=True)
    await bench.step(bench.canary(V2))
    fault = Fault("POST", ":approve$", cut="before" if how == "before" else "after")
    bench.server.faults.append(fault)
    action = bench.traffic(10)
    with pytest.raises(OutcomeUnknown):
        await bench.apply(action)
    found = await bench.writer.read_back(action, bench.stamp(action))
    assert (found is not None) == (how == "after")
    await bench.step(action)
    assert bench.rollouts()[-1] == (V2, "IN_PROGRESS")


async def test_a_rollback_is_approved_as_well(bench: Bench) -> None:
    for image in (V1, V2):
        await bench.installed(image)
    bench.server.approval.add("web-prod")
    bench.target = web(approve=True)
    bench.server.faults.append(Fault("POST", ":approve$", cut="before"))
    with pytest.raises(OutcomeUnknown):
        await bench.apply(bench.back(V1))
    assert await bench.writer.read_back(bench.back(V1), bench.stamp(bench.back(V1))) is None
    await bench.step(bench.back(V1))
    assert bench.rollouts()[-1] == (V1, "SUCCEEDED")


async def test_a_rejected_rollout_is_a_stall_and_leaves_nothing_to_take_back(bench: Bench) -> None:
    await bench.installed(V1)
    bench.server.approval.add("web-prod")
    await bench.step(bench.canary(V2))
    await bench.apply(bench.traffic(10))
    bench.server.reject(list(bench.server.rollouts)[-1])
    reading = await bench.reading(bench.traffic(10))
    assert reading.kind == "stalled"
    assert "rejected" in reading.reason
    for action in (bench.back(None), bench.traffic(0), K8sRetire(target=bench.target)):
        await bench.step(action)
    assert bench.server.requests("POST", "rollbackTarget") == []


async def test_the_next_release_is_not_held_to_one_that_was_rejected_before_it_began(
    bench: Bench,
) -> None:
    await bench.installed(V1)
    bench.server.approval.add("web-prod")
    await bench.step(bench.canary(V2))
    await bench.apply(bench.traffic(10))
    bench.server.reject(list(bench.server.rollouts)[-1])
    bench.run = uuid4()
    bench.target = web(approve=True)
    await bench.step(bench.canary(V3))
    await bench.step(bench.traffic(10))
    assert bench.rollouts()[-1] == (V3, "IN_PROGRESS")


# --- the way back --------------------------------------------------------------------------------


async def test_a_canary_is_called_off_and_stable_brought_back_in_full(bench: Bench) -> None:
    await bench.installed(V1)
    await bench.canaried()
    with pytest.raises(Temporary, match="has not ended"):
        await bench.apply(bench.back(None))
    bench.server.finish()
    await bench.step(bench.back(None))
    for action in (bench.traffic(0), K8sRetire(target=bench.target)):
        await bench.step(action)
    assert bench.rollouts() == [(V1, "SUCCEEDED"), (V2, "CANCELLED"), (V1, "SUCCEEDED")]


async def test_a_cancelled_rollout_that_no_longer_counts_does_not_stop_the_way_back(
    bench: Bench,
) -> None:
    bench.server.forgets_cancelled = True
    await bench.installed(V1)
    await bench.canaried()
    with pytest.raises(Temporary, match="has not ended"):
        await bench.apply(bench.back(None))
    bench.server.finish()
    await bench.step(bench.back(None))
    assert bench.rollouts()[-1] == (V1, "SUCCEEDED")


async def test_a_full_rollout_goes_back_to_the_named_version_not_the_previous_one(
    bench: Bench,
) -> None:
    for image in (V1, V2, V3):
        await bench.installed(image)
    await bench.step(bench.back(V1))
    assert bench.rollouts()[-1] == (V1, "SUCCEEDED")


async def test_a_rollback_with_nothing_in_progress_is_a_no_op(bench: Bench) -> None:
    await bench.installed(V1)
    for image in (None, V1):
        applied = await bench.apply(bench.back(image))
        assert applied.data["changed"] is False
        assert (await bench.reading(bench.back(image))).kind == "done"
    assert bench.guard.times == 2  # both of the install


async def test_a_rollback_after_a_failed_last_phase_restores_the_good_version(
    bench: Bench,
) -> None:
    await bench.installed(V1)
    await bench.apply(bench.stable(V2))
    bench.server.render()
    bench.server.finish(fails="probe failed")
    assert (await bench.reading(bench.stable(V2))).kind == "stalled"
    await bench.step(bench.back(V1))


async def test_two_bad_versions_in_a_row_end_at_the_good_one(bench: Bench) -> None:
    await bench.installed(V1)
    for image in (V2, V3):
        bench.run = uuid4()
        await bench.step(bench.canary(image))
        await bench.apply(bench.traffic(10))
        bench.server.finish(fails="crash loop")
        await bench.step(bench.back(None))
        await bench.step(bench.traffic(0))
    seen = await bench.seen()
    assert seen.stable is not None
    assert (seen.stable.image, seen.stable.ready) == (V1, True)


async def test_a_broken_stable_does_not_block_the_fix(bench: Bench) -> None:
    await bench.installed(V1)
    await bench.apply(bench.stable(V2))
    bench.server.render()
    bench.server.finish(fails="probe failed")
    bench.run = uuid4()
    for action in (bench.canary(V3), bench.traffic(10), bench.traffic(50), bench.stable(V3)):
        await bench.step(action)
    assert bench.rollouts()[-1] == (V3, "SUCCEEDED")


async def test_a_version_without_release_cannot_be_restored_and_says_so(bench: Bench) -> None:
    await bench.installed(V1)
    await bench.installed(V2)
    with pytest.raises(Permanent, match=r"no release of registry\.example/web:3") as caught:
        await bench.apply(bench.back(V3))
    assert "anew" in caught.value.remedy


# --- what is refused -----------------------------------------------------------------------------


async def test_weights_that_the_pipeline_does_not_have_are_refused_before_anything(
    bench: Bench,
) -> None:
    await bench.installed(V1)
    with pytest.raises(Permanent, match=r"no canary phase of 25% \(it has: 10%, 50%\)"):
        await bench.apply(bench.canary(V2, 25))
    with pytest.raises(Permanent, match="goes 10%, 50%, and that of web/prod 50%, 50%"):
        await bench.apply(bench.canary(V2, 50))
    bench.target = bench.target.model_copy(update={"weights": (10, 25, 50)})
    with pytest.raises(Permanent, match="and that of web/prod 10%, 25%, 50%") as caught:
        await bench.apply(bench.canary(V2, 10))
    assert "percentages" in caught.value.remedy
    assert len(bench.server.releases) == 1


async def test_a_first_canary_is_refused_because_cloud_deploy_would_skip_it(bench: Bench) -> None:
    with pytest.raises(Permanent, match="skips the canary the first time"):
        await bench.apply(bench.canary(V2))
    seen = await bench.seen()
    assert seen.stable is None
    assert seen.canary is None


async def test_a_rollout_that_somebody_else_has_under_way_is_left_alone(bench: Bench) -> None:
    await bench.installed(V1)
    await bench.canaried()
    bench.run = uuid4()
    with pytest.raises(Permanent, match="this run has not made"):
        await bench.apply(bench.canary(V2))
    with pytest.raises(Permanent, match="this run has not made"):
        await bench.apply(bench.stable(V3))
    assert bench.rollouts()[-1] == (V2, "IN_PROGRESS")


async def test_a_canary_that_serves_is_not_retired(bench: Bench) -> None:
    await bench.installed(V1)
    await bench.canaried()
    for action in (K8sRetire(target=bench.target), bench.traffic(0)):
        with pytest.raises(Permanent, match="roll"):
            await bench.apply(action)


async def test_a_suspended_pipeline_is_refused_before_anything_is_called_off(
    bench: Bench,
) -> None:
    await bench.installed(V1)
    await bench.canaried()
    bench.server.pipelines[PIPELINE].suspended = True
    for action in (bench.traffic(50), bench.stable(V2), bench.back(None)):
        with pytest.raises(Permanent, match="suspended") as caught:
            await bench.apply(action)
        assert "lift the suspension" in caught.value.remedy
    assert bench.rollouts()[-1] == (V2, "IN_PROGRESS")


async def test_a_target_that_the_pipeline_does_not_have_is_named(bench: Bench) -> None:
    bench.target = web(environment="qa")
    with pytest.raises(Permanent, match="no stage for target qa") as caught:
        await bench.seen()
    assert "targets" in caught.value.remedy


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said"), [(401, "GOOGLE_APPLICATION_CREDENTIALS"), (403, "releaser"), (400, "see")]
)
async def test_a_refusal_is_permanent_and_says_what_helps(
    bench: Bench, status: int, said: str
) -> None:
    await bench.installed(V1)
    bench.server.faults.append(Fault("POST", RELEASES, status=status, times=3))
    with pytest.raises(Permanent) as caught:
        await bench.apply(bench.canary(V2))
    assert said in caught.value.remedy
    assert bench.server.token not in str(caught.value)


async def test_a_pipeline_that_is_not_there_is_permanent(bench: Bench) -> None:
    bench.server.pipelines.clear()
    with pytest.raises(Permanent, match="404") as caught:
        await bench.seen()
    assert "services.yaml" in caught.value.remedy


async def test_a_limit_is_waited_for_as_long_as_the_server_says(bench: Bench) -> None:
    bench.server.faults.append(Fault("GET", status=429, headers={"Retry-After": "7"}))
    with pytest.raises(Temporary) as caught:
        await bench.seen()
    assert caught.value.retry_after == 7


async def test_reads_are_repeated_a_little(bench: Bench) -> None:
    await bench.installed(V1)
    bench.server.faults.append(Fault("GET", status=502, times=2))
    assert (await bench.seen()).stable is not None


async def test_a_name_that_is_taken_by_an_earlier_try_is_used(bench: Bench) -> None:
    await bench.installed(V1)
    action = bench.canary(V2)
    bench.server.faults.append(Fault("POST", RELEASES, status=500))
    with pytest.raises(OutcomeUnknown):
        await bench.apply(action)
    assert await bench.writer.read_back(action, bench.stamp(action)) is None
    await bench.step(action)
    await bench.apply(bench.traffic(10))
    assert len(bench.server.releases) == 2


@pytest.mark.parametrize("how", ["cut", "hang"])
@pytest.mark.parametrize("which", ["release", "rollout", "advance", "final", "back"])
async def test_a_lost_answer_is_read_back_and_nothing_is_done_twice(
    bench: Bench, how: str, which: str
) -> None:
    await bench.installed(V1)
    action: Action
    if which == "release":
        action, path = bench.canary(V2), RELEASES
    elif which == "rollout":
        await bench.step(bench.canary(V2))
        action, path = bench.traffic(10), ROLLOUTS
    elif which == "advance":
        await bench.canaried()
        action, path = bench.traffic(50), ":advance$"
    elif which == "final":
        await bench.canaried()
        await bench.step(bench.traffic(50))
        action, path = bench.stable(V2), ":advance$"
    else:
        await bench.installed(V2)
        action, path = bench.back(V1), ":rollbackTarget$"
    fault = Fault("POST", path, cut="after") if how == "cut" else Fault("POST", path, hang=True)
    bench.server.faults.append(fault)
    # The answer that hangs is soon given up on; whatever else is asked for has its time.
    async with asking(bench.server, timeout=1.5) as hasty:
        writer = CloudDeployWriter(hasty, patience=0.3) if how == "hang" else bench.writer
        with pytest.raises(OutcomeUnknown):
            await writer.apply(action, bench.stamp(action), bench.guard)
    found = await bench.writer.read_back(action, bench.stamp(action))
    assert found is not None
    sent = len(bench.server.requests("POST"))
    await bench.step(action)
    assert len(bench.server.requests("POST")) == sent


async def test_an_answer_that_never_came_for_what_was_not_done_is_done_anew(bench: Bench) -> None:
    await bench.installed(V1)
    action = bench.canary(V2)
    bench.server.faults.append(Fault("POST", RELEASES, cut="before"))
    with pytest.raises(OutcomeUnknown):
        await bench.apply(action)
    assert await bench.writer.read_back(action, bench.stamp(action)) is None
    await bench.step(action)


async def test_nobody_at_the_address_is_temporary_even_for_a_write() -> None:
    client = CloudDeployClient("http://127.0.0.1:9", timeout=1.0)
    writer = CloudDeployWriter(client)
    action = K8sRollback(target=web(), image=None)
    stamp = Stamp(run_id=uuid4(), step_id="s", digest="d", decision_id=uuid4())
    with pytest.raises(Temporary, match="cannot be reached"):
        await writer.apply(action, stamp, Asked())
    await client.aclose()


async def test_a_worker_without_its_lease_sends_nothing(bench: Bench) -> None:
    await bench.installed(V1)
    before = len(bench.server.requests("POST"))
    bench.guard = Asked(lost_at=1)
    with pytest.raises(LeaseLost):
        await bench.apply(bench.canary(V2))
    assert len(bench.server.requests("POST")) == before


async def test_a_worker_killed_between_cancel_and_rollback_is_carried_on(bench: Bench) -> None:
    await bench.installed(V1)
    await bench.canaried()
    bench.server.faults.append(Fault("POST", ":cancel$", cut="after"))
    with pytest.raises(OutcomeUnknown):
        await bench.apply(bench.back(None))
    assert await bench.writer.read_back(bench.back(None), bench.stamp(bench.back(None))) is None
    bench.server.finish()
    await bench.step(bench.back(None))
    assert bench.rollouts()[-1] == (V1, "SUCCEEDED")
