"""Advance one run: take its lease, enter the graph where it stopped, put it to sleep or end it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import structlog
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Command

from domain.clock import Clock
from domain.errors import AdapterError, LeaseLost, Temporary
from domain.run import RunState
from domain.state import initial
from graph.assembly import Graph
from nodes.passage import NoProbe, Passage, Probe
from store.checkpoints import FencedSaver
from store.leases import Leases
from store.records import Lease
from store.runs import Runs

log = structlog.get_logger("fermata.engine")

SUPERSTEP_LIMIT = 2_000
"""Supersteps in one passage. A plan of 60 steps takes about 400."""
LONGEST_NAP_SECONDS = 60.0
MARK_CHARACTERS = 300
INTERRUPT = "__interrupt__"
"""LangGraph's name for what a waiting node told: among a checkpoint's writes, a graph's values."""


@dataclass(frozen=True)
class Sleep:
    """How a passage ended: final, or asleep until `due_at` or a signal."""

    state: RunState
    reason: str
    step_id: str | None = None
    due_at: datetime | None = None
    seen_seq: int = 0
    after_failure: bool = False
    """Unread news does not cut the pause short: the same failure would only come sooner."""


@dataclass(frozen=True)
class Passed:
    """What `advance` reports: whether the run has to be looked at again at once, and its timer."""

    run_id: UUID
    state: RunState
    again: bool
    due_at: datetime | None


