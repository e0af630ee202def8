"""Answers that come as one body: what each kind of body is taken for, and what the caller is told."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from gateway.dialects.dialect import CHAT, RESPONSES
from gateway.errors import UpstreamCut, UpstreamGarbled, UpstreamStalled
from gateway.model import Outcome
from gateway.relay.buffered import BufferedAnswer, is_text, read_whole
from gateway.transport import encoding
from gateway.transport.call import Ending
from tests import loopback
from tests.fakes import FakeReply, head

if TYPE_CHECKING:
    from gateway.dialects.dialect import Dialect

ANSWER = loopback.chat_completion("Hello there, you.").payload
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


async def whole_of(
    body: Any,
    *,
    status: int = 200,
    ending: Ending = Ending.WHOLE,
    dialect: Dialect = CHAT,
    limit: int = 1 << 20,
    content_type: str = "application/json",
    **headers: str,
) -> BufferedAnswer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = FakeReply(head(status, content_type=content_type, **headers), [data[:10], data[10:]], ending)
    return await read_whole(reply, dialect, limit)


async def test_answer_is_taken_as_it_is() -> None:
    whole = await whole_of(ANSWER)
    assert (whole.outcome, whole.body, whole.status, whole.error) == (Outcome.COMPLETE, ANSWER, 200, None)
    assert (whole.replacement, whole.fault, whole.model) == (None, None, "loopback-1")
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 3
    assert whole.answer == json.loads(ANSWER)


async def test_response_is_an_answer_of_its_dialect_alone() -> None:
    body: Any = {"object": "response", "status": "completed", "output": [], "error": None, "model": "m"}
    assert (await whole_of(body, dialect=RESPONSES)).outcome is Outcome.COMPLETE
    assert (await whole_of(body)).outcome is Outcome.UPSTREAM_ERROR
    assert (await whole_of(ANSWER, dialect=RESPONSES)).outcome is Outcome.UPSTREAM_ERROR


async def test_response_that_failed_is_shown_and_recorded_as_failed() -> None:
    body = {"object": "response", "status": "failed", "error": {"message": "no"}, "output": []}
    whole = await whole_of(body, dialect=RESPONSES)
    assert (whole.outcome, whole.status, whole.error, whole.replacement) == (Outcome.UPSTREAM_ERROR, 200, None, None)


@pytest.mark.parametrize("odd", [rb'"\ud83d"', b"18446744073709551616", b"NaN", b"-Infinity", b'"\\u0000"'])
async def test_json_that_some_parsers_refuse_is_an_answer(odd: bytes) -> None:
    body = b'{"choices": [{"message": {"content": %b}}]}' % odd
    whole = await whole_of(body)
    assert (whole.outcome, whole.body) == (Outcome.COMPLETE, body)


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_error_in_openais_shape_passes_with_its_status(status: int) -> None:
    body = {"error": {"message": "No.", "type": "x", "param": None, "code": "y"}}
    whole = await whole_of(body, status=status, retry_after="7")
    assert (whole.outcome, whole.status, json.loads(whole.body)) == (Outcome.UPSTREAM_ERROR, status, body)
    assert (whole.error, whole.replacement) == (None, None)
    assert whole.head.get(b"retry-after") == b"7"
    assert whole.fault == f"the upstream answered {status} with an error"


@pytest.mark.parametrize("body", [{"error": {"message": "busy"}}, {"choices": [], "error": {"message": "busy"}}])
async def test_a_success_that_holds_an_error_is_an_error(body: Any) -> None:
    whole = await whole_of(body)
    assert (whole.outcome, whole.status, whole.error) == (Outcome.UPSTREAM_ERROR, 502, None)
    assert json.loads(whole.body) == body


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"detail": "Not Found"}, "Not Found"),
        ({"detail": [{"loc": ["body"], "msg": "field required"}]}, '[{"loc":["body"],"msg":"field required"}]'),
        ({"error": "model 'x' not found"}, "model 'x' not found"),
        ({"message": "no"}, "no"),
        ({}, "the upstream answered 404 with application/json that is not an answer"),
        (b"[]", "the upstream answered 404 with application/json that is not an answer"),
        (b"", "the upstream answered 404 with application/json that is not an answer"),
        (b"{torn", "the upstream answered 404 with application/json that is not an answer"),
    ],
)
async def test_an_error_in_another_form_gets_openais_form_and_keeps_its_status(body: Any, message: str) -> None:
    whole = await whole_of(body, status=404, retry_after="7", content_encoding="identity")
    assert (whole.outcome, whole.status) == (Outcome.UPSTREAM_ERROR, 404)
    assert whole.replacement is not None
    assert json.loads(whole.replacement) == {
        "error": {"message": message, "type": "upstream_error", "param": None, "code": None}
    }
    assert whole.body == (body if isinstance(body, bytes) else json.dumps(body).encode())  # what the record keeps
    assert whole.head.get(b"retry-after") == b"7"


async def test_vllms_error_without_an_envelope_keeps_its_members() -> None:
    body = {"object": "error", "message": "too long", "type": "BadRequestError", "param": "messages", "code": 400}
    whole = await whole_of(body, status=400)
    assert whole.replacement is not None
    assert json.loads(whole.replacement)["error"] == {name: body[name] for name in ("message", "type", "param", "code")}


async def test_an_error_page_is_not_shown_as_html() -> None:
    page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
    for ending in (Ending.WHOLE, Ending.UNPROVED):
        whole = await whole_of(page, status=502, ending=ending, content_type="text/html; charset=utf-8")
        assert (whole.outcome, whole.status, whole.body) == (Outcome.UPSTREAM_ERROR, 502, page)
        assert whole.replacement is not None
        assert "text/html" in json.loads(whole.replacement)["error"]["message"]
        assert whole.head.media_type == "application/json"


async def test_the_plain_text_of_an_error_is_shown_up_to_a_limit() -> None:
    whole = await whole_of("Zu viele Wünsche. ".encode() + b"x" * 5000, status=429, content_type="text/plain")
    assert whole.replacement is not None
    message = json.loads(whole.replacement)["error"]["message"]
    assert message.startswith("Zu viele Wünsche. x")
    assert len(message) <= 1000


async def test_odd_status_becomes_a_bad_gateway() -> None:
    assert (await whole_of({"error": {"message": "no"}}, status=999)).status == 502


@pytest.mark.parametrize("content_type", ["text/html", "application/json", ""])
@pytest.mark.parametrize("body", [b"<html>hello</html>", b'{"hello": 1}', b'{"choices": 1}', b"[]", b"null", b""])
async def test_success_that_is_no_answer_is_an_error(body: bytes, content_type: str) -> None:
    for ending in (Ending.WHOLE, Ending.UNPROVED):
        whole = await whole_of(body, content_type=content_type, ending=ending)
        assert whole.outcome is Outcome.UPSTREAM_ERROR
        assert isinstance(whole.error, UpstreamGarbled)
        assert whole.replacement is None
        assert whole.body == body


async def test_a_redirect_is_an_error_without_its_location() -> None:
    whole = await whole_of(b"", status=307, location="https://elsewhere.example/")
    assert isinstance(whole.error, UpstreamGarbled)
    assert "elsewhere" not in whole.error.message
    assert whole.replacement is None


# ── bodies that do not end well ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ending", "error", "outcome"),
    [
        (Ending.CUT, UpstreamCut, Outcome.TRUNCATED),
        (Ending.STALLED, UpstreamStalled, Outcome.UPSTREAM_ERROR),
        (Ending.GARBLED, UpstreamGarbled, Outcome.UPSTREAM_ERROR),
    ],
)
async def test_body_that_does_not_end_well_is_no_answer(ending: Ending, error: Any, outcome: Outcome) -> None:
    whole = await whole_of(ANSWER[:50], ending=ending)
    assert isinstance(whole.error, error)
    assert (whole.outcome, whole.body, whole.answer) == (outcome, ANSWER[:50], None)


async def test_a_cut_before_the_first_byte_is_an_upstream_error() -> None:
    assert (await whole_of(b"", ending=Ending.CUT)).outcome is Outcome.UPSTREAM_ERROR


async def test_close_delimited_json_proves_itself() -> None:
    assert (await whole_of(ANSWER, ending=Ending.UNPROVED)).outcome is Outcome.COMPLETE
    for size in (1, 50, len(ANSWER) - 1):
        whole = await whole_of(ANSWER[:size], ending=Ending.UNPROVED)
        assert whole.outcome is Outcome.TRUNCATED
        assert isinstance(whole.error, UpstreamCut)


async def test_body_beyond_the_limit_is_not_held() -> None:
    whole = await whole_of(b"[" + b"1," * 1000, limit=500)
    assert isinstance(whole.error, UpstreamGarbled)
    assert "longer than 500 bytes" in whole.error.message
    assert len(whole.body) <= 500


# ── compressed although nobody asked ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("coding", "packed"), [("gzip", gzip.compress(ANSWER)), ("deflate", zlib.compress(ANSWER))])
@pytest.mark.parametrize("ending", [Ending.WHOLE, Ending.UNPROVED])
async def test_compressed_answer_is_decoded_and_its_head_says_so(coding: str, packed: bytes, ending: Ending) -> None:
    whole = await whole_of(packed, content_encoding=coding, content_length="99", ending=ending)
    assert (whole.outcome, whole.body) == (Outcome.COMPLETE, ANSWER)
    assert whole.head.get(b"content-encoding") is None
    assert whole.head.get(b"content-length") is None
    assert whole.head.media_type == "application/json"


async def test_compressed_refusal_is_decoded_too() -> None:
    whole = await whole_of(gzip.compress(b'{"detail": "no"}'), status=400, content_encoding="gzip")
    assert whole.replacement is not None
    assert json.loads(whole.replacement)["error"]["message"] == "no"
    assert whole.head.get(b"content-encoding") is None


@pytest.mark.parametrize("ending", [Ending.WHOLE, Ending.UNPROVED])
async def test_truncated_gzip_is_no_answer(ending: Ending) -> None:
    whole = await whole_of(gzip.compress(ANSWER)[:-9], content_encoding="gzip", ending=ending)
    assert isinstance(whole.error, UpstreamCut)
    assert whole.outcome is Outcome.TRUNCATED


async def test_broken_gzip_is_no_answer() -> None:
    whole = await whole_of(b"this is no gzip", content_encoding="gzip")
    assert isinstance(whole.error, UpstreamGarbled)


async def test_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MAX_INFLATED_BYTES", 100_000)
    whole = await whole_of(gzip.compress(b" " * 10_000_000), content_encoding="gzip", limit=1 << 30)
    assert isinstance(whole.error, UpstreamGarbled)
    assert "beyond all limits" in whole.error.message
    assert len(whole.body) <= 100_000


async def test_unknown_coding_is_refused_before_the_body_is_read() -> None:
    with pytest.raises(UpstreamGarbled, match="br"):
        await whole_of(b"...", content_encoding="br")


# ── which bodies are texts ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/problem+json", True),
        ("text/event-stream", True),
        ("application/x-ndjson", True),
        ("audio/mpeg", False),
        ("application/octet-stream", False),
        ("application/jsonish", False),
        ("", False),
    ],
)
def test_texts_are_recognised_by_their_type(content_type: str, expected: bool) -> None:
    assert is_text(head(content_type=content_type)) is expected
    assert not is_text(head(content_type=content_type, content_encoding="gzip"))


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "no"}},
        {"error": "no"},
        {"type": "error", "message": "no"},
        {"object": "error", "message": "no", "code": 400},
        {"detail": "no"},
        {"errors": ["no"]},
        {"code": 502, "message": "no"},
        {"choices": [], "error": {"message": "no"}},
    ],
)
async def test_b10_an_error_in_place_of_an_answer_is_an_error(body: Any) -> None:
    whole = await whole_of(body)
    assert (whole.outcome, whole.status, whole.answer) == (Outcome.UPSTREAM_ERROR, 502, None)
    assert "no" in json.dumps(json.loads(whole.replacement or whole.body)["error"])


@pytest.mark.parametrize(
    "more", [{"finish_reason": "error"}, {"finish_reason": "stop", "error": {"code": 502, "message": "gone"}}]
)
async def test_b10_an_answer_with_an_error_in_a_choice_has_failed_and_goes_on_as_it_is(more: Any) -> None:
    body = json.dumps({"choices": [{"index": 0, "message": {"content": "Half"}, **more}]}).encode()
    for answer in (body, body[:-1] + b', "error": {"code": 502, "message": "gone"}}'):
        whole = await whole_of(answer)
        assert (whole.outcome, whole.status, whole.body, whole.replacement) == (
            Outcome.UPSTREAM_ERROR,
            200,
            answer,
            None,
        )
        assert whole.fault
