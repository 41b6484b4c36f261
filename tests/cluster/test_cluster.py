"""The control plane behaves like one, and nothing of it stays behind."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import build
from tests.cluster.api import ApiError, Object
from tests.cluster.cluster import Cluster, ClusterError, available

REASON = available()
NO_ROLLOUTS = available(rollouts=True)
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        yield running


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    return cluster.create_namespace()


def eventually(check: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def workload(name: str, image: str, replicas: int) -> Object:
    """The part that Deployments and Rollouts share."""
    labels = {"app": name}
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
        },
    }


def deployments(namespace: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments"


def ready_replicas(cluster: Cluster, namespace: str, name: str) -> int:
    status = cluster.api.get(f"{deployments(namespace)}/{name}")["status"]
    return int(status.get("readyReplicas", 0))


def is_alive(pid: int) -> bool:
    try:
        # A zombie whose parent has not asked for it yet does nothing any more.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_server_reports_the_pinned_version(cluster: Cluster) -> None:
    version = cluster.api.get("/version")
    assert version["gitVersion"] == build.version_of("kube", "k8s.io/kubernetes")
    assert json.loads(cluster.kubectl("version", "-o", "json"))["serverVersion"] == version


def test_a_deployment_of_three_replicas_becomes_ready(cluster: Cluster, namespace: str) -> None:
    cluster.api.post(deployments(namespace), workload("web", "example.org/web:v1", 3))
    assert eventually(lambda: ready_replicas(cluster, namespace, "web") == 3)
    rolled_out = cluster.kubectl("-n", namespace, "rollout", "status", "deployment/web")
    assert "successfully rolled out" in rolled_out


def test_an_image_tagged_broken_never_becomes_ready(cluster: Cluster, namespace: str) -> None:
    cluster.api.post(deployments(namespace), workload("web", "example.org/web:broken-1", 1))

    def waiting_reasons() -> list[str]:
        return [
            container["state"]["waiting"]["reason"]
            for pod in cluster.api.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
            for container in pod["status"].get("containerStatuses", [])
        ]

    assert eventually(lambda: waiting_reasons() == ["ImagePullBackOff"])
    assert ready_replicas(cluster, namespace, "web") == 0
    # It goes away like any other pod.
    cluster.api.delete(f"{deployments(namespace)}/web")
    assert eventually(lambda: waiting_reasons() == [])


def test_an_http_route_can_be_created_and_a_wrong_one_cannot(
    cluster: Cluster, namespace: str
) -> None:
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes"
    backends = [{"name": "stable", "port": 80, "weight": 90}, {"name": "canary", "port": 80}]
    route: Object = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "web"},
        "spec": {"rules": [{"backendRefs": backends}]},
    }
    made = cluster.api.post(path, route)
    assert [ref["weight"] for ref in made["spec"]["rules"][0]["backendRefs"]] == [90, 1]
    assert made["metadata"]["generation"] == 1

    route["metadata"]["name"] = "wrong"
    backends[0]["weight"] = -1
    with pytest.raises(ApiError) as refused:
        cluster.api.post(path, route)
    assert (refused.value.status, refused.value.reason) == (422, "Invalid")


def test_a_write_with_a_stale_resource_version_is_a_conflict(
    cluster: Cluster, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    stale = cluster.api.post(path, {"metadata": {"name": "settings"}, "data": {"n": "1"}})
    cluster.api.merge(f"{path}/settings", {"data": {"n": "2"}})
    with pytest.raises(ApiError) as refused:
        cluster.api.put(f"{path}/settings", stale | {"data": {"n": "3"}})
    assert (refused.value.status, refused.value.reason) == (409, "Conflict")
    assert cluster.api.get(f"{path}/settings")["data"] == {"n": "2"}


def test_a_restricted_token_may_do_what_its_rules_say_and_no_more(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]}]
    token = cluster.create_token("reader", rules, namespace)
    reader = cluster.api.as_user(token)
    assert reader.get(deployments(namespace))["items"] == []
    for path in (deployments("default"), f"/api/v1/namespaces/{namespace}/secrets"):
        with pytest.raises(ApiError) as refused:
            reader.get(path)
        assert refused.value.status == 403
    with pytest.raises(ApiError) as refused:
        cluster.api.as_user("wrong").get("/version")
    assert refused.value.status == 401
    kubeconfig = cluster.write_kubeconfig(tmp_path / "reader", token)
    assert kubeconfig.stat().st_mode & 0o777 == 0o600
    listed = ("-n", namespace, "get", "deployments", "-o", "name", f"--kubeconfig={kubeconfig}")
    assert cluster.kubectl(*listed) == ""


def test_a_failing_kubectl_raises_with_its_words(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="NotFound"):
        cluster.kubectl("get", "deployment", "nothing-of-that-name")


def test_a_killed_api_server_comes_back_on_the_same_address_with_its_data(
    cluster: Cluster, namespace: str
) -> None:
    cluster.kill("kube-apiserver")
    with pytest.raises(OSError, match="refused"):
        cluster.api.get("/version")
    cluster.restart("kube-apiserver")
    cluster.wait_ready(60)
    cluster.api.post(deployments(namespace), workload("web", "example.org/web:v1", 1))
    assert eventually(lambda: ready_replicas(cluster, namespace, "web") == 1, 60)


@pytest.mark.skipif(NO_ROLLOUTS is not None, reason=NO_ROLLOUTS or "")
def test_an_aborted_rollout_turns_degraded(cluster: Cluster, namespace: str) -> None:
    cluster.start_rollouts_controller()
    path = f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/rollouts"
    rollout = workload("web", "example.org/web:v1", 4)
    rollout |= {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}
    rollout["spec"]["strategy"] = {"canary": {"steps": [{"setWeight": 25}, {"pause": {}}]}}
    cluster.api.post(path, rollout)

    def phase() -> str:
        return str(cluster.api.get(f"{path}/web").get("status", {}).get("phase"))

    assert eventually(lambda: phase() == "Healthy")
    template = {"spec": {"containers": [{"name": "main", "image": "example.org/web:v2"}]}}
    cluster.api.merge(f"{path}/web", {"spec": {"template": template}})
    assert eventually(lambda: phase() == "Paused")
    cluster.api.merge(f"{path}/web/status", {"status": {"abort": True}})
    nudges = itertools.count()

    def degraded() -> bool:
        # This version's controller forgets an abort that comes right after a status write of its
        # own (it puts its older copy back into its cache), and sleeps on. Saying "abort" again
        # changes nothing, so no event follows; a new annotation wakes it with the true state.
        nudge = {"metadata": {"annotations": {"test/nudge": str(next(nudges))}}}
        cluster.api.merge(f"{path}/web", nudge)
        return eventually(lambda: phase() == "Degraded", 2)

    assert eventually(degraded)
    assert "RolloutAborted" in cluster.api.get(f"{path}/web")["status"]["message"]


def test_stop_ends_every_process_and_removes_the_folder() -> None:
    cluster = Cluster(nodes=2).start()
    data, pids = cluster.data, cluster.pids
    assert set(pids) == {binary.name for binary in build.BINARIES} - {"kubectl"}
    cluster.stop()
    cluster.stop()
    assert not any(map(is_alive, pids.values()))
    assert not data.exists()


def test_a_killed_owner_takes_its_processes_along_and_the_next_cluster_its_folder() -> None:
    code = """
        import json, sys, threading
        from tests.cluster.cluster import Cluster
        cluster = Cluster()
        starter = threading.Thread(target=cluster.start)  # ends; the servers must live on
        starter.start()
        starter.join()
        print(json.dumps([str(cluster.data), cluster.pids]), flush=True)
        sys.stdin.read()
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    data, pids = json.loads(owner.stdout.readline())
    assert len(pids) == 5
    assert all(map(is_alive, pids.values()))
    os.kill(owner.pid, signal.SIGKILL)
    owner.communicate()
    assert eventually(lambda: not any(map(is_alive, pids.values())), 10)
    assert Path(data).exists()
    with Cluster():
        assert not Path(data).exists()


def test_a_failed_start_says_which_log_ended_how_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = build.locate()
    cache = build.Cache(tmp_path / "cache")
    cache.binary("x").parent.mkdir(parents=True)
    for part in ("crds", "stages"):
        (cache.root / part).symlink_to(real.root / part)
    for binary in build.BINARIES:
        cache.binary(binary.name).symlink_to(real.binary(binary.name))
    cache.binary("kwok").unlink()
    cache.binary("kwok").write_text("#!/bin/sh\necho no stages today\nexit 1\n")
    cache.binary("kwok").chmod(0o755)
    monkeypatch.setattr(build, "locate", lambda: cache)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with pytest.raises(ClusterError, match=r"(?s)kwok ended.*kwok\.log\nno stages today"):
        Cluster().start()
    assert list(temporary.iterdir()) == []
