"""Plain YAML scalars as Kubernetes tools read them, which is YAML 1.1: `yes` and `on` are true.

Reading them as text, as newer YAML does, would let `privileged: yes` slip past.
"""

from __future__ import annotations

import re
from typing import Any, Final

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset(
    {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"},
)
_FALSE: Final = frozenset(
    {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"},
)
_INT: Final = re.compile(r"[-+]?(0|[1-9][0-9_]*|0o?[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MOST_DIGITS: Final = 20
_TAG: Final = "tag:yaml.org,2002:"


class NotAValue(ValueError):
    """A scalar that stands for nothing that JSON could carry."""


def plain_value(text: str) -> Any:
    """What an unquoted scalar stands for. Raises NotAValue for numbers beyond JSON."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INT.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise NotAValue(f"the number {text} is too large")
        return number
    if _NOT_FINITE.fullmatch(text):
        raise NotAValue(f"{text} is not a number that JSON knows")
    return text


def tagged_value(text: str, tag: str) -> Any:
    """What a scalar with an explicit tag (`!!str 1`) stands for. Raises NotAValue."""
    short = tag.removeprefix(_TAG)
    if short in ("str", "!", "binary", "timestamp"):
        return text
    value = plain_value(text)
    kinds: dict[str, tuple[type, ...]] = {
        "bool": (bool,),
        "int": (int,),
        "float": (float, int),
        "null": (type(None),),
    }
    if short not in kinds:
        raise NotAValue(f"the tag {tag.replace(_TAG, '!!')} means nothing to Kubernetes")
    if not isinstance(value, kinds[short]) or (short != "bool" and isinstance(value, bool)):
        raise NotAValue(f"{text!r} is not a {short}")
    return value


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise NotAValue(f"{text[:30]} has more than {_MOST_DIGITS} digits; put it in quotes")
    digits = text.replace("_", "")
    sign, body = (-1, digits[1:]) if digits[:1] == "-" else (1, digits.lstrip("+"))
    if len(body) > 1 and body[0] == "0" and body[1] in "01234567":
        return sign * int(body, 8)
    return sign * int(body, 0)
