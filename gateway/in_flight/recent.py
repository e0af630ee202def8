"""The answers of /chat that this process has finished lately: found at once, also while Postgres is away.

It is a help, not a record: bounded in time and bytes, and gone with the process. The record is in journal and store.
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

KEEP_S = 900.0  # as long as /checkchat looks back
MOST_BYTES = 32 << 20
OVERHEAD = 1024  # bytes of an entry besides its body, about


def digest(body: Json) -> bytes:
    """The same for requests that are the same JSON, whatever the order of their members."""
    try:
        text = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate, or an integer beyond 64 bits
        text = json.dumps(body, sort_keys=True).encode()
    return hashlib.sha256(text).digest()


@dataclass(frozen=True, slots=True)
class Finished:
    """One answer: whose it was, and to what."""

    user: str
    asked: bytes  # digest of the request
    answer: StoredAnswer
    at: float  # on the memory's clock

    @property
    def size(self) -> int:
        return len(self.answer.body) + OVERHEAD

    def names(self) -> Iterator[tuple[str, ...] | tuple[str, bytes, str | None]]:
        """All by which it is looked for."""
        yield self.user, self.asked, None
        yield self.user, self.asked, self.answer.root
        yield self.user, self.answer.root


class RecentAnswers:
    """The newest first to be found, the oldest first to be forgotten."""

    def __init__(
        self, most_bytes: int = MOST_BYTES, keep_s: float = KEEP_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most_bytes
        self._keep_s = keep_s
        self._clock = clock
        self._size = 0
        self._finished: dict[UUID, Finished] = {}  # the oldest first
        self._newest: dict[object, UUID] = {}

    def note(self, user: str, asked: bytes, answer: StoredAnswer) -> None:
        finished = Finished(user, asked, answer, self._clock())
        if finished.size > self._most:
            return
        self._finished[answer.id] = finished
        self._size += finished.size
        for name in finished.names():
            self._newest[name] = answer.id
        self._forget_old()

    def answer_to(self, user: str, asked: bytes, root: str | None) -> StoredAnswer | None:
        """The newest answer to this request; with `root`, in this conversation."""
        self._forget_old()
        found = self._newest.get((user, asked, root))
        return None if found is None else self._finished[found].answer

    def by_id(self, user: str, interaction_id: UUID) -> StoredAnswer | None:
        self._forget_old()
        finished = self._finished.get(interaction_id)
        return finished.answer if finished is not None and finished.user == user else None

    def has_conversation(self, user: str, root: str) -> bool:
        self._forget_old()
        return (user, root) in self._newest

    def _forget_old(self) -> None:
        since = self._clock() - self._keep_s
        while self._finished:
            interaction_id, oldest = next(iter(self._finished.items()))
            if oldest.at > since and self._size <= self._most:
                return
            del self._finished[interaction_id]
            self._size -= oldest.size
            for name in oldest.names():
                if self._newest.get(name) == interaction_id:
                    del self._newest[name]
