"""What the door itself refuses: one shape, and the headers that HTTP wants with it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from gateway.app import build_app
from gateway.settings import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import ClientResponse, web

    from gateway.journal.entry import JournalEntry
    from gateway.model import Interaction


def begin_nothing(interaction: Interaction) -> JournalEntry:
    """No request that the edge refuses may come as far as this."""
    raise AssertionError(f"{interaction.path} got in")


@asynccontextmanager
async def door() -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """The whole application, in a house without journal and Postgres, and with nobody who may come in."""
    settings = load({"GATEWAY_AUTH": "keys"})
    async with TestClient(TestServer(build_app(settings, begin_nothing))) as client:
        yield client


async def code_of(answer: ClientResponse) -> str:
    """The error's code; its form is checked on the way."""
    body = await answer.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    return str(body["error"]["code"])


async def test_a_method_that_is_not_taken_is_told_those_that_are() -> None:
    async with door() as client:
        answer = await client.put("/chat")
        assert answer.status == 405
        assert answer.headers["Allow"] == "POST"
        assert await code_of(answer) == "method_not_allowed"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/anything/else"])
async def test_trace_reaches_no_upstream_for_it_would_show_its_credential(path: str) -> None:
    async with door() as client:
        answer = await client.request("TRACE", path)
        assert answer.status == 405
        assert "TRACE" not in answer.headers["Allow"]


async def test_a_caller_without_credential_is_told_how_to_send_one() -> None:
    async with door() as client:
        answer = await client.get("/v1/models")
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert await code_of(answer)


@pytest.mark.parametrize("path", ["a%00b", "x" * 300, "x/" * 3000, "..%2f..%2fpyproject.toml", "%ff", "vendor"])
async def test_a_name_that_no_file_can_have_is_not_found(path: str) -> None:
    async with door() as client:
        answer = await client.get(URL(f"/static/{path}", encoded=True))
        assert answer.status == 404
        assert await code_of(answer) == "not_found"
