"""Streams under a wrong Content-Type, and JSON under that of a stream, as callers and rows see them."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests import loopback
from tests.edge.app import hello, house

if TYPE_CHECKING:
    from pathlib import Path

CHAT = "/v1/chat/completions"
TYPES = [None, "text/plain", "application/octet-stream", "application/json", "text/html; charset=utf-8"]
STREAM = loopback.encode_events(loopback.chat_events("One two three"))
PATHS = [CHAT, "/chat"]


@pytest.mark.parametrize("closes", [False, True], ids=["kept", "closed"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", TYPES)
async def test_c5_a_stream_under_another_type_is_streamed(
    tmp_path: Path, database: str, kind: str | None, path: str, closes: bool
) -> None:
    headers = {"Connection": "close"} if closes else {}
    async with house(tmp_path, database) as it:
        it.upstream.script(loopback.answer(STREAM, content_type=kind, framing="chunked"))
        answer = await it.ask(path, hello(stream=True, stream_options={"include_usage": True}), headers=headers)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
        assert answer.body == b"".join(STREAM)
        (row,) = await it.rows(1)
        assert (row["outcome"], row["response"]["choices"][0]["message"]["content"]) == ("complete", "One two three")
        assert row["first_token_ms"] is not None


async def test_c5_a_compressed_stream_under_another_type_is_one(tmp_path: Path, database: str) -> None:
    body = gzip.compress(b"".join(STREAM))
    async with house(tmp_path, database) as it:
        headers = [("content-encoding", "gzip")]
        it.upstream.script(loopback.answer([body], content_type="text/plain", headers=headers))
        answer = await it.ask(CHAT, hello(stream=True, stream_options={"include_usage": True}))
        assert (answer.headers["Content-Type"], answer.body) == ("text/event-stream", b"".join(STREAM))
        assert "Content-Encoding" not in answer.headers
        await it.rows(1)


@pytest.mark.parametrize("path", PATHS)
async def test_c5_a_json_error_under_the_type_of_a_stream_is_told_as_one(
    tmp_path: Path, database: str, path: str
) -> None:
    error = {"error": {"message": "overloaded", "type": "server_error", "param": None, "code": None}}
    async with house(tmp_path, database) as it:
        it.upstream.script(loopback.stream([json.dumps(error).encode()]))
        answer = await it.ask(path, hello(stream=True))
        assert (answer.status, answer.json()) == (502, error)
        assert answer.headers["Content-Type"].startswith("application/json")
        (row,) = await it.rows(1)
        assert (row["outcome"], row["response"], row["status"]) == ("upstream_error", error, 200)


async def test_c5_a_whole_answer_under_the_type_of_a_stream_is_told_as_one(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        body: Any = loopback.chat_completion("I do not stream.").payload
        it.upstream.script(loopback.stream([body]))
        answer = await it.ask(CHAT, hello(stream=True))
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["Content-Type"].startswith("application/json")
        (row,) = await it.rows(1)
        assert row["outcome"] == "complete"


async def test_c5_a_plain_text_stays_what_it_is(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        it.upstream.script(loopback.answer([b"dat"], content_type="text/plain"))
        answer = await it.ask(CHAT, hello(stream=True))
        assert (answer.status, answer.code) == (502, "upstream_garbled")
        it.upstream.script(loopback.answer([b"data: not asked for"], content_type="text/plain"))
        assert (await it.ask(CHAT, hello())).code == "upstream_garbled"
        await it.rows(2)
