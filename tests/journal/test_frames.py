"""Frames: what was written whole is read whole, damage is bounded to the frame it touches, nothing else is a frame."""

from __future__ import annotations

import itertools
import random
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.journal import scan as scanning
from gateway.journal.frames import (
    HEADER_SIZE,
    MARKER_SIZE,
    SEGMENT_HEADER_SIZE,
    Frame,
    FrameKind,
    FrameWriter,
    whole_frame,
)
from gateway.journal.scan import DamagedRange, SegmentScan
from tests.journal import old_frames
from tests.journal.samples import interaction

if TYPE_CHECKING:
    from collections.abc import Sequence

KEYS = st.binary(min_size=16, max_size=16)
BODIES = st.binary(max_size=200)
MARKER = bytes(range(200, 200 + MARKER_SIZE))
WRITER = FrameWriter(MARKER)


class Wanted(NamedTuple):
    kind: FrameKind
    key: bytes
    meta: bytes
    body: bytes

    def encoded(self, writer: FrameWriter = WRITER) -> bytes:
        match self.kind:
            case FrameKind.BEGUN:
                return b"".join(writer.begun(self.key, self.meta, self.body))
            case FrameKind.FINISHED:
                return b"".join(writer.finished(self.key, self.meta, self.body, (3, 40)))
            case FrameKind.PART:
                return b"".join(writer.part(self.key, (3, 40), 7, [self.meta, self.body]))


FRAMES = st.lists(st.builds(Wanted, st.sampled_from(FrameKind), KEYS, BODIES, BODIES), max_size=8)


def segment(wanted: Sequence[Wanted], zeros: int = 0) -> tuple[bytes, list[int]]:
    """A segment of these frames, and where each begins and the last ends."""
    data = WRITER.segment_header(3, 10, 9)
    starts = [len(data)]
    for one in wanted:
        data += one.encoded()
        starts.append(len(data))
    return data + bytes(zeros), starts


def frames_in(data: bytes, marker: bytes | None = None) -> tuple[list[Frame], list[DamagedRange]]:
    found = list(SegmentScan(lambda offset, size: data[offset : offset + size], len(data), marker))
    return [one for one in found if isinstance(one, Frame)], [one for one in found if isinstance(one, DamagedRange)]


@given(FRAMES, st.integers(0, 100))
def test_every_frame_is_read_as_it_was_written(wanted: list[Wanted], zeros: int) -> None:
    data, _ = segment(wanted, zeros)
    found, gaps = frames_in(data)
    assert gaps == []
    assert [(frame.kind, frame.key) for frame in found] == [(one.kind, one.key) for one in wanted]
    for frame, one in zip(found, wanted, strict=True):
        if frame.kind is FrameKind.PART:
            assert bytes(frame.payload) == one.meta + one.body
            assert (frame.header.begun, frame.header.ordinal) == ((3, 40), 7)
        else:
            assert frame.split() == (one.meta, one.body)
        assert whole_frame(data[frame.start : frame.end]) is not None


@given(FRAMES, st.data())
def test_a_torn_tail_costs_the_frame_it_tears(wanted: list[Wanted], data: st.DataObject) -> None:
    whole, starts = segment(wanted)
    cut = data.draw(st.integers(0, len(whole)))
    found, gaps = frames_in(whole[:cut])
    assert [frame.start for frame in found] == [at for at, end in itertools.pairwise(starts) if end <= cut]
    assert len(gaps) == (cut not in (0, *starts))


