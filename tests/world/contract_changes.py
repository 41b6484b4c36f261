"""Patches, server-side apply, lists and watches."""

from __future__ import annotations

from tests.world.kube import (
    APPLY,
    JSON_PATCH,
    STRATEGIC,
    Kube,
    config_map,
    deployment,
    fields_of,
    refused,
    route,
)


class ChangeContract:
    """Promises about changing objects and about following changes."""

    # --- patches ---

    async def test_strategic_merge_merges_containers_env_and_ports_by_key(self, kube: Kube) -> None:
        await kube.create("deployments", deployment(replicas=0))
        change = {
            "name": "main", "image": "registry.example/web:2",
            "env": [{"name": "B", "value": "22"}, {"name": "C", "value": "3"}],
            "ports": [{"containerPort": 9090}],
        }  # fmt: skip
        body = {"spec": {"template": {"spec": {"containers": [change]}}}}
        after = await kube.patched("deployments", "web", body, STRATEGIC)
        (container,) = after["spec"]["template"]["spec"]["containers"]
        assert container["image"] == "registry.example/web:2"
        env = {e["name"]: e["value"] for e in container["env"]}
        assert env == {"A": "1", "B": "22", "C": "3"}
        assert {p["containerPort"] for p in container["ports"]} == {8080, 9090}
        assert after["metadata"]["generation"] == 2

    async def test_strategic_merge_deletes_by_directive(self, kube: Kube) -> None:
        await kube.create("deployments", deployment(replicas=0))
        env = [{"name": "A", "$patch": "delete"}]
        containers = [{"name": "main", "env": env}]
        body = {"spec": {"template": {"spec": {"containers": containers}}}}
        after = await kube.patched("deployments", "web", body, STRATEGIC)
        left = after["spec"]["template"]["spec"]["containers"][0]["env"]
        assert left == [{"name": "B", "value": "2"}]

    async def test_strategic_merge_is_not_for_custom_kinds(self, kube: Kube) -> None:
        await kube.create("httproutes", route())
        answer = await kube.patch("httproutes", "web", {"spec": {}}, STRATEGIC)
        refused(answer, 415, "UnsupportedMediaType")

    async def test_merge_patch_replaces_lists_and_null_deletes(self, kube: Kube) -> None:
        await kube.create("httproutes", route())
        refs = [{"name": "only", "port": 80}]
        after = await kube.patched(
            "httproutes", "web", {"spec": {"rules": [{"backendRefs": refs}]}}
        )
        assert [r["name"] for r in after["spec"]["rules"][0]["backendRefs"]] == ["only"]
        assert after["spec"]["rules"][0]["backendRefs"][0]["weight"] == 1
        await kube.create("configmaps", config_map("one", a="1", b="2"))
        left = await kube.patched("configmaps", "one", {"data": {"a": None}})
        assert left["data"] == {"b": "2"}

    async def test_json_patch_tests_before_it_changes(self, kube: Kube) -> None:
        await kube.create("deployments", deployment(replicas=0))
        path = "/spec/template/spec/containers/0/image"
        good = [
            {"op": "test", "path": path, "value": "registry.example/web:1"},
            {"op": "replace", "path": path, "value": "registry.example/web:2"},
            {"op": "add", "path": "/metadata/labels/fermata.dev~1run", "value": "r1"},
        ]
        after = await kube.patched("deployments", "web", good, JSON_PATCH)
        assert after["metadata"]["labels"]["fermata.dev/run"] == "r1"
        assert after["metadata"]["generation"] == 2
        refused(await kube.patch("deployments", "web", good, JSON_PATCH), 422, "Invalid")
        missing = [{"op": "remove", "path": "/metadata/labels/none"}]
        refused(await kube.patch("deployments", "web", missing, JSON_PATCH), 422, "Invalid")

    # --- server-side apply ---

    async def test_apply_creates_then_updates(self, kube: Kube) -> None:
        first = await kube.apply("deployments", deployment(replicas=0), "one")
        assert first.status_code == 201
        (entry,) = [m for m in first.json()["metadata"]["managedFields"] if m["manager"] == "one"]
        assert entry["operation"] == "Apply"
        assert "f:spec" in entry["fieldsV1"]
        body = deployment(replicas=0, image="registry.example/web:2")
        second = await kube.apply("deployments", body, "one")
        assert second.status_code == 200
        assert second.json()["metadata"]["generation"] == 2

    async def test_applying_the_same_again_changes_nothing(self, kube: Kube) -> None:
        first = await kube.apply("configmaps", config_map("one", a="1"), "one")
        again = await kube.apply("configmaps", config_map("one", a="1"), "one")
        versions = [r.json()["metadata"]["resourceVersion"] for r in (first, again)]
        assert versions[0] == versions[1]

    async def test_apply_needs_a_field_manager(self, kube: Kube) -> None:
        answer = await kube.patch("configmaps", "one", config_map("one"), APPLY)
        assert answer.status_code in (400, 422)
        assert "fieldManager" in answer.json()["message"]

    async def test_apply_conflicts_unless_forced(self, kube: Kube) -> None:
        await kube.apply("configmaps", config_map("one", a="1", b="1"), "one")
        answer = await kube.apply("configmaps", config_map("one", a="2"), "two")
        status = refused(answer, 409, "Conflict")
        (cause,) = status["details"]["causes"]
        assert cause["reason"] == "FieldManagerConflict"
        assert cause["field"] == ".data.a"
        assert cause["message"].startswith('conflict with "one"')
        assert (await kube.get("configmaps", "one"))["data"]["a"] == "1"
        forced = await kube.apply("configmaps", config_map("one", a="2"), "two", force="true")
        assert forced.json()["data"] == {"a": "2", "b": "1"}
        again = await kube.apply("configmaps", config_map("one", a="3", b="1"), "one")
        refused(again, 409, "Conflict")

    async def test_same_value_from_two_managers_is_shared(self, kube: Kube) -> None:
        await kube.apply("configmaps", config_map("one", a="1"), "one")
        shared = await kube.apply("configmaps", config_map("one", a="1"), "two")
        assert shared.status_code == 200
        # Leaving it out gives up one's share; it stays as long as the other has it.
        left = await kube.apply("configmaps", config_map("one"), "one")
        assert left.json()["data"] == {"a": "1"}
        gone = await kube.apply("configmaps", config_map("one"), "two")
        assert "data" not in gone.json()

    async def test_apply_removes_what_its_manager_leaves_out(self, kube: Kube) -> None:
        body = deployment(replicas=0)
        await kube.apply("deployments", body, "one")
        del body["spec"]["template"]["spec"]["containers"][0]["env"][0]
        after = (await kube.apply("deployments", body, "one")).json()
        env = after["spec"]["template"]["spec"]["containers"][0]["env"]
        assert env == [{"name": "B", "value": "2"}]

    async def test_apply_meets_plain_updates_as_conflicts(self, kube: Kube) -> None:
        await kube.apply("deployments", deployment(replicas=0), "one")
        answer = await kube.patch(
            "deployments", "web", {"spec": {"replicas": 1}}, fieldManager="scaler"
        )
        assert answer.status_code == 200
        back = await kube.apply("deployments", deployment(replicas=0), "one")
        status = refused(back, 409, "Conflict")
        assert fields_of(status) == {".spec.replicas"}
        body = deployment()
        del body["spec"]["replicas"]
        kept = await kube.apply("deployments", body, "one")
        assert kept.json()["spec"]["replicas"] == 1

    async def test_apply_with_a_stale_version_is_a_conflict(self, kube: Kube) -> None:
        old = (await kube.apply("configmaps", config_map("one", a="1"), "one")).json()
        await kube.patched("configmaps", "one", {"data": {"z": "1"}})
        body = config_map("one", a="2")
        body["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        refused(await kube.apply("configmaps", body, "one"), 409, "Conflict")

    # --- lists and watches ---

    async def test_label_selectors(self, kube: Kube) -> None:
        for name, tier in (("a", "front"), ("b", "back"), ("c", "")):
            body = config_map(name)
            body["metadata"]["labels"] = {"tier": tier} if tier else {}
            await kube.create("configmaps", body)
        wanted = {
            "tier=front": {"a"}, "tier==back": {"b"}, "tier in (front, back)": {"a", "b"},
            "tier": {"a", "b"}, "tier notin (front),tier": {"b"}, "tier=front,tier!=front": set(),
        }  # fmt: skip
        for selector, names in wanted.items():
            found = await kube.items("configmaps", labelSelector=selector)
            assert {o["metadata"]["name"] for o in found} == names, selector
        without = await kube.items("configmaps", labelSelector="!tier")
        assert "c" in {o["metadata"]["name"] for o in without}
        answer = await kube.http.get(kube.path("configmaps"), params={"labelSelector": "a b"})
        refused(answer, 400, "BadRequest")

    async def test_field_selectors(self, kube: Kube) -> None:
        for name in ("a", "b"):
            await kube.create("configmaps", config_map(name))
        found = await kube.items("configmaps", fieldSelector="metadata.name=b")
        assert [o["metadata"]["name"] for o in found] == ["b"]
        answer = await kube.http.get(kube.path("configmaps"), params={"fieldSelector": "data.x=1"})
        status = refused(answer, 400, "BadRequest")
        assert '"data.x" is not a known field selector' in status["message"]

    async def test_list_is_paged_on_request(self, kube: Kube) -> None:
        for name in ("a", "b", "c"):
            await kube.create("configmaps", config_map(name))
        params = {"limit": "2", "labelSelector": "app=web"}
        first = (await kube.http.get(kube.path("configmaps"), params=params)).json()
        assert first["kind"] == "ConfigMapList"
        assert [o["metadata"]["name"] for o in first["items"]] == ["a", "b"]
        params["continue"] = first["metadata"]["continue"]
        rest = (await kube.http.get(kube.path("configmaps"), params=params)).json()
        assert [o["metadata"]["name"] for o in rest["items"]] == ["c"]
        assert "continue" not in rest["metadata"]

    async def test_watch_from_a_list_misses_nothing(self, kube: Kube) -> None:
        listed = (await kube.http.get(kube.path("configmaps"))).json()
        await kube.create("configmaps", config_map("one", a="1"))
        version = listed["metadata"]["resourceVersion"]
        async with kube.watch(
            "configmaps", resourceVersion=version, labelSelector="app=web"
        ) as following:
            first = await following()
            await kube.patched("configmaps", "one", {"data": {"a": "2"}})
            second = await following()
            await kube.http.delete(kube.path("configmaps", "one"))
            third = await following()
        assert [e["type"] for e in (first, second, third)] == ["ADDED", "MODIFIED", "DELETED"]
        assert second["object"]["data"] == {"a": "2"}
        versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in (first, second, third)]
        assert versions == sorted(set(versions))

    async def test_watch_without_version_begins_with_what_is_there(self, kube: Kube) -> None:
        await kube.create("configmaps", config_map("one"))
        async with kube.watch("configmaps", labelSelector="app=web") as following:
            event = await following()
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "one")
        assert event["object"]["kind"] == "ConfigMap"

    async def test_leaving_a_selection_looks_like_a_deletion(self, kube: Kube) -> None:
        await kube.create("configmaps", config_map("one"))
        async with kube.watch("configmaps", labelSelector="app=web") as following:
            await following()
            await kube.patched("configmaps", "one", {"metadata": {"labels": {"app": "x"}}})
            assert (await following())["type"] == "DELETED"
            await kube.patched("configmaps", "one", {"metadata": {"labels": {"app": "web"}}})
            assert (await following())["type"] == "ADDED"

    async def test_watch_ends_after_its_timeout(self, kube: Kube) -> None:
        query = {"watch": "true", "timeoutSeconds": "1", "labelSelector": "app=none"}
        answer = await kube.http.get(kube.path("configmaps"), params=query)
        assert answer.status_code == 200
        assert answer.text == ""
