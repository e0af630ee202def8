"""Where a caller is known by what its browser or its address carries unasked (ambient authority), pages of other sites
could use it: with their own name resolving to this machine (DNS rebinding), by cross-site posts, by a link or a frame.

A browser says where a request comes from, in Host, Origin and its Fetch metadata, and no page can change that. Programs
send none of it. A key or token says who asks by itself: no page of another site has one, so nothing is checked.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import hdrs
from multidict import istr

from gateway.errors import NotAllowed, UnsupportedMediaType
from gateway.identity.authenticators import LOCAL_USER
from gateway.identity.credentials import Credentials

if TYPE_CHECKING:
    from aiohttp import web

    from gateway.model import Principal
    from gateway.settings import Settings

# What a page of another site can send without being asked first (the Fetch standard's safelisted types); a multipart
# body is never taken for JSON.
_SIMPLE_TYPES = frozenset(("text/plain", "application/x-www-form-urlencoded"))
_DEST, _MODE, _SITE = istr("Sec-Fetch-Dest"), istr("Sec-Fetch-Mode"), istr("Sec-Fetch-Site")
_NETLOC = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::[0-9]*)?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class OriginCheck:
    """The names by which this gateway may be called, and the origins whose pages may call it."""

    def __init__(self, settings: Settings) -> None:
        server = settings.server
        public = urlsplit(server.public_url or "")
        self._names = {*server.allowed_hosts, public.hostname or "localhost"}
        # No page's own name resolves to an address that was written as one. Yet where only this machine may ask,
        # whoever calls by another address came through something that lets others in.
        self._takes_addresses = server.allow_open or "header" in settings.auth.modes
        self._origins = frozenset(settings.page.allowed_origins)
        self._own = _plain_origin(public.scheme, public.netloc) if public.netloc else ""
        self._called = ""  # the Host of the last request that was let in; mostly the next one has the same

    def check(self, request: web.Request) -> None:
        """For a caller whose authority is ambient. Raises NotAllowed."""
        headers = request.headers
        host = headers.get(hdrs.HOST, "")
        self._check_name(host)
        if headers.get(_DEST, "empty") != "empty" or headers.get(_MODE) == "navigate":
            raise NotAllowed("this is for programs and scripts, not to be opened as a page", code="navigation")
        origin, site = headers.get(hdrs.ORIGIN), headers.get(_SITE)
        if origin is not None and len(headers.getall(hdrs.ORIGIN)) > 1:
            # No browser sends two: one of them is somebody else's.
            origin, site = "", "cross-site"
        if origin in self._origins or site == "same-origin":
            return
        if origin is None and site != "none":
            origin = headers.get(hdrs.REFERER)  # of browsers that tell neither
        if site in ("same-site", "cross-site") or (origin is not None and not self._is_own(origin, host)):
            raise NotAllowed(
                "pages of other sites may not use this gateway; GATEWAY_ALLOWED_ORIGINS lets them, and "
                "GATEWAY_PUBLIC_URL is to name this one where a proxy changes Host",
                code="cross_origin",
            )

    def check_host(self, request: web.Request) -> None:
        """Raises NotAllowed where a name was called that somebody else may own."""
        self._check_name(request.headers.get("Host", ""))

    def _check_name(self, host: str) -> None:
        if host and host != self._called:
            if not self._is_ours(name_of(host)):
                raise NotAllowed(
                    "this gateway is not called by that name; GATEWAY_PUBLIC_URL or GATEWAY_ALLOWED_HOSTS can add it",
                    code="misdirected",
                )
            self._called = host

    def _is_ours(self, name: str) -> bool:
        return name in self._names or is_loopback_name(name) or (self._takes_addresses and _is_address(name))

    def _is_own(self, url: str, host: str) -> bool:
        """Whether an Origin or Referer is of this gateway: its public URL, or the Host that is called right now, of
        which nobody says whether it was by https."""
        scheme, _, rest = url.partition("://")
        netloc = rest.partition("/")[0]
        if not netloc or scheme not in _DEFAULT_PORTS:
            return False
        return _plain_origin(scheme, netloc) in (self._own, _plain_origin(scheme, host))


def require_typed(request: web.Request, caller: Principal) -> None:
    """Raises UnsupportedMediaType where a page of another site could have sent this body without being asked first.

    Programs with a key may leave the type out: no browser adds one by itself. What stands in `Authorization` behind a
    proxy that logs browsers in may be the proxy's."""
    if not caller.is_ambient or not request.can_read_body:
        return
    if request.headers.get("Content-Type") and request.content_type not in _SIMPLE_TYPES:
        return
    if caller is LOCAL_USER and Credentials.of(request.raw_headers, None).candidates():
        return
    raise UnsupportedMediaType("the body's type must be said: Content-Type: application/json")


def is_loopback_name(name: str) -> bool:
    """Whether a name that a request is sent to can be nothing but this machine, whoever resolves it."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def name_of(netloc: str) -> str:
    """The host of `host:port` or `[v6]:port`, in lower case; empty where it is neither."""
    found = _NETLOC.fullmatch(netloc)
    return (found[1] or found[2].rstrip(".")).lower() if found is not None else ""


def _plain_origin(scheme: str, netloc: str) -> str:
    """In lower case, and without the port that the scheme implies."""
    return f"{scheme}://{netloc.lower().removesuffix(_DEFAULT_PORTS[scheme])}"
