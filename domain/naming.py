"""What a word in a command may name: a run, or the digest of what is asked.

A word that looks like a name is never taken for a reason: a vote for another digest than the one
that is asked about must not count because somebody wrote `sha256:` in front of it.
"""

from __future__ import annotations

import re

_AROUND = "`<>()[]{}\"'*_,.;:!…#@-"
"""What people and their editors put around a name."""
_KIND = re.compile(r"(?:sha-?(?:1|256|512)|digest|plan|run)[:=](.+)", re.IGNORECASE)
_HEX = frozenset("0123456789abcdef-")
_ODD = re.compile(r"[^0-9a-z-]")
SHORTEST = 6


def named(word: str) -> str | None:
    """The name in a word, in lower case and without what stands around it; None when it is none.

    What says that it is a digest or a run (`sha256:…`) is a name whatever follows; it may be one
    of nothing.
    """
    bare = word.strip(_AROUND)
    told = _KIND.fullmatch(bare)
    name = (told[1] if told else bare).strip(_AROUND).lower()
    if told:
        return _ODD.sub("?", name) or "?"
    return name if len(name) >= SHORTEST and set(name) <= _HEX else None
