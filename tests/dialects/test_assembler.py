"""How each field of a chunk joins the answer."""

import json
from typing import Any

import pytest

from gateway.dialects.openai_chat.assembler import ChatAssembler
from gateway.model import Usage
from tests.dialects.streams import as_payload, chunk


def assembled(*payloads: bytes) -> ChatAssembler:
    assembler = ChatAssembler()
    assembler.feed(payloads)
    return assembler


def message(*deltas: Any) -> dict[str, Any]:
    said: dict[str, Any] = assembled(*map(chunk, deltas)).completion()["choices"][0]["message"]
    return said


def tool(**fields: Any) -> dict[str, Any]:
    return {"tool_calls": [fields]}


def test_nothing_said_is_an_answer_without_choices() -> None:
    assembler = ChatAssembler()
    assert assembler.completion() == {"object": "chat.completion", "choices": []}
    assert (assembler.is_done, assembler.finished, assembler.has_text, assembler.has_content) == (False,) * 4
    assert (assembler.model, assembler.usage, assembler.error) == (None, None, None)


def test_choices_may_come_in_any_order_and_leave_gaps() -> None:
    first, second = chunk({"role": "assistant", "content": "zero"}), chunk({"content": "seven"}, index=7)
    choices = assembled(second, first, second).completion()["choices"]
    assert [(choice["index"], choice["message"]["content"]) for choice in choices] == [(0, "zero"), (7, "sevenseven")]


def test_a_hostile_index_costs_no_memory() -> None:
    choices = assembled(chunk({"content": "a"}, index=10**15), chunk({"content": "b"}, index=-3)).completion()[
        "choices"
    ]
    assert [choice["index"] for choice in choices] == [-3, 10**15]
    calls = message(tool(index=10**15, id="b"), tool(index=-1, id="a"))["tool_calls"]
    assert [call["id"] for call in calls] == ["a", "b"]


