"""Quarantine: records that no store takes, as plain files that people can read, until a retry stores them."""

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
TRIED_WITH = "tried-with"  # a file: the versions of the last retry of all items
LOCK_PAUSE_S = 0.05
DEFAULT_SINK = "postgres"  # of records from gateways that did not write the sink down
REQUEST, RESPONSE, FRAMES, METADATA, REMOVED = ".request", ".response", ".frames", ".json", ".gone"

log = structlog.get_logger()


class QuarantineItem(NamedTuple):
    """The files of one name."""

    name: str
    metadata: dict[str, Any]  # the record without its bodies, and the reason
    bodies: dict[str, bytes]  # by the ending of their files
    since: float  # Unix time

    @property
    def reason(self) -> str:
        return str(self.metadata.get("reason", ""))

    @property
    def sink(self) -> str:
        return str(self.metadata.get("sink", DEFAULT_SINK))

    def records(self) -> list[Record]:
        """Returns all records of the item. Raises ValueError, LookupError or TypeError if a part cannot be read."""
        if FRAMES in self.bodies:
            return _records_in(self.bodies[FRAMES], self.since)
        interaction, answer = (json.dumps(self.metadata[part]).encode() for part in ("interaction", "answer"))
        request, response = self.bodies.get(REQUEST, b""), self.bodies.get(RESPONSE, b"")
        return [
            Record(decode_interaction(UUID(self.name).bytes, interaction, request), decode_answer(answer, response))
        ]


class Quarantine:
    """A folder of files: `<id>.json` holds the metadata and the reason, `<id>.request` and `<id>.response` the bodies.

    Files go when their records are rows. All methods but `lock` block.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = directory / NAME
        self._changed_at: int | None = None
        self.count = 0

    def update_count(self) -> None:
        """Counts the items: other processes add and remove some, too."""
        try:
            changed_at = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            self.count = 0
            return
        if changed_at != self._changed_at:
            for removed in self._folder.glob("*" + REMOVED):  # of a process that was killed while it removed them
                self._remove_files(removed.stem)
            self.count = len(self.names())
            self._changed_at = changed_at

    def names(self) -> list[str]:
        return sorted(path.stem for path in self._folder.glob("*" + METADATA))

    def item(self, name: str) -> QuarantineItem:
        """Raises FileNotFoundError if there is no such item, ValueError or TypeError if its metadata is damaged."""
        if os.sep in name or "\0" in name:
            raise FileNotFoundError(name)
        path = self._folder / (name + METADATA)
        metadata = json.loads(path.read_bytes())
        if not isinstance(metadata, dict):
            raise TypeError("the metadata is not an object")
        bodies = {}
        for ending in (REQUEST, RESPONSE, FRAMES):
            with suppress(FileNotFoundError):
                bodies[ending] = (self._folder / (name + ending)).read_bytes()
        return QuarantineItem(name, metadata, bodies, path.stat().st_mtime)

    def put_record(self, record: Record, reason: str, sink: str) -> None:
        """Raises OSError if the disk refuses it; the record is then still in the journal or the spool."""
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
        """Puts bytes of the journal here that cannot be read as records. Raises OSError."""
        self._put(name, {FRAMES: data}, {"reason": reason})

    def remove(self, name: str) -> None:
        """Removes an item whose records are rows. If the process is killed midway, `update_count` removes the rest."""
        with suppress(FileNotFoundError):
            (self._folder / (name + METADATA)).rename(self._folder / (name + REMOVED))
        self._remove_files(name)

    def _remove_files(self, name: str) -> None:
        for ending in (REQUEST, RESPONSE, FRAMES, REMOVED):
            (self._folder / (name + ending)).unlink(missing_ok=True)

    @property
    def tried_with(self) -> str | None:
        """The versions of the last retry of all items."""
        try:
            return (self._folder / TRIED_WITH).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None

    @tried_with.setter
    def tried_with(self, versions: str) -> None:
        write_durably(self._folder / TRIED_WITH, versions.encode())

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """Admits one retry at a time, among all processes."""
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

    def _put(self, name: UUID | str, bodies: Mapping[str, bytes], metadata: Mapping[str, object]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for ending, body in bodies.items():
            if body:
                write_durably(self._folder / f"{name}{ending}", body)
        is_new = not (self._folder / f"{name}{METADATA}").exists()
        data = orjson.dumps({"id": str(name), **metadata}, option=orjson.OPT_INDENT_2)
        write_durably(self._folder / f"{name}{METADATA}", data)
        self.count += is_new
        log.error("set_aside", id=str(name), reason=metadata["reason"], folder=str(self._folder))


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _records_in(data: bytes, ended_at: float) -> list[Record]:
    """Returns the records of these frames; one without an end was interrupted. Raises ValueError for other bytes."""
    begun: dict[bytes, Frame] = {}
    parts: dict[bytes, bytes] = {}
    finished: dict[bytes, Frame] = {}
    for found in SegmentScan.of_bytes(data):
        if isinstance(found, DamagedRange):
            raise ValueError(found.reason)  # noqa: TRY004 - the data is damaged
        if found.kind is FrameKind.BEGUN:
            begun[found.key] = found
        elif found.kind is FrameKind.FINISHED:
            finished[found.key] = found
        else:
            parts[found.key] = parts.get(found.key, b"") + found.payload
    if not begun or (finished.keys() | parts.keys()) - begun.keys():
        raise ValueError("an answer without its request")
    records = []
    for key, frame in begun.items():
        interaction = decode_interaction(key, *frame.split())
        if key in finished:
            answer = decode_answer(*finished[key].split())
        else:
            answer = interrupted_answer(interaction, parts.get(key, b""), ended_at)
        records.append(Record(interaction, answer))
    return records
