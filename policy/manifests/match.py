"""Which objects a constraint is about: the section `match` of Gatekeeper constraints.

Where it cannot be told whether an object is meant, it is: an object that names no namespace may be
put into any, and the labels of a namespace that is not given are unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from domain.errors import SourceError
from domain.yaml_source import Path
from policy.manifests.objects import CLUSTER_WIDE, Object

_LISTS: Final = ("kinds", "namespaces", "excludedNamespaces")
_SELECTORS: Final = ("labelSelector", "namespaceSelector")
_WORDS: Final = {
    "scope": ("*", "Cluster", "Namespaced"),
    "source": ("All", "Generated", "Original"),
}
_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist")
_AT: Final[Path] = ("spec", "match")

KindRow = tuple[tuple[str, ...], tuple[str, ...]]
"""API groups and kinds; empty or `*`: all of them."""


@dataclass(frozen=True)
class Match:
    """A checked `match`. Everything that is given has to fit."""

    kinds: tuple[KindRow, ...]
    """Empty: every kind."""
    namespaces: tuple[str, ...]
    excluded: tuple[str, ...]
    labels: Mapping[str, Any] | None
    namespace_labels: Mapping[str, Any] | None
    scope: str
    source: str
    name: str

    def fits(self, obj: Object, namespaces: Mapping[str, dict[str, Any]]) -> bool:
        """Whether the constraint is about an object, among the Namespaces that are known."""
        return (
            self._fits_kind(obj)
            and self._fits_scope(obj)
            and self._fits_namespace(obj)
            and (not self.name or _like(self.name, obj.name))
            and self.source != "Generated"
            and (self.labels is None or selects(self.labels, _labels(obj.data)))
            and self._fits_namespace_labels(obj, namespaces)
        )

    def _fits_kind(self, obj: Object) -> bool:
        return not self.kinds or any(
            (not groups or "*" in groups or obj.group in groups)
            and (not kinds or "*" in kinds or obj.kind in kinds)
            for groups, kinds in self.kinds
        )

    def _fits_scope(self, obj: Object) -> bool:
        match self.scope:
            case "Cluster":
                return not obj.namespace and not _is_namespaced(obj)
            case "Namespaced":
                return obj.kind not in CLUSTER_WIDE
            case _:
                return True

    def _fits_namespace(self, obj: Object) -> bool:
        where = obj.name if _is_namespace(obj) else obj.namespace
        if not where:
            return True
        if self.namespaces and not any(_like(one, where) for one in self.namespaces):
            return False
        return not any(_like(one, where) for one in self.excluded)

    def _fits_namespace_labels(self, obj: Object, namespaces: Mapping[str, dict[str, Any]]) -> bool:
        if self.namespace_labels is None:
            return True
        if _is_namespace(obj):
            return selects(self.namespace_labels, _labels(obj.data))
        known = namespaces.get(obj.namespace)
        return known is None or selects(self.namespace_labels, _labels(known))


def match_of(obj: Object) -> Match:
    """The `match` of a constraint. Raises SourceError for what it would be wrong to guess at."""
    spec = obj.data.get("spec") or {}
    found = spec.get("match") or {} if isinstance(spec, dict) else None
    if not isinstance(found, dict):
        raise SourceError((obj.problem(_AT, "`match` is not a mapping", ""),))
    known = (*_LISTS, *_SELECTORS, *_WORDS, "name")
    for key in found:
        if key not in known:
            raise _wrong(obj, (key,), f"`match` knows no {key!r}", f"it knows {', '.join(known)}")
    for key, words in _WORDS.items():
        if key in found and found[key] not in words:
            raise _wrong(obj, (key,), f"{found[key]!r} is not one of {', '.join(words)}", "")
    for key in _SELECTORS:
        if found.get(key) is not None:
            _check_selector(obj, key, found[key])
    name = found.get("name") or ""
    if not isinstance(name, str):
        raise _wrong(obj, ("name",), "`name` is not text", "")
    return Match(
        kinds=_kinds(obj, found),
        namespaces=_texts(obj, ("namespaces",), found.get("namespaces")),
        excluded=_texts(obj, ("excludedNamespaces",), found.get("excludedNamespaces")),
        labels=found.get("labelSelector"),
        namespace_labels=found.get("namespaceSelector"),
        scope=found.get("scope", "*"),
        source=found.get("source", "All"),
        name=name,
    )


def selects(selector: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    """Whether a label selector matches labels. An empty one matches everything."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    return all(_satisfied(one, labels) for one in selector.get("matchExpressions") or ())


