"""Groups in services.yaml: what their values have to mean together."""

from __future__ import annotations

from collections.abc import Iterator

from domain.errors import SourceProblem
from domain.yaml_source import Located, Path
from tools.catalogue_file import CatalogueShape, ServiceShape


def group_problems(shape: CatalogueShape, located: Located) -> Iterator[SourceProblem]:
    """Groups of services that exist, are of one repository, and pass places in one order."""
    by_name = {one.name: one for one in shape.services}
    names: set[str] = set()
    placed: dict[str, str] = {}
    for index, group in enumerate(shape.groups):
        path: Path = ("groups", index)
        if group.name in names:
            yield located.problem(
                (*path, "name"), f"a second group called {group.name!r}", "rename one of them"
            )
        names.add(group.name)
        members: list[ServiceShape] = []
        for n, name in enumerate(group.services):
            here: Path = (*path, "services", n)
            service = by_name.get(name)
            if service is None:
                known = ", ".join(by_name)
                yield located.problem(here, f"there is no service {name!r}", f"there are {known}")
            elif name in placed:
                yield located.problem(
                    here, f"{name} is in group {placed[name]} already", "a service has one group"
                )
            else:
                members.append(service)
            placed.setdefault(name, group.name)
        for service in members[1:]:
            if service.repo.lower() != members[0].repo.lower():
                yield located.problem(
                    (*path, "services"),
                    f"{service.name} is released by {service.repo}, {members[0].name} by "
                    f"{members[0].repo}",
                    "one change releases a group, so its services are of one repository",
                )
            if not _same_order(service, members[0]):
                yield located.problem(
                    (*path, "services"),
                    f"{service.name} goes through them in another order than {members[0].name}",
                    "let the environments of a group's services come in one order",
                )


def _same_order(one: ServiceShape, other: ServiceShape) -> bool:
    ours = [place.name for place in one.environments]
    theirs = [place.name for place in other.environments]
    return [name for name in ours if name in theirs] == [name for name in theirs if name in ours]
