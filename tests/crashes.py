"""Counts of the crash tests: gathered from every process that ran some, told at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

CRASHES = pytest.StashKey["Crashes"]()
KEY = "crashes"
"""Of what a process that runs tests hands to the one that tells of them."""
REPORT = "test-artifacts/crash-points.tsv"


@dataclass
class Crashes:
    """What was tried, and what went wrong."""

    tried: list[tuple[str, str, str]] = field(default_factory=list)
    """What was done, at which point of a run, and how that run ended."""
    lost: int = 0
    doubled: int = 0
    stuck: int = 0

    def __str__(self) -> str:
        return (
            f"points tried {len(self.tried)}, lost {self.lost}, doubled {self.doubled}, "
            f"stuck {self.stuck}"
        )

    def note(self, what: str, point: str, ended: str) -> None:
        """Count a point."""
        self.tried.append((what, point, ended))

    def plain(self) -> dict[str, Any]:
        """In values that can be handed from process to process."""
        tried = [list(one) for one in self.tried]
        return {"tried": tried, "lost": self.lost, "doubled": self.doubled, "stuck": self.stuck}

    def add(self, plain: Mapping[str, Any]) -> None:
        """Take in the counts of another process."""
        self.tried += [(what, point, ended) for what, point, ended in plain["tried"]]
        self.lost += plain["lost"]
        self.doubled += plain["doubled"]
        self.stuck += plain["stuck"]

    def tell(self, terminal: pytest.TerminalReporter, config: pytest.Config) -> None:
        """Say how many points were tried, and what came of it; which ones, in a file, with `-v`."""
        if not (self.tried or self.stuck):
            return
        report = config.rootpath / REPORT
        report.parent.mkdir(parents=True, exist_ok=True)
        lines = ["\t".join(one) for one in self.tried]
        report.write_text("\n".join(["what\tpoint\tended", *lines, ""]), encoding="utf-8")
        terminal.section("crashes and faults")
        if config.get_verbosity() > 0:
            for what, point, ended in self.tried:
                terminal.write_line(f"{what} at {point}: {ended}")
        for what, count in sorted(Counter(what for what, _, _ in self.tried).items()):
            terminal.write_line(f"{count:5} {what}")
        terminal.write_line(f"{self}; each one is named in {REPORT}")
