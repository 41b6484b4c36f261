"""Texts in, findings and problems out: everything that is given, looked at together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from domain.errors import SourceError, SourceProblem
from policy.manifests.builtin import RULES, check_network_policies, check_pod
from policy.manifests.constraints import ConstraintSet, constraint_set, namespaces_in
from policy.manifests.documents import read_documents
from policy.manifests.finding import Finding
from policy.manifests.objects import Object, Pod, objects_of, pod_of
from policy.manifests.suite import is_suite
from policy.matching import name_matches
from policy.rules import ManifestRules

DEFAULTS: Final = ManifestRules(
    bearing={name: "deny" for name in (*RULES, "network-policy") if name != "image-digest"},
    unreadable="approve",
    adopted="image",
    registries=(),
    resources=("requests.cpu", "requests.memory", "limits.cpu", "limits.memory"),
    probes=("readiness", "liveness"),
    exempt_namespaces=(),
    exempt_images=(),
    constraints=(),
)
"""Where there is no policy file: every rule but the one that wants digests."""
NOWHERE: Final = "default"
"""The namespace that an object goes to when it names none and nobody says where."""

Examine = Callable[[Object, dict[str, dict[str, Any]]], Iterable[Finding]]


@dataclass(frozen=True)
class Report:
    """What came out. With problems nothing has passed, whatever the findings are."""

    findings: tuple[Finding, ...]
    problems: tuple[SourceProblem, ...]
    objects: int

    @property
    def denied(self) -> tuple[Finding, ...]:
        """Findings that count; the others only warn."""
        return tuple(one for one in self.findings if one.weight == "deny")


def read_objects(texts: Iterable[tuple[str, str]]) -> tuple[list[Object], list[SourceProblem]]:
    """Objects of (file, text) pairs, and what could not be read."""
    objects: list[Object] = []
    problems: list[SourceProblem] = []
    for file, text in texts:
        try:
            for document in read_documents(text, file):
                try:
                    objects.extend(objects_of(document))
                except SourceError as error:
                    problems += error.problems
        except SourceError as error:
            problems += error.problems
    return objects, problems


def read_constraints(texts: Iterable[tuple[str, str]]) -> ConstraintSet:
    """The constraints of (file, text) pairs. Raises SourceError with every problem."""
    objects: list[Object] = []
    problems: list[SourceProblem] = []
    for file, text in texts:
        try:
            for document in read_documents(text, file):
                if not is_suite(document.data):
                    objects.extend(_policies(document.data, objects_of(document)))
        except SourceError as error:
            problems += error.problems
    try:
        found = constraint_set(objects)
    except SourceError as error:
        problems += error.problems
    if problems:
        raise SourceError(tuple(problems))
    return found


def _policies(data: object, objects: Iterable[Object]) -> list[Object]:
    """Objects of a policy's folder; what has no kind (notes, values) is no part of it."""
    if isinstance(data, dict) and "kind" not in data:
        return []
    return list(objects)


def check(
    rules: ManifestRules,
    objects: list[Object],
    *,
    examine: Examine | None = None,
    only: Iterable[str] | None = None,
) -> Report:
    """Hold objects to the built-in rules and, with `examine`, to constraints.

    `only`: names of built-in rules to look at; None: all that the policy does not ignore.
    """
    wanted = set(rules.bearing) & (set(rules.bearing) if only is None else set(only))
    findings: list[Finding] = []
    problems: list[SourceProblem] = []
    pods: list[Pod] = []
    namespaces = namespaces_in(objects)
    for obj in objects:
        try:
            pod = pod_of(obj) if wanted else None
            if pod is not None and not name_matches(
                obj.namespace or NOWHERE, rules.exempt_namespaces
            ):
                pods.append(pod)
                findings += check_pod(rules, pod, wanted)
        except SourceError as error:
            problems += error.problems
        if examine is not None:
            findings += examine(obj, namespaces)
    if "network-policy" in wanted:
        findings += check_network_policies(objects, pods, NOWHERE)
    order = {id(one): index for index, one in enumerate(objects)}
    findings.sort(key=lambda one: (order[id(one.object)], one.line))
    return Report(tuple(findings), tuple(problems), len(objects))
