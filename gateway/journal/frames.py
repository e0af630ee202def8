"""The journal's frames, without I/O: bytes out, bytes in. One that is torn or altered is never taken for whole.

A segment begins with a header: magic, sync marker, its number, how many records had begun and finished before it in
this folder, CRC-32. Then come frames, little-endian:

    8 bytes sync marker | u32 length of the payload | u32 CRC-32 of the payload | u8 kind | 16 bytes id
    | u32 segment, u64 offset of the record's BEGUN frame | u32 number of PART frames before | u32 CRC-32 of that

The marker is random, one for each folder. Where a frame must begin nobody looks at it; behind damage the next frame is
found by it, and no caller can put a frame into a body, for none knows the marker. A header has a checksum of its own,
so a damaged payload says whose it is and where it ends.

The payload of BEGUN and FINISHED is u32 length of the meta, the meta (JSON), and the body as it was said; that of PART
is raw bytes of the answer. Behind the last frame a preallocated file holds zeros, which are no frame: kinds start at 1.

Segments of older versions have no header, and frames of u32 length, u32 CRC-32 of all that follows, u8 kind, 16 bytes
id, payload. They can still be read.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Sequence


class FrameKind(IntEnum):
    BEGUN = 1
    PART = 2
    FINISHED = 3


_FIELDS = Struct("<IIB16sIQI")
_CRC = Struct("<I")
_META_LENGTH = Struct("<I")
_SEGMENT = Struct("<8s8sIQQ")
_OLD_HEADER = Struct("<IIB16s")

MAGIC = b"LLMGWJ\x00\x02"
MARKER_SIZE = 8
HEADER_SIZE = MARKER_SIZE + _FIELDS.size + _CRC.size
SEGMENT_HEADER_SIZE = _SEGMENT.size + _CRC.size
OLD_HEADER_SIZE = _OLD_HEADER.size
MOST_BUFFERS = 1000  # IOV_MAX is 1024 on Linux and macOS
NOWHERE = (0, 0)  # of a BEGUN frame: it is the record's first. Of FINISHED: the BEGUN frame stands right before it

_BEGUN, _PART, _FINISHED = int(FrameKind.BEGUN), int(FrameKind.PART), int(FrameKind.FINISHED)


class FrameWriter:
    """Makes frames, each as buffers for one write. `key` is the id's 16 bytes, `begun` where its BEGUN frame lies."""

    def __init__(self, marker: bytes) -> None:
        self._marker = marker

    def begun(self, key: bytes, meta: bytes, body: bytes, moved_from: tuple[int, int] = NOWHERE) -> list[bytes]:
        return self._whole(_BEGUN, key, moved_from, meta, body)

    def finished(self, key: bytes, meta: bytes, body: bytes, begun: tuple[int, int] = NOWHERE) -> list[bytes]:
        return self._whole(_FINISHED, key, begun, meta, body)

    def part(self, key: bytes, begun: tuple[int, int], ordinal: int, chunks: Sequence[bytes]) -> list[bytes]:
        buffers = list(chunks) if len(chunks) < MOST_BUFFERS else [b"".join(chunks)]
        crc = length = 0
        for chunk in buffers:
            crc = crc32(chunk, crc)
            length += len(chunk)
        fields = _FIELDS.pack(length, crc, _PART, key, *begun, ordinal)
        return [self._marker + fields + _CRC.pack(crc32(fields)), *buffers]

    def segment_header(self, number: int, begun: int, finished: int) -> bytes:
        fields = _SEGMENT.pack(MAGIC, self._marker, number, begun, finished)
        return fields + _CRC.pack(crc32(fields))

    def _whole(self, kind: int, key: bytes, begun: tuple[int, int], meta: bytes, body: bytes) -> list[bytes]:
        lead = _META_LENGTH.pack(len(meta)) + meta
        fields = _FIELDS.pack(len(lead) + len(body), crc32(body, crc32(lead)), kind, key, *begun, 0)
        start = b"".join((self._marker, fields, _CRC.pack(crc32(fields)), lead))
        return [start, body] if body else [start]


