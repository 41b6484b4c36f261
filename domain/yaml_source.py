"""Hand-written YAML with every value's place kept, so that each mistake is named where it stands.

The dialect is small on purpose. Scalars follow YAML 1.2's core schema: `no`, `on`, `12:30` and
`2026-01-31` are text, only `true` and `false` are booleans, and `.nan` and `.inf` are refused.
Refused as well, each with a hint: tabs, duplicate and non-text keys, merge keys, explicit tags
other than the plain ones, several documents, files above `MOST_BYTES`, nesting deeper than
`MOST_DEPTH`, and more than `MOST_ALIASES` aliases or `MOST_NODES` nodes once aliases are spelt out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from domain.errors import SourceError, SourceProblem
from domain.source_hints import Explained, explain_error, without_echoes

MOST_BYTES = 1_000_000
MOST_DEPTH = 40
MOST_ALIASES = 32
MOST_NODES = 200_000

Path = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, both counted from 1."""

T = TypeVar("T", bound=BaseModel)

_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "map", "seq")}
_BARRED = re.compile(
    r"[^\t\n\r\x20-\x7e\xa0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
"""Control characters, foreign line breaks, lone surrogates, and the marks that turn the direction
of text: a reviewer would not see what the file says."""
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True)
class Located:
    """Plain data (dict, list, text, number, bool, None) read from `file`, with places."""

    file: str
    data: Any
    places: Mapping[Path, Place]
    keys: Mapping[Path, Place]

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Line and column of the value at a path; with `key`, of its key.

        A path that is not in the file gives the place of the nearest thing around it.
        """
        for end in range(len(path), -1, -1):
            here = path[:end]
            if key and here in self.keys:
                return self.keys[here]
            if here in self.places:
                return self.places[here]
        return (1, 1)

    def problem(
        self, path: Path, message: str, hint: str = "", *, key: bool = False
    ) -> SourceProblem:
        """A finding at the place of a path."""
        line, column = self.place(path, key=key)
        return SourceProblem(self.file, line, column, message, hint)


def decoded(data: str | bytes, file: str) -> str:
    """The text in a file's bytes; SourceError at the byte that is not UTF-8."""
    if isinstance(data, str):
        return data
    if len(data) > MOST_BYTES:
        return data[: MOST_BYTES + 4].decode("utf-8", "replace")  # `load` says how much is too much
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        refuse(
            file,
            _place_at(before, len(before)),
            f"the byte 0x{data[error.start]:02x} is not UTF-8",
            "save the file as UTF-8",
        )


def load(text: str, file: str) -> Located:
    """Read one YAML document. `file` is only named in messages.

    Raises SourceError when the text is not good YAML or uses what the module's docstring bars.
    """
    text = text.removeprefix("\ufeff")
    _check_text(text, file)
    parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    builder = _Builder(file, _events(text, file, parser))
    return builder.document()


def validate(model: type[T], located: Located) -> T:
    """The model made of the data.

    Raises SourceError with one problem per finding, in the order of the file, each at its own line
    and column and with a hint (the closest valid key, what is expected, an example).
    """
    try:
        # strict as for JSON: `true` and "2" are no numbers here, nor is the text `inf`
        return model.model_validate_json(json.dumps(located.data), strict=True)
    except ValidationError as error:
        found = [explain_error(model, located.data, one) for one in error.errors(include_url=False)]
    problems = {
        str(one): one for one in (_problem(located, what) for what in without_echoes(found))
    }
    raise SourceError(tuple(sorted(problems.values(), key=lambda one: (one.line, one.column))))


def _problem(located: Located, found: Explained) -> SourceProblem:
    return located.problem(found.path, found.message, found.hint, key=found.at_key)


def refuse(file: str, place: Place, message: str, hint: str) -> NoReturn:
    """Raise the SourceError of one place."""
    raise SourceError((SourceProblem(file, place[0], place[1], message, hint),))


