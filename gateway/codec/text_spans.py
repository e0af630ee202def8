"""Byte ranges of the string values in a JSON body, and their replacement. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# A string, or a byte that opens, separates or closes. All other bytes are skipped.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],]', re.DOTALL)


class TextSpan(NamedTuple):
    """One string value. `start` and `end` are byte offsets that include the quotation marks; `text` is decoded."""

    path: tuple[str | int, ...]  # members and list indexes from the outermost: ("messages", 0, "content")
    start: int
    end: int
    text: str


def text_spans(raw: bytes) -> Iterator[TextSpan]:
    """All string values of a JSON body, in their order. `raw` must be JSON.

    Members with the same name are all listed, because upstreams differ in which one they take. JSON within a string
    (the arguments of a call) is one text. Names of members are not listed.
    """
    path: list[str | int] = []
    is_name: list[bool] = []  # per open object or list: whether the next string is the name of a member
    for token in _TOKEN.finditer(raw):
        kind = raw[token.start()]
        if kind == 0x22:  # "
            if is_name and is_name[-1]:
                path[-1] = _decoded(token[0])
                is_name[-1] = False
            else:
                yield TextSpan(tuple(path), token.start(), token.end(), _decoded(token[0]))
        elif kind == 0x2C:  # a comma
            index = path[-1]
            if isinstance(index, int):
                path[-1] = index + 1
            else:
                is_name[-1] = True
        elif kind in b"{[":
            path.append("" if kind == 0x7B else 0)
            is_name.append(kind == 0x7B)
        else:
            path.pop()
            is_name.pop()


def with_texts(raw: bytes, texts: Mapping[TextSpan, str]) -> bytes:
    """The body with other texts at these spans, and no other byte changed.

    Raises ValueError for a span of another body.
    """
    if not texts:
        return raw
    wanted = {(span.start, span.end): text for span, text in texts.items()}
    pieces: list[bytes] = []
    at = 0
    for span in text_spans(raw):
        text = wanted.pop((span.start, span.end), None)
        if text is not None:
            pieces += raw[at : span.start], encoded(text)
            at = span.end
    if wanted:
        raise ValueError(f"the body has no text at {min(wanted)}")
    return b"".join((*pieces, raw[at:]))


def encoded(text: str) -> bytes:
    """The text as a JSON string, with lone surrogates as escapes."""
    try:
        return orjson.dumps(text)
    except TypeError:
        return json.dumps(text).encode()


def _decoded(string: bytes) -> str:
    try:
        text: str = orjson.loads(string)
    except orjson.JSONDecodeError:  # a lone surrogate, as an escape
        text = json.loads(string.decode())
    return text
