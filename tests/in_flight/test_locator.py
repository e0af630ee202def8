"""The locator looks in this process, then at its peers, then in the store, and stops where it finds an answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import msgspec
import orjson
import pytest

from gateway.errors import StoreUnavailable
from gateway.in_flight.in_flight import InFlight, RunningInfo
from gateway.in_flight.locator import Local, Locator, Peer, Stored
from gateway.in_flight.recent import RecentAnswers
from gateway.model import Outcome, PolicyOutcome, Principal, Ruling
from gateway.store.answers import StoredAnswer

if TYPE_CHECKING:
    from gateway.exchange.context import RequestContext

ANN, BOB = Principal("ann"), Principal("bob")
DIGEST = b"\x01\x02"


def ended(number: int, outcome: Outcome = Outcome.COMPLETE, root: str = "talk") -> StoredAnswer:
    return StoredAnswer(UUID(int=number), root, outcome, b"{}")


def at_peer(number: int, root: str = "talk", request_digest: bytes = DIGEST) -> Peer:
    return Peer(1, RunningInfo(UUID(int=number), root, "demo", 1.0, True, None, request_digest.hex()))


@dataclass
class Peers:
    """Other processes that have these answers, all of them Ann's."""

    calls: list[str]
    answers: list[Peer] = field(default_factory=list)
    ended: list[StoredAnswer] = field(default_factory=list)

    async def running(self, user: str) -> list[Peer]:
        self.calls.append("peers: running")
        return self.answers if user == "ann" else []

    async def finished(self, user: str, interaction_id: UUID) -> StoredAnswer | None:
        self.calls.append("peers: finished")
        return next((each for each in self.ended if each.id == interaction_id and user == "ann"), None)

    async def finished_answer_to(self, user: str, request_digest: bytes, root: str | None) -> StoredAnswer | None:
        self.calls.append("peers: finished")
        return next((each for each in self.ended if root in (None, each.root) and user == "ann"), None)


@dataclass
class Store:
    """Rows, all of them Ann's."""

    calls: list[str]
    rows: list[StoredAnswer] = field(default_factory=list)
    is_down: bool = False

    async def by_id(self, caller: Principal, interaction_id: UUID) -> StoredAnswer | None:
        self._ask()
        return next((each for each in self.rows if each.id == interaction_id and caller is ANN), None)

    async def answer_to(
        self, caller: Principal, request: bytes, *, since: float, root: str | None
    ) -> StoredAnswer | None:
        self._ask()
        assert request == b"recorded"
        return next((each for each in self.rows if root in (None, each.root) and caller is ANN), None)

    def _ask(self) -> None:
        self.calls.append("store")
        if self.is_down:
            raise StoreUnavailable("down")


