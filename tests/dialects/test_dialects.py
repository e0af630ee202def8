"""Streams as the vendors document them, each to the answer that the same vendor gives without streaming."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.openai_chat.assembler import ChatAssembler
from tests.dialects.streams import CHATS, cut, payloads_of, recorded


def assembled(name: str) -> ChatAssembler:
    assembler = ChatAssembler()
    assembler.feed(payloads_of([recorded(name)])[0])
    return assembler


def call(call_id: str, name: str, arguments: str, **more: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def signed(call_id: str) -> dict[str, Any]:
    return {"extra_content": {"google": {"thought_signature": f"Cs4{call_id}"}}}


ROME, OSLO = "function-call-11", "function-call-22"

MESSAGES: dict[str, list[dict[str, Any]]] = {
    "openai": [{"content": "Hello! Grüße 👋."}],
    "openai_tools": [
        {
            "content": None,
            "tool_calls": [
                call("call_DdmO9pD3", "get_weather", '{"city": "Paris"}'),
                call("call_9TQ2zXn4", "get_time", '{"zone": "CET"}'),
            ],
        }
    ],
    "openai_choices": [{"content": "Tails"}, {"content": "Heads."}],
    "openai_audio": [
        {
            "content": None,
            "audio": {"id": "audio_67", "transcript": "Good day", "data": "UklGRgABCD", "expires_at": 1734003600},
        }
    ],
    "azure": [{"content": "Certainly, here it is."}],
    "openrouter": [
        {
            "content": "Hi there",
            "reasoning": "The user greets me.",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "The user", "format": "anthropic-claude-v1", "index": 0},
                {"type": "reasoning.text", "text": " greets me.", "format": "anthropic-claude-v1", "index": 0},
                {"type": "reasoning.text", "signature": "EqQB", "format": "anthropic-claude-v1", "index": 0},
            ],
        }
    ],
    "openrouter_error": [{"content": "Half an ans"}],
    "vllm": [
        {
            "content": "",
            "reasoning_content": "Need weather.",
            "tool_calls": [call("chatcmpl-tool-a1", "get_weather", '{"city": "Kraków"}')],
        }
    ],
    "vllm_error": [{"content": "Once"}],
    "deepseek": [{"content": "9.8 is greater.", "reasoning_content": "9.11 against 9.8"}],
    "mistral": [
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Two and"}]},
                {"type": "thinking", "thinking": [{"type": "text", "text": " two."}]},
                {"type": "text", "text": "It is 4."},
            ]
        }
    ],
    "gemini": [
        {
            "content": None,
            "tool_calls": [
                call(ROME, "get_weather", '{"city":"Rome"}', **signed(ROME)),
                call(OSLO, "get_weather", '{"city":"Oslo"}', **signed(OSLO)),
            ],
        }
    ],
    "gemini_index_zero": [
        {
            "content": None,
            "tool_calls": [
                call(ROME, "get_weather", '{"city":"Rome"}', **signed(ROME)),
                call(OSLO, "get_time", '{"zone":"CET"}', **signed(OSLO)),
            ],
        }
    ],
    "groq": [{"content": "Fast words"}],
}

FINISH_REASONS = {
    "openai_tools": ["tool_calls"],
    "openai_choices": ["stop", "length"],
    "openrouter_error": ["error"],
    "vllm": ["tool_calls"],
    "vllm_error": [None],
    "gemini": ["tool_calls"],
    "gemini_index_zero": ["tool_calls"],
}

TOKENS = {
    "openai": (19, 6),
    "openrouter": (12, 9),
    "vllm": (31, 14),
    "deepseek": (15, 20),
    "mistral": (9, 15),
    "gemini": (51, 24),
    "groq": (18, 3),
}


def test_every_recorded_stream_has_its_expected_answer() -> None:
    assert set(MESSAGES) == set(CHATS)


@pytest.mark.parametrize("name", CHATS)
def test_a_vendors_stream_becomes_the_answer_it_would_have_been(name: str) -> None:
    assembler = assembled(name)
    completion = assembler.completion()
    nothing = {"role": "assistant", "content": None, "refusal": None}
    assert completion["object"] == "chat.completion"
    assert [choice["message"] for choice in completion["choices"]] == [nothing | said for said in MESSAGES[name]]
    assert [choice["finish_reason"] for choice in completion["choices"]] == FINISH_REASONS.get(name, ["stop"])
    usage = assembler.usage
    assert (usage and (usage.prompt_tokens, usage.completion_tokens)) == TOKENS.get(name)
    assert assembler.is_done is (name != "openrouter_error")
    assert assembler.finished is (name != "vllm_error")
    assert assembler.unparsed == []
    assert "unmerged" not in completion or name == "vllm"


def test_openai_answers_carry_the_envelope_and_no_padding() -> None:
    completion = assembled("openai").completion()
    usage = completion.pop("usage")
    del completion["choices"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0
    assert completion == {
        "id": "chatcmpl-Bx1",
        "object": "chat.completion",
        "created": 1741569952,
        "model": "gpt-4o-2024-08-06",
        "service_tier": "default",
        "system_fingerprint": "fp_07871e2ad8",
    }


def test_logprobs_of_each_choice_are_lined_up() -> None:
    first, second = assembled("openai_choices").completion()["choices"]
    assert [entry["token"] for entry in first["logprobs"]["content"]] == ["Ta", "ils"]
    assert [entry["logprob"] for entry in second["logprobs"]["content"]] == [-0.31, -2.5]
    assert first["logprobs"]["refusal"] is None


def test_azures_empty_first_chunk_names_nothing_and_its_filter_results_are_kept() -> None:
    completion = assembled("azure").completion()
    assert (completion["id"], completion["created"]) == ("chatcmpl-AzB2", 1724000001)
    assert completion["model"] == "gpt-4o-2024-05-13"
    assert completion["prompt_filter_results"][0]["content_filter_results"]["hate"]["severity"] == "safe"
    choice = completion["choices"][0]
    assert sorted(choice["content_filter_results"]) == ["hate", "self_harm", "violence"]
    assert choice["content_filter_offsets"]["end_offset"] == 63


def test_groqs_request_id_and_timings_are_kept() -> None:
    groq = assembled("groq").completion()["x_groq"]
    assert groq["id"] == "req_01jbd6g2qdfw2adyrt2az8hz4w"
    assert groq["usage"]["queue_time"] == 0.037493756


def test_openrouters_own_fields_are_kept() -> None:
    completion = assembled("openrouter").completion()
    assert completion["provider"] == "Anthropic"
    assert completion["choices"][0]["native_finish_reason"] == "end_turn"
    assert completion["usage"]["cost"] == 0.000171


def test_errors_in_mid_stream_are_told_with_the_answer_so_far() -> None:
    assembler = assembled("openrouter_error")
    assert assembler.error["code"] == 502
    assert assembler.completion()["error"] == assembler.error
    bare = assembled("vllm_error")
    assert bare.error["message"] == "EngineCore died"
    assert bare.model == "Qwen/Qwen3-8B"
    assert assembled("openai").error is None


def test_ids_that_vllm_makes_up_for_each_piece_do_not_split_a_call_and_the_last_one_is_kept() -> None:
    assert assembled("vllm").completion()["unmerged"] == {"choices.0.message.tool_calls.0.id": ["chatcmpl-tool-c3"]}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CHATS), st.lists(st.integers(0, 4000), max_size=12), st.sampled_from([b"\n", b"\r", b"\r\n"]))
def test_any_chunking_gives_the_same_completion(name: str, places: list[int], line_end: bytes) -> None:
    stream = recorded(name).replace(b"\r\n", b"\n").replace(b"\n", line_end)
    assembler = ChatAssembler()
    for payloads in payloads_of(cut(stream, places)):
        assembler.feed(payloads)
    assert assembler.completion_json() == assembled(name).completion_json()


@pytest.mark.parametrize("name", CHATS)
def test_every_single_cut_gives_the_same_payloads(name: str) -> None:
    stream = recorded(name)
    expected = payloads_of([stream])[0]
    for place in range(len(stream)):
        first, second = payloads_of([stream[:place], stream[place:]])
        assert first + second == expected


@pytest.mark.parametrize("name", CHATS)
def test_looking_at_the_answer_so_far_does_not_change_it(name: str) -> None:
    watched = ChatAssembler()
    for payload in payloads_of([recorded(name)])[0]:
        watched.feed([payload])
        assert watched.completion_json() == watched.completion_json()
    assert watched.completion_json() == assembled(name).completion_json()
