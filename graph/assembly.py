"""The whole topology, on one screen. Nothing else adds a node or an edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from domain.clock import Clock
from domain.state import State
from graph import routes
from graph.noted import Node, at_once, noted
from nodes.passage import Passage

Graph = CompiledStateGraph[State, Passage, State, State]


@dataclass(frozen=True)
class Nodes:
    """One instance of each node, holding its ports (`server.py` puts them together)."""

    conductor: Node
    release: Node
    gate: Node
    approve: Node
    wait: Node
    execute: Node
    observe: Node
    rollback: Node
    report: Node


def assemble(
    nodes: Nodes,
    clock: Clock,
    checkpointer: BaseCheckpointSaver[Any] | None,
    context: type[Passage] | None = Passage,
) -> Graph:
    """Compile the graph. Read it top to bottom against the drawing in `docs/graph.md`.

    `context` is what travels beside the state; None for a graph that nobody can advance.
    """
    graph = StateGraph(State, context_schema=context)

    graph.add_node("conductor", noted("conductor", nodes.conductor, clock))
    graph.add_node("release", noted("release", nodes.release, clock))
    graph.add_node("gate", noted("gate", nodes.gate, clock))
    graph.add_node("approve", noted("approve", nodes.approve, clock))
    graph.add_node("wait", noted("wait", nodes.wait, clock))
    graph.add_node("execute", noted("execute", nodes.execute, clock))
    graph.add_node("observe", noted("observe", nodes.observe, clock))
    graph.add_node("rollback", noted("rollback", nodes.rollback, clock))
    graph.add_node("report", noted("report", nodes.report, clock))

    graph.add_edge(START, "conductor")
    graph.add_conditional_edges("conductor", at_once(routes.after_conductor))
    graph.add_edge("release", "gate")
    graph.add_conditional_edges("gate", at_once(routes.after_gate))
    graph.add_edge("wait", "gate")
    graph.add_edge("approve", "gate")
    graph.add_edge("execute", "observe")
    graph.add_conditional_edges("observe", at_once(routes.after_observe))
    graph.add_conditional_edges("rollback", at_once(routes.after_rollback))
    graph.add_conditional_edges("report", at_once(routes.after_report))

    return graph.compile(checkpointer=checkpointer, name="fermata")
