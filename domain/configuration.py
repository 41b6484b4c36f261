"""Configuration that belongs to a version: which objects it is in, and which content each has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from domain.event import Frozen

DIGITS = 10
"""Digits of a content's digest in the name of a copy, as many as kustomize takes."""
_COPY = re.compile(rf"(.+)-([0-9a-f]{{{DIGITS}}})")


class ConfigObjects(Frozen):
    """The ConfigMaps and Secrets of a workload, by name, and for how many known good releases
    copies of them are kept."""

    configmaps: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    keep: int = Field(default=10, ge=1)

    @property
    def objects(self) -> tuple[ConfigVersion, ...]:
        """All of them, without a version."""
        maps = tuple(ConfigVersion(kind="ConfigMap", name=one) for one in self.configmaps)
        return maps + tuple(ConfigVersion(kind="Secret", name=one) for one in self.secrets)


class ConfigVersion(Frozen):
    """One object with the content it has.

    `digest` is of the content, and of a Secret's with a key, so that nobody can guess a short
    value from it. '' where the object itself is meant, whatever is in it: in what runs, a pod
    template that names the object and no copy; in what is to be done, that its content could not be
    known beforehand.
    """

    kind: Literal["ConfigMap", "Secret"]
    name: str
    digest: str = ""

    @property
    def copy_name(self) -> str:
        """Name of the immutable copy with this content; without a digest the object's own."""
        return f"{self.name}-{self.digest}" if self.digest else self.name

    def version_in(self, reference: str) -> str | None:
        """The digest in a reference to this object or a copy of it; None: it is to another one."""
        if reference == self.name:
            return ""
        found = _COPY.fullmatch(reference)
        return found[2] if found is not None and found[1] == self.name else None

    def __str__(self) -> str:
        return f"{self.kind} {self.copy_name}"


Configuration = tuple[ConfigVersion, ...]
"""One version of each object of a workload."""


def is_known(versions: Configuration) -> bool:
    """Whether the content of each object is known."""
    return all(one.digest for one in versions)


def differs(running: Configuration, wanted: Configuration) -> bool:
    """Whether a release would change the configuration; what is not known counts as changed."""
    return not is_known(wanted) or set(running) != set(wanted)


def is_other(one: Configuration, other: Configuration) -> bool:
    """Whether two configurations are known to be different; () is one that nobody versioned."""
    return bool(one) and bool(other) and set(one) != set(other)


def for_the_record(versions: Configuration) -> Configuration:
    """What a version is remembered with: all of it, or nothing where a content is not known."""
    return versions if is_known(versions) else ()


def names_of(versions: Iterable[ConfigVersion]) -> str:
    """The copies, for sentences."""
    return ", ".join(one.copy_name for one in versions)
