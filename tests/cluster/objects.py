"""What the test cluster is told: CRDs from files, its Nodes, kubeconfigs."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.api import Object

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
ENDPOINTS = {
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "ValidatingAdmissionPolicy": f"{ADMISSION}/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": f"{ADMISSION}/validatingadmissionpolicybindings",
}


def documents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Each object in a folder's YAML files, with the URL path where its kind is created.

    Raises KeyError for a kind that has no business among CRDs.
    """
    for file in sorted(folder.glob("*.yaml")):
        for document in re.split(r"^---\s*$", file.read_text(), flags=re.MULTILINE):
            kind = re.search(r"^kind: (\w+)", document, re.MULTILINE)
            if kind is not None:  # else only comments
                yield ENDPOINTS[kind[1]], document.encode()


def served_paths(made: Object) -> list[str]:
    """List URLs of a CRD's served versions; none for any other kind."""
    if made["kind"] != "CustomResourceDefinition":
        return []
    spec = made["spec"]
    return [
        f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}"
        for version in spec["versions"]
        if version["served"]
    ]


def node(name: str) -> Object:
    """A Node that kwok manages, with room for a thousand pods."""
    room = {"cpu": "64", "memory": "256Gi", "pods": "1000"}
    return {
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "type": "kwok",
            },
        },
        "status": {"allocatable": room, "capacity": room},
    }


def kubeconfig(url: str, ca: Path, token: str) -> Object:
    """A kubeconfig with everything inside: it needs no other file."""
    authority = base64.b64encode(ca.read_bytes()).decode()
    cluster = {"server": url, "certificate-authority-data": authority}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fermata-test", "cluster": cluster}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [
            {"name": "fermata-test", "context": {"cluster": "fermata-test", "user": "user"}}
        ],
        "current-context": "fermata-test",
    }
