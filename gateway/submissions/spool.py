"""Submissions on disk beside the journal: those that wait for a better day, and those that nobody takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from gateway.shipping.ordering import PartitionKey
from gateway.shipping.retry_spool import write_durably

if TYPE_CHECKING:
    from pathlib import Path

WAITING = "submissions"
DEAD = "dead_letters"


@dataclass(frozen=True, slots=True)
class SpooledSubmission:
    """One submission on its way, with what is known of its fate. Times are Unix times, in seconds."""

    id: UUID
    place: PartitionKey
    finished_at: float  # the answer's end
    payload: bytes
    failing_since: float | None = None
    tries: int = 0  # that failed
    refusals: int = 0  # of these, those after which it was this one's own fault
    reason: str = ""  # of the last failure

    def failed(self, reason: str, now: float, *, is_refusal: bool = False) -> SpooledSubmission:
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


class DeadLetters:
    """`<id>.json` says what it is and why; `<id>.payload` is the body to send, to the letter. Nothing is deleted."""

    def __init__(self, directory: Path) -> None:
        self._folder = directory / DEAD
        self.count = 0

    def look(self) -> None:
        """Count what lies there; blocks."""
        self.count = sum(1 for _ in self._folder.glob("*.json"))

    def put(self, letter: SpooledSubmission) -> None:
        """Raises OSError when the disk does not take it; then it is where it was. Blocks."""
        self._put(str(letter.id), letter.payload, letter.note())

    def put_unreadable(self, path: Path) -> None:
        """A waiting letter that the disk has spoilt. Raises OSError; blocks."""
        note = {"id": path.name, "reason": "it cannot be read any more"}
        self._put(path.name, path.read_bytes(), orjson.dumps(note))

    def _put(self, name: str, payload: bytes, note: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(self._folder / f"{name}.payload", payload)
        write_durably(self._folder / f"{name}.json", note)


def read_spooled(path: Path) -> SpooledSubmission:
    """Blocks. Raises OSError, ValueError."""
    note, _, payload = path.read_bytes().partition(b"\n")
    known = orjson.loads(note)
    return SpooledSubmission(
        id=UUID(known["id"]),
        place=_place_of(known),
        finished_at=known["finished_at"],
        payload=payload,
        failing_since=known["failing_since"],
        tries=known["tries"],
        refusals=known["refusals"],
        reason=known["reason"],
    )


def read_place(path: Path) -> PartitionKey:
    """Which conversation it belongs to, without the rest. Blocks. Raises OSError, ValueError."""
    with path.open("rb") as file:
        known = orjson.loads(file.readline())
    return _place_of(known)


def _place_of(known: dict[str, Any]) -> PartitionKey:
    return PartitionKey(known["lane"], tuple(known.get("marks", ())))  # a letter of an earlier version has none
