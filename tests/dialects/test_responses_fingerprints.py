"""Turns of the Responses API recognised by their items, as SDKs send them again; and by ids, of one caller's alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response

from gateway.dialects.dialect import fingerprints_of
from gateway.dialects.fingerprints import NONE, Fingerprints
from gateway.dialects.openai_responses.fingerprints import references_in, turn_of
from gateway.model import Kind

Item = dict[str, Any]
TEXT: Item = {"type": "output_text", "text": "It is **sunny** ☀.", "annotations": [], "logprobs": []}
SAID: Item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [TEXT]}
THOUGHT: Item = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
SEARCH: Item = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"query": "weather"}}
CALL: Item = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Paris","days":[1,2]}',
}
WRITTEN_ANEW: Item = {"parsed_arguments": {}, "arguments": '{"days": [1, 2], "city": "\\u0050aris"}'}
CUSTOM: Item = {"id": "ct_1", "type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "*** Begin"}
OUTPUT: Item = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
USER: Item = {"role": "user", "content": "What is the weather?"}
NEXT: Item = {"role": "user", "content": "And tomorrow?"}


def without(item: Item, *names: str) -> Item:
    return {name: value for name, value in item.items() if name not in names}


def goes_on(output: list[Item], echo: list[Item], *, asked: object = (USER,), again: list[Item] | None = None) -> bool:
    """Whether a request that sends this echo of an answer's items is found to go on from it."""
    asked = list(asked) if isinstance(asked, tuple) else asked
    snapshot = turn_of(asked, output).snapshot
    assert snapshot is not None
    found = turn_of([*(again or [USER]), *echo, NEXT], []).earlier
    assert len(set(found)) == len(found)
    return snapshot in found


def as_the_sdk_dumps(*items: Item, **how: Any) -> list[Item]:
    """As `response.output` of the `openai` package is sent again."""
    whole = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": list(items)}
    more = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    return [item.model_dump(**how) for item in Response.model_validate({**whole, **more}).output]


@pytest.mark.parametrize(
    "echo",
    [
        [SAID],
        [without(SAID, "id", "status")],
        [{"role": "assistant", "content": TEXT["text"]}],
        [{"role": "assistant", "content": [{"type": "output_text", "text": TEXT["text"]}], "id": "msg_1"}],
        [{**SAID, "phase": "final_answer", "content": [{"type": "output_text", "text": TEXT["text"]}]}],
        [{**SAID, "content": [{**TEXT, "text": "It is **sunny** "}, {**TEXT, "text": "☀."}]}],
        [THOUGHT, SAID],
        [without(THOUGHT, "id"), without(SAID, "id")],
        [THOUGHT, SEARCH, SAID],
        as_the_sdk_dumps(SAID),
        as_the_sdk_dumps(THOUGHT, SAID, exclude_unset=True),
        as_the_sdk_dumps(SAID, exclude_none=True),
    ],
)
@pytest.mark.parametrize("output", [[SAID], [THOUGHT, SAID], [SEARCH, THOUGHT, SAID]])
def test_an_answer_is_recognised_however_a_client_sends_its_items_back(output: list[Item], echo: list[Item]) -> None:
    assert goes_on(output, echo)


@pytest.mark.parametrize(
    "echo",
    [
        [CALL, OUTPUT],
        [without(CALL, "id", "status"), OUTPUT],
        [without(THOUGHT, "encrypted_content"), {**CALL, **WRITTEN_ANEW}, OUTPUT],
        [CALL, {**OUTPUT, "id": "fco_1", "status": "completed", "output": [{"type": "input_text", "text": "rain"}]}],
        [*as_the_sdk_dumps(THOUGHT, CALL), OUTPUT],
    ],
)
def test_a_call_of_a_tool_is_recognised_and_what_follows_is_its_output(echo: list[Item]) -> None:
    assert goes_on([THOUGHT, CALL], echo)


def test_several_calls_and_words_before_them_are_one_answer() -> None:
    answer = [THOUGHT, SAID, CALL, CUSTOM]
    outputs = [OUTPUT, {"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"}]
    assert goes_on(answer, [SAID, CALL, CUSTOM, *outputs])
    assert len(turn_of([USER, SAID, CALL, CUSTOM, *outputs, SAID, NEXT], []).earlier) == 2


@pytest.mark.parametrize(
    "again",
    [
        [{"role": "user", "content": "Hi"}],
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
    ],
)
def test_a_question_that_was_a_string_may_come_back_as_a_message(again: list[Item]) -> None:
    assert goes_on([SAID], [SAID], asked="Hi", again=again)


@pytest.mark.parametrize(
    "other",
    [
        [{**SAID, "content": [{**TEXT, "text": "It is sunny."}]}],
        [{**SAID, "role": "user"}],
        [{**CALL, "call_id": "call_9"}, OUTPUT],
        [],
        [THOUGHT],
        [{"type": "item_reference", "id": "msg_1"}],
    ],
)
def test_another_answer_is_not(other: list[Item]) -> None:
    assert not goes_on([SAID], other)


