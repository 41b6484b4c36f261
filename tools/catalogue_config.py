"""What services.yaml says of configuration that belongs to a version: names, and what cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from domain.configuration import DIGITS, ConfigObjects, ConfigVersion
from domain.errors import SourceProblem
from domain.source_hints import wrong
from domain.yaml_source import Located, Path
from tools.catalogue_values import Shape

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LONGEST = 253 - 1 - DIGITS


def object_name(value: Any) -> Any:
    """A ConfigMap's or Secret's name that leaves room for a digest."""
    if isinstance(value, str) and (not _SUBDOMAIN.fullmatch(value) or len(value) > LONGEST):
        raise wrong(
            f"{value[:70]!r} cannot be the name of a ConfigMap or Secret with versions",
            f"use at most {LONGEST} of a-z, 0-9, - and . (a copy is called <name>-<digest>)",
        )
    return value


ObjectName = Annotated[str, BeforeValidator(object_name)]


class ConfigShape(Shape):
    """ConfigMaps and Secrets that are versioned with the image."""

    configmaps: list[ObjectName] = Field(default=[], examples=[["checkout"]])
    secrets: list[ObjectName] = Field(default=[], examples=[["checkout-tokens"]])
    keep: int = Field(
        default=10, ge=1, le=100, description="known good releases whose copies are kept"
    )


def config_of_shape(shape: ConfigShape | None) -> ConfigObjects | None:
    """Into the domain."""
    if shape is None:
        return None
    return ConfigObjects(
        configmaps=tuple(shape.configmaps), secrets=tuple(shape.secrets), keep=shape.keep
    )


def config_problems(
    shape: ConfigShape | None, executor: str, path: Path, located: Located
) -> Iterator[SourceProblem]:
    """What single names do not show."""
    if shape is None:
        return
    if executor != "kubernetes":
        yield located.problem(
            path,
            f"configuration is versioned by the kubernetes executor, and this is {executor}",
            "take `config:` out, or choose `executor: kubernetes`",
        )
    if not shape.configmaps and not shape.secrets:
        yield located.problem(path, "it names nothing", "name `configmaps:` or `secrets:`")
    for kind, key in (("ConfigMap", "configmaps"), ("Secret", "secrets")):
        names: list[str] = getattr(shape, key)
        for index, name in enumerate(names):
            here: Path = (*path, key, index)
            if name in names[:index]:
                yield located.problem(here, f"{kind} {name} is named twice", "name it once")
            for other in names:
                if ConfigVersion(kind=kind, name=other).version_in(name):
                    yield located.problem(
                        here,
                        f"{name} cannot be told from a copy of {other}",
                        f"rename it: {DIGITS} hexadecimal digits after a - are a version",
                    )
