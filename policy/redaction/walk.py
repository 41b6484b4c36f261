"""Walks a JSON document token by token, in whatever pieces it comes, and tells which of its values
the document itself calls secret: Kubernetes Secrets, Terraform states, outputs and plans.

A decision falls where the object ends that holds both the values and what is said about them; until
then the text from the first of those values on is kept. What is kept is bounded by `MOST_HELD`.
"""

from __future__ import annotations

import binascii
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

MOST_HELD = 128 << 10
"""Bytes between a value and the end of its object; beyond, what is known by then decides."""

Span = tuple[int, int]
_TOKEN = re.compile(
    rb"[ \t\r\n]+|[{}\[\],:]|\"(?:[^\"\\\n]|\\[^\n])*\"|"
    rb"(?:true|false|null|-?\d[\d.eE+\-]{0,400})(?=[ \t\r\n{}\[\],])"
)
_UNFINISHED = re.compile(rb"\"(?:[^\"\\\n]|\\[^\n])*\\?\Z|[\w.+\-]{1,400}\Z")
_INSIDE = re.compile(rb"(?:[^\"\\\n]|\\[^\n])*")
MASKS = {
    "values": "sensitive_values",
    "before": "before_sensitive",
    "after": "after_sensitive",
    "attributes": "sensitive_attributes",
}
_KEPT = frozenset(("data", "stringData", "value", *MASKS))
_SECRET_ATTRIBUTE = re.compile(
    r"(?:^|_)(?:password(?:_v4)?|passwd|passphrase|secret|secret_(?:string|binary|data|key)|token|"
    r"private_key(?:_(?:pem(?:_pkcs8)?|openssh))?|access_key|client_key|connection_string|"
    r"bcrypt_hash|kube_config_raw|auth_token)$"
)
_SECRET_OF = {
    "random_password": ("result",),
    "aws_iam_access_key": ("ses_smtp_password_v4",),
    "azurerm_storage_account": ("primary_access_key", "secondary_access_key"),
    "aws_ssm_parameter": ("value", "value_wo"),
    "google_secret_manager_secret_version": ("secret_data",),
}
_MANIFEST = re.compile(rb"\\\"kind\\\":\s?\\\"Secret\\\"")
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?|"
                     rb"[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=")  # fmt: skip


def decoded(value: bytes) -> bytes | None:
    """What a value says in strict base64; None when it is none."""
    return binascii.a2b_base64(value) if _BASE64.fullmatch(value) else None


@dataclass
class _Frame:
    """An object or a list that is open."""

    path: tuple[Any, ...]
    is_list: bool
    start: int
    key: Any = None
    wants_key: bool = True
    words: dict[str, str] = field(default_factory=dict)
    """Its members `kind`, `type` and so on, as far as they were seen."""
    places: dict[str, Span] = field(default_factory=dict)
    """Where its masks stand."""


@dataclass
class _Leaf:
    start: int
    end: int
    path: tuple[Any, ...]
    quoted: bool
    owner: int
    """Depth of the outermost object that decides on it."""
    secret: bool | None
    """None: not decided yet."""


