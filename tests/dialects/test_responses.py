"""The Responses API: the terminal event's object, or what was said until the cut."""

import json
from typing import Any

import pytest
from openai.types.responses import Response

from gateway.dialects.openai_responses.assembler import ResponsesAssembler
from gateway.model import Usage
from tests.dialects.streams import as_payload, cut, payloads_of, recorded

STREAM = payloads_of([recorded("responses")])[0]
EVENTS: list[dict[str, Any]] = [json.loads(payload) for payload in STREAM]
WHOLE: dict[str, Any] = EVENTS[-1]["response"]


def assembled(*events: Any) -> ResponsesAssembler:
    assembler = ResponsesAssembler()
    assembler.feed(map(as_payload, events))
    return assembler


def test_the_terminal_events_object_is_the_answer() -> None:
    assembler = assembled(*EVENTS)
    assert json.loads(assembler.completion_json()) == WHOLE
    assert (assembler.is_done, assembler.finished, assembler.status) == (True, True, "completed")
    assert (assembler.has_text, assembler.has_content) == (True, True)
    assert assembler.model == "gpt-4.1-2025-04-14"
    assert assembler.usage == Usage(36, 27, raw=WHOLE["usage"])
    assert assembler.error is None


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
def test_any_chunking_gives_the_same_answer(line_end: bytes) -> None:
    stream = recorded("responses").replace(b"\n", line_end)
    for places in ([], [1000], list(range(0, 7000, 13)), list(range(7000))):
        assembler = ResponsesAssembler()
        for payloads in payloads_of(cut(stream, places)):
            assembler.feed(payloads)
        assert assembler.completion() == WHOLE


def test_all_but_the_terminal_event_say_the_same_output() -> None:
    assembler = assembled(*EVENTS[:-1])
    assert (assembler.is_done, assembler.finished, assembler.status) == (False, False, "in_progress")
    assert assembler.completion() == {**WHOLE, "status": "in_progress", "usage": None}


def test_deltas_alone_say_the_same_words_as_their_done_events() -> None:
    deltas = [event for event in EVENTS[:-1] if not event["type"].endswith(".done")]
    reasoning, message, call = assembled(*deltas).completion()["output"]
    assert reasoning["summary"] == WHOLE["output"][0]["summary"]
    assert message["content"] == WHOLE["output"][1]["content"]
    assert message["status"] == "in_progress"
    assert call["arguments"] == WHOLE["output"][2]["arguments"]


@pytest.mark.parametrize("place", range(len(EVENTS)))
def test_a_cut_after_any_event_leaves_an_answer_that_the_official_package_can_read(place: int) -> None:
    assembler = assembled(*EVENTS[:place])
    partial = assembler.completion()
    assert assembler.completion_json() == assembler.completion_json()
    assert partial["object"] == "response"
    said = "".join(event["delta"] for event in EVENTS[:place] if event["type"] == "response.output_text.delta")
    assert Response.model_construct(**partial).output_text == said
    assert assembler.has_text is bool(said)


