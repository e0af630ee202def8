"""Submissions on disk beside the journal: the spool of those that wait for a retry, and the dead letters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from gateway.shipping.ordering import PartitionKey
from gateway.shipping.retry_spool import write_durably

if TYPE_CHECKING:
    from pathlib import Path

SPOOL = "submissions"
DEAD_LETTERS = "dead_letters"


@dataclass(frozen=True, slots=True)
class Submission:
    """One submission and its attempts so far. Times are Unix times, in seconds."""

    id: UUID
    key: PartitionKey
    finished_at: float  # the answer's end
    payload: bytes
    failing_since: float | None = None
    tries: int = 0  # that failed
    refusals: int = 0  # failed tries after which the monitor refused this submission itself
    reason: str = ""  # of the last failure

    def failed(self, reason: str, now: float, *, is_refusal: bool = False) -> Submission:
        """Returns the submission with one more failed try."""
        return replace(
            self,
            tries=self.tries + 1,
            refusals=self.refusals + is_refusal,
            reason=reason,
            failing_since=self.failing_since or now,
        )

    def metadata(self) -> bytes:
        """Returns everything but the payload as one line of JSON."""
        return orjson.dumps(
            {
                "id": str(self.id),
                "reason": self.reason,
                "tries": self.tries,
                "refusals": self.refusals,
                "finished_at": self.finished_at,
                "failing_since": self.failing_since,
                "lane": self.key.value,
                "marks": self.key.fingerprints,
            }
        )

    def to_file(self) -> bytes:
        """Returns the content of its file in the spool."""
        return self.metadata() + b"\n" + self.payload


class DeadLetters:
    """A folder: `<id>.json` holds the metadata and the reason, `<id>.payload` the exact body to send.

    Nothing is deleted.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = directory / DEAD_LETTERS
        self.count = 0

    def update_count(self) -> None:
        """Counts the files: people remove some, and other processes add some. Blocks."""
        self.count = sum(1 for _ in self._folder.glob("*.json"))

    def put(self, submission: Submission) -> None:
        """Raises OSError if the disk refuses it; the submission is then where it was. Blocks."""
        self._put(str(submission.id), submission.payload, submission.metadata())

    def put_damaged(self, path: Path) -> None:
        """Puts a damaged file of the spool here. Raises OSError; blocks."""
        metadata = {"id": path.name, "reason": "it cannot be read any more"}
        self._put(path.name, path.read_bytes(), orjson.dumps(metadata))

    def _put(self, name: str, payload: bytes, metadata: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(self._folder / f"{name}.payload", payload)
        write_durably(self._folder / f"{name}.json", metadata)


def read_submission(path: Path) -> Submission:
    """Returns the submission of a file in the spool. Blocks. Raises OSError, ValueError, LookupError."""
    metadata, _, payload = path.read_bytes().partition(b"\n")
    fields = orjson.loads(metadata)
    return Submission(
        id=UUID(fields["id"]),
        key=_key_of(fields),
        finished_at=fields["finished_at"],
        payload=payload,
        failing_since=fields["failing_since"],
        tries=fields["tries"],
        refusals=fields["refusals"],
        reason=fields["reason"],
    )


def read_key(path: Path) -> PartitionKey:
    """Returns the partition key without reading the payload. Blocks. Raises OSError, ValueError, LookupError."""
    with path.open("rb") as file:
        return _key_of(orjson.loads(file.readline()))


def _key_of(fields: dict[str, Any]) -> PartitionKey:
    return PartitionKey(fields["lane"], tuple(fields.get("marks", ())))  # files of earlier versions have no marks
