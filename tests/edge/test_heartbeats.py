"""Heartbeats: no client that reads the stream without them reads it differently with them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.codec.sse import heartbeat_after
from gateway.dialects.dialect import CHAT
from gateway.edge.http.response import HttpClient
from gateway.errors import Stopped
from gateway.model import Outcome
from gateway.relay.stream import Relay
from gateway.transport.call import Ending, Head
from tests.dialects.streams import cut
from tests.edge.decoders import DECODERS
from tests.fakes import FakeClient, FakeEntry
from tests.journeys.raw import Raw

if TYPE_CHECKING:
    from pytest_aiohttp import AiohttpServer

BOM = b"\xef\xbb\xbf"
USAGE = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
CUTS = st.lists(st.integers(0, 1 << 12), max_size=12)
BEATS = st.lists(st.booleans(), max_size=14)


class Beating(FakeClient):
    """A client whose every beat is a heartbeat, as `HttpClient` sends it."""

    def tick(self, now: float) -> bool:
        heartbeat = heartbeat_after(self.blocks[-1] if self.blocks else b"")
        if heartbeat is not None:
            self.write(heartbeat)
        return heartbeat is not None


def chunk(text: str, finish_reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}]}


def stream_of(line_end: str, *, has_ids: bool, has_comments: bool = False, bom: bytes = b"") -> bytes:
    """A whole chat with its usage. Comments of the upstream stand in front of data: alone, some clients break."""
    payloads = [*(json.dumps(each) for each in (chunk("a"), chunk("b"), chunk("", "stop"), USAGE)), "[DONE]"]
    lines: list[str] = []
    for number, payload in enumerate(payloads):
        lines += [": comment"] if has_comments else []
        lines += [f"id: {number}"] if has_ids else []
        lines += [f"data: {payload}", ""]
    return bom + "".join(f"{line}{line_end}" for line in lines).encode()


def relayed(
    stream: bytes, places: list[int], beats: list[bool], *, ending: Ending | None = None, drops_usage: bool = False
) -> bytes:
    """All that the client gets, with a beat before each read for which there is one; None: stopped by the caller."""
    client, assembler = Beating(), CHAT.assembler()
    relay = Relay(client, FakeEntry(), CHAT.classifier(drops_usage), assembler, 1 << 20)
    for number, read in enumerate(cut(stream, places)):
        if number < len(beats) and beats[number]:
            relay.tick(1.0)
        if relay.feed(read):
            break
    if ending is None:
        relay.close_early(Outcome.CLIENT_CANCELLED, Stopped("stopped"))
    else:
        relay.close(ending)
    return client.body + relay.last


def knows(decoder: str, line_end: str, bom: bytes = b"") -> bool:
    """Go's lines end with LF, and what is home-made knows no byte order mark."""
    return not (decoder == "openai-go" and line_end == "\r") and (decoder == "whatwg" or not bom)


@pytest.mark.parametrize("has_ids", [False, True])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("decoder", DECODERS)
@given(places=CUTS, beats=BEATS, drops_usage=st.booleans(), has_comments=st.booleans(), bom=st.sampled_from([b"", BOM]))
@settings(max_examples=40, deadline=None)
def test_c14_every_decoder_reads_the_same_with_heartbeats(
    decoder: str,
    line_end: str,
    has_ids: bool,
    places: list[int],
    beats: list[bool],
    drops_usage: bool,
    has_comments: bool,
    bom: bytes,
) -> None:
    stream = stream_of(line_end, has_ids=has_ids, has_comments=has_comments, bom=bom)
    if decoder == "by blank lines":  # before the first event nobody knows how the stream's lines will end
        second = stream.index(b'"b"')
        places, beats = [second + place % (len(stream) - second) for place in places], [False, *beats[1:]]
    body = relayed(stream, places, beats, ending=Ending.WHOLE, drops_usage=drops_usage)
    if knows(decoder, line_end, bom):
        payloads = [json.dumps(each) for each in (chunk("a"), chunk("b"), chunk("", "stop"), USAGE)]
        wanted = [*(payload for payload in payloads if not (drops_usage and "usage" in payload)), "[DONE]"]
        assert DECODERS[decoder](body) == wanted


