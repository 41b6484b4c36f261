"""What pydantic found wrong in hand-written data, said to the person who wrote it. Pure."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

LONGEST_ECHO = 40
_OURS = "source"


@dataclass(frozen=True)
class Explained:
    """One finding: where (path into the data), what, and what to do. `at_key`: the key is wrong.

    `wants` names the key that is missing, or that an unknown one was probably meant to be.
    """

    path: tuple[str | int, ...]
    message: str
    hint: str
    at_key: bool = False
    wants: str = ""


def without_echoes(found: list[Explained]) -> list[Explained]:
    """Leave out missing keys that are there under a misspelt name: that is one mistake, not two."""
    misspelt = {(one.path[:-1], one.wants) for one in found if one.at_key and one.wants}
    return [
        one for one in found if one.at_key or not one.wants or (one.path, one.wants) not in misspelt
    ]


def wrong(message: str, hint: str = "") -> PydanticCustomError:
    """An error for validators of hand-written models to raise, with its own hint."""
    return PydanticCustomError(_OURS, "{message}", {"message": message, "hint": hint})


def explain_error(model: type[BaseModel], data: Any, error: ErrorDetails) -> Explained:
    """Explain one pydantic error about `data` that was to become a `model`."""
    loc = error["loc"]
    kind = error["type"]
    path, rest = _walk(data, loc)
    context = error.get("ctx") or {}
    if kind == "extra_forbidden":
        return _unknown_key(model, path)
    if kind == "missing":
        return _missing_key(model, path, str(rest[-1]) if rest else "")
    info = _field_at(model, path)
    if kind == _OURS:
        return Explained(path, str(context["message"]), str(context["hint"]) or _expected(info))
    if kind in ("literal_error", "enum"):
        return _not_offered(path, str(context.get("expected", "")), error["input"])
    message, hint = _described(kind, error)
    return Explained(path, message, hint or _expected(info) or _around(model, path))


def _described(kind: str, error: ErrorDetails) -> tuple[str, str]:
    """Message and hint for the type errors that people make most; the rest in pydantic's words."""
    value = error["input"]
    found = _echo(value)
    if kind == "string_type" and isinstance(value, int | float):
        return f"expected text, found {found}", f'put it in quotes: "{_plain(value)}"'
    if kind in ("list_type", "tuple_type") and not isinstance(value, Mapping):
        shown = "" if value is None else _plain(value)
        return f"expected a list, found {found}", f"write it as a list: [{shown}]"
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return f"expected keys and values, found {found}", ""
    if kind.startswith("bool"):
        return f"expected true or false, found {found}", "write true or false"
    text = error["msg"].removeprefix("Value error, ")
    text = text.removeprefix("Input ").removeprefix("String ")
    return f"{found} {text}" if text.startswith("should") else text, ""


def _unknown_key(model: type[BaseModel], path: tuple[str | int, ...]) -> Explained:
    key = str(path[-1])
    valid = sorted({name for one in _models_at(model, path[:-1]) for name in _names(one)})
    close = difflib.get_close_matches(key, valid, n=1, cutoff=0.6)
    listed = "valid keys here: " + ", ".join(valid)
    hint = f"did you mean {close[0]!r}? {listed}" if close else listed
    wants = close[0] if close else ""
    return Explained(path, f"unknown key {key!r}", hint, at_key=True, wants=wants)


def _missing_key(model: type[BaseModel], path: tuple[str | int, ...], name: str) -> Explained:
    info = next((_names(one)[name] for one in _models_at(model, path) if name in _names(one)), None)
    hint = _expected(info) or "add it"
    example = _example(info)
    if example:
        hint = f"add `{name}: {example}`" + (f" ({info.description})" if info else "")
    return Explained(path, f"the key {name!r} is missing", hint, wants=name)


