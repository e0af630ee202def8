"""Locator: finds an answer of /chat in this process, at its peers, or in the store."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.errors import StoreUnavailable
from gateway.in_flight.recent import KEEP_S
from gateway.model import Outcome
from gateway.store.rows import indexed_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from gateway.in_flight.in_flight import InFlight, RunningAnswer, RunningInfo
    from gateway.in_flight.recent import RecentAnswers
    from gateway.model import Principal
    from gateway.store.answers import StoredAnswer


@dataclass(frozen=True, slots=True)
class Local:
    """An answer that this process is making."""

    answer: RunningAnswer

    @property
    def info(self) -> RunningInfo:
        return self.answer.info()


@dataclass(frozen=True, slots=True)
class Peer:
    """An answer that another process of this host is making."""

    worker: int
    info: RunningInfo


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer that has ended, from the memory of a process or from the store."""

    answer: StoredAnswer


class PeerLookup(Protocol):
    """Asks the other processes of this host. A process that does not respond counts as one that has no answers."""

    async def running(self, user: str) -> list[Peer]:
        """All answers that they are making for a user."""
        ...

    async def finished(self, user: str, interaction_id: UUID) -> StoredAnswer | None:
        """An answer that one of them finished lately; its row may not exist yet."""
        ...

    async def finished_answer_to(self, user: str, request_digest: bytes, root: str | None) -> StoredAnswer | None:
        """The newest answer to a request that they finished lately; with `root`, in this conversation."""
        ...


class AnswerStore(Protocol):
    """Rows, each only for a caller who may read it. All methods raise StoreUnavailable."""

    async def by_id(self, caller: Principal, interaction_id: UUID) -> StoredAnswer | None: ...

    async def answer_to(
        self, caller: Principal, request: bytes, *, since: float, root: str | None
    ) -> StoredAnswer | None: ...


class Locator:
    """Answers "where is this answer?" for stop, resume and recovery: first this process, then its peers, then the
    store. Other people's answers are not found; auditors find them in the store."""

    def __init__(
        self, in_flight: InFlight, recent: RecentAnswers, peers: PeerLookup, store: AnswerStore | None
    ) -> None:
        self._in_flight = in_flight
        self._recent = recent
        self._peers = peers
        self._store = store

    async def find(self, interaction_id: UUID, caller: Principal) -> Local | Peer | Stored | None:
        """A running or ended answer by its id. Raises StoreUnavailable where only the store could have it."""
        user = caller.user
        if (running := self._in_flight.find(interaction_id, user)) is not None:
            return Local(running)
        ended = self._recent.by_id(user, interaction_id)
        if ended is None:
            if (peer := await self._find_at_peers(interaction_id, user)) is not None:
                return peer
            ended = await self._peers.finished(user, interaction_id)
        if ended is None and self._store is not None:
            ended = await self._store.by_id(caller, interaction_id)
        return None if ended is None else Stored(ended)

    async def find_running(self, interaction_id: UUID, user: str) -> Local | Peer | None:
        """A running answer by its id. Never asks the store."""
        running = self._in_flight.find(interaction_id, user)
        return Local(running) if running is not None else await self._find_at_peers(interaction_id, user)

    async def _find_at_peers(self, interaction_id: UUID, user: str) -> Peer | None:
        found = await self._peers.running(user)
        return next((each for each in found if each.info.id == interaction_id), None)

    async def running(self, user: str) -> list[Local | Peer]:
        """All answers that this host is making for a user, newest first."""
        found: list[Local | Peer] = [Local(answer) for answer in self._in_flight.running(user)]
        found += await self._peers.running(user)
        return sorted(found, key=lambda each: each.info.id, reverse=True)

    async def find_answer_to(
        self, caller: Principal, request_digest: bytes, root: str | None, recorded: Callable[[], bytes]
    ) -> Local | Peer | Stored | None:
        """The newest answer to a request within KEEP_S; with `root`, in this conversation. An ended answer that is
        complete needs no look into the store; `recorded` makes the request's body as its row has it.

        Raises StoreUnavailable where only the store could have it.
        """
        user = caller.user
        running = await self._newest_running(user, request_digest, root)
        here = self._recent.answer_to(user, request_digest, root)
        ended = _newer(here, await self._peers.finished_answer_to(user, request_digest, root))
        if running is not None and (ended is None or running.info.id > ended.id):
            return running
        if self._store is not None and (ended is None or ended.outcome is not Outcome.COMPLETE):
            try:
                stored = await self._store.answer_to(caller, recorded(), since=time.time() - KEEP_S, root=root)
            except StoreUnavailable:
                if ended is None:
                    raise
            else:
                ended = _newer(stored, ended)
        return None if ended is None else Stored(ended)

    async def _newest_running(self, user: str, request_digest: bytes, root: str | None) -> Local | Peer | None:
        wanted = None if root is None else indexed_text(root)
        return next(
            (
                each
                for each in await self.running(user)
                if each.info.request_digest == request_digest.hex() and wanted in (None, each.info.root_id)
            ),
            None,
        )

    def has_conversation(self, user: str, root: str) -> bool:
        """Whether this process makes or lately finished an answer in a conversation, which Postgres may lack."""
        running = self._in_flight.running(user)
        return self._recent.has_conversation(user, root) or any(answer.root == root for answer in running)


def _newer(one: StoredAnswer | None, other: StoredAnswer | None) -> StoredAnswer | None:
    """The answer with the higher id, `one` of two equals."""
    if one is None or other is None:
        return one or other
    return other if other.id > one.id else one
