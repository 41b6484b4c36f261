"""Who may begin a change by a command: a role on the repository, or on the token that was sent."""

from __future__ import annotations

from policy.finding import Case, Finding, deny

MAY_COMMAND = ("developer", "release-manager", "sre-lead", "admin")
"""Any of these may `/deploy` and `/rollback`; approvals and windows come on top."""


def findings(case: Case) -> tuple[Finding, ...]:
    """Deny what somebody without a role asked for, and what nobody can vouch for."""
    commander = case.facts.commander
    if commander is None:
        return ()
    if commander.roles is None:
        unknown = deny(
            "command.roles_unknown",
            f"It could not be found out what {commander.login} may do on the repository.",
            "Give the command through the API with a token, or make the forge reachable.",
        )
        return (unknown,)
    if set(commander.roles) & set(MAY_COMMAND):
        return ()
    refused = deny(
        "command.role",
        f"{commander.login} may not give this command.",
        f"It takes one of {', '.join(MAY_COMMAND)}: write access to the repository gives "
        "developer.",
    )
    return (refused,)
