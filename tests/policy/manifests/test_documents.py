"""Manifests as text: what is read as Kubernetes reads it, and what is refused with its line."""

from __future__ import annotations

import json

import pytest

from domain.errors import SourceError, SourceProblem
from policy.manifests.documents import read_documents
from policy.manifests.objects import objects_of


def data(text: str) -> list[object]:
    return [one.data for one in read_documents(text, "m.yaml")]


def problem(text: str) -> SourceProblem:
    with pytest.raises(SourceError) as caught:
        [list(objects_of(document)) for document in read_documents(text, "m.yaml")]
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("on", True),
        ("Off", False),
        ("y", True),
        ("0x0", 0),
        ("00", 0),
        ("017", 15),
        ("0o17", 15),
        ("1_000", 1000),
        ("-7", -7),
        ("08", 8.0),
        ("1e3", 1000.0),
        ("2026-01-31", "2026-01-31"),
        ("~", None),
        ("'yes'", "yes"),
        ("!!str 1", "1"),
        ('!!bool "true"', True),
        ("1.10", 1.1),
    ],
)
def test_scalars_mean_what_kubernetes_takes_them_for(text: str, value: object) -> None:
    assert data(f"a: {text}\n") == [{"a": value}]


def test_a_stream_keeps_the_numbers_of_its_documents_and_lines() -> None:
    text = "# Source: chart/a.yaml\n---\n# nothing\n---\na: 1\n---\n\n---\nb:\n  c: 2\n"
    found = read_documents(text, "m.yaml")
    assert [(one.index, one.data) for one in found] == [(2, {"a": 1}), (4, {"b": {"c": 2}})]
    assert found[0].line(("a",)) == 5
    assert found[1].line(("b", "c")) == 10
    assert found[1].line(("b", "c", "unheard", 3)) == 10


def test_windows_line_ends_and_a_byte_order_mark_change_nothing() -> None:
    found = read_documents("\ufeffa: 1\r\n---\r\nb: |\r\n  x\r\n", "m.yaml")
    assert [one.data for one in found] == [{"a": 1}, {"b": "x\n"}]
    assert found[1].line(("b",)) == 3


def test_anchors_and_merge_keys_are_spelt_out() -> None:
    text = "base: &b {x: 1, y: 2}\nmine:\n  y: 3\n  <<: *b\nagain: *b\n"
    assert data(text) == [
        {"base": {"x": 1, "y": 2}, "mine": {"y": 3, "x": 1}, "again": {"x": 1, "y": 2}}
    ]


def test_json_is_read_with_tabs_escapes_and_one_after_another() -> None:
    first = '{\n\t"a": "x\\/y \\ud83d\\ude00",\n\t"b": [1]\n}'
    found = read_documents(first + "\n" + json.dumps({"c": {"d": 2}}) + "\n", "m.json")
    assert [one.data for one in found] == [{"a": "x/y \U0001f600", "b": [1]}, {"c": {"d": 2}}]
    assert found[1].line(("c", "d")) == 5


def test_tabs_inside_text_are_fine() -> None:
    assert data("a: |\n  x\ty\n") == [{"a": "x\ty\n"}]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a second time"),
        ('{"a": 1,\n "a": 2}', 2, "a second time"),
        ("a: [1,\n", 2, "not good YAML"),
        ("a: 1\n\tb: 2\n", 2, "not good YAML"),
        ("a: 1\nb: !Ref x\n", 2, "the tag !Ref"),
        ("a: .inf\n", 1, ".inf is not a number"),
        ("a: *b\n", 1, "names no anchor"),
        ("a: &x [*x]\n", 1, "names no anchor that is complete"),
        ("? [a, b]\n: 1\n", 1, "a key has to be text"),
        ("a: 1\nb: \x07\n", 2, "not good YAML"),
        ("kind: Pod\nspec: {{ .Values.spec }}\n", 2, "has not been rendered"),
        ("kind: Pod\n{{- if .Values.x }}\nspec: 1\n{{- end }}\n", 2, "has not been rendered"),
        ('kind: Pod\nimage: "{{ .Values.image }}"\n', 2, "has not been rendered"),
        ("kind: Pod\nimage: app:{{ .Chart.AppVersion }}\n", 2, "has not been rendered"),
        ('{{ include "x" . }}\n', 1, "has not been rendered"),
        ("spec: 1\nmetadata: 2\n", 1, "no `apiVersion`"),
        ("apiVersion: v1\nkind: [Pod]\n", 2, "no `kind`"),
        ("just text\n", 1, "not a Kubernetes object"),
        ("apiVersion: v1\nkind: Pod\nmetadata: x\n", 3, "`metadata` is not a mapping"),
        ("apiVersion: v1\nkind: List\nitems: 3\n", 1, "no `items`"),
        ("apiVersion: v1\nkind: List\nitems:\n- 3\n", 4, "not a Kubernetes object"),
        ("apiVersion: admission.k8s.io/v1\nkind: AdmissionReview\n", 1, "no `request`"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str, line: int, words: str) -> None:
    found = problem(text)
    assert words in found.message
    assert found.line == line


def test_aliases_that_multiply_are_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    found = problem("\n".join(lines))
    assert "once aliases are spelt out" in found.message
    assert found.line == 6


@pytest.mark.parametrize("opening", ["[", "{a: "])
def test_nesting_has_a_bottom(opening: str) -> None:
    assert "nested deeper" in problem(opening * 500).message


def test_nesting_by_aliases_has_a_bottom_too() -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [[*a{n - 1}]]" for n in range(1, 80))]
    assert "nested deeper" in problem("\n".join(lines)).message


def test_huge_files_are_not_read() -> None:
    assert "at most" in problem("# " + "x" * 20_000_001).message


def test_text_that_other_programs_render_is_left_alone() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\ndata:\n  t: 'up {{ $labels.job }} {{ .name }}'\n"
    assert len(data(text)) == 1


def test_lists_and_reviews_give_their_objects() -> None:
    text = """\
apiVersion: v1
kind: PodList
items:
- metadata: {name: a}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: b, namespace: shop}}
---
apiVersion: admission.k8s.io/v1
kind: AdmissionReview
request:
  operation: DELETE
  oldObject:
    {apiVersion: v1, kind: Pod, metadata: {name: c}}
"""
    found = [obj for doc in read_documents(text, "m") for obj in objects_of(doc)]
    assert [one.title for one in found] == ["Pod a", "Service shop/b", "Pod c"]
    assert [one.line(()) for one in found] == [4, 9, 16]
    assert found[2].review is not None
