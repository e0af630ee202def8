"""The `model` field of a multipart form, before the form goes to the upstream. Pure.

Servers read multipart in many ways, so only a form that has one reading is believed: RFC 7578's, to the letter.
"""

from __future__ import annotations

import re
from email.message import Message
from itertools import pairwise
from typing import NamedTuple

MOST_HEAD_BYTES = 8 * 1024  # of a part
MOST_MODEL_BYTES = 512

_HEADER = re.compile(rb"[A-Za-z0-9-]+: ?[\t -~\x80-\xff]*")
_DISPOSITION = re.compile(
    rb'content-disposition: ?form-data; ?name="([^"\\]*)"(?:; ?filename="(?:[^"\\]|\\.)*")?'
    rb"(?:; ?filename\*=[^;\s\"]*)?",
    re.IGNORECASE,
)
_NAMES_MODELS = re.compile("model|fallbacks", re.IGNORECASE)


class Unclear(ValueError):
    """The form can be read in several ways, or in none."""


class Part(NamedTuple):
    """A part's name, and where its content begins and ends."""

    name: str
    start: int
    end: int


def boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart form. Raises Unclear."""
    # Some servers take the first, though it is within quotes. `*` is RFC 2231's, which `email` trips over.
    if content_type.casefold().count("boundary") != 1 or "*" in content_type:
        raise Unclear("the form's boundary is missing or odd")
    message = Message()
    message["Content-Type"] = content_type
    found = [value for name, value in message.get_params([]) if name.lower() == "boundary"]
    if len(found) != 1 or not re.fullmatch(r"[0-9A-Za-z'()+_,./:=?-]{1,70}", found[0]):
        raise Unclear("the form's boundary is missing or odd")
    return found[0].encode("ascii")


def parts_of(form: bytes, boundary: bytes, *, is_whole: bool = True) -> list[Part]:
    """All parts of a form, or those that are whole in its first bytes. Raises Unclear where another server may find
    others."""
    delimiter = b"--" + boundary
    places = [match.start() for match in re.finditer(re.escape(delimiter), form)]
    if not places or places[0] != 0 or (is_whole and form[places[-1] + len(delimiter) :] not in (b"--", b"--\r\n")):
        raise Unclear("the form does not begin and end with its boundary")
    parts: list[Part] = []
    for place, following in pairwise(places):
        start = place + len(delimiter)
        if not form.startswith(b"\r\n", start) or not form.startswith(b"\r\n", following - 2):
            raise Unclear("the form's boundary stands within a line")
        head_end = form.find(b"\r\n\r\n", start, min(start + MOST_HEAD_BYTES, following))
        if head_end < 0 or head_end + 4 > following - 2:
            raise Unclear("a part of the form has no end of its head")
        parts.append(Part(_name_in(form[start + 2 : head_end]), head_end + 4, following - 2))
    return parts


def _name_in(head: bytes) -> str:
    lines = head.split(b"\r\n")
    if not all(_HEADER.fullmatch(line) for line in lines):
        raise Unclear("a part of the form has an odd header")
    said = [line for line in lines if line.lower().startswith(b"content-disposition")]
    found = _DISPOSITION.fullmatch(said[0]) if len(said) == 1 else None
    if found is None:
        raise Unclear("a part of the form has no clear name")
    return found[1].decode("utf-8", "replace")


def model_in_form(form: bytes, content_type: str, *, is_whole: bool = True) -> str | None:
    """The model that a form names, or its first bytes do; None where there is none. Raises Unclear."""
    parts = parts_of(form, boundary_of(content_type), is_whole=is_whole)
    models = [part for part in parts if _NAMES_MODELS.search(part.name)]
    if not models:
        return None
    (part, *others) = models
    value = form[part.start : part.end]
    if others or part.name != "model" or len(value) > MOST_MODEL_BYTES:
        raise Unclear("the form's `model` is not one plain field")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Unclear("the form's `model` is no text") from error
