"""Against web pages that reach for a gateway which takes everybody on this machine for its one user, or whose proxy
logs in whoever's browser it knows.

A page of another site may send requests to a loopback address, with its own name resolving there (DNS rebinding) or as
simple cross-site posts. Its browser says so, in Host and in Origin; programs have no reason to lie to themselves.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.errors import NotAllowed

if TYPE_CHECKING:
    from aiohttp import web

    from gateway.settings import Settings


class Guard:
    """Knows by which names this gateway may be called. In `open` mode on a loopback address that is loopback names
    alone; elsewhere a caller needs a credential, which no page of another site has."""

    def __init__(self, settings: Settings) -> None:
        self._is_on = "open" in settings.auth.modes and not settings.server.allow_open
        public = urlsplit(settings.server.public_url or "")
        self._public = public.hostname
        self._own = f"{public.scheme}://{public.netloc}".lower() if public.netloc else ""
        self._origins = frozenset(settings.page.allowed_origins)
        self._called = ""  # the Host of the last request that was let in; mostly the next one has the same

    def check(self, request: web.Request) -> None:
        """Raises NotAllowed."""
        if not self._is_on:
            return
        host = request.headers.get("Host", "")
        if host and host != self._called:
            if not self._is_ours(name_of(host)):
                raise NotAllowed("this gateway is not called by that name", code="misdirected")
            self._called = host
        origin = request.headers.get("Origin")
        if (
            origin is not None
            and origin not in self._origins
            and not self._is_ours(name_of(origin.partition("://")[2]))
        ):
            raise NotAllowed("pages of other sites may not use this gateway", code="cross_origin")

    def check_page(self, request: web.Request) -> None:
        """For what makes or takes a credential: of pages, only ours and those that the settings name may ask, however
        well the proxy in front knows their reader. Raises NotAllowed."""
        origin = request.headers.get("Origin")
        if origin is None or origin in self._origins:  # a program, or a page that is named
            return
        ours = self._own or f"{origin.partition('://')[0]}://{request.headers.get('Host', '')}"
        if origin.lower() != ours.lower():
            raise NotAllowed("pages of other sites may not make or revoke keys", code="cross_origin")

    def _is_ours(self, name: str) -> bool:
        return name == self._public or is_loopback_name(name)


def is_loopback_name(name: str) -> bool:
    """Whether a name that a request is sent to can be nothing but this machine, whoever resolves it."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def name_of(netloc: str) -> str:
    """The host of `host:port` or `[v6]:port`, in lower case."""
    if netloc.startswith("["):
        return netloc[1:].partition("]")[0].lower()
    return netloc.partition(":")[0].rstrip(".").lower()
