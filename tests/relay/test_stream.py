"""The relay: what it sends, what it records, and how an answer ends, at any chunking of its bytes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import _models as openai_models
from openai._models import construct_type
from openai.types.responses import Response, ResponseErrorEvent, ResponseFailedEvent, ResponseStreamEvent

from gateway.codec.sse import parse_event, split_events
from gateway.dialects.dialect import CHAT, RESPONSES, Dialect
from gateway.errors import ShuttingDown, Stopped
from gateway.model import Outcome
from gateway.relay.stream import Relay
from gateway.transport.call import Ending
from tests import loopback
from tests.dialects.streams import CHATS, cut, recorded
from tests.fakes import FakeClient, FakeEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

DONE = b"data: [DONE]\n\n"
ERROR = re.compile(rb'data: \{"error":\{.*\}\}\n\n\Z')


class Run:
    """One answer relayed: how it went, from all sides."""

    def __init__(
        self, dialect: Dialect = CHAT, *, drops_usage: bool = False, limit: int = 1 << 26, upto: int | None = None
    ) -> None:
        self.client = FakeClient()
        self.entry = FakeEntry()
        self.assembler = dialect.assembler()
        self.relay = Relay(self.client, self.entry, dialect.classifier(drops_usage), self.assembler, limit)
        self._upto = upto

    def feed(self, reads: Iterable[bytes]) -> bool:
        """As an upstream feeds it: no more after enough. True: it had enough."""
        return any(self.relay.feed(read) for read in reads)

    def over(self, reads: Iterable[bytes], ending: Ending = Ending.WHOLE, *, tick_after: int | None = None) -> Run:
        """Fed and closed; with a tick after so many reads."""
        reads = list(reads)
        has_enough = self.feed(reads[:tick_after])
        if tick_after is not None and not has_enough:
            self.relay.tick(1.0)
            has_enough = self.feed(reads[tick_after:])
        self.relay.close(Ending.ENOUGH if has_enough else ending)
        return self

    @property
    def outcome(self) -> Outcome | None:
        return self.relay.outcome

    @property
    def body(self) -> bytes:
        """What the caller has got when the end was sent."""
        return self.client.body + self.relay.last

    @property
    def kept(self) -> Any:
        return json.loads(self.relay.completion_json())

    @property
    def text(self) -> str:
        return "".join(choice["message"]["content"] or "" for choice in self.kept["choices"])


def events(*events: str | bytes) -> list[bytes]:
    return [event if isinstance(event, bytes) else event.encode() for event in events]


def chat(text: str | Sequence[str] = "Hello there, you.", **options: Any) -> list[bytes]:
    return loopback.encode_events(loopback.chat_events(text, **options))


def delta(content: str = "x", finish_reason: str | None = None, index: int = 0, **more: Any) -> bytes:
    choice = {"index": index, "delta": {"content": content}, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"id": "c", "choices": [choice], **more}).encode() + b"\n\n"


# ── any chunking ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [*CHATS, "responses"])
@given(places=st.lists(st.integers(0, 1 << 20), max_size=30), tick=st.integers(0, 8))
@settings(max_examples=30, deadline=None)
def test_recorded_stream_is_untouched_and_kept_whole_at_any_cut(name: str, places: list[int], tick: int) -> None:
    stream = recorded(name)
    dialect = RESPONSES if name == "responses" else CHAT
    whole = Run(dialect).over([stream])
    run = Run(dialect).over(cut(stream, places), tick_after=tick)
    assert run.body == whole.body
    assert stream.startswith(run.body)
    assert run.relay.completion_json() == whole.relay.completion_json()
    assert (run.outcome, run.relay.fault) == (whole.outcome, whole.relay.fault)
    assert run.outcome is (Outcome.UPSTREAM_ERROR if "error" in name else Outcome.COMPLETE)
    assert run.relay.bytes_out + len(run.relay.last) == len(run.body)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [False, True])
def test_every_line_end_and_a_byte_order_mark_pass_byte_by_byte(newline: str, bom: bool) -> None:
    pieces = loopback.encode_events(loopback.chat_events("Grüße 🙂 an alle"), newline, bom=bom)
    stream = b"".join(pieces)
    for reads in (pieces, [stream], [bytes((byte,)) for byte in stream]):
        run = Run().over(reads)
        assert (run.outcome, run.body) == (Outcome.COMPLETE, stream)
        assert run.text == "Grüße 🙂 an alle"


@given(places=st.lists(st.integers(0, 1 << 20), max_size=20))
@settings(max_examples=40, deadline=None)
def test_caller_gets_whole_events_only(places: list[int]) -> None:
    stream = b"".join([b": hello\n\n", *chat("one two three four five six"), b"never seen"])
    run = Run()
    for read in cut(stream, places):
        seen = len(run.client.blocks)
        enough = run.relay.feed(read)
        for block in run.client.blocks[seen:]:
            assert block.endswith(b"\n\n")
            assert all(event.endswith(b"\n\n") for event in split_events(block))
        if enough:
            break
    assert run.outcome is Outcome.COMPLETE


def test_each_event_goes_on_in_the_call_in_which_it_came() -> None:
    run = Run()
    for event in chat(finish_reason=None, done=False, usage=False):
        run.relay.feed(event)
        assert run.client.blocks[-1] == event


def test_one_read_is_one_write() -> None:
    run = Run()
    stream = chat(["x"] * 200, finish_reason=None, done=False)
    run.relay.feed(b"".join(stream))
    assert run.client.blocks == [b"".join(stream)]


# ── the end is held back ─────────────────────────────────────────────────────────────────────────────────────────────


@given(places=st.lists(st.integers(0, 1 << 20), max_size=20))
@settings(max_examples=40, deadline=None)
def test_end_is_not_sent_before_the_record(places: list[int]) -> None:
    run = Run()
    run.feed(cut(b"".join(chat("one two three")), places))
    assert b"[DONE]" not in run.client.body
    assert run.relay.last.endswith(DONE)


@given(places=st.lists(st.integers(0, 1 << 20), max_size=20), n=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_a_finish_reason_is_sent_only_when_all_before_it_is_in_the_journal(places: list[int], n: int) -> None:
    """At each write: if a finish reason has been seen by the caller, all that was said so far is in the parts."""
    run = Run()
    stream = b"".join(chat("one two three", n=n, usage=True))
    for read in cut(stream, places):
        enough = run.relay.feed(read)
        if b'"finish_reason":"' in run.client.body:
            kept = b"".join(run.entry.parts)
            seen = split_events(run.client.body)
            until = max(i for i, event in enumerate(seen) if b'"finish_reason":"' in event)
            assert b"".join(seen[: until + 1]) in kept
        if enough:
            break


def test_a_finish_reason_alone_is_journalled_before_it_is_passed_on() -> None:
    run = Run()

    class Watching(FakeClient):
        def write(self, block: bytes) -> None:
            super().write(block)
            if b'"stop"' in block:
                assert b'"stop"' in b"".join(run.entry.parts)

    run.relay._client = Watching()
    assert not run.feed([delta("a"), delta("b", "stop")])
    assert run.relay._client.blocks


def test_finish_reason_that_comes_with_the_end_needs_no_part() -> None:
    run = Run()
    assert run.feed([delta("a"), delta("b", "stop") + DONE])
    assert run.entry.parts == []
    assert run.relay.last == delta("b", "stop") + DONE


def test_done_inside_of_a_text_ends_nothing() -> None:
    for text in ("[DONE]", "data: [DONE]\n\n", "\n\ndata: [DONE]\n\n"):
        run = Run().over([delta(text), delta("after", "stop") + delta(text), DONE])
        assert (run.outcome, run.text) == (Outcome.COMPLETE, f"{text}after{text}")
    run = Run()
    run.feed([delta("[DONE]") + delta("x", "stop")])
    assert run.entry.parts  # this block does not end the answer


def test_error_inside_of_a_text_is_no_error() -> None:
    for text in ('"error"', '{"error": {"message": "x"}}', 'data: {"error":{}}\n\n', '"finish_reason":"stop"'):
        run = Run(drops_usage=True).over([delta("a"), delta(text), delta("b"), delta("", "stop"), DONE])
        assert (run.outcome, run.text) == (Outcome.COMPLETE, f"a{text}b")


def test_nothing_after_the_end_is_taken() -> None:
    stream = b"".join(chat("hello"))
    late = delta("late")
    assert Run().over([stream + late]).body == stream
    run = Run()
    assert run.relay.feed(stream)
    assert run.relay.feed(late)
    assert run.body == stream
    assert "late" not in run.text


# ── usage ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(places=st.lists(st.integers(0, 1 << 20), max_size=20))
@settings(max_examples=40, deadline=None)
def test_usage_that_only_the_gateway_asked_for_is_kept_and_not_shown(places: list[int]) -> None:
    stream = chat("one two three")
    usage = next(event for event in stream if b'"choices":[]' in event)
    run = Run(drops_usage=True).over(cut(b"".join(stream), places))
    assert run.body == b"".join(event for event in stream if event != usage)
    assert run.kept["usage"]["completion_tokens"] == 3


def test_usage_that_the_caller_asked_for_is_shown() -> None:
    stream = b"".join(chat("one two three"))
    assert Run(drops_usage=False).over([stream]).body == stream


@pytest.mark.parametrize("spacing", [(",", ":"), (", ", ": "), (" ,\t", " :\t ")])
def test_usage_event_is_known_in_any_spacing(spacing: tuple[str, str]) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
    event = b"data: " + json.dumps(usage, separators=spacing).encode() + b"\n\n"
    run = Run(drops_usage=True).over([delta("a", "stop"), event, DONE])
    assert run.body == delta("a", "stop") + DONE
    assert run.kept["usage"]["completion_tokens"] == 2


def test_only_that_event_is_dropped() -> None:
    """Azure begins with a chunk without choices; others tell the usage with the last choice, or null with each."""
    azure = b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}],"usage":null}\n\n'
    filters = b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}]}\n\n'
    with_choice = delta("b", "stop", usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})
    stream = [azure, filters, delta("a", usage=None), with_choice, DONE]
    assert Run(drops_usage=True).over(stream).body == b"".join(stream)


# ── honest ends ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", [Ending.WHOLE, Ending.UNPROVED])
def test_end_without_done_is_whole_when_every_choice_has_finished(ending: Ending) -> None:
    stream = chat("hello you", done=False)
    run = Run().over(stream, ending)
    assert (run.outcome, run.body, run.relay.last) == (Outcome.COMPLETE, b"".join(stream), b"")


@pytest.mark.parametrize("ending", [Ending.WHOLE, Ending.UNPROVED, Ending.CUT])
def test_end_without_a_finish_reason_is_truncated(ending: Ending) -> None:
    stream = b"".join(chat("hello you", done=False, finish_reason=None, usage=False))
    run = Run().over([stream], ending)
    assert run.outcome is Outcome.TRUNCATED
    assert run.client.body == stream
    assert ERROR.match(run.relay.last)
    assert b"upstream_cut" in run.relay.last
    assert run.text == "hello you"


def test_end_with_one_choice_of_two_unfinished_is_truncated() -> None:
    run = Run().over([delta("a"), delta("b", index=1), delta("", "stop", index=0)])
    assert run.outcome is Outcome.TRUNCATED


@given(at=st.integers(0, 1 << 20))
@settings(max_examples=60, deadline=None)
def test_a_cut_anywhere_is_truncated_and_recorded_so_far(at: int) -> None:
    stream = b"".join(chat("one two three four five"))
    at %= stream.index(b'"finish_reason":"stop"')
    run = Run().over([stream[:at]], Ending.CUT)
    assert run.outcome is (Outcome.TRUNCATED if run.text else Outcome.UPSTREAM_ERROR)
    assert stream.startswith(run.client.body)
    assert ERROR.match(run.relay.last)
    assert run.kept == json.loads(Run().over(split_events(run.client.body), Ending.CUT).relay.completion_json())


def test_an_event_cut_between_its_two_line_ends_gets_the_one_that_is_missing() -> None:
    event = delta("a")
    run = Run().over([event[:-1]], Ending.CUT)
    assert run.client.body == event
    assert run.outcome is Outcome.TRUNCATED


def test_a_stall_gets_an_error_of_its_own() -> None:
    run = Run().over([delta("a")], Ending.STALLED)
    assert run.outcome is Outcome.TRUNCATED
    assert b"upstream_timeout" in run.relay.last
    assert Run().over([], Ending.STALLED).outcome is Outcome.UPSTREAM_ERROR


def test_broken_framing_is_an_upstream_error() -> None:
    run = Run().over([delta("a")], Ending.GARBLED)
    assert (run.outcome, run.text) == (Outcome.UPSTREAM_ERROR, "a")
    assert b"upstream_garbled" in run.relay.last


@pytest.mark.parametrize("last", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r\n", b"data:[DONE]"])
@pytest.mark.parametrize("ending", [Ending.WHOLE, Ending.UNPROVED, Ending.CUT])
def test_last_event_without_its_blank_line_counts(last: bytes, ending: Ending) -> None:
    run = Run().over([delta("a", "stop") + last], ending)
    assert run.outcome is Outcome.COMPLETE
    assert run.body.startswith(delta("a", "stop") + last)
    assert len(split_events(run.body)[1:]) >= 1


def test_delta_without_its_blank_line_counts() -> None:
    run = Run().over([delta("a") + delta("b", "stop")[:-2]])
    assert (run.outcome, run.text) == (Outcome.COMPLETE, "ab")
    assert run.body == delta("a") + delta("b", "stop")


@pytest.mark.parametrize("torn", [b"data: [DO", b'data: {"choices":[', b"data:", b"data: ", b": comm", b"event: x\n"])
def test_torn_last_event_counts_for_nothing(torn: bytes) -> None:
    assert Run().over([delta("a", "stop") + torn]).outcome is Outcome.COMPLETE
    run = Run().over([delta("a") + torn], Ending.CUT)
    assert (run.outcome, run.client.body, run.text) == (Outcome.TRUNCATED, delta("a"), "a")


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "The model broke.", "type": "server_error"}},
        {"error": "in words"},
        {"object": "error", "message": "as vLLM says it", "code": 400},
        {"type": "error", "error": {"type": "overloaded_error", "message": "as Anthropic says it"}},
        {"detail": [{"msg": "as FastAPI says it"}]},
        {"errors": [{"message": "as others say it"}]},
        {"code": 502, "message": "without an envelope"},
        [{"error": {"code": 503, "status": "UNAVAILABLE", "message": "as Google says it"}}],
        {"choices": [], "error": {"message": "beside choices"}},
        {"choices": [{"index": 0, "delta": {}, "error": {"code": 502, "message": "as OpenRouter says it"}}]},
        {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]},
    ],
)
@pytest.mark.parametrize("spacing", [(",", ":"), (", ", ": "), (" , ", "\t: ")])
@pytest.mark.parametrize("end", [DONE, b""])
def test_b10_an_error_in_any_form_fails_the_answer_and_every_byte_goes_on(
    error: Any, spacing: tuple[str, str], end: bytes
) -> None:
    event = b"data: " + json.dumps(error, separators=spacing).encode() + b"\n\n"
    for reads in ([delta("a"), event, end], [delta("a") + event + end], [delta("a"), event + delta("b", "stop") + end]):
        run = Run().over([read for read in reads if read])
        assert run.outcome is Outcome.UPSTREAM_ERROR
        assert run.body == b"".join(reads)
        assert run.text.startswith("a")
        assert run.relay.fault == "the upstream ended its answer with an error"


@pytest.mark.parametrize("data", [b'{"message":"no"}', b"no", b'"no"', b'{"choices":[]}'])
def test_b10_an_event_that_is_called_an_error_is_one_whatever_it_holds(data: bytes) -> None:
    stream = [delta("a"), b"event: error\ndata: " + data + b"\n\n", DONE]
    run = Run().over(stream)
    assert (run.outcome, run.body) == (Outcome.UPSTREAM_ERROR, b"".join(stream))
    assert b"no" in run.relay.completion_json() or data == b'{"choices":[]}'


@given(places=st.lists(st.integers(0, 1 << 20), max_size=20), tick=st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_b10_an_error_of_a_choice_is_seen_at_any_cut_and_only_when_it_is_kept(places: list[int], tick: int) -> None:
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error", "error": {"code": 502, "message": "gone"}}
    failed = b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"
    stream = b"".join([*[delta(word) for word in "abcdef"], failed, DONE])
    run = Run()
    for number, read in enumerate(cut(stream, places)):
        if number == tick:
            run.relay.tick(1.0)
        if run.feed([read]):
            break
        if b"gone" in run.client.body:
            assert b"gone" in b"".join(run.entry.parts)
    run.relay.close(Ending.ENOUGH)
    assert (run.outcome, run.body, run.text) == (Outcome.UPSTREAM_ERROR, stream, "abcdef")
    assert run.kept["choices"][0]["error"] == {"code": 502, "message": "gone"}


def test_b10_a_break_after_an_error_adds_no_second_error() -> None:
    error = b'data: {"error":{"message":"no"}}\n\n'
    for ending in (Ending.CUT, Ending.STALLED, Ending.GARBLED, Ending.WHOLE):
        run = Run().over([delta("a"), error], ending)
        assert (run.outcome, run.body) == (Outcome.UPSTREAM_ERROR, delta("a") + error)
    run = Run().over([delta("a"), error, b"data: <html>\n\n"])
    assert (run.outcome, run.body) == (Outcome.UPSTREAM_ERROR, delta("a") + error)
    run = Run()
    run.feed([delta("a"), error])
    run.relay.close_early(Outcome.CLIENT_CANCELLED, Stopped("the caller left"))  # as SDKs do that raise at an error
    assert (run.outcome, run.body) == (Outcome.UPSTREAM_ERROR, delta("a") + error)


def test_b10_success_in_other_words_is_no_error() -> None:
    fine = b'data: {"code":0,"message":"Success"}\n\n'
    choice = {"index": 0, "delta": {"content": "a"}, "error": None, "finish_reason": None}
    filtered = choice | {
        "content_filter_results": {"error": {"code": "content_filter_error", "message": "not filtered"}}
    }
    events = [
        b"data: " + json.dumps({"choices": [each], "error": {}}).encode() + b"\n\n" for each in (choice, filtered)
    ]
    stream = [fine, *events, delta("b", "stop"), DONE]
    run = Run().over(stream)
    assert (run.outcome, run.body, run.text) == (Outcome.COMPLETE, b"".join(stream), "aab")


@pytest.mark.parametrize(
    "said",
    [
        [delta("a")],
        [delta("a"), delta("b", index=1), delta("", "stop", index=1)],
        [delta("a"), b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'],
        [delta("")],
        [],
    ],
)
def test_b11_done_without_every_finish_reason_is_truncated_and_we_add_nothing(said: list[bytes]) -> None:
    for reads in ([*said, DONE], [b"".join([*said, DONE])]):
        run = Run().over(reads)
        assert (run.outcome, run.body) == (Outcome.TRUNCATED, b"".join(reads))
        assert run.relay.fault == "the upstream ended its answer without saying why it was finished"


@pytest.mark.parametrize("end", [[DONE], []])
@pytest.mark.parametrize("ending", [Ending.WHOLE, Ending.UNPROVED, Ending.CUT, Ending.STALLED])
def test_b11_a_chat_is_complete_with_the_finish_reason_of_each_choice(end: list[bytes], ending: Ending) -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    empty = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    call = b'data: {"choices":[{"index":0,"delta":{"function_call":{"name":"f","arguments":"{}"}}}]}\n\n'
    called = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"function_call"}]}\n\n'
    both = [delta("a"), delta("b", index=1), delta("", "length", index=1), delta("", "stop")]
    for said in ([delta("a"), empty], [empty], [call, called], both, [delta("a"), empty, usage]):
        run = Run().over([*said, *end], ending)
        assert (run.outcome, run.body) == (Outcome.COMPLETE, b"".join([*said, *end]))


def test_null_error_is_none() -> None:
    run = Run().over([delta("a", error=None), delta("b", "stop", error=None), DONE])
    assert (run.outcome, run.text) == (Outcome.COMPLETE, "ab")


@pytest.mark.parametrize(
    "garbage", [b"data: <html>\n\n", b"data: [1]\n\n", b'data: "text"\n\n', b'data: {"a": }\n\n', b"data: {\xff}\n\n"]
)
def test_garbage_in_mid_stream_ends_it_with_an_error(garbage: bytes) -> None:
    for reads in ([delta("a"), garbage, delta("b")], [delta("a") + garbage + delta("b")]):
        run = Run().over(reads)
        assert run.outcome is Outcome.UPSTREAM_ERROR
        assert run.client.body + run.relay.last[: -len(ERROR.search(run.relay.last)[0])] == delta("a")  # type: ignore[index]
        assert run.text == "a"
        assert run.kept["unparsed"]


def test_bytes_that_are_no_events_at_all_end_it() -> None:
    noise = bytes(range(256)) * 2
    run = Run().over([noise, noise])
    assert run.outcome is Outcome.UPSTREAM_ERROR
    assert ERROR.search(run.body)


def test_comments_ids_and_empty_data_pass_unkept() -> None:
    quiet = events(": OPENROUTER PROCESSING\n\n", "id: 7\nretry: 10\n\n", "data:\n\n", "\n", "event: ping\n\n")
    stream = [quiet[0], delta("a"), *quiet[1:], delta("b", "stop"), quiet[0], DONE]
    run = Run().over(stream)
    assert (run.outcome, run.body, run.text) == (Outcome.COMPLETE, b"".join(stream), "ab")


def test_event_that_is_too_long_ends_the_answer_after_what_was_whole() -> None:
    run = Run(limit=100_000)
    assert run.feed([delta("a") + b"data: " + b"x" * 60_000, b"x" * 60_000])
    run.relay.close(Ending.ENOUGH)
    assert (run.outcome, run.client.body, run.text) == (Outcome.UPSTREAM_ERROR, delta("a"), "a")
    assert ERROR.match(run.relay.last)


def test_answer_that_is_too_long_ends_with_an_error() -> None:
    run = Run(limit=10_000)
    assert run.feed([delta("x" * 1000)] * 100)
    run.relay.close(Ending.ENOUGH)
    assert run.outcome is Outcome.UPSTREAM_ERROR
    assert 8_000 < len(run.client.body) <= 10_000
    assert b"longer than 10000 bytes" in run.relay.last
    assert run.text == "x" * 1000 * run.client.body.count(b"data: ")


def test_close_early_tells_why() -> None:
    run = Run()
    run.feed([delta("a")])
    run.relay.close_early(Outcome.CLIENT_CANCELLED, Stopped("the caller left"))
    assert (run.outcome, run.text, run.relay.fault) == (Outcome.CLIENT_CANCELLED, "a", "the caller left")
    assert ERROR.match(run.relay.last)


def test_close_early_does_not_undo_an_end() -> None:
    run = Run()
    run.feed(chat("hello"))
    run.relay.close_early(Outcome.CLIENT_CANCELLED, Stopped("the caller left"))
    assert run.outcome is Outcome.COMPLETE
    assert run.relay.last.endswith(DONE)


# ── what is kept on the way ──────────────────────────────────────────────────────────────────────────────────────────


@given(
    places=st.lists(st.integers(0, 1 << 20), max_size=20),
    beats=st.lists(st.integers(0, 20), max_size=5),
    end=st.integers(0, 1 << 20),
)
@settings(max_examples=80, deadline=None)
def test_all_that_the_caller_saw_is_in_parts_or_answer(places: list[int], beats: list[int], end: int) -> None:
    stream = b"".join(chat("one two three four five six seven"))
    stream = stream[: end % (len(stream) + 1)]
    run = Run()
    for number, read in enumerate(cut(stream, places)):
        if number in beats:
            run.relay.tick(float(number))
        if run.relay.feed(read):
            break
    if beats:
        run.relay.tick(100.0)
        for event in split_events(run.client.body):
            assert event in b"".join(run.entry.parts)
    run.relay.close(Ending.CUT)
    seen = Run().over(split_events(run.body), Ending.CUT)
    assert seen.text in run.text


def test_a_tick_flushes_new_events_to_the_journal_and_sends_a_heartbeat() -> None:
    run = Run()
    run.relay.tick(1.0)
    run.feed([delta("a"), delta("b")])
    run.relay.tick(2.0)
    run.relay.tick(3.0)
    run.feed([delta("c")])
    run.relay.tick(4.0)
    assert run.entry.parts == [delta("a") + delta("b"), delta("c")]
    assert run.client.beats == [1.0, 2.0, 3.0, 4.0]


def test_answer_that_comes_fast_is_filed_before_it_is_large() -> None:
    run = Run()
    for _ in range(100):
        run.feed([delta("x" * 10_000)])
    assert len(b"".join(run.entry.parts)) > 700_000
    run.relay.close(Ending.CUT)
    assert run.text == "x" * 1_000_000


def test_garbage_that_a_tick_finds_ends_the_answer_at_the_next_read() -> None:
    """Events like those before are not parsed as they come: a broken one is found when they are folded."""
    broken = delta("b").replace(b'"b"', b'"\\x"')
    run = Run()
    assert not run.feed([delta("a"), delta("a"), delta("a"), broken])
    run.relay.tick(1.0)
    assert run.outcome is Outcome.UPSTREAM_ERROR
    seen = run.client.body
    assert run.feed([delta("c", "stop") + DONE])
    run.relay.close(Ending.ENOUGH)
    assert run.outcome is Outcome.UPSTREAM_ERROR
    assert run.client.body == seen
    assert ERROR.match(run.relay.last)
    assert run.text == "aaa"


def test_garbage_that_is_found_at_the_very_end_makes_no_complete_answer() -> None:
    broken = delta("b").replace(b'"b"', b'"\\x"')
    run = Run().over([delta("a"), delta("a"), delta("a"), broken, delta("c", "stop"), DONE])
    assert run.outcome is Outcome.UPSTREAM_ERROR
    assert ERROR.search(run.body)
    assert b"[DONE]" not in run.body


def test_lone_surrogates_huge_numbers_and_nan_pass_and_are_kept() -> None:
    odd = rb'data: {"choices":[{"index":0,"delta":{"content":"\ud83d"},"logprobs":{"p":NaN},"n":18446744073709551616}]}'
    run = Run().over([odd + b"\n\n", delta("", "stop"), DONE])
    assert run.outcome is Outcome.COMPLETE
    assert run.body.startswith(odd)
    assert b"18446744073709551616" in run.relay.completion_json()


def test_full_caller_is_asked_to_wait_for() -> None:
    run = Run()
    assert not run.relay.is_full
    run.client.is_full = True
    assert run.relay.is_full


async def test_waiting_is_the_callers() -> None:
    run = Run()
    run.client.is_full = True
    await run.relay.drained()
    assert not run.relay.is_full


# ── the Responses API ────────────────────────────────────────────────────────────────────────────────────────────────


def response(**options: Any) -> list[bytes]:
    return loopback.encode_events(loopback.response_events("Hello there, you.", **options))


def response_event(kind: str, **more: Any) -> bytes:
    return loopback.event({"type": kind, **more}, name=kind).encode()


@given(places=st.lists(st.integers(0, 1 << 20), max_size=20))
@settings(max_examples=40, deadline=None)
def test_response_is_whole_at_its_terminal_event(places: list[int]) -> None:
    stream = response()
    run = Run(RESPONSES).over(cut(b"".join(stream), places))
    assert (run.outcome, run.body) == (Outcome.COMPLETE, b"".join(stream))
    assert run.relay.last.endswith(stream[-1])
    assert stream[-1] not in run.client.body
    assert run.kept["output"][0]["content"][0]["text"] == "Hello there, you."


@pytest.mark.parametrize("ending", [Ending.WHOLE, Ending.UNPROVED, Ending.CUT])
def test_response_without_its_terminal_event_is_truncated(ending: Ending) -> None:
    run = Run(RESPONSES).over(response()[:-1], ending)
    assert run.outcome is Outcome.TRUNCATED
    assert b'"code":"upstream_cut"' in run.relay.last
    assert run.kept["output"][0]["content"][0]["text"] == "Hello there, you."


def failures(run: Run) -> list[Any]:
    """The gateway's own events at the end of a response, each by its name."""
    told = []
    for raw in split_events(run.relay.last):
        event = parse_event(raw)
        told.append(json.loads(event.data or b""))
        assert event.type == told[-1]["type"]
    return told


