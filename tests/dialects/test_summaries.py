"""Titles and metadata: what models answer in practice becomes what was asked for, or a fault that can be told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.summaries import (
    TITLE_LENGTH,
    NotMetadataError,
    metadata_of,
    metadata_request,
    request_json,
    retry_request,
    title_of,
    title_request,
    turns,
)

GOOD: dict[str, Any] = {
    "chat_summary": "A horror story was written.",
    "description": "The user wanted a story.",
    "llm_deliverables": ["a story"],
    "satisfaction_score": 0.75,
    "work_related": False,
    "user_seconds_saved": 120,
    "assistant_seconds_saved": 60.5,
    "assistant_wage": 25,
    "languages": ["English"],
}


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("Horror story", "Horror story"),
        ('"Horror story."', "Horror story"),
        ("**Title:** Horror story\n\nHope this helps!", "Horror story"),
        ("# Horror\tstory", "Horror story"),
        ("\u201eGruselgeschichte\u201c", "Gruselgeschichte"),
        ("<think>\nThe user wants\n</think>\n\nHorror story", "Horror story"),
        ("<think>never ends", ""),
        ("How to learn C#", "How to learn C#"),
        (".NET or Java?", ".NET or Java?"),
        ("word " * 40, "word word word word word word word word word word"),
        ("x" * 100, "x" * 49),
        ("\x00\u202e \n \u200b\nReal", "Real"),
        ("\ud83d alone", "alone"),
        ("", ""),
        ("***", ""),
    ],
)
def test_a_title_is_one_clean_line(answer: str, title: str) -> None:
    assert title_of(answer) == title


@given(st.text())
def test_a_title_is_never_too_long_and_can_always_be_stored(answer: str) -> None:
    title = title_of(answer)
    assert len(title) <= TITLE_LENGTH
    assert title == title.strip()
    assert "\x00" not in title
    title.encode()


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps(GOOD),
        f"```json\n{json.dumps(GOOD, indent=2)}\n```",
        f"Here it is: {json.dumps(GOOD)} I hope that helps.",
        f"<think>{{}} hm</think>{json.dumps(GOOD)}",
        json.dumps({**GOOD, "mood": "dark"}),
    ],
)
def test_metadata_are_found_in_what_stands_around_them(answer: str) -> None:
    assert metadata_of(answer) == GOOD


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"satisfaction_score": 7}, "`satisfaction_score` must be a number from 0 to 1"),
        ({"satisfaction_score": True}, "`satisfaction_score` must be a number from 0 to 1"),
        ({"work_related": "yes"}, "`work_related` must be true or false"),
        ({"languages": "English"}, "`languages` must be an array of strings"),
        ({"llm_deliverables": [1]}, "`llm_deliverables` must be an array of strings"),
        ({"assistant_wage": -1}, "`assistant_wage` must be a number, 0 or more"),
        ({"user_seconds_saved": 1e300}, "`user_seconds_saved` must be a number, 0 or more"),
        ({"chat_summary": None}, "`chat_summary` must be a string"),
    ],
)
def test_each_member_is_checked(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(NotMetadataError, match=fault):
        metadata_of(json.dumps({**GOOD, **change}))


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(NotMetadataError) as caught:
        metadata_of("{}")
    assert str(caught.value).count("must be") == 9


@pytest.mark.parametrize("answer", ["", "I cannot do that.", "{broken", '{"a": }', "[1, 2]", "}{"])
def test_what_is_no_object_is_said_to_be_none(answer: str) -> None:
    with pytest.raises(NotMetadataError):
        metadata_of(answer)


def test_turns_are_read_from_chats_and_responses_alike() -> None:
    chat = {"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": [{"text": "hi"}]}]}
    said = {"choices": [{"message": {"role": "assistant", "content": "ho"}}]}
    assert turns(chat, said) == [("user", "hi"), ("assistant", "ho")]
    response = {"output": [{"content": [{"type": "output_text", "text": "ho"}]}, {"type": "reasoning"}]}
    assert turns({"input": "hi"}, response) == [("user", "hi"), ("assistant", "ho")]
    assert turns({"input": [{"role": "user", "content": "hi"}]}, None) == [("user", "hi")]


@pytest.mark.parametrize("request_", [None, [], 1, {"messages": 7}, {"messages": [7, {"role": 3, "content": {}}]}])
@pytest.mark.parametrize("response", [None, [], {"choices": [3]}, {"choices": [{"message": 1}]}, {"output": 3}])
def test_rows_of_any_form_say_nothing_rather_than_fail(request_: object, response: object) -> None:
    assert turns(request_, response) == []


def test_a_title_is_asked_for_from_the_users_words_alone() -> None:
    asked = title_request("m", [("user", "question"), ("assistant", "answer")])
    assert asked["model"] == "m"
    assert asked["messages"][-1] == {"role": "user", "content": "question"}


def test_a_long_conversation_is_shown_with_its_beginning_and_its_end() -> None:
    said = [("user", f"number {number} " + "x" * 3000) for number in range(100)]
    text = metadata_request("m", said)["messages"][-1]["content"]
    assert len(text) <= 24_000
    assert "number 0 " in text
    assert "number 99 " in text
    request_json(metadata_request("m", [("user", "\ud83d")]))


def test_a_second_try_says_what_was_wrong() -> None:
    first = metadata_request("m", [("user", "hi")])
    again = retry_request(first, "nonsense", "there is no JSON object in it")
    assert again["messages"][:2] == first["messages"]
    assert again["messages"][2] == {"role": "assistant", "content": "nonsense"}
    assert "there is no JSON object in it" in again["messages"][3]["content"]
