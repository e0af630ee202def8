"""The journal's frames, without I/O: bytes out, bytes in. One that is torn or altered is never taken for whole.

Layout, little-endian: u32 length of the payload, u32 CRC-32 of all that follows it, u8 kind, 16 bytes id, payload.
The payload of BEGUN and FINISHED is u32 length of the meta, the meta (JSON), and the body as it was said; that of PART
is raw bytes of the answer. Behind the last frame a preallocated file holds zeros, which are no frame: kinds start at 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class FrameKind(IntEnum):
    BEGUN = 1
    PART = 2
    FINISHED = 3


_LEAD = Struct("<II")  # length, CRC
_REST = Struct("<B16s")  # kind, id: the CRC starts here
_REST_AND_META = Struct("<B16sI")
_META_LENGTH = Struct("<I")
_HEAD = Struct("<IIB16s")
HEAD_SIZE = _HEAD.size
MOST_BUFFERS = 1000  # IOV_MAX is 1024 on Linux and macOS

_BEGUN, _PART, _FINISHED = int(FrameKind.BEGUN), int(FrameKind.PART), int(FrameKind.FINISHED)


def begun(key: bytes, meta: bytes, body: bytes) -> list[bytes]:
    """A BEGUN frame as buffers for one write; `key` is the id's 16 bytes."""
    return _whole(_BEGUN, key, meta, body)


def finished(key: bytes, meta: bytes, body: bytes) -> list[bytes]:
    return _whole(_FINISHED, key, meta, body)


def part(key: bytes, chunks: Sequence[bytes]) -> list[bytes]:
    buffers = list(chunks) if len(chunks) < MOST_BUFFERS else [b"".join(chunks)]
    rest = _REST.pack(_PART, key)
    crc = crc32(rest)
    length = 0
    for chunk in buffers:
        crc = crc32(chunk, crc)
        length += len(chunk)
    return [_LEAD.pack(length, crc) + rest, *buffers]


def _whole(kind: int, key: bytes, meta: bytes, body: bytes) -> list[bytes]:
    rest = _REST_AND_META.pack(kind, key, len(meta)) + meta
    lead = _LEAD.pack(_META_LENGTH.size + len(meta) + len(body), crc32(body, crc32(rest)))
    return [lead + rest, body] if body else [lead + rest]


class Frame(NamedTuple):
    """One whole frame; `start` and `end` are offsets in the buffer that it was found in."""

    kind: FrameKind
    key: bytes
    payload: memoryview
    start: int
    end: int

    def split(self) -> tuple[bytes, bytes]:
        """Meta and body of a BEGUN or FINISHED frame."""
        (length,) = _META_LENGTH.unpack_from(self.payload)
        at = _META_LENGTH.size + length
        return bytes(self.payload[_META_LENGTH.size : at]), bytes(self.payload[at:])


@dataclass(frozen=True, slots=True)
class Lack:
    """The buffer ends within a frame, whose size is `size` as far as it is known."""

    size: int


@dataclass(frozen=True, slots=True)
class Fault:
    """What stands here is no frame."""

    reason: str


@dataclass(frozen=True, slots=True)
class Zeros:
    """The preallocated rest of a file: no more frames."""


def read_frame(buffer: memoryview, offset: int) -> Frame | Lack | Fault | Zeros:
    left = len(buffer) - offset
    if left < HEAD_SIZE:
        return Lack(HEAD_SIZE)
    length, crc, kind, key = _HEAD.unpack_from(buffer, offset)
    if kind == 0 and length == 0 and crc == 0 and not any(key):
        return Zeros()
    if not _BEGUN <= kind <= _FINISHED:
        return Fault(f"unknown kind {kind}")
    size = HEAD_SIZE + length
    if left < size:
        return Lack(size)
    if crc32(buffer[offset + _LEAD.size : offset + size]) != crc:
        return Fault("wrong checksum")
    payload = buffer[offset + HEAD_SIZE : offset + size]
    if kind != _PART and not _has_meta(payload):
        return Fault("no room for its meta")
    return Frame(FrameKind(kind), key, payload, offset, offset + size)


def _has_meta(payload: memoryview) -> bool:
    return len(payload) >= _META_LENGTH.size and _META_LENGTH.unpack_from(payload)[0] <= len(payload) - 4


class Scan:
    """Iterates over a buffer's frames; stops at the first fault. Afterwards `end` and `fault` say where and why."""

    def __init__(self, buffer: bytes | memoryview, offset: int = 0) -> None:
        self._buffer = memoryview(buffer)
        self.end = offset
        self.fault: str | None = None  # None: the buffer ends with a whole frame, or with zeros

    def __iter__(self) -> Iterator[Frame]:
        while self.end < len(self._buffer):
            found = read_frame(self._buffer, self.end)
            if not isinstance(found, Frame):
                self.fault = _fault_of(found, self._buffer[self.end :])
                return
            self.end = found.end
            yield found


def _fault_of(found: Lack | Fault | Zeros, rest: memoryview) -> str | None:
    if isinstance(found, Fault):
        return found.reason
    if not any(rest):
        return None
    return "cut short" if isinstance(found, Lack) else "bytes behind the end"
