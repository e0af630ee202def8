"""Finished records, read back from the segments."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from gateway.journal.disk import patiently, read_at
from gateway.journal.frames import Frame, FrameKind, whole_frame
from gateway.journal.interrupted import interrupted_answer
from gateway.journal.meta import to_answer, to_interaction
from gateway.journal.segments import Span, open_segment, path_of
from gateway.model import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from gateway.journal.pending import Pending
    from gateway.journal.recovery import Damage

GAP = 64 << 10  # two frames that are closer than this are read at once
BLOCK = 4 << 20

log = structlog.get_logger()


async def read(folder: Path, pendings: Sequence[Pending]) -> dict[bytes, Record]:
    """The records of those that are not in memory, by key. What cannot be read any more is missing, and logged."""
    records = {pending.key: pending.record for pending in pendings if pending.record is not None}
    missing = [pending for pending in pendings if pending.key not in records]
    if not missing:
        return records
    spans = [span for pending in missing for span in (pending.begun, *pending.parts, pending.finished) if span]
    blocks = await patiently(read_spans, folder, spans)
    for pending in missing:
        try:
            records[pending.key] = to_record(pending, blocks)
        except (ValueError, TypeError, KeyError) as error:
            fault = str(error) if isinstance(error, Unreadable) else type(error).__name__
            log.error("record_unreadable", interaction_id=str(pending.id), folder=folder.name, fault=fault)  # noqa: TRY400
    return records


def read_raw(folder: Path, pending: Pending) -> bytes:
    """The frames of one record as they lie; blocks."""
    spans = [span for span in (pending.begun, *pending.parts, pending.finished) if span]
    return b"".join(read_spans(folder, spans).values())


def read_damage(folder: Path, damage: Damage) -> bytes:
    """The part of a segment that holds no whole frame, without the zeros around it; blocks."""
    with path_of(folder, damage.segment).open("rb") as file:
        return read_at(file.fileno(), damage.offset, damage.size).strip(b"\0")


class Unreadable(ValueError):
    """What lies there is not the frame that should."""


def to_record(pending: Pending, frames: Mapping[Span, bytes]) -> Record:
    """Raises ValueError, TypeError, KeyError."""
    if pending.begun is None:
        raise Unreadable("an answer without its question")
    key = pending.key
    interaction = to_interaction(key, *frame_of(frames[pending.begun], FrameKind.BEGUN, key).split())
    if pending.finished is not None:
        return Record(interaction, to_answer(*frame_of(frames[pending.finished], FrameKind.FINISHED, key).split()))
    said = []
    with suppress(Unreadable):  # what comes behind a damaged part would not be what was said
        for span in pending.parts:
            said.append(frame_of(frames[span], FrameKind.PART, key).payload)  # noqa: PERF401 (what there is counts)
    return Record(interaction, interrupted_answer(interaction, b"".join(said), pending.finished_at, pending.fault))


def frame_of(data: bytes, kind: FrameKind, key: bytes) -> Frame:
    """Raises Unreadable."""
    frame = whole_frame(data)
    if frame is None or frame.kind is not kind or frame.key != key:
        raise Unreadable(f"no whole {kind.name} frame")
    return frame


def read_spans(folder: Path, spans: Iterable[Span]) -> dict[Span, bytes]:
    """The bytes of each span. Neighbours are read in one go; blocks, so call it in a thread."""
    found: dict[Span, bytes] = {}
    for run in _runs(sorted(spans)):
        first, last = run[0], run[-1]
        with suppress(FileNotFoundError):
            fd = open_segment(folder, first.segment)
            try:
                data = read_at(fd, first.offset, last.offset + last.size - first.offset)
            finally:
                os.close(fd)
            for span in run:
                at = span.offset - first.offset
                found[span] = data[at : at + span.size]
    return found


def _runs(spans: list[Span]) -> Iterable[list[Span]]:
    run: list[Span] = []
    for span in spans:
        if run and not _is_near(run[0], run[-1], span):
            yield run
            run = []
        run.append(span)
    if run:
        yield run


def _is_near(first: Span, last: Span, span: Span) -> bool:
    is_close = span.segment == last.segment and span.offset - (last.offset + last.size) <= GAP
    return is_close and span.offset + span.size - first.offset <= BLOCK
