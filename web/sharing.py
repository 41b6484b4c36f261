"""Addresses of drawings for people who are not signed in: Slack's and GitHub's image proxies.

The address is a capability: whoever has it sees the rates of one run, and nothing else. It carries
a keyed digest of the run's id, so that nobody finds other runs' by trying.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

_DIGITS = 32


@dataclass(frozen=True)
class PictureLinks:
    """Makes and checks them. `key` has to be the same in every process (`web.auth.session_key`)."""

    key: bytes = field(repr=False)

    def path(self, run_id: str, kind: str = "png") -> str:
        """The path of a run's drawing, `png` or `svg`."""
        return f"/shared/{run_id}/{self._seal(run_id)}/rates.{kind}"

    def opens(self, run_id: str, seal: str) -> bool:
        """Whether the seal is this run's; compared in constant time."""
        return hmac.compare_digest(seal.encode(), self._seal(run_id).encode())

    def _seal(self, run_id: str) -> str:
        claim = f"picture.{run_id}".encode()
        return hmac.new(self.key, claim, hashlib.sha256).hexdigest()[:_DIGITS]
