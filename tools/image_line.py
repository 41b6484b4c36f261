"""Where the image of a service stands in a YAML file, and how to change it and nothing else. Pure.

The file is parsed only to find the place; the change is made in its text, so that comments, order,
indentation and quotes stay as their owners wrote them. What was changed is then proven by parsing
the result: one value differs, or nothing is returned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml

from domain.errors import Permanent

_STEP = re.compile(
    r"""(?P<key>[A-Za-z0-9_/-]+)|\[(?P<index>\d+)\]|\["(?P<quoted>[^"\]]+)"\]|"""
    r"""\[(?P<name>[A-Za-z0-9_-]+)=(?P<value>[^\]]+)\]"""
)
_STRING = "tag:yaml.org,2002:str"


@dataclass(frozen=True)
class Manifest:
    """A container's image in the manifest of a workload."""

    workload: str
    container: str

    def __str__(self) -> str:
        return f"the image of container {self.container} of {self.workload}"


@dataclass(frozen=True)
class Kustomize:
    """The entry of this name in a kustomization's `images`."""

    name: str

    def __str__(self) -> str:
        return f"`images` entry {self.name}"


@dataclass(frozen=True)
class Field:
    """A field by its path (see `steps_of`), which holds the whole image or its tag alone."""

    path: str
    is_tag: bool = False

    def __str__(self) -> str:
        return f"field {self.path}"


Where = Manifest | Kustomize | Field


@dataclass(frozen=True)
class ByKey:
    """A step into a mapping."""

    key: str


@dataclass(frozen=True)
class ByIndex:
    """A step into a list, by position."""

    index: int


@dataclass(frozen=True)
class ByMember:
    """A step into a list, to the element whose `name` is `value`."""

    name: str
    value: str


Step = ByKey | ByIndex | ByMember


def steps_of(path: str) -> tuple[Step, ...]:
    """The steps of a path like `image.tag`, `containers[0].image`, `list[name=web].image` or
    `["a.b"].c`. Raises ValueError where it is none."""
    steps: list[Step] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None or (found["key"] and steps and path[at - 1] != "."):
            raise ValueError(f"{path[at:][:40]!r} is not a step of a path")
        if found["index"] is not None:
            steps.append(ByIndex(int(found["index"])))
        elif found["name"] is not None:
            steps.append(ByMember(found["name"], found["value"].strip("\"'")))
        else:
            steps.append(ByKey(found["key"] or found["quoted"]))
        at = found.end()
        if at < len(path) and path[at] == ".":
            at += 1
            if at == len(path):
                raise ValueError("it ends with a dot")
    if not steps:
        raise ValueError("it is empty")
    return tuple(steps)


def value_at(text: str, where: Where) -> str:
    """What the file names: an image, or a tag where only that is kept.

    Raises Permanent, with what would help, when there is no such place or more than one.
    """
    documents = _documents(text)
    if isinstance(where, Kustomize):
        entry = _entry(documents, where)
        name, tag, digest = (_text(entry, key) for key in ("newName", "newTag", "digest"))
        return (name or where.name) + (f"@{digest}" if digest else f":{tag}" if tag else "")
    return str(_scalar(documents, where).value)


def value_for(image: str, where: Where) -> str:
    """What `value_at` gives for a file that names this image."""
    if isinstance(where, Field) and where.is_tag:
        return _parts(image)[1]
    if isinstance(where, Kustomize):
        name, tag, digest = _parts(image)
        return name + (f"@{digest}" if digest else f":{tag}" if tag else "")
    return image


