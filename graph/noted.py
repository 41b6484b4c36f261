"""Wraps each node so that the run's path is kept and crash tests can stop at its borders."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from domain.clock import Clock
from domain.state import State, Update
from nodes.passage import Passage, PassageRuntime

Node = Callable[..., Awaitable[Update]]
"""A node takes the state, and the runtime where it needs the lease."""


class NoLease(RuntimeError):
    """The graph was entered without a lease. LangGraph's own server hands the sentence of a
    RuntimeError on to its caller, and hides that of most others."""


class Noted(Protocol):
    """A node as LangGraph calls it."""

    async def __call__(self, state: State, *, runtime: PassageRuntime) -> Update: ...


def noted(name: str, node: Node, clock: Clock) -> Noted:
    """The node, with its entry noted on the passage and probe points before and after it."""
    wants_runtime = len(inspect.signature(node).parameters) > 1

    async def step(state: State, *, runtime: PassageRuntime) -> Update:
        passage = _passage(runtime.context)
        where = f"{state['mode']}.{state['cursor']}"
        passage.probe.reached(f"node:{name}:before@{where}")
        passage.path.append((name, clock.now()))
        update = await (node(state, runtime) if wants_runtime else node(state))
        passage.probe.reached(f"node:{name}:after@{where}")
        return update

    step.__name__ = name
    return step


Route = TypeVar("Route", bound=str)


def at_once(route: Callable[[State], Route]) -> Callable[[State], Awaitable[Route]]:
    """A route as the graph is to call it: where it stands. LangGraph gives what is not async to a
    thread, and at each superstep that cost more than the route."""

    @functools.wraps(route)
    async def routed(state: State) -> Route:
        return route(state)

    return routed


def _passage(context: Any) -> Passage:
    if not isinstance(context, Passage):
        raise NoLease(
            "this graph is advanced by Fermata's own engine, which holds the run's lease; "
            "send an event instead: POST /event, or `fermata event send`"
        )
    return context
