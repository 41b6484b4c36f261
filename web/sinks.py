"""The last thing before text leaves: what writers send and say, what readers fail with, errors.

The composition root puts these around the parts that do the work (law 1: nobody but `execute` is
handed what comes out of `written`).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.action import COMMS_KINDS, Action
from domain.effect import Applied, Stamp
from domain.errors import AdapterError, OutcomeUnknown, Permanent, Temporary
from policy.redaction.engine import Redactor
from policy.redaction.structured import ValueRedactor
from tools.ports import Guard, WritePort
from tools.toolbox import Readers

Reader = TypeVar("Reader")
MOST_BODY = 1 << 20
"""Bytes of an error answer that are held back to be looked at; none of ours comes near it."""


@dataclass(frozen=True)
class Sinks:
    """Wraps what leads out of the house."""

    redactor: Redactor

    @property
    def values(self) -> ValueRedactor:
        """For structured values."""
        return ValueRedactor(self.redactor)

    def written(self, writers: Mapping[str, WritePort]) -> dict[str, WritePort]:
        """Writers whose comments and notifications, reports and errors hold no secret."""
        return {kind: _CleanWriter(writer, self) for kind, writer in writers.items()}

    def read(self, readers: Readers) -> Readers:
        """Readers whose errors hold no secret: they end in reasons, notes and traces."""
        parts = {name: self._reader(one) for name, one in vars(readers).items()}
        return Readers(**cast(Any, parts))

    def for_model(self, value: Any) -> Any:
        """What may be sent to a model: text, messages or tool results."""
        return self.values.redact_value(value)

    def error(self, error: AdapterError) -> AdapterError:
        """The same error with a clean sentence."""
        said = self.redactor.redact(str(error))
        match error:
            case Temporary():
                return Temporary(said, error.retry_after, most_tries=error.most_tries)
            case Permanent():
                return Permanent(said, self.redactor.redact(error.remedy))
            case OutcomeUnknown():
                return OutcomeUnknown(said)
            case _:
                return AdapterError(said)

    def _reader(self, reader: Reader) -> Reader:
        return cast(Reader, _CleanReader(reader, self))


@dataclass(frozen=True)
class _CleanWriter:
    writer: WritePort
    sinks: Sinks

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        try:
            applied = await self.writer.apply(self._said(action), stamp, guard)
        except AdapterError as error:
            # The original holds what was sent and what came back: nothing may print it.
            raise self.sinks.error(error) from None
        return self.sinks.values.redact_model(applied)

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        try:
            applied = await self.writer.read_back(self._said(action), stamp)
        except AdapterError as error:
            raise self.sinks.error(error) from None
        return None if applied is None else self.sinks.values.redact_model(applied)

    def _said(self, action: Action) -> Action:
        """What is said is cleaned; what is done is done exactly as it was approved."""
        return self.sinks.values.redact_model(action) if action.kind in COMMS_KINDS else action


class _CleanReader:
    """Stands in for a reader; only what it raises is changed."""

    def __init__(self, reader: object, sinks: Sinks) -> None:
        self._reader, self._sinks = reader, sinks

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._reader, name)
        return self._guarded(found) if inspect.iscoroutinefunction(found) else found

    def _guarded(self, look: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def looked(*args: Any, **kwargs: Any) -> Any:
            try:
                return await look(*args, **kwargs)
            except AdapterError as error:
                raise self._sinks.error(error) from None

        return looked


class CleanErrors:
    """Redacts the body of every error answer: it may repeat what was sent, or a backend's words."""

    def __init__(self, app: ASGIApp, redactor: Redactor) -> None:
        self.app = app
        self.redactor = redactor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Good answers pass as they are; of others the body is held back until it is whole."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin: Message | None = None
        body = bytearray()

        async def clean(message: Message) -> None:
            nonlocal begin
            if message["type"] == "http.response.start" and message["status"] >= 400:
                begin = message
                return
            if begin is None or message["type"] != "http.response.body":
                await send(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body") and len(body) < MOST_BODY:
                return
            content = self.redactor.redact_bytes(bytes(body))
            headers = [one for one in begin["headers"] if one[0].lower() != b"content-length"]
            headers.append((b"content-length", str(len(content)).encode()))
            await send({**begin, "headers": headers})
            await send({"type": "http.response.body", "body": content})

        await self.app(scope, receive, clean)
