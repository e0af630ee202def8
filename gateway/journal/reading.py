"""Reads finished records back from the segments."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from gateway.journal.disk import in_thread_with_retry, read_at
from gateway.journal.frames import Frame, FrameKind, whole_frame
from gateway.journal.interrupted import interrupted_answer
from gateway.journal.locations import Extent, open_segment, segment_path
from gateway.journal.meta import decode_answer, decode_interaction
from gateway.model import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from gateway.journal.pending import PendingRecord
    from gateway.journal.recovery import Damage

MERGE_GAP_BYTES = 64 << 10  # two frames that are closer than this are read at once
MAX_READ_BYTES = 4 << 20

log = structlog.get_logger()


async def read_records(folder: Path, pendings: Sequence[PendingRecord]) -> dict[bytes, Record]:
    """Returns the records by their keys, from memory or disk. A record that cannot be read is left out and logged."""
    records = {pending.key: pending.record for pending in pendings if pending.record is not None}
    missing = [pending for pending in pendings if pending.key not in records]
    if not missing:
        return records
    extents = [extent for pending in missing for extent in _extents_of(pending)]
    frames = await in_thread_with_retry(read_extents, folder, extents)
    for pending in missing:
        try:
            records[pending.key] = to_record(pending, frames)
        except (ValueError, TypeError, KeyError) as error:
            fault = str(error) if isinstance(error, UnreadableFrame) else type(error).__name__
            log.error("record_unreadable", interaction_id=str(pending.id), folder=folder.name, fault=fault)  # noqa: TRY400
    return records


def read_frames(folder: Path, pending: PendingRecord) -> bytes:
    """Returns the frames of one record, as they are on disk. Blocks."""
    return b"".join(read_extents(folder, _extents_of(pending)).values())


def _extents_of(pending: PendingRecord) -> list[Extent]:
    return [extent for extent in (pending.begun, *pending.parts, pending.finished) if extent]


def read_damage(folder: Path, damage: Damage) -> bytes:
    """Returns the bytes of a damaged range, without the zeros around them. Blocks."""
    with segment_path(folder, damage.segment).open("rb") as file:
        return read_at(file.fileno(), damage.offset, damage.size).strip(b"\0")


class UnreadableFrame(ValueError):
    """The bytes are not the expected frame."""


def to_record(pending: PendingRecord, frames: Mapping[Extent, bytes]) -> Record:
    """Returns a record from the frames of its extents. Raises ValueError, TypeError, KeyError."""
    if pending.begun is None:
        raise UnreadableFrame("an answer without its request")
    key = pending.key
    interaction = decode_interaction(key, *checked_frame(frames[pending.begun], FrameKind.BEGUN, key).split())
    if pending.finished is not None:
        return Record(
            interaction, decode_answer(*checked_frame(frames[pending.finished], FrameKind.FINISHED, key).split())
        )
    parts = []
    with suppress(UnreadableFrame):  # the text behind a damaged part would have a gap
        for extent in pending.parts:
            parts.append(checked_frame(frames[extent], FrameKind.PART, key).payload)  # noqa: PERF401 (keeps a prefix)
    return Record(interaction, interrupted_answer(interaction, b"".join(parts), pending.finished_at, pending.fault))


def checked_frame(data: bytes, kind: FrameKind, key: bytes) -> Frame:
    """Returns the one frame in `data`. Raises UnreadableFrame if it is not whole, or not of this kind and key."""
    frame = whole_frame(data)
    if frame is None or frame.kind is not kind or frame.key != key:
        raise UnreadableFrame(f"no whole {kind.name} frame")
    return frame


def read_extents(folder: Path, extents: Iterable[Extent]) -> dict[Extent, bytes]:
    """Returns the bytes of each extent; neighbours are read at once. Blocks, so call it in a thread."""
    found: dict[Extent, bytes] = {}
    for run in _runs(sorted(extents)):
        first, last = run[0], run[-1]
        with suppress(FileNotFoundError):
            fd = open_segment(folder, first.segment)
            try:
                data = read_at(fd, first.offset, last.offset + last.size - first.offset)
            finally:
                os.close(fd)
            for extent in run:
                at = extent.offset - first.offset
                found[extent] = data[at : at + extent.size]
    return found


def _runs(extents: list[Extent]) -> Iterable[list[Extent]]:
    """Yields the extents in groups that are read at once."""
    run: list[Extent] = []
    for extent in extents:
        if run and not _is_near(run[0], run[-1], extent):
            yield run
            run = []
        run.append(extent)
    if run:
        yield run


def _is_near(first: Extent, last: Extent, extent: Extent) -> bool:
    is_close = extent.segment == last.segment and extent.offset - (last.offset + last.size) <= MERGE_GAP_BYTES
    return is_close and extent.offset + extent.size - first.offset <= MAX_READ_BYTES
