"""The checkpointer for LangGraph's own server, opened from the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from store.checkpoints import AllowedTypes, FencedSaver
from store.database import Database


@asynccontextmanager
async def create(
    url: str | None = None, data: Path | None = None, allowed: AllowedTypes = ()
) -> AsyncIterator[FencedSaver]:
    """The checkpointer for LangGraph's own server (`langgraph.json` names this function).

    It calls it without arguments, so this is the one place below the composition root that looks
    at the settings: `DATABASE_URL`, or else the embedded server under `FERMATA_DATA`.
    """
    from store import embedded, migrate

    async with AsyncExitStack() as stack:
        if url is None:
            from settings import Settings

            settings = Settings()
            if settings.database_url is not None:
                url = settings.database_url.get_secret_value()
            else:
                server = embedded.start(data or settings.fermata_data)
                stack.callback(server.stop)
                url = server.url
        db = await Database.open(url, min_size=1, max_size=10)
        stack.push_async_callback(db.close)
        await migrate.apply(db)
        yield FencedSaver(db.pool, allowed=allowed, keep_writes=True)
