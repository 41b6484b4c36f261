"""The three patch formats besides server-side apply, as pure functions on JSON."""

from __future__ import annotations

from typing import Any

from evals.world.kube.errors import bad_request, internal, rejected
from evals.world.kube.kinds import Kind, Obj, clone

_BY_NAME = (
    "containers", "initContainers", "ephemeralContainers", "env", "volumes", "imagePullSecrets",
    "listeners",
)  # fmt: skip


def merge_keys(kind: Kind, path: tuple[str, ...]) -> tuple[str, ...] | None:
    """The keys that identify items of the list at `path` (field names only), None if atomic.

    From the `x-kubernetes-list-map-keys` of the real schema, for the kinds here. Strategic merge
    uses only the first key, as its older `patchMergeKey` does.
    """
    field = path[-1]
    if kind.custom and field != "conditions" and field != "listeners":
        return ("uid",) if field == "ownerReferences" else None
    if field in _BY_NAME:
        return ("name",)
    if field == "ports":
        return ("port", "protocol") if kind.kind == "Service" else ("containerPort", "protocol")
    return {
        "volumeMounts": ("mountPath",),
        "conditions": ("type",),
        "ownerReferences": ("uid",),
        "hostAliases": ("ip",),
        "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    }.get(field)


def json_merge(target: Any, patch: Any) -> Any:
    """RFC 7396: null deletes, objects merge, everything else (lists too) replaces."""
    if not isinstance(patch, dict):
        return clone(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = json_merge(result.get(key), value)
    return result


def json_patch(target: Obj, operations: Any) -> Obj:
    """RFC 6902 on a copy. Raises 400 for a malformed patch, 422 for one that does not apply."""
    if not isinstance(operations, list):
        raise bad_request(
            "error decoding patch: json: cannot unmarshal object into Go value of type "
            "[]handlers.jsonPatchOp"
        )
    result: Any = clone(target)
    for step in operations:
        if not isinstance(step, dict) or "op" not in step or not isinstance(step.get("path"), str):
            raise bad_request("error decoding patch: each operation needs op and path")
        result = _operate(result, step)
    if not isinstance(result, dict):
        raise rejected()
    return result


def _operate(doc: Any, step: Obj) -> Any:
    op, path = step["op"], step["path"]
    if op in ("add", "replace", "test") and "value" not in step:
        raise bad_request(f"error decoding patch: {op} needs a value")
    match op:
        case "add":
            return _add(doc, path, clone(step["value"]))
        case "remove":
            return _remove(doc, path)[0]
        case "replace":
            if path == "":
                return clone(step["value"])
            return _add(_remove(doc, path)[0], path, clone(step["value"]))
        case "move":
            doc, value = _remove(doc, str(step.get("from")))
            return _add(doc, path, value)
        case "copy":
            return _add(doc, path, clone(_find(doc, _pointer(str(step.get("from"))))))
        case "test":
            if _find(doc, _pointer(path)) != step["value"]:
                raise rejected()
            return doc
    raise bad_request(f"error decoding patch: unexpected kind: {op}")


def _pointer(path: str) -> list[str]:
    if path == "":
        return []
    if not path.startswith("/"):
        raise rejected()
    return [part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/")]


def _find(doc: Any, parts: list[str]) -> Any:
    for part in parts:
        if isinstance(doc, dict) and part in doc:
            doc = doc[part]
        elif isinstance(doc, list) and part.isdigit() and int(part) < len(doc):
            doc = doc[int(part)]
        else:
            raise rejected()
    return doc


def _add(doc: Any, path: str, value: Any) -> Any:
    parts = _pointer(path)
    if not parts:
        return value
    parent, last = _find(doc, parts[:-1]), parts[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list) and last == "-":
        parent.append(value)
    elif isinstance(parent, list) and last.isdigit() and int(last) <= len(parent):
        parent.insert(int(last), value)
    else:
        raise rejected()
    return doc


def _remove(doc: Any, path: str) -> tuple[Any, Any]:
    parts = _pointer(path)
    if not parts:
        raise rejected()
    value, parent, last = _find(doc, parts), _find(doc, parts[:-1]), parts[-1]
    del parent[int(last) if isinstance(parent, list) else last]
    return doc, value


def strategic_merge(kind: Kind, target: Any, patch: Obj, path: tuple[str, ...] = ()) -> Obj:
    """Kubernetes' strategic merge: like a merge patch, but keyed lists merge item by item.

    Understands `$patch: delete|replace`, `$deleteFromPrimitiveList/<field>`, `$retainKeys` and
    `$setElementOrder/<field>` (which orders the keyed lists). Raises 500,
    as the real server does, for an item without its merge key.
    """
    if patch.get("$patch") == "replace":
        return clone({k: v for k, v in patch.items() if k != "$patch"})  # type: ignore[no-any-return]
    result: Obj = dict(target) if isinstance(target, dict) else {}
    if isinstance(keep := patch.get("$retainKeys"), list):
        result = {k: v for k, v in result.items() if k in keep}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        here = (*path, key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            if value.get("$patch") == "delete":
                result.pop(key, None)
            else:
                result[key] = strategic_merge(kind, result.get(key), value, here)
        elif isinstance(value, list) and (keys := merge_keys(kind, here)):
            result[key] = _merge_items(kind, result.get(key) or [], value, keys[0], here)
        elif isinstance(value, list) and key == "finalizers":
            result[key] = [*(result.get(key) or []), *value]
            result[key] = list(dict.fromkeys(result[key]))
        else:
            result[key] = clone(value)
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            result[field] = [v for v in result.get(field) or [] if v not in value]
        elif key.startswith("$setElementOrder/"):
            field = key.partition("/")[2]
            keys = merge_keys(kind, (*path, field))
            if keys and isinstance(result.get(field), list):
                order = {item.get(keys[0]): at for at, item in enumerate(value)}
                last = len(order)
                result[field] = sorted(
                    result[field], key=lambda item: order.get(item.get(keys[0]), last)
                )
    return result


def _merge_items(
    kind: Kind, target: list[Any], patch: list[Any], key: str, path: tuple[str, ...]
) -> list[Any]:
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [clone(i) for i in patch if i.get("$patch") != "replace"]
    result = list(target)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise internal(f"map: {item} does not contain declared merge key: {key}")
        at = next((i for i, old in enumerate(result) if old.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del result[at]
        elif at is None:
            # New items go in front, where the real server puts them.
            result.insert(0, strategic_merge(kind, {}, item, path))
        else:
            result[at] = strategic_merge(kind, result[at], item, path)
    return result
