"""Structured values by field: what a name says about its value is certain, where text only hints.

Mappings, lists and models are walked; every text in them goes through the engine as well.
Kubernetes Secrets, kubeconfigs, Docker configs, Terraform states and plans, header maps and lists
of name/value pairs are known by their shape.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel

from policy.redaction.engine import COVER, Redactor
from policy.redaction.walk import MASKS, steps

Model = TypeVar("Model", bound=BaseModel)

FIELD = "secret-field"
DEEPEST = 60
"""Levels of nesting; what lies deeper is covered whole."""

_SECRET_NAME = re.compile(
    r"(?i)(?:^|[_\-. ])(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|api[_\-]?key|"
    r"access[_\-]?key|private[_\-]?key|client[_\-]?secret|secret[_\-]?key|auth[_\-]?token|credentials?|bearer|"
    r"client[_\-]?key[_\-]?data|connection[_\-]?string|webhook[_\-]?(?:url|secret)|dsn|"
    r"session[_\-]?(?:key|token)|signing[_\-]?key|encryption[_\-]?key|_?auth(?:token)?)$"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOT_SECRET = re.compile(
    r"(?i)(?:max|min|prompt|completion|input|output|total|next|page|continue)[_\-]?tokens?$"
)
_HEADERS = frozenset(
    ("authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-auth-token",
     "x-amz-security-token", "private-token", "x-hub-signature", "x-hub-signature-256",
     "x-gitlab-token", "x-vault-token", "ocp-apim-subscription-key", "x-functions-key",
     "dd-application-key", "x-honeycomb-team")
)  # fmt: skip
_REFERENCE = re.compile(r"^(?:\$\{?\w+\}?|\$\{\{.*\}\}|\{\{.*\}\}|\$\(.*\)|<[^<>]*>|\*+|)$")


@dataclass(frozen=True)
class ValueRedactor:
    """Redacts values by field, and their texts by the rules."""

    redactor: Redactor

    def redact_value(self, value: Any) -> Any:
        """A copy with everything secret covered; the very same object when there was nothing."""
        return self._value(value, 0)

    def redact_line(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The same for a line of a log, of which few hold anything: names and one look at the whole
        line find out, as long as no field has fields of its own."""
        if self._is_harmless(fields):
            return fields
        clean: dict[str, Any] = self._mapping(fields, 0)
        return clean

    def _is_harmless(self, fields: Mapping[str, Any]) -> bool:
        if any(isinstance(one, Mapping | list | tuple) for one in fields.values()):
            return False
        try:
            raw = orjson.dumps(fields)
        except orjson.JSONEncodeError:
            return False  # half a character, or a number beyond all measure
        return not self._suspicious(raw) and next(_whole_fields(fields), None) is None

    def redact_model(self, model: Model) -> Model:
        """The same for a model of the domain. Raises what the model's validation raises, when a
        field cannot hold a cover (a secret in a field of a fixed form)."""
        if not self._suspicious(model.model_dump_json().encode()):
            return model
        plain = model.model_dump(mode="json")
        clean = self.redact_value(plain)
        return model if clean == plain else type(model).model_validate(clean)

    def text(self, text: str) -> str:
        """A text with its secrets covered (for `store.cleaning.Cleaner`)."""
        return self.redactor.redact(text)

    def json(self, raw: bytes) -> bytes:
        """A value as JSON in UTF-8; the very same bytes when there is nothing in it."""
        if not self._suspicious(raw):
            return raw
        value = orjson.loads(raw)
        clean = self.redact_value(value)
        return raw if clean is value else orjson.dumps(clean)

    def _suspicious(self, raw: bytes) -> bool:
        """Whether a closer look is worth it: one scan over the whole value as JSON."""
        return b"\\" in raw or b"sensitive" in raw or bool(self.redactor.find(raw))

    def _value(self, value: Any, depth: int) -> Any:
        if depth > DEEPEST:
            return self._covered(value)
        match value:
            case str():
                return self.redactor.redact(value)
            case bytes():
                return self.redactor.redact_bytes(value)
            case BaseModel():
                return self._value(value.model_dump(mode="json"), depth)
            case Mapping():
                return self._mapping(value, depth)
            case list() | tuple():
                return self._sequence(value, depth)
            case _:
                return value

    def _sequence(self, values: Sequence[Any], depth: int) -> Any:
        match values:
            case [str() as name, str() as value] if name.lower() in _HEADERS:
                new = self._covered(value)
                if new == value:
                    return values
                return (name, new) if isinstance(values, tuple) else [name, new]
        clean = [self._value(one, depth + 1) for one in values]
        if all(new is old for new, old in zip(clean, values, strict=True)):
            return values
        return tuple(clean) if isinstance(values, tuple) else clean

    def _mapping(self, values: Mapping[Any, Any], depth: int) -> Any:
        if "terraform_version" in values:
            values = self._state(values)
        whole = set(_whole_fields(values))
        masks = dict(_masks_of(values))
        clean: dict[Any, Any] = {}
        changed = False
        for key, value in values.items():
            name = self.redactor.redact(key) if isinstance(key, str) else key
            if key in masks:
                bare = self._masked(value, masks[key])
                new = self._value(value if bare == value else bare, depth + 1)
            elif key in whole and not isinstance(value, Mapping | list | tuple):
                new = self._covered(value)
            elif key in whole:
                new = self._all_covered(value)
            else:
                new = self._value(value, depth + 1)
            changed = changed or new is not value or name is not key
            clean[name] = new
        return clean if changed else values

    def _state(self, values: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """A state or plan of Terraform as it comes out of its text, which knows more of them."""
        try:
            raw = orjson.dumps(values)
        except orjson.JSONEncodeError:
            return values
        clean = self.redactor.redact_bytes(raw)
        told: Mapping[Any, Any] = values if clean is raw else orjson.loads(clean)
        return told

    def _masked(self, value: Any, mask: Any) -> Any:
        """A value with everything covered that is `true` in its mask, and the very same without."""
        if mask is True:
            return self._all_covered(value)
        if not isinstance(mask, Mapping):
            return value
        if isinstance(value, Mapping):
            return {key: self._masked(one, mask.get(key)) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._masked(one, mask.get(n)) for n, one in enumerate(value)]
        return value

    def _all_covered(self, value: Any) -> Any:
        match value:
            case Mapping():
                return {key: self._all_covered(one) for key, one in value.items()}
            case list() | tuple():
                return [self._all_covered(one) for one in value]
            case _:
                return self._covered(value)

    def _covered(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        text = value if isinstance(value, str) else str(value)
        if _REFERENCE.match(text):
            return value
        raw = text.encode("utf-8", "surrogatepass")
        if COVER.fullmatch(raw):
            return value
        found = self.redactor.find(raw)
        if len(found) == 1 and (found[0].start, found[0].end) == (0, len(raw)):
            return self.redactor.redact(text)
        return f"[redacted:{FIELD}:{self.redactor.fingerprint(raw)}]"


@functools.lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether a field of that name holds a secret."""
    plain = _CAMEL.sub("_", name)
    return _SECRET_NAME.search(plain) is not None and _NOT_SECRET.search(plain) is None


def _whole_fields(values: Mapping[Any, Any]) -> Iterator[Any]:
    """Keys whose values are secret from one end to the other."""
    if values.get("kind") == "Secret" and "apiVersion" in values:
        yield from (key for key in ("data", "stringData") if key in values)
    if values.get("sensitive") is True:
        yield from (key for key in ("value", "default") if key in values)
    name = values.get("name", values.get("key"))
    if isinstance(name, str) and "value" in values and _named(name):
        yield "value"
    for key, value in values.items():
        if isinstance(key, str) and _named(key) and _can_be_secret(key, value):
            yield key


def _masks_of(values: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Members of a Terraform resource beside which another says what in them is sensitive."""
    for key, name in MASKS.items():
        if key not in values or not (said := values.get(name)):
            continue
        mask: Any = {}
        if name == "sensitive_attributes" and isinstance(said, list):
            for path in map(steps, said):
                here = mask
                for step in path[:-1]:
                    here = here.setdefault(step, {}) if isinstance(here, dict) else {}
                if path and isinstance(here, dict):
                    here[path[-1]] = True
        else:
            mask = _by_step(said, 0)
        yield key, mask


def _by_step(mask: Any, depth: int) -> Any:
    """A mask in which lists are mappings of their places as well; too deep a one covers all."""
    if depth > DEEPEST:
        return True
    if isinstance(mask, Mapping):
        return {key: _by_step(one, depth + 1) for key, one in mask.items()}
    if isinstance(mask, list | tuple):
        return {n: _by_step(one, depth + 1) for n, one in enumerate(mask)}
    return mask


def _named(key: str) -> bool:
    return key.lower() in _HEADERS or is_secret_name(key)


def _can_be_secret(key: str, value: Any) -> bool:
    """A number under `token` is a count, a mapping under `secret` a reference to look into."""
    if isinstance(value, str):
        return True
    lists = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    return lists and key.lower() in _HEADERS
