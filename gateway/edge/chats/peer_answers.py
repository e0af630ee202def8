"""Answers of /chat at the other workers of this host: find, stop and resume them.

The kernel spreads connections among the workers, so most stops and page reloads reach another worker than the one that
makes the answer. Workers answer each other over sockets that only this account can open, and each asks for one user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from aiohttp import web

from gateway.in_flight.in_flight import RunningInfo
from gateway.in_flight.locator import Peer
from gateway.store.answers import StoredAnswer

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from uuid import UUID

    from gateway.peers.peers import Peers

# Paths of a worker's own application, `peer_app`.
RUNNING_PATH = "/running"
RECENT_PATH = "/recent"
IN_FLIGHT_PATH = "/in_flight"


class PeerAnswers:
    """Implements `locator.PeerLookup` by requests to the other workers."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def running(self, user: str) -> list[Peer]:
        found = await self._peers.ask_all(RUNNING_PATH, user=user)
        return [
            Peer(worker, msgspec.convert(each, RunningInfo))
            for worker, answers in found.items()
            for each in answers or ()
        ]

    async def finished(self, user: str, interaction_id: UUID) -> StoredAnswer | None:
        return await self._newest(f"{RECENT_PATH}/{interaction_id}", user=user)

    async def finished_answer_to(self, user: str, request_digest: bytes, root: str | None) -> StoredAnswer | None:
        of_root = {} if root is None else {"root": root}
        return await self._newest(RECENT_PATH, user=user, request_digest=request_digest.hex(), **of_root)

    async def _newest(self, path: str, **query: str) -> StoredAnswer | None:
        found = await self._peers.ask_all(path, **query)
        answers = [msgspec.convert(each, StoredAnswer) for each in found.values() if each is not None]
        return max(answers, key=lambda answer: answer.id, default=None)

    async def in_flight(self) -> list[Any]:
        """The rows of `snapshot.rows_of` of each other worker; None for one that does not respond."""
        return list((await self._peers.ask_all(IN_FLIGHT_PATH)).values())

    async def stop(self, user: str, found: Peer) -> bool:
        """Stops an answer; False when it has ended meanwhile, or its worker has."""
        try:
            async with self._call(found, "POST", "stop", user) as response:
                return response.status == 200
        except (OSError, aiohttp.ClientError):
            return False

    def stream(self, user: str, found: Peer) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Opens the stream of an answer. Raises OSError, aiohttp.ClientError."""
        return self._call(found, "GET", "stream", user)

    def _call(
        self, found: Peer, method: str, action: str, user: str
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._peers.call(found.worker, method, f"{RUNNING_PATH}/{found.info.id}/{action}", user=user)


PEER_ANSWERS = web.AppKey("peer answers", PeerAnswers)
