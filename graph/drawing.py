"""Writes `docs/graph.md`: `python -m graph.drawing > docs/graph.md`."""

from __future__ import annotations

from graph.assembly import Graph
from graph.blueprint import blueprint

TEXT = """\
# The graph

Drawn from the compiled graph; a test fails when it is stale
(`python -m graph.drawing > docs/graph.md` writes it anew).

```mermaid
{mermaid}
```

- **conductor** turns the event into a plan, and speaks for the run (comments, notifications).
- **release** works out the plan's next step on a target.
- **gate** gathers the facts, lets policy decide, and writes the decision down.
- **approve** and **wait** do nothing but interrupt: a sleeping run costs a row.
- **execute** claims the effect in the ledger and acts; it alone holds write ports.
- **observe** looks at the world, judges, and moves on.
- **rollback** lays out the way back to the last known good version.
- **report** settles the outcome; its closing words pass the gate like any step.
"""


def drawing(graph: Graph) -> str:
    """The page: a Mermaid drawing and one line a node."""
    return TEXT.format(mermaid=graph.get_graph().draw_mermaid().strip())


if __name__ == "__main__":
    print(drawing(blueprint()), end="")