def with_image(text: str, where: Where, image: str) -> str:
    """The file with the image changed. Raises Permanent where that cannot be done in place."""
    documents = _documents(text)
    if isinstance(where, Field) and where.is_tag and not value_for(image, where):
        raise Permanent(
            f"{image} has no tag, and {where} holds nothing else",
            "let `field:` be one that holds the whole image, without `writes: tag`",
        )
    if isinstance(where, Kustomize):
        changes = _kustomized(_entry(documents, where), where, image)
    else:
        changes = [(_scalar(documents, where), value_for(image, where))]
    shared = _shared(documents)
    edits: list[tuple[int, int, str]] = []
    for node, value in changes:
        if node.value == value and node.tag == _STRING:
            continue
        if id(node) in shared or any(id(one) in shared for one in _above(documents, node)):
            raise Permanent(
                f"{where} is shared with other places by a YAML anchor",
                "write the value out in its own place",
            )
        if node.style in ("|", ">"):
            raise Permanent(f"{where} is a block of text", "write it on one line")
        edits.append((node.start_mark.index, node.end_mark.index, _written(value, node.style)))
    changed = text
    for start, end, value in sorted(edits, reverse=True):
        changed = changed[:start] + value + changed[end:]
    _prove(documents, changed, where, image, [id(node) for node, _ in changes])
    return changed


def _kustomized(
    entry: yaml.MappingNode, where: Kustomize, image: str
) -> list[tuple[yaml.ScalarNode, str]]:
    name, tag, digest = _parts(image)
    changes: list[tuple[yaml.ScalarNode, str]] = []
    new_name = _member(entry, "newName")
    if name != (new_name.value if new_name else where.name):
        if new_name is None:
            raise Permanent(
                f"{where} is replaced by {where.name} itself, not by {name}",
                f"add `newName: {name}` to it once",
            )
        changes.append((new_name, name))
    key, other = ("digest", "newTag") if digest else ("newTag", "digest")
    found = _member(entry, key)
    if found is None or (key == "newTag" and _member(entry, other) is not None):
        raise Permanent(
            f"{where} does not name its version by {key}",
            f"write `{key}:` into it once, and take `{other}:` out, which would win over it"
            if key == "newTag"
            else f"write `{key}:` into it once",
        )
    return [*changes, (found, digest or tag)]


def _parts(image: str) -> tuple[str, str, str]:
    """Name, tag and digest of an image; a tag beside a digest says nothing."""
    rest, _, digest = image.partition("@")
    head, slash, last = rest.rpartition("/")
    short, _, tag = last.partition(":")
    return f"{head}{slash}{short}", tag, digest


def _written(value: str, style: str | None) -> str:
    """A scalar in the style of the one before, quoted where YAML would read another type."""
    if style == "'":
        return "'" + value.replace("'", "''") + "'"
    if style == '"':
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    plain = yaml.SafeLoader("").resolve(  # type: ignore[no-untyped-call]
        yaml.ScalarNode, value, (True, False)
    )
    is_safe = plain == _STRING and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]*", value)
    return value if is_safe and ": " not in value and not value.endswith(":") else f'"{value}"'


# --- finding -------------------------------------------------------------------------------------


