"""Hand-written YAML: what is read, what is refused, and where the finger points."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, Field

from domain.errors import SourceError, SourceProblem
from domain.service import Catalogue
from domain.source_hints import wrong
from domain.yaml_source import MOST_ALIASES, MOST_BYTES, load, validate


def refused(text: str) -> SourceProblem:
    with pytest.raises(SourceError) as caught:
        load(text, "some.yaml")
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


def found(text: str) -> list[tuple[int, int, str, str]]:
    """(line, column, message, hint) of everything wrong with a catalogue."""
    with pytest.raises(SourceError) as caught:
        validate(Catalogue, load(text, "services.yaml"))
    return [(one.line, one.column, one.message, one.hint) for one in caught.value.problems]


def test_words_that_older_yaml_turns_into_something_else_stay_text() -> None:
    text = "a: no\nb: on\nc: 12:30\nd: 2026-01-31\ne: y\nf: 1_000\n"
    assert load(text, "f").data == {
        "a": "no",
        "b": "on",
        "c": "12:30",
        "d": "2026-01-31",
        "e": "y",
        "f": "1_000",
    }


def test_numbers_booleans_and_nothing_are_read_as_such() -> None:
    text = "[1, -2, 0o17, 0x1f, 010, 1.5, 1e3, true, FALSE, null, ~, '1', \"true\"]"
    assert load(text, "f").data == [
        1, -2, 15, 31, 10, 1.5, 1000.0, True, False, None, None, "1", "true",
    ]  # fmt: skip


def test_every_value_and_key_knows_its_place() -> None:
    located = load("top:\n  list:\n    - {a: 1, b: é}\n  none:\n  text: |\n    x\n", "f")
    assert located.place(("top", "list", 0, "b")) == (3, 17)
    assert located.place(("top", "list", 0, "b"), key=True) == (3, 14)
    assert located.place(("top", "list")) == (2, 3)
    assert located.place(("top", "none")) == (4, 3)
    assert located.place(("top", "text")) == (5, 9)
    assert located.place(("top", "list", 0, "missing", "deeper")) == (3, 7)


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"),
    [
        ("a: 1\nb:\n\tc: 2\n", 3, 1, "tab", "spaces"),
        ("a: 1\nb: 2\na: 3\n", 3, 1, "second time", "line 1"),
        ("a: {b: 1, b: 2}\n", 1, 11, "second time", "line 1"),
        ("a: 1\n---\nb: 2\n", 2, 1, "second document", "one document"),
        ("a: 1\n7: 2\n", 2, 1, "not text", '"7"'),
        ("? [a, b]\n: 1\n", 1, 3, "has to be text", "name: value"),
        ("a: !!python/object:os.system x\n", 1, 4, "tag", "remove"),
        ("a: !custom x\n", 1, 4, "tag", "remove"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, 3, "merge", "write the values out"),
        ("a: *nowhere\n", 1, 4, "anchor", "&nowhere"),
        ("a: &x [*x]\n", 1, 8, "anchor", "earlier"),
        ("a: .nan\n", 1, 4, "not a number", "finite"),
        ("a: 1e999\n", 1, 4, "too large", "finite"),
        ("a: 123456789012345678901\n", 1, 4, "20 digits", "quotes"),
        ("a: b: c\n", 1, 5, "mapping values", "colon in quotes"),
        ("a: @x\n", 1, 4, "cannot start", "quotes"),
        ("a: 'x\u202ey'\n", 1, 6, "U+202E", "remove"),
        ("a: 'x\x00'\n", 1, 6, "U+0000", "remove"),
        ("a: '\ud800'\n", 1, 5, "U+D800", "remove"),
        ("", 1, 1, "empty", "example"),
        ("# only words\n", 1, 1, "empty", "example"),
    ],
)
def test_what_is_not_in_the_dialect_is_refused_where_it_stands(
    text: str, line: int, column: int, message: str, hint: str
) -> None:
    problem = refused(text)
    assert (problem.line, problem.column) == (line, column)
    assert message in problem.message
    assert hint in problem.hint


def test_a_file_that_is_too_large_is_refused_unread() -> None:
    assert "bytes" in refused("a: [" + "é" * (MOST_BYTES // 2)).message


def test_deep_nesting_is_refused_instead_of_exhausting_the_stack() -> None:
    assert "nested" in refused("[" * 100_000).message


def test_few_aliases_work_and_many_are_refused() -> None:
    assert load("a: &x [1]\nb: *x\n", "f").data == {"a": [1], "b": [1]}
    many = "a: &x 1\n" + "".join(f"b{n}: *x\n" for n in range(MOST_ALIASES + 1))
    problem = refused(many)
    assert "aliases" in problem.message
    assert problem.line == MOST_ALIASES + 2


def test_aliases_of_aliases_are_counted_as_they_spread() -> None:
    lines = ["a0: &a0 [" + ", ".join("x" * 40) + "]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 6)}]" for n in range(1, 6)]
    assert "spelt out" in refused("\n".join(lines)).message


def test_a_byte_order_mark_is_passed_over() -> None:
    assert load("\ufeffa: 1\n", "f").data == {"a": 1}


CATALOGUE = """\
services:
  - name: checkout
    repo: shop/checkout
    image: "checkout:{sha}"
    workload: {deployment: checkout, container: app}
    environments:
      - name: prod
        namespace: prod
        canary: [{weight: 10, bake_seconds: 60}]
    slis:
      - {name: errors, kind: errors, bad: b, total: t, objective: 0.99}
