"""A request as the intake reads it: ten headers of it are looked up, so each look is cheap."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import Receive, Scope


class ReadHeaders(Headers):
    """Headers by name. Of several with one name the first counts, as in any `Headers`."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope=scope)
        self._first: dict[bytes, bytes] = dict(reversed(scope["headers"]))

    def __getitem__(self, key: str) -> str:
        return self._first[key.lower().encode("latin-1")].decode("latin-1")

    def __contains__(self, key: Any) -> bool:
        return key.lower().encode("latin-1") in self._first

    def get(self, key: str, default: Any = None) -> Any:
        """The first header of that name."""
        found = self._first.get(key.lower().encode("latin-1"))
        return default if found is None else found.decode("latin-1")


class Delivered(Request):
    """A request that is one delivery."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)

    @cached_property
    def headers(self) -> Headers:
        """See `Request`."""
        return ReadHeaders(self.scope)
