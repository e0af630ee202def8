"""The stream is not touched: bytes as the upstream sent them, event by event, at once, over any HTTP of a client."""

from __future__ import annotations

import asyncio
import json
import re
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.journeys.stage import hello, new_id
from tests.loopback import (
    Script,
    Send,
    Stall,
    ToolCall,
    WaitFor,
    big_line,
    chat_events,
    chat_stream,
    encode_events,
    file_answer,
    no_done,
    responses_stream,
    stream,
)

if TYPE_CHECKING:
    from tests.journeys.raw import Raw
    from tests.journeys.stage import Stage
    from tests.loopback import Request, Step

# A stopwatch: where the machine stands still, a heartbeat comes between the events.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.stopwatch]

ENV = {"GATEWAY_HEARTBEAT_S": "0.4"}
HEARTBEAT = b": heartbeat\n"
TEXT = "Grüße 🙂, und noch einmal: 日本語. Das war's."
CALL: ToolCall = {"id": "call_1", "name": "weather", "arguments": '{"where": "Zürich 🏔"}'}
COUNTED: dict[str, Any] = {"stream_options": {"include_usage": True}}  # then the gateway wishes for nothing of its own

STREAMS = {
    "with LF": chat_stream(TEXT),
    "with CR": chat_stream(TEXT, newline="\r"),
    "with CRLF": chat_stream(TEXT, newline="\r\n"),
    "with a byte order mark": chat_stream(TEXT, bom=True),
    "byte by byte": chat_stream(TEXT, split_at=1),
    "byte by byte with CRLF": chat_stream(TEXT, newline="\r\n", split_at=1),
    "in pieces of 1000 bytes": chat_stream(TEXT * 9, split_at=1000),
    "all at once": chat_stream(TEXT, framing="length"),
    "until the connection ends": chat_stream(TEXT, framing="close"),
    "dripping, framing and all": chat_stream("Ja.").dripped(3),
    "without [DONE]": no_done(),
    "with a line of a megabyte": big_line(),
    "with tool calls": chat_stream("", tool_calls=[CALL, {**CALL, "id": "call_2"}]),
    "with reasoning": chat_stream(TEXT, reasoning="Hm, hm."),
    "of several choices": chat_stream(TEXT, n=3),
    "with comments": stream(
        [piece for event in encode_events(chat_events(TEXT)) for piece in (b": OPENROUTER PROCESSING\n\n", event)]
    ),
}


async def read(raw: Raw) -> bytes:
    """A stream's bytes; on a busy machine a heartbeat may have come between them."""
    await raw.answer()
    return (await raw.body()).replace(HEARTBEAT, b"")


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_comes_through_byte_for_byte(stage: Stage, name: str) -> None:
    stage.upstream.script(STREAMS[name])
    async with await stage.stream(**COUNTED) as raw:
        body = await read(raw)
    (request,) = stage.upstream.requests
    assert body == request.said_bytes


async def test_a_responses_stream_comes_through_byte_for_byte(stage: Stage) -> None:
    stage.upstream.script(responses_stream(TEXT))
    async with await stage.raw() as raw:
        raw.post("/v1/responses", {"model": "m", "input": "Hello!", "stream": True}, new_id())
        body = await read(raw)
    (request,) = stage.upstream.requests
    assert body == request.said_bytes


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
async def test_only_the_usage_that_the_gateway_asked_for_is_taken_out(stage: Stage, newline: str) -> None:
    script = chat_stream(TEXT, newline=newline)
    stage.upstream.script(script)
    async with await stage.stream() as raw:
        body = await read(raw)
    (request,) = stage.upstream.requests
    assert request.json()["stream_options"] == {"include_usage": True}
    (usage,) = (step.says for step in script.steps if isinstance(step, Send) and b'"choices":[]' in step.says)
    assert body == request.said_bytes.replace(usage, b"")


async def test_the_first_event_is_there_before_the_second_is_said(stage: Stage) -> None:
    seen = asyncio.Event()
    steps = chat_stream("one two three").steps
    stage.upstream.script(Script([*steps[:2], WaitFor(seen), *steps[2:]]))
    async with await stage.stream() as raw:
        await raw.answer()
        assert b'"role":"assistant"' in await raw.until(b"\n\n")
        seen.set()
        assert (await raw.body()).endswith(b"data: [DONE]\n\n")


async def test_the_head_is_there_before_the_first_event_is_said(stage: Stage) -> None:
    seen = asyncio.Event()
    head, *steps = chat_stream("one two three").steps
    stage.upstream.script(Script([head, WaitFor(seen), *steps]))
    async with await stage.stream() as raw:
        assert (await raw.answer()).status == 200
        seen.set()
        assert (await raw.body()).endswith(b"data: [DONE]\n\n")


