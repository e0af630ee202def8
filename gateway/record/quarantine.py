"""Where records go that no store takes: plain files for people to look at. Nothing is ever deleted here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import orjson
import structlog

from gateway.record.meta import of_answer, of_interaction

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from uuid import UUID

    from gateway.model import Record

NAME = "quarantine"

log = structlog.get_logger()


class Quarantine:
    """A folder of files: `<id>.json` says what it is and why, with `<id>.request` and `<id>.response` beside it."""

    def __init__(self, directory: Path) -> None:
        self._folder = directory / NAME
        self.count = 0

    def look(self) -> None:
        """Count what lies there already; blocks."""
        self.count = sum(1 for _ in self._folder.glob("*.json"))

    def put_record(self, record: Record, reason: str, sink: str) -> None:
        """Raises OSError when the disk does not take it; then the record is where it was. Blocks."""
        interaction, answer = record.interaction, record.answer
        self._put(
            interaction.id,
            {".request": interaction.body, ".response": answer.body},
            {
                "interaction": orjson.Fragment(of_interaction(interaction)),
                "answer": orjson.Fragment(of_answer(answer)),
                "reason": reason,
                "sink": sink,
            },
        )

    def put_frames(self, name: UUID | str, data: bytes, reason: str) -> None:
        """Bytes of the journal that cannot be read as records. Raises OSError; blocks."""
        self._put(name, {".frames": data}, {"reason": reason})

    def _put(self, name: UUID | str, bodies: Mapping[str, bytes], notes: Mapping[str, object]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for ending, body in bodies.items():
            if body:
                _write(self._folder / f"{name}{ending}", body)
        is_new = not (self._folder / f"{name}.json").exists()
        _write(self._folder / f"{name}.json", orjson.dumps({"id": str(name), **notes}, option=orjson.OPT_INDENT_2))
        self.count += is_new
        log.error("set_aside", id=str(name), reason=notes["reason"], folder=str(self._folder))


def _write(path: Path, data: bytes) -> None:
    """Whole and durable, or not at all: this is the last copy."""
    unready = path.with_name(path.name + ".new")
    fd = os.open(unready, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    unready.rename(path)