@pytest.mark.parametrize(("name", "value"), [("arguments", '{"city":"Rome"}'), ("name", "time"), ("type", "x_call")])
def test_a_call_that_differs_is_another_call(name: str, value: str) -> None:
    assert not goes_on([CALL], [{**CALL, name: value}, OUTPUT])


def test_an_edited_question_goes_on_from_the_answer_before_it() -> None:
    first = turn_of([USER, SAID, NEXT], []).earlier
    edited = turn_of([USER, SAID, {"role": "user", "content": "And on Sunday?"}], []).earlier
    assert first == edited
    assert len(first) == 1


def test_the_longest_comes_first_and_the_whole_input_is_none_of_them() -> None:
    second = turn_of([USER, SAID, NEXT], [CALL])
    third = turn_of([USER, SAID, NEXT, CALL, OUTPUT], [SAID])
    assert third.earlier == [second.snapshot, *second.earlier]
    assert turn_of([USER, SAID], []).earlier == []


@pytest.mark.parametrize("output", [[], None, 7, [THOUGHT], [{"type": "message", "role": "assistant", "content": []}]])
def test_where_nothing_was_said_there_is_nothing_to_go_on_from(output: Any) -> None:
    assert turn_of([USER], output).snapshot is None


@pytest.mark.parametrize("asked", [None, 7, {}, [7], [[USER]], [USER, None], [USER, "x"], []])
def test_what_is_not_made_of_items_has_no_turns(asked: Any) -> None:
    assert turn_of(asked, [SAID]) == ([], None)


def test_what_is_nested_too_deep_has_no_turns() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert turn_of([{"role": "user", "content": deep}], [SAID]) == ([], None)
    assert turn_of([USER], [{**SAID, "content": deep}]) == ([], None)


def test_references_name_what_the_upstream_keeps_the_last_first_and_not_too_many() -> None:
    references = [{"type": "item_reference", "id": f"msg_{number}"} for number in range(30)]
    assert references_in([USER, *references, NEXT]) == [f"msg_{number}" for number in range(29, 21, -1)]
    assert references_in([{"type": "item_reference", "id": 7}, 7, {"type": "item_reference"}]) == []
    assert references_in("msg_1") == []


# ── marks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def response(*output: Item, id: Any = "resp_1") -> Item:
    return {"id": id, "object": "response", "output": list(output)}


def marks(asked: Item, answered: object = None) -> Fingerprints:
    return fingerprints_of(Kind.RESPONSE, asked, answered)


def test_an_answer_is_known_by_its_id_and_by_its_last_items() -> None:
    first = marks({"input": "Hi"}, response(THOUGHT, SAID))
    assert list(marks({"input": "And?", "previous_response_id": "resp_1"}).earlier) == [first.answer]
    reference = {"type": "item_reference", "id": "msg_1"}
    assert first.item in marks({"input": [USER, reference, NEXT]}).named
    assert len(first.own) == 3


def test_turns_of_a_conversation_share_a_mark_and_tell_its_id() -> None:
    first = marks({"input": "Hi", "conversation": "conv_1"}, response(SAID))
    second = marks({"input": "And?", "conversation": {"id": "conv_1"}}, response(SAID, id="resp_2"))
    other = marks({"input": "And?", "conversation": "conv_2"}, response(SAID))
    assert first.conversation == second.conversation == "conv_1"
    assert [first.snapshot] == list(second.snapshots) != list(other.snapshots)


def test_an_input_that_is_only_what_is_new_is_no_snapshot() -> None:
    assert marks({"input": "Hi", "previous_response_id": "resp_0"}, response(SAID)).snapshot is None


def test_ids_of_one_kind_do_not_pass_for_another() -> None:
    named = [
        marks({"input": "x", "previous_response_id": "a"}).named,
        marks({"input": [{"type": "item_reference", "id": "a"}, NEXT]}).named,
        marks({"input": "x", "conversation": "a"}).snapshots,
    ]
    assert len({found for (found,) in named}) == 3


@pytest.mark.parametrize("odd", [None, "", 7, [], {}, {"id": 7}, {"id": ""}, "\ud800", "x" * 100_000])
def test_odd_ids_break_nothing(odd: Any) -> None:
    asked = {"input": "x", "previous_response_id": odd, "conversation": odd}
    found = marks(asked, {"id": odd, "output": [{"id": odd, "type": "message"}]})
    assert all(len(mark) == 32 for mark in (*found.own, *found.earlier))


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "type", "call_id", "arguments", "output", "input", "id", "conversation", "text"]
            ),
            inner | st.sampled_from(["assistant", "message", "function_call", "item_reference", "output_text"]),
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(JSON, JSON, st.sampled_from(Kind))
def test_nothing_raises_whatever_the_bodies_are(asked: Any, answered: Any, kind: Kind) -> None:
    for request in (asked, {"input": asked}, {"input": [USER, asked, NEXT]}, {"messages": asked}):
        for reply in (answered, {"output": answered, "id": answered}, {"output": [answered]}):
            found = fingerprints_of(kind, request, reply)
            assert all(isinstance(mark, bytes) for mark in (*found.own, *found.earlier))
    assert fingerprints_of(Kind.OTHER, {"input": "x"}, response(SAID)) == NONE
