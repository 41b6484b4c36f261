"""The same steps as a DBOS workflow, in a process of its own (DBOS is one a process)."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.ground import BenchError, Ground, Program
from domain.state import Update
from graph.serde import checkpointed_types
from store.checkpoints import strict_serde

ANSWER_SECONDS = 60.0


@dataclass
class Twin:
    """The child process: told how many runs to do, it answers how many a second it did."""

    program: Program

    @classmethod
    async def start(cls, ground: Ground, url: str, updates: Sequence[tuple[str, Update]]) -> Twin:
        """Start the child and wait until it is ready."""
        kind, blob = strict_serde(checkpointed_types()).dumps_typed(list(updates))
        path = ground.folder / f"updates.{kind}"
        path.write_bytes(blob)
        program = await ground.program("dbos", "bench.dbos_twin", url, str(path), talk=True)
        twin = cls(program)
        await twin._answer()
        return twin

    async def runs(self, count: int, concurrency: int) -> float:
        """Do so many workflows, so many at a time; how many a second."""
        stdin = self.program.process.stdin
        assert stdin is not None
        stdin.write(json.dumps([count, concurrency]).encode() + b"\n")
        await stdin.drain()
        return float(await self._answer())

    async def _answer(self) -> str:
        stdout = self.program.process.stdout
        assert stdout is not None
        async with asyncio.timeout(ANSWER_SECONDS):
            while line := await stdout.readline():
                # DBOS may print, too.
                if line.startswith(b"answer: "):
                    return line.decode().removeprefix("answer: ").strip()
        raise BenchError(f"DBOS gave up:\n{self.program.log.read_text(errors='replace')[-2000:]}")


def main(url: str, path: Path) -> None:
    """The child: DBOS with the recorded updates, driven by lines of JSON on stdin."""
    from dbos import DBOS

    kind = path.suffix.removeprefix(".")
    loaded = strict_serde(checkpointed_types()).loads_typed((kind, path.read_bytes()))
    updates: list[tuple[str, Any]] = [(name, update) for name, update in loaded]

    DBOS(
        config={
            "name": "bench",
            "system_database_url": url,
            "sys_db_pool_size": 20,
            "log_level": "ERROR",
        }
    )

    @DBOS.step()
    async def step(index: int) -> Any:
        return updates[index][1]

    @DBOS.workflow()
    async def run(goal: str) -> None:
        for index in range(len(updates)):
            await step(index)

    async def runs(count: int, concurrency: int) -> float:
        left = iter(range(count))

        async def some() -> None:
            for _ in left:
                await run("notify")

        began = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(concurrency)))
        return count / (time.perf_counter() - began)

    async def talk() -> None:
        print("answer: ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            count, concurrency = json.loads(line)
            print(f"answer: {await runs(count, concurrency)}", flush=True)

    DBOS.launch()
    try:
        asyncio.run(talk())
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
