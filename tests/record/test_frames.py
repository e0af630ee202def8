"""Frames: whatever was written whole is read whole, and nothing that is torn or altered is taken for a frame."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.record import frames
from gateway.record.frames import HEAD_SIZE, Frame, FrameKind, Scan, read_frame

KEYS = st.binary(min_size=16, max_size=16)
BODIES = st.binary(max_size=200)


def encoded(kind: FrameKind, key: bytes, meta: bytes, body: bytes) -> bytes:
    match kind:
        case FrameKind.BEGUN:
            return b"".join(frames.begun(key, meta, body))
        case FrameKind.FINISHED:
            return b"".join(frames.finished(key, meta, body))
        case FrameKind.PART:
            return b"".join(frames.part(key, [meta, body]))


FRAMES = st.tuples(st.sampled_from(FrameKind), KEYS, BODIES, BODIES)


@given(st.lists(FRAMES, max_size=8), st.integers(0, 100))
def test_every_frame_is_read_as_it_was_written(wanted: list[tuple[FrameKind, bytes, bytes, bytes]], zeros: int) -> None:
    scan = Scan(b"".join(encoded(*one) for one in wanted) + bytes(zeros))
    found = list(scan)
    assert [(frame.kind, frame.key) for frame in found] == [(kind, key) for kind, key, _, _ in wanted]
    for frame, (kind, _, meta, body) in zip(found, wanted, strict=True):
        if kind is FrameKind.PART:
            assert bytes(frame.payload) == meta + body
        else:
            assert frame.split() == (meta, body)
    assert scan.fault is None


def test_a_tail_torn_at_any_byte_is_cut_off_and_reported() -> None:
    whole = encoded(FrameKind.BEGUN, b"a" * 16, b'{"kind":"chat"}', b"what was asked")
    torn = encoded(FrameKind.FINISHED, b"a" * 16, b'{"status":200}', b"what was said")
    for cut in range(1, len(torn)):
        for rest in (b"", bytes(64)):  # at the end of a file, and in a preallocated one
            scan = Scan(whole + torn[:cut] + rest)
            assert [frame.kind for frame in scan] == [FrameKind.BEGUN]
            assert scan.end == len(whole)
            assert scan.fault is not None, cut


@settings(max_examples=300)
@given(FRAMES, st.data())
def test_an_altered_byte_is_never_taken_for_what_was_said(
    one: tuple[FrameKind, bytes, bytes, bytes], data: st.DataObject
) -> None:
    whole = encoded(*one)
    at = data.draw(st.integers(0, len(whole) - 1))
    flip = data.draw(st.integers(1, 255))
    altered = whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]
    assert list(Scan(altered)) == []


@given(st.binary(max_size=300))
def test_random_bytes_never_raise(data: bytes) -> None:
    scan = Scan(data)
    list(scan)
    assert scan.fault is not None or not any(data)


def test_a_frame_that_claims_to_be_huge_asks_for_its_size_and_no_memory() -> None:
    head = b"\xff\xff\xff\x7f" + bytes(4) + b"\x02" + b"k" * 16
    found = read_frame(memoryview(head), 0)
    assert found == frames.Lack(HEAD_SIZE + 0x7FFFFFFF)


def test_thousands_of_chunks_are_one_part_of_few_buffers() -> None:
    chunks = [b"%d," % number for number in range(5000)]
    buffers = frames.part(b"k" * 16, chunks)
    assert len(buffers) <= frames.MOST_BUFFERS
    (frame,) = Scan(b"".join(buffers))
    assert isinstance(frame, Frame)
    assert bytes(frame.payload) == b"".join(chunks)