@dataclass
class Engine:
    """Advances runs on behalf of one worker."""

    graph: Graph
    leases: Leases
    runs: Runs
    clock: Clock
    worker_id: UUID
    probe: Probe = field(default_factory=NoProbe)
    controls: dict[UUID, RunControl] = field(default_factory=dict)
    orphans: dict[UUID, tuple[Passage, Sleep]] = field(default_factory=dict)
    """Passages whose leases could not be given back when they broke off."""

    async def advance(self, run_id: UUID) -> Passed | None:
        """Advance a run as far as it goes. None when it is not due or somebody else has it."""
        lease = await self.leases.take(run_id, self.worker_id, self.clock.now())
        if lease is None:
            return None
        passage = Passage(lease=lease, probe=self.probe)
        control = self.controls[run_id] = RunControl()
        settled = False
        try:
            sleep = await self._pass(lease, passage, control)
            passed = await self._put_down(passage, sleep)
            settled = True
            return passed
        except LeaseLost:
            log.warning("lease lost, nothing more is written", run=str(run_id), fence=lease.fence)
            settled = True
            return None
        except psycopg.Error as error:
            log.warning("database did not answer", run=str(run_id), error=_brief(error))
            self._orphan(passage, "database lost", "the database did not answer")
            settled = True
            return None
        finally:
            self.controls.pop(run_id, None)
            if not settled:
                # Whatever it was: under the lease of a worker that lives on, nobody else could
                # ever take the run up.
                self._orphan(passage, "broken off", "internal error; trying again")

    def drain(self) -> None:
        """Ask every passage to stop at its next superstep; each is resumed later from there."""
        for control in list(self.controls.values()):
            control.request_drain("shutdown")

    async def give_back_orphans(self) -> None:
        """Give back leases that could not be given back when their passage broke off."""
        for run_id in list(self.orphans):
            passage, sleep = self.orphans.pop(run_id)
            try:
                await self._put_down(passage, sleep)
            except LeaseLost:
                log.info("another worker has taken the run over", run=str(run_id))
            except psycopg.Error:
                self.orphans[run_id] = (passage, sleep)
                raise

    def _orphan(self, passage: Passage, mark: str, reason: str) -> None:
        """Keep a passage that broke off, to give its lease back; its path says so with a mark."""
        passage.path.append((mark, self.clock.now()))
        self.orphans[passage.lease.run_id] = (passage, self._nap(passage.lease, reason))

    async def _pass(self, lease: Lease, passage: Passage, control: RunControl) -> Sleep:
        config: Any = {
            "configurable": {
                "thread_id": str(lease.thread_id),
                "run_id": str(lease.run_id),
                "fence": lease.fence,
            },
            "recursion_limit": SUPERSTEP_LIMIT,
        }
        try:
            values = await self.graph.ainvoke(
                await self._input(lease, config),
                config,
                context=passage,
                durability="sync",
                control=control,
            )
        except GraphDrained:
            return Sleep(
                state=RunState.RUNNING, reason="handed over by a worker that is shutting down"
            )
        except AdapterError as error:
            after = error.retry_after if isinstance(error, Temporary) else None
            self._mark(passage, str(error))
            return self._nap(lease, str(error), after)
        except (LeaseLost, psycopg.Error):
            raise
        except Exception as error:
            log.exception("passage broke off", run=str(lease.run_id))
            reason = f"internal error: {_brief(error)}; trying again"
            self._mark(passage, reason)
            return self._nap(lease, reason)
        finally:
            self._saver.forget(config)
        return _sleep(values)

    def _mark(self, passage: Passage, reason: str) -> None:
        """Keep on the path what broke this passage off: the run's reason is soon another one."""
        passage.path.append((f"paused: {reason[:MARK_CHARACTERS]}", self.clock.now()))

    async def _input(self, lease: Lease, config: Any) -> Any:
        """Fresh state, a resume of the pending interrupt, or None to go on after a crash."""
        fresh = initial(lease.run_id, lease.event, lease.goal)
        if lease.fence == 1:
            return fresh
        found = await self._saver.ahead(config)
        if found is None or found.checkpoint["channel_values"].get("run_id") != str(lease.run_id):
            return fresh
        asked = [
            one for _, channel, told in found.pending_writes or () if channel == INTERRUPT
            for one in told
        ]  # fmt: skip
        return Command(resume={one.id: "look again" for one in asked}) if asked else None

    @property
    def _saver(self) -> FencedSaver:
        saver = self.graph.checkpointer
        assert isinstance(saver, FencedSaver), "the engine's graph is checkpointed under its leases"
        return saver

    def _nap(self, lease: Lease, reason: str, seconds: float | None = None) -> Sleep:
        """Sleep after a failure: doubling with the number of times the run was taken up."""
        pause = seconds if seconds is not None else float(2 ** min(lease.fence - 1, 6))
        pause = min(pause, LONGEST_NAP_SECONDS)
        return Sleep(
            state=RunState.WAITING,
            reason=reason,
            due_at=self.clock.now() + timedelta(seconds=pause * self.clock.speed),
            seen_seq=lease.waiting_seq,
            after_failure=True,
        )

    async def _put_down(self, passage: Passage, sleep: Sleep) -> Passed:
        lease = passage.lease
        passage.probe.reached("engine:before_release")
        again = await self.leases.release(
            lease,
            state=sleep.state,
            reason=sleep.reason,
            step_id=sleep.step_id,
            due_at=sleep.due_at,
            seen_seq=sleep.seen_seq,
            path=_path(passage),
        )
        passage.probe.reached("engine:after_release")
        log.info(
            "run put down",
            run=str(lease.run_id),
            state=sleep.state.value,
            step=sleep.step_id,
            reason=sleep.reason,
        )
        return Passed(
            run_id=lease.run_id,
            state=sleep.state,
            again=again and not sleep.after_failure,
            due_at=sleep.due_at,
        )


def _sleep(values: dict[str, Any]) -> Sleep:
    """Read how the passage ended from the graph's values."""
    interrupts = values.get(INTERRUPT) or ()
    proposal = values.get("proposal")
    step_id = proposal.step.id if proposal is not None else None
    seen = int(values.get("seen_seq") or 0)
    if interrupts:
        told = interrupts[0].value
        waiting = RunState.NEEDS_APPROVAL if told["kind"] == "approval" else RunState.WAITING
        until = datetime.fromisoformat(told["until"]) if told.get("until") else None
        return Sleep(
            state=waiting, reason=told["reason"], step_id=step_id, due_at=until, seen_seq=seen
        )
    outcome = values["outcome"]
    return Sleep(state=outcome.state, reason=outcome.reason, step_id=step_id, seen_seq=seen)


def _path(passage: Passage) -> list[tuple[str, datetime]]:
    """Nodes passed; a node that was entered again after its interrupt counts once."""
    path: list[tuple[str, datetime]] = []
    for name, at in passage.path:
        if not path or path[-1][0] != name:
            path.append((name, at))
    return path


def _brief(error: BaseException) -> str:
    """Class and first line of an error, bounded: the rest belongs in the log."""
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0][:300]}" if first else type(error).__name__
