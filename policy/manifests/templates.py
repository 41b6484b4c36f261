"""ConstraintTemplates in the Gatekeeper format, as far as they are written in CEL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from domain.errors import SourceError, SourceProblem
from domain.yaml_source import Path
from policy.manifests.cel import CelSyntax, Expression, compile_expression
from policy.manifests.objects import Object

GROUP: Final = "templates.gatekeeper.sh"
TARGET: Final = "admission.k8s.gatekeeper.sh"
ENGINE: Final = "K8sNativeValidation"
GIVEN: Final = frozenset({"params", "anyObject"})
"""Variables that every template has without defining them."""
MOST_EXPRESSIONS: Final = 200
_SOURCE_KEYS: Final = frozenset(
    {
        "validations",
        "variables",
        "matchCondition",
        "matchConditions",
        "failurePolicy",
        "generateVAP",
        "resourceOperations",
    }
)


@dataclass(frozen=True)
class Validation:
    """One thing that has to be true, and how to say that it is not."""

    expression: Expression
    message: str
    message_expression: Expression | None


@dataclass(frozen=True)
class Template:
    """A compiled template."""

    kind: str
    title: str
    description: str
    schema: dict[str, Any]
    is_legacy: bool
    """Whether the schema may leave types out."""
    variables: dict[str, Expression]
    conditions: tuple[tuple[str, Expression], ...]
    validations: tuple[Validation, ...]


class RegoOnly(SourceError):
    """A template that only Rego could evaluate."""


def is_template(obj: Object) -> bool:
    """Whether an object is a ConstraintTemplate."""
    return obj.group == GROUP and obj.kind == "ConstraintTemplate"


def template_of(obj: Object) -> Template:
    """The template, compiled. Raises SourceError; `RegoOnly` when it has no CEL."""
    spec = _mapping(obj, obj.data, (), "spec")
    crd = _mapping(obj, _mapping(obj, spec, ("spec",), "crd"), ("spec", "crd"), "spec")
    names = _mapping(obj, crd, ("spec", "crd", "spec"), "names")
    kind = names.get("kind")
    where: Path = ("spec", "crd", "spec", "names", "kind")
    if not isinstance(kind, str) or not kind:
        raise _wrong(obj, where, "the kind of its constraints is not named", "add names.kind")
    if obj.name != kind.lower():
        raise _wrong(
            obj,
            ("metadata", "name"),
            f"a template for the kind {kind} has to be named {kind.lower()}",
            "rename one of them",
        )
    validation = crd.get("validation") or {}
    schema = validation.get("openAPIV3Schema") or {}
    if not isinstance(schema, dict):
        raise _wrong(obj, ("spec", "crd", "spec", "validation"), "the schema is not a mapping", "")
    path, source = _source(obj, spec)
    variables = dict(_variables(obj, path, source))
    notes = obj.metadata.get("annotations") or {}
    template = Template(
        kind=kind,
        title=str(notes.get("metadata.gatekeeper.sh/title") or kind),
        description=" ".join(str(notes.get("description") or "").split()),
        schema=schema,
        is_legacy=bool(validation.get("legacySchema", False)),
        variables=variables,
        conditions=tuple(_conditions(obj, path, source)),
        validations=tuple(_validations(obj, path, source)),
    )
    _check_names(obj, path, template)
    return template


def _source(obj: Object, spec: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The CEL source of the one target there may be, and where it stands."""
    targets = spec.get("targets")
    if not isinstance(targets, list) or not targets:
        raise _wrong(obj, ("spec", "targets"), "it has no targets", f"target: {TARGET}")
    engines: list[str] = []
    for index, target in enumerate(targets):
        path: Path = ("spec", "targets", index)
        if not isinstance(target, dict):
            raise _wrong(obj, path, "this target is not a mapping", "")
        if target.get("target") != TARGET:
            raise _wrong(
                obj, (*path, "target"), f"the target {target.get('target')!r} is unknown", TARGET
            )
        code = target.get("code") or []
        if not isinstance(code, list):
            raise _wrong(obj, (*path, "code"), "`code` is not a list", "")
        if target.get("rego"):
            engines.append("Rego")
        for number, one in enumerate(code):
            engine = one.get("engine") if isinstance(one, dict) else None
            if engine != ENGINE:
                engines.append(str(engine))
                continue
            here = (*path, "code", number, "source")
            source = one.get("source")
            if not isinstance(source, dict):
                raise _wrong(obj, here, "`source` is not a mapping", "add validations")
            for key in source:
                if key not in _SOURCE_KEYS:
                    raise _wrong(obj, (*here, key), f"the key {key!r} is unknown", "remove it")
            return here, source
    only = " and ".join(dict.fromkeys(engines)) or "no engine"
    problem = obj.problem(
        ("spec", "targets"),
        f"this template is written in {only} only and cannot be evaluated here, so nothing would "
        "be held to it",
        f"add code for the engine {ENGINE} (CEL), or take the template out and evaluate it with "
        "Gatekeeper itself",
    )
    raise RegoOnly((problem,))


