"""A process that has everything imported and forks a worker for each line it reads.

Reads JSON lines on stdin, `{"kill": PATH}`: a child works with the settings of the environment and
kills itself with SIGKILL at the first point that PATH does not name yet, after naming it there.
`{"record": PATH}` writes each point down and kills nothing; `{}` just works. Answers one JSON line
with the child's pid and, when it has ended, another with how.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import server
from settings import Settings

LEASE_SECONDS = 0.6


class KillAtNew:
    """SIGKILL at the first point that has not been a killing point yet."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = set(file.read_text(encoding="utf-8").splitlines()) if file.exists() else set()

    def reached(self, point: str) -> None:
        if point in self._seen:
            return
        with self._file.open("a", encoding="utf-8") as out:
            out.write(point + "\n")
        os.kill(os.getpid(), signal.SIGKILL)


class StopAt:
    """SIGSTOP at a named point, once."""

    def __init__(self, point: str) -> None:
        self._point: str | None = point

    def reached(self, point: str) -> None:
        if point == self._point:
            self._point = None
            os.kill(os.getpid(), signal.SIGSTOP)


class Record:
    """Write each point down."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def reached(self, point: str) -> None:
        with self._file.open("a", encoding="utf-8") as out:
            out.write(point + "\n")


def probe_of(order: dict[str, str]) -> KillAtNew | Record | StopAt | None:
    """The probe an order asks for."""
    if "kill" in order:
        return KillAtNew(Path(order["kill"]))
    if "record" in order:
        return Record(Path(order["record"]))
    if "stop" in order:
        return StopAt(order["stop"])
    return None


async def work(order: dict[str, str]) -> None:
    """One worker until SIGTERM, or until its probe ends it."""
    async with server.open_house(Settings(), base_url="http://fermata.test", host=False) as house:
        worker = await house.worker(4, probe=probe_of(order), lease_seconds=LEASE_SECONDS)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()


def main() -> None:
    """Serve orders until stdin ends."""
    log = os.open(os.environ["FERMATA_CHAOS_LOG"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.dup2(log, 2)
            server.set_up_logging("info")
            asyncio.run(work(order))
            os._exit(0)
        print(json.dumps({"pid": pid}), flush=True)
        if "detach" in order:
            continue
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"ended": pid, "status": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
