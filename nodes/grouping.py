"""Groups: which services a change releases, and in which order it passes them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from domain.service import Environment, Service
from domain.strategy import ReleaseGroup


@dataclass(frozen=True)
class Block:
    """Targets that are released one after the other; `together`, they stand and fall as one."""

    targets: tuple[tuple[Service, Environment], ...]
    together: bool

    @property
    def keys(self) -> tuple[str, ...]:
        """`service/environment` of each target."""
        return tuple(f"{service.name}/{place.name}" for service, place in self.targets)


def with_companions(
    touched: Sequence[Service], of_repo: Sequence[Service], groups: Sequence[ReleaseGroup]
) -> tuple[Service, ...]:
    """The touched services, and the rest of each group that is released as a whole."""
    names = {service.name for service in touched}
    for group in groups:
        if group.whole and names & set(group.services):
            names |= set(group.services)
    return tuple(service for service in of_repo if service.name in names)


def blocks(
    services: Sequence[Service], groups: Sequence[ReleaseGroup], only: str | None = None
) -> tuple[Block, ...]:
    """The targets in order: a service alone passes its environments; a group passes each
    environment with all its services, in the group's order, before the next one.

    `only` names the one environment that is released to.
    """
    return tuple(block for block in _blocks(services, groups, only) if block.targets)


def _blocks(
    services: Sequence[Service], groups: Sequence[ReleaseGroup], only: str | None
) -> Iterator[Block]:
    placed: set[str] = set()
    by_name = {service.name: service for service in services}
    for service in services:
        if service.name in placed:
            continue
        group = next((one for one in groups if service.name in one.services), None)
        members = [by_name[name] for name in group.services if name in by_name] if group else []
        if group is None or len(members) < 2:
            placed.add(service.name)
            yield from (
                Block(((service, place),), together=False)
                for place in service.environments
                if only in (None, place.name)
            )
            continue
        placed |= {one.name for one in members}
        for name in _environments(members):
            if only in (None, name):
                targets = tuple(
                    (one, place) for one in members if (place := one.environment(name)) is not None
                )
                yield Block(targets, group.together and len(targets) > 1)


def _environments(members: Sequence[Service]) -> list[str]:
    """Names of environments so that each member passes its own ones in its own order.

    The catalogue refuses groups whose members disagree about the order.
    """
    names: list[str] = []
    for member in members:
        at = 0
        for place in member.environments:
            if place.name in names:
                at = names.index(place.name) + 1
            else:
                names.insert(at, place.name)
                at += 1
    return names
