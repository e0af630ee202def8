"""The upstream that other tests lean on does what it says: sanely by default, and misbehaving exactly as scripted."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import json
import shutil
import signal
import ssl
import struct
import sys
import time
import zlib
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests import loopback
from tests.loopback import Fin, LoopbackUpstream, Pause, Rst, Script, Send, WaitFor
from tests.loopback.tls import self_signed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

QUESTION = {"role": "user", "content": "Wie grüßt man? 🙂"}
CHAT = {"model": "loopback-1", "messages": [QUESTION], "stream": True}


@pytest.fixture
async def upstream() -> AsyncIterator[LoopbackUpstream]:
    async with LoopbackUpstream() as server:
        yield server


@pytest.fixture
async def client(upstream: LoopbackUpstream) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=upstream.url, api_key="sk-test", max_retries=0) as sdk:
        yield sdk


async def ask(client: openai.AsyncOpenAI, **options: Any) -> Any:
    messages: Any = [QUESTION]
    return await client.chat.completions.create(model="loopback-1", messages=messages, **options)


class Wire:
    """A client that sees bytes and nothing else."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, body: object = CHAT, *, target: str = "/v1/chat/completions", method: str = "POST") -> None:
        data = json.dumps(body).encode()
        head = f"{method} {target} HTTP/1.1\r\nhost: loopback\r\ncontent-length: {len(data)}\r\n\r\n"
        self.writer.write(head.encode() + data)

    async def until(self, mark: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(mark), 5)

    async def to_the_end(self) -> tuple[bytes, str]:
        """What still comes, and how it ends: "fin" or "rst"."""
        seen = b""
        try:
            while piece := await asyncio.wait_for(self.reader.read(65_536), 5):
                seen += piece
        except ConnectionResetError:
            return seen, "rst"
        return seen, "fin"


@contextlib.asynccontextmanager
async def wire_to(upstream: LoopbackUpstream) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def seen_on_the_wire(upstream: LoopbackUpstream, script: Script) -> tuple[bytes, str]:
    upstream.script(script)
    async with wire_to(upstream) as wire:
        wire.send()
        return await wire.to_the_end()


def body_of(answer: bytes) -> bytes:
    """The body of a whole or cut chunked answer, as far as it came."""
    _, _, rest = answer.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body, rest = body + rest[:length], rest[length + 2 :]
    return body


# A sane server


async def test_chat_completion_is_derived_from_the_question(client: openai.AsyncOpenAI) -> None:
    first = await ask(client)
    again = await ask(client)
    assert first.choices[0].message.content == loopback.chat_reply({"messages": [QUESTION]})
    assert again.model_dump() == first.model_dump()
    assert first._request_id is not None


async def test_streamed_chat_says_the_same_as_the_plain_one_and_usage_only_if_asked(client: openai.AsyncOpenAI) -> None:
    plain = await ask(client)
    for asked in (False, True):
        options: Any = {"stream_options": {"include_usage": True}} if asked else {}
        chunks = [chunk async for chunk in await ask(client, stream=True, **options)]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == plain.choices[0].message.content
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
        assert (chunks[-1].usage == plain.usage) is asked
        assert all(("usage" in chunk.model_fields_set) is asked for chunk in chunks)


async def test_max_tokens_n_and_required_tools_are_honoured(client: openai.AsyncOpenAI) -> None:
    tool = {"type": "function", "function": {"name": "greet", "parameters": {"type": "object"}}}
    short = await ask(client, max_tokens=3, n=2)
    assert [choice.finish_reason for choice in short.choices] == ["length", "length"]
    assert short.choices[1].message.content == "You said: Wie"
    stream = await ask(client, tools=[tool], tool_choice="required", stream=True)
    calls = [call async for chunk in stream for call in chunk.choices[0].delta.tool_calls or []]
    assert calls[0].function.name == "greet"
    assert json.loads("".join(call.function.arguments for call in calls))["text"].startswith("You said")


