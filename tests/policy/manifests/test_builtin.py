"""The built-in rules, over every kind that makes pods."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from policy.manifests.check import DEFAULTS, Report, check, read_objects
from policy.manifests.images import is_from, parse_image
from policy.rules import ManifestRules

GOOD_POD: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True},
    "containers": [
        {
            "name": "app",
            "image": "ghcr.io/acme/app:1.4.2",
            "resources": {
                "requests": {"cpu": "100m", "memory": "64Mi"},
                "limits": {"cpu": 1, "memory": "128Mi"},
            },
            "securityContext": {"allowPrivilegeEscalation": False},
            "readinessProbe": {"tcpSocket": {"port": 80}},
            "livenessProbe": {"tcpSocket": {"port": 80}},
        }
    ],
}
GUARD = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: d, namespace: s}\n"
KINDS = {
    "Pod": ("v1", ()),
    "PodTemplate": ("v1", ("template",)),
    "ReplicationController": ("v1", ("spec", "template")),
    "Deployment": ("apps/v1", ("spec", "template")),
    "StatefulSet": ("apps/v1", ("spec", "template")),
    "DaemonSet": ("apps/v1", ("spec", "template")),
    "ReplicaSet": ("apps/v1", ("spec", "template")),
    "Job": ("batch/v1", ("spec", "template")),
    "CronJob": ("batch/v1", ("spec", "jobTemplate", "spec", "template")),
    "Rollout": ("argoproj.io/v1alpha1", ("spec", "template")),
    "DeploymentConfig": ("apps.openshift.io/v1", ("spec", "template")),
}


def workload(kind: str, spec: dict[str, Any]) -> str:
    version, path = KINDS[kind]
    body: dict[str, Any] = {"spec": spec}
    for key in reversed(path):
        body = {key: body}
    top = {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "s"}}
    return yaml.safe_dump({**top, **body})


def changed(**of_container: Any) -> dict[str, Any]:
    container = {**GOOD_POD["containers"][0], **of_container}
    return {**GOOD_POD, "containers": [{k: v for k, v in container.items() if v is not None}]}


def report(*texts: str, rules: ManifestRules = DEFAULTS) -> Report:
    objects, problems = read_objects([(f"{n}.yaml", text) for n, text in enumerate(texts)])
    assert not problems
    return check(rules, objects)


def broken(spec: dict[str, Any], kind: str = "Deployment", **options: Any) -> list[str]:
    found = report(GUARD, workload(kind, spec), rules=replace(DEFAULTS, **options))
    assert not found.problems
    return [one.rule for one in found.findings]


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_pod_passes_in_every_kind(kind: str) -> None:
    assert broken(GOOD_POD, kind) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_pod_is_found_in_every_kind_with_its_path(kind: str) -> None:
    bad = {"hostPID": True, "containers": [{"name": "app", "image": "app"}]}
    found = report(GUARD, workload(kind, bad)).findings
    rules = {one.rule for one in found}
    without_end = {"probes"} if kind not in ("Job", "CronJob") else set()
    assert rules == {
        "image-tag",
        "resources",
        "host-namespaces",
        "non-root",
        "privilege-escalation",
        *without_end,
    }
    path = ".".join(("$", *KINDS[kind][1], "spec"))
    image = next(one for one in found if one.rule == "image-tag")
    assert image.json_path == f"{path}.containers[0].image"
    assert all(one.fix and one.message for one in found)


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        (changed(image="ghcr.io/acme/app"), "image-tag"),
        (changed(image="localhost:5000/app"), "image-tag"),
        (changed(image="app:latest"), "image-tag"),
        (changed(image="app:"), "image-tag"),
        (changed(image="App Name:1"), "image-tag"),
        (changed(image="${IMAGE}"), "image-tag"),
        (changed(image=None), "image-tag"),
        (changed(resources=None), "resources"),
        (changed(resources={"limits": {"cpu": 1, "memory": "1Gi"}}), "resources"),
        (changed(readinessProbe=None), "probes"),
        (changed(livenessProbe=None), "probes"),
        (
            changed(securityContext={"allowPrivilegeEscalation": False, "privileged": True}),
            "privileged",
        ),
        (changed(securityContext={"allowPrivilegeEscalation": True}), "privilege-escalation"),
        (changed(securityContext={}), "privilege-escalation"),
        (
            changed(securityContext={"allowPrivilegeEscalation": False, "runAsUser": 0}),
            "non-root",
        ),
        (
            changed(securityContext={"allowPrivilegeEscalation": False, "runAsNonRoot": False}),
            "non-root",
        ),
        ({**GOOD_POD, "securityContext": {}}, "non-root"),
        ({**GOOD_POD, "securityContext": {"runAsNonRoot": True, "runAsUser": 0}}, "non-root"),
        ({**GOOD_POD, "hostNetwork": True}, "host-namespaces"),
        ({**GOOD_POD, "hostIPC": True}, "host-namespaces"),
        ({**GOOD_POD, "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "host-path"),
        ({**GOOD_POD, "volumes": [{"name": "v", "hostPath": None}]}, "host-path"),
        ({**GOOD_POD, "volumes": [{"name": "v", "image": {"reference": "a:latest"}}]}, "image-tag"),
    ],
)
def test_each_rule_finds_what_it_is_there_for(spec: dict[str, Any], rule: str) -> None:
    assert broken(spec) == [rule]


@pytest.mark.parametrize(
    "spec",
    [
        changed(image="app@sha256:" + "a" * 64),
        changed(image="registry.example.com:5000/a/b/app:1.0"),
        changed(securityContext={"allowPrivilegeEscalation": False, "runAsUser": 10001}),
        {
            **changed(securityContext={"allowPrivilegeEscalation": False, "runAsNonRoot": True}),
            "securityContext": {},
        },
        {**changed(resources=None), "resources": GOOD_POD["containers"][0]["resources"]},
        {**GOOD_POD, "hostNetwork": False},
    ],
)
def test_what_meets_a_rule_in_another_way_passes(spec: dict[str, Any]) -> None:
    assert broken(spec) == []


@pytest.mark.parametrize("sort", ["initContainers", "ephemeralContainers"])
def test_other_containers_are_held_to_the_rules_as_well(sort: str) -> None:
    other = {"name": "i", "image": "tool:latest", "securityContext": {"privileged": True}}
    found = broken({**GOOD_POD, sort: [other]})
    assert {"image-tag", "privileged", "privilege-escalation"} <= set(found)
    assert ("resources" in found) == (sort == "initContainers")
    assert "probes" not in found


def test_a_sidecar_keeps_running_and_wants_probes() -> None:
    sidecar = {**GOOD_POD["containers"][0], "restartPolicy": "Always"}
    del sidecar["livenessProbe"]
    assert broken({**GOOD_POD, "initContainers": [sidecar]}) == ["probes"]


def test_a_namespace_with_pods_wants_a_network_policy_among_all_that_is_given() -> None:
    pod = workload("Deployment", GOOD_POD)
    alone = report(pod)
    assert [one.rule for one in alone.findings] == ["network-policy"]
    assert "namespace s" in alone.findings[0].message
    elsewhere = GUARD.replace("namespace: s", "namespace: other")
    assert [one.rule for one in report(pod, elsewhere).findings] == ["network-policy"]
    assert report(pod, GUARD).findings == ()
    assert report(GUARD).findings == ()


def test_allowed_registries_are_compared_by_whole_names() -> None:
    rules: dict[str, Any] = {"registries": ("ghcr.io/acme", "*.pkg.dev")}
    assert broken(GOOD_POD, **rules) == []
    assert broken(changed(image="eu.pkg.dev/p/app:1"), **rules) == []
    for image in ("ghcr.io/acme-evil/app:1", "ghcr.io.evil.com/acme/app:1", "app:1", "a/ghcr.io:1"):
        assert broken(changed(image=image), **rules) == ["image-registry"]


def test_digests_may_be_asked_for() -> None:
    bearing = {**DEFAULTS.bearing, "image-digest": "deny"}
    assert broken(GOOD_POD, bearing=bearing) == ["image-digest"]
    assert broken(changed(image="app:1@sha256:" + "0" * 64), bearing=bearing) == []


def test_exempt_namespaces_and_images_are_passed_over() -> None:
    bad = {"containers": [{"name": "p", "image": "registry.k8s.io/pause:3.9"}]}
    assert broken(bad, exempt_namespaces=("s",)) == []
    assert broken(bad, exempt_images=("registry.k8s.io/pause:*",)) == []
    assert broken(bad, exempt_images=("registry.k8s.io/other:*",)) != []


def test_windows_pods_have_no_user_number() -> None:
    spec = {**GOOD_POD, "securityContext": {}, "os": {"name": "windows"}}
    assert broken(spec) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (workload("Deployment", {"containers": []}), "`containers` is not a list"),
        (workload("Deployment", {"containers": {"a": 1}}), "`containers` is not a list"),
        (workload("Deployment", {"containers": ["x"]}), "not a mapping"),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n", "`spec` is not a mapping"),
        ("apiVersion: apps/v1\nkind: deployment\nmetadata: {name: x}\n", "no deployment in"),
        ("apiVersion: v1\nkind: Deployment\nmetadata: {name: x}\n", "no Deployment in v1"),
        (workload("Pod", {**GOOD_POD, "hostNetwork": "true"}), "not true or false"),
        (workload("Pod", changed(securityContext={"privileged": "yes"})), "not true or false"),
        (workload("Pod", changed(securityContext=[1])), "`securityContext` is not a mapping"),
        (workload("Pod", changed(image=3)), "`image` is not text"),
        (workload("Pod", {**GOOD_POD, "volumes": {}}), "`volumes` is not a list"),
    ],
)
def test_a_workload_that_cannot_be_judged_is_a_problem(text: str, words: str) -> None:
    found = report(GUARD, text)
    assert len(found.problems) == 1
    assert words in found.problems[0].message


def test_objects_of_other_kinds_are_passed_over() -> None:
    crd = (
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: c}\n"
    )
    own = "apiVersion: acme.io/v1\nkind: Widget\nspec: {template: {a: 1}}\n"
    assert report(crd, own) == Report((), (), 2)


@pytest.mark.parametrize(
    ("text", "place", "tag"),
    [
        ("nginx", "docker.io/library/nginx", ""),
        ("acme/app:1", "docker.io/acme/app", "1"),
        ("localhost/app:2", "localhost/app", "2"),
        ("host:5000/app", "host:5000/app", ""),
        ("[::1]:5000/app:1", "[::1]:5000/app", "1"),
    ],
)
def test_image_references_are_taken_apart(text: str, place: str, tag: str) -> None:
    image = parse_image(text)
    assert image is not None
    assert (image.place, image.tag) == (place, tag)


def test_docker_hub_is_meant_where_no_registry_is_named() -> None:
    image = parse_image("nginx:1")
    assert image is not None
    assert is_from(image, ["docker.io"])
    assert not is_from(image, ["quay.io"])
