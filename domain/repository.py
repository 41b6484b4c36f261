"""Files of a repository at a commit."""

from __future__ import annotations

from domain.event import Frozen


class RepoFile(Frozen):
    """A file as it was looked for. `text` None: it is known that there is none."""

    text: str | None
