"""Field ownership: `managedFields`, and server-side apply built on it.

A field is a tuple of steps in FieldsV1 notation: `f:spec`, `k:{"name":"web"}`, `v:"x"`. Simplified
against the real structured-merge-diff: ownership is kept for leaves, for keyed list items and for
atomic values; there is no version conversion.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from evals.world.kube.errors import apply_conflict, bad_request
from evals.world.kube.kinds import Kind, Obj, clone
from evals.world.kube.patch import merge_keys

Field = tuple[str, ...]

_UNOWNED = {
    ("f:apiVersion",), ("f:kind",), ("f:metadata", "f:name"), ("f:metadata", "f:namespace"),
    ("f:metadata", "f:uid"), ("f:metadata", "f:resourceVersion"), ("f:metadata", "f:generation"),
    ("f:metadata", "f:creationTimestamp"), ("f:metadata", "f:generateName"),
}  # fmt: skip
_ATOMIC_MAPS = ("selector", "nodeSelector", "involvedObject")
_SETS = ("finalizers",)


@dataclass(slots=True)
class Manager:
    """One entry of `managedFields`, with its fields as a set."""

    name: str
    operation: str
    subresource: str
    api_version: str
    time: str
    owned: set[Field]


def read_managers(obj: Obj) -> list[Manager]:
    """The entries of an object's `managedFields`. Raises 400 if they are malformed."""
    result = []
    for entry in obj.get("metadata", {}).get("managedFields") or ():
        if not isinstance(entry, dict) or "manager" not in entry:
            raise bad_request("metadata.managedFields is malformed")
        owned = set(_from_tree(entry.get("fieldsV1") or {}))
        result.append(
            Manager(
                entry["manager"],
                entry.get("operation", "Update"),
                entry.get("subresource", ""),
                entry.get("apiVersion", ""),
                entry.get("time", ""),
                owned,
            )
        )
    return result


def write_managers(obj: Obj, managers: Iterable[Manager]) -> None:
    """Put the entries that still own something into the object."""
    entries = []
    for m in managers:
        if not m.owned:
            continue
        entry: Obj = {
            "manager": m.name, "operation": m.operation, "apiVersion": m.api_version,
            "time": m.time, "fieldsType": "FieldsV1", "fieldsV1": _to_tree(m.owned),
        }  # fmt: skip
        if m.subresource:
            entry["subresource"] = m.subresource
        entries.append(entry)
    if entries:
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)


def _to_tree(fields: Iterable[Field]) -> Obj:
    tree: Obj = {}
    for field in sorted(fields):
        node = tree
        for step in field:
            node = node.setdefault(step, {})
        if field[-1].startswith("k:"):
            node["."] = {}
    return tree


def _from_tree(tree: Obj, prefix: Field = ()) -> Iterator[Field]:
    for step, below in tree.items():
        if step == ".":
            yield prefix
        elif below:
            yield from _from_tree(below, (*prefix, step))
        else:
            yield (*prefix, step)


def _item_key(kind: Kind, path: tuple[str, ...], item: Any) -> str | None:
    keys = merge_keys(kind, path)
    if keys is None or not isinstance(item, dict):
        return None
    named = {k: item.get(k, "TCP" if k == "protocol" else None) for k in keys}
    return "k:" + json.dumps(named, separators=(",", ":"), sort_keys=True)


def leaves(
    kind: Kind, value: Any, field: Field = (), path: tuple[str, ...] = ()
) -> dict[Field, Any]:
    """Every field that can be owned in `value`, with its value (None for keyed items)."""
    if field in _UNOWNED or path == ("metadata", "managedFields"):
        return {}
    out: dict[Field, Any] = {}
    if isinstance(value, dict) and value and not (path and path[-1] in _ATOMIC_MAPS):
        for name, item in value.items():
            out |= leaves(kind, item, (*field, f"f:{name}"), (*path, name))
        return out
    if isinstance(value, list) and value and path[-1] in _SETS:
        return {(*field, "v:" + json.dumps(item)): item for item in value}
    if isinstance(value, list) and value and merge_keys(kind, path):
        for item in value:
            step = _item_key(kind, path, item)
            if step is None:
                return {field: value}
            out[(*field, step)] = None
            for name, part in item.items():
                out |= leaves(kind, part, (*field, step, f"f:{name}"), (*path, name))
        return out
    return {field: value} if field and value is not None else {}


