"""What the cluster adapter promises of each write: stamps, conflicts, leases, refusals, silences.

On the emulator and on a real API server behind a relay; faults strike in front of both.
"""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from domain.action import Action, K8sDeploy, K8sRetire, K8sRollback
from domain.errors import LeaseLost, OutcomeUnknown, Permanent, Temporary
from tests.contract.cluster_bench import V1, V2, V3, Bench, stable_ready, weights
from tools.cluster_client import ClusterClient
from tools.cluster_read import KubernetesReader
from tools.cluster_write import KubernetesWriter

pytest_plugins = ("tests.contract.cluster_fixtures",)

# --- stamps, conflicts, leases ---


async def test_what_was_done_can_be_read_back_by_run_step_and_digest(bench: Bench) -> None:
    await bench.installed()
    actions: list[Action] = [
        bench.stable(V2),
        bench.canary(V3),
        bench.traffic(10),
        bench.traffic(0),
        K8sRollback(target=bench.target, image=V1),
        K8sRetire(target=bench.target),
    ]
    for action in actions:
        stamp = bench.stamp(action)
        assert await bench.writer.read_back(action, stamp) is None, action
        await bench.apply(action)
        found = await bench.writer.read_back(action, stamp)
        assert found is not None, action
        assert found.data["read_back"] is True
        for other in ({"step_id": "another"}, {"run_id": uuid4()}, {"digest": "0" * 64}):
            assert await bench.writer.read_back(action, stamp.model_copy(update=other)) is None
        if isinstance(action, K8sDeploy):
            await bench.until(lambda now: now.canary is None or now.canary.ready)


async def test_what_others_have_changed_since_is_not_read_back_as_done(bench: Bench) -> None:
    await bench.installed()
    action = bench.stable(V2)
    await bench.apply(action)
    stamp = bench.stamp(action)
    assert await bench.writer.read_back(action, stamp) is not None
    await bench.writer.apply(bench.stable(V3), stamp, bench.guard)
    assert await bench.writer.read_back(action, stamp) is None


async def test_a_conflict_is_read_again_and_tried_again(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2)
    interferences = 2
    plain = bench.guard

    async def guard() -> None:
        nonlocal interferences
        await plain()
        # Between reading and writing, somebody else writes.
        if interferences:
            note = {"metadata": {"annotations": {"by": f"someone-{interferences}"}}}
            await bench.site.merge("httproutes", bench.where, "web", note)
            interferences -= 1

    action = bench.traffic(10)
    await bench.writer.apply(action, bench.stamp(action), guard)
    route = await bench.site.get("httproutes", bench.where, "web")
    assert weights(route) == [[("web", 90), ("web-canary", 10)]]
    assert route["metadata"]["annotations"]["by"] == "someone-1"
    assert interferences == 0


async def test_endless_conflicts_end_as_temporary(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2)
    tries = 0

    async def guard() -> None:
        nonlocal tries
        tries += 1
        note = {"metadata": {"annotations": {"by": str(tries)}}}
        await bench.site.merge("httproutes", bench.where, "web", note)

    action = bench.traffic(10)
    with pytest.raises(Temporary):
        await bench.writer.apply(action, bench.stamp(action), guard)
    assert 3 <= tries <= 10
    route = await bench.site.get("httproutes", bench.where, "web")
    assert weights(route) == [[("web", 100), ("web-canary", 0)]]


async def test_nothing_is_sent_once_the_lease_is_lost(bench: Bench) -> None:
    await bench.installed()
    bench.has_lease = False
    for action in (bench.stable(V2), bench.canary(V2)):
        with pytest.raises(LeaseLost):
            await bench.apply(action)
    assert not await bench.site.exists("services", bench.where, "canary")
    state = await bench.seen()
    assert state.stable is not None
    assert state.stable.image == V1
    assert state.canary is None


# --- the server's refusals and silences ---


async def test_a_cut_after_the_write_is_unknown_and_reads_back_as_done(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2)
    action = bench.traffic(10)
    cut = bench.fault("/httproutes/web", "PATCH", cut="after")
    with pytest.raises(OutcomeUnknown):
        await bench.apply(action)
    assert cut.hits == 1
    assert await bench.writer.read_back(action, bench.stamp(action)) is not None


async def test_a_cut_before_the_write_is_unknown_and_reads_back_as_not_done(bench: Bench) -> None:
    await bench.installed()
    await bench.canaried(V2)
    action = bench.traffic(10)
    cut = bench.fault("/httproutes/web", "PATCH", cut="before")
    with pytest.raises(OutcomeUnknown):
        await bench.apply(action)
    assert cut.hits == 1
    assert await bench.writer.read_back(action, bench.stamp(action)) is None
    await bench.apply(action)
    assert await bench.writer.read_back(action, bench.stamp(action)) is not None


async def test_a_create_that_was_cut_off_is_found_by_the_next_try(bench: Bench) -> None:
    bench.fault("/deployments", "POST", cut="after")
    action = bench.stable(V1)
    with pytest.raises(OutcomeUnknown):
        await bench.apply(action)
    assert await bench.writer.read_back(action, bench.stamp(action)) is not None
    again = await bench.apply(action)
    assert again.data["changed"] is False


async def test_a_write_that_hangs_is_unknown(bench: Bench, tmp_path: Path) -> None:
    await bench.installed()
    bench.fault("/deployments/web", "PATCH", hang=2.0)
    kubeconfig = bench.site.kubeconfig(tmp_path / "hasty")
    async with ClusterClient(kubeconfig, timeout=0.5) as hasty:
        action = bench.stable(V2)
        with pytest.raises(OutcomeUnknown, match="no answer within"):
            await KubernetesWriter(hasty).apply(action, bench.stamp(action), bench.guard)


