"""Files of what waits for a better day while others go on: a queue for each ordering, which outlives the process."""

from __future__ import annotations

import fcntl
import os
import time
from bisect import insort
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import orjson

from gateway.journal.frames import Frame, FrameKind, FrameWriter
from gateway.journal.meta import decode_answer, decode_interaction, encode_answer, encode_interaction
from gateway.journal.scan import SegmentScan
from gateway.model import Record

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from uuid import UUID

MOST_WAITING = 1000
MOST_WAITING_BYTES = 256 << 20
_UNREADY = ".new"
_FRAMES = FrameWriter(b"a record")


class RetrySpool:
    """A file is `<order>-<lane>-<id>`. Every process of this journal writes here and knows which lanes have to queue;
    the one that holds the lock tries them again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lanes: dict[str, list[Path]] = {}
        self._sizes: dict[Path, int] = {}
        self._ids: Counter[str] = Counter()
        self._last = 0
        self._lock = -1
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, lane: str) -> bool:
        return lane in self._lanes

    @property
    def lanes(self) -> list[str]:
        return list(self._lanes)

    @property
    def paths(self) -> list[Path]:
        return list(self._sizes)

    @property
    def has_room(self) -> bool:
        return len(self) < MOST_WAITING and self.bytes < MOST_WAITING_BYTES

    def holds(self, id: UUID) -> bool:
        return str(id) in self._ids

    def first(self, lane: str) -> Path | None:
        paths = self._lanes.get(lane)
        return paths[0] if paths else None

    def add(self, path: Path, size: int) -> None:
        if path not in self._sizes:
            self._sizes[path] = size
            self._ids[_id_of(path)] += 1
            self.bytes += size
            insort(self._lanes.setdefault(_lane_of(path), []), path)

    def remove(self, path: Path) -> None:
        """It has arrived, or is dead."""
        path.unlink(missing_ok=True)
        size = self._sizes.pop(path, None)
        if size is not None:
            self.bytes -= size
            self._ids[_id_of(path)] -= 1
            if not self._ids[_id_of(path)]:
                del self._ids[_id_of(path)]
            lane = self._lanes[_lane_of(path)]
            lane.remove(path)
            if not lane:
                del self._lanes[_lane_of(path)]

    def review(self, found: Iterable[tuple[Path, int]]) -> None:
        """Take note of what `scan` has found: other processes write and remove files, too."""
        listed = dict(found)
        for path in [path for path in self._sizes if path not in listed and not path.exists()]:
            self.remove(path)
        for path, size in listed.items():
            if path not in self._sizes and path.exists():
                self.add(path, size)

    # --- files; these block, and raise OSError ------------------------------------------------------------------------

    def claim(self) -> bool:
        """Whether it is ours to try them again; until `release`, or this process's end."""
        if self._lock >= 0:
            return True
        try:
            fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._lock = fd
        return True

    def release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def scan(self) -> list[tuple[Path, int]]:
        found: list[tuple[Path, int]] = []
        with suppress(FileNotFoundError):
            for entry in os.scandir(self._folder):
                if entry.name.count("-") >= 2 and not entry.name.endswith(_UNREADY):
                    with suppress(FileNotFoundError):
                        found.append((self._folder / entry.name, entry.stat().st_size))
        return found

    def write(self, lane: str, id: UUID, data: bytes) -> Path:
        """Durable, behind the others of its lane. It queues when `add` has been told."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._last = max(self._last + 1, time.time_ns())
        path = self._folder / f"{self._last:020d}-{lane}-{id}"
        write_durably(path, data)
        return path


def _lane_of(path: Path) -> str:
    return path.name.split("-")[1]


def _id_of(path: Path) -> str:
    return path.name.split("-", 2)[2]


def encoded(record: Record, **note: object) -> bytes:
    """A line of JSON, and both frames as the journal has them."""
    interaction, answer = record.interaction, record.answer
    key = interaction.id.bytes
    begun = _FRAMES.begun(key, encode_interaction(interaction), interaction.body)
    return b"".join([orjson.dumps(note), b"\n", *begun, *_FRAMES.finished(key, encode_answer(answer), answer.body)])


def frames_in(path: Path) -> bytes:
    return path.read_bytes().partition(b"\n")[2]


def decoded(path: Path) -> Record:
    """Blocks. Raises OSError, and ValueError, LookupError or TypeError for what cannot be read."""
    scan = SegmentScan.of_bytes(frames_in(path))
    found = {frame.kind: frame for frame in scan if isinstance(frame, Frame)}
    begun, finished = found[FrameKind.BEGUN], found[FrameKind.FINISHED]
    return Record(decode_interaction(begun.key, *begun.split()), decode_answer(*finished.split()))


def write_durably(path: Path, data: bytes) -> None:
    """Whole and durable, or not at all."""
    unready = path.with_name(path.name + _UNREADY)
    try:
        with os.fdopen(os.open(unready, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unready.rename(path)
    except OSError:
        with suppress(OSError):  # each try has another name: on a full disk its pieces would take the rest of the room
            unready.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # the name, too: the journal may let go of the record now
    finally:
        os.close(folder)