class Walk:
    """One document. Offsets are those of the text that was taken since `__init__`."""

    def __init__(self) -> None:
        self.over = False
        """The document is at its end, or was none."""
        self.at = 0
        """Up to here everything is read."""
        self._stack: list[_Frame] = []
        self._leaves: deque[_Leaf] = deque()
        self._text = b""
        self._base = 0
        self._in_long = False

    @property
    def held(self) -> int:
        """From here on it is not decided yet."""
        if not self._leaves:
            return self.at
        return self._leaves[0].start - self._leaves[0].quoted

    def take(self, text: bytes, base: int, *, last: bool) -> list[Span]:
        """Read on. `text` begins at offset `base`, at `held` or before it. The secrets found."""
        self._text, self._base = text, base
        found: list[Span] = []
        while not self.over and self.at - base < len(text):
            here = self.at - base
            if self._in_long:
                if not self._passed_long(text, here):
                    break
                continue
            token = _TOKEN.match(text, here) or _UNFINISHED.match(text, here)
            if token is None:
                self.over = True
                break
            if token[0][:1] == b'"' and token.end() - here > MOST_HELD:
                # too long to be kept as one: what was before is decided, and it is passed over
                found.extend(self._hurried())
                self.at, self._in_long = self.at + 1, True
                continue
            if token.re is _UNFINISHED:
                self.over = last
                break
            start, self.at = self.at, token.end() + base
            self._token(token[0], start)
            found.extend(self._settled())
            if self._leaves and self.at - self._leaves[0].start > MOST_HELD:
                found.extend(self._hurried())
        if self.over or last:
            found.extend(self._hurried())
        return found

    def _passed_long(self, text: bytes, here: int) -> bool:
        """Whether the end of a long text was reached."""
        rest = _INSIDE.match(text, here)
        end = rest.end() if rest else here
        self.at = self._base + end
        ending = text[end : end + 1]
        self._in_long = ending != b'"'
        if ending == b'"':
            self.at += 1
        self.over = ending == b"\n"
        return not self._in_long

    def _token(self, token: bytes, start: int) -> None:
        top = self._stack[-1] if self._stack else None
        match token[:1]:
            case b" " | b"\t" | b"\r" | b"\n":
                return
            case b"{" | b"[":
                path = () if top is None else (*top.path, top.key)
                is_list = token == b"["
                self._stack.append(_Frame(path, is_list, start, 0 if is_list else None))
                self._stack[-1].wants_key = not is_list
            case b"}" | b"]":
                if top is None:
                    self.over = True
                    return
                self._closed(self._stack.pop())
                self.over = not self._stack
                if self._stack:
                    parent = self._stack[-1]
                    if isinstance(parent.key, str) and parent.key in MASKS.values():
                        parent.places[parent.key] = (top.start, self.at)
            case b",":
                if top is not None and top.is_list:
                    top.key += 1
                elif top is not None:
                    top.wants_key = True
            case b":":
                pass
            case _ if top is None:
                self.over = True
            case b'"' if top.wants_key and not top.is_list:
                top.key, top.wants_key = _text(token), False
            case _:
                self._scalar(top, token, start)

    def _scalar(self, top: _Frame, token: bytes, start: int) -> None:
        if isinstance(top.key, str) and len(token) < 200:
            top.words[top.key] = _text(token) if token[:1] == b'"' else token.decode("latin-1")
        if token in (b"true", b"false", b"null", b'""'):
            return
        inner = (start + 1, self.at - 1) if token[:1] == b'"' else (start, self.at)
        owner = next((n for n, frame in enumerate(self._stack) if self._keeps(frame)), None)
        whole = inner[0] > start and _MANIFEST.search(token) is not None
        if whole or owner is not None:
            path = (*top.path, top.key)
            leaf = _Leaf(*inner, path, inner[0] > start, owner or 0, True if whole else None)
            self._leaves.append(leaf)

    @staticmethod
    def _keeps(frame: _Frame) -> bool:
        if frame.is_list or frame.key not in _KEPT:
            return False
        if frame.key in ("data", "stringData"):
            return frame.words.get("kind", "Secret") == "Secret"
        return frame.key != "values" or "type" in frame.words

    def _settled(self) -> Iterator[Span]:
        """The secrets among the first values, up to the first that is not decided."""
        while self._leaves and self._leaves[0].secret is not None:
            leaf = self._leaves.popleft()
            if leaf.secret:
                yield leaf.start, leaf.end

    def _closed(self, frame: _Frame) -> None:
        self._decide(frame)
        depth = len(self._stack)
        for leaf in reversed(self._leaves):
            if leaf.start < frame.start:
                break
            if leaf.secret is None and leaf.owner >= depth:
                leaf.secret = False

    def _decide(self, frame: _Frame, *, hurried: bool = False) -> None:
        if frame.is_list:
            return
        depth = len(frame.path)
        for leaf in reversed(self._leaves):
            if leaf.start < frame.start:
                break
            if leaf.path[:depth] != frame.path:
                continue
            member, below = leaf.path[depth], leaf.path[depth + 1 :]
            if member in ("data", "stringData"):
                told = frame.words.get("kind") == "Secret"
                told = told or (hurried and "kind" not in frame.words and self._encoded(frame))
            elif member == "value":
                told = frame.words.get("sensitive") == "true" or self._variable(frame)
            else:
                told = member in MASKS and (
                    self._masked(frame, MASKS[member], below)
                    or self._well_known(frame, leaf, below)
                )
            if told:
                leaf.secret = True

    def _variable(self, frame: _Frame) -> bool:
        """Whether it is a variable of a plan, where only the name says that it is secret."""
        return (
            frame.path[-2:-1] == ("variables",)
            and _SECRET_ATTRIBUTE.search(str(frame.path[-1])) is not None
            and any("terraform_version" in one.words for one in self._stack)
        )

    def _encoded(self, frame: _Frame) -> bool:
        depth = len(frame.path)
        return all(
            decoded(self._text[one.start - self._base : one.end - self._base]) is not None
            for one in self._leaves
            if one.start > frame.start and one.path[: depth + 1] == (*frame.path, "data")
        )

    def _hurried(self) -> Iterator[Span]:
        """Decide now, by what is known."""
        for frame in self._stack:
            self._decide(frame, hurried=True)
        for leaf in self._leaves:
            leaf.secret = leaf.secret or False
        yield from self._settled()

    def _masked(self, frame: _Frame, name: str, below: tuple[Any, ...]) -> bool:
        place = frame.places.get(name)
        if place is None or place[0] < self._base:
            return frame.words.get(name) == "true"
        try:
            mask = orjson.loads(self._text[place[0] - self._base : place[1] - self._base])
        except orjson.JSONDecodeError:
            return True
        if name == "sensitive_attributes":
            paths = [steps(one) for one in mask] if isinstance(mask, list) else []
            return any(below[: len(one)] == one for one in paths if one)
        for step in below:
            if isinstance(mask, dict):
                mask = mask.get(step)
            elif isinstance(mask, list):
                mask = mask[step] if isinstance(step, int) and step < len(mask) else None
        return mask is True

    def _well_known(self, frame: _Frame, leaf: _Leaf, below: tuple[Any, ...]) -> bool:
        around = (*self._stack, frame)
        if not leaf.quoted or all("terraform_version" not in one.words for one in around):
            return False
        kinds = (one.words.get("type", "") for one in around)
        names = {name for kind in kinds for name in _SECRET_OF.get(kind, ())}
        last = next((one for one in reversed(below) if isinstance(one, str)), "")
        return last in names or _SECRET_ATTRIBUTE.search(last) is not None


def steps(path: Any) -> tuple[Any, ...]:
    """A path of `sensitive_attributes`: `[{"type": "get_attr", "value": "password"}, ...]`."""
    if isinstance(path, str):
        return (path,)
    steps = [one.get("value") for one in path if isinstance(one, dict)]
    return tuple(one.get("value") if isinstance(one, dict) else one for one in steps)


def _text(token: bytes) -> str:
    try:
        return str(orjson.loads(token))
    except orjson.JSONDecodeError:
        return token[1:-1].decode("latin-1")
