"""The role that the service works as: it may do everything but change what was recorded.

Migrations are the owner's. Where the owner may create roles, the service then connects as
`fermata_service` (embedded server), or puts that role on (a DATABASE_URL of the owner's). Best is a
DATABASE_URL of a login of its own that is a member of `fermata_service`, and the owner's URL for
`fermata db migrate` alone. `docs/audit.md` says how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

import structlog
from psycopg import errors, sql

from store.database import Connection, Database

log = structlog.get_logger("fermata.store")

SERVICE = "fermata_service"
RECORDS = ("audit", "audit_links")
"""Tables that only grow."""

FIND_ROLE = "SELECT FROM pg_roles WHERE rolname = %(role)s"
OWNED = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(%(table)s)"
SCHEMA = "SELECT current_schema()"
STANDING = """
SELECT bool_or(has_table_privilege(current_user, t, 'UPDATE, DELETE, TRUNCATE')
               OR pg_has_role(current_user, c.relowner, 'MEMBER')),
       bool_or(has_table_privilege(session_user, t, 'UPDATE, DELETE, TRUNCATE')
               OR pg_has_role(session_user, c.relowner, 'MEMBER')),
       current_user, session_user
FROM unnest(%(tables)s::text[]) AS t JOIN pg_class c ON c.oid = to_regclass(t)
"""
MAY_PUT_ON = """
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s)
   AND pg_has_role(current_user, %(role)s, 'MEMBER')
"""
# The session user keeps its own rights, so this is a guard against mistakes, not against malice.
GRANTS = (
    "REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC",
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
    "GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
    "GRANT EXECUTE ON FUNCTION {schema}.fermata_audit_link(integer, boolean) TO {role}",
    "REVOKE INSERT, UPDATE, DELETE ON {schema}.audit, {schema}.audit_links,"
    " {schema}.audit_progress, {schema}.fermata_migrations FROM {role}",
    "REVOKE UPDATE, DELETE ON {schema}.policies FROM {role}",
)

Guard = Literal["sealed", "guarded", "open"]


@dataclass(frozen=True)
class Standing:
    """What the connection's role could do to the record.

    `sealed`: nothing, whatever it does. `guarded`: nothing, but its login could take a stronger
    role back. `open`: only the triggers stand against it.
    """

    guard: Guard
    detail: str


async def grant(conn: Connection) -> bool:
    """As the owner: make the service's role if need be, and give it what it needs, no more.

    False where that is not possible; nothing else is lost by it, and `standing` tells.
    """
    try:
        if await (await conn.execute(FIND_ROLE, {"role": SERVICE})).fetchone() is None:
            await _create(conn)
        found = await (await conn.execute(SCHEMA)).fetchone()
        assert found is not None
        names = {"schema": sql.Identifier(found[0]), "role": sql.Identifier(SERVICE)}
        async with conn.transaction():
            for one in GRANTS:
                await conn.execute(sql.SQL(one).format(**names))
    except errors.InsufficientPrivilege as error:
        log.warning(
            f"the role {SERVICE} cannot be made or given its rights by this login, so the service "
            "will work with the owner's; docs/audit.md says how to make it",
            error=error.diag.message_primary,
        )
        return False
    return True


async def _create(conn: Connection) -> None:
    try:
        await conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(SERVICE)))
    except (errors.DuplicateObject, errors.UniqueViolation):
        return  # another database of the server was migrated at the same moment
    try:
        await conn.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(SERVICE)))
    except errors.InvalidGrantOperation:
        return  # a superuser needs no membership, and may put on any role


async def owns(conn: Connection) -> bool:
    """Whether the connection's role owns the schema's tables (True where there are none yet)."""
    row = await (await conn.execute(OWNED, {"table": "fermata_migrations"})).fetchone()
    return row is None or bool(row[0])


async def service_url(owner: Database, *, embedded: bool) -> str:
    """Where the service connects, given a connection of whoever migrated."""
    if (await standing(owner)).guard == "sealed":
        return owner.url
    if not await owner.value(MAY_PUT_ON, {"role": SERVICE}):
        return owner.url
    return with_login(owner.url, SERVICE) if embedded else with_role(owner.url, SERVICE)


async def standing(db: Database) -> Standing:
    """What the role of these very connections could do to the record."""
    row = await db.row(STANDING, {"tables": list(RECORDS)})
    assert row is not None
    could, login_could, role, login = row
    if not could and not login_could:
        return Standing("sealed", f"{role} can add audit rows through its work, and change none")
    if not could:
        return Standing(
            "guarded",
            f"{role} can change no audit row, but its login {login} could; give DATABASE_URL a "
            f"login of its own that is a member of {SERVICE} (docs/audit.md)",
        )
    return Standing(
        "open",
        f"{role} owns the audit rows: only triggers keep it from changing them; run `fermata db "
        f"migrate` as the owner, and give DATABASE_URL a login that is a member of {SERVICE} "
        "(docs/audit.md)",
    )


def with_login(url: str, role: str) -> str:
    """The URL for another login, where the server trusts whoever reaches it."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(role)}:@{host}"))


def with_role(url: str, role: str) -> str:
    """The URL, with a role put on at the beginning of each session."""
    parts = urlsplit(url)
    options = f"options={quote(f'-c role={role}')}"
    query = f"{parts.query}&{options}" if parts.query else options
    return urlunsplit(parts._replace(query=query))
