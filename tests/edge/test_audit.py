"""`/live`: auditors see each interaction once as it is kept, find it again, and open what it belongs to."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from gateway.edge.http.app_keys import IN_FLIGHT, LIVE_TAIL
from gateway.in_flight import live_tail as hub
from tests.edge.app import House, house
from tests.edge.rules import CARD, COMPANYS
from tests.loopback import Script, WaitFor, chat_completion
from tests.postgres import running_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import ClientResponse

EVE = "eve/auditors"


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    position: int | None
    data: Any


class Watch:
    """One who watches: reads the stream event by event."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.comments = 0

    async def next(self, patience_s: float = 10.0) -> Event:
        """The next one but for what is said of answers that are under way."""
        async with asyncio.timeout(patience_s):
            while (event := await self._next()).name == "underway":
                pass
        return event

    async def underway(self) -> list[Any]:
        """What is being answered, when that is told next."""
        async with asyncio.timeout(10):
            while (event := await self._next()).name != "underway":
                pass
        assert event.position is None
        assert isinstance(event.data["now"], float)
        return list(event.data["data"])

    async def _next(self) -> Event:
        while (block := (await self.response.content.readuntil(b"\n\n")).decode()).startswith(":"):
            self.comments += 1
        fields = dict(line.split(": ", 1) for line in block.strip().split("\n"))
        return Event(fields["event"], int(fields["id"]) if "id" in fields else None, json.loads(fields["data"]))

    async def asked(self) -> str:
        """What was asked in the next interaction."""
        event = await self.next()
        assert event.name == "interaction", event
        return str(event.data["asked"])

    async def is_quiet(self, seconds: float = 1.2) -> bool:
        try:
            await self.next(seconds)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def watching(
    it: House, query: str = "", *, by: str = EVE, seen: int | None = None, **headers: str
) -> AsyncIterator[Watch]:
    headers |= {} if seen is None else {"Last-Event-ID": str(seen)}
    async with it.open(f"/live/events{query}", by=by, headers=headers) as response:
        assert response.status == 200, await response.text()
        yield Watch(response)


async def test_each_interaction_is_sent_once_with_its_policy_outcome(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, policy=COMPANYS) as it, watching(it) as watch:
        assert watch.response.headers["Content-Type"].startswith("text/event-stream")
        assert (await watch.next()).name == "begun"
        await it.chat(f"Pay with {CARD.decode()}")
        event = await watch.next()
        assert event.name == "interaction"
        assert (event.data["user_name"], event.data["asked"]) == ("ann", "Pay with [card number]")
        assert (event.data["policy_outcome"], event.data["policy_rules"]) == ("masked", ["card numbers"])
        await it.ask("/chat", {"model": "m", "messages": [{"role": "user", "content": "weapons?"}]}, by="bob")
        event = await watch.next()
        assert (event.data["user_name"], event.data["outcome"]) == ("bob", "policy_blocked")
        assert await watch.is_quiet()


async def test_an_interaction_in_flight_is_sent_until_it_ends(tmp_path: Path, database: str) -> None:
    go, began = asyncio.Event(), time.time()
    async with (
        house(tmp_path, database) as it,
        watching(it) as watch,
        watching(it, "?user=bob&kind=chat") as of_bob,
        watching(it, "?user=ann") as of_ann,
        watching(it, "?outcome=complete") as of_ended,
    ):
        it.upstream.on = lambda _: Script([WaitFor(go)]) + chat_completion("ok")
        asking = asyncio.create_task(it.chat("hello", by="bob"))
        (one,) = await watch.underway()
        assert (one["user_name"], one["model"], one["source"], one["path"]) == ("bob", "loopback-1", "chat", "/chat")
        assert began <= one["started_at"] <= time.time()
        assert await of_bob.underway() == [one]
        embedding = asyncio.create_task(it.ask("/v1/embeddings", {"model": "e", "input": "x"}, by="ann/nobody"))
        assert [each["user_name"] for each in await watch.underway()] == ["bob", "ann"]
        assert [each["source"] for each in await of_ann.underway()] == ["api"]
        go.set()
        await asking
        await embedding
        async with asyncio.timeout(10):
            while await watch.underway():
                pass
        assert await of_bob.underway() == await of_ann.underway() == []
        assert (await of_ended.next()).name == "begun"
        assert one["id"] in [(await of_ended.next()).data["id"] for _ in range(2)]


