"""Answers kept with their ETag, so that asking again for what has not changed costs no rate limit.

githubkit brings a cache of its own (hishel), which is not used: on the way through it a request
loses its timeouts, so that a server that never answers would be waited for without end.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import httpx

MAX_BYTES = 16_000_000
"""All answers together; the ones not asked for the longest time go first."""


@dataclass(frozen=True)
class _Kept:
    etag: str
    content: bytes


class ETagCache:
    """Bounded, in memory, for one set of credentials."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def condition(self, key: str) -> dict[str, str]:
        """The header that asks for the answer only if it has changed; empty when it is not kept."""
        kept = self._kept.get(key)
        return {"If-None-Match": kept.etag} if kept else {}

    def content(self, key: str, response: httpx.Response) -> bytes:
        """The content of an answer, taken from here when it has not changed (304)."""
        if response.status_code == 304 and key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key].content
        etag = response.headers.get("etag")
        self._drop(key)
        if etag and response.status_code == 200 and len(response.content) <= self._max_bytes:
            self._kept[key] = _Kept(etag, response.content)
            self._bytes += len(response.content)
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._kept)))
        return response.content

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._bytes = 0

    def _drop(self, key: str) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._bytes -= len(gone.content)
