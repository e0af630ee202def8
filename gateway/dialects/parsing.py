"""JSON objects in the data of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateway.codec import jsontext

if TYPE_CHECKING:
    from gateway.model import Json


class ParsedObject(NamedTuple):
    """A JSON object as `jsontext.parse` returns it. Its receiver may change it."""

    body: Json
    is_plain: bool


def parse_object(data: bytes) -> ParsedObject | None:
    """The JSON object that `data` is; None if it is not one."""
    try:
        value, is_plain = jsontext.parse(data)
    except ValueError:
        return None
    return ParsedObject(value, is_plain) if isinstance(value, dict) else None


def object_in(data: bytes) -> Json | None:
    """The same without the note on how to write it."""
    found = parse_object(data)
    return None if found is None else found.body
