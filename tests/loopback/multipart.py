"""Just enough of multipart/form-data to say what was uploaded (RFC 7578)."""

from __future__ import annotations

from email.message import Message
from typing import NamedTuple


class Part(NamedTuple):
    name: str
    filename: str | None
    data: bytes


def parts_of(body: bytes, content_type: str) -> list[Part]:
    """The parts of a whole body; empty when it is not multipart."""
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_boundary()
    if boundary is None:
        return []
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1"))
    return [_part(piece.removeprefix(b"\r\n")) for piece in pieces[1:-1]]


def _part(piece: bytes) -> Part:
    head, _, data = piece.partition(b"\r\n\r\n")
    header = Message()
    for line in head.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        header[name] = value.strip()
    field = header.get_param("name", "", "content-disposition")
    return Part(str(field), header.get_filename(), data)
