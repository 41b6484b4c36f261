"""A crew of processes: all up or none, replaced when one dies, gone when it is over."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import signal
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from web import crew
from web.crew import Berth, Crew, NoCrew, stops_with_parent


def leave(folder: str, word: str) -> None:
    """Write down how far this process has come."""
    Path(folder, str(os.getpid())).write_text(word)


def serve(folder: str, berth: Berth) -> None:
    """Work that does nothing but be there, under its pid, until it is told to stop."""

    async def serving() -> None:
        stopping = asyncio.Event()
        stops_with_parent(stopping.set)
        leave(folder, str(berth.number))
        berth.is_serving()
        await stopping.wait()

    asyncio.run(serving())
    leave(folder, "ended")


def fail(_folder: str, berth: Berth) -> None:
    """Work of which the second process does not come up."""
    if berth.number == 2:
        raise SystemExit(3)
    berth.is_serving()
    signal.pause()


def never_end(folder: str, berth: Berth) -> None:
    """Work that does not hear."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    leave(folder, "here")
    berth.is_serving()
    while True:
        signal.pause()


def look_after(folder: str) -> None:
    """A process that has a crew."""

    async def looking() -> None:
        async with Crew(serve, (folder,), 2).serving():
            await asyncio.Event().wait()

    asyncio.run(looking())


def seen(folder: Path) -> dict[int, str]:
    """What the processes have left, by pid."""
    return {int(one.name): one.read_text() for one in folder.iterdir()}


def alive(folder: Path) -> list[int]:
    """Those of them that are still there."""
    return [pid for pid in seen(folder) if psutil.pid_exists(pid)]


async def until(true: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(30):
        while True:
            if true():
                return
            await asyncio.sleep(0.02)


async def test_one_that_dies_is_replaced_and_all_end_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(crew, "FIRST_PAUSE", 0.05)
    async with asyncio.timeout(60), Crew(serve, (str(tmp_path),), 2).serving():
        first = seen(tmp_path)
        assert sorted(first.values()) == ["1", "2"]
        victim = next(pid for pid, number in first.items() if number == "2")
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(seen(tmp_path)) == 3)
        # a second death of the same place waits longer
        (third,) = set(seen(tmp_path)) - set(first)
        os.kill(third, signal.SIGKILL)
        await until(lambda: len(seen(tmp_path)) == 4 and len(alive(tmp_path)) == 2)
    assert alive(tmp_path) == []
    assert sum(one == "ended" for one in seen(tmp_path).values()) == 2
    told = re.findall(r"exit=(\S+).*in_seconds=(\S+).*process=(\d)", capfd.readouterr().out)
    assert told == [("-9", "0.05", "2"), ("-9", "0.1", "2")]


async def test_one_that_cannot_be_started_again_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "FIRST_PAUSE", 0.01)
    start, tries = SpawnProcess.start, 0

    def refused_once(self: SpawnProcess) -> None:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise BlockingIOError("Resource temporarily unavailable")
        start(self)

    monkeypatch.setattr(SpawnProcess, "start", refused_once)
    async with asyncio.timeout(60), Crew(serve, (str(tmp_path),), 1).serving():
        (first,) = seen(tmp_path)
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(seen(tmp_path)) == 2)
    assert tries == 3


async def test_a_machine_that_starts_no_process_ends_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_self: SpawnProcess) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(SpawnProcess, "start", refused)
    with pytest.raises(NoCrew, match="process 1"):
        async with asyncio.timeout(60), Crew(serve, ("",), 1).serving():
            raise AssertionError("unreachable")


async def test_the_end_does_not_wait_for_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(crew, "FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(crew, "LONGEST_PAUSE", 3600.0)
    told = ""
    async with asyncio.timeout(60), Crew(serve, (str(tmp_path),), 1).serving():
        (first,) = seen(tmp_path)
        os.kill(first, signal.SIGKILL)
        while "started again" not in told:
            told += capfd.readouterr().out
            await asyncio.sleep(0.02)
    assert "were killed" not in told + capfd.readouterr().out


async def test_nobody_holds_a_lock_on_how_many_serve(tmp_path: Path) -> None:
    """One that is killed while it reads the number would keep the lock for good."""
    told: list[Berth] = []

    class Looked(Crew):
        async def _one(self, number: int, began: asyncio.Future[None]) -> int | None:
            told.append(Berth(number, self.size, self._up, None))  # type: ignore[arg-type]
            return await super()._one(number, began)

    async with asyncio.timeout(60), Looked(serve, (str(tmp_path),), 1).serving():
        assert not hasattr(told[0].up, "get_lock")
        assert told[0].warnings() == ()
        (first,) = seen(tmp_path)
        os.kill(first, signal.SIGKILL)
        await until(lambda: told[0].warnings() != ())


def command(process: psutil.Process) -> str:
    """What a process was begun with; '' when it has ended by now."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


async def test_without_all_of_them_none_serves(tmp_path: Path) -> None:
    began = psutil.Process().children()
    with pytest.raises(NoCrew, match="process 2"):
        async with asyncio.timeout(60), Crew(fail, (str(tmp_path),), 2).serving():
            raise AssertionError("unreachable")
    left = [one for one in psutil.Process().children() if one not in began]
    assert [one for one in left if "spawn_main" in command(one)] == []


async def test_one_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "STOP_SECONDS", 0.3)
    async with asyncio.timeout(60), Crew(never_end, (str(tmp_path),), 1).serving():
        assert len(alive(tmp_path)) == 1
    assert alive(tmp_path) == []


async def test_none_outlives_the_one_that_looks_after_them(tmp_path: Path) -> None:
    parent = multiprocessing.get_context("spawn").Process(
        target=look_after, args=(str(tmp_path),), daemon=False
    )
    parent.start()
    await until(lambda: len(seen(tmp_path)) == 2)
    parent.kill()
    parent.join()
    await until(lambda: alive(tmp_path) == [])
