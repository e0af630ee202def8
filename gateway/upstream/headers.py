"""Which headers travel on. Pure; names are compared in lower case, values stay bytes as they came."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.upstream.provider import Head, RawHeaders

# RFC 9110 section 7.6.1: these speak of one connection, not of the message.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
COOKIES = frozenset((b"cookie", b"cookie2"))
CREDENTIALS = COOKIES | frozenset((b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"))
# Said anew for the next connection, or meant for this gateway alone.
OURS = frozenset(
    (
        b"host",
        b"content-length",
        b"accept-encoding",
        b"expect",
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"x-request-id",
        b"x-conversation-id",
        b"origin",
        b"referer",
    )
)
# What a proxy in front says of the caller: addresses, names, groups, tokens.
OF_PROXIES = (b"x-forwarded-", b"x-auth-request-", b"x-amzn-oidc-")
NOT_SENT_ON = HOP_BY_HOP | CREDENTIALS | OURS
# Of the connection, or of the upstream's own host: what a browser may do with this one is not the upstream's to say.
NOT_SENT_BACK = HOP_BY_HOP | frozenset(
    (
        b"content-length",
        b"set-cookie",
        b"set-cookie2",
        b"x-request-id",
        b"x-policy-outcome",  # what this gateway's policy did is its own to say
        b"x-policy-rule",
        b"date",
        b"server",
        b"alt-svc",
        b"strict-transport-security",
        b"clear-site-data",
        b"nel",
        b"report-to",
    )
)
OF_HOSTS = (b"access-control-",)
_MOST_NAMES = 256  # that are remembered: callers and upstreams send the same few, and a stranger's may be 32 kB long

_DROPPED = {  # by (keep_credentials, is_decoded)
    (keeps, is_decoded): (HOP_BY_HOP | OURS | COOKIES if keeps else NOT_SENT_ON)
    | ({b"content-encoding"} if is_decoded else frozenset())
    for keeps in (True, False)
    for is_decoded in (True, False)
}


def request_headers(
    raw: Sequence[tuple[bytes, bytes]], *, is_decoded: bool, keep_credentials: bool = False
) -> RawHeaders:
    """The caller's headers that the upstream may see. A decoded body is sent on without its content coding."""
    kept = [header for header in raw if _is_sent_on(header[0], is_decoded, keep_credentials)]
    if options := _connection_options(raw):
        kept = [header for header in kept if header[0].lower() not in options]
    return tuple(kept)


@lru_cache(_MOST_NAMES)
def _is_sent_on(name: bytes, is_decoded: bool, keep_credentials: bool) -> bool:
    lower = name.lower()
    return lower not in _DROPPED[keep_credentials, is_decoded] and not lower.startswith(OF_PROXIES)


def response_fields(head: Head) -> RawHeaders:
    """The upstream's headers that the caller may see."""
    kept = [header for header in head.headers if _is_sent_back(header[0])]
    if options := _connection_options(head.headers):
        kept = [header for header in kept if header[0] not in options]
    return tuple(kept)


@lru_cache(_MOST_NAMES)
def _is_sent_back(name: bytes) -> bool:
    return name not in NOT_SENT_BACK and not name.startswith(OF_HOSTS)


def response_headers(head: Head) -> list[tuple[str, str]]:
    """The same decoded, as aiohttp wants them."""
    return [(name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in response_fields(head)]


def _connection_options(raw: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Names that `Connection` declares to be of this hop only, such as `Connection: x-secret`."""
    return frozenset(
        [
            option.strip().lower()
            for name, value in raw
            if len(name) == 10 and name.lower() == b"connection"
            for option in value.split(b",")
        ]
    )