async def test_responses_streamed_and_plain(client: openai.AsyncOpenAI) -> None:
    plain = await client.responses.create(model="loopback-1", input="hello")
    stream = await client.responses.create(model="loopback-1", input="hello", stream=True)
    events = [event async for event in stream]
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == plain.output_text
    assert events[-1].type == "response.completed"
    assert events[-1].response.output == plain.output
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_embeddings_say_the_same_as_floats_and_as_base64(
    client: openai.AsyncOpenAI, upstream: LoopbackUpstream
) -> None:
    decoded = await client.embeddings.create(model="e", input=["one", "two"])
    floats = await client.embeddings.create(model="e", input=["one", "two"], encoding_format="float")
    assert upstream.requests[0].json()["encoding_format"] == "base64"
    assert [item.embedding for item in decoded.data] == [item.embedding for item in floats.data]
    assert floats.data[0].embedding != floats.data[1].embedding
    raw = loopback.answers.embedding("one", 8, "base64")
    assert list(struct.unpack("<8f", base64.b64decode(str(raw)))) == floats.data[0].embedding


async def test_uploaded_files_are_measured(client: openai.AsyncOpenAI, upstream: LoopbackUpstream) -> None:
    data = bytes(range(256)) * 1000 + b"\r\n--almost-a-boundary\r\n"
    kept = await client.files.create(file=("ümlaut.bin", data), purpose="batch")
    seen = kept.model_dump()
    assert (seen["bytes"], seen["sha256"], seen["purpose"]) == (len(data), hashlib.sha256(data).hexdigest(), "batch")
    assert seen["body_sha256"] == hashlib.sha256(upstream.requests[0].body).hexdigest()
    content = await client.files.content("file-1")
    assert len(content.read()) == 200_000
    assert (await client.files.delete("file-1")).deleted


