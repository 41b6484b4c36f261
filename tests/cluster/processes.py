"""Child processes that die with their parent, and loopback ports that nobody else can take."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LOG_TAIL_LINES = 30
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

# Linux sends the death signal when the *thread* that forked ends, not the process. Everything is
# forked from this one thread, which lives as long as the interpreter, so that a cluster may be
# started from a short-lived thread (asyncio.to_thread) and survive it.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cluster-spawner")


def _die_with(parent: int) -> None:
    """Runs in the child between fork and exec: ask the kernel for SIGKILL at our parent's end."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it was gone before we asked
            os._exit(1)


class Port:
    """A free TCP port on 127.0.0.1, held until `release`.

    The holding socket is bound but does not listen, and both it and the server's socket carry
    SO_REUSEADDR: Linux then lets the server bind beside it, and gives the port to no one who
    asks for any free one. Without that, two clusters starting at once can pick the same port.
    """

    def __init__(self) -> None:
        self._holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._holder.bind(("127.0.0.1", 0))
        # After bind: before it, the kernel could hand us a port that another holder has.
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.number: int = self._holder.getsockname()[1]

    def __str__(self) -> str:
        return str(self.number)

    def release(self) -> None:
        self._holder.close()


class Process:
    """One server process in a group of its own, with its output in a log file.

    `home` stands in for the user's home folder, whose settings would change what a server does.
    """

    def __init__(self, name: str, command: list[str], log: Path, *, home: Path) -> None:
        self.name = name
        self.command = command
        self.log = log
        self._home = home
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None."""
        if self._popen is None or self._popen.poll() is not None:
            return None
        return self._popen.pid

    def start(self) -> None:
        """Start the process; its log goes on where an earlier life of it ended."""
        if self.pid is not None:
            raise RuntimeError(f"{self.name} runs already")
        parent = os.getpid()
        with self.log.open("ab") as log:
            self._popen = _spawner.submit(
                subprocess.Popen,
                self.command,
                env=os.environ | {"HOME": str(self._home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: _die_with(parent),
            ).result()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group; nothing happens when it has ended."""
        if self._popen is not None and self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, number)

    def kill(self) -> None:
        """End the group at once and wait until it is gone.

        Hard on purpose: an apiserver with open watches takes up to a minute over a SIGTERM.
        """
        self.signal(signal.SIGKILL)
        if self._popen is not None:
            self._popen.wait()

    def tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines of the log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 64 * 1024))
            text = file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])