"""


def test_a_good_file_becomes_its_model() -> None:
    catalogue = validate(Catalogue, load(CATALOGUE, "services.yaml"))
    assert catalogue.services[0].environments[0].canary[0].weight == 10


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "message", "hint"),
    [
        ("    repo:", "    repoo:", 3, 5, "unknown key 'repoo'", "did you mean 'repo'?"),
        ("container: app", "containr: app", 5, 38, "'containr'", "did you mean 'container'?"),
        ("shop/checkout", "42", 3, 11, "expected text, found 42", 'quotes: "42"'),
        ("weight: 10", "weight: 101", 9, 27, "less than or equal to 100", ""),
        ("[{weight: 10, bake_seconds: 60}]", "10", 9, 17, "expected a list", "[10]"),
        ("{deployment: checkout, container: app}", "", 5, 5, "keys and values", ""),
        (", objective: 0.99", "", 11, 9, "'objective' is missing", "add it"),
        ("0.99", "high", 11, 67, "valid number", ""),
    ],
)
def test_each_finding_stands_at_its_value_with_a_hint(
    old: str, new: str, line: int, column: int, message: str, hint: str
) -> None:
    assert CATALOGUE.count(old) == 1
    problems = found(CATALOGUE.replace(old, new))
    assert any(
        (at_line, at_column) == (line, column) and message in said and hint in helped
        for at_line, at_column, said, helped in problems
    ), problems


def test_all_findings_come_at_once_in_the_order_of_the_file() -> None:
    text = CATALOGUE.replace("    repo:", "    repoo:").replace("weight: 10", "weight: 101")
    lines = [line for line, *_ in found(text)]
    assert lines == sorted(lines)
    assert len(lines) == 2  # the misspelt key once, not as missing too, and the weight


class Own(BaseModel):
    model_config = ConfigDict(extra="forbid")
    colour: str = Field(description="what to paint it", examples=["red"])
    size: int = 1

    def model_post_init(self, context: object, /) -> None:
        if self.colour == "plaid":
            raise wrong("plaid is not a colour", "choose one")


def test_descriptions_and_examples_become_hints() -> None:
    with pytest.raises(SourceError) as missing:
        validate(Own, load("size: 2\n", "f"))
    assert 'add `colour: "red"` (what to paint it)' in missing.value.problems[0].hint
    with pytest.raises(SourceError) as bad:
        validate(Own, load("colour: [red]\n", "f"))
    assert 'what to paint it; for example "red"' in bad.value.problems[0].hint


def test_long_values_are_not_echoed_whole() -> None:
    with pytest.raises(SourceError) as caught:
        validate(Own, load(f"colour: red\nsize: {'k' * 500}\n", "f"))
    assert len(caught.value.problems[0].message) < 160


def test_a_file_that_is_no_mapping_is_told_so() -> None:
    with pytest.raises(SourceError) as caught:
        validate(Own, load("- a\n- b\n", "f"))
    assert "expected keys and values, found a list" in caught.value.problems[0].message
