"""The payload of a submission, for each kind of interaction and each outcome."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.journal.meta import decode_answer, decode_interaction, encode_answer, encode_interaction
from gateway.model import Answer, Interaction, Kind, Outcome, PolicyOutcome, Principal, Record, Ruling
from gateway.submissions.payload import payload_of
from tests.journal.samples import answer, interaction

FIELDS = {
    "raw_request",
    "raw_response",
    "associated_users",
    "time_submitted",
    "time_logged",
    "response_timestamp",
    "llm_model",
    "llm_provider",
    "associated_devices",
    "associated_software",
    "api_token_id",
}


def told(asked: Interaction, said: Answer) -> dict[str, Any]:
    told = json.loads(payload_of(Record(asked, said)))
    assert told.keys() == FIELDS | {"interaction_id", "outcome", "policy", "error"}
    for name in ("time_submitted", "time_logged", "response_timestamp"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", told[name])
    assert isinstance(told, dict)
    return told


def test_a_chat_has_every_field_of_the_contract() -> None:
    asked = interaction(b'{"model":"m","messages":[]}', started_at=1_700_000_000.9)
    said = answer(b'{"choices":[]}', finished_at=1_700_000_003.2)
    assert told(asked, said) == {
        "interaction_id": str(asked.id),
        "raw_request": {"model": "m", "messages": []},
        "raw_response": {"choices": []},
        "associated_users": ["ann"],
        "time_submitted": "2023-11-14T22:13:20",
        "time_logged": "2023-11-14T22:13:23",
        "response_timestamp": "2023-11-14T22:13:23",
        "llm_model": "m-2026",
        "llm_provider": "openai",
        "associated_devices": [],
        "associated_software": [],
        "api_token_id": "k1",
        "outcome": "complete",
        "policy": None,
        "error": None,
    }


def test_an_image_is_submitted() -> None:
    asked = interaction(b'{"prompt":"a cat","n":1}', kind=Kind.IMAGE, model=None)
    image = told(asked, answer(b'{"data":[{"b64_json":"AAAA"}]}', model=None))
    assert image["raw_response"] == {"data": [{"b64_json": "AAAA"}]}
    assert image["llm_model"] is None


def test_a_rejected_request_has_its_reason() -> None:
    rejected = told(
        interaction(policy=Ruling(PolicyOutcome.REJECTED, ("hide numbers", "caf\udce9"))),
        answer(b"", outcome=Outcome.POLICY_BLOCKED, status=None, body_type=None, model=None, error="no secrets"),
    )
    assert (rejected["outcome"], rejected["error"], rejected["raw_response"]) == ("policy_blocked", "no secrets", None)
    assert rejected["raw_request"]["messages"][0]["content"] == "hi"
    assert rejected["policy"] == {"outcome": "rejected", "rules": ["hide numbers", "caf\\udce9"]}
    assert rejected["llm_model"] == "m"  # the one that was asked for


def test_an_interrupted_answer_is_submitted_as_far_as_it_got() -> None:
    said = b'{"choices":[{"message":{"role":"assistant","content":"half of"}}]}'
    half = told(interaction(is_stream=True), answer(said, outcome=Outcome.INTERRUPTED, error="the gateway went away"))
    assert half["outcome"] == "interrupted"
    assert half["raw_response"]["choices"][0]["message"]["content"] == "half of"


def test_text_stays_text_and_bytes_become_base64() -> None:
    html = told(interaction(b"plain \xe2\x82\xac"), answer(b"<html>Bad gateway</html>"))
    assert (html["raw_request"], html["raw_response"]) == ("plain €", "<html>Bad gateway</html>")
    noise = told(interaction(b"\xff\xfe\x00"), answer(b"\x89PNG"))
    assert base64.b64decode(noise["raw_request"]["data"]) == b"\xff\xfe\x00"
    assert noise["raw_request"]["encoding"] == noise["raw_response"]["encoding"] == "base64"


def test_a_body_that_was_not_kept_has_size_and_digest() -> None:
    upload = told(
        interaction(b"", kind=Kind.OTHER),
        answer(b"", request_size=9, request_sha256="ab", response_size=10, response_sha256="cd"),
    )
    assert upload["raw_request"] == {"encoding": "not_kept", "size": 9, "sha256": "ab"}
    assert upload["raw_response"] == {"encoding": "not_kept", "size": 10, "sha256": "cd"}


def test_json_is_sent_byte_for_byte() -> None:
    letters = b'{"n": 123456789012345678901234567890, "n":1.10, "s":"\\ud800", "deep":' + b"[" * 500 + b"]" * 500 + b"}"
    payload = payload_of(Record(interaction(letters), answer(b'{"a":1e999}')))
    assert letters in payload
    assert b'"raw_response":{"a":1e999}' in payload
    json.loads(payload)


def test_invalid_json_is_sent_as_text() -> None:
    for body in (b"{NaN}", b'{"a":NaN}', b"[Infinity]", b"\xef\xbb\xbf{}", b"{} {}", b"[" * 5000, b'{"a":1'):
        assert told(interaction(), answer(body))["raw_response"] == body.decode()


def test_an_undecodable_byte_in_a_name_is_escaped() -> None:
    odd = told(interaction(principal=Principal(user="\udcff\x00é"), model="\ud800"), answer(model=None))
    assert odd["associated_users"] == ["\\udcff\x00é"]
    assert odd["llm_model"] == "\\ud800"
    assert odd["api_token_id"] is None


def test_a_record_read_from_the_journal_gives_the_same_payload() -> None:
    asked, said = interaction(), answer()
    again = Record(
        decode_interaction(asked.id.bytes, encode_interaction(asked), asked.body),
        decode_answer(encode_answer(said), said.body),
    )
    assert payload_of(again) == payload_of(Record(asked, said))


@given(st.binary(), st.one_of(st.binary(), st.text().map(lambda text: json.dumps(text).encode())))
def test_any_record_makes_a_payload_of_json(request: bytes, response: bytes) -> None:
    told(interaction(request), answer(response))
