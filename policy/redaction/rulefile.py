"""Reads rules in the gitleaks TOML format, and names the line of whatever is wrong in a file.

Understood: `[[rules]]` with `id`, `description`, `regex`, `path`, `keywords`, `entropy`,
`secretGroup`, `tags`, `allowlist` and `allowlists`; the global `[allowlist]` and `[[allowlists]]`
with `targetRules`; `[extend]` with `useDefault`, `path` and `disabledRules`. Commits in allowlists
mean nothing to text and are passed over. What would make a rule find less than its author meant,
and cannot be done here, is refused.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import re2

from domain.errors import SourceError, SourceProblem
from policy.redaction.rule import DEFAULT_ADVICE, Allowlist, Rule, RuleSet, expression

MOST_BYTES = 4_000_000
DEEPEST_EXTEND = 2
"""How many files may extend one another, as in gitleaks."""

Load = Callable[[str], str]
"""Reads the file that `[extend] path` names. Raises OSError."""

_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)")
_RULE_KEYS = {
    *("id", "description", "regex", "path", "keywords", "entropy", "secretGroup", "tags"),
    *("allowlist", "allowlists", "advice", "randomizer", "skipReport", "reportGroup"),
}
_LIST_KEYS = {
    *("description", "condition", "commits", "paths", "regexTarget", "regexes", "stopwords"),
    *("targetRules",),
}


def load_rules(text: str, file: str, *, default: str, load: Load | None = None) -> RuleSet:
    """Rules of a file. `default` is what `useDefault` brings in. Raises `SourceError`."""
    return _Reader(file, text, default, load).read(0)


@dataclass
class _Reader:
    file: str
    text: str
    default: str
    load: Load | None
    problems: list[SourceProblem] = field(default_factory=list)

    def read(self, depth: int) -> RuleSet:
        data = self._parsed()
        base = self._extended(data.get("extend"), depth)
        everywhere = self._global_lists(data)
        own = self._rules(data.get("rules", []), {one.id: one for one in base.rules})
        if self.problems:
            raise SourceError(tuple(self.problems))
        disabled = set(_extend(data).get("disabledRules", ()))
        names = {one.id for one in own}
        kept = [one for one in base.rules if one.id not in names and one.id not in disabled]
        lists = [one for one in everywhere if one.regexes or one.stopwords]
        rules = tuple(_with(one, lists) for one in (*own, *kept))
        if not rules:
            self._stop("the file holds no rules", "add one, or `[extend]` with `useDefault = true`")
        paths = tuple(p for one in everywhere if not one.rules for p in one.paths)
        return RuleSet(rules, (*base.paths, *paths))

    def _parsed(self) -> dict[str, Any]:
        if len(self.text) > MOST_BYTES:
            self._stop(f"the file is larger than {MOST_BYTES} bytes", "split it")
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            told = str(error)
            place = _PLACE.search(told)
            line, column = (int(place[1]), int(place[2])) if place else (self._last(), 1)
            message = _PLACE.sub("", told).strip()
            hint = "TOML wants text in quotes; ''' keeps backslashes as they are"
            raise SourceError((SourceProblem(self.file, line, column, message, hint),)) from error

    def _last(self) -> int:
        return self.text.count("\n") + 1

    def _extended(self, extend: Any, depth: int) -> RuleSet:
        if extend is None:
            return RuleSet(())
        if not isinstance(extend, dict):
            self._stop("`extend` is not a table", "write [extend]", r"^\s*extend")
        if "url" in extend:
            self._stop(
                "rules are not fetched from an address", "use `path` with a copy", r"^\s*url\s*="
            )
        found: list[RuleSet] = []
        if extend.get("useDefault") is True:
            found.append(_Reader("rules.toml", self.default, "", None).read(depth + 1))
        path = extend.get("path")
        if isinstance(path, str) and path:
            found.append(self._other(path, depth))
        return RuleSet(
            tuple(rule for one in found for rule in one.rules),
            tuple(path for one in found for path in one.paths),
        )

    def _other(self, path: str, depth: int) -> RuleSet:
        where = r"^\s*path\s*="
        if depth >= DEEPEST_EXTEND:
            self._stop("too many files extend one another", "put their rules into one", where)
        if self.load is None:
            self._stop("a file cannot be brought in here", "leave `path` out", where)
        try:
            text = self.load(path)
        except (OSError, UnicodeDecodeError) as error:
            hint = "the path is taken from the folder the program runs in"
            self._stop(f"{path} cannot be read ({type(error).__name__})", hint, where)
        return _Reader(path, text, self.default, self.load).read(depth + 1)

    def _rules(self, raw: Any, base: Mapping[str, Rule]) -> list[Rule]:
        if not isinstance(raw, list):
            self._stop("`rules` is not a list of tables", "write [[rules]]", r"^\s*\[?rules")
        found: dict[str, Rule] = {}
        for index, one in enumerate(raw):
            rule = self._rule(one, index, base)
            if rule is None:
                continue
            if rule.id in found:
                self._tell(index, f"the id {rule.id} is taken", "give each rule an id of its own")
            found[rule.id] = rule
        return list(found.values())

    def _rule(self, raw: Any, index: int, base: Mapping[str, Rule]) -> Rule | None:
        if not isinstance(raw, dict):
            self._tell(index, "a rule is not a table", "write [[rules]]")
            return None
        known = base.get(str(raw.get("id")))
        before = len(self.problems)
        for key in raw.keys() - _RULE_KEYS:
            hint = "known: " + ", ".join(sorted(_RULE_KEYS))
            self._tell(index, f"`{key}` is not understood here", hint, key)
        name = raw.get("id")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.\-]{0,79}", name):
            self._tell(index, "a rule needs an `id`", 'such as id = "acme-token"', "id")
            return None
        pattern = raw.get("regex", known.pattern if known else None)
        if not isinstance(pattern, str) or not pattern:
            if isinstance(raw.get("path"), str) and "regex" not in raw:
                return None  # gitleaks reports such a file by its name alone: nothing to redact
            self._tell(index, f"rule {name} needs a `regex`", "in Go's RE2 syntax", "regex")
            return None
        compiled = self._compiled(pattern, index, "regex")
        group = raw.get("secretGroup", known.group if known else 0)
        if compiled is not None and (
            not isinstance(group, int)
            or isinstance(group, bool)
            or group < 0
            or group > compiled.groups
        ):
            text = f"`secretGroup` of {name} is not one of its {compiled.groups} groups"
            self._tell(index, text, "0 or left out: the first group that took part", "secretGroup")
        entropy = raw.get("entropy", known.entropy if known else 0.0)
        if not isinstance(entropy, int | float) or isinstance(entropy, bool) or entropy < 0:
            self._tell(index, f"`entropy` of {name} is not a number from 0 to 8", "3.5", "entropy")
        lists = [*self._lists(raw, index, "allowlist"), *self._lists(raw, index, "allowlists")]
        path = self._compiled(raw["path"], index, "path") if "path" in raw else None
        words = self._words(raw, index, "keywords", known.keywords if known else ())
        if len(self.problems) > before or compiled is None:
            return None
        return Rule(
            id=name,
            description=str(raw.get("description", known.description if known else name)),
            pattern=pattern,
            regex=compiled,
            keywords=words,
            entropy=float(entropy),
            group=int(group),
            path=path if path is not None else (known.path if known else None),
            tags=tuple(str(tag) for tag in raw.get("tags", known.tags if known else ())),
            allowlists=(*(known.allowlists if known else ()), *lists),
            advice=str(raw.get("advice", known.advice if known else DEFAULT_ADVICE)),
        )

    def _words(
        self, raw: Mapping[str, Any], index: int | None, key: str, otherwise: tuple[bytes, ...]
    ) -> tuple[bytes, ...]:
        words = raw.get(key)
        if words is None:
            return otherwise
        if not isinstance(words, list) or not all(isinstance(one, str) for one in words):
            self._tell(index, f"`{key}` is not a list of texts", f'{key} = ["acme"]', key)
            return otherwise
        return tuple(one.lower().encode() for one in words if one)

    def _global_lists(self, data: Mapping[str, Any]) -> list[Allowlist]:
        return [*self._lists(data, None, "allowlist"), *self._lists(data, None, "allowlists")]

    def _lists(self, raw: Mapping[str, Any], index: int | None, key: str) -> list[Allowlist]:
        found = raw.get(key, [])
        found = [found] if isinstance(found, dict) else found
        if not isinstance(found, list):
            self._tell(index, f"`{key}` is not a table", f"write [{key}]", key)
            return []
        lists = [self._list(one, index, key) for one in found]
        return [one for one in lists if one is not None]

    def _list(self, raw: Any, index: int | None, key: str) -> Allowlist | None:
        if not isinstance(raw, dict):
            self._tell(index, f"an entry of `{key}` is not a table", f"[[{key}]]", key)
            return None
        for word in raw.keys() - _LIST_KEYS:
            hint = "known: " + ", ".join(sorted(_LIST_KEYS))
            self._tell(index, f"`{word}` is not understood in an allowlist", hint, word)
        target: Any = raw.get("regexTarget", "secret") or "secret"
        if target not in ("secret", "match", "line"):
            self._tell(
                index, f"`regexTarget` {target} is not known", "match or line", "regexTarget"
            )
            target = "secret"
        condition = str(raw.get("condition", "OR")).upper()
        if condition not in ("AND", "OR", "&&", "||"):
            self._tell(index, f"`condition` {condition} is not known", "AND or OR", "condition")
        return Allowlist(
            regexes=self._several(raw.get("regexes", []), index, "regexes"),
            target=target,
            stopwords=self._words(raw, index, "stopwords", ()),
            paths=self._several(raw.get("paths", []), index, "paths"),
            every=condition in ("AND", "&&"),
            rules=frozenset(str(one) for one in raw.get("targetRules", ())),
        )

    def _several(self, raw: Any, index: int | None, key: str) -> tuple[Any, ...]:
        if not isinstance(raw, list):
            self._tell(index, f"`{key}` is not a list", f"{key} = ['''…''']", key)
            return ()
        compiled = (self._compiled(one, index, key) for one in raw)
        return tuple(one for one in compiled if one is not None)

    def _compiled(self, pattern: Any, index: int | None, key: str) -> Any:
        if not isinstance(pattern, str):
            self._tell(index, f"`{key}` is not text", f"{key} = '''…'''", key)
            return None
        try:
            return expression(pattern)
        except re2.error as error:
            told = error.args[0] if error.args else b""
            said = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
            hint = "RE2 knows no look-around and no back references"
            return self._tell(
                index, f"`{key}` is no regular expression: {said}", hint, key, pattern
            )

    def _tell(
        self, index: int | None, message: str, hint: str, key: str = "", near: str = ""
    ) -> None:
        line, column = self._place(index, key, near)
        self.problems.append(SourceProblem(self.file, line, column, message, hint))

    def _stop(self, message: str, hint: str, where: str = "") -> NoReturn:
        found = re.search(where, self.text, re.M) if where else None
        line = self.text.count("\n", 0, found.start()) + 1 if found else 1
        raise SourceError((*self.problems, SourceProblem(self.file, line, 1, message, hint)))

    def _place(self, index: int | None, key: str, near: str) -> tuple[int, int]:
        """Line and column of a key of the `index`-th rule, or as near to it as can be found."""
        lines = self.text.splitlines()
        first, last = 0, len(lines)
        if index is not None:
            heads = [n for n, line in enumerate(lines) if re.match(r"\s*\[\[\s*rules\s*\]\]", line)]
            if index < len(heads):
                first = heads[index]
                last = heads[index + 1] if index + 1 < len(heads) else last
        for part in (near.splitlines()[0] if near else "", key):
            for n in range(first, last):
                at = lines[n].find(part) if part else -1
                if at >= 0 and (near == part or lines[n].lstrip().lstrip("[").startswith(part)):
                    return n + 1, at + 1
        return first + 1, 1


def _extend(data: Mapping[str, Any]) -> Mapping[str, Any]:
    extend = data.get("extend")
    return extend if isinstance(extend, dict) else {}


def _with(rule: Rule, lists: list[Allowlist]) -> Rule:
    """The rule with the global allowlists that are for it."""
    mine = tuple(one for one in lists if not one.rules or rule.id in one.rules)
    return replace(rule, allowlists=(*rule.allowlists, *mine)) if mine else rule
