"""Metrics of a service's own choice: any PromQL with one number, beside the counted indicators."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from domain.event import Frozen


class FailWhen(Frozen):
    """How many windows of the last ones have to breach before a noisy number counts as bad.

    After `breaches` of the last `of` windows, the next `confirm` windows have to breach as well.
    """

    breaches: int = Field(default=3, ge=1)
    of: int = Field(default=5, ge=1)
    confirm: int = Field(default=0, ge=0)

    @property
    def fewest(self) -> int:
        """Windows without which nothing can be said."""
        return self.breaches + self.confirm


class Metric(Frozen):
    """One number per version and window, as a PromQL template like those of the indicators.

    It breaches in a window when it is worse than `limit`, or worse than stable's by more than
    `tolerance` (a fraction of stable's value). `direction` says what is better.
    """

    name: str
    query: str
    direction: Literal["lower", "higher"] = "lower"
    tolerance: float | None = Field(default=None, ge=0)
    limit: float | None = None
    fail_when: FailWhen = FailWhen()

    def breach_of(self, value: float, stable: float | None) -> str:
        """What a value of the new version is held against and breaks, in words; '' for nothing."""
        sign = 1 if self.direction == "lower" else -1
        beyond = "above" if self.direction == "lower" else "below"
        if self.limit is not None and sign * (value - self.limit) > 0:
            return f"{value:.4g}, {beyond} the limit of {self.limit:g}"
        if self.tolerance is not None and stable is not None:
            most = stable + sign * self.tolerance * abs(stable)
            if sign * (value - most) > 0:
                return (
                    f"{value:.4g} against {stable:.4g} on stable, more than {self.tolerance:.0%} "
                    f"{beyond}"
                )
        return ""

    def can_judge(self, *, compared: bool) -> bool:
        """Whether there is anything to hold it against, with or without a stable beside it."""
        return self.limit is not None or (compared and self.tolerance is not None)
