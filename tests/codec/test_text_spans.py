"""Texts of a body: each is found where it stands, and another in its place changes nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codec.text_spans import TextSpan, text_spans, with_texts
from gateway.model import ChatRequest
from tests.dialects.test_request_body import bodies, members_of

TEXTS = st.text(st.characters(exclude_categories=[]), max_size=12) | st.sampled_from(
    ['"', "\\", '"}]', "\ud83d", "\0", "😀"]
)


def texts_in(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], str]]:
    """Path and text of each string value of what `members_of` gave: an object is a list of pairs there."""
    if type(value) is str:
        return [(path, value)]
    if isinstance(value, list) and all(isinstance(each, tuple) for each in value):
        return [found for name, member in value for found in texts_in(member, (*path, name))]
    if isinstance(value, list):
        return [found for place, item in enumerate(value) for found in texts_in(item, (*path, place))]
    return []


@given(raw=bodies())
def test_a12_every_text_is_found_where_it_stands(raw: bytes) -> None:
    spans = list(text_spans(raw))
    assert [(span.path, span.text) for span in spans] == texts_in(members_of(raw))
    for span in spans:
        assert json.loads(raw[span.start : span.end].decode()) == span.text


@given(raw=bodies(), data=st.data())
def test_a12_other_texts_stand_where_they_should_and_no_other_byte_changes(raw: bytes, data: st.DataObject) -> None:
    spans = list(text_spans(raw))
    chosen = data.draw(st.sets(st.sampled_from(spans))) if spans else set()
    texts = {span: data.draw(TEXTS) for span in chosen}
    changed = with_texts(raw, texts)
    after = list(text_spans(changed))
    assert [span.path for span in after] == [span.path for span in spans]
    ends = [0, 0]
    for old, new in zip(spans, after, strict=True):
        assert new.text == texts.get(old, old.text)
        assert raw[ends[0] : old.start] == changed[ends[1] : new.start]
        ends = [old.end, new.end]
    assert raw[ends[0] :] == changed[ends[1] :]


CHAT = rb"""  { "model" : "m", "messages":[ {"role":"user","content":"one \u00e9\ud83d\ude00 \"x\" \\"},
 {"role":"assistant","content":null,"tool_calls":[{"id":"c","function":{"name":"f","arguments":"{\"to\":\"a\\nb\"}"}}]},
 {"role":"user","content":[{"type":"text","text":"lone \ud83d"},{"type":"image_url","image_url":{"url":"data:x"}}]} ],
 "temperature":1.10,"model":"second" , "empty":{}, "none":[], "stream":true} """
RESPONSE = rb'{"input":"Hi","instructions":"Be","tools":[{"type":"function","parameters":{"p":{"enum":["a",1,"b"]}}}]}'


def test_a12_texts_of_a_chat_and_of_a_response() -> None:
    assert [(span.path, span.text) for span in text_spans(CHAT)] == [
        (("model",), "m"),
        (("messages", 0, "role"), "user"),
        (("messages", 0, "content"), 'one é😀 "x" \\'),
        (("messages", 1, "role"), "assistant"),
        (("messages", 1, "tool_calls", 0, "id"), "c"),
        (("messages", 1, "tool_calls", 0, "function", "name"), "f"),
        (("messages", 1, "tool_calls", 0, "function", "arguments"), '{"to":"a\\nb"}'),
        (("messages", 2, "role"), "user"),
        (("messages", 2, "content", 0, "type"), "text"),
        (("messages", 2, "content", 0, "text"), "lone \ud83d"),
        (("messages", 2, "content", 1, "type"), "image_url"),
        (("messages", 2, "content", 1, "image_url", "url"), "data:x"),
        (("model",), "second"),
    ]
    assert [(span.path, span.text) for span in text_spans(RESPONSE)] == [
        (("input",), "Hi"),
        (("instructions",), "Be"),
        (("tools", 0, "type"), "function"),
        (("tools", 0, "parameters", "p", "enum", 0), "a"),
        (("tools", 0, "parameters", "p", "enum", 2), "b"),
    ]


def request(raw: bytes) -> ChatRequest:
    """Also of a body that the door would refuse, for the seam must hold by itself."""
    body = json.loads(raw)
    return ChatRequest(raw, body, body.get("model", ""), is_stream=False, wants_usage=False)


def test_a12_json_in_a_string_is_masked_as_the_text_that_it_is() -> None:
    asked = request(CHAT)
    (arguments,) = (span for span in text_spans(asked.raw) if span.path[-1] == "arguments")
    masked = asked.with_texts({arguments: json.dumps({"to": "***\ud800"})})
    function = masked.body["messages"][1]["tool_calls"][0]["function"]
    assert json.loads(function["arguments"]) == {"to": "***\ud800"}
    assert json.loads(masked.raw) == masked.body
    assert masked.model == "second"


@pytest.mark.parametrize(
    ("raw", "changed"),
    [
        (CHAT, CHAT.replace(b'"m"', b'"in"').replace(b'"second"', b'"in"')),
        (b'{"messages":[]}', b'{"messages":[],"model":"in"}'),
        (b"{ }", b'{"model":"in"}'),
        (rb'{"mod\u0065l":"m","metadata":{"model":"m"}}', rb'{"mod\u0065l":"in","metadata":{"model":"m"}}'),
    ],
)
def test_a12_another_model_stands_wherever_one_was_named(raw: bytes, changed: bytes) -> None:
    asked = request(raw).with_model("in")
    assert (asked.raw, asked.model, asked.body["model"]) == (changed, "in", "in")


def test_a12_a_text_that_names_the_model_changes_the_model() -> None:
    asked = request(b'{"model":"my-secret","messages":[]}')
    (name,) = text_spans(asked.raw)
    assert asked.with_texts({name: "x"}).model == "x"
    assert asked.with_texts({}) is asked


@given(raw=bodies(), start=st.integers(0, 60), length=st.integers(-2, 60))
def test_a12_only_texts_can_be_changed(raw: bytes, start: int, length: int) -> None:
    span = TextSpan((), start, start + length, "")
    if (span.start, span.end) in {(each.start, each.end) for each in text_spans(raw)}:
        assert with_texts(raw, {span: "x"}) != raw or raw[start : start + length] == b'"x"'
    else:
        with pytest.raises(ValueError, match="no text"):
            with_texts(raw, {span: "x"})
