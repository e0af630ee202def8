"""An upstream that misbehaves: the caller is told so, in the shape SDKs know, and the row says which end it was."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.journeys.stage import hello, new_id
from tests.loopback import (
    Fin,
    Pause,
    Script,
    Stall,
    answer,
    bad_chunk_size,
    bad_gzip,
    big_line,
    chat_completion,
    chat_events,
    chat_stream,
    cut_after,
    cut_before_head,
    cut_completion,
    cut_in_head,
    early_hints_103_then_answer,
    encode_events,
    endless_headers,
    endless_line,
    error,
    extra_bytes_after,
    file_answer,
    garbage,
    garbage_body,
    gzip_truncated,
    html,
    huge_headers,
    json_answer,
    no_done,
    ok_with_error_body,
    rate_limited,
    redirect,
    response_events,
    slow_headers,
    sse_error_event,
    stall_after,
    stall_before_headers,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.journeys.stage import Answer, Row, Stage

# A stopwatch: a gateway that waits for 0.7 s takes a machine that stands still for a stall.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.stopwatch]

ENV = {
    "GATEWAY_UPSTREAM_CONNECT_S": "1",
    "GATEWAY_UPSTREAM_HEAD_S": "0.7",
    "GATEWAY_UPSTREAM_STALL_S": "0.7",
    "GATEWAY_MAX_ANSWER_BYTES": "3MiB",
}
BEGUN = "Grüße aus"  # the first words of the text that the faulty streams cut
WHOLE = "Grüße aus dem Loopback 🙂, eine ganze Antwort mit vielen Wörtern, die man gut mitten entzwei schneiden kann."


@dataclass(frozen=True, slots=True)
class Fault:
    """What an upstream does, and what must come of it."""

    script: Callable[[], Script]
    status: int  # for the caller
    code: str | None
    outcome: str = "upstream_error"
    upstream_status: int | None = None
    message: str = ""  # what the error says, among other things
    raises: type[openai.APIError] = field(default=openai.InternalServerError)


BEFORE_THE_ANSWER = {
    "closes without a word": Fault(cut_before_head, 502, "upstream_unreachable"),
    "resets without a word": Fault(lambda: cut_before_head("rst"), 502, "upstream_unreachable"),
    "closes in its head": Fault(cut_in_head, 502, "upstream_unreachable"),
    "resets in its head": Fault(lambda: cut_in_head("rst"), 502, "upstream_unreachable"),
    "speaks no HTTP": Fault(garbage, 502, "upstream_garbled"),
    "never answers": Fault(stall_before_headers, 504, "upstream_timeout"),
    "never ends its head": Fault(endless_headers, 502, "upstream_garbled"),
    "answers with a proxy's page": Fault(html, 502, None, upstream_status=502, message="text/html"),
    "answers 200 with a page": Fault(
        lambda: html(200), 502, "upstream_garbled", upstream_status=200, message="text/html"
    ),
    "forbids with a page": Fault(
        lambda: html(403), 403, None, upstream_status=403, message="text/html", raises=openai.PermissionDeniedError
    ),
    "sends elsewhere": Fault(redirect, 502, "upstream_garbled", upstream_status=307, message="307"),
    "says an error as a success": Fault(
        ok_with_error_body, 502, None, upstream_status=200, message="The model is overloaded."
    ),
    "refuses with a word": Fault(
        lambda: error(400, body={"error": "just a word"}),
        400,
        None,
        upstream_status=400,
        message="just a word",
        raises=openai.BadRequestError,
    ),
    "refuses as FastAPI does": Fault(
        lambda: error(422, body={"detail": [{"loc": ["body", "n"], "msg": "too many"}]}),
        422,
        None,
        upstream_status=422,
        message="too many",
        raises=openai.UnprocessableEntityError,
    ),
    "refuses as vLLM does": Fault(
        lambda: error(404, body={"object": "error", "message": "no such model", "type": "NotFoundError", "code": 404}),
        404,
        None,
        upstream_status=404,
        message="no such model",
        raises=openai.NotFoundError,
    ),
    "refuses, compressed": Fault(
        lambda: error(401, message="Who are you?", gzip=True),
        401,
        None,
        upstream_status=401,
        message="Who are you?",
        raises=openai.AuthenticationError,
    ),
    "limits the rate": Fault(
        rate_limited,
        429,
        "rate_limit_exceeded",
        upstream_status=429,
        message="Rate limit reached.",
        raises=openai.RateLimitError,
    ),
    "fails": Fault(lambda: error(500, message="Oh."), 500, None, upstream_status=500, message="Oh."),
    "is empty": Fault(lambda: answer([]), 502, "upstream_garbled", upstream_status=200),
    "answers with a number": Fault(lambda: json_answer(5), 502, "upstream_garbled", upstream_status=200),
    "answers with something else": Fault(
        lambda: json_answer({"object": "list", "data": []}), 502, "upstream_garbled", upstream_status=200
    ),
    "uses a coding of its own": Fault(
        lambda: json_answer({}, headers=[("content-encoding", "br")]), 502, "upstream_garbled", upstream_status=200
    ),
}
IN_A_WHOLE_ANSWER = {
    "closes in the middle": Fault(
        lambda: cut_completion(100), 502, "upstream_cut", outcome="truncated", upstream_status=200
    ),
    "resets in the middle": Fault(
        lambda: cut_completion(100, "rst"), 502, "upstream_cut", outcome="truncated", upstream_status=200
    ),
    "closes in the middle of what has no length": Fault(
        lambda: cut_completion(100, framing="close"), 502, "upstream_cut", outcome="truncated", upstream_status=200
    ),
    "falls silent in the middle": Fault(
        lambda: chat_completion(WHOLE, split_at=100).first(1).then(Stall()),
        504,
        "upstream_timeout",
        upstream_status=200,
    ),
    "says too much": Fault(lambda: chat_completion("x" * 4_000_000), 502, "upstream_garbled", upstream_status=200),
    "cuts its compressed answer": Fault(
        lambda: chat_completion("word " * 9_000, gzip=True, framing="close", split_at=5_000).first(2).then(Fin()),
        502,
        "upstream_cut",
        outcome="truncated",
        upstream_status=200,
    ),
}


@dataclass(frozen=True, slots=True)
class StreamFault:
    """What goes wrong when a stream has begun."""

    script: Callable[[], Script]
    code: str | None
    outcome: str
    said: str | None = BEGUN


IN_A_STREAM = {
    "closes in the middle": StreamFault(lambda: cut_after(3), "upstream_cut", "truncated"),
    "resets in the middle": StreamFault(lambda: cut_after(3, "rst"), "upstream_cut", "truncated"),
    "closes in the middle of an event": StreamFault(lambda: cut_after(3, torn=50), "upstream_cut", "truncated"),
    "closes in the middle of what has no length": StreamFault(
        lambda: cut_after(3, framing="close"), "upstream_cut", "truncated"
    ),
    "closes after its head": StreamFault(lambda: cut_after(0), "upstream_cut", "upstream_error", said=None),
    "closes before the first word": StreamFault(lambda: cut_after(1), "upstream_cut", "upstream_error", said=""),
    "falls silent in the middle": StreamFault(lambda: stall_after(3), "upstream_timeout", "truncated"),
    "falls silent in the middle of an event": StreamFault(
        lambda: stall_after(3, torn=50), "upstream_timeout", "truncated"
    ),
    "falls silent after its head": StreamFault(lambda: stall_after(0), "upstream_timeout", "upstream_error", said=None),
    "ends without a last word": StreamFault(
        lambda: no_done(finish_reason=None), "upstream_cut", "truncated", said=WHOLE
    ),
    "breaks its chunks": StreamFault(bad_chunk_size, "upstream_garbled", "upstream_error"),
    "sends noise": StreamFault(garbage_body, "upstream_cut", "upstream_error", said=None),  # lines of unknown fields
    "says an error": StreamFault(sse_error_event, None, "upstream_error"),
    "says an error and [DONE]": StreamFault(lambda: sse_error_event(done=True), None, "upstream_error"),
    "cuts its compressed answer": StreamFault(gzip_truncated, "upstream_cut", "truncated"),
    "claims to compress": StreamFault(bad_gzip, "upstream_garbled", "upstream_error", said=None),
    "never ends a line": StreamFault(endless_line, "upstream_garbled", "upstream_error", said=None),
    "says an event that is no JSON": StreamFault(
        lambda: stream([*encode_events(chat_events(WHOLE)[:3]), b"data: {no json}\n\n"]),
        "upstream_garbled",
        "upstream_error",
    ),
}
UNHARMED: dict[str, Callable[[], Script]] = {
    "a line of a megabyte": big_line,
    "no [DONE]": no_done,
    "slow headers": slow_headers,
    "huge headers": huge_headers,
    "early hints": early_hints_103_then_answer,
    "CR": lambda: chat_stream(WHOLE, newline="\r"),
    "CRLF": lambda: chat_stream(WHOLE, newline="\r\n"),
    "a byte order mark": lambda: chat_stream(WHOLE, bom=True),
    "split UTF-8": lambda: chat_stream(WHOLE, split_at=1),
    "compression": lambda: chat_stream(WHOLE, gzip=True),
    "no length": lambda: chat_stream(WHOLE, framing="close"),
    "no last blank line": lambda: stream([chat_stream(WHOLE).payload.rstrip()], framing="close"),
}


def said(row: Row) -> str | None:
    choices = row["response"]["choices"]
    return str(choices[0]["message"]["content"] or "") if choices else None


def check_error(answer: Answer, fault: Fault) -> None:
    assert answer.status == fault.status
    assert (
        answer.error["code"] in (fault.code, fault.status) if fault.code is None else answer.error["code"] == fault.code
    )
    assert fault.message in answer.error["message"]
    assert answer.headers["x-request-id"] == answer.request_id


def check_row(row: Row, fault: Fault) -> None:
    assert row["outcome"] == fault.outcome
    assert row["status"] == fault.upstream_status
    assert row["error"]


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", BEFORE_THE_ANSWER)
async def test_before_the_answer_the_caller_gets_an_error_and_its_status(
    stage: Stage, name: str, is_stream: bool
) -> None:
    fault = BEFORE_THE_ANSWER[name]
    stage.upstream.on = lambda _: fault.script()
    answer = await stage.chat(stream=is_stream)
    check_error(answer, fault)
    check_row(await stage.row(answer.request_id), fault)
    async with stage.openai() as client:
        with pytest.raises(fault.raises) as raised:
            await client.chat.completions.create(**hello(), stream=is_stream)
    assert fault.message in str(raised.value.message)


@pytest.mark.parametrize("name", IN_A_WHOLE_ANSWER)
async def test_an_answer_that_is_not_whole_is_an_error_and_its_part_is_kept(stage: Stage, name: str) -> None:
    fault = IN_A_WHOLE_ANSWER[name]
    stage.upstream.on = lambda _: fault.script()
    answer = await stage.chat()
    check_error(answer, fault)
    row = await stage.row(answer.request_id)
    check_row(row, fault)
    if fault.outcome == "truncated":
        assert row["response_raw"].startswith(b'{"id":"chatcmpl-loopback"')
    async with stage.openai() as client:
        with pytest.raises(fault.raises):
            await client.chat.completions.create(**hello())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat"])
@pytest.mark.parametrize("name", IN_A_STREAM)
async def test_a_stream_that_is_not_whole_ends_with_an_error_event_and_no_done_of_ours(
    stage: Stage, name: str, path: str
) -> None:
    fault = IN_A_STREAM[name]
    stage.upstream.on = lambda _: fault.script()
    answer = await stage.chat(path=path, stream=True)
    assert answer.status == 200
    assert ("[DONE]" in answer.body.decode()) == (name == "says an error and [DONE]")  # the upstream's own bytes
    assert answer.body.endswith(b"\n\n")
    last = answer.events[-1]["error"]
    assert {"message", "type", "param", "code"} <= last.keys()
    assert last["code"] == fault.code
    assert answer.text == (fault.said or "")
    row = await stage.row(answer.request_id)
    assert row["outcome"] == fault.outcome
    assert row["error"]
    assert said(row) == fault.said


@pytest.mark.parametrize("name", IN_A_STREAM)
async def test_the_package_raises_when_a_stream_is_not_whole(stage: Stage, name: str) -> None:
    fault = IN_A_STREAM[name]
    stage.upstream.on = lambda _: fault.script()
    text = ""
    async with stage.openai() as client:
        chunks = await client.chat.completions.create(**hello(), stream=True)
        with pytest.raises(openai.APIError) as raised:
            async for chunk in chunks:
                text += chunk.choices[0].delta.content or "" if chunk.choices else ""
    assert raised.value.message
    assert raised.value.code == fault.code
    assert text == (fault.said or "")


@pytest.mark.parametrize("name", UNHARMED)
async def test_what_is_odd_but_whole_arrives_whole(stage: Stage, name: str) -> None:
    stage.upstream.on = lambda _: UNHARMED[name]()
    request_id = new_id()
    async with stage.openai() as client:
        chunks = await client.chat.completions.create(
            **hello(), stream=True, extra_headers={"x-request-id": request_id}
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])
    row = await stage.row(request_id)
    assert row["outcome"] == "complete"
    assert row["error"] is None
    assert said(row) == text
    assert text.startswith(BEGUN) or len(text) > 1_000_000


async def test_an_upstream_that_refuses_connections_is_told_and_recorded(stage: Stage) -> None:
    await stage.upstream.stop()
    try:
        answer = await stage.chat(stream=True)
        check_error(answer, Fault(cut_before_head, 502, "upstream_unreachable"))
        passed = await stage.ask("/v1/models", method="GET")
        check_error(passed, Fault(cut_before_head, 502, "upstream_unreachable"))
    finally:
        await stage.upstream.start()
    for request_id in (answer.request_id, passed.request_id):
        row = await stage.row(request_id)
        assert (row["outcome"], row["status"]) == ("upstream_error", None)
    assert (await stage.chat()).status == 200


@pytest.mark.parametrize("reuse", ["stale-fin", "stale-rst", "drop"])
async def test_connections_that_went_stale_are_no_callers_concern(stage: Stage, reuse: Any) -> None:
    stage.upstream.reuse = reuse
    try:
        for number in range(6):
            answer = await stage.chat(f"number {number}", stream=number % 2 == 0)
            assert answer.status == 200
            assert (await stage.row(answer.request_id))["outcome"] == "complete"
    finally:
        stage.upstream.reuse = "keep"
    assert len(stage.upstream.requests) == 6


async def test_bytes_behind_an_answer_never_become_the_next_callers_answer(stage: Stage) -> None:
    stage.upstream.script(extra_bytes_after())
    first = await stage.chat("first")
    assert first.json()["id"] == "chatcmpl-loopback"
    for number in range(3):
        answer = await stage.chat(f"number {number}")
        assert f"number {number}" in answer.body.decode()
        assert b"stray" not in answer.body


async def test_an_upstream_that_knows_no_usage_is_asked_without(stage: Stage) -> None:
    """It refuses what it does not know; from then on it is not asked any more."""

    def strict(request: Any) -> Script | None:
        unknown = "stream_options" in request.json()
        return error(400, message="Unknown parameter: 'stream_options'.", code="unknown_parameter") if unknown else None

    stage.upstream.on = strict
    for asked in (2, 3):
        answer = await stage.chat("Und nun?", stream=True)
        assert answer.data[-1] == "[DONE]"
        row = await stage.row(answer.request_id)
        assert row["outcome"] == "complete"
        assert row["usage_estimated"] is True
        assert row["completion_tokens"] > 0
        assert len(stage.upstream.requests) == asked


async def test_a_limited_rate_passes_with_its_headers(stage: Stage) -> None:
    stage.upstream.script(rate_limited("7"))
    answer = await stage.chat()
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"


async def test_a_whole_answer_where_a_stream_was_asked_for_passes_as_it_is(stage: Stage) -> None:
    stage.upstream.script(chat_completion("I do not stream."))
    answer = await stage.chat(stream=True)
    assert answer.json()["choices"][0]["message"]["content"] == "I do not stream."
    row = await stage.row(answer.request_id)
    assert (row["outcome"], said(row)) == ("complete", "I do not stream.")


async def test_a_stream_where_a_whole_answer_was_asked_for_passes_as_it_is(stage: Stage) -> None:
    stage.upstream.script(chat_stream(WHOLE))
    answer = await stage.chat()
    assert answer.text == WHOLE
    row = await stage.row(answer.request_id)
    assert (row["outcome"], said(row)) == ("complete", WHOLE)


# --- the Responses API ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "script", "code", "outcome"),
    [
        ("cut", lambda events: stream(events[:7], framing="close"), "upstream_cut", "truncated"),
        ("reset", lambda events: stream(events).first(7).then(Fin()), "upstream_cut", "truncated"),
        ("silent", lambda events: stream(events).first(7).then(Stall()), "upstream_timeout", "truncated"),
        ("garbled", lambda events: stream([*events[:7], b"data: {no\n\n"]), "upstream_garbled", "upstream_error"),
    ],
)
async def test_a_response_that_is_not_whole_ends_with_an_error(
    stage: Stage, name: str, script: Callable[[list[bytes]], Script], code: str, outcome: str
) -> None:
    stage.upstream.on = lambda _: script(encode_events(response_events("one two three four")))
    request_id = new_id()
    seen: list[str] = []
    async with stage.openai() as client:
        events = await client.responses.create(
            model="m", input="Go.", stream=True, extra_headers={"x-request-id": request_id}
        )
        with pytest.raises(openai.APIError) as raised:
            async for event in events:
                seen.append(event.type)  # noqa: PERF401 (it ends by raising)
    assert raised.value.code == code
    assert "response.completed" not in seen
    row = await stage.row(request_id)
    assert row["outcome"] == outcome
    assert row["response"]["output"][0]["content"][0]["text"] == "one two three"


@pytest.mark.parametrize("name", ["never answers", "speaks no HTTP", "answers with a proxy's page", "limits the rate"])
async def test_a_response_that_is_refused_is_told_as_a_chat_is(stage: Stage, name: str) -> None:
    fault = BEFORE_THE_ANSWER[name]
    stage.upstream.on = lambda _: fault.script()
    answer = await stage.ask("/v1/responses", {"model": "m", "input": "Go."})
    check_error(answer, fault)
    row = await stage.row(answer.request_id)
    assert row["kind"] == "response"
    check_row(row, fault)


# --- everything else --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["closes without a word", "speaks no HTTP", "never answers", "never ends its head"])
async def test_a_call_that_passes_through_gets_an_error_too(stage: Stage, name: str) -> None:
    fault = BEFORE_THE_ANSWER[name]
    stage.upstream.on = lambda _: fault.script()
    answer = await stage.ask("/v1/embeddings", {"model": "m", "input": "x"})
    check_error(answer, fault)
    row = await stage.row(answer.request_id)
    assert row["table"] == "api_logs"
    check_row(row, fault)


@pytest.mark.parametrize("name", ["answers with a proxy's page", "limits the rate", "refuses with a word"])
async def test_a_refusal_that_passes_through_is_the_upstreams_own(stage: Stage, name: str) -> None:
    fault = BEFORE_THE_ANSWER[name]
    script = fault.script()
    stage.upstream.on = lambda _: script
    answer = await stage.ask("/v1/embeddings", {"model": "m", "input": "x"})
    assert answer.status == fault.status
    assert answer.body == script.payload
    assert (await stage.row(answer.request_id))["outcome"] == "upstream_error"


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("end", [Fin(), Stall()], ids=["closes", "falls silent"])
async def test_a_download_that_is_cut_never_looks_whole(stage: Stage, framing: Any, end: Any) -> None:
    data = bytes(range(256)) * 1_000
    stage.upstream.on = lambda _: file_answer(data, framing=framing).first(2).then(end)
    request_id = new_id()
    async with await stage.raw() as raw:
        raw.ask("GET", "/v1/files/file-1/content", [("X-Request-Id", request_id)])
        assert (await raw.answer()).status == 200
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await raw.body()
        assert b"".join(piece for _, piece in raw.arrivals) == data[: sum(len(piece) for _, piece in raw.arrivals)]
    row = await stage.row(request_id)
    assert row["outcome"] == "truncated"
    assert row["response_size"] == 131_072
    assert row["error"]


async def test_an_upload_that_is_refused_early_gets_its_refusal(stage: Stage) -> None:
    """The upstream answers 413 to the head, and closes a moment later, as servers do that want to be heard."""

    def refuse(request: Any) -> Script | None:
        *refusal, close = error(413, message="Too large for me.", close=True).steps
        return Script([*refusal, Pause(0.5), close]) if request.path == "/v1/files" else None

    stage.upstream.early = refuse
    body = b"x" * 3_000_000
    answer = await stage.ask("/v1/files", body, headers={"Content-Type": "application/octet-stream"})
    assert answer.status == 413
    assert answer.error["message"] == "Too large for me."
    row = await stage.row(answer.request_id)
    assert (row["outcome"], row["status"]) == ("upstream_error", 413)
