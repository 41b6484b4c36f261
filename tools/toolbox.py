"""The toolbox: which adapter serves which action, and which of them are simulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tools.ports import ClusterReader, ConfigReader, ForgeReader, MetricsReader, Renderer, WritePort

Mode = Literal["real", "simulated", "dry_run"]


@dataclass(frozen=True)
class Backend:
    """One backend, as the banner, `/readyz` and the pages name it."""

    name: str
    mode: Mode
    detail: str


@dataclass(frozen=True)
class Readers:
    """Everything that may be looked at."""

    cluster: ClusterReader
    metrics: MetricsReader
    forge: ForgeReader
    renderer: Renderer
    config: ConfigReader


@dataclass(frozen=True)
class Toolbox:
    """Readers for the agents, writers (by action kind) for `execute` alone."""

    readers: Readers
    writers: Mapping[str, WritePort]
    backends: tuple[Backend, ...] = field(default=())
