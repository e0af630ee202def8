"""Frames and segments as gateways wrote them before segments had headers."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING
from zlib import crc32

from gateway.journal.frames import FrameKind
from gateway.journal.meta import encode_answer, encode_interaction

if TYPE_CHECKING:
    from gateway.model import Answer, Interaction


def frame(kind: FrameKind, key: bytes, payload: bytes) -> bytes:
    rest = bytes([kind]) + key + payload
    return struct.pack("<II", len(payload), crc32(rest)) + rest


def begun(asked: Interaction) -> bytes:
    meta = encode_interaction(asked)
    return frame(FrameKind.BEGUN, asked.id.bytes, struct.pack("<I", len(meta)) + meta + asked.body)


def finished(asked: Interaction, said: Answer) -> bytes:
    meta = encode_answer(said)
    return frame(FrameKind.FINISHED, asked.id.bytes, struct.pack("<I", len(meta)) + meta + said.body)


def part(asked: Interaction, *chunks: bytes) -> bytes:
    return frame(FrameKind.PART, asked.id.bytes, b"".join(chunks))
