"""Small changes to a request's JSON that leave every other byte as the caller wrote it. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from gateway.model import Json

ASK_USAGE = b'"stream_options":{"include_usage":true}'


def with_member(raw: bytes, member: bytes) -> bytes:
    """The JSON object `raw` with one more member (`"name":value`) at its end."""
    head = raw.rstrip()[:-1].rstrip()
    separator = b"" if head.endswith(b"{") else b","
    return b"%b%b%b}" % (head, separator, member)


def without_members(raw: bytes, names: Collection[str]) -> bytes:
    """The JSON object `raw` without some members; written anew, with integers and strings exact."""
    body = json.loads(raw)
    return json.dumps({name: value for name, value in body.items() if name not in names}, separators=(",", ":")).encode()


def asking_for_usage(raw: bytes, body: Json) -> bytes | None:
    """The request with `stream_options.include_usage` set, or None where the caller's own options forbid to touch it."""
    options = body.get("stream_options")
    if "stream_options" not in body:
        return with_member(raw, ASK_USAGE)
    if not isinstance(options, dict) or "include_usage" in options:
        return None
    return with_member(without_members(raw, ("stream_options",)), _options(options))


def _options(options: Json) -> bytes:
    text = json.dumps({**options, "include_usage": True}, separators=(",", ":"))
    return b'"stream_options":' + text.encode()
