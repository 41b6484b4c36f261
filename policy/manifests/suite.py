"""Test suites of constraint templates, in the format of `gator verify`.

A suite names, for each template and constraint, objects and what has to be said about them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from domain.errors import SourceError
from policy.manifests.constraints import Constraint, constraint_of, namespaces_in
from policy.manifests.documents import Document, read_documents
from policy.manifests.objects import Object, objects_of
from policy.manifests.templates import RegoOnly, template_of

GROUP: Final = "test.gatekeeper.sh"
ReadText = Callable[[str], tuple[str, str]]
"""From a path that stands in the suite to the file's name and text. Raises SourceError."""
Status = Literal["pass", "fail", "error", "refused", "skipped"]


@dataclass(frozen=True)
class CaseResult:
    """How one case came out. `refused`: its template cannot be evaluated here."""

    suite: str
    test: str
    case: str
    status: Status
    detail: str = ""


def is_suite(data: Any) -> bool:
    """Whether a document is a suite."""
    return (
        isinstance(data, dict)
        and data.get("kind") == "Suite"
        and str(data.get("apiVersion")).startswith(f"{GROUP}/")
    )


def run_suite(text: str, file: str, read: ReadText) -> Iterator[CaseResult]:
    """Run every case of a suite. Raises SourceError when the suite itself is wrong."""
    for document in read_documents(text, file):
        if not is_suite(document.data):
            problem = document.problem((), "this is not a Suite", f"apiVersion: {GROUP}/v1alpha1")
            raise SourceError((problem,))
        for index, test in enumerate(_list(document, ("tests",), document.data.get("tests"))):
            yield from _Test(document, ("tests", index), test, read).results()


@dataclass(frozen=True)
class _Test:
    document: Document
    path: tuple[str | int, ...]
    data: Mapping[str, Any]
    read: ReadText

    def results(self) -> Iterator[CaseResult]:
        cases = _list(self.document, (*self.path, "cases"), self.data.get("cases") or [])
        if self.data.get("skip"):
            for case in cases:
                yield self._result(case, "skipped", "the suite skips it")
            return
        try:
            constraint = self._constraint()
        except RegoOnly as error:
            for case in cases or [{}]:
                yield self._result(case, "refused", error.problems[0].message)
            return
        except SourceError as error:
            if self.data.get("invalid"):
                yield self._result({"name": "invalid"}, "pass")
                return
            for case in cases or [{}]:
                yield self._result(case, "error", str(error.problems[0]))
            return
        if self.data.get("invalid"):
            yield self._result({"name": "invalid"}, "fail", "the constraint is valid")
        for index, case in enumerate(cases):
            yield self._case(constraint, (*self.path, "cases", index), case)

    def _constraint(self) -> Constraint:
        (template,) = self._objects(self.data.get("template"), ("template",), one=True)
        made = template_of(template)
        (obj,) = self._objects(self.data.get("constraint"), ("constraint",), one=True)
        return constraint_of(obj, {made.kind: made})

    def _case(
        self, constraint: Constraint, path: tuple[str | int, ...], case: Mapping[str, Any]
    ) -> CaseResult:
        if case.get("skip"):
            return self._result(case, "skipped", "the suite skips it")
        try:
            objects = self._objects(case.get("object"), ("object",))
            inventory = [
                obj
                for one in case.get("inventory") or []
                for obj in self._objects(one, ("inventory",))
            ]
            namespaces = namespaces_in([*inventory, *objects])
            messages = [
                one.message for obj in objects for one in constraint.examine(obj, namespaces)
            ]
            wanted = _list(self.document, (*path, "assertions"), case.get("assertions") or [])
            if not wanted:
                return self._result(case, "error", "it asserts nothing")
            complaints = [said for one in wanted if (said := _complaint(one, messages))]
        except SourceError as error:
            return self._result(case, "error", str(error.problems[0]))
        return self._result(case, "fail" if complaints else "pass", "; ".join(complaints))

    def _objects(self, name: Any, key: tuple[str | int, ...], *, one: bool = False) -> list[Object]:
        if not isinstance(name, str) or not name:
            problem = self.document.problem((*self.path, *key), f"no file is named as {key[0]}", "")
            raise SourceError((problem,))
        file, text = self.read(name)
        found = [obj for doc in read_documents(text, file) for obj in objects_of(doc)]
        if not found or (one and len(found) != 1):
            problem = self.document.problem(
                (*self.path, *key), f"{name} holds {len(found)} objects", "one is wanted"
            )
            raise SourceError((problem,))
        return found

    def _result(self, case: Mapping[str, Any], status: Status, detail: str = "") -> CaseResult:
        test = str(self.data.get("name") or "")
        return CaseResult(self.document.file, test, str(case.get("name") or ""), status, detail)


def _complaint(assertion: Mapping[str, Any], messages: list[str]) -> str:
    """Why an assertion does not hold; '' when it does."""
    pattern = assertion.get("message")
    if pattern is not None:
        try:
            messages = [one for one in messages if re.search(str(pattern), one)]
        except re.error as error:
            return f"the message {pattern!r} is not a regular expression: {error}"
    wanted = assertion.get("violations", True)
    if wanted in ("yes", "no"):
        wanted = wanted == "yes"
    fitting = f" like {pattern!r}" if pattern is not None else ""
    told = f"{len(messages)} violations{fitting}: {'; '.join(messages)[:300]}"
    if isinstance(wanted, bool):
        if bool(messages) == wanted:
            return ""
        return f"expected {'some' if wanted else 'no'} violations{fitting}, got {told}"
    if isinstance(wanted, int):
        return "" if len(messages) == wanted else f"expected {wanted}, got {told}"
    return f"`violations` is {wanted!r}; it is yes, no or a number"


def _list(document: Document, path: tuple[str | int, ...], found: Any) -> list[Any]:
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise SourceError((document.problem(path, f"`{path[-1]}` is not a list of mappings", ""),))
    return found
