"""The same streams through the official package's own accumulation.

Where the two differ on purpose, a test shows that the package is wrong: it joins a repeated role, raises on a choice 1
before a choice 0, forgets a usage that a later chunk does not repeat, fails on a choice without a delta, and gives up
on tool calls without an index.
"""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.dialects.openai_chat.assembler import ChatAssembler
from tests.dialects.streams import CHATS, chunk, payloads_of, recorded

TEXT = st.text(max_size=5)
LOGPROB = st.builds(lambda token: {"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []}, TEXT)
SAID = st.fixed_dictionaries({}, optional={"content": TEXT, "refusal": TEXT, "reasoning_content": TEXT})


def ours(payloads: list[bytes]) -> dict[str, Any]:
    assembler = ChatAssembler()
    assembler.feed(payloads)
    return assembler.completion()


def theirs(payloads: list[bytes]) -> dict[str, Any]:
    state: Any = ChatCompletionStreamState()
    for payload in payloads:
        if payload != b"[DONE]":
            state.handle_chunk(ChatCompletionChunk.model_construct(**json.loads(payload)))
    completion: dict[str, Any] = state.current_completion_snapshot.to_dict()
    return completion


def compared(completion: dict[str, Any]) -> dict[str, Any]:
    """What both must agree on: without the package's own parsing, without nulls, and calls without their index."""
    said = json.loads(json.dumps(completion))
    for choice in said["choices"]:
        choice["message"].pop("parsed", None)
        for call in choice["message"].get("tool_calls") or []:
            call.pop("index", None)
            call["function"].pop("parsed_arguments", None)
    whole: dict[str, Any] = without_nulls(said)
    return whole


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    return [without_nulls(member) for member in value] if isinstance(value, list) else value


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Well-formed streams of the shape that OpenAI sends, in the order in which the package can take them."""
    count = draw(st.integers(1, 3))
    payloads = [chunk({"role": "assistant", "content": None, "refusal": None}, index=index) for index in range(count)]
    begun: dict[int, int] = {}
    for _ in range(draw(st.integers(0, 10))):
        index = draw(st.integers(0, count - 1))
        delta: dict[str, Any] = draw(SAID)
        if draw(st.booleans()):
            number = draw(st.integers(0, begun.get(index, 0)))
            delta["tool_calls"] = [piece_of_call(draw(TEXT), number, is_new=number == begun.get(index, 0))]
            begun[index] = max(begun.get(index, 0), number + 1)
        logprobs = {"content": draw(st.lists(LOGPROB, max_size=2)), "refusal": None}
        payloads.append(chunk(delta, index=index) if draw(st.booleans()) else chunk_of(delta, index, logprobs))
    ends = [chunk({}, draw(st.sampled_from(["stop", "length", "tool_calls"])), index) for index in range(count)]
    return [*payloads, *ends]


def piece_of_call(arguments: str, number: int, *, is_new: bool) -> dict[str, Any]:
    name = {"name": f"tool_{number}"} if is_new else {}
    head = {"id": f"call_{number}", "type": "function"} if is_new else {}
    return {"index": number, **head, "function": {**name, "arguments": arguments}}


def chunk_of(delta: dict[str, Any], index: int, logprobs: dict[str, Any]) -> bytes:
    value = json.loads(chunk(delta, index=index))
    value["choices"][0]["logprobs"] = logprobs
    return json.dumps(value).encode()


@settings(max_examples=100, deadline=None)
@given(streams())
def test_well_formed_streams_become_what_the_official_package_makes_of_them(payloads: list[bytes]) -> None:
    assert compared(ours(payloads)) == compared(theirs(payloads))


@pytest.mark.parametrize("name", ["openai", "openai_tools", "openai_audio", "deepseek", "groq"])
def test_recorded_streams_become_what_the_official_package_makes_of_them(name: str) -> None:
    payloads = payloads_of([recorded(name)])[0]
    mine, other = compared(ours(payloads)), compared(theirs(payloads))
    mine.pop("x_groq", None)  # the package keeps a first chunk's and drops the last one's, which has the usage
    other.pop("x_groq", None)
    assert mine == other


@pytest.mark.parametrize("name", sorted({*CHATS} - {"mistral", "vllm_error", "openrouter_error"}))
def test_an_answer_is_valid_by_the_packages_own_model(name: str) -> None:
    """Not so with a content in parts, without an end, and with a `finish_reason` of the vendor's own."""
    completion = ours(payloads_of([recorded(name)])[0])
    assert ChatCompletion.model_validate(completion, strict=True).object == "chat.completion"


def test_the_package_joins_a_repeated_role_and_we_do_not() -> None:
    payloads = [chunk({"role": "assistant", "content": "a"})] * 2
    assert theirs(payloads)["choices"][0]["message"]["role"] == "assistantassistant"
    assert ours(payloads)["choices"][0]["message"]["role"] == "assistant"


def test_the_package_fails_on_choice_1_before_choice_0_and_we_do_not() -> None:
    payloads = [chunk({"role": "assistant", "content": str(index)}, "stop", index) for index in (1, 0)]
    with pytest.raises(IndexError):
        theirs(payloads)
    assert [choice["message"]["content"] for choice in ours(payloads)["choices"]] == ["0", "1"]


def test_the_package_forgets_a_usage_that_is_not_repeated_and_we_do_not() -> None:
    payloads = [chunk({"content": "a"}, usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})]
    payloads.append(chunk({}, "stop"))
    assert theirs(payloads)["usage"] is None
    assert ours(payloads)["usage"]["total_tokens"] == 2


def test_the_package_fails_on_azures_chunk_without_a_delta_and_we_do_not() -> None:
    payloads = payloads_of([recorded("azure")])[0]
    with pytest.raises(AttributeError):
        theirs(payloads)
    assert ours(payloads)["choices"][0]["content_filter_offsets"]


def test_the_package_gives_up_on_tool_calls_without_an_index_and_we_do_not() -> None:
    payloads = payloads_of([recorded("gemini")])[0]
    with pytest.raises((RuntimeError, TypeError, AttributeError)):
        theirs(payloads)
    assert len(ours(payloads)["choices"][0]["message"]["tool_calls"]) == 2
