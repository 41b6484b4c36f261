"""Constraints evaluated in a process of their own, with bounds of time and memory.

The CEL engine bounds loops and nesting by itself; what a single call makes out of its input it does
not. `'x'.replace('x', 'xxxxxxxxxx')`, thirty times in a row, would take the server down with it.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
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
    _child: tuple[subprocess.Popen[bytes], Connection] | None = None
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
                self.close()
                raise Overrun("it took more memory than it may") from error
            except Overrun:
                self.close()
                raise
            return answer

    def _begin(self) -> tuple[subprocess.Popen[bytes], Connection]:
        """Start the process and wait until it has compiled everything. Raises Overrun."""
        here, there = socket.socketpair()
        code = (
            f"import sys; sys.path = {sys.path!r}; from nodes.examining import serve; "
            f"serve({there.fileno()})"
        )
        with there:
            child = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
            )
        pipe = Connection(here.detach())
        with contextlib.suppress(EOFError, OSError):
            pipe.send(self.texts)
            if pipe.poll(START_SECONDS) and pipe.recv() is None:
                return child, pipe
        child.kill()
        child.wait()
        pipe.close()
        raise Overrun("the process that evaluates constraints did not start")

    def close(self) -> None:
        """End the process. The next question starts another one."""
        if self._child is not None:
            child, pipe = self._child
            child.kill()
            child.wait()
            pipe.close()
        self._child = None


def serve(handle: int) -> None:
    """The process: compiles what it is sent, then answers until the other end is gone."""
    pipe = Connection(handle)
    with contextlib.suppress(EOFError, OSError):
        constraints = read_constraints(pipe.recv()).constraints
        _bound_memory()
        pipe.send(None)
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