def test_e5_a_flipped_bit_anywhere_costs_the_one_frame_that_it_is_in() -> None:
    keys = [bytes([number]) * 16 for number in range(1, 6)]
    kinds = [FrameKind.BEGUN, FrameKind.PART, FrameKind.FINISHED, FrameKind.BEGUN, FrameKind.FINISHED]
    wanted = [Wanted(kind, key, b'{"m":1}', b"body") for kind, key in zip(kinds, keys, strict=True)]
    whole, starts = segment(wanted, zeros=70)
    for at in range(len(whole)):
        for bit in range(8):
            damaged = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
            touched = next((n for n, end in enumerate(starts[1:]) if starts[n] <= at < end), None)
            found, gaps = frames_in(damaged, MARKER)
            where = touched is not None and at - starts[touched]
            if touched is None or where < MARKER_SIZE:  # nobody needs the marker where a frame must begin
                assert [frame.key for frame in found] == keys
                assert len(gaps) == (touched is None)
                assert all(gap.claimed_kind is None for gap in gaps)
                continue
            assert [frame.key for frame in found] == [key for n, key in enumerate(keys) if n != touched]
            (gap,) = gaps
            is_open = touched == 4 and where < HEADER_SIZE  # the last one's end is not known
            assert (gap.start, gap.end) == (starts[touched], len(whole) if is_open else starts[touched + 1])
            assert (gap.header is None) == (where < HEADER_SIZE)
            if gap.header is not None:
                assert (gap.header.key, gap.claimed_kind) == (keys[touched], kinds[touched])


@given(FRAMES.filter(len), st.data())
def test_damage_of_any_size_costs_only_what_it_touches(wanted: list[Wanted], data: st.DataObject) -> None:
    whole, starts = segment(wanted, zeros=50)
    at = data.draw(st.integers(0, starts[-1] - 1))
    junk = data.draw(st.binary(min_size=1, max_size=300))
    damaged = (whole[:at] + junk + whole[at + len(junk) :])[: len(whole)]
    found, _ = frames_in(damaged, MARKER)
    untouched = [n for n, end in enumerate(starts[1:]) if end <= at or starts[n] >= at + len(junk)]
    assert {starts[n] for n in untouched} <= {frame.start for frame in found}
    assert all(damaged[frame.start : frame.end] == whole[frame.start : frame.end] or at < frame.end for frame in found)
    assert {frame.key for frame in found} <= {one.key for one in wanted}


@pytest.mark.parametrize("length", [0, 1, 12, 1 << 20, (1 << 32) - 1])
def test_e5_a_wrong_length_costs_one_frame(length: int) -> None:
    wanted = [Wanted(FrameKind.FINISHED, bytes([n]) * 16, b"{}", b"x" * 50) for n in range(1, 5)]
    whole, starts = segment(wanted, zeros=100)
    at = starts[1] + MARKER_SIZE
    found, gaps = frames_in(whole[:at] + length.to_bytes(4, "little") + whole[at + 4 :])
    assert [frame.key[0] for frame in found] == [1, 3, 4]
    assert [(gap.start, gap.end) for gap in gaps] == [(starts[1], starts[2])]


def test_e5_a_frame_in_a_callers_body_is_never_read_as_one() -> None:
    forged = Wanted(FrameKind.FINISHED, b"\xee" * 16, b"{}", b"I never said that")
    old = old_frames.frame(FrameKind.FINISHED, b"\xee" * 16, b"\2\0\0\0{}forged")
    guesses = [forged.encoded(FrameWriter(bytes([n]) * MARKER_SIZE)) for n in range(5)]
    hostile = b"".join([*guesses, old, FrameWriter(bytes(8)).segment_header(3, 0, 0), *guesses])
    wanted = [Wanted(FrameKind.BEGUN, bytes([n]) * 16, b"{}", hostile) for n in range(1, 4)]
    whole, starts = segment(wanted)
    for at in range(starts[1], starts[1] + HEADER_SIZE + 8):
        damaged = whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]
        found, _ = frames_in(damaged)
        assert {frame.key[0] for frame in found} <= {1, 2, 3}
        assert {1, 3} <= {frame.key[0] for frame in found}


