"""The response head as one byte string, from the upstream's header bytes.

aiohttp decodes each header and encodes it again, which costs a twentieth of a request.
"""

from __future__ import annotations

import re
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from gateway.transport.call import Head, RawHeaders

CHUNKED = b"Transfer-Encoding: chunked"
# A browser that opens an upstream's answer as a page runs nothing of it in this gateway's origin.
SANDBOX = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}
_SANDBOX_LINES = tuple(f"{name}: {value}".encode() for name, value in SANDBOX.items())
# Types that a browser shows or plays but does not run. All others become downloads.
_INERT = re.compile(
    r"application/(?:json|x-ndjson|jsonl|octet-stream|zip|[a-z0-9.-]+\+json)"
    r"|text/(?:plain|event-stream|csv|vtt|markdown)|audio/[a-z0-9.+-]+|video/[a-z0-9.+-]+"
    r"|image/(?:png|jpeg|gif|webp|avif|bmp)"
)
_INCLUDABLE = re.compile(r"script|ecma|css|xsl")  # a page may include it, whatever Content-Disposition says
_STATUS_LINES = {each.value: f"HTTP/1.1 {each.value} {each.phrase}".encode() for each in HTTPStatus}
_SERVER = b"Server: " + SERVER_SOFTWARE.encode()


def is_ours_alone(request: web.Request, status: int) -> bool:
    """Whether this module may write the head itself: HTTP/1.1, a method and status with a body, a connection that stays
    open, no response hook of the application."""
    return (
        request.version == HttpVersion11
        and request.method != "HEAD"
        and request.keep_alive
        and not request.app.on_response_prepare
        and status not in (204, 304)
        and status in _STATUS_LINES
    )


def harmless(head: Head, fields: RawHeaders) -> RawHeaders:
    """The header fields of an upstream's answer, with an attachment disposition where a browser could run the body."""
    count = head.count(b"content-type")
    if count == 1 and _is_inert(head.media_type):
        return fields
    if count == 0 and (head.status in (204, 304) or head.content_length == 0):
        return fields
    given = head.get(b"content-disposition") or b""
    _, separator, parameters = given.partition(b";")
    kept = [field for field in fields if field[0] != b"content-disposition"]
    if count > 1 or _INCLUDABLE.search(head.media_type):
        types = [value for name, value in fields if name == b"content-type"]
        kept = [field for field in kept if field[0] != b"content-type"]
        kept += [(b"content-type", b"application/octet-stream"), (b"x-upstream-content-type", b", ".join(types))]
    return (*kept, (b"content-disposition", b"attachment" + separator + parameters))


@lru_cache(64)
def _is_inert(media_type: str) -> bool:
    return _INERT.fullmatch(media_type) is not None


def head_of(status: int, fields: RawHeaders, ours: Mapping[str, str], *more: bytes) -> bytes | None:
    """Status line and headers of a response, with the empty line after them. `more` are header lines, one of them with
    the body's length or coding. None where a header's value contains a line break."""
    lines = [_STATUS_LINES[status], *[b"%b: %b" % field for field in fields]]
    lines += [f"{name}: {value}".encode() for name, value in ours.items()]
    lines += (*_SANDBOX_LINES, *more, b"Date: " + rfc822_formatted_time().encode(), _SERVER)
    joined = b"".join(lines)
    return None if b"\n" in joined or b"\r" in joined else b"\r\n".join((*lines, b"\r\n"))
