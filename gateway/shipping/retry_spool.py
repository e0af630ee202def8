"""Files of records that wait for a retry while others pass: a queue per partition key, which survives the process."""

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

MAX_RECORDS = 1000
MAX_BYTES = 256 << 20
_TEMPORARY = ".new"
_FRAMES = FrameWriter(b"a record")


class RetrySpool:
    """An index of the files in a folder, each named `<sequence>-<partition key>-<record id>`.

    All processes that share the journal directory write here and see which partitions wait. The process that holds
    the folder's lock makes the retries.
    """

    def __init__(self, folder: Path, *, max_records: int = MAX_RECORDS, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._partitions: dict[str, list[Path]] = {}
        self._sizes: dict[Path, int] = {}
        self._ids: Counter[str] = Counter()
        self._sequence = 0
        self._lock = -1
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, partition: str) -> bool:
        return partition in self._partitions

    @property
    def partitions(self) -> list[str]:
        return list(self._partitions)

    @property
    def paths(self) -> list[Path]:
        return list(self._sizes)

    @property
    def has_room(self) -> bool:
        return len(self) < self._max_records and self.bytes < self._max_bytes

    def has_record(self, id: UUID) -> bool:
        return str(id) in self._ids

    def first(self, partition: str) -> Path | None:
        """Returns the oldest file of a partition."""
        paths = self._partitions.get(partition)
        return paths[0] if paths else None

    def add(self, path: Path, size: int) -> None:
        """Adds a written file to the index."""
        if path not in self._sizes:
            self._sizes[path] = size
            self._ids[record_name(path)] += 1
            self.bytes += size
            insort(self._partitions.setdefault(_partition_of(path), []), path)

    def remove(self, path: Path) -> None:
        """Deletes a file whose record is delivered or given up."""
        path.unlink(missing_ok=True)
        size = self._sizes.pop(path, None)
        if size is not None:
            self.bytes -= size
            self._ids[record_name(path)] -= 1
            if not self._ids[record_name(path)]:
                del self._ids[record_name(path)]
            paths = self._partitions[_partition_of(path)]
            paths.remove(path)
            if not paths:
                del self._partitions[_partition_of(path)]

    def update(self, found: Iterable[tuple[Path, int]]) -> None:
        """Brings the index up to date with the result of `scan`: other processes write and remove files, too."""
        listed = dict(found)
        for path in [path for path in self._sizes if path not in listed and not path.exists()]:
            self.remove(path)
        for path, size in listed.items():
            if path not in self._sizes and path.exists():
                self.add(path, size)

    # --- files; these block, and raise OSError ------------------------------------------------------------------------

    def claim(self) -> bool:
        """Takes the lock, until `release` or the end of the process. Returns whether this process holds it."""
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
        """Returns the files of the folder with their sizes."""
        found: list[tuple[Path, int]] = []
        with suppress(FileNotFoundError):
            for entry in os.scandir(self._folder):
                if entry.name.count("-") >= 2 and not entry.name.endswith(_TEMPORARY):
                    with suppress(FileNotFoundError):
                        found.append((self._folder / entry.name, entry.stat().st_size))
        return found

    def write(self, partition: str, id: UUID, data: bytes) -> Path:
        """Writes a durable file behind the others of its partition. It is in the queue after `add`."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sequence = max(self._sequence + 1, time.time_ns())
        path = self._folder / f"{self._sequence:020d}-{partition}-{id}"
        write_durably(path, data)
        return path


def _partition_of(path: Path) -> str:
    return path.name.split("-")[1]


def record_name(path: Path) -> str:
    """Returns the record's id, as the file's name holds it."""
    return path.name.split("-", 2)[2]


def encode_record(record: Record, **metadata: object) -> bytes:
    """Returns a line of JSON, then both frames as the journal writes them."""
    interaction, answer = record.interaction, record.answer
    key = interaction.id.bytes
    begun = _FRAMES.begun(key, encode_interaction(interaction), interaction.body)
    return b"".join([orjson.dumps(metadata), b"\n", *begun, *_FRAMES.finished(key, encode_answer(answer), answer.body)])


def read_frames(path: Path) -> bytes:
    """Returns the frames of a file that `encode_record` made. Blocks; raises OSError."""
    return path.read_bytes().partition(b"\n")[2]


def read_record(path: Path) -> Record:
    """Returns the record of such a file. Blocks.

    Raises OSError, and ValueError, LookupError or TypeError if the file is damaged.
    """
    scan = SegmentScan.of_bytes(read_frames(path))
    found = {frame.kind: frame for frame in scan if isinstance(frame, Frame)}
    begun, finished = found[FrameKind.BEGUN], found[FrameKind.FINISHED]
    return Record(decode_interaction(begun.key, *begun.split()), decode_answer(*finished.split()))


def write_durably(path: Path, data: bytes) -> None:
    """Writes a file that is whole and synced, or none at all. Blocks; raises OSError."""
    temporary = path.with_name(path.name + _TEMPORARY)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        with suppress(OSError):  # each try has another name: on a full disk the remains would take the rest of the room
            temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # the name must be durable, too: the journal may drop the record now
    finally:
        os.close(folder)
