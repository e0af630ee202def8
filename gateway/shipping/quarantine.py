"""Where records go that no store takes: plain files for people to look at, until they can be brought back."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import orjson
import structlog

from gateway.journal.frames import Frame, FrameKind
from gateway.journal.interrupted import interrupted_answer
from gateway.journal.meta import decode_answer, decode_interaction, encode_answer, encode_interaction
from gateway.journal.scan import DamagedRange, SegmentScan
from gateway.model import Record
from gateway.shipping.retry_spool import write_durably

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

NAME = "quarantine"
TRIED_WITH = "tried-with"  # a file: the versions with which all were tried last
LOCK_PAUSE_S = 0.05
DEFAULT_SINK = "postgres"  # of records that a gateway set aside which did not write it down
REQUEST, RESPONSE, FRAMES, NOTE, GONE = ".request", ".response", ".frames", ".json", ".gone"

log = structlog.get_logger()


class QuarantineItem(NamedTuple):
    """What lies in quarantine under one name."""

    name: str
    note: dict[str, Any]  # what it is, and why it lies here
    bodies: dict[str, bytes]  # by the ending of their files
    since: float  # Unix time

    @property
    def reason(self) -> str:
        return str(self.note.get("reason", ""))

    @property
    def sink(self) -> str:
        return str(self.note.get("sink", DEFAULT_SINK))

    def records(self) -> list[Record]:
        """Raises ValueError, LookupError or TypeError when it cannot be read, or not all of it."""
        if FRAMES in self.bodies:
            return _records_in(self.bodies[FRAMES], self.since)
        asked, said = (json.dumps(self.note[half]).encode() for half in ("interaction", "answer"))
        interaction = decode_interaction(UUID(self.name).bytes, asked, self.bodies.get(REQUEST, b""))
        return [Record(interaction, decode_answer(said, self.bodies.get(RESPONSE, b"")))]


class Quarantine:
    """A folder of files: `<id>.json` says what it is and why, with `<id>.request` and `<id>.response` beside it.

    Files go when their records are rows. All methods block, but `lock`.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = directory / NAME
        self._seen_at: int | None = None
        self.count = 0

    def look(self) -> None:
        """Count what lies there; other processes bring it there and back, too."""
        try:
            changed_at = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            self.count = 0
            return
        if changed_at != self._seen_at:
            for gone in self._folder.glob("*" + GONE):  # of a process that was killed while it removed them
                self._remove_files(gone.stem)
            self.count = len(self.names())
            self._seen_at = changed_at

    def names(self) -> list[str]:
        return sorted(path.stem for path in self._folder.glob("*" + NOTE))

    def item(self, name: str) -> QuarantineItem:
        """Raises FileNotFoundError when there is none, ValueError when its note is spoilt."""
        if os.sep in name or "\0" in name:
            raise FileNotFoundError(name)
        path = self._folder / (name + NOTE)
        note = json.loads(path.read_bytes())
        if not isinstance(note, dict):
            raise TypeError("the note is no object")
        bodies = {}
        for ending in (REQUEST, RESPONSE, FRAMES):
            with suppress(FileNotFoundError):
                bodies[ending] = (self._folder / (name + ending)).read_bytes()
        return QuarantineItem(name, note, bodies, path.stat().st_mtime)

    def put_record(self, record: Record, reason: str, sink: str) -> None:
        """Raises OSError when the disk does not take it; then the record is where it was."""
        interaction, answer = record.interaction, record.answer
        self._put(
            interaction.id,
            {REQUEST: interaction.body, RESPONSE: answer.body},
            {
                "interaction": orjson.Fragment(encode_interaction(interaction)),
                "answer": orjson.Fragment(encode_answer(answer)),
                "reason": reason,
                "sink": sink,
            },
        )

    def put_frames(self, name: UUID | str, data: bytes, reason: str) -> None:
        """Bytes of the journal that cannot be read as records. Raises OSError."""
        self._put(name, {FRAMES: data}, {"reason": reason})

    def remove(self, name: str) -> None:
        """Its records are rows. Killed in between, it is no longer an item; the next look removes the rest."""
        with suppress(FileNotFoundError):
            (self._folder / (name + NOTE)).rename(self._folder / (name + GONE))
        self._remove_files(name)

    def _remove_files(self, name: str) -> None:
        for ending in (REQUEST, RESPONSE, FRAMES, GONE):
            (self._folder / (name + ending)).unlink(missing_ok=True)

    @property
    def tried_with(self) -> str | None:
        """The versions with which all that lies here was tried last."""
        try:
            return (self._folder / TRIED_WITH).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None

    @tried_with.setter
    def tried_with(self, versions: str) -> None:
        write_durably(self._folder / TRIED_WITH, versions.encode())

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """One at a time brings records back, of all processes."""
        try:
            fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield
            return
        try:
            while not _is_locked(fd):  # noqa: ASYNC110 - another process may hold it
                await asyncio.sleep(LOCK_PAUSE_S)
            yield
        finally:
            os.close(fd)

    def _put(self, name: UUID | str, bodies: Mapping[str, bytes], notes: Mapping[str, object]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for ending, body in bodies.items():
            if body:
                write_durably(self._folder / f"{name}{ending}", body)
        is_new = not (self._folder / f"{name}{NOTE}").exists()
        note = orjson.dumps({"id": str(name), **notes}, option=orjson.OPT_INDENT_2)
        write_durably(self._folder / f"{name}{NOTE}", note)
        self.count += is_new
        log.error("set_aside", id=str(name), reason=notes["reason"], folder=str(self._folder))


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _records_in(data: bytes, ended_at: float) -> list[Record]:
    """The records of frames, if all of it is frames; one without an end was interrupted."""
    begun: dict[bytes, Frame] = {}
    said: dict[bytes, bytes] = {}
    finished: dict[bytes, Frame] = {}
    for found in SegmentScan.of_bytes(data):
        if isinstance(found, DamagedRange):
            raise ValueError(found.reason)  # noqa: TRY004 - what lies there is spoilt
        if found.kind is FrameKind.BEGUN:
            begun[found.key] = found
        elif found.kind is FrameKind.FINISHED:
            finished[found.key] = found
        else:
            said[found.key] = said.get(found.key, b"") + found.payload
    if not begun or (finished.keys() | said.keys()) - begun.keys():
        raise ValueError("an answer without its question")
    records = []
    for key, frame in begun.items():
        interaction = decode_interaction(key, *frame.split())
        if key in finished:
            answer = decode_answer(*finished[key].split())
        else:
            answer = interrupted_answer(interaction, said.get(key, b""), ended_at)
        records.append(Record(interaction, answer))
    return records