async def test_each_event_takes_but_milliseconds(stage: Stage) -> None:
    stage.upstream.script(chat_stream("one two three four five six seven eight", pace=0.05))
    async with await stage.stream() as raw:
        await raw.answer()
        await raw.body()
    times = [at for at, _ in raw.arrivals]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) >= 8
    assert sorted(gaps)[len(gaps) // 2] < 0.1, gaps


async def test_heartbeats_come_in_silence_and_never_inside_of_an_event(stage: Stage) -> None:
    go_on = asyncio.Event()
    head, role, word, *rest = chat_stream("one two", framing="close").steps
    assert isinstance(word, Send)
    torn: list[Step] = [Send(word.data[:40], word.says[:40]), WaitFor(go_on), Send(word.data[40:], word.says[40:])]
    stage.upstream.script(Script([head, role, *torn, *rest]))
    async with await stage.stream(**COUNTED) as raw:
        await raw.answer()
        await raw.until(HEARTBEAT + HEARTBEAT)
        go_on.set()
        body = await raw.body()
    (request,) = stage.upstream.requests
    assert body.replace(HEARTBEAT, b"") == request.said_bytes
    events = [event for event in body.split(b"\n\n") if event]
    assert all(re.fullmatch(rb"(: heartbeat\n)*data: [^\n]+", event) for event in events)


async def test_heartbeats_come_before_the_first_event_too(stage: Stage) -> None:
    go_on = asyncio.Event()
    head, *steps = chat_stream("one").steps
    stage.upstream.script(Script([head, WaitFor(go_on), *steps]))
    async with await stage.stream() as raw:
        await raw.answer()
        await raw.until(HEARTBEAT)
        go_on.set()
        assert (await raw.body()).endswith(b"data: [DONE]\n\n")


async def test_no_answer_is_compressed_though_the_client_would_take_it(stage: Stage) -> None:
    wish: dict[str, Any] = {"headers": {"Accept-Encoding": "gzip, deflate, br, zstd"}}
    streamed = await stage.ask("/v1/chat/completions", hello("word " * 2000, stream=True), **wish)
    whole = await stage.ask("/v1/chat/completions", hello("word " * 2000), **wish)
    listed = await stage.ask("/v1/models", method="GET", **wish)
    for answer in (streamed, whole, listed):
        assert answer.status == 200
        assert "content-encoding" not in answer.headers
        assert b"loopback-1" in answer.body
    assert {request.header("accept-encoding") for request in stage.upstream.requests} == {"identity"}


async def test_a_stream_that_the_upstream_compresses_unasked_arrives_plain(stage: Stage) -> None:
    script = chat_stream(TEXT, gzip=True)
    stage.upstream.script(script)
    async with await stage.stream(**COUNTED) as raw:
        body = await read(raw)
        assert raw.head is not None
        assert raw.head.get("content-encoding") is None
    assert body == script.payload


async def test_the_body_ends_right_after_done_though_the_upstream_keeps_its_own_open(stage: Stage) -> None:
    stage.upstream.script(Script([*chat_stream("one two").steps[:-1], Stall()]))
    async with await stage.stream() as raw:
        await raw.answer()
        await raw.until(b"data: [DONE]\n\n")
        done_at = time.monotonic()
        assert await raw.piece() == b""
        assert time.monotonic() - done_at < 1.0


async def test_a_connection_serves_one_request_after_the_other(stage: Stage) -> None:
    connections = stage.upstream.connection_count
    async with await stage.raw() as raw:
        for round_ in range(3):
            raw.post("/v1/chat/completions", hello(f"streamed {round_}", stream=True), new_id())
            assert (await read(raw)).endswith(b"data: [DONE]\n\n")
            raw.post("/v1/chat/completions", hello(f"whole {round_}"), new_id())
            assert f"whole {round_}" in (await read(raw)).decode()
            raw.ask("GET", "/v1/models")
            assert b"loopback-2" in await read(raw)
            raw.post("/v1/chat/completions", {"no": "messages"}, new_id())
            assert b'"error"' in await read(raw)
    assert stage.upstream.connection_count <= connections + 1


async def test_requests_that_are_sent_together_are_answered_in_their_order(stage: Stage) -> None:
    async with await stage.raw() as raw:
        for number in range(4):
            raw.post("/v1/chat/completions", hello(f"number {number}", stream=number % 2 == 0), new_id())
        raw.ask("GET", "/healthz")
        for number in range(4):
            body = (await read(raw)).decode()
            assert f" {number}" in body
            assert ("[DONE]" in body) == (number % 2 == 0)
        assert json.loads(await read(raw)) == {"status": "ok"}


async def test_a_client_of_http_1_0_gets_a_stream_that_ends_with_its_connection(stage: Stage) -> None:
    async with await stage.raw() as raw:
        raw.post("/v1/chat/completions", hello(stream=True, **COUNTED), new_id(), version="1.0")
        head = await raw.answer()
        assert head.get("transfer-encoding") is None
        body = (await raw.body()).replace(HEARTBEAT, b"")
    (request,) = stage.upstream.requests
    assert body == request.said_bytes


async def test_a_client_of_http_1_0_gets_a_whole_answer(stage: Stage) -> None:
    async with await stage.raw() as raw:
        raw.post("/v1/chat/completions", hello("Guten Tag"), new_id(), version="1.0")
        assert "Guten Tag" in (await read(raw)).decode()
        assert await raw.is_closed()


async def test_head_has_no_body_and_leaves_the_connection_usable(stage: Stage) -> None:
    async with await stage.raw() as raw:
        raw.ask("HEAD", "/v1/echo")
        head = await raw.answer()
        assert head.status == 200
        raw.ask("GET", "/v1/echo/after")
        assert json.loads(await read(raw))["target"] == "/v1/echo/after"
    assert [request.method for request in stage.upstream.requests] == ["HEAD", "GET"]


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "PATCH", "DELETE", "GET", "PROPFIND"])
async def test_any_method_reaches_the_upstream(stage: Stage, method: str) -> None:
    answer = await stage.ask("/v1/echo/some", method=method)
    assert answer.status == 200
    assert answer.json()["method"] == method


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "GET"])
async def test_other_methods_of_a_chat_are_the_upstreams_to_answer(stage: Stage, method: str) -> None:
    answer = await stage.ask("/v1/chat/completions", method=method)
    assert answer.status == 404
    assert [request.method for request in stage.upstream.requests] == [method]