async def test_the_rest_of_the_api_is_there(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["loopback-1", "loopback-2"]
    assert (await client.models.delete("ft:1")).deleted
    image = await client.images.generate(prompt="a cat", n=2)
    assert image.data is not None
    assert len(base64.b64decode(image.data[1].b64_json or "")) == 96
    speech = await client.audio.speech.create(model="tts", voice="alloy", input="hello")
    assert len(speech.read()) == 300_000
    heard = await client.audio.transcriptions.create(model="w", file=("a.mp3", b"12345"))
    assert heard.text == "5 bytes of a.mp3"
    assert not (await client.moderations.create(input="hi")).results[0].flagged
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        await client.models.retrieve("nothing")


async def test_echo_tells_method_target_headers_and_body(upstream: LoopbackUpstream) -> None:
    async with wire_to(upstream) as wire:
        wire.send({"x": 1}, target="/v1/echo/later?a=%20b&a=2", method="PATCH")
        head = await wire.until(b"\r\n\r\n")
        seen = json.loads(await wire.until(b"}"))
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert (seen["method"], seen["target"]) == ("PATCH", "/v1/echo/later?a=%20b&a=2")
    assert seen["sha256"] == hashlib.sha256(b'{"x": 1}').hexdigest()


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": []}', b"\xff"])
async def test_a_bad_body_is_a_shaped_400(upstream: LoopbackUpstream, body: bytes) -> None:
    async with wire_to(upstream) as wire:
        wire.writer.write(b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        answer, end = await wire.to_the_end()
    assert (answer[:12], end) == (b"HTTP/1.1 400", "fin")
    assert set(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]) == {"message", "type", "param", "code"}


async def test_another_authorization_than_expected_is_a_401() -> None:
    async with LoopbackUpstream(expect_authorization="Bearer right") as upstream:
        for key in ("wrong", "right"):
            async with openai.AsyncOpenAI(base_url=upstream.url, api_key=key, max_retries=0) as client:
                if key == "right":
                    assert [model.id async for model in client.models.list()]
                    continue
                with pytest.raises(openai.AuthenticationError):
                    await client.models.list()


# Scripts


async def test_scripts_are_answered_in_order_and_then_the_responder_and_then_the_sane_server(
    upstream: LoopbackUpstream,
) -> None:
    upstream.script(loopback.error(418, {"n": 1}), loopback.error(503, {"n": 2}))
    upstream.on = lambda request: loopback.error(404) if request.path == "/v1/mine" else None
    async with wire_to(upstream) as wire:
        statuses = []
        for target in ("/v1/models", "/v1/models", "/v1/mine", "/v1/models"):
            wire.send({}, target=target, method="GET")
            head = await wire.until(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await wire.reader.readexactly(length)
            statuses.append(int(head[9:12]))
    assert statuses == [418, 503, 404, 200]
    assert upstream.connection_count == 1


async def test_a_responder_that_breaks_fails_the_test() -> None:
    with pytest.raises(ExceptionGroup, match="scripts failed"):
        async with LoopbackUpstream() as upstream:
            upstream.on = lambda request: request.json()["absent"]
            async with wire_to(upstream) as wire:
                wire.send()
                assert (await wire.until(b"\r\n")).startswith(b"HTTP/1.1 500")


async def test_an_early_answer_does_not_wait_for_the_body(upstream: LoopbackUpstream) -> None:
    upstream.early = lambda request: loopback.error(413, close=True)
    async with wire_to(upstream) as wire:
        wire.writer.write(b"POST /v1/files HTTP/1.1\r\ncontent-length: 1000000\r\n\r\nonly this")
        answer, end = await wire.to_the_end()
    assert (answer[:12], end) == (b"HTTP/1.1 413", "fin")
    assert upstream.requests[0].received_at is None


@pytest.mark.stopwatch
async def test_steps_wait_for_events_and_the_clock(upstream: LoopbackUpstream) -> None:
    go = asyncio.Event()
    upstream.script(Script([Send(b"one"), WaitFor(go), Send(b"two"), Pause(0.05), Send(b"three"), Fin()]))
    async with wire_to(upstream) as wire:
        wire.send()
        assert await wire.until(b"one") == b"one"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.reader.read(1), 0.05)
        go.set()
        await wire.until(b"two")
        before = time.monotonic()
        assert await wire.to_the_end() == (b"three", "fin")
        assert time.monotonic() - before > 0.03


@pytest.mark.stopwatch
async def test_when_the_client_leaves_is_seen_at_once(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.stall_after(2))
    async with wire_to(upstream) as wire:
        wire.send()
        await wire.until(b"data: ")
        [request] = await upstream.wait_for_requests(1)
        assert request.closed_at is None
        left = time.monotonic()
    assert 0 <= await upstream.wait_closed(request) - left < 0.5
    await upstream.wait_until(lambda: not upstream.connections)
    assert request.finished_at is None


async def test_a_connection_that_we_close_is_not_called_closed_by_the_client(upstream: LoopbackUpstream) -> None:
    for how in (Fin(), Rst()):
        await seen_on_the_wire(upstream, Script([Send(b"HTTP/1.1 200 OK\r\n\r\n"), how]))
    assert [request.closed_at for request in upstream.requests] == [None, None]


async def test_a_reader_that_does_not_read_stops_the_writing(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.endless_stream())
    async with wire_to(upstream) as wire:
        wire.send()
        await wire.until(b"data: ")
        await upstream.wait_until(lambda: upstream.bytes_written > 0)
        before, stuck = -1, upstream.bytes_written
        while stuck != before:
            await asyncio.sleep(0.1)
            before, stuck = stuck, upstream.bytes_written
        assert stuck < 16_000_000
        await wire.reader.readexactly(min(stuck, 8_000_000))
        await asyncio.sleep(0.1)
        assert upstream.bytes_written > stuck
        assert upstream.requests[0].bytes_written - upstream.bytes_written < 65_536


@pytest.mark.stopwatch
async def test_an_upstream_that_does_not_read_stops_its_client(upstream: LoopbackUpstream) -> None:
    upstream.pause_reading()
    async with wire_to(upstream) as wire:
        data = b"x" * 30_000_000
        wire.writer.write(b"POST /v1/echo HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.writer.drain(), 0.2)
        upstream.resume_reading()
        await wire.until(b"\r\n\r\n")
        assert json.loads(await wire.until(b"}"))["sha256"] == hashlib.sha256(data).hexdigest()


async def test_bodies_are_kept_up_to_a_bound_and_digested_whole() -> None:
    async with LoopbackUpstream(keep_body_bytes=1000) as upstream, wire_to(upstream) as wire:
        wire.send("y" * 500_000, target="/v1/echo")
        [request] = await upstream.wait_for_requests(1)
        assert (len(request.body), request.body_size) == (1000, 500_002)
        assert request.body_sha256 == hashlib.sha256(json.dumps("y" * 500_000).encode()).hexdigest()


async def test_it_listens_on_the_same_port_again_after_a_stop(upstream: LoopbackUpstream) -> None:
    port = upstream.port
    async with wire_to(upstream) as wire:
        await upstream.stop()
        assert (await wire.to_the_end())[0] == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await upstream.start()
        answer, _ = await seen_on_the_wire(upstream, loopback.chat_completion("back", close=True))
    assert (upstream.port, b"back" in answer) == (port, True)


# How an answer travels


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [False, True])
async def test_line_ends_and_a_byte_order_mark(upstream: LoopbackUpstream, newline: str, *, bom: bool) -> None:
    answer, _ = await seen_on_the_wire(upstream, loopback.chat_stream("a b", newline=newline, bom=bom, close=True))
    body = body_of(answer).decode("utf-8-sig")
    assert body.endswith(f"data: [DONE]{newline * 2}")
    assert body.replace(newline, "\n") == "".join(loopback.chat_events("a b"))
    assert body_of(answer).startswith(b"\xef\xbb\xbf") is bom


async def test_framings_carry_the_same_body(upstream: LoopbackUpstream) -> None:
    chunked, _ = await seen_on_the_wire(upstream, loopback.chat_stream("a ü", close=True))
    delimited, end = await seen_on_the_wire(upstream, loopback.chat_stream("a ü", framing="close"))
    measured, _ = await seen_on_the_wire(upstream, loopback.chat_stream("a ü", framing="length", close=True))
    head, _, body = delimited.partition(b"\r\n\r\n")
    assert b"content-length" not in head and b"chunked" not in head and end == "fin"
    assert body == body_of(chunked) == measured.partition(b"\r\n\r\n")[2]
    assert b"content-length: %d\r\n" % len(body) in measured


async def test_a_body_can_be_cut_at_every_byte(upstream: LoopbackUpstream) -> None:
    script = loopback.chat_stream("ü🙂", split_at=1, close=True)
    answer, _ = await seen_on_the_wire(upstream, script)
    assert answer.count(b"\r\n1\r\n") == len(script.payload)
    assert body_of(answer) == loopback.chat_stream("ü🙂").payload


async def test_a_whole_answer_can_drip_head_and_framing_too(upstream: LoopbackUpstream) -> None:
    script = loopback.chat_stream("a b", close=True)
    answer, _ = await seen_on_the_wire(upstream, script.dripped(3))
    assert answer == script.wire
    assert upstream.requests[0].said_bytes == script.payload


async def test_gzip_is_flushed_event_by_event(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.chat_stream("a b", gzip=True, framing="close").first(1))
    async with wire_to(upstream) as wire:
        wire.send()
        head = await wire.until(b"\r\n\r\n")
        unpacker = zlib.decompressobj(wbits=31)
        first = unpacker.decompress(await wire.reader.read(65_536))
    assert b"content-encoding: gzip" in head
    assert first.decode() == loopback.chat_events("a b")[0]
    whole, _ = await seen_on_the_wire(upstream, loopback.chat_stream("a b", gzip=True, framing="close"))
    assert gzip.decompress(whole.partition(b"\r\n\r\n")[2]) == loopback.chat_stream("a b").payload


async def test_a_paced_stream_takes_its_time(upstream: LoopbackUpstream) -> None:
    before = time.monotonic()
    await seen_on_the_wire(upstream, loopback.chat_stream("a b c d", pace=0.01, close=True))
    assert time.monotonic() - before >= 0.06


async def test_several_choices_reasoning_and_tool_calls(upstream: LoopbackUpstream, client: openai.AsyncOpenAI) -> None:
    call: loopback.ToolCall = {"id": "call_1", "name": "add", "arguments": '{"a": 1, "b": 2}'}
    upstream.script(loopback.chat_stream("x y", n=2, reasoning="let me think", tool_calls=[call]))
    stream = await ask(client, stream=True)
    deltas = [(choice.index, choice.delta) async for chunk in stream for choice in chunk.choices]
    for index in (0, 1):
        mine = [delta for i, delta in deltas if i == index]
        assert "".join(getattr(delta, "reasoning_content", "") for delta in mine) == "let me think"
        pieces = [tool.function for delta in mine for tool in delta.tool_calls or []]
        assert "".join((piece.arguments or "") for piece in pieces if piece) == call["arguments"]


# Faults


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
async def test_a_stream_is_cut_after_so_many_events(upstream: LoopbackUpstream, how: Any, framing: Any) -> None:
    answer, end = await seen_on_the_wire(upstream, loopback.cut_after(4, how, framing=framing))
    assert end == how
    assert answer.count(b"data: ") == 4
    assert b"[DONE]" not in answer
    assert not answer.endswith(b"0\r\n\r\n")


async def test_a_cut_can_tear_an_event(upstream: LoopbackUpstream) -> None:
    answer, _ = await seen_on_the_wire(upstream, loopback.cut_after(1, torn=9, framing="close"))
    events = loopback.chat_events(loopback.faults.TEXT)
    assert answer.partition(b"\r\n\r\n")[2].decode() == events[0] + events[1][:9]


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_cuts_before_in_and_after_the_head(upstream: LoopbackUpstream, how: Any) -> None:
    assert await seen_on_the_wire(upstream, loopback.cut_before_head(how)) == (b"", how)
    answer, end = await seen_on_the_wire(upstream, loopback.cut_in_head(how))
    assert (answer[-7:], end) == (b"text/ev", how)
    answer, end = await seen_on_the_wire(upstream, loopback.cut_completion(20, how))
    assert (len(answer.partition(b"\r\n\r\n")[2]), end) == (20, how)


@pytest.mark.stopwatch
async def test_stalls_last_until_the_client_leaves(upstream: LoopbackUpstream) -> None:
    for script, events in ((loopback.stall_before_headers(), 0), (loopback.stall_after(2), 2)):
        upstream.script(script)
        async with wire_to(upstream) as wire:
            wire.send()
            for _ in range(events):
                await wire.until(b"\n\n")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wire.reader.readuntil(b"data: "), 0.1)
        await upstream.wait_closed(upstream.requests[-1])


