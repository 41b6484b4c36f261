"""Composition root: settings → store → toolbox → graph → app. Everything is put together here."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial

from domain.clock import Clock, SystemClock
from domain.service import Catalogue
from graph.assembly import Graph, Nodes, assemble
from graph.run import Engine
from graph.worker import Worker
from nodes.approve import Approve
from nodes.ballots import Ballots
from nodes.conductor import Conductor
from nodes.execute import Execute
from nodes.gate import Gate
from nodes.judge import JudgeConfig
from nodes.observe import Observe
from nodes.passage import NoProbe, Probe
from nodes.release import Release
from nodes.report import Report
from nodes.rollback import Rollback
from nodes.wait import Wait
from nodes.watch import Watch
from nodes.wording import Wording
from policy.rules import Rules, load_policy
from settings import Settings
from store.books import Books, open_books
from store.checkpoints import FencedSaver
from store.queue import Hints
from tools.catalogue import load_catalogue
from tools.toolbox import Toolbox
from tools.wiring import open_toolbox
