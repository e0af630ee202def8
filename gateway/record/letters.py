"""Submissions on disk beside the journal: those that wait for a better day, and those that nobody takes."""

from __future__ import annotations

import fcntl
import os
import time
from bisect import insort
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from gateway.record.lanes import Place

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

WAITING = "submissions"
DEAD = "dead_letters"
MOST_WAITING = 1000
MOST_WAITING_BYTES = 256 << 20
_UNREADY = ".new"


@dataclass(frozen=True, slots=True)
class Letter:
    """One submission on its way, with what is known of its fate. Times are Unix times, in seconds."""

    id: UUID
    place: Place
    finished_at: float  # the answer's end
    payload: bytes
    failing_since: float | None = None
    tries: int = 0  # that failed
    refusals: int = 0  # of these, those after which it was this one's own fault
    reason: str = ""  # of the last failure

    def failed(self, reason: str, now: float, *, is_refusal: bool = False) -> Letter:
        return replace(
            self,
            tries=self.tries + 1,
            refusals=self.refusals + is_refusal,
            reason=reason,
            failing_since=self.failing_since or now,
        )

    def note(self) -> bytes:
        """Everything about it but the payload, as one line of JSON."""
        return orjson.dumps(
            {
                "id": str(self.id),
                "reason": self.reason,
                "tries": self.tries,
                "refusals": self.refusals,
                "finished_at": self.finished_at,
                "failing_since": self.failing_since,
                "lane": self.place.lane,
                "marks": self.place.marks,
            }
        )


class Waiting:
    """Letters whose lanes do not get through while others do: a file each, which outlives the process.

    A file is `<order>-<lane>-<id>`: the note, a line end, the payload. Every process of this journal writes here and
    knows which lanes have to queue; the one that holds the lock carries the letters out.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = directory / WAITING
        self._lanes: dict[str, list[Path]] = {}
        self._sizes: dict[Path, int] = {}
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

    def first(self, lane: str) -> Path | None:
        paths = self._lanes.get(lane)
        return paths[0] if paths else None

    def add(self, path: Path, size: int) -> None:
        if path not in self._sizes:
            self._sizes[path] = size
            self.bytes += size
            insort(self._lanes.setdefault(_lane_of(path), []), path)

    def remove(self, path: Path) -> None:
        """It has arrived, or is dead."""
        path.unlink(missing_ok=True)
        size = self._sizes.pop(path, None)
        if size is not None:
            self.bytes -= size
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
        """Whether it is ours to carry the letters out; until `release`, or this process's end."""
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

    def write(self, letter: Letter) -> Path:
        """Durable, behind the others of its lane. It queues when `add` has been told."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._last = max(self._last + 1, time.time_ns())
        path = self._folder / f"{self._last:020d}-{letter.place.lane}-{letter.id}"
        _write(path, letter.note() + b"\n" + letter.payload)
        return path


class DeadLetters:
    """`<id>.json` says what it is and why; `<id>.payload` is the body to send, to the letter. Nothing is deleted."""

    def __init__(self, directory: Path) -> None:
        self._folder = directory / DEAD
        self.count = 0

    def look(self) -> None:
        """Count what lies there; blocks."""
        self.count = sum(1 for _ in self._folder.glob("*.json"))

    def put(self, letter: Letter) -> None:
        """Raises OSError when the disk does not take it; then it is where it was. Blocks."""
        self._put(str(letter.id), letter.payload, letter.note())

    def put_unreadable(self, path: Path) -> None:
        """A waiting letter that the disk has spoilt. Raises OSError; blocks."""
        note = {"id": path.name, "reason": "it cannot be read any more"}
        self._put(path.name, path.read_bytes(), orjson.dumps(note))

    def _put(self, name: str, payload: bytes, note: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(self._folder / f"{name}.payload", payload)
        _write(self._folder / f"{name}.json", note)


def read_letter(path: Path) -> Letter:
    """Blocks. Raises OSError, ValueError."""
    note, _, payload = path.read_bytes().partition(b"\n")
    known = orjson.loads(note)
    return Letter(
        id=UUID(known["id"]),
        place=_place_of(known),
        finished_at=known["finished_at"],
        payload=payload,
        failing_since=known["failing_since"],
        tries=known["tries"],
        refusals=known["refusals"],
        reason=known["reason"],
    )


def read_place(path: Path) -> Place:
    """Which conversation it belongs to, without the rest. Blocks. Raises OSError, ValueError."""
    with path.open("rb") as file:
        known = orjson.loads(file.readline())
    return _place_of(known)


def _place_of(known: dict[str, Any]) -> Place:
    return Place(known["lane"], tuple(known.get("marks", ())))  # a letter of an earlier version has none


def _lane_of(path: Path) -> str:
    return path.name.split("-")[1]


def _write(path: Path, data: bytes) -> None:
    """Whole and durable, or not at all."""
    unready = path.with_name(path.name + _UNREADY)
    with os.fdopen(os.open(unready, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unready.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # the name, too: the journal may let go of the record now
    finally:
        os.close(folder)
