"""CODEOWNERS by GitHub's rules, and the votes of those it names."""

from __future__ import annotations

import pytest

from domain.decision import Outcome
from domain.evidence import OwnedPath
from policy.codeowners import owned_paths
from policy.evaluate import evaluate
from tests.policy.making import WEDNESDAY, facts, policy_with, request, vote

FILE = """\
# Everything, unless a later line says otherwise.
*                 @acme/everyone
*.js              @jo   # a comment at the end
/build/logs/      @doctocat
docs/*            docs@example.com
apps/             @octocat
/docs/            @doctocat @acme/writers
**/logs           @logger
/apps/github
bad[line]         @nobody
!not              @nobody
"""


@pytest.mark.parametrize(
    ("path", "owners"),
    [
        ("README", ("@acme/everyone",)),
        ("web/app.js", ("@jo",)),
        ("build/logs/2026/a.txt", ("@logger",)),
        ("lib/apps/x.py", ("@octocat",)),
        ("docs/getting-started.md", ("@doctocat", "@acme/writers")),
        ("docs/deep/down.md", ("@doctocat", "@acme/writers")),
        ("deep/logs/x", ("@logger",)),
        ("apps/github", ()),
        ("apps/github/x.py", ()),
        ("APPS/x.py", ("@acme/everyone",)),
    ],
)
def test_the_last_pattern_that_fits_counts(path: str, owners: tuple[str, ...]) -> None:
    assert owned_paths(FILE, (path,)) == (OwnedPath(path=path, owners=owners),)


def test_a_single_star_names_the_files_of_a_folder_only() -> None:
    text = "docs/* @a\n"
    assert owned_paths(text, ("docs/a.md", "docs/b/c.md")) == (
        OwnedPath(path="docs/a.md", owners=("@a",)),
        OwnedPath(path="docs/b/c.md", owners=()),
    )


OWNERS = policy_with(
    (
        "{environments: [prod], count: 1, roles: [release-manager]}",
        "{environments: [prod], count: 1, roles: [release-manager], code_owners: true}",
    )
)
OWNED = (
    OwnedPath(path="pay/a.py", owners=("@pat", "@acme/pay")),
    OwnedPath(path="shop/b.py", owners=("@sue",)),
    OwnedPath(path="notes.md", owners=()),
)
RITA = vote("rita", "release-manager")


def test_each_owned_path_needs_one_of_its_owners() -> None:
    alone = evaluate(OWNERS, facts(owned=OWNED, approval=request(RITA)), WEDNESDAY)
    assert alone.outcome is Outcome.NEEDS_APPROVAL
    assert alone.requirement is not None
    assert alone.requirement.owners == (("@pat", "@acme/pay"), ("@sue",))
    remedy = next(one.remedy for one in alone.rules if one.rule == "approval.incomplete")
    assert "@pat or @acme/pay" in remedy
    assert "@sue" in remedy
    votes = (RITA, vote("Sue"), vote("tim", teams=("ACME/pay",)))
    assert evaluate(OWNERS, facts(owned=OWNED, approval=request(*votes)), WEDNESDAY).outcome is (
        Outcome.ALLOW
    )


def test_owners_that_are_not_known_ask_or_deny_and_never_pass() -> None:
    unknown = facts(owned=None, owned_unknown="CODEOWNERS could not be read")
    decision = evaluate(OWNERS, unknown, WEDNESDAY)
    assert "approval.owners_unknown" in decision.deciding_rules
    assert "CODEOWNERS could not be read" in decision.reason


def test_an_owner_who_made_the_change_does_not_count() -> None:
    own = (OwnedPath(path="a", owners=("@ann",)),)
    votes = (RITA, vote("ann"))
    known = facts(owned=own, author="ann", approval=request(*votes))
    assert evaluate(OWNERS, known, WEDNESDAY).outcome is Outcome.NEEDS_APPROVAL


def test_a_member_of_a_named_team_may_approve_without_a_role() -> None:
    rules = policy_with(
        (
            "{environments: [prod], count: 1, roles: [release-manager]}",
            "{environments: [prod], count: 1, teams: [acme/release]}",
        )
    )
    assert "acme/release" in rules.teams
    member = request(vote("tim", teams=("acme/release",)))
    assert evaluate(rules, facts(approval=member), WEDNESDAY).outcome is Outcome.ALLOW
    # A membership that could not be looked up is none.
    stranger = request(vote("tim"))
    assert evaluate(rules, facts(approval=stranger), WEDNESDAY).outcome is Outcome.NEEDS_APPROVAL
