"""What the gate knows of the objects that a step would write: which rules they break."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from domain.action import Action, K8sDeploy
from domain.errors import AdapterError, SourceError
from domain.rendered import Rendered
from nodes.examining import Examiner
from policy.facts import ManifestFact
from policy.manifests.builtin import IMAGE_RULES, RULES
from policy.manifests.check import check
from policy.manifests.documents import Document
from policy.manifests.finding import Finding
from policy.manifests.objects import Object
from policy.rules import ManifestRules
from tools.ports import Renderer

Facts = dict[str, Any]
"""The fields `manifests` and `manifests_unknown` of `policy.facts.Facts`."""


@dataclass(frozen=True)
class Manifests:
    """Renders what a deploy would write, and holds it to rules and constraints."""

    renderer: Renderer
    constraints: Callable[[ManifestRules], Examiner]
    """The constraints of the folders that the policy names. Raises SourceError."""

    async def facts(self, rules: ManifestRules, action: Action) -> Facts:
        """What is wrong with the objects; unknown, and why, when that cannot be told."""
        if not isinstance(action, K8sDeploy):
            return {}
        try:
            rendered = await self.renderer.rendered(action)
            constraints = self.constraints(rules)
            found = await asyncio.to_thread(_judged, rules, rendered, constraints)
        except AdapterError as error:
            return _unknown(str(error))
        except SourceError as error:
            return _unknown(error.problems[0].message)
        return {"manifests": found}


def _unknown(why: str) -> Facts:
    return {"manifests": None, "manifests_unknown": why.rstrip(".")}


def _judged(
    rules: ManifestRules, rendered: tuple[Rendered, ...], constraints: Examiner
) -> tuple[ManifestFact, ...]:
    """Raises SourceError when an object cannot be judged."""
    if not all(one.is_whole for one in rendered) and (
        constraints.found.constraints or rules.adopted == "all"
    ):
        raise SourceError(
            (_object(rendered[0]).problem((), "only its image is known beforehand"),),
        )
    return tuple(
        fact
        for existed in (True, False)
        for fact in _facts(
            rules,
            [_object(one) for one in rendered if one.existed is existed],
            constraints,
            existed,
        )
    )


def _facts(
    rules: ManifestRules, objects: list[Object], constraints: Examiner, existed: bool
) -> Iterator[ManifestFact]:
    """What was there before is not this change's fault, but for its image.

    Whether a namespace has a NetworkPolicy is not asked: it is not among the objects of a release.
    """
    only = IMAGE_RULES if existed and rules.adopted == "image" else RULES.keys()
    report = check(
        rules,
        objects,
        examine=constraints.examine_one if constraints.found.constraints else None,
        only=only,
    )
    if report.problems:
        raise SourceError(report.problems)
    for one in report.denied:
        yield _fact(rules, one)


def _fact(rules: ManifestRules, one: Finding) -> ManifestFact:
    return ManifestFact(
        rule=one.rule,
        object=one.object.title,
        path=one.json_path,
        message=one.message,
        fix=one.fix,
        bearing=rules.bearing.get(one.rule, "deny"),
    )


def _object(one: Rendered) -> Object:
    return Object(Document("the cluster", 1, one.object, {}), (), dict(one.object))