def openais(event: Any) -> Any:
    """As openai-python reads it."""
    return construct_type(type_=ResponseStreamEvent, value=event)


def fill_journal(run: Run) -> None:
    """As the exchange does it when the closed answer cannot be kept."""
    run.relay.close(Ending.WHOLE)
    run.relay.last = run.assembler.error_events("no room", "server_error", "journal_full")


ENDS: dict[str, Callable[[Run], object]] = {
    "upstream_cut": lambda run: run.relay.close(Ending.CUT),
    "upstream_timeout": lambda run: run.relay.close(Ending.STALLED),
    "upstream_garbled": lambda run: run.relay.close(Ending.GARBLED),
    "stopped": lambda run: run.relay.close_early(Outcome.CLIENT_CANCELLED, Stopped("stopped")),
    "shutting_down": lambda run: run.relay.close_early(Outcome.INTERRUPTED, ShuttingDown("it goes down")),
    "journal_full": fill_journal,
}


@pytest.mark.parametrize("code", ENDS)
@pytest.mark.parametrize("seen", range(10))
def test_c17_a_response_ends_with_events_of_its_own_dialect(code: str, seen: int) -> None:
    run = Run(RESPONSES)
    run.feed(response()[:seen])
    ENDS[code](run)
    error, *failed = failures(run)
    assert openai_models.validate_type(type_=ResponseErrorEvent, value=error)
    assert (error["sequence_number"], error["code"], error["param"]) == (seen, code, None)
    assert error["error"] == {"type": error["error"]["type"], "code": code, "message": error["message"], "param": None}
    assert isinstance(openais(error), ResponseErrorEvent)
    assert len(failed) == (seen > 0)
    for event in failed:
        assert openai_models.validate_type(type_=Response, value=event["response"] | {"error": None})
        typed = openais(event)
        assert isinstance(typed, ResponseFailedEvent)
        assert (typed.sequence_number, typed.response.status) == (seen + 1, "failed")
        assert typed.response.id == run.kept["id"]
        assert event["response"]["error"] == {"code": code, "message": error["message"]}
        assert event["response"]["output"] == []