def _not_offered(path: tuple[str | int, ...], expected: str, value: Any) -> Explained:
    offered = [one.strip("'\"") for one in expected.replace(" or ", ", ").split(", ")]
    close = difflib.get_close_matches(str(value), offered, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"write one of: {', '.join(offered)}"
    return Explained(path, f"expected {expected}, found {_echo(value)}", hint)


def _expected(info: FieldInfo | None) -> str:
    if info is None:
        return ""
    said = (info.description or "").strip().rstrip(".")
    example = _example(info)
    return "; ".join(one for one in (said, f"for example {example}" if example else "") if one)


def _around(model: type[BaseModel], path: tuple[str | int, ...]) -> str:
    """The keys that belong at a path, or else what is expected of the nearest thing around it."""
    names = sorted({name for one in _models_at(model, path) for name in _names(one)})
    if names:
        return "keys here: " + ", ".join(names)
    near = (_expected(_field_at(model, path[:end])) for end in range(len(path) - 1, 0, -1))
    return next((one for one in near if one), "see the shipped file for an example")


def _example(info: FieldInfo | None) -> str:
    if info is None or not info.examples:
        return ""
    first = info.examples[0]
    if isinstance(first, list):
        return f"[{', '.join(_plain(one) for one in first)}]"
    return _plain(first) if not isinstance(first, str) else f'"{first}"'


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)[:LONGEST_ECHO]


def _echo(value: Any) -> str:
    """What was found, short: hand-written files may hold more than should stand in a log."""
    match value:
        case None:
            return "nothing"
        case bool():
            return _plain(value)
        case Mapping():
            return "keys and values"
        case list():
            return "a list"
        case str():
            cut = value if len(value) <= LONGEST_ECHO else value[: LONGEST_ECHO - 1] + "…"
            return repr(cut)
        case _:
            return str(value)[:LONGEST_ECHO]


def _walk(
    data: Any, loc: tuple[str | int, ...]
) -> tuple[tuple[str | int, ...], tuple[str | int, ...]]:
    """The part of a pydantic location that is in the data, and what is left of it.

    Pydantic puts names of union members and tags into locations; those are passed over.
    """
    path: list[str | int] = []
    left: list[str | int] = []
    for part in loc:
        if not _has(data, part):
            left.append(part)
            continue
        data = data[part]
        path.append(part)
        left = []
    return tuple(path), tuple(left)


def _has(data: Any, part: str | int) -> bool:
    if isinstance(data, Mapping):
        return part in data
    return isinstance(data, list) and isinstance(part, int) and part < len(data)


def _names(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Fields by the key that is written in the file."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _models_at(model: type[BaseModel], path: tuple[str | int, ...]) -> list[type[BaseModel]]:
    """The models that may stand at a path (several for a union)."""
    return [one for one in _types_at(model, path) if _is_model(one)]


def _types_at(model: type[BaseModel], path: tuple[str | int, ...]) -> list[Any]:
    current: list[Any] = [model]
    for part in path:
        current = [inner for one in current for inner in _below(one, part)]
    return current


def _below(kind: Any, part: str | int) -> Iterator[Any]:
    """The types that may stand one step below a type."""
    if _is_model(kind):
        info = _names(kind).get(str(part))
        if info is not None:
            yield from _unwrapped(info.annotation)
        return
    origin, args = get_origin(kind), [one for one in get_args(kind) if one is not Ellipsis]
    if origin in (list, tuple, set, frozenset) and args:
        yield from _unwrapped(args[0])
    elif isinstance(origin, type) and issubclass(origin, Mapping) and len(args) == 2:
        yield from _unwrapped(args[1])


def _unwrapped(annotation: Any) -> Iterator[Any]:
    """The members of a union, with Annotated and None taken away."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _unwrapped(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for one in get_args(annotation):
            yield from _unwrapped(one)
    elif annotation is not type(None):
        yield annotation


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _field_at(model: type[BaseModel], path: tuple[str | int, ...]) -> FieldInfo | None:
    """The field that a path leads to; for an item of a list, the field of the list."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    if not path:
        return None
    key = str(path[-1])
    for one in _models_at(model, path[:-1]):
        if key in _names(one):
            return _names(one)[key]
    return None