def _documents(text: str) -> list[yaml.Node]:
    try:
        return [one for one in yaml.compose_all(text, yaml.SafeLoader) if one is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise Permanent(f"the file is not YAML{line}", "correct the file in Git") from None
    except RecursionError:
        raise Permanent("the file is nested too deeply", "correct the file in Git") from None


def _entry(documents: Sequence[yaml.Node], where: Kustomize) -> yaml.MappingNode:
    found = [
        entry
        for document in documents
        for images in [_child(document, ByKey("images"))]
        if isinstance(images, yaml.SequenceNode)
        for entry in images.value
        if isinstance(entry, yaml.MappingNode) and _text(entry, "name") == where.name
    ]
    if len(found) == 1:
        return found[0]
    raise Permanent(
        f"the kustomization has {len(found) or 'no'} {where}",
        f"let `images:` have one entry `- name: {where.name}` with `newTag:`",
    )


def _scalar(documents: Sequence[yaml.Node], where: Manifest | Field) -> yaml.ScalarNode:
    if isinstance(where, Manifest):
        member = ByMember("name", where.container)
        keys = [ByKey(key) for key in ("spec", "template", "spec", "containers")]
        steps: tuple[Step, ...] = (*keys, member, ByKey("image"))
        documents = [one for one in documents if _is_named(one, where.workload)]
    else:
        steps = steps_of(where.path)
    ends = [_walk(document, steps) for document in documents]
    found = [one for one in ends if isinstance(one, yaml.ScalarNode)]
    if len(found) == 1:
        return found[0]
    raise Permanent(
        f"{where} stands in the file {len(found)} times"
        if found
        else f"the file does not have {where}",
        "correct `file`, `field` or `kustomize` under `gitops:` in services.yaml, or the file",
    )


def _is_named(document: yaml.Node, name: str) -> bool:
    found = _walk(document, (ByKey("metadata"), ByKey("name")))
    pods = _walk(document, (ByKey("spec"), ByKey("template")))
    return isinstance(found, yaml.ScalarNode) and found.value == name and pods is not None


def _walk(node: yaml.Node | None, steps: Sequence[Step]) -> yaml.Node | None:
    for step in steps:
        if node is None:
            return None
        node = _child(node, step)
    return node


def _child(node: yaml.Node, step: Step) -> yaml.Node | None:
    match step:
        case ByKey(key) if isinstance(node, yaml.MappingNode):
            values = [value for name, value in node.value if name.value == key]
            return values[-1] if values else None
        case ByIndex(index) if isinstance(node, yaml.SequenceNode):
            return node.value[index] if index < len(node.value) else None
        case ByMember(name, value) if isinstance(node, yaml.SequenceNode):
            found = [
                one
                for one in node.value
                if isinstance(one, yaml.MappingNode) and _text(one, name) == value
            ]
            return found[0] if len(found) == 1 else None
    return None


def _member(entry: yaml.MappingNode, key: str) -> yaml.ScalarNode | None:
    found = _child(entry, ByKey(key))
    return found if isinstance(found, yaml.ScalarNode) else None


def _text(entry: yaml.MappingNode, key: str) -> str:
    found = _member(entry, key)
    return str(found.value) if found else ""


# --- proving -------------------------------------------------------------------------------------


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _nodes(documents: Sequence[yaml.Node]) -> Iterator[yaml.Node]:
    """Every node once, in the order of the file; one that an alias names again is not repeated."""
    seen: set[int] = set()
    left = list(reversed(documents))
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        left.extend(reversed(list(_children(node))))


def _shared(documents: Sequence[yaml.Node]) -> set[int]:
    """Nodes that stand in more than one place."""
    once: set[int] = set()
    twice: set[int] = set()
    for node in _nodes(documents):
        for child in _children(node):
            (twice if id(child) in once else once).add(id(child))
    return twice


def _above(documents: Sequence[yaml.Node], wanted: yaml.Node) -> list[yaml.Node]:
    """The nodes that hold a node, from the innermost out."""
    parents = {id(child): node for node in _nodes(documents) for child in _children(node)}
    found: list[yaml.Node] = []
    at = parents.get(id(wanted))
    while at is not None and all(one is not at for one in found):
        found.append(at)
        at = parents.get(id(at))
    return found


def _prove(
    before: Sequence[yaml.Node], changed: str, where: Where, image: str, meant: list[int]
) -> None:
    """Nothing but what was meant may have changed, and that to what was meant."""
    old, new = list(_nodes(before)), list(_nodes(_documents(changed)))
    same = len(old) == len(new) and all(
        id(a) in meant or _leaf(a) == _leaf(b) for a, b in zip(old, new, strict=False)
    )
    if not same or value_at(changed, where) != value_for(image, where):
        raise Permanent(
            f"{where} cannot be changed in place without changing more",
            "write the value plainly on one line of its own",
        )


def _leaf(node: yaml.Node) -> tuple[str, str]:
    return node.tag, node.value if isinstance(node, yaml.ScalarNode) else ""
