"""Constraints: what a template is asked of which objects, and the answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from domain.errors import SourceError, SourceProblem
from policy.manifests.cel import CelFailure, Expression, Scope
from policy.manifests.finding import Finding, Weight
from policy.manifests.match import Match, match_of
from policy.manifests.objects import Object
from policy.manifests.parameters import complaints, with_defaults
from policy.manifests.templates import Template, is_template, template_of

GROUP: Final = "constraints.gatekeeper.sh"
_ACTIONS: Final[dict[str, Weight]] = {"deny": "deny", "warn": "warn", "dryrun": "dryrun"}
_POINTS: Final = ("*", "validation.gatekeeper.sh", "gator.gatekeeper.sh", "vap.k8s.io")
"""Enforcement points that a check of manifests stands for."""
_WEIGHTS: Final[tuple[Weight, ...]] = ("deny", "warn", "dryrun")


@dataclass(frozen=True)
class Constraint:
    """A constraint with its template, ready to be asked."""

    object: Object
    template: Template
    match: Match
    parameters: Any
    weight: Weight

    @property
    def rule(self) -> str:
        """`K8sRequiredLabels/all-must-have-owner`."""
        return f"{self.template.kind}/{self.object.name}"

    def examine(self, obj: Object, namespaces: Mapping[str, dict[str, Any]]) -> Iterator[Finding]:
        """What the constraint has against an object that it is about. Failing to tell denies."""
        if self.match.fits(obj, namespaces):
            for message in self.messages(obj, namespaces):
                yield self.finding(obj, message)

    def finding(self, obj: Object, message: str) -> Finding:
        """Something that it has against an object, in its name and weight."""
        return Finding(self.rule, obj, (), message, self._fix(), self.weight)

    def messages(self, obj: Object, namespaces: Mapping[str, dict[str, Any]]) -> Iterator[str]:
        """What it has against an object, whatever its `match` says. Failing to tell denies."""
        roots = _roots(obj, self.object.data, namespaces)
        given = {"params": self.parameters, "anyObject": roots["anyObject"]}
        try:
            scope = Scope(roots, given, self.template.variables, self._without_params())
            for name, condition in self.template.conditions:
                if not _truth(scope, condition, f"matchCondition {name}"):
                    return
        except CelFailure as failure:
            yield undecided(failure)
            return
        for validation in self.template.validations:
            try:
                if _truth(scope, validation.expression, "the validation"):
                    continue
            except CelFailure as failure:
                yield undecided(failure)
                continue
            yield (
                _said(scope, validation.message_expression)
                or validation.message
                or (f"failed expression: {' '.join(validation.expression.text.split())[:300]}")
            )

    def _without_params(self) -> bool:
        spec = self.object.data.get("spec")
        return not isinstance(spec, dict) or spec.get("parameters") is None

    def _fix(self) -> str:
        what = self.template.description or self.template.title
        first = what.partition(". ")[0].rstrip(".")
        return f"Meet the constraint {self.object.name} ({self.template.title}): {first}."


@dataclass(frozen=True)
class ConstraintSet:
    """Every constraint of the folders that were given."""

    constraints: tuple[Constraint, ...] = ()
    passed_over: tuple[str, ...] = ()
    """Objects in the folders that are neither template nor constraint."""
    unused: tuple[str, ...] = ()
    """Templates that no constraint uses."""

    def examine_one(
        self, obj: Object, namespaces: Mapping[str, dict[str, Any]]
    ) -> Iterator[Finding]:
        """What the constraints have against one object, among the Namespaces that are known."""
        for constraint in self.constraints:
            yield from constraint.examine(obj, namespaces)


def undecided(why: object) -> str:
    """What is said where a constraint gave no answer; it counts as a violation."""
    return f"it could not be evaluated, so it denies: {why}"


def namespaces_in(objects: Iterable[Object]) -> dict[str, dict[str, Any]]:
    """The Namespaces among objects, by name."""
    return {one.name: one.data for one in objects if one.kind == "Namespace" and not one.group}


def constraint_set(objects: Iterable[Object]) -> ConstraintSet:
    """The constraints among objects, each with its template.

    Raises SourceError with every problem: templates without CEL, constraints without template,
    parameters that the template's schema refuses, two of one name.
    """
    problems: list[SourceProblem] = []
    templates: dict[str, Template] = {}
    refused: set[str] = set()
    found: list[Object] = []
    over: list[str] = []
    for obj in objects:
        if is_template(obj):
            try:
                template = template_of(obj)
            except SourceError as error:
                problems += error.problems
                refused.add(_kind_named(obj))
                continue
            if template.kind in templates:
                problems.append(
                    obj.problem(("metadata", "name"), "there is another template of this name", "")
                )
            templates[template.kind] = template
        elif obj.group == GROUP:
            found.append(obj)
        else:
            over.append(obj.title)
    constraints: dict[str, Constraint] = {}
    for obj in found:
        if obj.kind in refused:
            continue  # its template is told already
        try:
            one = constraint_of(obj, templates)
        except SourceError as error:
            problems += error.problems
            continue
        if one.rule in constraints:
            problems.append(
                obj.problem(("metadata", "name"), f"there is another {one.rule}", "rename it")
            )
        constraints[one.rule] = one
    if problems:
        raise SourceError(tuple(problems))
    used = {one.template.kind for one in constraints.values()}
    return ConstraintSet(
        tuple(constraints.values()), tuple(over), tuple(sorted(templates.keys() - used))
    )


def constraint_of(obj: Object, templates: Mapping[str, Template]) -> Constraint:
    """One constraint. Raises SourceError."""
    template = templates.get(obj.kind)
    if template is None:
        hint = (
            f"templates are given for {', '.join(sorted(templates))}"
            if templates
            else ("give the folder of its ConstraintTemplate as well")
        )
        raise _wrong(obj, ("kind",), f"there is no template for constraints of {obj.kind}", hint)
    if not obj.metadata.get("name"):
        raise _wrong(obj, ("metadata", "name"), "a constraint needs a name", "")
    spec = obj.data.get("spec")
    if spec is not None and not isinstance(spec, dict):
        raise _wrong(obj, ("spec",), "`spec` is not a mapping", "")
    spec = spec or {}
    given = spec.get("parameters")
    parameters = with_defaults(template.schema, {} if given is None else given)
    bad = tuple(
        obj.problem(("spec", "parameters", *path), message, hint)
        for path, message, hint in complaints(template.schema, parameters)
    )
    if bad:
        raise SourceError(bad)
    return Constraint(obj, template, match_of(obj), parameters, _weight(obj, spec))


def _weight(obj: Object, spec: dict[str, Any]) -> Weight:
    action = spec.get("enforcementAction", "deny")
    if action in _ACTIONS:
        return _ACTIONS[action]
    if action != "scoped":
        raise _wrong(
            obj,
            ("spec", "enforcementAction"),
            f"the enforcementAction {action!r} is unknown",
            "it is deny, warn, dryrun or scoped",
        )
    listed = spec.get("scopedEnforcementActions")
    path = ("spec", "scopedEnforcementActions")
    if not isinstance(listed, list) or not listed:
        raise _wrong(obj, path, "scoped needs scopedEnforcementActions", "list action and points")
    taken: list[Weight] = []
    for index, one in enumerate(listed):
        action = one.get("action") if isinstance(one, dict) else None
        points = one.get("enforcementPoints") if isinstance(one, dict) else None
        if action not in _ACTIONS or not isinstance(points, list):
            raise _wrong(obj, (*path, index), "an entry has `action` and `enforcementPoints`", "")
        names = [point.get("name") for point in points if isinstance(point, dict)]
        if any(name in _POINTS for name in names):
            taken.append(_ACTIONS[action])
    return min(taken, key=_WEIGHTS.index, default="dryrun")


def _roots(
    obj: Object, constraint: dict[str, Any], namespaces: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """What expressions see: the object as it would be created, or the review it came in."""
    review = obj.review or {}
    kind = {"group": obj.group, "version": obj.version, "kind": obj.kind}
    request: dict[str, Any] = {
        "operation": "CREATE",
        "kind": kind,
        "name": obj.name,
        "namespace": obj.namespace,
        "dryRun": False,
        "userInfo": {},
        **{key: value for key, value in review.items() if key not in ("object", "oldObject")},
    }
    new = review.get("object") if obj.review is not None else obj.data
    old = review.get("oldObject")
    return {
        "object": new,
        "oldObject": old,
        "anyObject": old if new is None else new,
        "request": request,
        "params": constraint,
        "namespaceObject": namespaces.get(obj.namespace),
        "variables": {},
    }


def _truth(scope: Scope, expression: Expression, what: str) -> bool:
    value = scope.evaluate(expression)
    if not isinstance(value, bool):
        raise CelFailure(f"{what} gives {str(value)[:80]!r}, which is neither true nor false")
    return value


def _said(scope: Scope, expression: Expression | None) -> str:
    """The message that an expression makes; '' when it makes none, as in Kubernetes."""
    if expression is None:
        return ""
    try:
        value = scope.evaluate(expression)
    except CelFailure:
        return ""
    return " ".join(value.split())[:2000] if isinstance(value, str) else ""


def _kind_named(obj: Object) -> str:
    here: Any = obj.data
    for key in ("spec", "crd", "spec", "names", "kind"):
        here = here.get(key) if isinstance(here, dict) else None
    return str(here)


def _wrong(obj: Object, path: tuple[str | int, ...], message: str, hint: str) -> SourceError:
    return SourceError((obj.problem(path, message, hint),))
