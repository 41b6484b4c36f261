"""Deployments and what their controllers make of them."""

from __future__ import annotations

from tests.world.kube import (
    JSON_PATCH,
    STRATEGIC,
    Kube,
    conditions,
    deployment,
    rolled_out,
)


class WorkloadContract:
    """Promises about rollouts."""

    # --- deployments ---

    async def test_rollout_makes_sets_and_ready_pods(self, kube: Kube) -> None:
        await kube.create("deployments", deployment())
        done = await kube.until("deployments", "web", rolled_out)
        assert done["status"]["readyReplicas"] == 2
        assert "unavailableReplicas" not in done["status"]
        assert done["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
        (rs,) = await kube.items("replicasets", labelSelector="app=web")
        pod_hash = rs["metadata"]["labels"]["pod-template-hash"]
        assert rs["metadata"]["name"] == f"web-{pod_hash}"
        assert rs["metadata"]["ownerReferences"][0]["uid"] == done["metadata"]["uid"]
        pods = await kube.items("pods", labelSelector=f"pod-template-hash={pod_hash}")
        assert len(pods) == 2
        assert all(conditions(p)["Ready"]["status"] == "True" for p in pods)
        final = await kube.until(
            "deployments",
            "web",
            lambda o: conditions(o)["Progressing"]["reason"] == "NewReplicaSetAvailable",
        )
        assert conditions(final)["Available"]["status"] == "True"

    async def test_new_image_rolls_and_old_set_is_kept_empty(self, kube: Kube) -> None:
        await kube.create("deployments", deployment())
        await kube.until("deployments", "web", rolled_out)
        path = "/spec/template/spec/containers/0/image"
        change = [{"op": "replace", "path": path, "value": "registry.example/web:2"}]
        await kube.patched("deployments", "web", change, JSON_PATCH)
        done = await kube.until("deployments", "web", rolled_out)
        assert done["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
        sets = await kube.items("replicasets")
        assert sorted(rs["spec"]["replicas"] for rs in sets) == [0, 2]
        pods = await kube.until_items("pods", lambda ps: len(ps) == 2)
        images = {p["spec"]["containers"][0]["image"] for p in pods}
        assert images == {"registry.example/web:2"}

    async def test_going_back_reuses_the_set_under_a_new_revision(self, kube: Kube) -> None:
        await kube.create("deployments", deployment())
        await kube.until("deployments", "web", rolled_out)
        path = "/spec/template/spec/containers/0/image"
        for tag in ("2", "1"):
            change = [{"op": "replace", "path": path, "value": f"registry.example/web:{tag}"}]
            await kube.patched("deployments", "web", change, JSON_PATCH)
            done = await kube.until("deployments", "web", rolled_out)
        assert done["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
        assert len(await kube.items("replicasets")) == 2

    async def test_bad_image_stalls_and_keeps_the_old_pods(self, kube: Kube) -> None:
        body = deployment()
        body["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        body["spec"]["progressDeadlineSeconds"] = 2
        await kube.create("deployments", body)
        await kube.until("deployments", "web", rolled_out)
        path = "/spec/template/spec/containers/0/image"
        change = [{"op": "replace", "path": path, "value": "registry.example/web:broken-2"}]
        await kube.patched("deployments", "web", change, JSON_PATCH)
        stalled = await kube.until(
            "deployments",
            "web",
            lambda o: conditions(o)["Progressing"]["reason"] == "ProgressDeadlineExceeded",
        )
        assert conditions(stalled)["Progressing"]["status"] == "False"
        assert conditions(stalled)["Available"]["status"] == "True"
        assert stalled["status"]["availableReplicas"] == 2
        assert stalled["status"]["updatedReplicas"] == 1
        assert stalled["status"]["unavailableReplicas"] == 1
        back = [{"op": "replace", "path": path, "value": "registry.example/web:1"}]
        await kube.patched("deployments", "web", back, JSON_PATCH)
        await kube.until("deployments", "web", rolled_out)

    async def test_paused_deployment_does_not_roll_but_scales(self, kube: Kube) -> None:
        await kube.create("deployments", deployment())
        await kube.until("deployments", "web", rolled_out)
        containers = [{"name": "main", "image": "registry.example/web:2"}]
        body = {
            "spec": {
                "paused": True,
                "replicas": 3,
                "template": {"spec": {"containers": containers}},
            }
        }
        await kube.patched("deployments", "web", body, STRATEGIC)
        await kube.until(
            "deployments",
            "web",
            lambda o: (
                o["status"].get("availableReplicas") == 3
                and conditions(o)["Progressing"]["reason"] == "DeploymentPaused"
            ),
        )
        assert len(await kube.items("replicasets")) == 1
        await kube.patched("deployments", "web", {"spec": {"paused": None}})
        await kube.until("deployments", "web", rolled_out)

    async def test_recreate_strategy_replaces_everything(self, kube: Kube) -> None:
        body = deployment()
        body["spec"]["strategy"] = {"type": "Recreate"}
        await kube.create("deployments", body)
        await kube.until("deployments", "web", rolled_out)
        path = "/spec/template/spec/containers/0/image"
        change = [{"op": "replace", "path": path, "value": "registry.example/web:2"}]
        await kube.patched("deployments", "web", change, JSON_PATCH)
        await kube.until("deployments", "web", rolled_out)
        pods = await kube.until_items("pods", lambda ps: len(ps) == 2)
        assert {p["spec"]["containers"][0]["image"] for p in pods} == {"registry.example/web:2"}

    async def test_deleted_pod_is_replaced(self, kube: Kube) -> None:
        await kube.create("deployments", deployment())
        await kube.until("deployments", "web", rolled_out)
        before = {p["metadata"]["name"] for p in await kube.items("pods")}
        victim = min(before)
        await kube.http.delete(kube.path("pods", victim), params={"gracePeriodSeconds": "0"})
        await kube.until_items(
            "pods", lambda ps: len(ps) == 2 and {p["metadata"]["name"] for p in ps} != before
        )
        await kube.until("deployments", "web", rolled_out)

    async def test_deletion_cascades(self, kube: Kube) -> None:
        await kube.create("deployments", deployment())
        await kube.until("deployments", "web", rolled_out)
        await kube.http.delete(kube.path("deployments", "web"))
        await kube.until_items("replicasets", lambda found: not found)
        await kube.until_items("pods", lambda found: not found)

    async def test_orphaning_leaves_the_sets_alone(self, kube: Kube) -> None:
        await kube.create("deployments", deployment())
        await kube.until("deployments", "web", rolled_out)
        options = {"propagationPolicy": "Orphan"}
        await kube.http.request("DELETE", kube.path("deployments", "web"), json=options)
        (rs,) = await kube.until_items(
            "replicasets",
            lambda found: len(found) == 1 and not found[0]["metadata"].get("ownerReferences"),
        )
        assert rs["spec"]["replicas"] == 2