class SegmentHeader(NamedTuple):
    marker: bytes
    number: int
    begun: int  # records that had begun before this segment
    finished: int


def segment_header(buffer: bytes | memoryview) -> SegmentHeader | None:
    """The header at the start of a segment; None where there is no whole one."""
    if len(buffer) < SEGMENT_HEADER_SIZE:
        return None
    magic, *fields = _SEGMENT.unpack_from(buffer)
    (crc,) = _CRC.unpack_from(buffer, _SEGMENT.size)
    return SegmentHeader(*fields) if magic == MAGIC and crc == crc32(buffer[: _SEGMENT.size]) else None


class FrameHeader(NamedTuple):
    marker: bytes
    length: int
    crc: int
    kind: FrameKind
    key: bytes
    begun: tuple[int, int] | None  # segment and offset; None: an older version did not say
    ordinal: int


def frame_header(buffer: memoryview, offset: int = 0) -> FrameHeader | None:
    """The header that stands here; None where none does, or not a whole one."""
    if len(buffer) - offset < HEADER_SIZE:
        return None
    at = offset + MARKER_SIZE
    (crc,) = _CRC.unpack_from(buffer, at + _FIELDS.size)
    if crc != crc32(buffer[at : at + _FIELDS.size]):
        return None
    return claimed_header(buffer, offset)


def claimed_header(buffer: memoryview, offset: int = 0) -> FrameHeader:
    """What is written where a header should stand, whether it is true or not."""
    at = offset + MARKER_SIZE
    length, crc, kind, key, segment, begun, ordinal = _FIELDS.unpack_from(buffer, at)
    known = FrameKind(kind) if _BEGUN <= kind <= _FINISHED else FrameKind.FINISHED
    return FrameHeader(bytes(buffer[offset:at]), length, crc, known, key, (segment, begun), ordinal)


class Frame(NamedTuple):
    """One whole frame; `start` and `end` are offsets in what it was found in."""

    header: FrameHeader
    payload: memoryview
    start: int
    end: int

    @property
    def kind(self) -> FrameKind:
        return self.header.kind

    @property
    def key(self) -> bytes:
        return self.header.key

    def split(self) -> tuple[bytes, bytes]:
        """Meta and body of a BEGUN or FINISHED frame. Raises ValueError."""
        if len(self.payload) < _META_LENGTH.size:
            raise ValueError("no room for its meta")
        (length,) = _META_LENGTH.unpack_from(self.payload)
        at = _META_LENGTH.size + length
        if at > len(self.payload):
            raise ValueError("no room for its meta")
        return bytes(self.payload[_META_LENGTH.size : at]), bytes(self.payload[at:])


def whole_frame(data: bytes) -> Frame | None:
    """The one frame that these bytes are."""
    view = memoryview(data)
    header, size = frame_header(view), HEADER_SIZE
    if header is None:
        header, size = old_header(view), OLD_HEADER_SIZE
    if header is None or size + header.length != len(data):
        return None
    payload = view[size:]
    crc = crc32(payload) if size == HEADER_SIZE else old_crc(header, payload)
    return Frame(header, payload, 0, len(data)) if crc == header.crc else None


def old_header(buffer: memoryview, offset: int = 0) -> FrameHeader | None:
    """The header of an older version's frame, which has no checksum of its own."""
    if len(buffer) - offset < OLD_HEADER_SIZE:
        return None
    length, crc, kind, key = _OLD_HEADER.unpack_from(buffer, offset)
    if not _BEGUN <= kind <= _FINISHED:
        return None
    return FrameHeader(b"", length, crc, FrameKind(kind), key, None, 0)


def old_crc(header: FrameHeader, payload: memoryview) -> int:
    return crc32(payload, crc32(bytes([header.kind]) + header.key))
