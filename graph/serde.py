"""The types a checkpoint may hold: every domain type that `State` can reach, and no other.

Strict msgpack brings a type that is not on this list back as a plain dict, so the list is worked
out from the annotations themselves; a test sends each one there and back.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel

from domain.state import State


def checkpointed_types() -> tuple[type, ...]:
    """Models and enums reachable from the annotations of `State`, each once."""
    found: dict[type, None] = {}
    for annotation in get_type_hints(State).values():
        _collect(annotation, found)
    return tuple(found)


def _collect(annotation: Any, found: dict[type, None]) -> None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel | Enum):
        if annotation in found:
            return
        found[annotation] = None
        if issubclass(annotation, BaseModel):
            for field in annotation.model_fields.values():
                _collect(field.annotation, found)
        return
    for part in get_args(annotation):
        _collect(part, found)
