"""What is read of events that are alike: their text alone, and the answer is the same as if each were read whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.codec.sse import data_payloads, split_events
from gateway.dialects.openai_chat.assembler import ChatAssembler
from gateway.dialects.openai_chat.classifier import ChatClassifier
from gateway.relay.stream import Relay
from gateway.transport.call import Ending
from tests.dialects.streams import CHATS, recorded
from tests.fakes import FakeClient, FakeEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

TEXTS = st.sampled_from(
    ['"a"', '" word"', '"\\n"', '"\\ud83d"', '"\\ude00"', '"\\x"', '"\\u0000"', '"é🙂"', '"\\""', '""']
)
DELTAS = st.sampled_from(
    [
        '{{"content":{text}}}',
        '{{"content":{text}}}',
        '{{"content":{text}}}',
        '{{"content": {text}}}',
        '{{"reasoning_content":{text}}}',
        '{{"refusal":{text}}}',
        '{{"content":{text},"role":"assistant"}}',
        '{{"content":{text},"content":"b"}}',
        '{{"c\\u006fntent":{text}}}',
        '{{"tool_calls":[{{"index":0,"id":"t","function":{{"name":"f","arguments":{text}}}}}]}}',
        '{{"content":null,"x":{text}}}',
        "{{}}",
    ]
)
FRAMES = st.sampled_from(
    [
        'data: {{"id":"c","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}\n\n',
        'data: {{"id":"c","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}],"obfuscation":"{pad}"}}\n\n',
        'data: {{"id":"c","created":{second},"choices":[{{"index":0,"delta":{delta}}}]}}\n\n',
        'data: {{"id":"c","choices":[{{"index":1,"delta":{delta}}}]}}\n\n',
        'data: {{"id":"c","content":"{pad}","choices":[{{"index":0,"delta":{delta}}}]}}\n\n',
        'data: {{"id":"c","choices":[{{"index":0,"delta":{delta}}},{{"index":1,"delta":{{}}}}]}}\n\n',
    ]
)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Runs of events that are alike, or nearly."""
    events: list[str] = []
    for _ in range(draw(st.integers(1, 5))):
        frame, delta = draw(FRAMES), draw(DELTAS)
        for _ in range(draw(st.integers(1, 9))):
            text, pad, second = draw(TEXTS), "x" * draw(st.integers(0, 2)), draw(st.integers(1, 2))
            events.append(frame.format(delta=delta.format(text=text), pad=pad, second=second))
    return [event.encode() for event in events]


