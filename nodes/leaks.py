"""Leaks: looks through what a change adds for secrets, before anybody is asked about it.

Not a node: the conductor asks. What is found travels with the change as a fact, so that it is part
of what an approval covers; the text of the diff is looked at and forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.plan import Change
from domain.secret import FilePatch, SecretScan
from policy.redaction.engine import Redactor
from policy.redaction.scan import scan_patches
from tools.ports import ForgeReader

MOST_FETCHED = 50
"""Files without a diff that are fetched whole; the rest stays unread, and says so."""


@dataclass(frozen=True)
class Leaks:
    """Scans the diffs that the forge shows."""

    forge: ForgeReader
    redactor: Redactor

    async def of(self, change: Change) -> SecretScan | None:
        """Secrets that a change adds; None when there is no forge to ask, or nothing to ask for."""
        if change.repo is None or not self.forge.can_look:
            return None
        if change.number is not None:
            patches = await self.forge.patches(change.repo, change.number)
        elif change.base_sha is not None and change.sha is not None:
            patches = await self.forge.patches_between(change.repo, change.base_sha, change.sha)
        else:
            return SecretScan(reason="it is not known what this change is compared with")
        if patches is None:
            return SecretScan(reason="the forge did not show all of the change")
        whole = [await self._whole(change, one, n) for n, one in enumerate(patches)]
        return scan_patches(self.redactor, whole)

    async def _whole(self, change: Change, file: FilePatch, number: int) -> FilePatch:
        """A file that has no diff (too large, or binary) as if all of it had been added."""
        if file.patch is not None or number >= MOST_FETCHED or change.repo is None:
            return file
        found = await self.forge.file_text(change.repo, file.path, change.sha)
        if found is None or found.text is None:
            return file
        lines = "\n".join(f"+{line}" for line in found.text.split("\n"))
        return file.model_copy(update={"patch": f"@@ -0,0 +1 @@\n{lines}"})
