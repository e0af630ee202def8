"""Origin check for callers with ambient authority, which a browser sends or an address has without the user's action.

Pages of other sites could use such authority by DNS rebinding, cross-site posts, a link or a frame. A browser names the
origin of a request in Host, Origin and its Fetch metadata, which no page can change; programs send none of them. A
request with a key or token needs no check: no page of another site has one.
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

# Types that a page of another site can send without a preflight (safelisted by the Fetch standard), except multipart,
# which is never read as JSON.
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
        # A Host that is an address cannot be a name that a page controls. But where only this machine may call, another
        # address means that the request came through a proxy or tunnel that admits others.
        self._takes_addresses = server.allow_open or "header" in settings.auth.modes
        self._origins = frozenset(settings.page.allowed_origins)
        self._own = _plain_origin(public.scheme, public.netloc) if public.netloc else ""
        self._last_host = ""  # the Host of the last accepted request; the next one is mostly equal

    def check(self, request: web.Request) -> None:
        """Checks a request with ambient authority. Raises NotAllowed."""
        headers = request.headers
        host = headers.get(hdrs.HOST, "")
        self._check_name(host)
        if headers.get(_DEST, "empty") != "empty" or headers.get(_MODE) == "navigate":
            raise NotAllowed("this is for programs and scripts, not to be opened as a page", code="navigation")
        origin, site = headers.get(hdrs.ORIGIN), headers.get(_SITE)
        if origin is not None and len(headers.getall(hdrs.ORIGIN)) > 1:
            # No browser sends two: another party has added one.
            origin, site = "", "cross-site"
        if origin in self._origins or site == "same-origin":
            return
        if origin is None and site != "none":
            origin = headers.get(hdrs.REFERER)  # for browsers that send neither
        if site in ("same-site", "cross-site") or (origin is not None and not self._is_own(origin, host)):
            raise NotAllowed(
                "pages of other sites may not use this gateway; GATEWAY_ALLOWED_ORIGINS lets them, and "
                "GATEWAY_PUBLIC_URL is to name this one where a proxy changes Host",
                code="cross_origin",
            )

    def check_host(self, request: web.Request) -> None:
        """Raises NotAllowed where the Host is a name that another party may own."""
        self._check_name(request.headers.get("Host", ""))

    def _check_name(self, host: str) -> None:
        if host and host != self._last_host:
            if not self._is_ours(name_of(host)):
                raise NotAllowed(
                    "this gateway is not called by that name; GATEWAY_PUBLIC_URL or GATEWAY_ALLOWED_HOSTS can add it",
                    code="misdirected",
                )
            self._last_host = host

    def _is_ours(self, name: str) -> bool:
        return name in self._names or is_loopback_name(name) or (self._takes_addresses and _is_address(name))

    def _is_own(self, url: str, host: str) -> bool:
        """Whether an Origin or Referer is this gateway's: its public URL, or this request's Host with either scheme, as
        the scheme is unknown behind a proxy."""
        scheme, _, rest = url.partition("://")
        netloc = rest.partition("/")[0]
        if not netloc or scheme not in _DEFAULT_PORTS:
            return False
        return _plain_origin(scheme, netloc) in (self._own, _plain_origin(scheme, host))


def require_typed(request: web.Request, caller: Principal) -> None:
    """Raises UnsupportedMediaType where a page of another site could have sent this body without a preflight.

    Programs with a key may omit the type, as no browser adds a key by itself. Behind a proxy that logs browsers in, the
    `Authorization` header may be the proxy's."""
    if not caller.is_ambient or not request.can_read_body:
        return
    if request.headers.get("Content-Type") and request.content_type not in _SIMPLE_TYPES:
        return
    if caller is LOCAL_USER and Credentials.of(request.raw_headers, None).candidates():
        return
    raise UnsupportedMediaType("the body needs a type: Content-Type: application/json")


def is_loopback_name(name: str) -> bool:
    """Whether a host name always means this machine, whatever resolver is used."""
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
    """The origin in lower case, without the default port of its scheme."""
    return f"{scheme}://{netloc.lower().removesuffix(_DEFAULT_PORTS[scheme])}"