@pytest.mark.parametrize("target", ["/v1/echo/a%2Fb?x=1&x=2&y=%C3%A4+z&empty=", "/v1/echo/%7Ea;p=1?q=%00", "/v1/echo?"])
async def test_paths_and_queries_arrive_as_they_were_written(stage: Stage, target: str) -> None:
    async with await stage.raw() as raw:
        raw.ask("GET", target)
        assert json.loads(await read(raw))["target"].rstrip("?") == target.rstrip("?")


async def test_the_query_of_a_chat_reaches_the_upstream(stage: Stage) -> None:
    answer = await stage.ask("/v1/chat/completions?api-version=2026-01-01", hello())
    assert answer.status == 200
    assert [request.target for request in stage.upstream.requests] == ["/v1/chat/completions?api-version=2026-01-01"]


async def test_a_body_is_asked_for_by_100_continue(stage: Stage) -> None:
    body = json.dumps(hello("Moment")).encode()
    async with await stage.raw() as raw:
        expecting = [
            ("Expect", "100-continue"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
        ]
        raw.ask("POST", "/v1/chat/completions", expecting)
        assert (await raw.answer()).status == 100
        raw.send(body)
        assert "Moment" in (await read(raw)).decode()


async def test_a_chat_reaches_the_upstream_as_it_was_written(stage: Stage) -> None:
    body = (
        b' {"model" : "loopback-1",\n "messages":[{"role":"user",'
        b'"content":"\\ud83d\\ude42 \\u0000 \\ud800 \xf0\x9f\x99\x82"}],'
        b'"seed":123456789012345678901234567890, "temperature":1.0e0, "top_p":0.10,"user":"a","user":"b"}  '
    )
    answer = await stage.ask("/v1/chat/completions", body, headers={"Content-Type": "application/json"})
    assert answer.status == 200
    assert [request.body for request in stage.upstream.requests] == [body]


async def test_a_streamed_chat_reaches_the_upstream_with_but_the_wish_for_usage(stage: Stage) -> None:
    body = (
        b'{"model":"m", "stream":true ,"messages":[{"role":"user","content":"\\u0000"}], "seed":12345678901234567890\n}'
    )
    answer = await stage.ask("/v1/chat/completions", body, headers={"Content-Type": "application/json"})
    assert answer.status == 200
    (request,) = stage.upstream.requests
    assert request.body == body.rstrip(b"\n}") + b',"stream_options":{"include_usage":true}}'


async def test_headers_of_the_client_reach_the_upstream_but_for_its_credentials(stage: Stage) -> None:
    named = [
        ("OpenAI-Beta", "assistants=v2"),
        ("X-Stainless-Lang", "python"),
        ("Idempotency-Key", "abc"),
        ("Authorization", "Bearer sk-of-the-caller"),
        ("X-Api-Key", "sk-of-the-caller"),
        ("Cookie", "session=1"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Secret", "hop"),
        ("Connection", "keep-alive, x-secret"),
        ("X-Title", "gr\xfc\xdfe"),
    ]
    async with await stage.raw() as raw:
        raw.ask("GET", "/v1/echo", named)
        seen = {name.lower(): value for name, value in json.loads(await read(raw))["headers"]}
    assert seen["openai-beta"] == "assistants=v2"
    assert seen["x-stainless-lang"] == "python"
    assert seen["idempotency-key"] == "abc"
    assert seen["x-title"] == "gr\xfc\xdfe"
    assert seen["authorization"] == "Bearer sk-upstream-secret"
    assert not {"x-api-key", "cookie", "x-forwarded-for", "x-secret"} & seen.keys()


async def test_a_download_that_is_read_slowly_leaves_its_upstream_connection_fit_for_the_next(stage: Stage) -> None:
    data = bytes(range(256)) * 4_000

    def answer(request: Request) -> Script | None:
        return file_answer(data) if request.path.endswith("/content") else None

    stage.upstream.on = answer
    for _ in range(2):
        async with await stage.raw(receive_buffer=4_096) as raw:
            raw.ask("GET", "/v1/files/file-1/content")
            await raw.answer()
            await asyncio.sleep(0.2)
            assert await raw.body() == data
        assert (await stage.ask("/v1/files", method="GET")).status == 200
