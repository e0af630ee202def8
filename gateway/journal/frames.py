"""The journal's frames, without I/O. A torn or altered frame is never accepted as whole.

A segment begins with a header: magic, sync marker, its number, the numbers of records that began and that finished
before it in this folder, CRC-32. Then come frames, little-endian:

    8 bytes sync marker | u32 length of the payload | u32 CRC-32 of the payload | u8 kind | 16 bytes id
    | u32 segment, u64 offset of the record's BEGUN frame | u32 number of PART frames before | u32 CRC-32 of the fields

The marker is random, one for each folder. It is used only behind damage, to find the next frame: no caller knows it, so
no caller can put a frame into a body. The header has its own checksum, so the record and the end of a damaged payload
are still known.

The payload of BEGUN and FINISHED is u32 length of the meta, the meta (JSON), and the body byte for byte; that of PART
is raw bytes of the answer. Behind the last frame a preallocated file holds zeros, which are not a frame: kinds start
at 1.

Segments of older versions have no header. Their frames are u32 length, u32 CRC-32 of everything that follows, u8 kind,
16 bytes id, payload. They can still be read.
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
MAX_BUFFERS = 1000  # IOV_MAX is 1024 on Linux and macOS
NO_POSITION = (0, 0)  # in BEGUN: the record has no earlier one. In PART or FINISHED: BEGUN is the frame before it

_BEGUN, _PART, _FINISHED = int(FrameKind.BEGUN), int(FrameKind.PART), int(FrameKind.FINISHED)


class FrameWriter:
    """Makes frames, each as buffers for one write.

    `key` is the 16 bytes of the record's id, `begun` the position of its BEGUN frame.
    """

    def __init__(self, marker: bytes) -> None:
        self._marker = marker

    def begun(self, key: bytes, meta: bytes, body: bytes, moved_from: tuple[int, int] = NO_POSITION) -> list[bytes]:
        return self._with_meta(_BEGUN, key, moved_from, meta, body)

    def finished(self, key: bytes, meta: bytes, body: bytes, begun: tuple[int, int] = NO_POSITION) -> list[bytes]:
        return self._with_meta(_FINISHED, key, begun, meta, body)

    def part(self, key: bytes, begun: tuple[int, int], ordinal: int, chunks: Sequence[bytes]) -> list[bytes]:
        buffers = list(chunks) if len(chunks) < MAX_BUFFERS else [b"".join(chunks)]
        crc = length = 0
        for chunk in buffers:
            crc = crc32(chunk, crc)
            length += len(chunk)
        fields = _FIELDS.pack(length, crc, _PART, key, *begun, ordinal)
        return [self._marker + fields + _CRC.pack(crc32(fields)), *buffers]

    def segment_header(self, number: int, begun: int, finished: int) -> bytes:
        fields = _SEGMENT.pack(MAGIC, self._marker, number, begun, finished)
        return fields + _CRC.pack(crc32(fields))

    def _with_meta(self, kind: int, key: bytes, begun: tuple[int, int], meta: bytes, body: bytes) -> list[bytes]:
        meta = _META_LENGTH.pack(len(meta)) + meta
        fields = _FIELDS.pack(len(meta) + len(body), crc32(body, crc32(meta)), kind, key, *begun, 0)
        head = b"".join((self._marker, fields, _CRC.pack(crc32(fields)), meta))
        return [head, body] if body else [head]


class SegmentHeader(NamedTuple):
    marker: bytes
    number: int
    begun: int  # records that began before this segment
    finished: int


def segment_header(buffer: bytes | memoryview) -> SegmentHeader | None:
    """Reads the header at the start of a segment; None if there is no whole one."""
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
    begun: tuple[int, int] | None  # segment and offset; None: an older version's frame
    ordinal: int


def frame_header(buffer: memoryview, offset: int = 0) -> FrameHeader | None:
    """Reads the header at an offset; None if there is no whole one."""
    if len(buffer) - offset < HEADER_SIZE:
        return None
    at = offset + MARKER_SIZE
    (crc,) = _CRC.unpack_from(buffer, at + _FIELDS.size)
    if crc != crc32(buffer[at : at + _FIELDS.size]):
        return None
    return unchecked_header(buffer, offset)


def unchecked_header(buffer: memoryview, offset: int = 0) -> FrameHeader:
    """Reads a header without its checksum: the fields can be wrong."""
    at = offset + MARKER_SIZE
    length, crc, kind, key, segment, begun, ordinal = _FIELDS.unpack_from(buffer, at)
    known = FrameKind(kind) if _BEGUN <= kind <= _FINISHED else FrameKind.FINISHED
    return FrameHeader(bytes(buffer[offset:at]), length, crc, known, key, (segment, begun), ordinal)


class Frame(NamedTuple):
    """One whole frame; `start` and `end` are its offsets in the segment."""

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
        """Returns meta and body of a BEGUN or FINISHED frame. Raises ValueError."""
        if len(self.payload) < _META_LENGTH.size:
            raise ValueError("the meta is cut off")
        (length,) = _META_LENGTH.unpack_from(self.payload)
        at = _META_LENGTH.size + length
        if at > len(self.payload):
            raise ValueError("the meta is cut off")
        return bytes(self.payload[_META_LENGTH.size : at]), bytes(self.payload[at:])


def whole_frame(data: bytes) -> Frame | None:
    """Returns the frame that fills these bytes exactly; None if there is no such frame."""
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
    """Reads the header of an older version's frame, which has no checksum of its own."""
    if len(buffer) - offset < OLD_HEADER_SIZE:
        return None
    length, crc, kind, key = _OLD_HEADER.unpack_from(buffer, offset)
    if not _BEGUN <= kind <= _FINISHED:
        return None
    return FrameHeader(b"", length, crc, FrameKind(kind), key, None, 0)


def old_crc(header: FrameHeader, payload: memoryview) -> int:
    return crc32(payload, crc32(bytes([header.kind]) + header.key))