async def test_a_read_that_hangs_is_temporary_and_not_asked_again(
    bench: Bench, tmp_path: Path
) -> None:
    hang = bench.fault("/deployments/web", hang=2.0, count=None)
    kubeconfig = bench.site.kubeconfig(tmp_path / "hasty")
    async with ClusterClient(kubeconfig, timeout=0.3) as hasty:
        with pytest.raises(Temporary, match="no answer within"):
            await KubernetesReader(hasty).workload(bench.target)
    assert hang.hits == 1


async def test_too_many_requests_is_temporary_for_as_long_as_the_server_says(
    bench: Bench,
) -> None:
    await bench.installed()
    limit = bench.fault("/deployments/web$", status=429, headers={"Retry-After": "7"}, count=None)
    with pytest.raises(Temporary) as refused:
        await bench.seen()
    assert (refused.value.retry_after, limit.hits) == (7.0, 1)
    bench.site.faults.clear()
    bench.fault("/deployments/web", "PATCH", status=429, headers={"Retry-After": "3"})
    with pytest.raises(Temporary) as refused:
        await bench.apply(bench.stable(V2))
    assert refused.value.retry_after == 3.0


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_server_that_fails_over_a_write_it_did_not_do_is_temporary(
    bench: Bench, status: int
) -> None:
    await bench.installed()
    fault = bench.fault("/deployments/web", "PATCH", status=status)
    with pytest.raises(Temporary):
        await bench.apply(bench.stable(V2))
    assert fault.hits == 1
    await bench.apply(bench.stable(V2))


async def test_a_read_survives_a_passing_failure(bench: Bench) -> None:
    await bench.installed()
    fault = bench.fault("/deployments/web$", status=500, count=2)
    state = await bench.seen()
    assert state.stable is not None
    assert fault.hits == 2


async def test_a_lasting_failure_over_a_write_and_its_check_is_unknown(bench: Bench) -> None:
    await bench.installed()
    plain = bench.guard

    async def guard() -> None:
        await plain()
        bench.fault("/deployments/web", ".*", status=500, count=None)

    action = bench.stable(V2)
    with pytest.raises(OutcomeUnknown):
        await bench.writer.apply(action, bench.stamp(action), guard)


@pytest.mark.parametrize(
    ("status", "words"), [(401, "kubeconfig"), (403, "can-i patch"), (422, "invalid")]
)
async def test_a_refusal_is_permanent_and_says_what_would_help(
    bench: Bench, status: int, words: str
) -> None:
    await bench.installed()
    bench.fault("/deployments/web", "PATCH", status=status)
    with pytest.raises(Permanent) as refused:
        await bench.apply(bench.stable(V2))
    assert words in refused.value.remedy
    assert bench.site.token not in f"{refused.value} {refused.value.remedy}"


async def test_a_wrong_token_is_permanent_and_not_shown(bench: Bench, tmp_path: Path) -> None:
    kubeconfig = bench.site.kubeconfig(tmp_path / "wrong", token="wrong-but-secret")
    async with ClusterClient(kubeconfig) as stranger:
        with pytest.raises(Permanent, match="credentials") as refused:
            await KubernetesReader(stranger).workload(bench.target)
    assert "wrong-but-secret" not in f"{refused.value} {refused.value.remedy}"


async def test_an_invalid_image_is_refused_by_the_server_itself(bench: Bench) -> None:
    await bench.installed()
    with pytest.raises(Permanent, match="422") as refused:
        await bench.apply(bench.stable(""))
    assert "image" in str(refused.value)


@pytest.mark.parametrize("site", ["real"], indirect=True)
async def test_an_account_that_may_only_read_is_told_which_right_it_lacks(
    bench: Bench, tmp_path: Path
) -> None:
    assert bench.site.restricted is not None
    await bench.installed()
    rules = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
        {
            "apiGroups": ["autoscaling"],
            "resources": ["horizontalpodautoscalers"],
            "verbs": ["list"],
        },
    ]
    token = bench.site.restricted(bench.where, rules)
    async with ClusterClient(bench.site.kubeconfig(tmp_path / "reader", token)) as reader:
        action = bench.stable(V2)
        with pytest.raises(Permanent, match="403") as refused:
            await KubernetesWriter(reader).apply(action, bench.stamp(action), bench.guard)
    assert f"can-i patch deployments.apps -n {bench.where}" in refused.value.remedy


async def test_a_cluster_that_is_down_is_temporary_for_reads_and_writes(
    bench: Bench, tmp_path: Path, unused_tcp_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with ClusterClient(bench.site.kubeconfig(tmp_path / "down", url=url)) as down:
        with pytest.raises(Temporary, match="cannot be reached"):
            await KubernetesReader(down).workload(bench.target)
        action = bench.stable(V1)
        with pytest.raises(Temporary, match="cannot be reached"):
            await KubernetesWriter(down).apply(action, bench.stamp(action), bench.guard)


@pytest.mark.parametrize("site", ["real"], indirect=True)
async def test_the_role_in_the_documentation_is_enough_for_a_release_and_its_way_back(
    bench: Bench, tmp_path: Path
) -> None:
    text = Path(__file__).parents[2].joinpath("docs/kubernetes.md").read_text(encoding="utf-8")
    role = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert bench.site.restricted is not None
    token = bench.site.restricted(bench.where, role["rules"])
    async with ClusterClient(bench.site.kubeconfig(tmp_path / "role", token)) as client:
        bench.client = client
        await bench.installed(V1)
        await bench.canaried(V2)
        await bench.apply(bench.traffic(10))
        await bench.apply(K8sRollback(target=bench.target, image=V1))
        await bench.apply(bench.traffic(0))
        await bench.apply(K8sRetire(target=bench.target))
        await bench.apply(bench.stable(V3))
        await bench.until(stable_ready)