def test_deltas_without_any_announcement_are_still_an_answer() -> None:
    kinds = ["output_text", "refusal", "function_call_arguments", "reasoning_text", "custom_tool_call_input"]
    events = [
        {"type": f"response.{kind}.delta", "output_index": 9 - index, "item_id": f"i{index}", "delta": delta}
        for index, kind in enumerate(kinds)
        for delta in ("a", "b")
    ]
    assert assembled(*events).completion()["output"] == [
        {"id": "i4", "type": "custom_tool_call", "input": "ab"},
        {"id": "i3", "type": "reasoning", "content": [{"type": "reasoning_text", "text": "ab"}]},
        {"id": "i2", "type": "function_call", "arguments": "ab"},
        {"id": "i1", "type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "ab"}]},
        {"id": "i0", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ab"}]},
    ]


def test_items_without_an_index_are_told_apart_by_id() -> None:
    events = [{"type": "response.output_text.delta", "item_id": item_id, "delta": item_id} for item_id in "abab"]
    texts = [item["content"][0]["text"] for item in assembled(*events).completion()["output"]]
    assert texts == ["aa", "bb"]


def test_a_done_event_has_the_last_word() -> None:
    where = {"output_index": 0, "content_index": 0}
    delta = {"type": "response.output_text.delta", "delta": "draft", **where}
    done = {"type": "response.output_text.done", "text": "final", **where}
    assert assembled(delta, done).completion()["output"][0]["content"][0]["text"] == "final"


def test_a_done_item_stands_for_all_that_was_said_of_it() -> None:
    item = {"type": "message", "content": [{"type": "output_text", "text": "final"}]}
    delta = {"type": "response.output_text.delta", "delta": "draft", "output_index": 0, "content_index": 0}
    call = {"type": "response.function_call_arguments.delta", "delta": "draft", "output_index": 1}
    done = {"type": "response.output_item.done"}
    events = [delta, call, {**done, "output_index": 0, "item": item}]
    events.append({**done, "output_index": 1, "item": {"type": "function_call", "arguments": "{}"}})
    assert assembled(*events).completion()["output"] == [item, {"type": "function_call", "arguments": "{}"}]


def test_a_late_progress_event_does_not_undo_the_end() -> None:
    assembler = assembled(*EVENTS, EVENTS[1])
    assert assembler.status == "completed"
    assert assembler.completion() == WHOLE


def test_logprobs_of_deltas_are_lined_up() -> None:
    events = [{"type": "response.output_text.delta", "delta": "x", "logprobs": [{"token": "x"}]}] * 2
    assert assembled(*events).completion()["output"][0]["content"][0]["logprobs"] == [{"token": "x"}] * 2


@pytest.mark.parametrize("output", [[], None])
def test_a_failure_keeps_what_was_said_before_it(output: Any) -> None:
    error = {"code": "server_error", "message": "The model failed."}
    failed = {**EVENTS[0]["response"], "status": "failed", "error": error, "output": output}
    assembler = assembled(*EVENTS[:12], {"type": "response.failed", "response": failed})
    completion = assembler.completion()
    assert (assembler.finished, assembler.status, assembler.error) == (True, "failed", error)
    assert completion["status"] == "failed"
    assert completion["output"][1]["content"][0]["text"] == "It is"


def test_an_incomplete_answer_says_so() -> None:
    response = {**WHOLE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assembler = assembled(*EVENTS[:-1], {"type": "response.incomplete", "response": response})
    assert (assembler.finished, assembler.status) == (True, "incomplete")
    assert assembler.completion() == response


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"type": "error", "code": "E", "message": "no", "param": None, "sequence_number": 3}, None),
        ({"type": "error", "error": {"message": "no"}}, {"message": "no"}),
        ({"error": {"message": "no"}}, {"message": "no"}),
    ],
)
def test_an_error_event_is_told_with_the_answer_so_far(event: Any, error: Any) -> None:
    assembler = assembled(*EVENTS[:12], event)
    assert assembler.error == (error or event)
    assert not assembler.finished
    completion = assembler.completion()
    assert completion["error"] == (error or event)
    assert completion["output"][1]["content"][0]["text"] == "It is"


def test_events_that_say_nothing_of_the_answer_are_kept_until_it_is_whole() -> None:
    searching = {"type": "response.web_search_call.searching", "item_id": "ws_1"}
    assert assembled(searching).completion()["unmerged"] == {searching["type"]: [searching]}
    assert "unmerged" not in assembled(searching, *EVENTS).completion()


def test_payloads_that_are_no_json_object_are_kept_and_done_marks_the_end() -> None:
    assembler = ResponsesAssembler()
    assembler.feed([b"oops", b"", b"[1]", b"[DONE]"])
    assert assembler.unparsed == [b"oops", b"[1]"]
    assert (assembler.is_done, assembler.finished) == (True, False)
    assert assembler.completion() == {"object": "response", "status": "in_progress", "output": []}


def test_long_numbers_and_lone_surrogates_stay_exact() -> None:
    text = assembled({"type": "response.output_text.delta", "delta": "\ud800", "output_index": 0}).completion_json()
    assert b'"text":"\\ud800"' in text
    assert (
        b'"seed":18446744073709551617'
        in assembled({"type": "response.created", "response": {"seed": 2**64 + 1}}).completion_json()
    )


@pytest.mark.timeout(20)
def test_a_long_answer_costs_no_more_than_its_length() -> None:
    delta = as_payload({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "word "})
    assembler = ResponsesAssembler()
    assembler.feed([delta] * 100_000)
    assert len(assembler.completion()["output"][0]["content"][0]["text"]) == 500_000
