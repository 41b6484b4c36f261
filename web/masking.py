"""The last look before text from outside is shown, where no redactor was handed in: tests, tools.

The server's own redactor (`web/redacting.py`) also knows the secrets of its settings.
"""

from __future__ import annotations

import functools
import secrets

from policy.redaction.engine import Redactor
from web.redacting import read_rules


def mask(text: str) -> str:
    """The text with everything that looks like a secret covered, by the shipped rules."""
    return shipped().redact(text)


@functools.cache
def shipped() -> Redactor:
    """On the shipped rules, with a key of this process."""
    return Redactor(read_rules(None), key=secrets.token_bytes(32))
