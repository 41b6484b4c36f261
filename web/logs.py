"""Logs: one line an event on stderr; JSON where nobody watches, readable on a terminal."""

from __future__ import annotations

import logging
import sys

import structlog

from policy.redaction.engine import Redactor
from policy.redaction.structured import ValueRedactor
from web.masking import shipped

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def set_up_logging(level: str, redactor: Redactor | None = None, *, for_good: bool = False) -> None:
    """Configure structlog and the standard library alike; every line is redacted on its way out.

    Without a redactor the shipped rules look at it. `for_good`: nothing will configure it anew, so
    that loggers need not look at each line how they are to write it.
    """
    number = LEVELS.get(level.lower(), logging.INFO)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _Redacted(ValueRedactor(redactor or shipped())),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=for_good,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared)
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(number, logging.WARNING))
    # It warns at each stop that its idle readers had to be cancelled, which is how it stops.
    logging.getLogger("saq").setLevel(logging.ERROR)


class _Redacted:
    """Takes secrets out of a line: message, fields, exception text; what is no text becomes text
    first, as the renderer would make of it."""

    def __init__(self, values: ValueRedactor) -> None:
        self._values = values

    def __call__(
        self, _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        private = {key: value for key, value in event.items() if key.startswith("_")}
        shown = {key: _plain(value) for key, value in event.items() if key not in private}
        return {**self._values.redact_line(shown), **private}


def _plain(value: object) -> object:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dict():
            return {str(key): _plain(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(one) for one in value]
        case _:
            return str(value)
