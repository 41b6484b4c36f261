"""The graph as a picture: where each node stands, and which nodes and edges a run has passed.

The coordinates are laid by hand; a test compares nodes and edges with the compiled graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from domain.run import RunState

WIDTH, HEIGHT = 800, 332
BOX_WIDTH, BOX_HEIGHT = 92, 34
START, END = "__start__", "__end__"

PLACES: dict[str, tuple[int, int]] = {
    START: (40, 165),
    "conductor": (140, 165),
    "release": (280, 165),
    "gate": (420, 165),
    "execute": (575, 165),
    "observe": (730, 165),
    "wait": (355, 55),
    "approve": (485, 55),
    "rollback": (650, 285),
    "report": (420, 285),
    END: (250, 285),
}
"""Centre of each node."""

EDGES: dict[tuple[str, str], str] = {
    (START, "conductor"): "M58,165 L91,165",
    ("conductor", "release"): "M186,165 L231,165",
    ("conductor", "gate"): "M160,147 C200,100 350,100 392,145",
    ("conductor", "report"): "M160,183 C210,225 320,250 373,274",
    ("release", "gate"): "M326,165 L371,165",
    ("gate", "execute"): "M466,165 L526,165",
    ("gate", "wait"): "M402,147 L366,75",
    ("wait", "gate"): "M348,73 L386,145",
    ("gate", "approve"): "M438,147 L474,75",
    ("approve", "gate"): "M492,73 L456,145",
    ("gate", "report"): "M413,183 L413,265",
    ("report", "gate"): "M428,267 L428,185",
    ("gate", "rollback"): "M452,183 C480,230 560,255 602,275",
    ("execute", "observe"): "M621,165 L681,165",
    ("observe", "conductor"): "M740,147 C725,-38 150,-38 140,145",
    ("observe", "gate"): "M700,147 C660,100 520,100 466,148",
    ("observe", "release"): "M696,183 C640,246 350,246 294,185",
    ("observe", "report"): "M712,183 C680,236 560,262 469,280",
    ("observe", "rollback"): "M728,183 C720,225 700,250 678,266",
    ("rollback", "report"): "M604,288 L469,288",
    ("rollback", "release"): "M640,303 C560,342 330,342 284,185",
    ("report", END): "M374,285 L274,285",
}
"""How each edge runs, as the `d` of an SVG path."""


@dataclass(frozen=True)
class NodeMark:
    """One node: place, whether the run passed it (how often), whether it stands there now."""

    name: str
    label: str
    x: int
    y: int
    times: int
    current: bool
    terminal: bool


@dataclass(frozen=True)
class EdgeMark:
    """One edge and whether the run took it."""

    source: str
    target: str
    d: str
    passed: bool


@dataclass(frozen=True)
class Picture:
    """The graph with one run's way through it. `words` is the way as text, repeats folded."""

    nodes: tuple[NodeMark, ...]
    edges: tuple[EdgeMark, ...]
    words: tuple[str, ...]


def picture(path: Sequence[str], state: RunState) -> Picture:
    """The topology with the passed nodes and edges lit and the current node marked."""
    way = _way(path, state)
    times = Counter(way)
    taken = set(pairwise(way))
    standing = None if state.is_final or not path else path[-1]
    nodes = tuple(
        NodeMark(
            name=name,
            label={START: "START", END: "END"}.get(name, name),
            x=x,
            y=y,
            times=times[name],
            current=name == standing or (name == END and state.is_final),
            terminal=name in (START, END),
        )
        for name, (x, y) in PLACES.items()
    )
    edges = [EdgeMark(a, b, d, (a, b) in taken) for (a, b), d in EDGES.items()]
    # passed edges are drawn last, over the others
    return Picture(nodes, tuple(sorted(edges, key=lambda edge: edge.passed)), _words(way))


def _way(path: Sequence[str], state: RunState) -> list[str]:
    """START, the nodes passed, END when it is over; a node that was resumed counts once."""
    way = [START] if path else []
    for name in path:
        if way[-1] != name:
            way.append(name)
    if path and state.is_final and way[-1] == "report":
        way.append(END)
    return way


def _words(way: Sequence[str]) -> tuple[str, ...]:
    """The way in words, with `gate → wait` walked 12 times said once."""
    parts: list[str] = []
    index = 0
    while index < len(way):
        pair = tuple(way[index : index + 2])
        count = 1
        while len(pair) == 2 and tuple(way[index + 2 * count : index + 2 * count + 2]) == pair:
            count += 1
        if count > 1:
            parts.append(f"({pair[0]} → {pair[1]}, {count} times)")
            index += 2 * count
        else:
            parts.append({START: "START", END: "END"}.get(way[index], way[index]))
            index += 1
    return tuple(parts)
