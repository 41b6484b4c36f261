"""The object store: every object, one monotonic resourceVersion, and the stream of changes.

Everything happens on one event loop, so there are no locks. Objects handed out are shared and must
not be mutated: take a `clone` first. With a path, each write is also put into an SQLite file before
it is announced, so that a restarted process finds the objects and goes on counting versions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evals.world.kube.kinds import BY_NAME, KINDS, Kind, Obj

Key = tuple[str, str]
"""(namespace, name); the namespace of a cluster-scoped object is empty."""

FIRST_VERSION = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """One committed write. `object` of a deletion is the last state, at the deletion's version."""

    version: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    kind: Kind
    object: Obj
    previous: Obj | None

    @property
    def key(self) -> Key:
        """(namespace, name) of the object."""
        return key_of(self.object)


def key_of(obj: Obj) -> Key:
    """(namespace, name) of an object."""
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


class Store:
    """Objects by kind and key, in memory, optionally mirrored to SQLite."""

    def __init__(self, path: Path | None = None, *, history: int = 20_000) -> None:
        """`history` is how many changes a watch may lag behind before it is told 410 Gone."""
        self._objects: dict[Kind, dict[Key, Obj]] = {kind: {} for kind in KINDS}
        self._log: list[Change] = []
        self._history = history
        self._listeners: list[Callable[[Change], None]] = []
        self._wakers: set[asyncio.Event] = set()
        self._db: sqlite3.Connection | None = None
        self.version = FIRST_VERSION
        self.closed = False
        if path is not None:
            self._open(path)
        self._forgotten = self.version

    def _open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Writes come from one thread at a time, but a threaded world may be closed from another.
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        # A killed process loses nothing without fsync; only a power cut would.
        db.execute("PRAGMA synchronous=OFF")
        db.execute(
            "CREATE TABLE IF NOT EXISTS objects (api TEXT, kind TEXT, namespace TEXT, name TEXT,"
            " body TEXT, PRIMARY KEY (api, kind, namespace, name))"
        )
        db.execute("CREATE TABLE IF NOT EXISTS version (id INTEGER PRIMARY KEY, value INTEGER)")
        for api, name, body in db.execute("SELECT api, kind, body FROM objects"):
            kind = BY_NAME[api, name]
            obj = json.loads(body)
            self._objects[kind][key_of(obj)] = obj
        row = db.execute("SELECT value FROM version WHERE id = 1").fetchone()
        self.version = int(row[0]) if row else FIRST_VERSION
        self._db = db

    def get(self, kind: Kind, namespace: str, name: str) -> Obj | None:
        """The object as stored, or None."""
        return self._objects[kind].get((namespace, name))

    def all(self, kind: Kind, namespace: str | None = None) -> list[Obj]:
        """All objects of a kind in the order of their keys; None means every namespace."""
        found = self._objects[kind]
        return [found[k] for k in sorted(found) if namespace is None or k[0] == namespace]

    def put(self, kind: Kind, obj: Obj) -> Obj:
        """Create or replace; stamps the next resourceVersion into `obj` and announces it."""
        key = key_of(obj)
        previous = self._objects[kind].get(key)
        version = self.version + 1
        obj["metadata"]["resourceVersion"] = str(version)
        self._save(kind, key, version, obj)
        self._objects[kind][key] = obj
        self._announce(Change(version, "MODIFIED" if previous else "ADDED", kind, obj, previous))
        return obj

    def remove(self, kind: Kind, namespace: str, name: str) -> Obj:
        """Delete; returns the last state at the deletion's version. Raises KeyError if absent."""
        key = (namespace, name)
        previous = self._objects[kind][key]
        version = self.version + 1
        last = {**previous, "metadata": {**previous["metadata"], "resourceVersion": str(version)}}
        self._save(kind, key, version, None)
        del self._objects[kind][key]
        self._announce(Change(version, "DELETED", kind, last, previous))
        return last

    def _save(self, kind: Kind, key: Key, version: int, obj: Obj | None) -> None:
        if self._db is None:
            return
        row = (kind.api_version, kind.kind, *key)
        with _transaction(self._db) as db:
            if obj is None:
                db.execute(
                    "DELETE FROM objects WHERE api=? AND kind=? AND namespace=? AND name=?", row
                )
            else:
                db.execute(
                    "INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?)", (*row, json.dumps(obj))
                )
            db.execute("INSERT OR REPLACE INTO version VALUES (1, ?)", (version,))

    def _announce(self, change: Change) -> None:
        self.version = change.version
        self._log.append(change)
        if len(self._log) > 2 * self._history:
            self._forgotten = self._log[-self._history - 1].version
            del self._log[: -self._history]
        for listener in self._listeners:
            listener(change)
        for waker in self._wakers:
            waker.set()

    def subscribe(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` inside every later write. It must be quick and must not write itself."""
        self._listeners.append(listener)

    @contextlib.contextmanager
    def waker(self) -> Iterator[asyncio.Event]:
        """An event that is set after each change and when the store closes."""
        event = asyncio.Event()
        self._wakers.add(event)
        try:
            yield event
        finally:
            self._wakers.discard(event)

    @property
    def oldest(self) -> int:
        """The oldest version from which `since` can still answer."""
        return self._forgotten

    def since(self, version: int) -> list[Change]:
        """Changes after `version`, oldest first. The caller checks `oldest` before."""
        # Versions rise by exactly one a change, so the position is arithmetic.
        first = self._forgotten + 1
        return self._log[max(0, version + 1 - first) :]

    def forget(self) -> None:
        """Drop the kept changes, as etcd's compaction does: older watches get 410 Gone."""
        self._log.clear()
        self._forgotten = self.version

    def close(self) -> None:
        """Wake and end all watches, close the file. Safe to call twice."""
        self.closed = True
        for waker in self._wakers:
            waker.set()
        if self._db is not None:
            self._db.close()
            self._db = None


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
    except sqlite3.Error:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
