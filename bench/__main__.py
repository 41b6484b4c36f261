"""`python -m bench` measures everything, `python -m bench judge` that one.

`--full` gives the judge ten times the simulated releases, `--processes` has several processes take
events in.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import platform
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, cast

import structlog
from rich.console import Console
from rich.markup import escape

from bench.figures import Section, missed, show, written
from bench.ground import BenchError, Ground, ground

NAMES = ("events", "engine", "recovery", "waiting", "rollouts", "judge", "policy", "redaction")
Tell = Callable[[str], None]
Measure = Callable[[Ground, Tell], Awaitable[Section]]
Evaluate = Callable[[Tell], Awaitable[Section]]


class Serve(Protocol):
    """The benchmark of events."""

    async def __call__(self, ground: Ground, tell: Tell, *, processes: int) -> Section: ...


class Simulate(Protocol):
    """The judge's benchmark."""

    def __call__(self, tell: Tell, *, full: bool) -> Section: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 whether or not targets are met, 1 when it could not measure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=(*NAMES, []), help="which; all when left out")
    parser.add_argument("--full", action="store_true", help="simulate more (judge)")
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="that many serve (events)"
    )
    parsed = parser.parse_args(arguments)
    chosen: list[str] = parsed.names or list(NAMES)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    out = Console(highlight=False)
    out.print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.machine()}; "
        "PostgreSQL flushes every commit",
        style="dim",
    )
    try:
        sections = [
            asyncio.run(_one(name, out, full=parsed.full, processes=parsed.processes))
            for name in chosen
        ]
    except BenchError as error:
        out.print(f"[red]error:[/red] {escape(str(error))}")
        return 1
    short = missed(sections)
    for one in short:
        assert one.target is not None
        target = f"{one.target.bound} {written(one.target.value, one.unit)}"
        out.print(f"missed: {one.name}: {written(one.value, one.unit)}, wanted {target}")
    if not short:
        out.print("all targets met")
    return 0


async def _one(name: str, out: Console, *, full: bool, processes: int) -> Section:
    """Each benchmark has its own event loop and its own ground, so that none warms another up."""

    def tell(line: str) -> None:
        out.print(f"  {name}: {line}", style="dim")

    module = importlib.import_module(f"bench.{name}")
    if name == "judge":  # pure: it stands on no ground
        section = cast("Simulate", module.measure_judge)(tell, full=full)
    elif name == "policy":  # evaluates in this process, and asks OPA's
        section = await cast("Evaluate", module.measure_policy)(tell)
    elif name == "events":
        async with ground() as place:
            section = await cast("Serve", module.measure)(place, tell, processes=processes)
    else:
        async with ground() as place:
            section = await cast("Measure", module.measure)(place, tell)
    show(section, out)
    out.print(f"  took {section.seconds:.0f} s", style="dim")
    return section


if __name__ == "__main__":
    sys.exit(main())
