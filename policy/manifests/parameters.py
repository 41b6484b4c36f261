"""Parameters of a constraint: checked against its template's schema, with defaults filled in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from difflib import get_close_matches
from typing import Any, Final

from domain.yaml_source import Path

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
Complaint = tuple[Path, str, str]
"""Where in the parameters, what, and what to do."""


def with_defaults(schema: dict[str, Any], value: Any) -> Any:
    """A copy with defaults wherever the schema has one and the value is missing."""
    if isinstance(value, dict):
        filled = {key: value[key] for key in value}
        for key, inner in _properties(schema).items():
            if key not in filled and "default" in inner:
                filled[key] = deepcopy(inner["default"])
            if key in filled:
                filled[key] = with_defaults(inner, filled[key])
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            for key in filled.keys() - _properties(schema).keys():
                filled[key] = with_defaults(extra, filled[key])
        return filled
    if isinstance(value, list) and isinstance(items := schema.get("items"), dict):
        return [with_defaults(items, one) for one in value]
    return value


def complaints(schema: dict[str, Any], value: Any, path: Path = ()) -> Iterator[Complaint]:
    """What the schema has against a value."""
    if value is None and schema.get("nullable"):
        return
    wanted = schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str) or isinstance(value, bool):
            yield path, "a number or text is wanted here", ""
        return
    if isinstance(wanted, str) and not _is(value, wanted):
        yield (
            path,
            f"{_shown(value)} is not of the type {wanted}",
            f"write a value of type {wanted}",
        )
        return
    if "enum" in schema and value not in schema["enum"]:
        listed = ", ".join(str(one) for one in schema["enum"])
        yield path, f"{_shown(value)} is not one of {listed}", "take one of them"
    if isinstance(value, dict):
        yield from _of_mapping(schema, value, path)
    elif isinstance(value, list):
        yield from _of_list(schema, value, path)
    elif isinstance(value, str):
        yield from _of_text(schema, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if (least := schema.get("minimum")) is not None and value < least:
            yield path, f"{value} is less than {least}", ""
        if (most := schema.get("maximum")) is not None and value > most:
            yield path, f"{value} is more than {most}", ""


def _of_mapping(schema: dict[str, Any], value: dict[str, Any], path: Path) -> Iterator[Complaint]:
    properties = _properties(schema)
    for key in schema.get("required") or ():
        if key not in value:
            yield path, f"the parameter {key} is missing", f"add {key}"
    extra = schema.get("additionalProperties")
    is_open = (
        bool(extra) or bool(schema.get("x-kubernetes-preserve-unknown-fields")) or not properties
    )
    for key, inner in value.items():
        if key in properties:
            yield from complaints(properties[key], inner, (*path, key))
        elif isinstance(extra, dict):
            yield from complaints(extra, inner, (*path, key))
        elif not is_open:
            close = get_close_matches(key, properties, n=1)
            known = f"parameters are {', '.join(properties)}"
            yield (
                (*path, key),
                f"there is no parameter {key!r}",
                f"did you mean {close[0]}? {known}" if close else known,
            )


def _of_list(schema: dict[str, Any], value: list[Any], path: Path) -> Iterator[Complaint]:
    if len(value) < schema.get("minItems", 0):
        yield path, f"at least {schema['minItems']} entries are wanted", ""
    if len(value) > schema.get("maxItems", len(value)):
        yield path, f"at most {schema['maxItems']} entries are wanted", ""
    items = schema.get("items")
    for index, one in enumerate(value):
        if isinstance(items, dict):
            yield from complaints(items, one, (*path, index))


def _of_text(schema: dict[str, Any], value: str, path: Path) -> Iterator[Complaint]:
    if len(value) < schema.get("minLength", 0):
        yield path, f"at least {schema['minLength']} letters are wanted", ""
    if len(value) > schema.get("maxLength", len(value)):
        yield path, f"at most {schema['maxLength']} letters are wanted", ""
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        try:
            fits = re.search(pattern, value) is not None
        except re.error:
            fits = False
        if not fits:
            yield path, f"{value!r} does not fit the pattern {pattern}", ""


def _properties(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = schema.get("properties")
    if not isinstance(found, dict):
        return {}
    return {key: one if isinstance(one, dict) else {} for key, one in found.items()}


def _is(value: Any, wanted: str) -> bool:
    kinds = _TYPES.get(wanted)
    if kinds is None:
        return True
    if isinstance(value, bool):
        return wanted == "boolean"
    return isinstance(value, kinds) or (
        wanted == "integer" and isinstance(value, float) and value.is_integer()
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
