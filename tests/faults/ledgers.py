"""Load that keeps what each client saw, and its comparison with the upstream's requests and the rows."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg
import orjson

from tests.loopback import reply_to

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.loopback import LoopbackUpstream

PART_LAG_S = 1.0  # a part may be a tick (0.2 s) behind; on a loaded machine of two cores the tick itself is late


@dataclass(slots=True)
class Seen:
    """One client's view of its answer."""

    marker: str
    is_stream: bool
    status: int | None = None
    text: str = ""
    saw_end: bool = False
    error: str | None = None
    grown: list[tuple[float, int]] = field(default_factory=list)  # when, and how long the text was by then
    ended_at: float = 0.0

    @property
    def surely_journaled(self) -> str:
        """The text that the journal must have: it came long enough before the connection broke."""
        lengths = [length for at, length in self.grown if at <= self.ended_at - PART_LAG_S]
        return self.text[: lengths[-1]] if lengths else ""


class Load:
    """Clients that send one unique request after the other."""

    def __init__(self, url: str, clients: int, *, path: str = "/v1/chat/completions", streams: float = 0.8) -> None:
        self.seen: list[Seen] = []
        self._url = url + path
        self._clients = clients
        self._streams = streams
        self._stopping = asyncio.Event()
        self._random = random.Random(7)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(60)
        )
        self._tasks = [asyncio.create_task(self._ask_on(number)) for number in range(self._clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._session.close()

    async def stop(self) -> None:
        """Lets every client finish its request."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def _ask_on(self, number: int) -> None:
        count = 0
        while not self._stopping.is_set():
            count += 1
            seen = Seen(f"client {number} asks {count}", is_stream=self._random.random() < self._streams)
            self.seen.append(seen)
            try:
                await self._ask(seen)
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                seen.error = seen.error or type(error).__name__
            seen.ended_at = time.monotonic()
            if seen.status != 200:
                await asyncio.sleep(0.05)

    async def _ask(self, seen: Seen) -> None:
        body = {"model": "m", "stream": seen.is_stream, "messages": [{"role": "user", "content": seen.marker}]}
        async with self._session.post(self._url, json=body) as response:
            seen.status = response.status
            if response.status != 200:
                seen.error = await response.text()
            elif seen.is_stream:
                await self._follow(seen, response)
            else:
                seen.text = (await response.json())["choices"][0]["message"]["content"]
                seen.saw_end = True

    async def _follow(self, seen: Seen, response: aiohttp.ClientResponse) -> None:
        async for line in response.content:
            if not line.startswith(b"data: "):
                continue
            if line.strip() == b"data: [DONE]":
                seen.saw_end = True
                continue
            event = orjson.loads(line[6:])
            if "error" in event:
                seen.error = event["error"]["code"]
                continue
            assert "usage" not in event or event["usage"] is None, "the gateway's own usage event reached the client"
            for choice in event["choices"]:
                seen.text += choice["delta"].get("content") or ""
            seen.grown.append((time.monotonic(), len(seen.text)))


async def rows_of(dsn: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(
            "select id, request, response, outcome, request_raw, response_raw, error from llm_logs.chatgpt_logs"
        )
    finally:
        await connection.close()


async def settled_rows(dsn: str, wanted: int, timeout_s: float = 30.0) -> list[asyncpg.Record]:
    """Returns the rows when there are as many as wanted and their number is stable."""
    deadline = time.monotonic() + timeout_s
    before = -1
    while True:
        rows = await rows_of(dsn)
        if (len(rows) >= wanted and len(rows) == before) or time.monotonic() > deadline:
            return rows
        before = len(rows)
        await asyncio.sleep(0.5)


def marker_of(row: asyncpg.Record) -> str:
    return str(orjson.loads(row["request"])["messages"][0]["content"])


def text_of(row: asyncpg.Record) -> str:
    if row["response"] is None:
        return ""
    choices = orjson.loads(row["response"]).get("choices") or [{}]
    return str((choices[0].get("message") or {}).get("content") or "")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Markers of the interactions that break a promise."""

    lost: list[str]
    twice: list[str]
    wrong: list[str]
    asked: int
    whole: int
    rows: int

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.twice or self.wrong)


def compare(seen: Iterable[Seen], upstream: LoopbackUpstream, rows: Iterable[Any]) -> Verdict:
    """Compares: each request has exactly one row, and the row holds what the client saw."""
    by_marker: dict[str, list[Any]] = {}
    for row in rows:
        by_marker.setdefault(marker_of(row), []).append(row)
    asked = {orjson.loads(request.body)["messages"][0]["content"] for request in upstream.requests if request.body}
    clients = {one.marker: one for one in seen}
    lost = sorted(asked - by_marker.keys())
    lost += sorted(one.marker for one in clients.values() if one.saw_end and one.marker not in by_marker)
    twice = sorted(marker for marker, found in by_marker.items() if len(found) > 1)
    wrong = [
        f"{marker}: {fault}"
        for marker, found in by_marker.items()
        if (fault := _fault(clients.get(marker), marker, found[0]))
    ]
    whole = sum(one.saw_end for one in clients.values())
    return Verdict(lost, twice, wrong, asked=len(asked), whole=whole, rows=sum(map(len, by_marker.values())))


def _fault(client: Seen | None, marker: str, row: Any) -> str | None:
    expected, kept = reply_to(marker), text_of(row)
    if client is None:
        return "no client sent this"
    if client.saw_end:
        if client.text != expected:
            return f"the client read {client.text!r}"
        if row["outcome"] != "complete":
            return f"the client saw the end, the row says {row['outcome']}"
    if row["outcome"] == "complete":
        return None if kept == expected else f"complete, but {kept!r} was kept"
    if not expected.startswith(kept):
        return f"{kept!r} was never sent"
    if not kept.startswith(client.surely_journaled):
        return f"of {client.surely_journaled!r} only {kept!r} was kept"
    return None