def track_update(
    kind: Kind, old: Obj | None, new: Obj, manager: str, subresource: str, now: str
) -> None:
    """Give every field that this write changed to `manager`, and forget removed ones."""
    before = leaves(kind, old) if old else {}
    after = leaves(kind, new)
    changed = {f for f, v in after.items() if f not in before or before[f] != v}
    managers = read_managers(old) if old else []
    mine = None
    for entry in managers:
        is_me = (entry.name, entry.operation, entry.subresource) == (manager, "Update", subresource)
        entry.owned = {f for f in entry.owned if f in after and (is_me or f not in changed)}
        if is_me:
            mine = entry
    if changed:
        if mine is None:
            mine = Manager(manager, "Update", subresource, kind.api_version, now, set())
            managers.append(mine)
        mine.owned |= changed
        mine.time = now
    write_managers(new, managers)


def apply(
    kind: Kind, live: Obj, config: Obj, manager: str, *, force: bool, subresource: str, now: str
) -> Obj:
    """Server-side apply of `config` onto `live`; returns the merged object with its ownership.

    Raises 409 with one cause a field when another manager owns a field that would change, unless
    `force`. A field that this manager applied before and now leaves out is removed when nobody else
    owns it.
    """
    wanted, present = leaves(kind, config), leaves(kind, live)
    managers = read_managers(live)
    mine = next(
        (
            m for m in managers
            if (m.name, m.operation, m.subresource) == (manager, "Apply", subresource)
        ),
        None,
    )  # fmt: skip
    others = [m for m in managers if m is not mine]
    differing = {f for f, v in wanted.items() if f not in present or present[f] != v}
    clashes = [(_shown(m), _dotted(f)) for m in others for f in sorted(m.owned & differing)]
    if clashes and not force:
        raise apply_conflict(clashes)
    for m in others:
        m.owned -= differing
    merged = _merge(kind, clone(live), config, ())
    gone = (mine.owned if mine else set()) - set(wanted)
    kept_by_others = set().union(*(m.owned for m in others))
    for field in sorted(gone, key=len):
        if not any(o[: len(field)] == field for o in kept_by_others):
            _drop(kind, merged, field)
    if mine is None:
        mine = Manager(manager, "Apply", subresource, kind.api_version, now, set())
        managers.append(mine)
    if mine.owned != set(wanted):
        mine.owned, mine.time = set(wanted), now
    write_managers(merged, managers)
    return merged  # type: ignore[no-any-return]


def _shown(manager: Manager) -> str:
    out = f'"{manager.name}"'
    if manager.subresource:
        out += f' with subresource "{manager.subresource}"'
    return out + (f" using {manager.api_version}" if manager.operation == "Update" else "")


def _dotted(field: Field) -> str:
    out = ""
    for step in field:
        mark, _, text = step.partition(":")
        if mark == "f":
            out += f".{text}"
        elif mark == "k":
            pairs = ",".join(f"{k}={json.dumps(v)}" for k, v in json.loads(text).items())
            out += f"[{pairs}]"
        else:
            out += f"[={text}]"
    return out


def _merge(kind: Kind, live: Any, config: Any, path: tuple[str, ...]) -> Any:
    if isinstance(config, dict) and isinstance(live, dict):
        if path and path[-1] in _ATOMIC_MAPS:
            return clone(config)
        for name, value in config.items():
            if value is not None:
                here = (*path, name)
                live[name] = _merge(kind, live[name], value, here) if name in live else clone(value)
        return live
    if isinstance(config, list) and isinstance(live, list) and path[-1] in _SETS:
        return list(dict.fromkeys([*live, *config]))
    if isinstance(config, list) and isinstance(live, list) and merge_keys(kind, path):
        at = {_item_key(kind, path, item): i for i, item in enumerate(live)}
        for item in config:
            index = at.get(_item_key(kind, path, item))
            if index is None:
                live.append(clone(item))
            else:
                live[index] = _merge(kind, live[index], item, path)
        return live
    return clone(config)


def _drop(kind: Kind, obj: Any, field: Field) -> None:
    """Remove one field, and the maps that this leaves empty."""
    trail: list[tuple[Any, Any]] = []
    path: tuple[str, ...] = ()
    for step in field:
        mark, _, text = step.partition(":")
        place: Any = None
        if mark == "f" and isinstance(obj, dict) and text in obj:
            place, path = text, (*path, text)
        elif mark == "k" and isinstance(obj, list):
            place = next((i for i, x in enumerate(obj) if _item_key(kind, path, x) == step), None)
        elif mark == "v" and isinstance(obj, list) and json.loads(text) in obj:
            place = obj.index(json.loads(text))
        if place is None:
            return
        trail.append((obj, place))
        obj = obj[place]
    for depth, (parent, place) in enumerate(reversed(trail)):
        if depth and (parent[place] or not isinstance(parent, dict)):
            return
        del parent[place]