class World:
    """A locator with all the places in which it looks."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.in_flight, self.recent = InFlight(), RecentAnswers()
        self.peers, self.store = Peers(self.calls), Store(self.calls)
        self.locator = Locator(self.in_flight, self.recent, self.peers, self.store)

    def run(self, number: int, root: str = "talk") -> None:
        context = SimpleNamespace(id=UUID(int=number), caller=ANN, recording=None, stopped=None)
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def answering() -> None:
            await never

        self.in_flight.start(cast("RequestContext", context), answering(), root, DIGEST)

    async def find(self, number: int, caller: Principal = ANN) -> Any:
        return await self.locator.find(UUID(int=number), caller)

    async def find_answer(self, root: str | None = None, caller: Principal = ANN) -> Any:
        return await self.locator.find_answer_to(caller, DIGEST, root, lambda: b"recorded")


@pytest.fixture
async def world() -> World:
    return World()


def test_a_running_info_survives_the_way_between_processes() -> None:
    for ruling in (None, Ruling(PolicyOutcome.MASKED, ("card numbers",))):
        info = RunningInfo(UUID(int=1), "talk", "demo", 1.0, True, ruling, "0102")
        assert msgspec.convert(orjson.loads(orjson.dumps(info)), RunningInfo) == info


# ── by id ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_answer_that_runs_here_is_found_without_asking_anyone(world: World) -> None:
    world.run(1)
    found = await world.find(1)
    assert isinstance(found, Local)
    assert found.info.id == UUID(int=1)
    assert world.calls == []


async def test_a_recent_answer_of_this_process_is_found_without_asking_anyone(world: World) -> None:
    world.recent.add("ann", DIGEST, ended(1))
    assert await world.find(1) == Stored(ended(1))
    assert world.calls == []


async def test_an_answer_that_runs_at_a_peer_is_found_there(world: World) -> None:
    world.peers.answers = [at_peer(1), at_peer(2)]
    assert await world.find(2) == at_peer(2)
    assert world.calls == ["peers: running"]


async def test_an_answer_that_a_peer_has_finished_is_found_before_its_row_exists(world: World) -> None:
    world.peers.ended = [ended(1)]
    assert await world.find(1) == Stored(ended(1))
    assert world.calls == ["peers: running", "peers: finished"]


async def test_the_store_is_the_last_place(world: World) -> None:
    world.store.rows = [ended(1)]
    assert await world.find(1) == Stored(ended(1))
    assert await world.find(2) is None
    assert world.calls == ["peers: running", "peers: finished", "store"] * 2


async def test_a_store_that_is_down_is_an_error_only_where_it_is_needed(world: World) -> None:
    world.store.is_down = True
    world.run(1)
    assert await world.find(1) is not None
    with pytest.raises(StoreUnavailable):
        await world.find(2)


async def test_other_users_find_no_answer(world: World) -> None:
    world.run(1)
    world.recent.add("ann", DIGEST, ended(2))
    world.peers.answers, world.peers.ended, world.store.rows = [at_peer(3)], [ended(4)], [ended(5)]
    assert [await world.find(number, BOB) for number in range(1, 6)] == [None] * 5
    assert await world.locator.find_running(UUID(int=1), "bob") is None
    assert await world.locator.running("bob") == []
    assert await world.find_answer(caller=BOB) is None


async def test_a_running_answer_is_looked_for_here_and_at_peers_only(world: World) -> None:
    world.run(1)
    world.peers.answers = [at_peer(2)]
    world.recent.add("ann", DIGEST, ended(3))
    found = [await world.locator.find_running(UUID(int=number), "ann") for number in (1, 2, 3)]
    assert [type(each) for each in found] == [Local, Peer, type(None)]
    assert world.calls == ["peers: running"] * 2


async def test_running_answers_are_listed_newest_first(world: World) -> None:
    world.run(2)
    world.peers.answers = [at_peer(1), at_peer(3)]
    assert [each.info.id.int for each in await world.locator.running("ann")] == [3, 2, 1]


# ── by request ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_complete_answer_of_this_host_needs_no_store(world: World) -> None:
    world.recent.add("ann", DIGEST, ended(1))
    world.peers.ended = [ended(2)]
    assert await world.find_answer() == Stored(ended(2))
    assert world.calls == ["peers: running", "peers: finished"]


@pytest.mark.parametrize("number", [1, 3])
async def test_the_newer_of_a_running_and_an_ended_answer_counts(world: World, number: int) -> None:
    world.run(number)
    world.recent.add("ann", DIGEST, ended(2))
    found = await world.find_answer()
    assert isinstance(found, Local if number > 2 else Stored)


async def test_a_running_answer_of_a_peer_counts(world: World) -> None:
    world.peers.answers = [at_peer(1, request_digest=b"another"), at_peer(2), at_peer(3, root="other")]
    assert await world.find_answer() == at_peer(3, root="other")
    assert await world.find_answer("talk") == at_peer(2)


async def test_a_newer_row_replaces_a_failure_of_this_host(world: World) -> None:
    world.recent.add("ann", DIGEST, ended(2, Outcome.UPSTREAM_ERROR))
    world.store.rows = [ended(1)]
    assert await world.find_answer() == Stored(ended(2, Outcome.UPSTREAM_ERROR))
    world.store.rows = [ended(3)]
    assert await world.find_answer() == Stored(ended(3))


async def test_a_failure_of_this_host_is_found_while_the_store_is_down(world: World) -> None:
    world.store.is_down = True
    with pytest.raises(StoreUnavailable):
        await world.find_answer()
    world.recent.add("ann", DIGEST, ended(1, Outcome.TRUNCATED))
    assert await world.find_answer() == Stored(ended(1, Outcome.TRUNCATED))


# ── by conversation ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_conversation_is_known_by_its_running_and_its_recent_answers(world: World) -> None:
    world.run(1, root="one")
    world.recent.add("ann", DIGEST, ended(2, root="two"))
    assert [world.locator.has_conversation("ann", root) for root in ("one", "two", "three")] == [True, True, False]
    assert not world.locator.has_conversation("bob", "one")
