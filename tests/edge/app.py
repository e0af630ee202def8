"""The whole application in this process: a loopback upstream, a real Postgres, and callers known by a header."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg
from aiohttp.test_utils import TestClient, TestServer

from gateway.app import NO_RULES, build_app
from gateway.settings import load
from tests.loopback import LoopbackUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from aiohttp import ClientResponse, web

    from gateway.policy.engine import Policy

BY_HEADER = {
    "GATEWAY_AUTH": "header",
    "GATEWAY_AUTH_TRUSTED_NETWORKS": "127.0.0.1",
    "GATEWAY_AUTH_USER_HEADER": "X-User",
    "GATEWAY_AUTH_TITLE_HEADER": "X-Title",
    "GATEWAY_AUTH_GROUPS_HEADER": "X-Groups",
    "GATEWAY_AUTH_AUDITOR_GROUPS": "auditors",
    "GATEWAY_AUTH_ADMIN_GROUPS": "admins",
}


def hello(text: str = "Hello!", **more: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": "loopback-1", "messages": [{"role": "user", "content": text}], **more}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an answer that must be an error, in OpenAI's shape."""
        body = self.json()
        assert body.keys() == {"error"}, body
        assert body["error"].keys() == {"message", "type", "param", "code"}, body
        return str(body["error"]["code"])


@dataclass(slots=True)
class House:
    """One application, and whoever knocks at it."""

    client: TestClient[web.Request, web.Application]
    upstream: LoopbackUpstream
    dsn: str
    _database: asyncpg.Connection[asyncpg.Record] | None = field(default=None)

    @property
    def app(self) -> web.Application:
        app = self.client.app
        assert app is not None
        return app

    async def ask(self, path: str, body: object = None, *, by: str = "ann", method: str = "", **more: Any) -> Answer:
        async with self.open(path, body, by=by, method=method, **more) as response:
            return Answer(response.status, response.headers, await response.read())

    @asynccontextmanager
    async def open(
        self, path: str, body: object = None, *, by: str = "ann", method: str = "", **more: Any
    ) -> AsyncIterator[ClientResponse]:
        """A request by a user, in JSON where it has a body; `by` may name a group: `eve/auditors`."""
        user, _, groups = by.partition("/")
        headers = {name: value for name, value in (("X-User", user), ("X-Groups", groups)) if value}
        method = method or ("GET" if body is None else "POST")
        headers |= more.pop("headers", {})
        async with self.client.request(method, path, json=body, headers=headers, **more) as response:
            yield response

    async def chat(self, text: str = "Hello!", *, by: str = "ann", **more: Any) -> Answer:
        answer = await self.ask("/chat", hello(text, **more), by=by)
        assert answer.status == 200, answer
        return answer

    async def fetch(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        if self._database is None:
            self._database = await asyncpg.connect(self.dsn)
            await self._database.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        return [dict(row) for row in await self._database.fetch(sql, *values)]

    async def rows(self, count: int, table: str = "chatgpt_logs", patience_s: float = 10.0) -> list[dict[str, Any]]:
        """The rows of a table in the order of their ids, once there are so many."""
        deadline = time.monotonic() + patience_s
        while len(found := await self.fetch(f"select * from llm_logs.{table} order by id")) < count:
            assert time.monotonic() < deadline, f"{len(found)} rows, not {count}"
            await asyncio.sleep(0.02)
        assert len(found) == count
        return found

    async def aclose(self) -> None:
        if self._database is not None:
            await self._database.close()


@asynccontextmanager
async def house(
    folder: Path, dsn: str, *, pace: float = 0.0, policy: Policy = NO_RULES, **env: str
) -> AsyncIterator[House]:
    async with LoopbackUpstream(pace=pace) as upstream:
        environ = {
            "GATEWAY_DATA_DIR": str(folder),
            "DATABASE_URL": dsn,
            "OPENAI_BASE_URL": upstream.url,
            "OPENAI_API_KEY": "sk-upstream-secret",
            "GATEWAY_JOURNAL_SYNC": "none",
        }
        settings = load(environ | BY_HEADER | env)
        async with TestClient(TestServer(build_app(settings, policy=policy))) as client:
            it = House(client, upstream, dsn)
            try:
                yield it
            finally:
                await it.aclose()