def _variables(obj: Object, path: Path, source: dict[str, Any]) -> Iterator[tuple[str, Expression]]:
    seen: set[str] = set()
    for here, one in _entries(obj, path, source, "variables"):
        name = one.get("name")
        if not isinstance(name, str) or not name.isidentifier():
            raise _wrong(obj, (*here, "name"), "a variable needs a name", "name: containers")
        if name in seen or name in GIVEN:
            raise _wrong(obj, (*here, "name"), f"the variable {name} is there twice", "rename it")
        seen.add(name)
        yield name, _expression(obj, here, one, "expression")


def _conditions(
    obj: Object, path: Path, source: dict[str, Any]
) -> Iterator[tuple[str, Expression]]:
    # Gatekeeper's schema spells it in the singular, its documentation in the plural
    for key in ("matchCondition", "matchConditions"):
        for here, one in _entries(obj, path, source, key):
            yield str(one.get("name") or ""), _expression(obj, here, one, "expression")


def _validations(obj: Object, path: Path, source: dict[str, Any]) -> Iterator[Validation]:
    entries = list(_entries(obj, path, source, "validations"))
    if not entries:
        raise _wrong(obj, (*path, "validations"), "it validates nothing", "add validations")
    for here, one in entries:
        message = one.get("message")
        if message is not None and not isinstance(message, str):
            raise _wrong(obj, (*here, "message"), "`message` is not text", "put it in quotes")
        said = one.get("messageExpression")
        yield Validation(
            expression=_expression(obj, here, one, "expression"),
            message=(message or "").strip(),
            message_expression=_expression(obj, here, one, "messageExpression") if said else None,
        )


def _entries(
    obj: Object, path: Path, source: dict[str, Any], key: str
) -> Iterator[tuple[Path, dict[str, Any]]]:
    listed = source.get(key)
    if listed is None:
        return
    if not isinstance(listed, list):
        raise _wrong(obj, (*path, key), f"`{key}` is not a list", "")
    if len(listed) > MOST_EXPRESSIONS:
        raise _wrong(obj, (*path, key), f"more than {MOST_EXPRESSIONS} entries", "split it")
    for index, one in enumerate(listed):
        if not isinstance(one, dict):
            raise _wrong(obj, (*path, key, index), "this entry is not a mapping", "")
        yield (*path, key, index), one


def _expression(obj: Object, path: Path, of: dict[str, Any], key: str) -> Expression:
    text = of.get(key)
    if not isinstance(text, str) or not text.strip():
        raise _wrong(obj, (*path, key), f"`{key}` is not a CEL expression", "write one, in quotes")
    try:
        return compile_expression(text)
    except CelSyntax as error:
        raise _wrong(
            obj, (*path, key), f"the expression does not compile: {error}", "see cel.dev"
        ) from error


def _check_names(obj: Object, path: Path, template: Template) -> None:
    """Every variable that is named has to be defined: a misspelt one would only fail much later."""
    known = template.variables.keys() | GIVEN
    for sort, expressions in (
        ("variables", list(template.variables.values())),
        ("matchConditions", [one for _, one in template.conditions]),
        ("validations", [one.expression for one in template.validations]),
    ):
        for index, expression in enumerate(expressions):
            unknown = [name for name in expression.names if name not in known]
            if unknown:
                raise _wrong(
                    obj,
                    (*path, sort, index, "expression"),
                    f"the variable {unknown[0]} is not defined",
                    f"variables are {', '.join(sorted(known))}",
                )


def _mapping(obj: Object, of: dict[str, Any], path: Path, key: str) -> dict[str, Any]:
    found = of.get(key)
    if not isinstance(found, dict):
        raise _wrong(obj, (*path, key), f"`{key}` is not a mapping", "see docs/manifests.md")
    return found


def _wrong(obj: Object, path: Path, message: str, hint: str) -> SourceError:
    problem: SourceProblem = obj.problem(path, message, hint)
    return SourceError((problem,))
