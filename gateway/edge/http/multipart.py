"""The `model` field of a multipart form, before the form goes to the upstream. Pure.

Servers read multipart in different ways, so only a form with a single reading is accepted: strictly that of RFC 7578.
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


class AmbiguousForm(ValueError):
    """The form has several readings, or none."""


class Part(NamedTuple):
    """A part's name, and where its content begins and ends."""

    name: str
    start: int
    end: int


def boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart form. Raises AmbiguousForm."""
    # Some servers use the first boundary, even within quotes. `email` misreads parameters with `*` (RFC 2231).
    if content_type.casefold().count("boundary") != 1 or "*" in content_type:
        raise AmbiguousForm("the form's boundary is missing or odd")
    message = Message()
    message["Content-Type"] = content_type
    found = [value for name, value in message.get_params([]) if name.lower() == "boundary"]
    if len(found) != 1 or not re.fullmatch(r"[0-9A-Za-z'()+_,./:=?-]{1,70}", found[0]):
        raise AmbiguousForm("the form's boundary is missing or odd")
    return found[0].encode("ascii")


def parts_of(form: bytes, boundary: bytes, *, is_whole: bool = True) -> list[Part]:
    """All parts of a form, or the complete ones of its first bytes. Raises AmbiguousForm where another server may find
    other parts."""
    delimiter = b"--" + boundary
    places = [match.start() for match in re.finditer(re.escape(delimiter), form)]
    if not places or places[0] != 0 or (is_whole and form[places[-1] + len(delimiter) :] not in (b"--", b"--\r\n")):
        raise AmbiguousForm("the form does not begin and end with its boundary")
    parts: list[Part] = []
    for place, following in pairwise(places):
        start = place + len(delimiter)
        if not form.startswith(b"\r\n", start) or not form.startswith(b"\r\n", following - 2):
            raise AmbiguousForm("the form's boundary occurs within a line")
        head_end = form.find(b"\r\n\r\n", start, min(start + MOST_HEAD_BYTES, following))
        if head_end < 0 or head_end + 4 > following - 2:
            raise AmbiguousForm("a part of the form has no end of its head")
        parts.append(Part(_name_in(form[start + 2 : head_end]), head_end + 4, following - 2))
    return parts


def _name_in(head: bytes) -> str:
    lines = head.split(b"\r\n")
    if not all(_HEADER.fullmatch(line) for line in lines):
        raise AmbiguousForm("a part of the form has an odd header")
    dispositions = [line for line in lines if line.lower().startswith(b"content-disposition")]
    found = _DISPOSITION.fullmatch(dispositions[0]) if len(dispositions) == 1 else None
    if found is None:
        raise AmbiguousForm("a part of the form has no clear name")
    return found[1].decode("utf-8", "replace")


def model_in_form(form: bytes, content_type: str, *, is_whole: bool = True) -> str | None:
    """The model that a form or its first bytes name; None where they name no model. Raises AmbiguousForm."""
    parts = parts_of(form, boundary_of(content_type), is_whole=is_whole)
    models = [part for part in parts if _NAMES_MODELS.search(part.name)]
    if not models:
        return None
    (part, *others) = models
    value = form[part.start : part.end]
    if others or part.name != "model" or len(value) > MOST_MODEL_BYTES:
        raise AmbiguousForm("the form's `model` is not one plain field")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise AmbiguousForm("the form's `model` is not UTF-8 text") from error
