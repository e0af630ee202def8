"""Recent answers of /chat of this process, in memory: found at once, also while Postgres is down.

They are a cache, not a record: bounded in time and bytes, and gone with the process. Journal and store have the record.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from gateway.model import Json
    from gateway.store.answers import StoredAnswer

KEEP_S = 900.0  # /checkchat finds answers that are at most so old
MOST_BYTES = 32 << 20
OVERHEAD = 1024  # estimated bytes of an entry besides its body


def digest(body: Json) -> bytes:
    """SHA-256 of a request as JSON with sorted members: equal for bodies that differ in their order only."""
    try:
        text = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate, or an integer beyond 64 bits
        text = json.dumps(body, sort_keys=True).encode()
    return hashlib.sha256(text).digest()


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished answer, with its user and the digest of its request."""

    user: str
    request_digest: bytes
    answer: StoredAnswer
    at: float  # on the clock of `RecentAnswers`

    @property
    def size(self) -> int:
        return len(self.answer.body) + OVERHEAD

    def index_keys(self) -> Iterator[tuple[str, ...] | tuple[str, bytes, str | None]]:
        """The keys of the index that lead to this answer."""
        yield self.user, self.request_digest, None
        yield self.user, self.request_digest, self.answer.root
        yield self.user, self.answer.root


class RecentAnswers:
    """Finds the newest of several answers, and drops the oldest first."""

    def __init__(
        self, most_bytes: int = MOST_BYTES, keep_s: float = KEEP_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most_bytes = most_bytes
        self._keep_s = keep_s
        self._clock = clock
        self._size = 0
        self._finished: dict[UUID, Finished] = {}  # oldest first
        self._newest: dict[object, UUID] = {}

    def add(self, user: str, request_digest: bytes, answer: StoredAnswer) -> None:
        finished = Finished(user, request_digest, answer, self._clock())
        if finished.size > self._most_bytes:
            return
        self._finished[answer.id] = finished
        self._size += finished.size
        for key in finished.index_keys():
            self._newest[key] = answer.id
        self._drop_old()

    def answer_to(self, user: str, request_digest: bytes, root: str | None) -> StoredAnswer | None:
        """The newest answer to a request; with `root`, in this conversation."""
        self._drop_old()
        found = self._newest.get((user, request_digest, root))
        return None if found is None else self._finished[found].answer

    def by_id(self, user: str, interaction_id: UUID) -> StoredAnswer | None:
        self._drop_old()
        finished = self._finished.get(interaction_id)
        return finished.answer if finished is not None and finished.user == user else None

    def has_conversation(self, user: str, root: str) -> bool:
        self._drop_old()
        return (user, root) in self._newest

    def _drop_old(self) -> None:
        since = self._clock() - self._keep_s
        while self._finished:
            interaction_id, oldest = next(iter(self._finished.items()))
            if oldest.at > since and self._size <= self._most_bytes:
                return
            del self._finished[interaction_id]
            self._size -= oldest.size
            for key in oldest.index_keys():
                if self._newest.get(key) == interaction_id:
                    del self._newest[key]
