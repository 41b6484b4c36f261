"""Manifests as text become documents with every value's place kept.

Takes what Kubernetes tools take: YAML streams with comments, empty documents, anchors and merge
keys, Windows line ends, JSON. What they would read in two ways, or not at all, is an error with its
line: duplicate keys, foreign tags, templates that were not rendered, aliases that multiply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import yaml

from domain.errors import SourceError, SourceProblem
from domain.yaml_source import Path, Place, place_of, refuse, stands_below
from policy.manifests.scalars import NotAValue, plain_value, tagged_value

MOST_BYTES: Final = 20_000_000
MOST_DEPTH: Final = 100
MOST_NODES: Final = 1_000_000
"""Of one file, once aliases are spelt out."""
MOST_DOCUMENTS: Final = 20_000

_TEMPLATE: Final = re.compile(r"\{\{")
_HELM: Final = re.compile(
    r"\{\{-?\s*(\(?\s*)*(\.(Values|Release|Chart|Capabilities|Files|Template)\b|\$\.Values\b"
    r"|include\s|template\s|toYaml\s|tpl\s|define\s|required\s|if\s|range\s|with\s|end\s*-?\}\})"
)


@dataclass(frozen=True)
class Document:
    """One document of a file: plain data and the places of its values."""

    file: str
    index: int
    """Which document of its file this is, from 1; empty ones count."""
    data: Any
    places: Mapping[Path, Place]

    def line(self, path: Path) -> int:
        """Line of the value at a path, or of the nearest thing around it."""
        for end in range(len(path), -1, -1):
            if (place := self.places.get(path[:end])) is not None:
                return place[0]
        return 1

    def problem(self, path: Path, message: str, hint: str = "") -> SourceProblem:
        """Something wrong at a path."""
        for end in range(len(path), -1, -1):
            if (place := self.places.get(path[:end])) is not None:
                return SourceProblem(self.file, *place, message, hint)
        return SourceProblem(self.file, 1, 1, message, hint)


def read_documents(text: str, file: str) -> tuple[Document, ...]:
    """Every document of a file that is not empty. Raises SourceError for the first thing wrong."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MOST_BYTES:
        refuse(
            file,
            (1, 1),
            f"the file has {size:,} bytes; at most {MOST_BYTES:,} are read",
            "split it into several files",
        )
    text = text.removeprefix("\ufeff")
    if text.lstrip()[:1] in ("{", "["):
        return tuple(_json_stream(text, file))
    return tuple(_Reader(file, text, _events(text, file)).documents())


