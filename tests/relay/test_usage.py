"""Refusals of `stream_options`: what is one, and how long it holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.relay.usage import MOST_MODELS, RETRY_S, UncountedModels, refuses_usage

PLAIN = b'{"messages":[{"role":"user","content":"Hi"}]}'
NAMING = b'{"messages":[{"role":"user","content":"Why is stream_options unknown?"}]}'


def error(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", **more}}).encode()


BY_PLACE = [
    error("Unknown parameter.", param="stream_options"),
    error("No.", param="stream_options.include_usage"),
    b'{"object":"error","message":"no","param":"stream_options"}',
    b'{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}',
]
BY_WORDS = [
    error("Unknown parameter: 'stream_options'."),
    error("Unrecognized request argument supplied: stream_options"),
    error("stream_options is not supported by this model"),
    error("stream_options: Extra inputs are not permitted"),
    error("This model doesn't support stream_options"),
    b'{"error":"unknown field `stream_options`"}',
    b'{"message":"Additional properties are not allowed (\'stream_options\' was unexpected)"}',
    b'{"detail":"Unsupported: stream_options"}',
    b"Invalid key: stream_options",
]
OTHERS = [
    error("The context is too long."),
    error('Too long: {"stream_options": {"include_usage": true}, "messages": []}'),  # an echo alone
    error("Unknown model.", param="model"),
    b'{"detail":[{"loc":["body","messages"],"msg":"field required"}]}',
    b'{"detail":[{"loc":"stream_options"}, 5], "param": 5}',
    b"<html>",
    b"",
    b"\xff",
]


@pytest.mark.parametrize("refusal", BY_PLACE + BY_WORDS)
def test_b1_a_refusal_that_is_about_the_member_is_one(refusal: bytes) -> None:
    assert refuses_usage(refusal, PLAIN)


@pytest.mark.parametrize("refusal", OTHERS)
def test_b1_any_other_refusal_is_none(refusal: bytes) -> None:
    assert not refuses_usage(refusal, PLAIN)


def test_b1_where_the_prompt_names_the_member_only_a_place_proves_it() -> None:
    assert all(refuses_usage(refusal, NAMING) for refusal in BY_PLACE)
    assert not any(refuses_usage(refusal, NAMING) for refusal in BY_WORDS)


def test_b1_it_holds_for_one_model_and_for_a_while() -> None:
    now = 0.0
    models = UncountedModels(lambda: now)
    models.add(("p", "a"))
    assert ("p", "a") in models
    assert ("p", "b") not in models
    assert ("q", "a") not in models
    now = RETRY_S
    assert ("p", "a") not in models


def test_b1_invented_models_cost_no_memory() -> None:
    models = UncountedModels()
    for number in range(3 * MOST_MODELS):
        models.add(("p", str(number)))
    assert len(models._until) == MOST_MODELS
    assert ("p", str(3 * MOST_MODELS - 1)) in models
