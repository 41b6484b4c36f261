"""Lets a sender whose body is refused finish sending, so that it hears why.

Most clients send the whole body before they look for an answer. A server that answers early and
closes the connection resets it while they send: what they see then is no 413 with a sentence but a
broken connection, and they try again.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_SECONDS = 10.0
"""How long a refused body may go on arriving."""
LINGER_BYTES = 100 * 1024 * 1024
"""How much of it is taken in; nothing of it is kept."""
TOO_SLOW = 408
"""A sender that was refused for its slowness is not waited for any longer."""


BODY = "fermata.body"
"""Key of a scope: how far its body was read past this layer, `begun` or `over`."""


class Lingering:
    """ASGI layer that reads and forgets what is left of a body before a refusal goes out.

    Not where the sender waits for a word (`Expect: 100-continue`) before it sends anything: it
    gets the refusal as that word.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through; only the start of a refusal may be held back."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        read = scope.get(BODY)
        begun, over = read is not None, read == "over"

        async def taking() -> Message:
            nonlocal begun, over
            begun = True
            message = await receive()
            over = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def take_the_rest() -> None:
            size = 0
            while not over and size < LINGER_BYTES:
                size += len((await taking()).get("body", b""))

        async def answering(message: Message) -> None:
            if (
                message["type"] == "http.response.start"
                and message["status"] >= 400
                and message["status"] != TOO_SLOW
                and (begun or not _waits(scope))
            ):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINGER_SECONDS):
                        await take_the_rest()
            await send(message)

        await self.app(scope, taking, answering)


def _waits(scope: Scope) -> bool:
    """Whether the sender holds its body back until it is asked for it."""
    return any(
        name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"]
    )
