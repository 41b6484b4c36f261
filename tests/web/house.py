"""The application as the server puts it together, on a store that is empty: for its routes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from domain.clock import SystemClock
from settings import Settings
from store.books import Books
from store.database import Database
from store.queue import Hints
from store.roles import Standing
from surface import Access, make_app
from tests.web.desk_twin import BOOK
from tools.catalogue import load_catalogue
from tools.forge_twin import ForgeTwin
from web.auth import Gatekeeper, Sessions
from web.intake import ShortWay
from web.masking import shipped
from web.metrics import Metrics
from web.policy_file import PolicyInForce
from web.sharing import PictureLinks
from web.sinks import Sinks
from web.tokens import Principal, TokenBook, TokenEntry, hash_token

ROOT = Path(__file__).parents[2]


class EmptyDatabase:
    """Answers every question with nothing."""

    async def value(self, *_: Any) -> None:
        return None

    async def row(self, *_: Any) -> None:
        return None

    async def insist(self, *_: Any) -> None:
        return None

    async def model(self, *_: Any) -> None:
        return None

    async def rows(self, *_: Any, **__: Any) -> list[Any]:
        return []

    async def models(self, *_: Any, **__: Any) -> list[Any]:
        return []

    async def count(self, *_: Any) -> int:
        return 0


class NoHints:
    """A queue that takes hints and does nothing."""

    async def enqueue(self, *_: Any) -> bool:
        return True

    def note(self, *_: Any) -> None:
        return None

    async def healthy(self) -> bool:
        return True


def whole_app(
    tokens: Mapping[str, tuple[str, ...]], expired: Mapping[str, datetime], **settings: Any
) -> ShortWay:
    """All routes, for the people of `desk_twin` and those with these tokens."""
    book = BOOK
    for token, roles in tokens.items():
        book = book.with_token(token, token, roles)
    over = [TokenEntry(hash_token(t), Principal(t, ("admin",)), at) for t, at in expired.items()]
    book = TokenBook((*book.entries, *over))
    policy = PolicyInForce.open(ROOT / "policy.yaml", lambda rules: None)
    catalogue = load_catalogue((ROOT / "services.yaml").read_text(), "services.yaml")
    clock = SystemClock()
    app = make_app(
        sinks=Sinks(shipped()),
        settings=Settings(_env_file=None, github_webhook_secret="a-secret", **settings),
        books=Books.of(cast(Database, EmptyDatabase())),
        hints=cast(Hints, NoHints()),
        catalogue=catalogue,
        policy=policy,
        standing=Standing("open", "no database at all"),
        backends=(),
        clock=clock,
        access=Access(Gatekeeper(book, Sessions(b"k" * 32), clock), PictureLinks(b"p" * 32)),
        metrics=Metrics(),
        forge=ForgeTwin(),
    )
    assert isinstance(app, ShortWay)
    return app
