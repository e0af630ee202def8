"""Small changes to a request's JSON that leave every other byte as the caller wrote it. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from gateway.model import Json

OPTIONS = "stream_options"
INCLUDE_USAGE = b'"include_usage":true'
ASK_USAGE = b'"stream_options":{%b}' % INCLUDE_USAGE

_SPACE = re.compile(r"[ \t\n\r]*")
# Finds where a value ends; numbers are not worked out, for they may be larger than anything.
_SCANNER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def with_member(raw: bytes, member: bytes) -> bytes:
    """The JSON object `raw` with one more member (`"name":value`) at its end."""
    head = raw.rstrip()[:-1].rstrip()
    separator = b"" if head.endswith(b"{") else b","
    return b"%b%b%b}" % (head, separator, member)


def without_members(raw: bytes, names: Collection[str]) -> bytes:
    """The JSON object `raw` without some members, however often they stand there."""
    text = raw.decode()
    kept = [text[member.start : member.end] for member in _members(text) if member.name not in names]
    return f"{{{','.join(kept)}}}".encode()


def asking_for_usage(raw: bytes, body: Json) -> bytes | None:
    """The request with `stream_options.include_usage` set; None where the caller's own options forbid to touch it."""
    if OPTIONS not in body:
        return with_member(raw, ASK_USAGE)
    options = body[OPTIONS]
    if options is None:
        return with_member(without_members(raw, (OPTIONS,)), ASK_USAGE)
    if not isinstance(options, dict) or "include_usage" in options:
        return None
    text = raw.decode()
    *_, last = (member for member in _members(text) if member.name == OPTIONS)  # of doubles, parsers take the last
    value = with_member(text[last.value : last.end].encode(), INCLUDE_USAGE)
    return b"%b%b%b" % (text[: last.value].encode(), value, text[last.end :].encode())


class _Member(NamedTuple):
    """A member's place in the text: from behind the brace or comma before it, to before the one behind it."""

    name: str
    start: int
    value: int
    end: int


def _members(text: str) -> Iterator[_Member]:
    """The members of a JSON object, doubles too. The text is known to be JSON."""
    start = _skip(text, 0) + 1
    while text[at := _skip(text, start)] != "}":
        name, at = _SCANNER.raw_decode(text, at)
        value = _skip(text, _skip(text, at) + 1)
        _, at = _SCANNER.raw_decode(text, value)
        end = _skip(text, at)
        yield _Member(name, start, value, end)
        if text[end] == "}":
            return
        start = end + 1


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