@pytest.mark.parametrize("has_ids", [False, True])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("decoder", [name for name in DECODERS if name != "by blank lines"])
@given(places=CUTS, beats=BEATS, length=st.integers(1, 300), ending=st.sampled_from([None, Ending.CUT, Ending.STALLED]))
@settings(max_examples=40, deadline=None)
def test_c14_our_own_event_is_read_behind_heartbeats(
    decoder: str,
    line_end: str,
    has_ids: bool,
    places: list[int],
    beats: list[bool],
    length: int,
    ending: Ending | None,
) -> None:
    stream = stream_of(line_end, has_ids=has_ids)
    body = relayed(stream[: min(length, stream.index(b'"stop"') - 1)], places, beats, ending=ending)
    if knows(decoder, line_end):
        *said, last = DECODERS[decoder](body)
        assert "error" in json.loads(last)
        assert said == [json.dumps(each) for each in (chunk("a"), chunk("b"))][: len(said)]


@given(places=CUTS, has_ids=st.booleans(), line_end=st.sampled_from(["\n", "\r\n", "\r"]))
@settings(max_examples=100, deadline=None)
def test_c14_a_dropped_event_leaves_no_byte_behind(places: list[int], has_ids: bool, line_end: str) -> None:
    stream = stream_of(line_end, has_ids=has_ids)
    at = stream.index(b'data: {"choices": [], "usage"')
    start = stream.rindex(line_end.encode() * 2, 0, at) + 2 * len(line_end)
    end = stream.index(line_end.encode() * 2, at) + 2 * len(line_end)
    assert relayed(stream, places, [], ending=Ending.WHOLE, drops_usage=True) == stream[:start] + stream[end:]


def test_c14_upstreams_comments_that_stand_alone_pass_untouched() -> None:
    stream = b": OPENROUTER PROCESSING\n\n" + stream_of("\n", has_ids=False)
    assert relayed(stream, [], [], ending=Ending.WHOLE) == stream


def test_c14_a_blank_line_behind_a_comment_is_what_broke_clients() -> None:
    """The decoders here would see it."""
    for decoder, has_ids in (("openai-go", False), ("openai-python", True)):
        stream = stream_of("\n", has_ids=has_ids)
        second = stream.index(b"\n\n") + 2
        broken = stream[:second] + b": heartbeat\n\n" + stream[second:]
        assert "" in DECODERS[decoder](broken)
        assert "" not in DECODERS[decoder](broken.replace(b"heartbeat\n\n", b"heartbeat\n"))


@pytest.mark.parametrize(
    ("block", "heartbeat"),
    [
        (b"", b": heartbeat\n"),
        (b"data: x\n\n", b": heartbeat\n"),
        (b": heartbeat\n", b": heartbeat\n"),
        (b"data: x\r\n\r\n", b": heartbeat\r\n"),
        (b": heartbeat\r\n", b": heartbeat\r\n"),
        (b"data: x\r\r", b": heartbeat\r"),
        (b": heartbeat\r", b": heartbeat\r"),
        (b"data: x\r\n\r", None),  # its LF is still to come
        (b"\n", b": heartbeat\r\n"),  # it has come
    ],
)
def test_c14_a_heartbeat_is_one_line_that_ends_as_the_streams_do(block: bytes, heartbeat: bytes | None) -> None:
    assert heartbeat_after(block) == heartbeat


async def test_c14_a_client_on_its_connection_gets_them_in_silence_alone(aiohttp_server: AiohttpServer) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        client = HttpClient(request, {}, heartbeat_s=15, stall_s=30)
        await client.start(Head(200, ((b"content-type", b"text/event-stream"),)), is_events=True)
        now = asyncio.get_running_loop().time()
        beats = [client.tick(now + 14), client.tick(now + 16)]  # the head is no event
        client.write(b"data: 1\r\n\r")
        beats += [client.tick(now + 40), client.tick(now + 60)]  # half of a line end
        client.write(b"\n")
        beats += [client.tick(now + 80), client.tick(now + 94), client.tick(now + 96), client.tick(now + 98)]
        assert client.is_silent(now + 113)
        client.write(b"data: 2\r\n\r\n")
        assert not client.is_silent(now + 113)
        await client.end(b"")
        assert beats == [False, True, False, False, False, False, True, False]
        return client.answered()

    app = web.Application()
    app.add_routes([web.get("/", answer)])
    server = await aiohttp_server(app)
    async with await Raw.to(server.port or 0) as raw:
        raw.ask("GET", "/")
        assert (await raw.answer()).status == 200
        assert await raw.body() == b": heartbeat\ndata: 1\r\n\r\n: heartbeat\r\ndata: 2\r\n\r\n"
