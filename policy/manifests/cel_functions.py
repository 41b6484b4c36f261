"""Functions that Kubernetes adds to CEL, for expressions written for it: quantities, lists, regex,
sets.

A quantity is a mapping of one key, so that two that are equal compare as equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import re2
from cel_expr_python import cel

_SUFFIX: Final = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(1000),
    "M": Decimal(1000) ** 2,
    "G": Decimal(1000) ** 3,
    "T": Decimal(1000) ** 4,
    "P": Decimal(1000) ** 5,
    "E": Decimal(1000) ** 6,
    "Ki": Decimal(1024),
    "Mi": Decimal(1024) ** 2,
    "Gi": Decimal(1024) ** 3,
    "Ti": Decimal(1024) ** 4,
    "Pi": Decimal(1024) ** 5,
    "Ei": Decimal(1024) ** 6,
}
_QUANTITY: Final = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([eE][+-]?[0-9]{1,3}|[EPTGMk]|[KMGTPE]i|[num]|)"
)
_KEY: Final = "quantity"


def amount(text: str) -> Decimal:
    """What a Kubernetes quantity such as `500m` or `1Gi` amounts to. Raises ValueError."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a quantity such as 500m or 1Gi")
    number, suffix = Decimal(found[1]), found[2]
    if suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix[1] != "i":
        return number.scaleb(int(suffix[1:]))
    return number * _SUFFIX[suffix]


def declarations() -> list[Any]:
    """What an environment of the engine is given."""
    t = cel.Type
    quantity, text, many = t.MAP, t.STRING, t.LIST
    return [
        _function("quantity", _quantity, quantity, text),
        _function("isQuantity", _is_quantity, t.BOOL, text),
        _function("isGreaterThan", lambda a, b: _of(a) > _of(b), t.BOOL, quantity, quantity, of=1),
        _function("isLessThan", lambda a, b: _of(a) < _of(b), t.BOOL, quantity, quantity, of=1),
        _function("compareTo", _compare, t.INT, quantity, quantity, of=1),
        _function("add", lambda a, b: _made(_of(a) + _of(b)), quantity, quantity, quantity, of=1),
        _function("sub", lambda a, b: _made(_of(a) - _of(b)), quantity, quantity, quantity, of=1),
        _function("sign", lambda a: _sign(_of(a)), t.INT, quantity, of=1),
        _function("isInteger", lambda a: _of(a) == int(_of(a)), t.BOOL, quantity, of=1),
        _function("asInteger", lambda a: int(_of(a)), t.INT, quantity, of=1),
        _function("asApproximateFloat", lambda a: float(_of(a)), t.DOUBLE, quantity, of=1),
        _function("sum", lambda a: sum(a), t.DYN, many, of=1),
        _function("min", lambda a: min(a), t.DYN, many, of=1),
        _function("max", lambda a: max(a), t.DYN, many, of=1),
        _function("isSorted", lambda a: list(a) == sorted(a), t.BOOL, many, of=1),
        _function("find", lambda a, b: next(_matches(a, b), ""), text, text, text, of=1),
        _function("findAll", lambda a, b: list(_matches(a, b)), many, text, text, of=1),
        _function("sets.contains", lambda a, b: _within(b, a), t.BOOL, many, many),
        _function(
            "sets.equivalent", lambda a, b: _within(a, b) and _within(b, a), t.BOOL, many, many
        ),
        _function(
            "sets.intersects", lambda a, b: any(one in list(b) for one in a), t.BOOL, many, many
        ),
    ]


def _function(
    name: str, impl: Callable[..., Any], returns: Any, *parameters: Any, of: int = 0
) -> Any:
    """A function; with `of`, a method of its first parameter."""
    return cel.FunctionDecl(
        name,
        [
            cel.Overload(
                f"fermata_{name.replace('.', '_')}",
                return_type=returns,
                parameters=list(parameters),
                is_member=bool(of),
                impl=impl,
            )
        ],
    )


def _matches(text: str, pattern: str) -> Iterator[str]:
    """What an expression matches, in RE2 as everywhere in CEL: no text makes it run long."""
    return (match[0] for match in re2.compile(pattern).finditer(text))


def _within(some: Iterable[Any], all_: Iterable[Any]) -> bool:
    among = list(all_)
    return all(one in among for one in some)


def _quantity(text: str) -> dict[str, str]:
    return _made(amount(text))


def _is_quantity(text: str) -> bool:
    try:
        amount(text)
    except ValueError:
        return False
    return True


def _made(number: Decimal) -> dict[str, str]:
    return {_KEY: format(number.normalize(), "f")}


def _of(value: Any) -> Decimal:
    try:
        return Decimal(str(dict(value)[_KEY]))
    except (KeyError, InvalidOperation, TypeError, ValueError) as error:
        raise ValueError("not a quantity; write quantity(...)") from error


def _compare(a: Any, b: Any) -> int:
    return _sign(_of(a) - _of(b))


def _sign(number: Decimal) -> int:
    return (number > 0) - (number < 0)
