"""Label and field selectors, from the query string and from specs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from evals.world.kube.errors import bad_request
from evals.world.kube.kinds import Kind, Obj

Test = Callable[[Mapping[str, str]], bool]

_SET = re.compile(r"^\s*(?P<key>[^\s!=,()]+)\s+(?P<op>in|notin)\s+\((?P<values>[^)]*)\)\s*$")
_EQUAL = re.compile(r"^\s*(?P<key>[^\s!=,()]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s!=,()]*)\s*$")
_EXISTS = re.compile(r"^\s*(?P<absent>!?)\s*(?P<key>[^\s!=,()]+)\s*$")
_SPLIT = re.compile(r",(?![^(]*\))")

FIELDS: dict[str, tuple[str, ...]] = {
    "Pod": ("status.phase", "spec.nodeName", "spec.restartPolicy", "status.podIP"),
    "Secret": ("type",),
    "Namespace": ("status.phase",),
    "ReplicaSet": ("status.replicas",),
    "Event": (
        "involvedObject.kind", "involvedObject.name", "involvedObject.namespace",
        "involvedObject.uid", "reason", "type", "source", "reportingComponent",
    ),
}  # fmt: skip


def labels_test(selector: str) -> Test:
    """Compile a `labelSelector` parameter. Raises 400 when it cannot be parsed."""
    tests = [_term(term) for term in _SPLIT.split(selector) if term.strip()]
    return lambda labels: all(test(labels) for test in tests)


def _term(term: str) -> Test:
    if found := _SET.match(term):
        key, values = found["key"], {v.strip() for v in found["values"].split(",")}
        if found["op"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUAL.match(term):
        key, value = found["key"], found["value"]
        if found["op"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _EXISTS.match(term):
        key = found["key"]
        if found["absent"]:
            return lambda labels: key not in labels
        return lambda labels: key in labels
    odd = term.split()[1] if len(term.split()) > 1 else term.strip()
    raise bad_request(
        f"unable to parse requirement: found '{odd}', expected: in, notin, =, ==, !=, gt, lt"
    )


def spec_matches(selector: Obj | None, labels: Mapping[str, str]) -> bool:
    """A `metav1.LabelSelector` against labels. None selects nothing, an empty one everything."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(k) != v for k, v in wanted.items()):
        return False
    for term in selector.get("matchExpressions") or ():
        key, op, values = term["key"], term["operator"], term.get("values") or ()
        ok = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }.get(op, False)
        if not ok:
            return False
    return True


def fields_test(kind: Kind, selector: str) -> Callable[[Obj], bool]:
    """Compile a `fieldSelector` parameter. Raises 400 for a field the kind does not support."""
    allowed = ("metadata.name", "metadata.namespace", *FIELDS.get(kind.kind, ()))
    terms: list[tuple[str, str, bool]] = []
    for term in selector.split(","):
        if not term.strip():
            continue
        found = _EQUAL.match(term)
        if not found:
            raise bad_request(f"invalid selector: {selector!r}; can't understand {term!r}")
        if found["key"] not in allowed:
            if kind.kind in FIELDS:
                raise bad_request(f"field label not supported: {found['key']}")
            raise bad_request(
                f'"{found["key"]}" is not a known field selector: only "metadata.name", '
                '"metadata.namespace"'
            )
        terms.append((found["key"], found["value"], found["op"] != "!="))
    return lambda obj: all((_field(obj, k) == v) is equal for k, v, equal in terms)


def _field(obj: Obj, path: str) -> str:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value)
