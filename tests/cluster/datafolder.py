"""The folder in which one cluster keeps its state, keys and logs, and the removal of orphans."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from pathlib import Path

PREFIX = "fermata-cluster-"
OWNED = "owned"


class DataFolder:
    """A private temporary folder (mode 0700), locked as long as its owner lives.

    The lock lets a later cluster tell a folder in use from one whose owner was killed: pids
    would not, where several containers share a temporary folder.
    """

    def __init__(self) -> None:
        fresh = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
        self._lock = (fresh / OWNED).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # It gets its proper name when it is locked: `remove_orphans` looks for that name.
        self.path = fresh.rename(fresh.with_name(fresh.name.lstrip(".")))

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()

    def keep(self) -> None:
        """Leave the folder for people to read; no later cluster removes it either."""
        (self.path / OWNED).unlink(missing_ok=True)
        self._lock.close()


def remove_orphans() -> None:
    """Delete the folders of clusters whose owner was killed before it could clean up."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            with (folder / OWNED).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # in use, kept, another user's, or just gone
            continue
