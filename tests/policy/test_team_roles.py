"""The section `roles`: which team on the forge gives which role."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.errors import SourceError
from policy.rules import load_policy

SHIPPED = (Path(__file__).parents[2] / "policy.yaml").read_text()


def with_teams(teams: str) -> str:
    return SHIPPED.replace("  teams: {}", f"  teams: {teams}")


def test_members_of_a_team_have_its_roles_whatever_the_case() -> None:
    rules = load_policy(with_teams("{Acme/Release-Managers: [release-manager]}"), "policy.yaml")
    assert rules.team_roles == {"acme/release-managers": ("release-manager",)}
    assert rules.teams == ("acme/release-managers",)


def test_the_mapping_is_part_of_the_digest() -> None:
    other = load_policy(with_teams("{acme/sre: [sre-lead]}"), "policy.yaml")
    assert other.digest != load_policy(SHIPPED, "policy.yaml").digest


@pytest.mark.parametrize(
    "teams", ["{sre: [sre-lead]}", "{acme/sre: []}", "{acme/sre: sre-lead}", "{'acme/../x': [a]}"]
)
def test_what_is_no_team_or_gives_no_role_is_refused_with_its_place(teams: str) -> None:
    with pytest.raises(SourceError) as told:
        load_policy(with_teams(teams), "policy.yaml")
    line = SHIPPED.splitlines().index("  teams: {}") + 1
    assert told.value.problems[0].line == line