async def test_names_that_no_json_can_hold_are_sent_as_they_are_stored(tmp_path: Path, database: str) -> None:
    go = asyncio.Event()
    async with house(tmp_path, database) as it, watching(it) as watch:
        it.upstream.on = lambda _: Script([WaitFor(go)]) + chat_completion("ok")
        body = b'{"model":"m\\ud800\\u0000","messages":[{"role":"user","content":"hi"}]}'
        headers = {"X-User": "ann", "Content-Type": "application/json"}
        asking = asyncio.create_task(it.client.post("/v1/chat/completions", data=body, headers=headers))
        (one,) = await watch.underway()
        assert one["model"] == "m\\ud800\ufffd"
        go.set()
        (await asking).release()


async def test_a_reader_that_reconnects_continues_at_its_position(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        async with watching(it) as watch:
            await watch.next()
            await it.chat("one")
            seen = (await watch.next()).position
        await it.chat("two")
        await it.chat("three")
        await it.rows(3)
        async with watching(it, seen=seen) as watch:
            assert (await watch.next()).name == "begun"
            assert [await watch.asked(), await watch.asked()] == ["two", "three"]
            await it.chat("four")
            assert await watch.asked() == "four"
            assert await watch.is_quiet()


async def test_two_gateways_send_each_others_interactions(tmp_path: Path, database: str) -> None:
    async with (
        house(tmp_path / "a", database) as one,
        house(tmp_path / "b", database) as other,
        watching(one) as here,
        watching(other) as there,
    ):
        await here.next()
        await there.next()
        await one.chat("said here")
        assert await here.asked() == await there.asked() == "said here"
        await other.chat("said there")
        assert await here.asked() == await there.asked() == "said there"


async def test_filters_apply_to_live_events(tmp_path: Path, database: str) -> None:
    async with (
        house(tmp_path, database, policy=COMPANYS, GATEWAY_HEARTBEAT_S="1") as it,
        watching(it, "?user=bob&policy=any") as watch,
    ):
        await watch.next()
        await it.chat("by ann")
        await it.chat("by bob", by="bob")
        await it.chat(f"{CARD.decode()} by bob", by="bob")
        assert await watch.asked() == "[card number] by bob"
        await it.chat("others")
        passed = await watch.next()
        assert (passed.name, passed.position) == ("passed", 4)  # when it is cut, it goes on from here


async def test_dropped_changes_give_the_event_missed(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        await it.chat("one")
        await it.rows(1)
        await it.fetch("select llm_logs.number_arrivals(10), llm_logs.forget_arrivals(interval '0')")
        async with watching(it, seen=0) as watch:
            assert (await watch.next()).name == "missed"
            await it.chat("two")
            assert await watch.asked() == "two"
        async with watching(it, seen=10**17) as watch:  # of another database
            assert (await watch.next()).name == "missed"


async def test_interactions_during_an_outage_of_postgres_are_sent_once_after_it(tmp_path: Path) -> None:
    with running_postgres() as server:
        async with house(tmp_path, server.dsn, GATEWAY_DB_CONNECT_S="1") as it, watching(it) as watch:
            await watch.next()
            await it.chat("before")
            assert await watch.asked() == "before"
            await asyncio.to_thread(server.stop)
            assert (await watch.next()).name == "away"
            assert (await it.ask("/live/search", by=EVE)).code == "store_unavailable"
            await it.chat("meanwhile")
            await asyncio.to_thread(server.start)
            assert (await watch.next(30)).name == "back"
            assert await watch.asked() == "meanwhile"
            assert await watch.is_quiet()


@pytest.mark.stopwatch
async def test_silence_has_heartbeats_which_are_comments(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, GATEWAY_HEARTBEAT_S="1") as it, watching(it) as watch:
        await watch.next()
        assert await watch.is_quiet(4.0)
        assert 1 <= watch.comments <= 4


async def test_a_revoked_key_ends_the_stream(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, GATEWAY_AUTH="header, keys", GATEWAY_AUTH_KEYS_REFRESH_S="0.2") as it:
        order = {"user": "eve", "name": "watching", "roles": ["auditor"]}
        key = (await it.ask("/admin/keys", order, by="root/admins")).json()
        async with watching(it, by="", Authorization=f"Bearer {key['value']}") as watch:
            await watch.next()
            await it.chat("before")
            assert await watch.asked() == "before"
            await it.ask(f"/admin/keys/{key['id']}", by="root/admins", method="DELETE")
            ended = await watch.next()
            assert (ended.name, ended.data["code"]) == ("ended", "invalid_api_key")
            await it.chat("after")
            assert await watch.response.content.read() == b""


async def test_a_shutdown_ends_the_stream_with_a_reason(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it, watching(it) as watch:
        await watch.next()
        it.app[IN_FLIGHT].begin_drain()
        ended = await watch.next()
        assert (ended.name, ended.data["code"]) == ("ended", "shutting_down")
        assert ended.position is None  # whoever comes back goes on from the last event before it
        assert await watch.response.content.read() == b""
        assert await it.app[IN_FLIGHT].idle(10)


async def test_the_number_of_readers_is_limited_and_places_are_released(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        taken = [it.open("/live/events", by=EVE) for _ in range(hub.MOST_OF_USER)]
        responses = [await each.__aenter__() for each in taken]
        assert {each.status for each in responses} == {200}
        refused = await it.ask("/live/events", by=EVE)
        assert (refused.status, refused.code) == (503, "too_many_watchers")
        async with watching(it, by="mallory/auditors"):
            pass
        for each in taken:
            await each.__aexit__(None, None, None)
        async with asyncio.timeout(5):
            while it.app[LIVE_TAIL].position is not None:
                await asyncio.sleep(0.05)  # and nobody asks Postgres for nobody


async def test_accesses_of_auditors_are_logged_without_content(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        uuid = (await it.chat("rosebud")).json()["uuid"]
        await it.rows(1)
        with capture_logs() as lines:
            await it.ask("/live/search?q=rosebud&user=ann", by=EVE)
            await it.ask(f"/live/conversations/{uuid}", by=EVE)
            async with watching(it):
                pass
        looks = [line for line in lines if line["event"] == "looked_at"]
        assert [(line["what"], line["caller"]) for line in looks] == [
            ("search", "eve"),
            ("conversation", "eve"),
            ("live", "eve"),
        ]
        assert looks[0]["user"] == looks[1]["of"] == "ann"
        assert looks[1]["interaction_id"] == uuid
        assert "rosebud" not in str(lines)


async def test_a_search_continues_after_its_page(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        for text in ("one", "two", "three"):
            await it.chat(text)
        await it.rows(3)
        first = (await it.ask("/live/search?limit=2", by=EVE)).json()
        assert [line["asked"] for line in first["data"]] == ["three", "two"]
        rest = (await it.ask(f"/live/search?limit=2&before={first['next_before']}", by=EVE)).json()
        assert [line["asked"] for line in rest["data"]] == ["one"]
        assert rest["next_before"] is None
        assert (await it.ask("/live/search?to=2001-01-01", by=EVE)).json()["data"] == []
        found = (await it.ask("/live/search?from=2001-01-01T00:00:00Z&q=tw", by=EVE)).json()["data"]
        assert [line["asked"] for line in found] == ["two"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "outcome=fine",
        "policy=none",
        "kind=chats",
        "from=yesterday",
        "to=9999-99-99",
        "from=0001-01-01T00:00:00%2B23:00",
        "before=x",
        f"user={'u' * 513}",
        f"q={'w' * 201}",
    ],
)
async def test_an_invalid_query_is_refused(tmp_path: Path, database: str, query: str) -> None:
    async with house(tmp_path, database) as it:
        answer = await it.ask(f"/live/search?{query}", by=EVE)
        assert answer.status == 400
        assert answer.code == "invalid_request"


async def test_unusual_names_can_be_searched(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        for query in (
            "user=%00",
            "user=%ED%B3%BF",
            "q=%00%27",
            "q=%ED%B3%BF",
            "user=%27%3B--",
            "from=0001-01-01&q=x",
            "to=9999-12-31&q=x",
            "from=9999-12-31&q=x",
            "before=0001-01-01_" + "0" * 32,
        ):
            assert (await it.ask(f"/live/search?{query}", by=EVE)).json() == {"data": [], "next_before": None}, query


async def test_a_missing_conversation_is_a_404(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        for name in ("0" * 32, "x", "%00"):
            assert (await it.ask(f"/live/conversations/{name}", by=EVE)).status == 404


async def test_the_page_itself_contains_no_data(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        page = await it.ask("/live", by="")
        assert page.status == 200
        assert "require-trusted-types-for" in page.headers["Content-Security-Policy"]