def test_without_its_header_a_segment_is_read_by_the_folders_marker_or_its_own_frames() -> None:
    wanted = [Wanted(FrameKind.BEGUN, bytes([n]) * 16, b"{}", b"x") for n in range(1, 4)]
    whole, _ = segment(wanted)
    for marker in (None, MARKER):
        found, (gap,) = frames_in(b"\xff" * SEGMENT_HEADER_SIZE + whole[SEGMENT_HEADER_SIZE:], marker)
        assert len(found) == 3
        assert (gap.start, gap.end, gap.claimed_kind) == (0, SEGMENT_HEADER_SIZE, None)
    damaged = bytes(SEGMENT_HEADER_SIZE) + b"\xff" + whole[SEGMENT_HEADER_SIZE + 1 :]
    found, _ = frames_in(damaged[: SEGMENT_HEADER_SIZE + 8] + b"\xff" + damaged[SEGMENT_HEADER_SIZE + 9 :], MARKER)
    assert [frame.key[0] for frame in found] == [2, 3]


def test_a_preallocated_file_that_was_never_written_holds_nothing() -> None:
    for marker in (None, MARKER):
        assert frames_in(bytes(5000), marker) == ([], [])


@pytest.mark.parametrize("block", [1 << 8, 1 << 12])
def test_frames_and_damage_may_lie_across_blocks(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(scanning, "BLOCK", block)
    chance = random.Random(3)
    wanted = [
        Wanted(FrameKind.FINISHED, bytes([n]) * 16, b"{}", chance.randbytes(chance.randrange(1000))) for n in range(60)
    ]
    whole, starts = segment(wanted, zeros=3000)
    damaged = bytearray(whole)
    for n in range(5, 60, 10):
        damaged[starts[n] + chance.randrange(MARKER_SIZE, starts[n + 1] - starts[n])] ^= 1
    damaged[-10] = 1
    found, gaps = frames_in(bytes(damaged))
    assert [frame.key[0] for frame in found] == [n for n in range(60) if n % 10 != 5]
    assert [gap.start for gap in gaps] == [*starts[5:60:10], starts[-1]]


def test_a_segment_full_of_damage_is_read_in_linear_time() -> None:
    wanted = [Wanted(FrameKind.FINISHED, bytes(16), b"{}", b"x" * 100)] * 40_000
    whole, starts = segment(wanted[:1])
    one = whole[starts[0] :]
    bad = one[: MARKER_SIZE + 3] + b"\xff" + one[MARKER_SIZE + 4 :]
    data = whole[: starts[0]] + bad * 40_000
    started = time.process_time()
    found, gaps = frames_in(data)
    assert (len(found), len(gaps)) == (0, 40_000)
    assert time.process_time() - started < 5  # a second on a slow machine; quadratic would take minutes


# --- older versions --------------------------------------------------------------------------------------------------


@given(FRAMES, st.integers(0, 100))
def test_frames_of_older_versions_are_read(wanted: list[Wanted], zeros: int) -> None:
    data = b"".join(old_frames.frame(one.kind, one.key, one.body) for one in wanted) + bytes(zeros)
    found, gaps = frames_in(data)
    assert [(frame.kind, frame.key, bytes(frame.payload)) for frame in found] == [
        (one.kind, one.key, one.body) for one in wanted
    ]
    assert gaps == []


@given(FRAMES.filter(len), st.data())
@settings(max_examples=50)
def test_nothing_is_read_behind_damage_of_an_older_version(wanted: list[Wanted], data: st.DataObject) -> None:
    frames = [old_frames.frame(one.kind, one.key, one.body) for one in wanted]
    whole = b"".join(frames)
    at = data.draw(st.integers(0, len(whole) - 1))
    found, (gap,) = frames_in(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert all(frame.end <= at for frame in found)
    assert gap.end == len(whole)


def test_a_damaged_length_of_an_older_version_allocates_no_buffer() -> None:
    asked = interaction(b"{}")
    whole = old_frames.begun(asked)
    data = whole + struct.pack("<IIB16s", 0xFFFF_FFFF, 0, FrameKind.FINISHED, asked.id.bytes) + b"said"
    sizes: list[int] = []

    def read(offset: int, size: int) -> bytes:
        sizes.append(size)
        return data[offset : offset + size]

    frame, gap = SegmentScan(read, len(data))
    assert isinstance(frame, Frame)
    assert isinstance(gap, DamagedRange)
    assert gap.reason == "cut short"
    assert max(sizes) <= len(data)
