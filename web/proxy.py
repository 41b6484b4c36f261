"""A proxy that signs people in before us and tells who they are in a header. Off by default.

Whoever can send that header to us from an address that is listed can be anybody. So it counts only
from proxies that are named one by one, that throw away what a client sends under that name, and
that no client can go around.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from fastapi import Request

from domain.errors import SourceError, SourceProblem
from web.problems import Problem
from web.tokens import Principal

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


@dataclass(frozen=True)
class TrustedProxy:
    """The header with the name, the one with the roles ('' for none), and who may send them."""

    header: str
    networks: tuple[IPv4Network | IPv6Network, ...]
    roles_header: str = ""
    default_roles: tuple[str, ...] = ("viewer",)
    """Roles of people for whom the proxy names none."""

    @classmethod
    def of(cls, header: str, addresses: tuple[str, ...], roles_header: str = "") -> TrustedProxy:
        """From settings. Raises SourceError for an address that is none, or for none at all."""
        if not addresses:
            raise _unusable("no proxy is named", "give its address, such as 10.0.0.5")
        try:
            networks = tuple(ip_network(one, strict=False) for one in addresses)
        except ValueError as error:
            raise _unusable(str(error), "give addresses, such as 10.0.0.5, no names") from None
        if any(one.prefixlen == 0 for one in networks):
            raise _unusable("a proxy with any address is no proxy", "name its own address")
        return cls(header.lower(), networks, roles_header.lower())

    def principal(self, request: Request) -> Principal | None:
        """Whom the proxy vouches for; None without the header.

        A 401 when the header came from elsewhere, came twice, or holds no name.
        """
        names = request.headers.getlist(self.header)
        if not names:
            return None
        if not self._is_listed(request):
            raise Problem(
                401,
                f"The header {self.header} came from an address that is no trusted proxy.",
                "Go through the proxy, or send a token.",
            )
        if len(names) != 1 or not _NAME.fullmatch(names[0].strip()):
            raise Problem(
                401,
                f"The header {self.header} does not hold one name.",
                "The proxy has to replace what the client sent, and not to add to it.",
            )
        return Principal(names[0].strip(), self._roles(request))

    def _roles(self, request: Request) -> tuple[str, ...]:
        if not self.roles_header:
            return self.default_roles
        told = ",".join(request.headers.getlist(self.roles_header))
        roles = tuple(dict.fromkeys(one.strip() for one in told.split(",") if one.strip()))
        return roles or self.default_roles

    def _is_listed(self, request: Request) -> bool:
        if request.client is None:
            return False
        try:
            peer = ip_address(request.client.host)
        except ValueError:
            return False
        mapped = getattr(peer, "ipv4_mapped", None)
        return any((mapped or peer) in network for network in self.networks)


def _unusable(what: str, hint: str) -> SourceError:
    return SourceError((SourceProblem("FERMATA_TRUSTED_PROXIES", 1, 1, what, hint),))
