"""Both halves of a record come back from the journal as they went in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.journal.meta import decode_answer, decode_interaction, encode_answer, encode_interaction
from gateway.model import Answer, Interaction, Kind, Outcome, PolicyOutcome, Principal, Ruling, Usage
from tests.journal.samples import IDS, answer, interaction

TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
NAMES = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**63 - 1)

# As functions, for hypothesis looks into annotations, which here name what type checkers alone import.
INTERACTIONS = st.builds(
    lambda **known: Interaction(**known),
    id=st.builds(IDS.new),
    kind=st.sampled_from(Kind),
    started_at=NUMBERS,
    principal=st.builds(
        Principal,
        user=st.text(st.characters(exclude_categories=["Cs"])),
        title=TEXTS,
        key_id=TEXTS,
        roles=st.just(frozenset()),
    ),
    request_id=st.just("r"),
    method=st.just("POST"),
    path=st.just("/v1/x?y=z"),
    model=TEXTS,
    upstream=TEXTS,
    is_stream=st.booleans(),
    root_id=TEXTS,
    convo_title=TEXTS,
    convo_show=st.booleans(),
    request_type=TEXTS,
    policy=st.none() | st.builds(Ruling, st.sampled_from(PolicyOutcome), st.tuples(NAMES) | st.tuples(NAMES, NAMES)),
    body=st.binary(),
)
ANSWERS = st.builds(
    lambda **known: Answer(**known),
    outcome=st.sampled_from(Outcome),
    finished_at=NUMBERS,
    status=st.none() | st.integers(100, 599),
    body=st.binary(),
    body_type=TEXTS,
    model=TEXTS,
    usage=st.none()
    | st.builds(
        lambda *known: Usage(*known),
        COUNTS,
        COUNTS,
        st.booleans(),
        st.none() | st.dictionaries(st.just("prompt_tokens"), COUNTS),
    ),
    first_token_ms=st.none() | NUMBERS,
    duration_ms=NUMBERS,
    bytes_in=COUNTS,
    bytes_out=COUNTS,
    error=TEXTS,
    upstream_request_id=TEXTS,
    response_size=st.none() | COUNTS,
    response_sha256=TEXTS,
    request_size=st.none() | COUNTS,
    request_sha256=TEXTS,
)


@given(INTERACTIONS)
def test_an_interaction_comes_back_whole(asked: Interaction) -> None:
    assert decode_interaction(asked.id.bytes, encode_interaction(asked), asked.body) == asked


@given(ANSWERS)
def test_an_answer_comes_back_whole(said: Answer) -> None:
    assert decode_answer(encode_answer(said), said.body) == said


def test_every_field_of_both_nouns_is_written() -> None:
    asked = json.loads(encode_interaction(interaction()))
    apart = {"id", "body", "principal"}
    assert set(Interaction.__struct_fields__) - apart == set(asked) - {"user", "title", "key_id"}
    said = json.loads(encode_answer(answer()))
    assert set(Answer.__struct_fields__) - {"body"} == set(said)


@pytest.mark.parametrize("odd", ["caf\udce9", "\udcff", "a\ud800b"])
def test_odd_header_bytes_are_written_out_instead_of_raising(odd: str) -> None:
    asked = interaction(principal=Principal(user=odd), request_id=odd, request_type=odd)
    found = decode_interaction(asked.id.bytes, encode_interaction(asked), b"")
    assert found.principal.user == odd.encode("utf-8", "backslashreplace").decode()
    said = decode_answer(encode_answer(answer(error=odd, usage=Usage(1, 2, raw={odd: [odd]}))), b"")
    assert said.error == odd.encode("utf-8", "backslashreplace").decode()


@pytest.mark.parametrize("number", [2**64, -(2**70), 10**5000], ids=["large", "small", "absurd"])
def test_a_usage_with_a_huge_number_does_not_raise(number: int) -> None:
    said = decode_answer(encode_answer(answer(usage=Usage(1, 2, raw={"n": number}))), b"")
    assert said.outcome is Outcome.COMPLETE


def test_a_usage_that_is_too_deep_is_left_out() -> None:
    raw: dict[str, object] = {}
    for _ in range(3000):
        raw = {"deeper": raw}
    assert decode_answer(encode_answer(answer(usage=Usage(1, 2, raw=raw))), b"").usage is None


def test_a_newer_gateways_fields_are_ignored() -> None:
    asked = interaction()
    meta = json.dumps(json.loads(encode_interaction(asked)) | {"mood": "fine"}).encode()
    assert decode_interaction(asked.id.bytes, meta, asked.body) == asked


def test_a_journal_from_before_there_was_a_policy_is_read() -> None:
    asked = interaction()
    older = {name: value for name, value in json.loads(encode_interaction(asked)).items() if name != "policy"}
    assert decode_interaction(asked.id.bytes, json.dumps(older).encode(), asked.body) == asked
