"""Findings as SARIF 2.1.0, for code scanning."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import quote

from policy.manifests.finding import Finding, Weight

_LEVELS: Final[dict[Weight, str]] = {"deny": "error", "warn": "warning", "dryrun": "note"}
_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
DESCRIPTIONS: Final = {
    "image-tag": "Images name a version that does not move",
    "image-digest": "Images are pinned by their digest",
    "image-registry": "Images come from allowed registries",
    "resources": "Containers state requests and limits",
    "network-policy": "Namespaces with pods have a NetworkPolicy",
    "privileged": "Containers are not privileged",
    "host-namespaces": "Pods do not share the node's namespaces",
    "host-path": "Pods do not mount paths of the node",
    "non-root": "Containers do not run as root",
    "privilege-escalation": "Containers cannot gain privileges",
    "probes": "Containers have probes",
}
"""The built-in rules in a few words."""


def sarif_log(findings: Iterable[Finding], version: str) -> dict[str, Any]:
    """The log of one run of the check; `version` of the tool."""
    found = list(findings)
    ids = list(dict.fromkeys(one.rule for one in found))
    fixes = {one.rule: one.fix for one in reversed(found)}
    rules = [
        {
            "id": rule,
            "shortDescription": {"text": DESCRIPTIONS.get(rule, f"The constraint {rule}")},
            "help": {"text": fixes[rule]},
            "defaultConfiguration": {"level": "error"},
        }
        for rule in ids
    ]
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "fermata", "version": version, "rules": rules}},
                "columnKind": "unicodeCodePoints",
                "results": [_result(one, ids.index(one.rule)) for one in found],
            }
        ],
    }


def _result(one: Finding, index: int) -> dict[str, Any]:
    return {
        "ruleId": one.rule,
        "ruleIndex": index,
        "level": _LEVELS[one.weight],
        "message": {"text": f"{one.object.title}: {one.message} {one.fix}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(one.object.document.file)},
                    "region": {"startLine": one.line},
                },
                "logicalLocations": [{"fullyQualifiedName": one.json_path, "kind": "member"}],
            }
        ],
        "properties": {"document": one.object.document.index, "fix": one.fix},
    }


def _uri(file: str) -> str:
    path = PurePath(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
