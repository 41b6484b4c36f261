"""The graph without ports: the same topology, for drawings and for LangGraph's own server.

LangGraph's dev server loads it through `langgraph.json` together with Fermata's checkpointer, so
that threads, states and histories can be looked at there. It cannot advance a run: that takes the
run's lease, which only Fermata's engine holds.
"""

from __future__ import annotations

from domain.clock import SystemClock
from domain.state import State, Update
from graph.assembly import Graph, Nodes, assemble


async def unplugged(state: State) -> Update:
    """Stands where a node would stand; never reached, because `noted` refuses without a lease."""
    raise PermissionError("this graph has no ports")


def blueprint() -> Graph:
    """The compiled topology, without ports and without a checkpointer."""
    nodes = Nodes(
        conductor=unplugged,
        release=unplugged,
        gate=unplugged,
        approve=unplugged,
        wait=unplugged,
        execute=unplugged,
        observe=unplugged,
        rollback=unplugged,
        report=unplugged,
    )
    return assemble(nodes, SystemClock(), checkpointer=None, context=None)