def test_choices_without_an_index_are_told_apart_by_their_place() -> None:
    payload = as_payload({"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]})
    alone = as_payload({"choices": [{"delta": {"content": "c"}}]})
    choices = assembled(payload, payload, alone).completion()["choices"]
    assert [choice["message"]["content"] for choice in choices] == ["aac", "bb"]


def test_repeated_roles_and_names_are_said_once() -> None:
    delta = {"role": "assistant", "name": "Ann", "content": "x"}
    assert message(delta, delta) == {"role": "assistant", "content": "xx", "refusal": None, "name": "Ann"}


def test_texts_are_joined_whatever_their_name() -> None:
    first = {"content": "a", "refusal": "b", "reasoning_content": "c", "reasoning": "d", "inner_voice": "e"}
    assert message(first, first) == {"role": "assistant"} | {name: text * 2 for name, text in first.items()}


def test_unknown_lists_are_extended_objects_united_and_of_numbers_the_last_one_stays() -> None:
    said = message(
        {"annotations": [1], "extra": {"a": 1, "b": 1}, "score": 0.5, "flag": False},
        {"annotations": [2], "extra": {"b": 2, "c": 3}, "score": 2, "flag": None},
    )
    assert said["annotations"] == [1, 2]
    assert said["extra"] == {"a": 1, "b": 2, "c": 3}
    assert (said["score"], said["flag"]) == (2, False)


def test_b12_reasoning_in_objects_is_kept_whole_in_any_mix() -> None:
    one, two = {"type": "text", "text": "a"}, {"type": "text", "text": "b"}
    for name in ("reasoning_content", "reasoning", "reasoning_details", "thinking"):
        for pieces, kept in (
            ([one], one),
            ([one, one, two], [one, one, two]),
            ([[one], [two]], [one, two]),
            ([[one], two, [one]], [one, two, one]),
            ([one, [two]], [one, two]),
            (["x", one, "y", "z"], [{"type": "text", "text": "x"}, one, {"type": "text", "text": "yz"}]),
            ([[one], "x"], [one, {"type": "text", "text": "x"}]),
            ([one, "x"], [one, {"type": "text", "text": "x"}]),
            (["x", "y"], "xy"),
            (["", [one]], [one]),
        ):
            said = message(*({name: piece} for piece in json.loads(json.dumps(pieces))))
            assert said[name] == kept, (name, pieces)


def test_b12_content_in_objects_and_what_a_newer_object_replaces_are_kept() -> None:
    one, two = {"type": "text", "text": "a"}, {"type": "text", "text": "b"}
    first, second = {"content": one, "extra": {"n": 1, "m": 1}}, {"content": two, "extra": {"n": 2}}
    assembler = assembled(chunk(first), chunk(second))
    assert assembler.completion()["unmerged"] == {
        "choices.0.message.content": [one, two],
        "choices.0.message.extra": [{"n": 1, "m": 1}],
    }
    assert assembler.completion()["choices"][0]["message"]["extra"] == {"n": 2, "m": 1}


def test_the_older_function_call_is_joined() -> None:
    said = message({"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}})
    assert said["function_call"] == {"name": "f", "arguments": "{}"}


def test_pieces_of_tool_calls_that_take_turns_find_their_call() -> None:
    said = message(
        tool(index=1, id="b", type="function", function={"name": "g", "arguments": ""}),
        tool(index=0, id="a", type="function", function={"name": "f", "arguments": "{"}),
        tool(index=1, function={"arguments": "[1]"}),
        tool(index=0, function={"arguments": "}"}),
    )
    assert said["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "[1]"}},
    ]


def test_tool_calls_without_an_index_are_told_apart_by_id_and_then_by_turn() -> None:
    said = message(
        tool(id="a", function={"name": "f", "arguments": "1"}),
        tool(id="b", function={"name": "f", "arguments": "2"}),
        tool(id="a", function={"arguments": "3"}),
        tool(function={"arguments": "4"}),
        tool(function={"name": "h", "arguments": "5"}),
    )
    calls = [(call.get("id"), call["function"]["arguments"]) for call in said["tool_calls"]]
    assert calls == [("a", "134"), ("b", "2"), (None, "5")]


def test_two_calls_in_one_piece_with_the_same_index_each_named_are_two_calls() -> None:
    both = [{"index": 0, "id": name, "function": {"name": name, "arguments": "{}"}} for name in ("a", "b")]
    assert [call["id"] for call in message({"tool_calls": both})["tool_calls"]] == ["a", "b"]


def test_a_name_repeated_in_every_piece_of_a_call_is_said_once() -> None:
    piece = tool(index=0, id="a", type="function", function={"name": "f", "arguments": "x"})
    assert message(piece, piece)["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "xx"}}
    ]


def test_the_input_of_a_custom_tool_is_joined() -> None:
    said = message(
        tool(index=0, id="a", type="custom", custom={"name": "sql", "input": "sel"}),
        tool(index=0, custom={"input": "ect"}),
    )
    assert said["tool_calls"] == [{"id": "a", "type": "custom", "custom": {"name": "sql", "input": "select"}}]


def test_usage_and_finish_reason_are_the_last_that_say_something() -> None:
    assembler = assembled(
        chunk({"content": "a"}, usage={"prompt_tokens": 3, "completion_tokens": 1}),
        chunk({}, "stop", usage={"prompt_tokens": 3, "completion_tokens": 2}),
        chunk({}, "", usage=None),
    )
    assert assembler.usage == Usage(3, 2, raw={"prompt_tokens": 3, "completion_tokens": 2})
    assert assembler.completion()["choices"][0]["finish_reason"] == "stop"
    assert assembler.finished


def test_an_answer_is_finished_when_every_choice_is() -> None:
    assembler = assembled(chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk({}, "stop"))
    assert not assembler.finished
    assembler.feed([chunk({}, "length", index=1)])
    assert assembler.finished
    assert not assembler.is_done
    assembler.feed([b" [DONE]\r"])
    assert assembler.is_done


@pytest.mark.parametrize(
    ("delta", "has_text", "has_content"),
    [
        ({"role": "assistant", "content": "", "refusal": None}, False, False),
        ({"content": "a"}, True, True),
        ({"refusal": "no"}, True, True),
        ({"content": [{"type": "text", "text": "a"}]}, True, True),
        ({"reasoning_content": "hm"}, False, True),
        ({"tool_calls": []}, False, False),
        (tool(index=0, id="a"), False, True),
        ({"audio": {"id": "a"}}, False, True),
        ({"function_call": {"name": "f"}}, False, True),
    ],
)
def test_an_answer_knows_whether_anything_was_said(delta: Any, has_text: bool, has_content: bool) -> None:
    assembler = assembled(chunk(delta))
    assert (assembler.has_text, assembler.has_content) == (has_text, has_content)


def test_a_whole_message_in_one_event_is_taken_as_it_is() -> None:
    payload = as_payload({"choices": [{"index": 0, "message": {"role": "assistant", "content": "all"}}]})
    assert assembled(payload).completion()["choices"][0]["message"]["content"] == "all"


def test_a_growing_message_beside_the_deltas_is_not_joined_twice() -> None:
    payloads = [
        as_payload({"choices": [{"index": 0, "delta": {"content": piece}, "message": {"content": so_far}}]})
        for piece, so_far in [("a", "a"), ("b", "ab")]
    ]
    completion = assembled(*payloads).completion()
    assert completion["choices"][0]["message"]["content"] == "ab"
    assert completion["unmerged"] == {"choices.0.message": [{"content": "ab"}]}


def test_a_whole_message_after_the_deltas_is_not_joined_to_them() -> None:
    last = as_payload({"choices": [{"index": 0, "message": {"content": "ab"}, "finish_reason": "stop"}]})
    completion = assembled(chunk({"content": "a"}), chunk({"content": "b"}), last).completion()
    assert completion["choices"][0]["message"]["content"] == "ab"
    assert completion["unmerged"] == {"choices.0.message": [{"content": "ab"}]}


def test_the_first_envelope_that_names_something_stays_and_the_last_other_name_is_kept() -> None:
    completion = assembled(
        chunk({"content": "a"}, id="", created=0, model=None, system_fingerprint=None),
        chunk({"content": "b"}, id="x", created=1, model="m", system_fingerprint="fp"),
        chunk({"content": "c"}, id="x", created=2, model="m", system_fingerprint="fp"),
        chunk({"content": "d"}, id="x", created=3, model="m", system_fingerprint="fp"),
    ).completion()
    assert [completion[name] for name in ("id", "created", "model", "system_fingerprint")] == ["x", 1, "m", "fp"]
    assert completion["unmerged"] == {"created": [3]}
    assert completion["choices"][0]["message"]["content"] == "abcd"


def test_an_answers_own_name_for_itself_is_not_lost() -> None:
    completion = assembled(chunk({}, object="surprise", unmerged=1)).completion()
    assert completion["object"] == "chat.completion"
    assert completion["unmerged"] == {"object": ["surprise"], "unmerged": [1]}


def test_what_is_no_json_object_is_kept_beside_the_answer() -> None:
    odd = [b"not json", b"[1]", b"5", b'"text"', b'{"cut', b'{"bad": "\xff"}', b"1" * 5000, b'{"n": 1e999}']
    assembler = assembled(chunk({"content": "a"}), *odd, b"", b" \n", chunk({"content": "b"}))
    assert assembler.unparsed == odd
    assert assembler.completion()["choices"][0]["message"]["content"] == "ab"


def test_json_nested_beyond_reason_is_kept_as_it_came() -> None:
    deep = [b'{"choices":' + b"[" * depth + b"]" * depth + b"}" for depth in (300, 1000, 100_000)]
    assert assembled(*deep).unparsed == deep
    nested: Any = "core"
    for _ in range(190):
        nested = [nested]
    assert assembled(chunk({"content": "a", "deep": nested})).unparsed == []


def test_numbers_beyond_64_bits_stay_exact_also_where_the_chunk_before_was_alike() -> None:
    assembler = assembled(
        chunk({"content": "a"}),
        chunk({"content": "b", "n": 2**64 + 1}),
        chunk({"content": "c"}, seed=-(2**70)),
        b'{"choices":[{"index":0,"delta":{"content":"d"},"logprobs":null,"finish_reason":null}],"seed":18446744073709551617}',
    )
    completion = json.loads(assembler.completion_json())
    assert completion["choices"][0]["message"]["n"] == 2**64 + 1
    assert completion["seed"] == 2**64 + 1
    assert completion["choices"][0]["message"]["content"] == "abcd"


def test_half_a_surrogate_pair_is_kept_and_two_halves_make_the_character() -> None:
    lone = assembled(chunk({"content": "a\ud83d"}))
    assert b'"content":"a\\ud83d"' in lone.completion_json()
    whole = assembled(chunk({"content": "a\ud83d"}), chunk({"content": "\ude00b"}))
    assert json.loads(whole.completion_json())["choices"][0]["message"]["content"] == "a😀b"


def test_a_surrogate_in_raw_bytes_is_kept_too() -> None:
    payload = b'{"choices":[{"index":0,"delta":{"content":"a\xed\xa0\xbd"}}]}'
    assert b'"content":"a\\ud83d"' in assembled(payload).completion_json()


def test_nan_is_written_as_it_came_and_not_as_null() -> None:
    assert b'"score":NaN' in assembled(chunk({"score": float("nan")})).completion_json()


def test_nul_and_other_controls_survive() -> None:
    text = "\x00\x1f\u2028\x7f"
    assert json.loads(assembled(chunk({"content": text})).completion_json())["choices"][0]["message"]["content"] == text


def test_an_empty_error_is_none() -> None:
    assert assembled(chunk({}, error={})).error is None
    assert assembled(as_payload({"error": "out of memory"})).error == "out of memory"


def test_the_first_error_is_the_answers_error_and_a_second_one_is_kept() -> None:
    assembler = assembled(as_payload({"error": {"message": "first"}}), as_payload({"error": {"message": "second"}}))
    assert assembler.error == {"message": "first"}
    assert assembler.completion()["unmerged"] == {"error": [{"message": "second"}]}


@pytest.mark.timeout(20)
def test_a_long_answer_costs_no_more_than_its_length() -> None:
    piece = chunk({"content": "word "})
    assembler = assembled(*[piece] * 200_000)
    assert len(assembler.completion()["choices"][0]["message"]["content"]) == 1_000_000
