"""The last look before text from outside is shown: values that look like secrets are covered.

Nothing that is shown should hold a secret in the first place; this covers what slipped through in
a pull request's title, an alert's annotation or a tool's output.
"""

from __future__ import annotations

import re

COVER = "[redacted]"

_SHAPES = (
    # private keys, whole
    re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S
    ),
    # forge, cloud, chat and model tokens with a prefix of their own
    re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    re.compile(r"\bglpat-[A-Za-z0-9_-]{16,}"),
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"\bAIza[A-Za-z0-9_-]{30,}"),
    re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    re.compile(r"https://hooks\.slack\.com/\S+"),
    re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    # JSON web tokens
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
)
_URL_PASSWORD = re.compile(
    r"(?P<keep>\b[a-z][a-z0-9+.-]{1,15}://[^\s/:@]{0,64}:)[^\s/@]{1,256}(?=@)"
)
_HEADER = re.compile(r"(?P<keep>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.I)
_NAMED = re.compile(
    r"""(?P<keep>\b[\w.-]{0,40}(?:password|passwd|secret|token|api[_-]?key|credential)[\w.-]{0,20}
    ["']?\s{0,4}[:=]\s{0,4}["']?)(?P<value>[^\s"',;}&]{4,})""",
    re.I | re.X,
)


def mask(text: str) -> str:
    """The text with everything that looks like a secret replaced by `[redacted]`."""
    for shape in _SHAPES:
        text = shape.sub(COVER, text)
    for shape in (_URL_PASSWORD, _HEADER, _NAMED):
        text = shape.sub(rf"\g<keep>{COVER}", text)
    return text
