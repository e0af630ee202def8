"""Long-running interactions are written down anew, so that one slow stream does not hold back all files since."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from gateway.record import frames
from gateway.record.meta import of_interaction
from gateway.record.segments import path_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.record.entry import Entry
    from gateway.record.feed import Feed
    from gateway.record.segments import Segments, Span

MOVES_A_TURN = 200


def move_stragglers(entries: dict[bytes, Entry], folder: Path, segments: Segments, feeds: Sequence[Feed]) -> None:
    """Move the oldest of these (they stand in the order of their BEGUN frames) out of the files that could go soon."""
    newest = segments.end.segment
    for entry in list(islice(entries.values(), MOVES_A_TURN)):
        if entry.begun is None or entry.begun.segment >= newest - 1:
            return
        try:
            _move(entry, folder, segments)
        except OSError:
            return
        entries[entry.key] = entries.pop(entry.key)
        for feed in feeds:
            feed.moved(entry.key, entry.begun)


def _move(entry: Entry, folder: Path, segments: Segments) -> None:
    """Its parts become one behind the new BEGUN; a reader lets these two take the place of all earlier ones."""
    said = [payload for span in entry.parts for payload in _part(folder, span)]
    begun = frames.begun(entry.key, of_interaction(entry.interaction), entry.interaction.body)
    moved = [begun, frames.part(entry.key, said)] if said else [begun]
    entry.begun, *entry.parts = segments.append_together(*moved)


def _part(folder: Path, span: Span) -> list[bytes]:
    fd = os.open(path_of(folder, span.segment), os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(fd, span.size, span.offset)
    finally:
        os.close(fd)
    return [bytes(frame.payload) for frame in frames.Scan(data)]
