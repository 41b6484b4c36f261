"""Digests of meaning: the same content gives the same digest, whatever the order of its keys."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel


def canonical_json(value: Any) -> str:
    """Serialise to JSON with sorted keys, no white space and no ASCII escapes (after RFC 8785)."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_of(value: Any) -> str:
    """SHA-256 over the canonical JSON of a model or of plain data, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_of_bytes(body: bytes) -> str:
    """SHA-256 of raw bytes, as 64 hex digits."""
    return hashlib.sha256(body).hexdigest()