async def test_heads_slow_huge_and_endless(upstream: LoopbackUpstream) -> None:
    before = time.monotonic()
    slow, _ = await seen_on_the_wire(upstream, loopback.slow_headers(0.02, close=True))
    assert time.monotonic() - before >= 0.08
    assert body_of(slow).endswith(b"data: [DONE]\n\n")
    huge, _ = await seen_on_the_wire(upstream, loopback.huge_headers(60_000, close=True))
    assert len(huge.partition(b"\r\n\r\n")[0]) > 60_000
    upstream.script(loopback.endless_headers())
    async with wire_to(upstream) as wire:
        wire.send()
        assert b"\r\n\r\n" not in await wire.reader.readexactly(1_000_000)


async def test_broken_framing_and_broken_encodings(upstream: LoopbackUpstream) -> None:
    bad, end = await seen_on_the_wire(upstream, loopback.bad_chunk_size())
    assert (b"zz\r\n" in bad, end) == (True, "fin")
    cut, _ = await seen_on_the_wire(upstream, loopback.gzip_truncated(3))
    unpacker = zlib.decompressobj(wbits=31)
    assert unpacker.decompress(cut.partition(b"\r\n\r\n")[2]).count(b"data: ") == 3
    assert not unpacker.eof
    assert (await seen_on_the_wire(upstream, loopback.garbage()))[0].startswith(b"\x16\x03\x01")