def test_c17_garbage_in_a_response_gets_an_error_of_its_dialect_with_the_next_number() -> None:
    run = Run(RESPONSES).over([*response()[:6], b"data: <html>\n\n"])
    assert [event["type"] for event in failures(run)] == ["error", "response.failed"]
    assert [event["sequence_number"] for event in failures(run)] == [6, 7]
    unnumbered = response_event("response.created", response={"id": "r", "object": "response"})
    run = Run(RESPONSES).over([unnumbered], Ending.CUT)
    assert [event["sequence_number"] for event in failures(run)] == [0, 1]


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("response.completed", Outcome.COMPLETE),
        ("response.incomplete", Outcome.COMPLETE),
        ("response.cancelled", Outcome.COMPLETE),
        ("response.failed", Outcome.UPSTREAM_ERROR),
        ("error", Outcome.UPSTREAM_ERROR),
    ],
)
def test_terminal_events_of_a_response(kind: str, outcome: Outcome) -> None:
    last = response_event(kind, response={"object": "response", "status": kind.rpartition(".")[2], "output": []})
    run = Run(RESPONSES).over([*response()[:6], last, b"data: late\n\n"])
    assert (run.outcome, run.body) == (outcome, b"".join([*response()[:6], last]))


def test_error_of_a_response_without_a_type_is_one() -> None:
    for last in (b'event: error\ndata: {"message":"no"}\n\n', b'data: {"error":{"message":"no"}}\n\n'):
        run = Run(RESPONSES).over([*response()[:6], last])
        assert (run.outcome, run.body) == (Outcome.UPSTREAM_ERROR, b"".join([*response()[:6], last]))


def test_terminal_words_inside_of_a_text_end_nothing() -> None:
    text = 'response.completed "error" [DONE] response.failed'
    stream = loopback.encode_events(loopback.response_events(text))
    run = Run(RESPONSES).over(stream)
    assert (run.outcome, run.body) == (Outcome.COMPLETE, b"".join(stream))


def test_b11_done_without_a_terminal_event_leaves_a_response_truncated() -> None:
    stream = response()[:-1]
    run = Run(RESPONSES).over([*stream, DONE])
    assert (run.outcome, run.body) == (Outcome.TRUNCATED, b"".join([*stream, DONE]))


def test_b10_openai_sends_the_failed_response_behind_its_error() -> None:
    error = response_event("error", sequence_number=6, error={"code": "server_error", "message": "no"})
    failed = response_event("response.failed", sequence_number=7, response={"id": "r", "status": "failed"})
    run = Run(RESPONSES).over([*response()[:6], error, failed])
    assert (run.outcome, run.body) == (Outcome.UPSTREAM_ERROR, b"".join([*response()[:6], error, failed]))
