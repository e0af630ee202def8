"""Which headers travel on. Pure; names are compared in lower case, values stay bytes as they came."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

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
CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"api-key", b"cookie"))
# Said anew for the next connection, or meant for this gateway alone.
OURS = frozenset(
    (
        b"host",
        b"content-length",
        b"accept-encoding",
        b"expect",
        b"forwarded",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-real-ip",
        b"x-request-id",
        b"x-conversation-id",
        b"origin",
        b"referer",
    )
)
NOT_SENT_ON = HOP_BY_HOP | CREDENTIALS | OURS
NOT_SENT_BACK = HOP_BY_HOP | frozenset((b"content-length", b"set-cookie", b"x-request-id", b"date", b"server", b"alt-svc"))


def request_headers(
    raw: Iterable[tuple[bytes, bytes]], *, is_decoded: bool, keep_credentials: bool = False
) -> RawHeaders:
    """The caller's headers that the upstream may see. A decoded body is sent on without its content coding."""
    dropped = (HOP_BY_HOP | OURS | {b"cookie"}) if keep_credentials else NOT_SENT_ON
    if is_decoded:
        dropped |= {b"content-encoding"}
    named = _connection_options(raw)
    return tuple(
        (name, value) for name, value in raw if (lower := name.lower()) not in dropped and lower not in named
    )


def response_headers(head: Head) -> list[tuple[str, str]]:
    """The upstream's headers that the caller may see, decoded as aiohttp wants them."""
    named = _connection_options(head.headers)
    return [
        (name.decode("latin-1"), value.decode("utf-8", "replace"))
        for name, value in head.headers
        if name not in NOT_SENT_BACK and name not in named
    ]


def _connection_options(raw: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Names that `Connection` declares to be of this hop only, such as `Connection: x-secret`."""
    return frozenset(
        option.strip().lower()
        for name, value in raw
        if len(name) == 10 and name.lower() == b"connection"
        for option in value.split(b",")
    )
