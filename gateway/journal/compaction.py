"""Compaction: rewrites the open records of old segments, so that a slow stream does not hold back all later ones."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from gateway.journal.frames import NO_POSITION, FrameKind
from gateway.journal.locations import segment_path
from gateway.journal.meta import encode_interaction
from gateway.journal.reading import UnreadableFrame, checked_frame

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.journal.entry import JournalEntry
    from gateway.journal.locations import Extent
    from gateway.journal.segments import Segments
    from gateway.journal.subscription import Subscription

MAX_MOVES = 200  # in one call


def compact(
    entries: dict[bytes, JournalEntry], folder: Path, segments: Segments, subscriptions: Sequence[Subscription]
) -> None:
    """Moves the oldest open records to the end of the journal. `entries` are in the order of their BEGUN frames."""
    newest = segments.end.segment
    for entry in list(islice(entries.values(), MAX_MOVES)):
        if entry.begun is None or entry.begun.segment >= newest - 1:
            return
        try:
            _move(entry, folder, segments)
        except OSError:
            return
        except UnreadableFrame:  # it stays where it is, with the parts that can be read
            continue
        entries[entry.key] = entries.pop(entry.key)
        for subscription in subscriptions:
            subscription.on_moved(entry.key, entry.begun)


def _move(entry: JournalEntry, folder: Path, segments: Segments) -> None:
    """Writes a new BEGUN frame with one PART frame behind it, which replace all earlier frames of the record."""
    chunks = [_read_part(folder, entry.key, extent) for extent in entry.parts]
    assert entry.begun is not None
    interaction, frames = entry.interaction, segments.frames
    moved = [frames.begun(entry.key, encode_interaction(interaction), interaction.body, entry.begun[:2])]
    if chunks:
        moved.append(frames.part(entry.key, NO_POSITION, 0, chunks))
    entry.begun, *entry.parts = segments.append_together(*moved)


def _read_part(folder: Path, key: bytes, extent: Extent) -> bytes:
    """Raises OSError, UnreadableFrame."""
    fd = os.open(segment_path(folder, extent.segment), os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(fd, extent.size, extent.offset)
    finally:
        os.close(fd)
    return bytes(checked_frame(data, FrameKind.PART, key).payload)
