"""PromQL text to frozen nodes. Raises `PromQLError` with Prometheus's kind of message."""

from __future__ import annotations

import re
from dataclasses import dataclass

AGGREGATES = frozenset({"sum", "avg", "max", "min", "count"})
PRECEDENCE = {
    "or": 1, "and": 2, "unless": 2,
    "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3,
    "+": 4, "-": 4, "*": 5, "/": 5, "%": 5, "^": 6,
}  # fmt: skip
_TYPE_NAMES = {"vector": "instant vector", "matrix": "range vector"}
COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
SET_OPERATORS = frozenset({"and", "or", "unless"})

_TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*\s*)*(?:
      (?P<duration>(?:\d+(?:ms|[smhdwy]))+)(?![\w.])
    | (?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w])
    | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
    | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
    | (?P<op>=~|!~|==|!=|<=|>=|[-+*/%^<>=(){}\[\],@:])
    )""",
    re.VERBOSE,
)
_DURATION_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}


class PromQLError(Exception):
    """The expression cannot be parsed or evaluated: Prometheus's `bad_data` or `execution`."""

    def __init__(self, message: str, kind: str = "bad_data") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label condition; `op` is one of = != =~ !~."""

    label: str
    op: str
    value: str

    def test(self, text: str) -> bool:
        """Whether a label's value (empty when absent) passes. Regexes match in full."""
        match self.op:
            case "=":
                return text == self.value
            case "!=":
                return text != self.value
            case "=~":
                return re.fullmatch(self.value, text) is not None
        return re.fullmatch(self.value, text) is None


@dataclass(frozen=True, slots=True)
class Number:
    """A literal."""

    value: float


