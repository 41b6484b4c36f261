"""Constraints evaluated in a process of their own, with bounds of time and memory.

The CEL engine bounds loops and nesting by itself; what a single call makes out of its input it does
not. `'x'.replace('x', 'xxxxxxxxxx')`, thirty times in a row, would take the server down with it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final

from policy.manifests.check import read_constraints
from policy.manifests.constraints import ConstraintSet, undecided
from policy.manifests.documents import Document
from policy.manifests.finding import Finding
from policy.manifests.objects import Object

Texts = tuple[tuple[str, str], ...]
SECONDS: Final = 5.0
"""For one constraint and one object; a usual one takes a few milliseconds."""
START_SECONDS: Final = 60.0
MEMORY: Final = 1_000_000_000
"""Bytes that the process may take beyond what it has when it begins."""


class Overrun(Exception):
    """An evaluation went beyond its bounds."""


@dataclass
class Examiner:
    """The constraints of some texts, and the process that evaluates them."""

    found: ConstraintSet
    texts: Texts
    seconds: float = SECONDS
    _child: tuple[BaseProcess, Connection] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, texts: Iterable[tuple[str, str]], seconds: float = SECONDS) -> Examiner:
        """Compile the constraints of (file, text) pairs. Raises SourceError."""
        kept = tuple(texts)
        return cls(read_constraints(kept), kept, seconds)

    def examine_one(
        self, obj: Object, namespaces: Mapping[str, dict[str, Any]]
    ) -> Iterator[Finding]:
        """What the constraints have against one object, among the Namespaces that are known."""
        near = {name: one for name, one in namespaces.items() if name == obj.namespace}
        for index, constraint in enumerate(self.found.constraints):
            if not constraint.match.fits(obj, namespaces):
                continue
            try:
                messages = self._ask((index, obj.data, obj.review, near))
            except Overrun as why:
                messages = [undecided(why)]
            for message in messages:
                yield constraint.finding(obj, message)

    def _ask(self, question: tuple[Any, ...]) -> list[str]:
        with self._lock:
            _, pipe = self._child = self._child or self._begin()
            try:
                pipe.send(question)
                if not pipe.poll(self.seconds):
                    raise Overrun(f"it took longer than {self.seconds:g} seconds")
                answer: list[str] = pipe.recv()
            except (EOFError, OSError) as error:
                self._end()
                raise Overrun("it took more memory than it may") from error
            except Overrun:
                self._end()
                raise
            return answer

    def _begin(self) -> tuple[BaseProcess, Connection]:
        """Start the process and wait until it has compiled everything. Raises Overrun."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        child = context.Process(
            target=_serve, args=(theirs, self.texts), name="constraints", daemon=True
        )
        child.start()
        theirs.close()
        with contextlib.suppress(EOFError, OSError):
            if ours.poll(START_SECONDS) and ours.recv() is None:
                return child, ours
        child.kill()
        raise Overrun("the process that evaluates constraints did not start")

    def _end(self) -> None:
        if self._child is not None:
            child, pipe = self._child
            child.kill()
            child.join()
            pipe.close()
        self._child = None


def _serve(pipe: Connection, texts: Texts) -> None:
    """The process: answers questions until the other end is gone."""
    constraints = read_constraints(texts).constraints
    _bound_memory()
    pipe.send(None)
    with contextlib.suppress(EOFError, OSError):
        while True:
            index, data, review, namespaces = pipe.recv()
            obj = Object(Document("", 1, None, {}), (), data, review)
            pipe.send(list(constraints[index].messages(obj, namespaces)))


def _bound_memory() -> None:
    """Where the system has no such bound, only time is bounded."""
    try:
        import resource
        from pathlib import Path

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):
        return
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
