"""Wrong shapes: validation errors as a 422 that names the field, without what stood in it."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from web.problems import Problem, nearest, shown

M = TypeVar("M", bound=BaseModel)

STORABLE = r"^[^\x00]*$"
"""Pattern of text that PostgreSQL can be asked for: it knows no NUL character."""


def shaped(model: type[M], data: object, where: str = "") -> M:
    """`data` as `model`, or a 422 with the path of the first field that is wrong."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        # a misspelt key also leaves the right one missing: name the misspelling
        first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
        steps = [where, *(str(step) for step in first["loc"])]
        path = ".".join(shown(step, 40) for step in steps if step)
        hint = ""
        if first["type"] == "extra_forbidden":
            fields = {one.alias or name for name, one in model.model_fields.items()}
            meant = nearest(str(first["loc"][-1]), fields) if len(first["loc"]) == 1 else None
            hint = f"Did you mean `{meant}`?" if meant else "Leave it out."
        # `from None`: the validation error holds the input
        raise misshapen(path, f"{first['msg'][0].lower()}{first['msg'][1:]}", hint) from None


def misshapen(path: str, what: str, hint: str = "") -> Problem:
    """A 422 about one field."""
    place = f"`{path}`: {what}" if path else what
    return Problem(422, f"{place}.", hint, more={"path": path})