def _satisfied(rule: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    value, among = labels.get(rule["key"]), rule.get("values") or []
    match rule["operator"]:
        case "In":
            return value is not None and value in among
        case "NotIn":
            return value is None or value not in among
        case "Exists":
            return value is not None
        case _:
            return value is None


def _kinds(obj: Object, found: dict[str, Any]) -> tuple[KindRow, ...]:
    listed = found.get("kinds") or []
    if not isinstance(listed, list):
        raise _wrong(obj, ("kinds",), "`kinds` is not a list", '- apiGroups: [""]')
    rows: list[KindRow] = []
    for index, one in enumerate(listed):
        if not isinstance(one, dict) or not one.keys() <= {"apiGroups", "kinds"}:
            raise _wrong(
                obj, ("kinds", index), "an entry has `apiGroups` and `kinds`", "kinds: [Pod]"
            )
        rows.append(
            (
                _texts(obj, ("kinds", index, "apiGroups"), one.get("apiGroups")),
                _texts(obj, ("kinds", index, "kinds"), one.get("kinds")),
            )
        )
    return tuple(rows)


def _texts(obj: Object, path: Path, found: Any) -> tuple[str, ...]:
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise _wrong(obj, path, f"`{path[-1]}` is not a list of names", "write [one, two]")
    return tuple(found)


def _check_selector(obj: Object, key: str, selector: Any) -> None:
    if not isinstance(selector, dict) or not selector.keys() <= {"matchLabels", "matchExpressions"}:
        raise _wrong(obj, (key,), "a selector has matchLabels and matchExpressions", "")
    labels = selector.get("matchLabels") or {}
    if not isinstance(labels, dict) or not all(isinstance(one, str) for one in labels.values()):
        raise _wrong(obj, (key, "matchLabels"), "`matchLabels` maps names to text", "quote values")
    for index, rule in enumerate(selector.get("matchExpressions") or ()):
        good = (
            isinstance(rule, dict)
            and isinstance(rule.get("key"), str)
            and rule.get("operator") in _OPERATORS
            and isinstance(rule.get("values") or [], list)
        )
        if not good:
            raise _wrong(
                obj,
                (key, "matchExpressions", index),
                "an expression has a key, an operator and values",
                f"operators are {', '.join(_OPERATORS)}",
            )


def _like(pattern: str, name: str) -> bool:
    """Gatekeeper's globs: `*` at the beginning, at the end, or at both."""
    head, tail = pattern.startswith("*"), pattern.endswith("*")
    body = pattern.strip("*") if head or tail else pattern
    if head and tail:
        return body in name
    if tail:
        return name.startswith(body)
    return name.endswith(body) if head else name == body


def _labels(data: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = data.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return labels if isinstance(labels, dict) else {}


def _is_namespace(obj: Object) -> bool:
    return obj.kind == "Namespace" and obj.group == ""


def _is_namespaced(obj: Object) -> bool:
    """Whether a kind of Kubernetes itself lives in namespaces. Of others it is not known."""
    builtin = obj.group in ("", "apps", "batch", "policy", "autoscaling", "extensions") or (
        obj.group == "networking.k8s.io"
    )
    return builtin and obj.kind not in CLUSTER_WIDE


def _wrong(obj: Object, path: Path, message: str, hint: str) -> SourceError:
    return SourceError((obj.problem((*_AT, *path), message, hint),))
