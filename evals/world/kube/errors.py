"""Refusals in the API server's own shape: an HTTP code and a `Status` body.

`ApiError` is the only exception that `KubeApi` raises. The constructors below carry the wording of
the real server (apimachinery's `errors` and `field` packages), because clients parse it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.world.kube.kinds import Kind, Obj

CAUSES = {
    "Invalid value": "FieldValueInvalid",
    "Required value": "FieldValueRequired",
    "Forbidden": "FieldValueForbidden",
    "Unsupported value": "FieldValueNotSupported",
    "Duplicate value": "FieldValueDuplicate",
}


class ApiError(Exception):
    """A refusal: HTTP `code`, machine-readable `reason`, human `message`, optional details."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Obj | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = dict(headers or {})

    def status(self) -> Obj:
        """The `Status` object sent as the body."""
        body: Obj = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        }  # fmt: skip
        if not self.reason:
            del body["reason"]
        if self.details is not None:
            body["details"] = self.details
        return body


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that is wrong. `kind` is a key of `CAUSES`; `value` is shown for invalid values."""

    field: str
    kind: str
    detail: str = ""
    value: Any = None

    @property
    def text(self) -> str:
        """The message without the field's name, as in `details.causes[].message`."""
        shown = ""
        if self.kind in ("Invalid value", "Unsupported value", "Duplicate value"):
            shown = f": {json.dumps(self.value, separators=(',', ':'))}"
        return f"{self.kind}{shown}" + (f": {self.detail}" if self.detail else "")


def _details(kind: Kind, name: str) -> Obj:
    details: Obj = {"name": name, "kind": kind.plural}
    if not name:
        del details["name"]
    if kind.group:
        details["group"] = kind.group
    return details


def not_found(kind: Kind, name: str) -> ApiError:
    """404: the object is not there."""
    text = f'{kind.resource} "{name}" not found'
    return ApiError(404, "NotFound", text, details=_details(kind, name))


def no_such_resource() -> ApiError:
    """404: the path names no resource this server has."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", details={})


def already_exists(kind: Kind, name: str) -> ApiError:
    """409: a create met an object of that name."""
    text = f'{kind.resource} "{name}" already exists'
    return ApiError(409, "AlreadyExists", text, details=_details(kind, name))


def conflict(kind: Kind, name: str, why: str | None = None) -> ApiError:
    """409: the write named a resourceVersion or uid that is no longer the object's."""
    why = why or (
        "the object has been modified; please apply your changes to the latest version "
        "and try again"
    )
    text = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return ApiError(409, "Conflict", text, details=_details(kind, name))


def invalid(kind: Kind, name: str, causes: Sequence[Cause]) -> ApiError:
    """422: the object breaks validation rules. All causes are told at once."""
    parts = [f"{c.field}: {c.text}" for c in causes]
    text = parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]"
    details: Obj = {
        **({"name": name} if name else {}),
        "kind": kind.kind,
        "causes": [{"reason": CAUSES[c.kind], "message": c.text, "field": c.field} for c in causes],
    }
    if kind.group:
        details["group"] = kind.group
    message = f'{kind.qualified} "{name}" is invalid: {text}'
    return ApiError(422, "Invalid", message, details=details)


def apply_conflict(clashes: Sequence[tuple[str, str]]) -> ApiError:
    """409 from server-side apply: `clashes` are (owner as shown, field) pairs."""
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {owner}", "field": field}
        for owner, field in clashes
    ]
    if len(clashes) == 1:
        ((owner, field),) = clashes
        text = f"Apply failed with 1 conflict: conflict with {owner}: {field}"
    else:
        text = f"Apply failed with {len(clashes)} conflicts: " + "\n".join(
            f"conflicts with {shown}:" + "".join(f"\n- {f}" for o, f in clashes if o == shown)
            for shown in dict.fromkeys(owner for owner, _ in clashes)
        )
    return ApiError(409, "Conflict", text, details={"causes": causes})


def precondition_failed(kind: Kind, name: str, why: str) -> ApiError:
    """409: a deletion's precondition does not hold. Names the kind, unlike other conflicts."""
    text = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}'
    details = {**_details(kind, name), "kind": kind.kind}
    return ApiError(409, "Conflict", text, details=details)


def internal(message: str) -> ApiError:
    """500 without a reason: what the real server makes of some errors that are the client's."""
    return ApiError(500, "", message)


def bad_request(message: str) -> ApiError:
    """400: the request could not be understood."""
    return ApiError(400, "BadRequest", message)


def rejected() -> ApiError:
    """422: a JSON patch that does not apply, in the server's own unspecific words."""
    message = "the server rejected our request due to an error in our request"
    return ApiError(422, "Invalid", message, details={})


def unauthorized() -> ApiError:
    """401: no token, or not the right one."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def method_not_allowed() -> ApiError:
    """405: the resource is there but not with this verb."""
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", message, details={})


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    """415: the body is in a format that the resource does not take."""
    text = (
        "the body of the request was in an unknown format - "
        f"accepted media types include: {', '.join(accepted)}"
    )
    return ApiError(415, "UnsupportedMediaType", text)


def expired(asked: int, oldest: int) -> ApiError:
    """410: the changes since `asked` are no longer kept."""
    return ApiError(410, "Expired", f"too old resource version: {asked} ({oldest})")
