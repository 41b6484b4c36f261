"""Secrets that are known by heart, and the forms in which they turn up elsewhere."""

from __future__ import annotations

import json
from base64 import b32encode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

SHORTEST = 8
COMMON = frozenset(
    b"postgres password username database localhost internal external production staging default "
    b"administrator changeme passw0rd 12345678 123456789 1234567890 testtest test-token".split()
)
"""Too common to be put out everywhere: a house whose password is `postgres` would hide the word in
every log line, and not the password."""


@dataclass(frozen=True)
class Known:
    """One secret with the name of the setting it comes from."""

    name: str
    secret: bytes

    @property
    def tellable(self) -> bool:
        """Whether it is long and rare enough to be looked for by itself."""
        return len(self.secret) >= SHORTEST and self.secret.lower() not in COMMON


def tellable(known: Iterable[Known]) -> tuple[Known, ...]:
    """Those that can be looked for, each secret once; of several lines, each long line as well."""
    kept: dict[bytes, Known] = {}
    for one in known:
        parts = [one.secret.strip(), *(line.strip() for line in one.secret.splitlines())]
        for part in parts:
            if part.startswith(b"-----") and part.endswith(b"-----") and b"\n" not in part:
                continue
            single = Known(one.name, part)
            if single.tellable and (part == parts[0] or len(part) >= 24):
                kept.setdefault(part, single)
    return tuple(kept.values())


def forms(secret: bytes) -> Iterator[bytes]:
    """The secret as it is, and encoded: each way that base64's groups may lie over it, and more."""
    yield secret
    for shift in range(3):
        # The characters at both ends hold bits of what stands around the secret.
        start = -(-shift * 4 // 3)
        padded = b64encode(b"\0" * shift + secret)
        end = (shift + len(secret)) * 8 // 6
        inner = padded[start:end]
        yield inner
        yield inner.replace(b"+", b"-").replace(b"/", b"_")
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield b32encode(secret)[: len(secret) * 8 // 5]
    text = secret.decode("utf-8", "replace")
    yield quote(text, safe="").encode()
    yield quote_plus(text).encode()
    yield json.dumps(text)[1:-1].encode()
    yield json.dumps(text, ensure_ascii=False)[1:-1].encode()
    yield json.dumps(json.dumps(text))[3:-3].encode()


def literals(known: Iterable[Known]) -> Iterator[tuple[bytes, Known]]:
    """Every form of every secret once."""
    seen: set[bytes] = set()
    for one in known:
        for form in forms(one.secret):
            if len(form) >= SHORTEST and form not in seen:
                seen.add(form)
                yield form, one
