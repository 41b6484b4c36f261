"""CEL expressions, compiled once and evaluated within bounds.

The engine stops an evaluation after ten thousand loop steps and refuses expressions nested deeper
than 32. What it does not bound is how much an expression makes out of its input, so that is
weighed here: every variable's value, and the object it is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from cel_expr_python import cel
from cel_expr_python.ext import ext_encoders, ext_math, ext_optional, ext_strings

from policy.manifests.cel_functions import declarations

MOST_LETTERS: Final = 20_000
"""Of one expression."""
MOST_WEIGHT: Final = 2_000_000
"""What an object and its variables may weigh together: letters, and values sixteen times."""
VALUE_WEIGHT: Final = 16
ROOTS: Final = (
    "object",
    "oldObject",
    "request",
    "params",
    "namespaceObject",
    "anyObject",
    "variables",
)
_VARIABLE: Final = re.compile(r"\bvariables\s*\.\s*([A-Za-z_][A-Za-z0-9_]*)")
_NULL: Final = re.compile(
    r"\bvariables\s*\.\s*params\s*[!=]=\s*null\b|\bnull\s*[!=]=\s*variables\s*\.\s*params\b(?!\s*[.\[])"
)
_TESTED: Final = re.compile(r"\bhas\(\s*variables\s*\.\s*([A-Za-z_][A-Za-z0-9_]*)\s*\)")


class CelFailure(Exception):
    """An expression that could not be evaluated, or that made too much of its input."""


class CelSyntax(Exception):
    """An expression that does not compile."""


@dataclass(frozen=True)
class Expression:
    """A compiled expression and the variables it names."""

    text: str
    program: Any
    names: tuple[str, ...]
    tested: frozenset[str]
    """Variables whose presence it asks for; one that failed must not count as absent."""
    asks_for_params: bool
    """It compares the parameters with `null`, as what they are where a constraint has none."""

    def evaluate(self, data: Mapping[str, Any]) -> Any:
        """The value as plain data. Raises CelFailure."""
        try:
            value = self.program.eval(data=data)
        except RuntimeError as error:
            raise CelFailure(_first_line(error)) from error
        if value.type() == cel.Type.ERROR:
            raise CelFailure(_first_line(value.value()))
        return value.plain_value()


def compile_expression(text: str) -> Expression:
    """Compile one expression. Raises CelSyntax with the engine's words."""
    if len(text) > MOST_LETTERS:
        raise CelSyntax(f"an expression of {len(text):,} letters; at most {MOST_LETTERS:,}")
    try:
        program = _environment().compile(text)
    except RuntimeError as error:
        raise CelSyntax(_first_line(error)) from error
    names = tuple(dict.fromkeys(_VARIABLE.findall(text)))
    tested = frozenset(_TESTED.findall(text))
    return Expression(text, program, names, tested, _NULL.search(text) is not None)


@dataclass
class Scope:
    """What the expressions of one template see of one object; variables are found when named."""

    roots: Mapping[str, Any]
    given: Mapping[str, Any]
    """Variables that are there from the beginning: `params`, `anyObject`."""
    variables: Mapping[str, Expression]
    without_params: bool = False
    """The constraint has none. They are `null` then to Gatekeeper, in whose engine `has(null.x)` is
    false; in this one it fails, so they are only `null` to an expression that asks for that."""

    def __post_init__(self) -> None:
        self._known: dict[str, Any] = dict(self.given)
        self._failed: dict[str, CelFailure] = {}
        self._open: set[str] = set()
        self._weight = weight_of(self.roots.get("anyObject"), MOST_WEIGHT)

    def evaluate(self, expression: Expression) -> Any:
        """The expression's value. Raises CelFailure.

        The variables that it names are evaluated first. One that fails is only missing then: the
        expression fails when it comes to need it, and not when it goes another way.
        """
        for name in expression.names:
            self._find(name)
        untold = expression.tested & self._failed.keys()
        if untold:
            raise self._failed[min(untold)]
        known = {name: self._known[name] for name in expression.names if name in self._known}
        if self.without_params and expression.asks_for_params:
            known["params"] = None
        try:
            return expression.evaluate({**self.roots, "variables": known})
        except CelFailure as failure:
            broken = [name for name in expression.names if name in self._failed]
            if broken and "not found" in str(failure).lower():
                raise CelFailure(f"variable {broken[0]}: {self._failed[broken[0]]}") from failure
            raise

    def _find(self, name: str) -> None:
        expression = self.variables.get(name)
        if expression is None or name in self._known or name in self._failed:
            return
        if name in self._open:
            self._failed[name] = CelFailure("it is defined by itself")
            return
        self._open.add(name)
        try:
            value = self.evaluate(expression)
            self._weight += weight_of(value, MOST_WEIGHT - self._weight)
            self._known[name] = value
        except CelFailure as failure:
            self._failed[name] = failure
        finally:
            self._open.discard(name)


def weight_of(value: Any, most: int) -> int:
    """What a value weighs. Raises CelFailure when it is more than `most`."""
    weight = 0
    stack = [value]
    while stack:
        one = stack.pop()
        weight += VALUE_WEIGHT
        if isinstance(one, str | bytes):
            weight += len(one)
        elif isinstance(one, dict):
            stack.extend(one)
            stack.extend(one.values())
        elif isinstance(one, list | tuple):
            stack.extend(one)
        if weight + VALUE_WEIGHT * len(stack) > most:
            raise CelFailure("it makes more out of the object than may be held at once")
    return weight


@cache
def _environment() -> Any:
    return cel.NewEnv(
        variables=dict.fromkeys(ROOTS, cel.Type.DYN),
        extensions=[
            ext_strings.ExtStrings(),
            ext_encoders.ExtEncoders(),
            ext_math.ExtMath(),
            ext_optional.ExtOptional(),
        ],
        functions=declarations(),
    )


def _first_line(error: object) -> str:
    line = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    return re.sub(r"^[A-Z_]+: (ERROR: <input>:)?", "", line)[:300]
