"""What a step would write to a cluster, as objects that rules can be held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rendered:
    """One object as it would be after the step."""

    object: Mapping[str, Any]
    existed: bool
    """Whether what it is made of was there before, so that only its image is this change's."""
    is_whole: bool = True
    """False: only the image that it would run is known, not the rest of it."""