def _json_stream(text: str, file: str) -> Iterator[Document]:
    """JSON documents one after another, as `kubectl get -o json` and JSON lines have them.

    What is not JSON is read as YAML, whose flow style looks the same.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_once_each)
    at, index = 0, 0
    while text[at:].strip():
        start = at + len(text[at:]) - len(text[at:].lstrip())
        try:
            data, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            if index:
                line = text.count("\n", 0, start) + 1
                refuse(file, (line, 1), "not good JSON", "check quotes, commas and brackets")
            yield from _Reader(file, text, _events(text, file)).documents()
            return
        index += 1
        before = text.count("\n", 0, start)
        yield _with_places(text[start:at], file, index, before, data)


def _with_places(text: str, file: str, index: int, before: int, data: Any) -> Document:
    """Read once more as YAML, to know the places; what only JSON can say has its first line."""
    try:
        (found,) = _Reader(file, text, _events(text, file)).documents()
    except SourceError as error:
        problem = error.problems[0]
        if "not good YAML" not in problem.message:
            place = (problem.line + before, problem.column)
            refuse(file, place, problem.message, problem.hint)
        return Document(file, index, data, {(): (before + 1, 1)})
    places = {path: (line + before, column) for path, (line, column) in found.places.items()}
    return Document(file, index, data, places)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("a key stands there twice")
    return entries


def _events(text: str, file: str) -> Iterator[yaml.Event]:
    parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        yield from yaml.parse(text, Loader=parser)
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        place = (before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        refuse(file, place, f"not good YAML: {error.reason}", "remove the character")
    except yaml.MarkedYAMLError as error:
        _unrendered_lines(text, file)
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        words = ", ".join(word for word in (error.context, error.problem) if word)
        refuse(file, place, f"not good YAML: {words}", "check indentation, quotes and brackets")


def _unrendered_lines(text: str, file: str) -> None:
    """What does not parse and looks like a template is most likely one: say that instead."""
    for number, line in enumerate(text.splitlines(), 1):
        if (found := _TEMPLATE.search(line)) is not None and not line.lstrip().startswith("#"):
            _refuse_template(file, (number, found.start() + 1))


def _refuse_template(file: str, place: Place) -> NoReturn:
    refuse(
        file,
        place,
        "this is a template that has not been rendered",
        "render it first: `helm template ... | fermata policy manifests -`",
    )


@dataclass
class _Anchored:
    value: Any
    size: int
    depth: int
    open: bool = False


@dataclass
class _Reader:
    """Turns parser events into documents, within bounds."""

    file: str
    text: str
    events: Iterator[yaml.Event]
    places: dict[Path, Place] = field(default_factory=dict)
    anchors: dict[str, _Anchored] = field(default_factory=dict)
    nodes: int = 0

    def documents(self) -> Iterator[Document]:
        index = 0
        for event in self.events:
            match event:
                case yaml.DocumentStartEvent():
                    index += 1
                    if index > MOST_DOCUMENTS:
                        self._refuse(event, f"more than {MOST_DOCUMENTS:,} documents", "split it")
                    self.places, self.anchors = {}, {}
                case yaml.NodeEvent():
                    data = self._value(event, ())[0]
                    if data is not None:
                        yield Document(self.file, index, data, self.places)
                case _:
                    continue

    def _value(self, event: yaml.Event, path: Path) -> tuple[Any, int]:
        """The value and how deep it is."""
        if len(path) > MOST_DEPTH:
            self._refuse(event, f"nested deeper than {MOST_DEPTH} levels", "flatten it")
        self.places.setdefault(path, place_of(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, len(path))
        self._count(event, 1)
        before = self.nodes
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self.anchors[anchor] = _Anchored(None, 0, 0, open=True)
        match event:
            case yaml.ScalarEvent():
                value, depth = self._scalar(event), 0
            case yaml.SequenceStartEvent():
                self._check_tag(event, "seq")
                value, depth = self._sequence(path)
            case _:
                self._check_tag(event, "map")
                value, depth = self._mapping(path)
        if anchor is not None:
            self.anchors[anchor] = _Anchored(value, self.nodes - before + 1, depth)
        return value, depth

    def _sequence(self, path: Path) -> tuple[list[Any], int]:
        items: list[Any] = []
        deepest = 0
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            item, depth = self._value(event, (*path, len(items)))
            items.append(item)
            deepest = max(deepest, depth)
        return items, deepest + 1

    def _mapping(self, path: Path) -> tuple[dict[str, Any], int]:
        entries: dict[str, Any] = {}
        merged: list[tuple[yaml.Event, Any]] = []
        lines: dict[str, int] = {}
        deepest = 0
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event)
            here = (*path, key)
            value_event = next(self.events)
            if key == "<<" and isinstance(event, yaml.ScalarEvent) and not event.style:
                value, depth = self._value(value_event, here)
                merged.append((event, value))
            else:
                if key in lines:
                    self._refuse(
                        event,
                        f"the key {key!r} stands here a second time",
                        f"it is set in line {lines[key]} already; keep one of them",
                    )
                lines[key] = place_of(event)[0]
                if stands_below(value_event):
                    self.places[here] = place_of(event)
                entries[key], depth = self._value(value_event, here)
            deepest = max(deepest, depth)
        for event, value in merged:
            self._merge(event, entries, value)
        return entries, deepest + 1

    def _merge(self, event: yaml.Event, entries: dict[str, Any], value: Any) -> None:
        """`<<`: what the mapping does not say itself is taken from there."""
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, dict):
                self._refuse(event, "only mappings can be merged", "write `<<: *anchor`")
            for key, inner in one.items():
                entries.setdefault(key, inner)

    def _key(self, event: yaml.Event) -> str:
        if isinstance(event, yaml.CollectionStartEvent):
            self._unrendered(event)
            self._refuse(event, "a key has to be text", "write `name: value`")
        if isinstance(event, yaml.AliasEvent):
            anchored = self.anchors.get(event.anchor or "")
            if anchored is None or not isinstance(anchored.value, str):
                self._refuse(event, "a key has to be text", "write `name: value`")
            return anchored.value
        assert isinstance(event, yaml.ScalarEvent)
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchored(event.value, 1, 0)
        return event.value

    def _alias(self, event: yaml.AliasEvent, above: int) -> tuple[Any, int]:
        anchored = self.anchors.get(event.anchor or "")
        if anchored is None or anchored.open:
            self._refuse(
                event,
                f"the alias *{event.anchor} names no anchor that is complete here",
                "write the value out",
            )
        if above + anchored.depth > MOST_DEPTH:
            self._refuse(event, f"nested deeper than {MOST_DEPTH} levels", "flatten it")
        self._count(event, anchored.size)
        return anchored.value, anchored.depth

    def _count(self, event: yaml.Event, more: int) -> None:
        self.nodes += more
        if self.nodes > MOST_NODES:
            self._refuse(
                event,
                f"more than {MOST_NODES:,} values once aliases are spelt out",
                "write fewer values; aliases of aliases multiply",
            )

    def _check_tag(self, event: yaml.Event, kind: str) -> None:
        tag = getattr(event, "tag", None)
        if tag not in (None, "!", f"tag:yaml.org,2002:{kind}"):
            self._refuse(event, f"the tag {tag} means nothing to Kubernetes", "remove the tag")

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        text: str = event.value
        try:
            if event.tag not in (None, "!"):
                return tagged_value(text, event.tag)
            if event.style or event.tag == "!":
                if _HELM.search(text) and event.style in ("'", '"'):
                    _refuse_template(self.file, place_of(event))
                return text
            if _HELM.search(text):
                _refuse_template(self.file, place_of(event))
            return plain_value(text)
        except NotAValue as error:
            self._refuse(event, str(error), "write a value that JSON can carry")

    def _unrendered(self, event: yaml.Event) -> None:
        """`{{ .Values.x }}` without quotes is, to YAML, a mapping as the key of a mapping."""
        mark = event.start_mark
        if mark is not None and self.text.count("{{"):
            line = self.text.splitlines()[mark.line]
            if (found := _TEMPLATE.search(line)) is not None:
                _refuse_template(self.file, (mark.line + 1, found.start() + 1))

    def _refuse(self, event: yaml.Event, message: str, hint: str) -> NoReturn:
        refuse(self.file, place_of(event), message, hint)
