"""Upstreams that say anything anywhere: nothing raises, and no word is lost."""

import json
import random
import re
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.codec import jsontext
from gateway.dialects.openai_chat.assembler import ChatAssembler
from gateway.dialects.openai_responses.assembler import ResponsesAssembler
from tests.dialects.streams import CHATS, as_payload, payloads_of, recorded

ODD: list[Any] = [None, True, False, 0, -1, 1.5, 1.0, 2**64, -(2**70), float("nan"), float("inf"), 1e300, "", "x", "0"]
ODD += ["\ud800", "\x00", [], {}, [[]], [None], {"": None}]
FIELDS = [
    "id", "object", "created", "model", "choices", "usage", "error", "system_fingerprint", "index", "delta", "message",
    "finish_reason", "logprobs", "role", "name", "content", "refusal", "reasoning_content", "tool_calls", "function",
    "function_call", "arguments", "type", "custom", "audio", "annotations", "x_groq", "unmerged", "reasoning_details",
]  # fmt: skip
EVENT_FIELDS = [
    "type", "response", "item", "part", "delta", "text", "output_index", "content_index", "summary_index", "item_id",
    "annotation", "logprobs", "output", "content", "summary", "arguments", "error", "usage", "status", "model",
]  # fmt: skip
TYPES = sorted({payload["type"] for payload in map(json.loads, payloads_of([recorded("responses")])[0])})


def anything(chooser: random.Random, names: list[str], depth: int = 3) -> Any:
    kind = chooser.randrange(5)
    if depth == 0 or kind < 3:
        return chooser.choice(ODD)
    members = [anything(chooser, names, depth - 1) for _ in range(chooser.randrange(4))]
    return members if kind == 3 else {chooser.choice(names): member for member in members}


def misshapen(shape: Any, chooser: random.Random, names: list[str]) -> Any:
    """The right shape with any part of it left out or replaced by anything."""
    if chooser.random() < 0.08:
        return anything(chooser, names)
    if isinstance(shape, dict):
        kept = {name: misshapen(value, chooser, names) for name, value in shape.items() if chooser.random() < 0.8}
        extra = {chooser.choice(names): anything(chooser, names)} if chooser.random() < 0.3 else {}
        return extra | kept
    return [misshapen(value, chooser, names) for value in shape] if isinstance(shape, list) else shape


def chunks_of(seed: int, most: int = 6) -> list[Any]:
    chooser = random.Random(seed)
    return [misshapen(CHUNK, chooser, FIELDS) for _ in range(1 + chooser.randrange(most))]


CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
DELTA = {
    "role": "assistant",
    "content": "a",
    "refusal": "b",
    "tool_calls": [CALL, {"id": "d", "function": {"arguments": "x"}}, CALL | {"index": 1}],
    "function_call": {"name": "f", "arguments": "y"},
    "audio": {"id": "a", "data": "d", "transcript": "t", "expires_at": 1},
    "annotations": [{}],
    "reasoning_content": "r",
}
LOGPROBS = {"content": [{"token": "a"}], "refusal": None}
CHUNK = {
    "id": "x",
    "object": "chat.completion.chunk",
    "created": 5,
    "model": "m",
    "choices": [
        {"index": 0, "delta": DELTA, "logprobs": LOGPROBS, "finish_reason": None},
        {"index": 1, "delta": DELTA, "finish_reason": "stop"},
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    "x_groq": {"usage": {}},
}
NAMES = {"id", "type", "name", "role", "finish_reason", "index", "message"}
SEEDS = st.integers(0, 2**64)
EVENT = {
    "type": "response.output_text.delta",
    "output_index": 0,
    "content_index": 0,
    "summary_index": 0,
    "item_id": "i",
    "delta": "t",
    "text": "t",
    "arguments": "a",
    "logprobs": [{}],
    "item": {"id": "i", "type": "message", "content": [{"type": "output_text", "text": "x"}]},
    "part": {"type": "output_text", "text": "", "annotations": []},
    "annotation": {},
    "response": {"status": "completed", "output": [{"type": "message", "content": []}], "usage": {}},
}


def marked(value: Any, marks: "count[int]") -> Any:
    """The same shape, with every string told apart; but for names, of which the last other one stays."""
    if isinstance(value, dict):
        return {name: member if name in NAMES else marked(member, marks) for name, member in value.items()}
    if isinstance(value, list):
        return [marked(member, marks) for member in value]
    return f"<mark {next(marks)}>" if isinstance(value, str) and value else value


def marks_in(value: Any) -> set[str]:
    return set(re.findall(r"<mark \d+>", json.dumps(value)))


@settings(max_examples=250, deadline=None)
@given(SEEDS)
def test_chunks_of_any_shape_never_raise_and_make_json(seed: int) -> None:
    assembler = ChatAssembler()
    assembler.feed(map(as_payload, chunks_of(seed)))
    completion = json.loads(assembler.completion_json())
    assert completion["object"] == "chat.completion"
    properties = (assembler.finished, assembler.has_text, assembler.has_content, assembler.model, assembler.usage)
    assert len(properties) == 5
    assert assembler.error is None or assembler.error
    assert assembler.completion_json() == assembler.completion_json()


@settings(max_examples=250, deadline=None)
@given(SEEDS)
def test_no_word_of_a_misshapen_chunk_is_lost(seed: int) -> None:
    chunk = marked(chunks_of(seed, most=1)[0], count())
    assembler = ChatAssembler()
    assembler.feed(payloads_of([recorded("openai_tools")])[0])
    assembler.feed([as_payload(chunk)])
    assert marks_in(chunk) <= marks_in([assembler.completion(), *map(json.loads, assembler.unparsed)])


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.integers(0, 6))
def test_the_answer_does_not_depend_on_how_many_payloads_come_at_once(seed: int, place: int) -> None:
    payloads = list(map(as_payload, chunks_of(seed)))
    at_once, in_two, one_by_one = ChatAssembler(), ChatAssembler(), ChatAssembler()
    at_once.feed(payloads)
    in_two.feed(payloads[:place])
    in_two.feed(payloads[place:])
    for payload in payloads:
        one_by_one.feed([payload])
        one_by_one.completion_json()
    assert at_once.completion_json() == in_two.completion_json() == one_by_one.completion_json()


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.integers(0, 6))
def test_the_answer_does_not_depend_on_who_parses(seed: int, place: int) -> None:
    payloads = list(map(as_payload, chunks_of(seed)))
    fed, told = ChatAssembler(), ChatAssembler()
    fed.feed(payloads)
    for number, payload in enumerate(payloads):
        if number == place:
            told.feed([payload])
        else:
            take_parsed(told, payload)
    assert repr(json.loads(fed.completion_json())) == repr(json.loads(told.completion_json()))
    assert fed.unparsed == told.unparsed


@pytest.mark.parametrize("name", [*CHATS, "responses"])
def test_a_vendors_answer_does_not_depend_on_who_parses(name: str) -> None:
    payloads = payloads_of([recorded(name)])[0]
    make = ResponsesAssembler if name == "responses" else ChatAssembler
    fed, told = make(), make()
    fed.feed(payloads)
    for payload in payloads:
        take_parsed(told, payload)
    assert fed.completion_json() == told.completion_json()
    assert fed.is_done == told.is_done
    assert fed.finished == told.finished


def take_parsed(assembler: ChatAssembler | ResponsesAssembler, payload: bytes) -> None:
    """As the relay does, which has parsed most events to judge them."""
    try:
        body, is_plain = jsontext.parse(payload)
    except ValueError:
        assembler.feed([payload])
        return
    if isinstance(body, dict):
        assembler.add(body, is_plain)
    else:
        assembler.feed([payload])


@settings(max_examples=250, deadline=None)
@given(SEEDS)
def test_events_of_any_shape_never_raise_and_make_json(seed: int) -> None:
    chooser = random.Random(seed)
    assembler = ResponsesAssembler()
    for _ in range(1 + chooser.randrange(8)):
        event = misshapen({**EVENT, "type": chooser.choice(TYPES)}, chooser, EVENT_FIELDS)
        assembler.feed([as_payload(event)])
        json.loads(assembler.completion_json())
    assert (assembler.status is None) or isinstance(assembler.status, str)
    assert (assembler.model, assembler.usage, assembler.error) == (assembler.model, assembler.usage, assembler.error)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=4))
def test_bytes_that_are_no_json_never_raise(payloads: list[bytes]) -> None:
    for assembler in (ChatAssembler(), ResponsesAssembler()):
        assembler.feed(payloads)
        json.loads(assembler.completion_json())


@pytest.mark.parametrize(
    "choices",
    ["text", {"0": {}}, 5, [None], ["x"], [[]], [{"delta": []}], [{"delta": "x"}], [{"delta": None}], [{"index": {}}]],
)
def test_misshapen_choices_are_kept(choices: Any) -> None:
    assembler = ChatAssembler()
    assembler.feed([as_payload({"choices": choices})] * 2)
    assert "unmerged" in assembler.completion() or choices == [{"delta": None}]