async def test_an_endless_line_goes_on(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.endless_line())
    async with wire_to(upstream) as wire:
        wire.send()
        assert b"\n\n" not in (await wire.reader.readexactly(3_000_000)).partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        (loopback.html(502, close=True), b"<!DOCTYPE html>"),
        (loopback.html(200, close=True), b"HTTP/1.1 200"),
        (loopback.ok_with_error_body(close=True), b'{"error":'),
        (loopback.sse_error_event(2, close=True), b'data: {"error":'),
        (loopback.big_line(1_000_000, close=True), b"x" * 1_000_000),
        (loopback.redirect(307), b"location: http://"),
        (loopback.rate_limited("7"), b"retry-after: 7"),
        (loopback.early_hints_103_then_answer(close=True), b"HTTP/1.1 103 Early Hints"),
        (loopback.extra_bytes_after(), b"belongs to nobody"),
        (loopback.garbage_body(close=True), bytes(range(256))),
    ],
)
async def test_what_stands_on_the_wire(upstream: LoopbackUpstream, script: Script, wanted: bytes) -> None:
    answer, _ = await seen_on_the_wire(upstream, script.then(Fin()))
    assert wanted in answer


async def test_no_done_and_no_finish_reason(upstream: LoopbackUpstream) -> None:
    for reason in ("stop", None):
        answer, _ = await seen_on_the_wire(upstream, loopback.no_done(finish_reason=reason, close=True))
        assert b"[DONE]" not in answer and answer.endswith(b"0\r\n\r\n")
        assert (b'"finish_reason":"stop"' in answer) is (reason == "stop")


