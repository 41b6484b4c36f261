"""Secrets that were found where they do not belong. Nothing here ever holds the secret itself."""

from __future__ import annotations

from domain.event import Frozen


class FilePatch(Frozen):
    """What a change does to one file. `patch` is its unified diff; None when it cannot be had (a
    binary file, or one too large for the forge to show)."""

    path: str
    patch: str | None


class SecretHit(Frozen):
    """A secret in a file: where, which rule knows it, and how to take it out of use.

    `line` is 1-based in the file as the change leaves it. `fingerprint` is keyed: the same secret
    in two places has the same one, and nobody can work the secret out of it.
    """

    file: str
    line: int
    rule: str
    advice: str
    fingerprint: str = ""


class SecretScan(Frozen):
    """What looking through a change for secrets found.

    No hits means that there are none only when `complete`: what could not be read is unknown.
    """

    hits: tuple[SecretHit, ...] = ()
    unread: tuple[str, ...] = ()
    """Paths that could not be looked into."""
    reason: str = ""
    """Why the change, or part of it, could not be looked through."""

    @property
    def complete(self) -> bool:
        """Whether everything that the change adds was looked through."""
        return not self.unread and not self.reason