class Reader(ChatAssembler):
    """Counts what it reads whole."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def feed(self, payloads: Iterable[bytes]) -> None:
        payloads = list(payloads)
        self.read += len(payloads)
        super().feed(payloads)


def relayed(blocks: Iterable[bytes], beat_after: int | None = None) -> tuple[Any, Reader, list[bytes]]:
    reader = Reader()
    client, entry = FakeClient(), FakeEntry()
    relay = Relay(client, entry, ChatClassifier(drops_usage=False), reader, 1 << 26)
    for number, block in enumerate(blocks):
        if relay.feed(block):
            break
        if number == beat_after:
            relay.tick(1.0)
    relay.close(Ending.CUT)
    return json.loads(relay.completion_json()), reader, entry.parts


def read_whole(events: Iterable[bytes]) -> Any:
    assembler = ChatAssembler()
    for event in events:
        assembler.feed(data_payloads(event))
        if assembler.unparsed:
            break
    return json.loads(assembler.completion_json())


@given(events=streams(), sizes=st.lists(st.integers(1, 6), min_size=1), beat_after=st.none() | st.integers(0, 5))
@example(events=[b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'] * 9, sizes=[3], beat_after=2)
@settings(max_examples=400, deadline=None)
def test_the_answer_is_the_same_as_if_each_event_were_read_whole(
    events: list[bytes], sizes: list[int], beat_after: int | None
) -> None:
    blocks: list[bytes] = []
    left = list(events)
    while left:
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(b"".join(left[:size]))
        left = left[size:]
    said, reader, _ = relayed(blocks, beat_after)
    said.pop("unparsed", None)
    if not reader.unparsed:
        assert said == read_whole(events)


@pytest.mark.parametrize("name", [name for name in CHATS if b"\r" not in recorded(name)])
@pytest.mark.parametrize("together", [1, 3, 50])
def test_a_vendors_stream_is_the_same_answer(name: str, together: int) -> None:
    events = split_events(recorded(name))
    blocks = [b"".join(events[start : start + together]) for start in range(0, len(events), together)]
    said, _, _ = relayed(blocks)
    assert said == read_whole(events)


@pytest.mark.parametrize("together", [1, 5])
def test_of_events_that_are_alike_the_text_alone_is_read(together: int) -> None:
    events = [
        b'data: {"id":"c","created":1,"choices":[{"index":0,"delta":{"content":"%d "}}],"obfuscation":"%b"}\n\n'
        % (number, b"x" * (number % 9))
        for number in range(1000)
    ]
    blocks = [b"".join(events[start : start + together]) for start in range(0, 1000, together)]
    said, reader, _ = relayed(blocks)
    assert said["choices"][0]["message"]["content"] == "".join(f"{number} " for number in range(1000))
    assert reader.read < 40


def test_one_text_that_orjson_does_not_read_has_its_run_read_whole() -> None:
    halves = ['"a"'] * 5 + ['"\\ud83d"', '"\\ude00"'] + ['"b"'] * 5
    events = [b'data: {"choices":[{"index":0,"delta":{"content":%b}}]}\n\n' % half.encode() for half in halves]
    said, _, _ = relayed(events)
    assert said["choices"][0]["message"]["content"] == "aaaaa😀bbbbb"


def test_a_text_beside_the_delta_is_not_taken_for_what_was_said() -> None:
    """The delta's own name is written with an escape, so that the only "content" to be seen stands elsewhere."""
    told = b'data: {"content":"%b","choices":[{"index":0,"delta":{"c\\u006fntent":"said"}}]}\n\n'
    said, _, _ = relayed([told % word for word in (b"a", b"a", b"a", b"a", b"b", b"c")])
    assert said["choices"][0]["message"]["content"] == "said" * 6


def test_a_broken_text_in_a_run_is_kept_and_ends_the_answer() -> None:
    good = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    said, reader, _ = relayed([*[good] * 6, good.replace(b'"a"', b'"\\x"')])
    assert said["choices"][0]["message"]["content"] == "aaaaaa"
    assert len(reader.unparsed) == 1


def test_what_is_filed_is_what_came_byte_for_byte() -> None:
    events = [b'data: {"choices":[{"delta":{"content":"%d"}}],"obfuscation":"x"}\n\n' % number for number in range(20)]
    _, _, parts = relayed(events, beat_after=19)
    assert b"".join(parts) == b"".join(events)


@pytest.mark.parametrize(
    "frame",
    [
        b'data: {"choices":[{"index":0,"delta":{"content":"a","obfuscation":"%b"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"a"},"obfuscation":"%b"}]}\n\n',
        b'data: {"x":{"obfuscation":"%b"},"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
    ],
)
def test_only_the_chunks_own_padding_is_nothing_that_was_said(frame: bytes) -> None:
    """OpenAI's stands at the end of the chunk. What has its name elsewhere is a field like any other, and is kept."""
    events = [frame % padding for padding in (b"p", b"p", b"p", b"p", b"q", b"r", b"s")]
    said, _, _ = relayed(events)
    assert said == read_whole(events)
    assert "s" in json.dumps(said)


def test_a_padding_that_is_no_json_is_found() -> None:
    good = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}],"obfuscation":"x"}\n\n'
    _, reader, _ = relayed([*[good] * 6, good.replace(b'"x"', b'"\\x"')])
    assert len(reader.unparsed) == 1
