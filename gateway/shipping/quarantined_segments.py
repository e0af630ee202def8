"""Whole segments in quarantine, from an older gateway that could not read their format: they become journals again."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from gateway.ids import Ids
from gateway.journal.disk import Disk
from gateway.journal.frames import segment_header
from gateway.journal.locations import Position, segment_path
from gateway.journal.lock import NEW_SUFFIX
from gateway.journal.subscription import Cursor
from gateway.shipping.quarantine import FRAMES
from gateway.shipping.retry_spool import write_durably

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.journal.frames import SegmentHeader
    from gateway.shipping.quarantine import Quarantine

log = structlog.get_logger()


def restore_segments(directory: Path, quarantine: Quarantine, sinks: Sequence[str]) -> None:
    """Moves whole segments from quarantine into folders, which are then taken over as those of dead processes.

    If the process is killed midway, the segments are shipped twice; no row is stored twice. Blocks; raises OSError.
    """
    journals: dict[bytes, list[tuple[SegmentHeader, str, bytes]]] = defaultdict(list)
    for name in quarantine.names():
        with suppress(OSError, ValueError, TypeError):
            data = quarantine.item(name).bodies.get(FRAMES, b"")
            header = segment_header(data)
            if header is not None:
                journals[header.marker].append((header, name, data))
    for segments in journals.values():
        first = min(header for header, _, _ in segments)
        folder = directory / str(Ids().new())
        unready = folder.with_name(folder.name + NEW_SUFFIX)
        unready.mkdir(mode=0o700)
        for header, _, data in segments:
            write_durably(segment_path(unready, header.number), data)
        for sink in sinks:  # the segments before the first are shipped
            cursor = Cursor(unready / f"{sink}.cursor")
            cursor.shipped = first.begun
            cursor.write(Position(first.number, 0))
            cursor.close()
        unready.rename(folder)
        Disk().sync_folder(directory)
        for _, name, _ in segments:
            quarantine.remove(name)
        log.info("segments_restored", folder=folder.name, segments=len(segments))
