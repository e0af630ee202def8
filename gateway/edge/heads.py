"""The head of an answer in one piece, from the upstream's own bytes.

aiohttp decodes each header and encodes it again, which costs a twentieth of a request.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from gateway.upstream.provider import RawHeaders

CHUNKED = b"Transfer-Encoding: chunked"
_STATUS_LINES = {each.value: f"HTTP/1.1 {each.value} {each.phrase}".encode() for each in HTTPStatus}
_SERVER = b"Server: " + SERVER_SOFTWARE.encode()


def is_ours_alone(request: web.Request, status: int) -> bool:
    """Whether nothing but we has a say in an answer to this request: no older protocol, no method or status that has no
    body, no wish to close, no hook of the application."""
    return (
        request.version == HttpVersion11
        and request.method != "HEAD"
        and request.keep_alive
        and not request.app.on_response_prepare
        and status not in (204, 304)
        and status in _STATUS_LINES
    )


def head_of(status: int, fields: RawHeaders, ours: Mapping[str, str], framing: bytes) -> bytes | None:
    """Status line and headers, with the empty line that ends them. `framing` is the line that tells the body's end.
    None: somebody's header brings a line of its own."""
    lines = [_STATUS_LINES[status], *[b"%b: %b" % field for field in fields]]
    lines += [f"{name}: {value}".encode() for name, value in ours.items()]
    lines += (framing, b"Date: " + rfc822_formatted_time().encode(), _SERVER, b"\r\n")
    head = b"\r\n".join(lines)
    ends = len(lines)
    return head if head.count(b"\n") == ends and head.count(b"\r") == ends else None
