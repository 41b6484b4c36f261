"""JSON Schema of `policy.yaml`, for completion and checking in editors."""

from __future__ import annotations

from typing import Any

from policy.raw import RawPolicy


def policy_schema() -> dict[str, Any]:
    """The schema (draft 2020-12). It knows shapes and values; references between sections, such as
    an environment that is not listed, are only found by `load_policy`."""
    schema = RawPolicy.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Fermata policy",
    }
