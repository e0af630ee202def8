"""What passes unread must never be something that needs a look, however a server writes its JSON."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.codec.sse import EventSplitter, parse_event, split_events
from gateway.dialects.classifier import EventAction, EventClassifier
from gateway.dialects.openai_chat.classifier import ChatClassifier
from gateway.dialects.openai_responses.classifier import ResponsesClassifier
from tests.dialects.streams import CHATS, recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.codec.sse import Event

WORDS = st.text(max_size=12) | st.sampled_from(
    [
        "[DONE]",
        "data: [DONE]",
        '"error"',
        '"finish_reason":"stop"',
        '"choices":[]',
        "\\",
        '\\"',
        "\n\n",
        "\r",
        "ü",
        "🙂",
    ]
)
NAMES = st.sampled_from(
    ["choices", "delta", "content", "error", "finish_reason", "usage", "index", "object", "type", "arguments", "p", "x"]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | WORDS, inner, max_size=3),
    max_leaves=8,
)


def chunk(content: Any, finish_reason: Any = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "logprobs": None, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "choices": [choice], **more}


CHUNKS = st.one_of(
    st.builds(chunk, WORDS),
    st.builds(chunk, WORDS),  # most are deltas, so that there is something to be like
    st.builds(chunk, WORDS, finish_reason=st.sampled_from(["stop", "length", "", None])),
    st.builds(chunk, WORDS, obfuscation=st.text("abc", max_size=5)),
    st.builds(chunk, WORDS, error=VALUES),
    st.builds(chunk, VALUES, usage=st.none() | st.just({"prompt_tokens": 1})),
    st.builds(lambda usage: {"choices": [], "usage": usage}, st.none() | st.just({"prompt_tokens": 1})),
    st.dictionaries(NAMES, VALUES, max_size=4),
)
RESPONSE_EVENTS = st.builds(
    lambda kind, number, delta, more: {"type": kind, "sequence_number": number, "delta": delta} | more,
    st.sampled_from(
        ["response.output_text.delta"] * 3
        + ["response.completed", "response.failed", "error", "response.created", "response.incomplete"]
    ),
    st.integers(0, 10**6),
    WORDS,
    st.dictionaries(NAMES, VALUES, max_size=2),
)


@st.composite
def as_text(draw: Callable[[Any], Any], value: Any) -> str:
    """JSON with any spacing and any escapes, in names too."""
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : "), (",\t", ":\t")]))
    text = json.dumps(draw(value), ensure_ascii=draw(st.booleans()), separators=separators)
    if draw(st.integers(0, 9)) == 0:
        letter = draw(st.sampled_from("echofu"))
        text = text.replace(letter, f"\\u{ord(letter):04x}")  # sometimes breaks null, true or false: garbage, then
    return text


@st.composite
def as_event(draw: Callable[[Any], Any], value: Any) -> bytes:
    text = draw(as_text(value))
    field = draw(st.sampled_from(["data: "] * 6 + ["data:", "event: x\ndata: ", "id: 1\ndata: ", ": c\ndata: "]))
    end = draw(st.sampled_from(["\n\n"] * 6 + ["\r\n\r\n", "\r\r", "\n: c\n\n", "\n\r\n"]))
    return f"{field}{text}{end}".encode("utf-8", "surrogatepass")


ODD = st.sampled_from(
    [
        b"data: [DONE]\n\n",
        b"data:[DONE]\r\r",
        b": ping\n\n",
        b"data: nonsense\n\n",
        b"data:\n\n",
        b"\n",
        b"data: {x}\n\n",
    ]
)
CHAT_EVENTS = st.lists(st.one_of(as_event(CHUNKS), as_event(CHUNKS), ODD), max_size=12)
RESPONSES_EVENTS = st.lists(st.one_of(as_event(RESPONSE_EVENTS), as_event(RESPONSE_EVENTS), ODD), max_size=12)


def check(classifier: EventClassifier, events: list[bytes], sizes: list[int]) -> None:
    """Feeds the events in blocks, as reads bring them, and looks at all that was let through unread."""
    while events:
        size = sizes.pop() if sizes else 1
        block, events = b"".join(events[:size]), events[size:]
        length = classifier.scan_deltas(block)[0]
        plain = split_events(block[:length])
        assert b"".join(plain) + b"".join(split_events(block[length:])) == block
        for event in plain:
            step = classifier.classify(parse_event(event))
            if step is EventAction.GARBLED:  # by an escape that is none, in a text: found when the event is folded
                assert event.startswith(b"data: {"), event
                assert b"\\" in event, event
            else:
                assert step in (EventAction.PASS, EventAction.PASS_UNKEPT), event


@given(events=CHAT_EVENTS, sizes=st.lists(st.integers(1, 5), max_size=12), drops_usage=st.booleans())
@settings(max_examples=600, deadline=None)
def test_what_passes_unread_of_a_chat_needs_no_look(events: list[bytes], sizes: list[int], drops_usage: bool) -> None:
    check(ChatClassifier(drops_usage=drops_usage), events, sizes)


@given(events=RESPONSES_EVENTS, sizes=st.lists(st.integers(1, 5), max_size=12))
@settings(max_examples=400, deadline=None)
def test_what_passes_unread_of_a_response_needs_no_look(events: list[bytes], sizes: list[int]) -> None:
    check(ResponsesClassifier(), events, sizes)


LAST_WORDS = [
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"x","content":"y"},"finish_reason":null}],"error":{"a":1}}\n\n',
    b'data: {"error":{"message":"content"}}\n\n',
    b"data: [DONE]\n\n",
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"x"}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n',
]


def teach(classifier: EventClassifier, usual: bytes) -> None:
    """It has seen so many of these that it knows the next one without a look."""
    assert classifier.scan_deltas(usual * 3)[0] == 3 * len(usual)
    assert classifier.template.slots


@given(seed=st.integers(), edits=st.integers(1, 3))
@settings(max_examples=500, deadline=None)
def test_no_small_change_of_a_plain_event_smuggles_something_past(seed: int, edits: int) -> None:
    """Bytes of a usual event are replaced, put in and taken out, also by pieces of events that matter."""
    luck = random.Random(seed)
    classifier = ChatClassifier(drops_usage=True)
    usual = b'data: {"id":"c","choices":[{"delta":{"content":"hello"},"finish_reason":null}],"obfuscation":"ab"}\n\n'
    teach(classifier, usual)
    event = bytearray(usual)
    for _ in range(edits):
        at = luck.randrange(len(event))
        word = luck.choice(LAST_WORDS)
        start = luck.randrange(len(word))
        piece = luck.choice([b"", b'"', b"\\", b"}", b"\n\n", b"\r", word[start : start + luck.randrange(1, 40)], word])
        event[at : at + luck.choice([0, 0, 1, 5])] = piece
    splitter = EventSplitter(1 << 20)
    check(classifier, [splitter.feed(bytes(event))], [])


class CountingChat(ChatClassifier):
    looks = 0

    def classify(self, event: Event) -> EventAction:
        self.looks += 1
        return super().classify(event)


class CountingResponses(ResponsesClassifier):
    looks = 0

    def classify(self, event: Event) -> EventAction:
        self.looks += 1
        return super().classify(event)


@pytest.mark.parametrize("name", [name for name in CHATS if b"\r" not in recorded(name)])
@pytest.mark.parametrize("size", [1, 4])
def test_most_of_what_may_pass_of_a_vendors_stream_passes_unread(name: str, size: int) -> None:
    classifier = CountingChat(drops_usage=True)
    passing = [
        event for event in split_events(recorded(name)) if classifier.classify(parse_event(event)) is EventAction.PASS
    ]
    classifier.looks = 0
    for start in range(0, len(passing), size):
        block = b"".join(passing[start : start + size])
        assert classifier.scan_deltas(block)[0] == len(block)
    assert classifier.looks <= max(6, len(passing) // 2)


def usual_chat(number: int) -> bytes:
    text = json.dumps(f'word {number} "quoted" \\ \n ü')
    return (
        f'data: {{"id":"c","choices":[{{"index":0,"delta":{{"content":{text}}},"finish_reason":null}}],"usage":null,'
        f'"obfuscation":"{"x" * (number % 9)}"}}\n\n'
    ).encode()


def usual_response(number: int) -> bytes:
    return (
        "event: response.output_text.delta\n"
        f'data: {{"type":"response.output_text.delta","item_id":"m","delta":" word{number}","logprobs":[],'
        f'"sequence_number":{number},"obfuscation":"{"x" * (number % 9)}"}}\n\n'
    ).encode()


@pytest.mark.parametrize("together", [1, 7])
@pytest.mark.parametrize(
    ("classifier", "usual"), [(CountingChat(drops_usage=True), usual_chat), (CountingResponses(), usual_response)]
)
def test_usual_event_is_looked_at_until_it_is_known(
    classifier: Any, usual: Callable[[int], bytes], together: int
) -> None:
    for start in range(0, 1000, together):
        block = b"".join(map(usual, range(start, start + together)))
        assert classifier.scan_deltas(block)[0] == len(block)
    assert classifier.looks == 3


def test_templates_are_no_longer_made_when_events_never_match() -> None:
    classifier = CountingChat(drops_usage=True)
    events = [b'data: {"id":"%d","choices":[{"delta":{"content":"x"}}]}\n\n' % number for number in range(500)]
    templates = []
    for event in events:
        assert classifier.scan_deltas(event)[0] == len(event)
        templates.append(classifier.template)
    assert len({id(template) for template in templates if template.slots}) == 64


USUAL = '{"object":"x","choices":[{"delta":{"content":"a"},"finish_reason":""}],"error":"","type":"","usage":""}'


@pytest.mark.parametrize(
    ("classifier", "usual", "telling"),
    [
        (ChatClassifier(drops_usage=True), '"finish_reason":""', '"finish_reason":"stop"'),
        (ChatClassifier(drops_usage=True), '"error":""', '"error":"broken"'),
        (ChatClassifier(drops_usage=True), '"object":"x"', '"object":"error"'),
        (ResponsesClassifier(), '"type":""', '"type":"response.completed"'),
        (ResponsesClassifier(), '"type":""', '"type":"error"'),
    ],
)
def test_twin_of_a_usual_event_that_says_one_thing_more_is_looked_at(
    classifier: EventClassifier, usual: str, telling: str
) -> None:
    """Some servers say "" where others say null: such an event passes, and the next one may mean something."""
    event = f"data: {USUAL}\n\n".encode()
    twin = event.replace(usual.encode(), telling.encode())
    assert twin != event
    teach(classifier, event)
    assert classifier.scan_deltas(event)[0] == len(event)
    assert classifier.scan_deltas(twin)[0] == 0
    assert classifier.scan_deltas(event + twin)[0] == len(event)


def test_an_event_that_may_not_pass_unread_is_judged_once() -> None:
    classifier = CountingChat(drops_usage=True)
    last = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    assert classifier.scan_deltas(last)[0] == 0
    assert classifier.classify_raw(last) is EventAction.KEEP_THEN_PASS
    assert classifier.looks == 1
    assert classifier.classify_raw(b"data: [DONE]\n\n") is EventAction.LAST


def test_what_was_parsed_of_an_event_is_taken_once_and_for_no_other() -> None:
    classifier = ChatClassifier(drops_usage=True)
    first, second = b'data: {"id":"a","choices":[]}\n\n', b'data: {"id":"b","n":18446744073709551616}\n\n'
    assert classifier.classify_raw(first) is EventAction.PASS
    assert classifier.take_parsed(second) is None
    assert classifier.take_parsed(first) == ({"id": "a", "choices": []}, True)
    assert classifier.take_parsed(first) is None
    assert classifier.scan_deltas(second)[0] == len(second)
    assert classifier.take_parsed(second) == ({"id": "b", "n": 2**64}, False)
    for empty in (b"data: [DONE]\n\n", b": nothing\n\n", b"data: [1]\n\n", b"data: {\n\n"):
        assert classifier.classify_raw(empty) is not EventAction.PASS
        assert classifier.take_parsed(empty) is None
