"""Values in services.yaml: durations, shares, names, images. Each mistake is named at its line."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from domain.source_hints import wrong

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST_SECONDS = 7 * 86400.0
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_REPO = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
LONGEST_DEPLOYMENT = 63 - len("-canary")


def seconds(value: Any) -> float:
    """Seconds in a duration such as `30s`, `5m` or `1h30m`."""
    hint = "write a number and a unit: 30s, 5m, 1h30m"
    if isinstance(value, bool) or not isinstance(value, str):
        raise wrong("a duration needs a unit", hint)
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value.replace(" ", ""):
        raise wrong(f"{value[:40]!r} is not a duration", hint)
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if total > LONGEST_SECONDS:
        raise wrong(f"{value[:40]!r} is longer than a week", "nothing is watched that long")
    return total


def positive_seconds(value: Any) -> float:
    """A duration above zero."""
    given = seconds(value)
    if given <= 0:
        raise wrong("a window needs some length", "for example 30s")
    return given


def share(value: Any) -> float:
    """A promised share of good events: `0.999` or `99.9%`; strictly between 0 and 1."""
    hint = "write the share of good events: 0.99 or 99%"
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?\s*%", value.strip()):
        # Divided as decimal text, so that 99.9% is 0.999 and not one bit beside it.
        value = float(f"{value.strip().rstrip('% ')}e-2")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong("expected a share", hint)
    if not 0 < value < 1:
        raise wrong(f"{value} is not between 0 and 1", hint)
    return float(value)


def label(value: Any) -> Any:
    """A name as Kubernetes wants it."""
    if isinstance(value, str) and (not _LABEL.fullmatch(value) or len(value) > 63):
        raise wrong(
            f"{value[:70]!r} cannot be a name",
            "use at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit",
        )
    return value


def deployment(value: Any) -> Any:
    """A Deployment's name that leaves room for the canary's."""
    if isinstance(value, str) and len(value) > LONGEST_DEPLOYMENT:
        raise wrong(
            f"{value[:70]!r} is too long, the canary is called <name>-canary",
            f"use at most {LONGEST_DEPLOYMENT} characters",
        )
    return label(value)


def repository(value: Any) -> Any:
    """`owner/name`."""
    if isinstance(value, str) and not _REPO.fullmatch(value):
        raise wrong(f"{value[:70]!r} is not a repository", "write owner/name, without host or .git")
    return value


def image(value: Any) -> Any:
    """An image reference with `{sha}`, and maybe `{tag}`, and no other braces."""
    if not isinstance(value, str):
        return value
    left = value.replace("{sha}", "").replace("{tag}", "")
    strange = re.search(r"\{[^{}]*\}?|\}", left)
    if strange:
        raise wrong(
            f"the image has the unknown placeholder {strange[0]!r}",
            "only {sha} (the commit) and {tag} (the git tag) are filled in",
        )
    if "{sha}" not in value:
        raise wrong(
            "the image has no {sha}, every release would be the same image",
            "for example ghcr.io/acme/checkout:{sha}",
        )
    if re.search(r"\s", value) or ":" not in left.rpartition("/")[2]:
        raise wrong(f"{value[:70]!r} is not an image with a tag", "write registry/name:{sha}")
    return value


def path_pattern(value: Any) -> Any:
    """A pattern of paths below the repository's root."""
    if isinstance(value, str) and (not value or value.startswith(("/", "./")) or ".." in value):
        raise wrong(
            f"{value[:70]!r} is not a path below the repository's root",
            "write it without a leading slash: services/checkout/**",
        )
    return value


def link(value: Any) -> Any:
    """A web address; it becomes a link on the pages."""
    if isinstance(value, str) and not re.fullmatch(r"(https?://\S+)?", value):
        raise wrong(f"{value[:70]!r} is not a web address", "begin it with https://")
    return value


Seconds = Annotated[float, BeforeValidator(seconds)]
Interval = Annotated[float, BeforeValidator(positive_seconds)]
Share = Annotated[float, BeforeValidator(share)]
Label = Annotated[str, BeforeValidator(label)]
DeploymentName = Annotated[str, BeforeValidator(deployment)]
Repository = Annotated[str, BeforeValidator(repository)]
PathPattern = Annotated[str, BeforeValidator(path_pattern)]
Image = Annotated[str, BeforeValidator(image)]
Link = Annotated[str, BeforeValidator(link)]
Word = Annotated[str, Field(min_length=1, max_length=100)]
Query = Annotated[str, Field(min_length=1, max_length=4000)]


class Shape(BaseModel):
    """Base of everything in the file: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
