"""Image references: registry, repository, tag and digest, as a container runtime takes them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

_PART: Final = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REFERENCE: Final = re.compile(
    r"(?:(?P<host>(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?)/)?"
    rf"(?P<path>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z0-9_+.-]+:[0-9a-fA-F]{32,}))?"
)
DOCKER_HUB: Final = "docker.io"


@dataclass(frozen=True, slots=True)
class Image:
    """One reference, with Docker Hub's name filled in where it names no registry."""

    registry: str
    repository: str
    tag: str
    digest: str

    @property
    def place(self) -> str:
        """`docker.io/library/nginx`."""
        return f"{self.registry}/{self.repository}"


def parse_image(text: str) -> Image | None:
    """The reference; None when it is not one that could be pulled."""
    found = _REFERENCE.fullmatch(text)
    if found is None:
        return None
    host, path = found["host"] or "", found["path"]
    if host and not (set(host) & set(".:") or host == "localhost" or host != host.lower()):
        host, path = "", f"{host}/{path}"
    if not host:
        host = DOCKER_HUB
        path = path if "/" in path else f"library/{path}"
    if host == "index.docker.io":
        host = DOCKER_HUB
    return Image(host.lower(), path, found["tag"] or "", found["digest"] or "")


def is_from(image: Image, places: Iterable[str]) -> bool:
    """Whether an image comes from one of the registries, or folders in them.

    `ghcr.io/acme` fits `ghcr.io/acme/app` and not `ghcr.io/acme-evil/app`.
    """
    for place in places:
        wanted = place.strip("/").lower()
        if fnmatchcase(image.registry, wanted):
            return True
        host, _, folder = wanted.partition("/")
        if folder and fnmatchcase(image.registry, host):
            parts = image.repository.split("/")
            steps = folder.split("/")
            if len(steps) <= len(parts) and all(
                fnmatchcase(part, step) for part, step in zip(parts, steps, strict=False)
            ):
                return True
    return False
