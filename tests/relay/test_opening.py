"""Whether an answer is a stream: by its first bytes, at any cut, whatever its Content-Type says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.codec.sse import begins_like_events, begins_like_json
from gateway.dialects.dialect import CHAT
from gateway.relay.opening import FIRST_EVENT_S, MOST_UNDECIDED, Enough, Opening
from gateway.relay.stream import Relay
from gateway.transport.call import Ending, Head
from tests import loopback
from tests.dialects.streams import cut
from tests.fakes import FakeClient, FakeEntry

STREAM = b"".join(loopback.encode_events(loopback.chat_events("One two")))
WHOLE = loopback.chat_completion("One two").payload
BOM = b"\xef\xbb\xbf"
BEGINNINGS = [b"data:", b"event: x\n", b"id: 1\n", b"retry: 5\n", b": comment\n\n", b"\n\r\n", BOM, BOM + b"\r\n"]


class Caller(FakeClient):
    """A caller who sees when the head came, and whose head may have to be waited for."""

    def __init__(self, *, starts_at_once: bool = True) -> None:
        super().__init__()
        self.starts_at_once = starts_at_once
        self.head: Head | None = None
        self.is_head_sent = False

    def start_now(self, head: Head) -> bool:
        self.head = head if self.starts_at_once else None
        return self.starts_at_once

    def send_head(self) -> None:
        assert self.head is not None
        self.is_head_sent = True

    async def start(self, head: Head, *, is_events: bool) -> None:
        assert is_events
        assert self.head is None
        self.head = head


class Run:
    def __init__(self, content_type: str | None, *, starts_at_once: bool = True) -> None:
        headers = ((b"content-length", b"7"),) + (((b"content-type", content_type.encode()),) if content_type else ())
        self.client = Caller(starts_at_once=starts_at_once)
        self.relay = Relay(self.client, FakeEntry(), CHAT.classifier(False), CHAT.assembler(), 1 << 20)
        self.opening = Opening(Head(200, headers), self.client, self.relay, 1 << 20)

    async def over(self, reads: list[bytes]) -> Run:
        """As an upstream's pump feeds it."""
        try:
            if self.opening.waits_for_head:
                await self.opening.start()
            for read in reads:
                if self.opening.feed(read):
                    break
                while self.opening.is_full:
                    await self.opening.drained()
            else:
                await self.opening.over()
        except Enough:
            pass
        self.relay.close(Ending.WHOLE)
        return self

    @property
    def body(self) -> bytes:
        return self.client.body + self.relay.last


@pytest.mark.parametrize("beginning", [*BEGINNINGS, b""])
def test_c5_a_stream_is_known_by_its_first_bytes_at_every_cut(beginning: bytes) -> None:
    stream = beginning + STREAM
    found = [begins_like_events(stream[:length]) for length in range(len(stream))]
    known = found.index(True)
    assert set(found[:known]) == {None}
    assert set(found[known:]) == {True}


@pytest.mark.parametrize("body", [WHOLE, b" \n[1]", b"<html>", b"datum", b"dat\n", b"error", b"\xef\xbb{", b'"data:"'])
def test_c5_what_begins_otherwise_is_none(body: bytes) -> None:
    found = [begins_like_events(body[:length]) for length in range(len(body) + 1)]
    assert True not in found
    assert found[-1] is False


def test_c5_json_is_known_by_its_bracket() -> None:
    for body in (b"{", b"[", b" \r\n\t{", BOM + b"{"):
        assert begins_like_json(body)
        assert begins_like_json(body[:-1]) is None
    assert begins_like_json(b"data:") is False
    assert begins_like_json(b"<") is False


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/octet-stream", "application/json", "text/event-stream"]
)
@pytest.mark.parametrize("starts_at_once", [True, False])
@given(places=st.lists(st.integers(0, 1 << 12), max_size=8), beginning=st.sampled_from([*BEGINNINGS[3:], b""]))
@settings(max_examples=30, deadline=None)
async def test_c5_what_begins_like_a_stream_is_streamed(
    kind: str | None, starts_at_once: bool, places: list[int], beginning: bytes
) -> None:
    stream = beginning + STREAM
    run = await Run(kind, starts_at_once=starts_at_once).over(cut(stream, places))
    assert run.opening.is_stream
    assert run.body == stream
    assert run.client.head is not None
    assert run.client.head.media_type == "text/event-stream"
    assert (run.client.head.content_length is None) is (kind != "text/event-stream")


@pytest.mark.parametrize("kind", [None, "text/plain", "application/json", "text/event-stream"])
@given(places=st.lists(st.integers(0, 1 << 12), max_size=8), body=st.sampled_from([WHOLE, b'{"error":"no"}', b" \n{}"]))
@settings(max_examples=30, deadline=None)
async def test_c5_json_is_held_whatever_it_is_called(kind: str | None, places: list[int], body: bytes) -> None:
    run = await Run(kind).over(cut(body, places))
    assert not run.opening.is_stream
    assert run.opening.held.body == body
    assert (run.client.head, run.client.body) == (None, b"")
    if kind == "text/event-stream":
        assert run.opening.head.media_type == "application/json"


async def test_c5_what_is_declared_as_a_stream_is_one_unless_it_is_json() -> None:
    for body in (b"", b"\n", b"dat", b"nonsense", b"<html>"):
        assert (await Run("text/event-stream").over([body])).opening.is_stream
        assert not (await Run("text/plain").over([body])).opening.is_stream
    blank = b"\n" * (MOST_UNDECIDED + 1)
    assert (await Run("text/event-stream").over([blank])).opening.is_stream
    assert not (await Run("text/plain").over([blank])).opening.is_stream


def test_c5_the_head_of_a_declared_stream_waits_for_a_silent_upstream_only_so_long() -> None:
    run = Run("text/event-stream")
    for now in (10.0, 10.0 + FIRST_EVENT_S / 2):
        run.opening.tick(now)
        assert run.client.head is None
    run.opening.tick(10.0 + FIRST_EVENT_S)
    assert run.client.head is not None
    run.opening.tick(20.0)
    assert run.client.beats == [20.0]
    assert run.opening.feed(STREAM)
    silent = Run("text/plain")
    for now in (10.0, 20.0):
        silent.opening.tick(now)
    assert silent.client.head is None


@pytest.mark.parametrize(
    ("reads", "is_sent"), [([STREAM], False), ([STREAM[:-1], STREAM[-1:]], True), ([b"data:"], True)]
)
async def test_the_head_waits_for_the_end_of_an_answer_that_came_in_one_read(reads: list[bytes], is_sent: bool) -> None:
    """That end is a moment away, and a write costs as much as five events."""
    run = Run("text/event-stream")
    for read in reads:
        run.opening.feed(read)
    assert run.client.head is not None
    assert run.client.is_head_sent == is_sent
