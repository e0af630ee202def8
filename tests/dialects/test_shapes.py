"""Usage, counted and guessed, and the error event."""

import json
from typing import Any

import pytest

from gateway.codec.sse import parse_event
from gateway.dialects.shapes import error_event, estimate_usage, usage_of
from gateway.model import Usage


@pytest.mark.parametrize(
    ("said", "prompt", "completion"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, 3, 4),
        ({"input_tokens": 3, "output_tokens": 4}, 3, 4),
        ({"prompt_tokens": 8, "total_tokens": 8}, 8, 0),
        ({"completion_tokens": 4, "total_tokens": 7}, 3, 4),
        ({"prompt_tokens": 3.0, "completion_tokens": 0}, 3, 0),
        ({"prompt_tokens": -1, "completion_tokens": 2}, 0, 2),
        ({"prompt_tokens": "3", "completion_tokens": 2, "total_tokens": 9}, 7, 2),
        ({"prompt_tokens": 2**64, "completion_tokens": True, "input_tokens": 1}, 1, 0),
        ({"prompt_tokens": None, "input_tokens": 5, "output_tokens": [], "total_tokens": 1}, 5, 0),
    ],
)
def test_usage_is_read_in_every_dialect_and_made_sane(said: dict[str, Any], prompt: int, completion: int) -> None:
    assert usage_of(said) == Usage(prompt, completion, is_estimate=False, raw=said)


@pytest.mark.parametrize("said", [None, {}, [], "7", 5, {"total_tokens": 5}, {"prompt_tokens": float("nan")}])
def test_what_counts_nothing_is_no_usage(said: Any) -> None:
    assert usage_of(said) is None


def test_an_estimate_counts_four_bytes_of_text_as_a_token_and_says_that_it_is_one() -> None:
    request = {
        "model": "not counted",
        "messages": [
            {"role": "system", "content": "12345678"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "üüüü"}, {"type": "image_url", "image_url": {"url": "x"}}],
            },
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "1234", "arguments": "{}{}"}}]},
        ],
    }
    message = {"content": "123", "reasoning_content": "45", "tool_calls": [{"function": {"arguments": "6789"}}]}
    assert estimate_usage(request, {"choices": [{"message": message}]}) == Usage(6, 3, is_estimate=True)


def test_an_estimate_knows_the_responses_dialect() -> None:
    request = {"instructions": "1234", "input": [{"role": "user", "content": [{"type": "input_text", "text": "5678"}]}]}
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "1234"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "5678"}]},
        {"type": "function_call", "arguments": "{}{}", "call_id": "not counted"},
    ]
    assert estimate_usage(request, {"output": output}) == Usage(2, 3, is_estimate=True)
    assert estimate_usage({"input": "12345"}, {}) == Usage(2, 0, is_estimate=True)


@pytest.mark.parametrize(
    "body", [{"messages": "x" * 8}, {"messages": [5, None, [[]], {"content": 5}]}, {"messages": {}}]
)
def test_an_estimate_never_fails(body: dict[str, Any]) -> None:
    assert estimate_usage(body, {"choices": [{"message": {"content": "\ud800"}}]}).completion_tokens == 1


def test_an_estimate_of_a_very_deep_body_does_not_run_out_of_stack() -> None:
    deep: Any = "1234"
    for _ in range(50_000):
        deep = [deep]
    assert estimate_usage({"messages": deep}, {}).prompt_tokens == 1


def test_an_error_event_is_one_event_that_clients_know() -> None:
    raw = error_event('the "upstream"\n\nwent away \u2028', type="upstream_error", code="upstream_cut", param="model")
    event = parse_event(raw)
    assert raw.endswith(b"}\n\n")
    assert raw.count(b"\n") == 2
    assert json.loads(event.data or b"") == {
        "error": {
            "message": 'the "upstream"\n\nwent away \u2028',
            "type": "upstream_error",
            "param": "model",
            "code": "upstream_cut",
        }
    }
    assert b"\\ud800" in error_event("\ud800", type="upstream_error", code=None)