@dataclass(frozen=True, slots=True)
class Text:
    """A string literal."""

    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    """`name{...}[range] offset o`; times in seconds. `range` None means an instant vector."""

    matchers: tuple[Matcher, ...]
    range: float | None = None
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """A function call."""

    function: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`op by (labels) (expr)`; without grouping: `by ()`."""

    op: str
    expr: Expr
    labels: tuple[str, ...]
    without: bool


@dataclass(frozen=True, slots=True)
class Matching:
    """How two vectors meet: `on`/`ignoring` labels, and `group_left`/`group_right` includes."""

    on: bool = False
    labels: tuple[str, ...] = ()
    group: str = ""
    include: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Binary:
    """`lhs op [bool] [matching] rhs`."""

    op: str
    lhs: Expr
    rhs: Expr
    bool: bool
    matching: Matching


@dataclass(frozen=True, slots=True)
class Negate:
    """Unary minus."""

    expr: Expr


Expr = Number | Text | Selector | Call | Aggregate | Binary | Negate


def parse(text: str) -> Expr:
    """Parse one expression. Raises PromQLError for what is wrong or not supported here."""
    parser = _Parser(_tokens(text), text)
    if parser.kind == "end":
        raise PromQLError("unknown position: parse error: no expression found in input")
    expr = parser.expression(0)
    if parser.kind != "end":
        raise parser.unexpected("")
    return expr


def seconds(text: str) -> float:
    """A PromQL duration such as `1h30m`, in seconds. Raises PromQLError."""
    if not re.fullmatch(r"(\d+(ms|[smhdwy]))+", text):
        raise PromQLError(f"not a valid duration string: {text!r}")
    return sum(int(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(text))


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> list[_Token]:
    out, at = [], 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            if re.fullmatch(r"\s*(#[^\n]*\s*)*", text[at:]):
                break
            rest = text[at:].strip()
            raise PromQLError(f"1:{at + 1}: parse error: unexpected character: {rest[:1]!r}")
        out.append(_Token(found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
        at = found.end()
    out.append(_Token("end", "", len(text)))
    return out


class _Parser:
    def __init__(self, tokens: list[_Token], text: str) -> None:
        self._tokens = tokens
        self._at = 0
        self._text = text

    @property
    def _token(self) -> _Token:
        return self._tokens[self._at]

    @property
    def kind(self) -> str:
        return self._token.kind

    def unexpected(self, context: str) -> PromQLError:
        token = self._token
        shown = "end of input" if token.kind == "end" else f'<{token.kind}:"{token.text}">'
        where = f" in {context}" if context else ""
        return PromQLError(f"1:{token.at + 1}: parse error: unexpected {shown}{where}")

    def _is(self, text: str) -> bool:
        return self._token.kind in ("op", "name") and self._token.text == text

    def _take(self, text: str) -> bool:
        if self._is(text):
            self._at += 1
            return True
        return False

    def _expect(self, text: str, context: str) -> None:
        if not self._take(text):
            raise self.unexpected(f'{context}, expected "{text}"')

    def _next(self, kind: str, context: str) -> str:
        if self.kind != kind:
            raise self.unexpected(context)
        token = self._token
        self._at += 1
        return token.text

    def expression(self, floor: int) -> Expr:
        left = self._unary()
        while True:
            op = self._token.text.lower() if self.kind in ("op", "name") else ""
            level = PRECEDENCE.get(op)
            if level is None or level < floor:
                return left
            at = self._token.at
            self._at += 1
            returns_bool, matching = self._modifiers(op)
            # Only the power operator groups to the right.
            right = self.expression(level if op == "^" else level + 1)
            left = _checked(Binary(op, left, right, returns_bool, matching), at)

    def _modifiers(self, op: str) -> tuple[bool, Matching]:
        returns_bool = self._take("bool")
        if returns_bool and op not in COMPARISONS:
            raise self.unexpected("bool modifier can only be used on comparison operators")
        for word in ("on", "ignoring"):
            if self._take(word):
                labels = self._labels()
                for side in ("group_left", "group_right"):
                    if self._take(side):
                        include = self._labels() if self._is("(") else ()
                        return returns_bool, Matching(word == "on", labels, side, include)
                return returns_bool, Matching(word == "on", labels)
        return returns_bool, Matching()

    def _labels(self) -> tuple[str, ...]:
        self._expect("(", "grouping opts")
        labels: list[str] = []
        while not self._take(")"):
            labels.append(self._next("name", "grouping opts, expected label"))
            if not self._is(")"):
                self._expect(",", "grouping opts")
        return tuple(labels)

    def _unary(self) -> Expr:
        if self._take("-"):
            return Negate(self.expression(PRECEDENCE["*"]))
        if self._take("+"):
            return self.expression(PRECEDENCE["*"])
        return self._suffixed(self._primary())

    def _suffixed(self, expr: Expr) -> Expr:
        if self._take("["):
            if not isinstance(expr, Selector) or expr.offset:
                raise self.unexpected("subquery or range, only selectors may carry a range here")
            span = seconds(self._next("duration", "range, expected duration"))
            if self._is(":"):
                raise self.unexpected("subquery, which this simulated Prometheus does not support")
            self._expect("]", "range")
            expr = Selector(expr.matchers, span)
        if self._take("offset"):
            sign = -1 if self._take("-") else 1
            shift = sign * seconds(self._next("duration", "offset, expected duration"))
            if not isinstance(expr, Selector):
                raise PromQLError(
                    "1:1: parse error: offset modifier must be preceded by an instant vector "
                    "selector or range vector selector or a subquery"
                )
            expr = Selector(expr.matchers, expr.range, shift)
        if self._is("@"):
            raise self.unexpected("@ modifier, which this simulated Prometheus does not support")
        return expr

    def _primary(self) -> Expr:
        token = self._token
        if token.kind == "number":
            self._at += 1
            is_hex = token.text[:2].lower() == "0x"
            return Number(float(int(token.text, 16)) if is_hex else float(token.text))
        if token.kind == "string":
            self._at += 1
            return Text(_unquote(token.text))
        if self._take("("):
            inner = self.expression(0)
            self._expect(")", "paren expression")
            return inner
        if self._is("{"):
            return Selector(self._matchers(()))
        if token.kind != "name":
            raise self.unexpected("")
        self._at += 1
        word = token.text
        if word.lower() in ("inf", "nan"):
            return Number(float(word))
        is_aggregate = word.lower() in AGGREGATES
        if is_aggregate and (self._is("(") or self._is("by") or self._is("without")):
            return self._aggregate(word.lower())
        if self._is("("):
            return self._call(word, token.at)
        name = Matcher("__name__", "=", word)
        return Selector(self._matchers((name,)) if self._is("{") else (name,))

    def _aggregate(self, op: str) -> Expr:
        grouping = self._grouping()
        self._expect("(", "aggregation")
        at = self._token.at
        expr = self.expression(0)
        self._expect(")", "aggregation")
        if (given := type_of(expr)) != "vector":
            raise PromQLError(
                f"1:{at + 1}: parse error: expected type instant vector in aggregation "
                f"expression, got {_TYPE_NAMES.get(given, given)}"
            )
        labels, without = grouping or self._grouping() or ((), False)
        return Aggregate(op, expr, labels, without)

    def _grouping(self) -> tuple[tuple[str, ...], bool] | None:
        for word in ("by", "without"):
            if self._take(word):
                return self._labels(), word == "without"
        return None

    def _call(self, name: str, at: int) -> Expr:
        if name not in SIGNATURES:
            raise PromQLError(f'1:{at + 1}: parse error: unknown function with name "{name}"')
        self._expect("(", "function call")
        args: list[Expr] = []
        while not self._take(")"):
            args.append(self.expression(0))
            if not self._is(")"):
                self._expect(",", "function call")
        _check_call(name, args, at)
        return Call(name, tuple(args))

    def _matchers(self, start: tuple[Matcher, ...]) -> tuple[Matcher, ...]:
        found = list(start)
        self._expect("{", "label matching")
        while not self._take("}"):
            label = self._next("name", "label matching, expected label")
            op = self._next("op", "label matching, expected label matching operator")
            if op not in ("=", "!=", "=~", "!~"):
                self._at -= 1
                raise self.unexpected("label matching")
            value = _unquote(self._next("string", "label matching, expected string"))
            if op in ("=~", "!~"):
                try:
                    re.compile(value)
                except re.error as broken:
                    raise PromQLError(f"1:1: parse error: invalid regexp: {broken}") from None
            found.append(Matcher(label, op, value))
            if not self._is("}"):
                self._expect(",", "label matching")
        if all(m.test("") for m in found):
            raise PromQLError(
                "1:1: parse error: vector selector must contain at least one non-empty matcher"
            )
        return tuple(found)


def _unquote(text: str) -> str:
    if text[0] == "`":
        return text[1:-1]
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], "\\" + m[1]), text[1:-1])


SIGNATURES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("rate", "increase", "irate", "delta", "avg_over_time", "sum_over_time", "min_over_time",
         "max_over_time", "count_over_time", "last_over_time", "changes", "resets"),
        ("matrix",),
    ),
    **dict.fromkeys(("abs", "ceil", "floor", "absent", "sort", "sort_desc"), ("vector",)),
    "round": ("vector", "scalar?"), "clamp_min": ("vector", "scalar"),
    "clamp_max": ("vector", "scalar"), "histogram_quantile": ("scalar", "vector"),
    "vector": ("scalar",), "scalar": ("vector",), "time": (),
    "label_replace": ("vector", "string", "string", "string", "string"),
}  # fmt: skip
"""Argument types of the functions known here; a trailing ? marks an optional one."""


def type_of(expr: Expr) -> str:
    """scalar, string, vector or matrix."""
    match expr:
        case Number():
            return "scalar"
        case Text():
            return "string"
        case Selector():
            return "vector" if expr.range is None else "matrix"
        case Call():
            return "scalar" if expr.function in ("scalar", "time") else "vector"
        case Binary():
            both = type_of(expr.lhs) == type_of(expr.rhs) == "scalar"
            return "scalar" if both else "vector"
        case Negate():
            return type_of(expr.expr)
    return "vector"


def _check_call(name: str, args: list[Expr], at: int) -> None:
    wanted = SIGNATURES[name]
    least = sum(not w.endswith("?") for w in wanted)
    if not least <= len(args) <= len(wanted):
        raise PromQLError(
            f'1:{at + 1}: parse error: expected {least} argument(s) in call to "{name}", '
            f"got {len(args)}"
        )
    for kind, arg in zip(wanted, args, strict=False):
        kind, given = kind.rstrip("?"), type_of(arg)
        if kind != given:
            raise PromQLError(
                f"1:{at + 1}: parse error: expected type {_TYPE_NAMES.get(kind, kind)} in call to "
                f'function "{name}", got {_TYPE_NAMES.get(given, given)}'
            )


def _checked(expr: Binary, at: int) -> Binary:
    types = {type_of(expr.lhs), type_of(expr.rhs)}
    if not types <= {"scalar", "vector"}:
        raise PromQLError(
            f"1:{at + 1}: parse error: binary expression must contain only scalar and instant "
            "vector types"
        )
    if expr.op in SET_OPERATORS and "scalar" in types:
        raise PromQLError(
            f'1:{at + 1}: parse error: set operator "{expr.op}" not allowed in binary scalar '
            "expression"
        )
    if expr.op in COMPARISONS and types == {"scalar"} and not expr.bool:
        raise PromQLError(
            f"1:{at + 1}: parse error: comparisons between scalars must use BOOL modifier"
        )
    return expr
