"""Identity, versions, refusals, deletion and kinds: what holds for single objects."""

from __future__ import annotations

import uuid

import pytest

from tests.world.kube import (
    MERGE,
    STRATEGIC,
    Kube,
    Obj,
    config_map,
    deployment,
    fields_of,
    refused,
    route,
)


class ObjectContract:
    """Promises about one object at a time."""

    # --- identity and versions ---

    async def test_create_stamps_identity_and_defaults(self, kube: Kube) -> None:
        made = await kube.create("deployments", deployment())
        meta, spec = made["metadata"], made["spec"]
        assert uuid.UUID(meta["uid"])
        assert meta["creationTimestamp"].endswith("Z")
        assert int(meta["resourceVersion"]) > 0
        assert meta["generation"] == 1
        assert meta["namespace"] == kube.namespace
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
        assert spec["progressDeadlineSeconds"] == 600
        assert spec["revisionHistoryLimit"] == 10
        container = spec["template"]["spec"]["containers"][0]
        assert container["imagePullPolicy"] == "IfNotPresent"
        assert container["ports"][0]["protocol"] == "TCP"

    async def test_create_ignores_status_and_server_fields_in_the_body(self, kube: Kube) -> None:
        body = deployment() | {"status": {"replicas": 77}}
        body["metadata"]["generation"] = 12
        made = await kube.create("deployments", body)
        assert made["metadata"]["generation"] == 1
        assert made["status"].get("replicas") != 77

    async def test_generate_name_makes_distinct_names(self, kube: Kube) -> None:
        body = {"metadata": {"generateName": "part-"}}
        names = {(await kube.create("configmaps", body))["metadata"]["name"] for _ in range(3)}
        assert len(names) == 3
        assert all(name.startswith("part-") for name in names)

    async def test_second_create_is_already_exists(self, kube: Kube) -> None:
        await kube.create("configmaps", config_map("one"))
        answer = await kube.http.post(kube.path("configmaps"), json=config_map("one"))
        status = refused(answer, 409, "AlreadyExists")
        assert status["message"] == 'configmaps "one" already exists'
        assert status["details"] == {"name": "one", "kind": "configmaps"}

    async def test_missing_object_is_not_found(self, kube: Kube) -> None:
        answer = await kube.http.get(kube.path("deployments", "ghost"))
        status = refused(answer, 404, "NotFound")
        assert status["message"] == 'deployments.apps "ghost" not found'
        assert status["details"] == {"name": "ghost", "group": "apps", "kind": "deployments"}
        for response in (
            await kube.http.delete(kube.path("deployments", "ghost")),
            await kube.patch("deployments", "ghost", {"spec": {"replicas": 1}}),
            await kube.put("deployments", "ghost", deployment("ghost") | {"metadata": {
                "name": "ghost", "resourceVersion": "1"}}),
        ):  # fmt: skip
            refused(response, 404, "NotFound")

    async def test_create_in_a_missing_namespace_is_not_found(self, kube: Kube) -> None:
        path = "api/v1/namespaces/there-is-none/configmaps"
        status = refused(await kube.http.post(path, json=config_map("x")), 404, "NotFound")
        assert status["message"] == 'namespaces "there-is-none" not found'

    async def test_unknown_resource_is_not_found(self, kube: Kube) -> None:
        answer = await kube.http.get(f"apis/apps/v1/namespaces/{kube.namespace}/gadgets")
        assert answer.status_code == 404

    async def test_every_write_raises_the_resource_version(self, kube: Kube) -> None:
        seen = [(await kube.create("configmaps", config_map("one", a="0")))]
        for i in range(1, 4):
            seen.append(await kube.patched("configmaps", "one", {"data": {"a": str(i)}}))
        versions = [int(obj["metadata"]["resourceVersion"]) for obj in seen]
        assert versions == sorted(set(versions))

    async def test_write_that_changes_nothing_keeps_the_resource_version(self, kube: Kube) -> None:
        made = await kube.create("configmaps", config_map("one", a="1"))
        same = await kube.patched("configmaps", "one", {"data": {"a": "1"}})
        assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]

    async def test_stale_put_is_a_conflict_and_changes_nothing(self, kube: Kube) -> None:
        old = await kube.create("configmaps", config_map("one", a="1"))
        await kube.patched("configmaps", "one", {"data": {"a": "2"}})
        old["data"]["a"] = "3"
        status = refused(await kube.put("configmaps", "one", old), 409, "Conflict")
        assert status["message"] == (
            'Operation cannot be fulfilled on configmaps "one": the object has been modified; '
            "please apply your changes to the latest version and try again"
        )
        assert (await kube.get("configmaps", "one"))["data"] == {"a": "2"}

    @pytest.mark.parametrize("media", [MERGE, STRATEGIC])
    async def test_patch_that_names_a_stale_version_is_a_conflict(
        self, kube: Kube, media: str
    ) -> None:
        old = await kube.create("configmaps", config_map("one", a="1"))
        await kube.patched("configmaps", "one", {"data": {"a": "2"}})
        version = old["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "data": {"a": "3"}}
        refused(await kube.patch("configmaps", "one", body, media), 409, "Conflict")

    async def test_put_without_version_is_unconditional_for_built_in_kinds(
        self, kube: Kube
    ) -> None:
        await kube.create("configmaps", config_map("one", a="1"))
        answer = await kube.put("configmaps", "one", config_map("one", a="2"))
        assert answer.status_code == 200
        assert answer.json()["data"] == {"a": "2"}

    async def test_put_of_a_custom_kind_must_name_a_version(self, kube: Kube) -> None:
        await kube.create("httproutes", route())
        status = refused(await kube.put("httproutes", "web", route()), 422, "Invalid")
        assert fields_of(status) == {"metadata.resourceVersion"}

    async def test_generation_counts_spec_changes_only(self, kube: Kube) -> None:
        await kube.create("deployments", deployment(replicas=0))
        one = await kube.patched("deployments", "web", {"metadata": {"labels": {"x": "y"}}})
        assert one["metadata"]["generation"] == 1
        two = await kube.patched("deployments", "web", {"spec": {"minReadySeconds": 1}})
        assert two["metadata"]["generation"] == 2

    async def test_status_subresource_never_changes_spec_and_vice_versa(self, kube: Kube) -> None:
        made = await kube.create("httproutes", route())
        parent: Obj = {
            "parentRef": {"name": "gate"}, "controllerName": "example.com/gate",
            "conditions": [{
                "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
                "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        }  # fmt: skip
        body = made | {"status": {"parents": [parent]}}
        body["spec"] = route(weights=(1, 99))["spec"]
        answer = await kube.patch(
            "httproutes", "web", {"spec": body["spec"], "status": body["status"]}, sub="status"
        )
        assert answer.status_code == 200, answer.text
        after = answer.json()
        assert after["metadata"]["generation"] == 1
        assert after["spec"]["rules"][0]["backendRefs"][0]["weight"] == 100
        assert after["status"]["parents"][0]["controllerName"] == "example.com/gate"
        spec_only = await kube.patched(
            "httproutes",
            "web",
            {"spec": route(weights=(90, 10))["spec"], "status": {"parents": []}},
        )
        assert spec_only["metadata"]["generation"] == 2
        assert len(spec_only["status"]["parents"]) >= 1

    async def test_uid_and_creation_time_survive_a_put(self, kube: Kube) -> None:
        made = await kube.create("configmaps", config_map("one"))
        answer = await kube.put("configmaps", "one", config_map("one", a="1"))
        for field in ("uid", "creationTimestamp"):
            assert answer.json()["metadata"][field] == made["metadata"][field]

    async def test_put_with_another_uid_is_a_conflict(self, kube: Kube) -> None:
        made = await kube.create("configmaps", config_map("one"))
        made["metadata"]["uid"] = str(uuid.uuid4())
        refused(await kube.put("configmaps", "one", made), 409, "Conflict")

    async def test_dry_run_changes_nothing(self, kube: Kube) -> None:
        await kube.create("configmaps", config_map("one"), dryRun="All")
        assert await kube.items("configmaps", labelSelector="app=web") == []
        await kube.create("configmaps", config_map("one", a="1"))
        answer = await kube.patch("configmaps", "one", {"data": {"a": "2"}}, dryRun="All")
        assert answer.json()["data"] == {"a": "2"}
        assert (await kube.get("configmaps", "one"))["data"] == {"a": "1"}

    # --- refusals ---

    async def test_selector_is_immutable(self, kube: Kube) -> None:
        await kube.create("deployments", deployment(replicas=0))
        labels = {"app": "web", "more": "x"}
        spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}
        status = refused(await kube.patch("deployments", "web", {"spec": spec}), 422, "Invalid")
        assert fields_of(status) == {"spec.selector"}
        assert "field is immutable" in status["message"]
        assert status["message"].startswith('Deployment.apps "web" is invalid: spec.selector: ')

    async def test_selector_must_match_the_template(self, kube: Kube) -> None:
        body = deployment()
        body["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
        answer = await kube.http.post(kube.path("deployments"), json=body)
        status = refused(answer, 422, "Invalid")
        assert status["details"]["causes"][0]["reason"] == "FieldValueInvalid"
        assert "`selector` does not match template `labels`" in status["message"]

    async def test_image_is_required(self, kube: Kube) -> None:
        body = deployment()
        del body["spec"]["template"]["spec"]["containers"][0]["image"]
        answer = await kube.http.post(kube.path("deployments"), json=body)
        status = refused(answer, 422, "Invalid")
        assert status["details"] == {
            "name": "web", "group": "apps", "kind": "Deployment",
            "causes": [{
                "reason": "FieldValueRequired", "message": "Required value",
                "field": "spec.template.spec.containers[0].image",
            }],
        }  # fmt: skip

    async def test_negative_replicas_are_invalid(self, kube: Kube) -> None:
        await kube.create("deployments", deployment(replicas=0))
        answer = await kube.patch("deployments", "web", {"spec": {"replicas": -1}})
        assert fields_of(refused(answer, 422, "Invalid")) == {"spec.replicas"}

    async def test_weight_out_of_range_is_invalid(self, kube: Kube) -> None:
        answer = await kube.http.post(kube.path("httproutes"), json=route(weights=(100, -1)))
        status = refused(answer, 422, "Invalid")
        assert "spec.rules[0].backendRefs[1].weight" in fields_of(status)

    async def test_wrong_type_is_a_bad_request(self, kube: Kube) -> None:
        body = deployment()
        body["spec"]["replicas"] = "three"
        answer = await kube.http.post(kube.path("deployments"), json=body)
        status = refused(answer, 400, "BadRequest")
        assert 'Deployment in version "v1" cannot be handled as a Deployment' in status["message"]

    async def test_broken_json_is_a_bad_request(self, kube: Kube) -> None:
        headers = {"Content-Type": "application/json"}
        answer = await kube.http.post(kube.path("configmaps"), content="{", headers=headers)
        refused(answer, 400, "BadRequest")

    async def test_bad_name_is_invalid(self, kube: Kube) -> None:
        answer = await kube.http.post(kube.path("configmaps"), json=config_map("No_Such"))
        assert fields_of(refused(answer, 422, "Invalid")) == {"metadata.name"}

    async def test_name_in_body_must_match_the_path(self, kube: Kube) -> None:
        await kube.create("configmaps", config_map("one"))
        refused(await kube.put("configmaps", "one", config_map("two")), 400, "BadRequest")

    async def test_namespace_in_body_must_match_the_path(self, kube: Kube) -> None:
        body = config_map("one")
        body["metadata"]["namespace"] = "default"
        answer = await kube.http.post(kube.path("configmaps"), json=body)
        refused(answer, 400, "BadRequest")

    async def test_unknown_patch_format_is_refused(self, kube: Kube) -> None:
        await kube.create("configmaps", config_map("one"))
        answer = await kube.patch("configmaps", "one", {}, "application/json")
        assert answer.status_code == 415

    # --- deletion ---

    async def test_delete_answers_and_removes(self, kube: Kube) -> None:
        made = await kube.create("configmaps", config_map("one"))
        answer = await kube.http.delete(kube.path("configmaps", "one"))
        assert answer.json()["status"] == "Success"
        assert answer.json()["details"]["uid"] == made["metadata"]["uid"]
        refused(await kube.http.get(kube.path("configmaps", "one")), 404, "NotFound")

    async def test_delete_checks_preconditions(self, kube: Kube) -> None:
        made = await kube.create("configmaps", config_map("one", a="1"))
        await kube.patched("configmaps", "one", {"data": {"a": "2"}})
        options = {"preconditions": {"resourceVersion": made["metadata"]["resourceVersion"]}}
        answer = await kube.http.request("DELETE", kube.path("configmaps", "one"), json=options)
        refused(answer, 409, "Conflict")
        await kube.get("configmaps", "one")

    async def test_finalizer_holds_an_object_until_removed(self, kube: Kube) -> None:
        body = config_map("one")
        body["metadata"]["finalizers"] = ["fermata.dev/hold"]
        await kube.create("configmaps", body)
        await kube.http.delete(kube.path("configmaps", "one"))
        held = await kube.get("configmaps", "one")
        assert held["metadata"]["deletionTimestamp"]
        await kube.patch("configmaps", "one", {"metadata": {"finalizers": None}})
        refused(await kube.http.get(kube.path("configmaps", "one")), 404, "NotFound")

    async def test_collection_can_be_deleted_by_label(self, kube: Kube) -> None:
        for name in ("a", "b"):
            await kube.create("configmaps", config_map(name))
        other = config_map("c")
        other["metadata"]["labels"] = {"app": "other"}
        await kube.create("configmaps", other)
        await kube.http.delete(kube.path("configmaps"), params={"labelSelector": "app=web"})
        left = {o["metadata"]["name"] for o in await kube.items("configmaps")}
        assert "c" in left
        assert not {"a", "b"} & left

    # --- kinds ---

    async def test_secret_string_data_is_stored_encoded(self, kube: Kube) -> None:
        body = {"metadata": {"name": "s"}, "stringData": {"k": "v"}}
        made = await kube.create("secrets", body)
        assert made["data"] == {"k": "dg=="}
        assert "stringData" not in made
        assert made["type"] == "Opaque"

    async def test_service_gets_an_address_and_defaults(self, kube: Kube) -> None:
        spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
        made = await kube.create("services", {"metadata": {"name": "web"}, "spec": spec})
        assert made["spec"]["type"] == "ClusterIP"
        assert made["spec"]["clusterIP"].startswith("10.")
        assert made["spec"]["ports"] == [{"protocol": "TCP", "port": 80, "targetPort": 80}]

    async def test_route_gets_the_schema_defaults(self, kube: Kube) -> None:
        body = route()
        del body["spec"]["rules"][0]["backendRefs"][0]["weight"]
        made = await kube.create("httproutes", body)
        ref = made["spec"]["rules"][0]["backendRefs"][0]
        assert ref == {"name": "web", "port": 80, "weight": 1, "group": "", "kind": "Service"}
        (match,) = made["spec"]["rules"][0]["matches"]
        assert match == {"path": {"type": "PathPrefix", "value": "/"}}

    async def test_autoscaler_and_budget_can_be_kept(self, kube: Kube) -> None:
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
        spec = {"scaleTargetRef": target, "maxReplicas": 5}
        hpa = await kube.create(
            "horizontalpodautoscalers", {"metadata": {"name": "web"}, "spec": spec}
        )
        assert hpa["spec"]["minReplicas"] == 1
        await kube.create("deployments", deployment(replicas=2))
        budget = {"selector": {"matchLabels": {"app": "web"}}, "minAvailable": 1}
        await kube.create("poddisruptionbudgets", {"metadata": {"name": "web"}, "spec": budget})
        await kube.until(
            "poddisruptionbudgets",
            "web",
            lambda o: (o.get("status") or {}).get("disruptionsAllowed") == 1,
        )

    async def test_scale_subresource_sets_replicas_only(self, kube: Kube) -> None:
        await kube.create("deployments", deployment(replicas=0))
        scale = (await kube.http.get(kube.path("deployments", "web", "scale"))).json()
        assert (scale["kind"], scale["spec"].get("replicas", 0)) == ("Scale", 0)
        assert scale["status"]["selector"] == "app=web"
        scale["spec"]["replicas"] = 1
        # The controller may have written its status since.
        del scale["metadata"]["resourceVersion"]
        answer = await kube.put("deployments", "web", scale, "scale")
        assert answer.status_code == 200
        assert answer.json()["spec"]["replicas"] == 1
        answer = await kube.patch("deployments", "web", {"spec": {"replicas": 2}}, sub="scale")
        assert answer.json()["spec"]["replicas"] == 2
        after = await kube.get("deployments", "web")
        assert after["spec"]["replicas"] == 2
        assert after["metadata"]["generation"] == 3

    async def test_discovery_names_the_kinds(self, kube: Kube) -> None:
        version = (await kube.http.get("version")).json()
        assert version["major"] == "1"
        assert "v1" in (await kube.http.get("api")).json()["versions"]
        groups = {g["name"] for g in (await kube.http.get("apis")).json()["groups"]}
        assert {"apps", "autoscaling", "policy", "gateway.networking.k8s.io"} <= groups
        apps = (await kube.http.get("apis/apps/v1")).json()["resources"]
        names = {r["name"] for r in apps}
        assert {"deployments", "deployments/status", "deployments/scale", "replicasets"} <= names
        assert (await kube.http.get("readyz")).status_code == 200
