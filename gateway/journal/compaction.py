"""Long-running interactions are written down anew, so that one slow stream does not hold back all files since."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from gateway.journal.frames import NOWHERE, FrameKind
from gateway.journal.meta import of_interaction
from gateway.journal.reading import Unreadable, frame_of
from gateway.journal.segments import path_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.journal.entry import JournalEntry
    from gateway.journal.segments import Segments, Span
    from gateway.journal.subscription import Subscription

MOVES_A_TURN = 200


def compact(
    entries: dict[bytes, JournalEntry], folder: Path, segments: Segments, feeds: Sequence[Subscription]
) -> None:
    """Move the oldest of these (they stand in the order of their BEGUN frames) out of the files that could go soon."""
    newest = segments.end.segment
    for entry in list(islice(entries.values(), MOVES_A_TURN)):
        if entry.begun is None or entry.begun.segment >= newest - 1:
            return
        try:
            _move(entry, folder, segments)
        except OSError:
            return
        except Unreadable:  # it stays where it is, with what can be read of it
            continue
        entries[entry.key] = entries.pop(entry.key)
        for feed in feeds:
            feed.moved(entry.key, entry.begun)


def _move(entry: JournalEntry, folder: Path, segments: Segments) -> None:
    """Its parts become one behind the new BEGUN; a reader lets these two take the place of all earlier ones."""
    said = [_part(folder, entry.key, span) for span in entry.parts]
    assert entry.begun is not None
    interaction, frames = entry.interaction, segments.frames
    moved = [frames.begun(entry.key, of_interaction(interaction), interaction.body, entry.begun[:2])]
    if said:
        moved.append(frames.part(entry.key, NOWHERE, 0, said))
    entry.begun, *entry.parts = segments.append_together(*moved)


def _part(folder: Path, key: bytes, span: Span) -> bytes:
    """Raises OSError, Unreadable."""
    fd = os.open(path_of(folder, span.segment), os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(fd, span.size, span.offset)
    finally:
        os.close(fd)
    return bytes(frame_of(data, FrameKind.PART, key).payload)