@pytest.mark.parametrize("reuse", ["stale-fin", "stale-rst"])
async def test_a_stale_connection_dies_with_its_second_request(reuse: Any) -> None:
    async with LoopbackUpstream(reuse=reuse) as upstream, wire_to(upstream) as wire:
        wire.send({}, target="/v1/models", method="GET")
        await wire.until(b"}]}")
        wire.send({}, target="/v1/models", method="GET")
        assert await wire.to_the_end() == (b"", reuse.removeprefix("stale-"))
        assert (upstream.request_count, upstream.stale_hits) == (1, 1)


@pytest.mark.parametrize("reuse", ["announce", "drop"])
async def test_connections_can_end_after_each_answer(reuse: Any) -> None:
    async with LoopbackUpstream(reuse=reuse) as upstream, wire_to(upstream) as wire:
        wire.send({}, target="/v1/models", method="GET")
        answer, end = await wire.to_the_end()
    assert ((b"connection: close" in answer), end) == (reuse == "announce", "fin")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the certificate is made by openssl")
async def test_it_can_stand_behind_tls(tmp_path: Path) -> None:
    context, certificate = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with LoopbackUpstream(tls=context) as upstream:
        assert upstream.url.startswith("https://127.0.0.1:")
        upstream.script(loopback.cut_after(2, "rst"))
        reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port, ssl=trusting)
        wire = Wire(reader, writer)
        wire.send()
        answer, end = await wire.to_the_end()
        writer.close()
    assert (answer.count(b"data: "), end) == (2, "rst")


# As a program


async def test_the_program_prints_its_url_and_keeps_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    arguments = ["-m", "tests.loopback", "--ledger", str(path), "--expect-authorization", "Bearer k"]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
        whole = await ask(client)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    received, ended = map(json.loads, path.read_text().splitlines())
    assert received["event"] == "received"
    assert json.loads(received["body"])["messages"] == [QUESTION]
    assert (ended["number"], ended["whole"]) == (received["number"], True)
    assert json.loads(ended["said"])["choices"][0]["message"]["content"] == whole.choices[0].message.content
