"""Conversations recognised by what was said: however a client sends an answer back, and only then."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage

from gateway.dialects.openai_chat.fingerprints import candidates, prefix_hashes, snapshot_hash

USER = {"role": "user", "content": "What is the weather?"}
NEXT = {"role": "user", "content": "And tomorrow?"}
CALL: dict[str, Any] = {
    "id": "c1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Paris","days":[1,2]}'},
}

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "tool_calls", "function", "text", "type", "arguments", "function_call"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


def recognises(answer: dict[str, Any], echo: dict[str, Any]) -> bool:
    """Whether a row with this answer is found by a request that sends this echo of it."""
    snapshot = snapshot_hash(prefix_hashes([USER]), answer)
    return snapshot in [found for _, found in candidates([USER, echo, NEXT])]


AS_SENT: dict[str, Any] = {
    "role": "assistant",
    "content": "It is **sunny** ☀.",
    "refusal": None,
    "annotations": [],
    "audio": None,
}
CALLING: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL]}


@pytest.mark.parametrize(
    "echo",
    [
        AS_SENT,
        {"role": "assistant", "content": AS_SENT["content"]},
        {
            "content": [{"type": "text", "text": "It is **sunny** "}, {"type": "text", "text": "☀."}],
            "role": "assistant",
        },
        {"role": "assistant", "content": AS_SENT["content"], "tool_calls": [], "tool_call_id": "", "name": None},
        {"role": "assistant", "content": AS_SENT["content"], "tool_calls": None, "reasoning_content": "hm"},
        ChatCompletionMessage.model_validate(AS_SENT).to_dict(),
        ChatCompletionMessage.model_validate(AS_SENT).model_dump(),
        ChatCompletionMessage.model_validate(AS_SENT).model_dump(exclude_none=True),
    ],
)
def test_an_answer_is_recognised_however_a_client_sends_it_back(echo: dict[str, Any]) -> None:
    assert recognises(AS_SENT, echo)


@pytest.mark.parametrize(
    "echo",
    [
        CALLING,
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "content": "", "tool_calls": [{**CALL, "index": 0}]},
        {"role": "assistant", "content": [], "tool_calls": [CALL | {"function": CALL["function"] | {"parsed": {}}}]},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c1", "function": {"name": "weather", "arguments": '{ "days": [1, 2], "city": "\\u0050aris" }'}}
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c1", "function": {"name": "weather", "arguments": {"days": [1, 2], "city": "Paris"}}}
            ],
        },
    ],
)
def test_an_answer_that_calls_a_tool_is_recognised_however_it_is_written(echo: dict[str, Any]) -> None:
    assert recognises(CALLING, echo)


@pytest.mark.parametrize(
    "other",
    [
        {"role": "assistant", "content": "It is **sunny** ☀"},
        {"role": "user", "content": AS_SENT["content"]},
        {"role": "assistant", "content": [AS_SENT["content"]]},
        {"role": "assistant", "content": AS_SENT["content"], "tool_calls": [CALL]},
        {"role": "assistant", "content": AS_SENT["content"], "function_call": {"name": "f", "arguments": ""}},
        {"role": "assistant", "content": AS_SENT["content"], "tool_call_id": "c1"},
    ],
)
def test_another_answer_is_not(other: dict[str, Any]) -> None:
    assert not recognises(AS_SENT, other)


@pytest.mark.parametrize("arguments", ['{"city":"Rome","days":[1,2]}', '{"city":"Paris"', "", None, "{}"])
def test_a_call_with_other_arguments_is_another_call(arguments: Any) -> None:
    other = {"role": "assistant", "tool_calls": [CALL | {"function": {"name": "weather", "arguments": arguments}}]}
    assert not recognises(CALLING, other)


def test_long_numbers_in_arguments_are_told_apart() -> None:
    def calling(number: int) -> dict[str, Any]:
        return {
            "role": "assistant",
            "tool_calls": [{"function": {"name": "f", "arguments": json.dumps({"id": number})}}],
        }

    assert recognises(calling(2**64 + 1), calling(2**64 + 1))
    assert not recognises(calling(2**64 + 1), calling(2**64 + 2))


def test_pictures_are_part_of_what_was_said() -> None:
    def asking(url: str, **more: Any) -> list[Any]:
        picture = {"type": "image_url", "image_url": {**more, "url": url}}
        return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}]

    assert prefix_hashes(asking("data:a")) != prefix_hashes(asking("data:b"))
    turned = {"image_url": {"url": "data:a", "detail": "low"}, "type": "image_url"}
    same = [{"content": [{"text": "What is this?", "type": "text"}, turned], "role": "user"}]
    assert prefix_hashes(asking("data:a", detail="low")) == prefix_hashes(same)


def test_each_prefix_has_its_own_hash_of_32_bytes_which_what_follows_does_not_change() -> None:
    messages = [USER, AS_SENT, NEXT, CALLING, {"role": "tool", "tool_call_id": "c1", "content": "rain"}]
    hashes = prefix_hashes(messages)
    assert [len(found) for found in hashes] == [32] * 5
    assert len(set(hashes)) == 5
    for depth in range(5):
        assert prefix_hashes(messages[:depth]) == hashes[:depth]
    assert snapshot_hash(hashes[:1], AS_SENT) == hashes[1]


def test_where_one_message_ends_and_the_next_begins_is_part_of_the_hash() -> None:
    one = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    other = [{"role": "user", "content": "ab"}, {"role": "user", "content": ""}]
    assert prefix_hashes(one)[-1] != prefix_hashes(other)[-1]


def test_candidates_are_the_prefixes_that_end_with_an_answer_longest_first() -> None:
    messages = [{"role": "system", "content": "s"}, USER, AS_SENT, NEXT, AS_SENT, USER]
    hashes = prefix_hashes(messages)
    assert candidates(messages) == [(5, hashes[4]), (3, hashes[2])]
    assert candidates(messages, hashes) == candidates(messages)


def test_the_whole_list_is_no_candidate_though_it_ends_with_an_answer() -> None:
    assert candidates([USER, AS_SENT]) == []
    assert candidates([USER]) == []


def test_an_edited_question_goes_on_from_the_answer_before_it() -> None:
    first = [USER, AS_SENT, NEXT]
    edited = [USER, AS_SENT, {"role": "user", "content": "And on Sunday?"}]
    assert candidates(edited) == candidates(first)
    answered = snapshot_hash(prefix_hashes(first), {"role": "assistant", "content": "Rain."})
    assert answered not in [found for _, found in candidates([*edited, AS_SENT, USER])]


@pytest.mark.parametrize("messages", [None, 5, "text", {}, {"role": "user"}, [None], [USER, "x"], [USER, []], [[USER]]])
def test_what_is_no_list_of_messages_has_no_prefixes(messages: Any) -> None:
    assert prefix_hashes(messages) == []
    assert candidates(messages) == []


def test_an_answer_to_nothing_or_no_answer_is_no_snapshot() -> None:
    assert snapshot_hash([], AS_SENT) == b""
    assert snapshot_hash(prefix_hashes([USER]), None) == b""


def test_a_message_that_cannot_be_written_has_no_hash() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert prefix_hashes([{"role": "user", "content": deep}]) == []
    assert prefix_hashes([{"role": "user", "content": {1, 2}}]) == []


def test_lone_surrogates_and_long_numbers_are_hashed_like_anything_else() -> None:
    odd = {"role": "user", "content": ["\ud800", 2**70, float("nan")]}
    assert len(prefix_hashes([odd])) == 1
    assert prefix_hashes([odd]) == prefix_hashes([dict(reversed(odd.items()))])


@settings(max_examples=120, deadline=None)
@given(JSON, JSON)
def test_nothing_raises_whatever_the_messages_are(messages: Any, answer: Any) -> None:
    for value in (messages, [messages], [USER, messages, answer]):
        hashes = prefix_hashes(value)
        assert snapshot_hash(hashes, answer) is not None
        assert all(found in hashes for _, found in candidates(value))
