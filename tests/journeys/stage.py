"""A gateway between an upstream of ours and a database of ours, and the views of all three."""

from __future__ import annotations

import asyncio
import io
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg
from openai import AsyncOpenAI

from tests.journeys.raw import Raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.gateway_process import GatewayProcess
    from tests.loopback import LoopbackUpstream

Row = dict[str, Any]
ROW_PATIENCE_S = 10.0
TABLES = ("chatgpt_logs", "image_logs", "api_logs")


def hello(text: str = "Hello!", **more: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": "loopback-1", "messages": [{"role": "user", "content": text}], **more}


def new_id() -> str:
    """A request id that nobody used before: by it a test finds its own row and log line."""
    return f"req_{uuid.uuid4().hex}"


@dataclass(slots=True)
class Answer:
    """What an HTTP client saw."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    request_id: str

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error of an answer that must be one, in OpenAI's shape."""
        assert self.headers["content-type"].startswith("application/json"), self
        error: dict[str, Any] = self.json()["error"]
        assert {"message", "type", "param", "code"} <= error.keys(), self
        assert isinstance(error["message"], str)
        assert error["message"]
        return error

    @property
    def data(self) -> list[str]:
        """The data of each event of a stream."""
        blocks = self.body.decode().split("\n\n")
        return [block.removeprefix("data: ") for block in blocks if block.startswith("data: ")]

    @property
    def events(self) -> list[Any]:
        return [json.loads(data) for data in self.data if data != "[DONE]"]

    @property
    def text(self) -> str:
        """What a streamed chat completion said."""
        return "".join(
            choice["delta"].get("content") or "" for event in self.events for choice in event.get("choices", ())
        )


@dataclass(slots=True)
class Stage:
    """One gateway process, its upstream and its database, for the tests of a module."""

    gateway: GatewayProcess
    upstream: LoopbackUpstream
    dsn: str
    _session: aiohttp.ClientSession | None = None
    _database: asyncpg.Connection | None = None
    _complaints_from: int = 0
    _raws: list[Raw] = field(default_factory=list)

    async def clear(self) -> None:
        """After a test: its connections are closed."""
        while self._raws:
            await self._raws.pop().close()

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
        if self._database is not None:
            await self._database.close()

    # --- asking ---

    async def ask(
        self, path: str, body: object = None, *, method: str = "POST", request_id: str = "", **more: Any
    ) -> Answer:
        """One request, read to its end; a `body` goes as JSON, or as it is when it is bytes."""
        request_id = request_id or new_id()
        headers = {"x-request-id": request_id, **more.pop("headers", {})}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        if body is not None:
            more["data"] = io.BytesIO(body)
        async with self.session.request(method, self.gateway.url + path, headers=headers, **more) as response:
            return Answer(response.status, response.headers, await response.read(), request_id)

    async def chat(self, text: str = "Hello!", *, path: str = "/v1/chat/completions", **more: Any) -> Answer:
        return await self.ask(path, hello(text, **more))

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            fresh = aiohttp.TCPConnector(force_close=True)  # an idle connection may be closed at any moment
            self._session = aiohttp.ClientSession(auto_decompress=False, connector=fresh)
        return self._session

    def openai(self, **more: Any) -> AsyncOpenAI:
        """The official client, at this gateway."""
        return AsyncOpenAI(**{"base_url": f"{self.gateway.url}/v1", "api_key": "sk-anything", "max_retries": 0, **more})

    async def raw(self, *, receive_buffer: int | None = None) -> Raw:
        """A connection, byte by byte; it is closed after the test, if not before."""
        raw = await Raw.to(self.gateway.port, receive_buffer=receive_buffer)
        self._raws.append(raw)
        return raw

    async def stream(self, text: str = "Hello!", *, request_id: str = "", path: str = "", **more: Any) -> Raw:
        """A connection on which a stream has been asked for."""
        raw = await self.raw()
        raw.post(path or "/v1/chat/completions", hello(text, stream=True, **more), request_id or new_id())
        return raw

    # --- looking ---

    async def fetch(self, sql: str, *values: Any) -> list[Row]:
        if self._database is None or self._database.is_closed():
            self._database = await asyncpg.connect(self.dsn)
            await self._database.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        return [dict(row) for row in await self._database.fetch(sql, *values)]

    async def rows(self, request_id: str) -> list[Row]:
        """The rows of a request, of whichever table; `table` says which."""
        try:
            return [
                {"table": table, **row}
                for table in TABLES
                for row in await self.fetch(f"select * from llm_logs.{table} where request_id = $1", request_id)
            ]
        except asyncpg.UndefinedTableError:  # the gateway has not come so far yet
            return []

    async def row(self, request_id: str, patience_s: float = ROW_PATIENCE_S) -> Row:
        """The one row of a request, waited for."""
        deadline = time.monotonic() + patience_s
        while not (rows := await self.rows(request_id)):
            if time.monotonic() > deadline:
                raise AssertionError(f"no row for {request_id}:\n{self.gateway.log_path.read_text()[-3000:]}")
            await asyncio.sleep(0.02)
        assert len(rows) == 1
        return rows[0]

    async def has_no_row(self, request_id: str) -> bool:
        """Rows are shipped in the order in which they ended: when a later one is there, an earlier one had to be."""
        later = await self.chat("Is it there?")
        await self.row(later.request_id)
        return not await self.rows(request_id)

    async def line(self, request_id: str) -> dict[str, Any]:
        """The canonical log line of a request."""
        return await self.gateway.logged(
            lambda line: line["event"] == "request" and line.get("request_id") == request_id
        )

    def complaints(self) -> list[str]:
        """What the log has said since the last look that a healthy gateway does not say."""
        said, self._complaints_from = self.gateway.complaints(self._complaints_from), len(self.gateway.log_lines())
        return said


async def open_stage(gateway: GatewayProcess, upstream: LoopbackUpstream, dsn: str) -> AsyncIterator[Stage]:
    """A stage with its gateway running; all of it is gone afterwards."""
    stage = Stage(gateway, upstream, dsn)
    try:
        async with gateway:
            yield stage
    finally:
        await stage.aclose()