def _check_text(text: str, file: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MOST_BYTES:
        refuse(
            file,
            (1, 1),
            f"the file has {size:,} bytes; at most {MOST_BYTES:,} are read",
            "split it, or take out what is not configuration",
        )
    barred = _BARRED.search(text)
    if barred is not None:
        refuse(
            file,
            _place_at(text, barred.start()),
            f"the character U+{ord(barred[0]):04X} is not allowed",
            "remove it; most editors can show invisible characters",
        )
    tab = text.find("\t")
    if tab >= 0:
        refuse(
            file,
            _place_at(text, tab),
            "a tab stands here",
            'use spaces; inside double quotes write "\\t"',
        )


def _place_at(text: str, index: int) -> Place:
    before = text[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1


def _events(text: str, file: str, parser: Any) -> Iterator[yaml.Event]:
    """The parser's events; what it refuses becomes a SourceError at its mark."""
    try:
        yield from yaml.parse(text, Loader=parser)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        words = [error.context, error.problem]
        message = "not good YAML: " + ", ".join(word for word in words if word)
        refuse(file, place, message, _syntax_hint(error.problem or ""))


def _syntax_hint(problem: str) -> str:
    if "mapping values are not allowed" in problem:
        return "put text that contains a colon in quotes, and check the indentation"
    if "alias" in problem:
        return "name an anchor that stands earlier in the file, or write the value out"
    if "cannot start any token" in problem:
        return "put text that begins with a special character (@ ` % and so on) in quotes"
    if "end of stream" in problem or "end" in problem:
        return "a quote or bracket is opened and never closed, or the indentation is off"
    return "check indentation, quotes and brackets around this place"


@dataclass
class _Builder:
    """Turns parser events into plain data and places, within the bounds of the dialect."""

    file: str
    events: Iterator[yaml.Event]
    places: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)
    """Value and number of nodes of each anchor that is complete."""
    aliases: int = 0
    nodes: int = 0

    def document(self) -> Located:
        data: Any = None
        documents = 0
        for event in self.events:
            match event:
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        self._refuse(event, "a second document begins", "keep one document a file")
                case yaml.NodeEvent():
                    data = self._value(event, ())
                case _:
                    continue
        if data is None:
            refuse(self.file, (1, 1), "the file is empty", "see the shipped file for an example")
        return Located(self.file, data, self.places, self.keys)

    def _value(self, event: yaml.Event, path: Path) -> Any:
        if len(path) > MOST_DEPTH:
            self._refuse(event, f"nested deeper than {MOST_DEPTH} levels", "flatten it")
        self.places.setdefault(path, place_of(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._count(event, 1)
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        before = self.nodes
        value = self._built(event, path)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, self.nodes - before + 1)
        return value

    def _built(self, event: yaml.Event, path: Path) -> Any:
        self._check_tag(event)
        match event:
            case yaml.ScalarEvent():
                return self._scalar(event)
            case yaml.SequenceStartEvent():
                return self._sequence(path)
            case _:
                return self._mapping(path)

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event)
            here = (*path, key)
            if key in entries:
                first = self.keys[here][0]
                self._refuse(
                    event,
                    f"the key {key!r} stands here a second time",
                    f"it is set in line {first} already; keep one of them",
                )
            self.keys[here] = place_of(event)
            value = next(self.events)
            if stands_below(value):
                self.places[here] = place_of(event)
            entries[key] = self._value(value, here)
        return entries

    def _key(self, event: yaml.Event) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self._refuse(event, "a key has to be text", "write `name: value`")
        key = self._built(event, ())
        if key == "<<" and not event.style:
            self._refuse(event, "merge keys are not supported", "write the values out")
        if not isinstance(key, str):
            self._refuse(event, f"the key {event.value!r} is not text", f'write "{event.value}":')
        return key

    def _alias(self, event: yaml.AliasEvent) -> Any:
        self.aliases += 1
        if self.aliases > MOST_ALIASES:
            self._refuse(event, f"more than {MOST_ALIASES} aliases", "write the values out")
        if event.anchor not in self.anchors:
            self._refuse(
                event,
                f"the alias *{event.anchor} names no anchor that is complete here",
                f"put &{event.anchor} on an earlier value, or write the value out",
            )
        value, size = self.anchors[event.anchor]
        self._count(event, size)
        return value

    def _count(self, event: yaml.Event, more: int) -> None:
        self.nodes += more
        if self.nodes > MOST_NODES:
            self._refuse(
                event,
                f"more than {MOST_NODES:,} values once aliases are spelt out",
                "write fewer values; aliases of aliases multiply",
            )

    def _check_tag(self, event: yaml.Event) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!" and tag not in _PLAIN_TAGS:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            self._refuse(event, f"the tag {shown} is not allowed", "remove the tag")

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        text: str = event.value
        if event.style or event.tag is not None:
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if _INT.fullmatch(text):
            if len(text) > 20:
                self._refuse(event, "a number with more than 20 digits", "put it in quotes")
            return int(text, 0 if text[1:2] in ("x", "o") else 10)
        if _FLOAT.fullmatch(text):
            return self._float(event, text)
        if _NOT_FINITE.fullmatch(text):
            self._refuse(event, f"{text} is not a number to reckon with", "write a finite number")
        return text

    def _float(self, event: yaml.Event, text: str) -> float:
        number = float(text)
        if number in (float("inf"), float("-inf")):
            self._refuse(event, f"the number {text} is too large", "write a finite number")
        return number

    def _refuse(self, event: yaml.Event, message: str, hint: str) -> NoReturn:
        refuse(self.file, place_of(event), message, hint)


def place_of(event: yaml.Event) -> Place:
    """Where an event begins."""
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def stands_below(event: yaml.Event) -> bool:
    """Whether a value has no place of its own beside its key: a block, or nothing at all."""
    if isinstance(event, yaml.CollectionStartEvent):
        return not event.flow_style
    return isinstance(event, yaml.ScalarEvent) and not event.style and event.value == ""
