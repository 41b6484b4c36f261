"""One image in a YAML file is changed, and not a character besides."""

from __future__ import annotations

import difflib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Permanent
from tools.image_line import Field, Kustomize, Manifest, Where, steps_of, value_at, with_image

MANIFEST = """\
# Who edits this: team-web.
apiVersion: v1
kind: Service
metadata: {name: web}   # the same name
spec: {ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    spec:
      containers:
        - name: proxy
          image: registry.example/proxy:9
        - image: registry.example/web:1.0.0   # bumped by releases
          name: app
          args: ['--x', "y"]
"""

KUSTOMIZATION = """\
resources: [../base]
images:
- name: web
  newName: registry.example/web
  newTag: "1.0.0"  # keep quoted
- name: registry.example/proxy
  newTag: '9'
"""

VALUES = "image:\r\n  repository: registry.example/web\r\n  tag: v1 # tag only\r\nreplicas: 3\r\n"


def changed_lines(before: str, after: str) -> list[str]:
    lines = difflib.ndiff(before.splitlines(keepends=True), after.splitlines(keepends=True))
    return [line[2:].strip() for line in lines if line.startswith("+ ")]


@pytest.mark.parametrize(
    ("text", "where", "image", "line"),
    [
        (
            MANIFEST,
            Manifest("web", "app"),
            "registry.example/web:2.0.0",
            "- image: registry.example/web:2.0.0   # bumped by releases",
        ),
        (
            MANIFEST,
            Field("spec.template.spec.containers[name=proxy].image"),
            "registry.example/proxy@sha256:" + "a" * 64,
            "image: registry.example/proxy@sha256:" + "a" * 64,
        ),
        (
            KUSTOMIZATION,
            Kustomize("web"),
            "registry.example/web:2.0.0",
            'newTag: "2.0.0"  # keep quoted',
        ),
        (
            KUSTOMIZATION,
            Kustomize("web"),
            "mirror.example/web:1.0.0",
            "newName: mirror.example/web",
        ),
        (
            KUSTOMIZATION,
            Kustomize("registry.example/proxy"),
            "registry.example/proxy:10",
            "newTag: '10'",
        ),
        (VALUES, Field("image.tag", is_tag=True), "registry.example/web:v2", "tag: v2 # tag only"),
    ],
)
def test_one_line_changes_and_keeps_its_comment_and_quotes(
    text: str, where: Where, image: str, line: str
) -> None:
    changed = with_image(text, where, image)
    assert changed_lines(text, changed) == [line]
    assert with_image(changed, where, image) == changed
    assert len(changed.splitlines()) == len(text.splitlines())


def test_line_ends_stay_as_they_are() -> None:
    changed = with_image(VALUES, Field("image.tag", is_tag=True), "registry.example/web:v2")
    assert changed == VALUES.replace("v1", "v2")


def test_an_image_without_a_tag_does_not_empty_the_field_of_the_tag() -> None:
    image = "registry.example:5000/web@sha256:" + 64 * "a"
    with pytest.raises(Permanent, match="has no tag"):
        with_image(VALUES, Field("image.tag", is_tag=True), image)


@pytest.mark.parametrize("tag", ["1234567", "1e10", "0777", "true", "null", "2026-01-05", "1.10"])
def test_a_tag_that_yaml_would_read_as_another_type_is_quoted(tag: str) -> None:
    changed = with_image(VALUES, Field("image.tag", is_tag=True), f"registry.example/web:{tag}")
    assert yaml.safe_load(changed)["image"]["tag"] == tag


@given(
    tag=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    quote=st.sampled_from(["", "'", '"']),
)
def test_any_tag_comes_back_as_it_was_written(tag: str, quote: str) -> None:
    text = f"a: 1\nimage: {{tag: {quote}v1{quote}, other: [x]}} # note\n"
    changed = with_image(text, Field("image.tag", is_tag=True), f"registry.example/web:{tag}")
    assert yaml.safe_load(changed) == {"a": 1, "image": {"tag": tag, "other": ["x"]}}
    assert changed.endswith(", other: [x]} # note\n")


def test_what_is_named_can_be_read() -> None:
    assert value_at(MANIFEST, Manifest("web", "app")) == "registry.example/web:1.0.0"
    assert value_at(KUSTOMIZATION, Kustomize("web")) == "registry.example/web:1.0.0"
    assert value_at(VALUES, Field("image.tag", is_tag=True)) == "v1"


@pytest.mark.parametrize(
    ("text", "where", "image", "said", "remedy"),
    [
        (MANIFEST, Manifest("web", "other"), "r/web:2", "does not have the image", "services.yaml"),
        (KUSTOMIZATION, Kustomize("api"), "r/api:2", "no `images` entry api", "newTag"),
        (
            KUSTOMIZATION,
            Kustomize("registry.example/proxy"),
            "r/proxy:2",
            "not by r/proxy",
            "newName: r/proxy",
        ),
        (
            KUSTOMIZATION,
            Kustomize("web"),
            "registry.example/web@sha256:" + "a" * 64,
            "not name its version by digest",
            "digest:",
        ),
        (
            KUSTOMIZATION.replace("newTag: '9'", "newTag: '9'\n  digest: sha256:0"),
            Kustomize("registry.example/proxy"),
            "registry.example/proxy:2",
            "by newTag",
            "take `digest:` out",
        ),
        ("a: &x {image: w:1}\nb: *x\n", Field("a.image"), "w:2", "anchor", "its own place"),
        ("image: |\n  w:1\n", Field("image"), "w:2", "block of text", "one line"),
        (
            "image: w:1\n---\nimage: w:1\n",
            Field("image"),
            "w:2",
            "stands in the file 2 times",
            "services.yaml",
        ),
        ("image: [w:1\n", Field("image"), "w:2", "not YAML in line 2", "Git"),
    ],
)
def test_a_place_that_is_not_clear_is_refused_with_what_helps(
    text: str, where: Where, image: str, said: str, remedy: str
) -> None:
    with pytest.raises(Permanent) as caught:
        with_image(text, where, image)
    assert said in str(caught.value)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("path", ["", "a.", "a..b", "a b", "[x", "a[name=]", "a]b"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError):
        steps_of(path)
