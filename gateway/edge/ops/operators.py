"""Permission for `/metrics` and the details of `/readyz`: a token, a near address, or a role."""

from __future__ import annotations

import hmac
import re
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from gateway.edge.http.app_keys import SETTINGS
from gateway.edge.http.callers import caller_of, not_allowed
from gateway.edge.http.origin_check import is_loopback_name, name_of
from gateway.errors import IdentityUnavailable, NotAllowed, NotAuthenticated
from gateway.identity.credentials import Credentials

if TYPE_CHECKING:
    from ipaddress import IPv4Address

    from aiohttp import web

    from gateway.settings import MetricsSettings

# Headers of proxies. A proxy on this machine has a loopback address, but its client may be anywhere.
OF_PROXIES = re.compile(r"forwarded|via|x-real-ip|x-forwarded-.*", re.IGNORECASE)


async def is_operator(request: web.Request) -> bool:
    try:
        await require_operator(request)
    except (NotAuthenticated, NotAllowed, IdentityUnavailable):
        return False
    return True


async def require_operator(request: web.Request) -> None:
    """Raises NotAuthenticated, NotAllowed, IdentityUnavailable for a caller who may not read metrics."""
    if _has_token(request, request.app[SETTINGS].metrics) or _is_near(request):
        return
    caller = await caller_of(request)
    if not (caller.is_auditor or caller.is_admin):
        raise not_allowed(caller, "only auditors, admins, and callers that the settings metrics.* name read metrics")


def _has_token(request: web.Request, settings: MetricsSettings) -> bool:
    if settings.token is None:
        return False
    wanted = settings.token.reveal().encode()
    shown = Credentials.of(request.raw_headers, request.remote).candidates()
    return any(hmac.compare_digest(each, wanted) for each in shown)


def _is_near(request: web.Request) -> bool:
    """Whether a request comes directly from an address that needs no credential. On loopback its Host must be loopback
    too: a page of another site may have its own name resolve to this machine (DNS rebinding)."""
    peer = _peer(request)
    settings = request.app[SETTINGS]
    if peer is None or not any(peer in network for network in settings.metrics.networks):
        return False
    if any(peer in network for network in settings.auth.trusted_networks):
        return False
    if any(OF_PROXIES.fullmatch(name) for name in request.headers):
        return False
    return not peer.is_loopback or is_loopback_name(name_of(request.headers.get("Host", "")))


def _peer(request: web.Request) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(request.remote or "")
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address  # an IPv4 address on a listener for both families
    return address
