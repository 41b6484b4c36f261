"""How many generated cases each property was held against, for the end of the run."""

from __future__ import annotations

from collections import Counter

CASES: Counter[str] = Counter()


def counted(property: str, cases: int = 1) -> None:
    """Count cases of a property, by its sentence."""
    CASES[property] += cases
