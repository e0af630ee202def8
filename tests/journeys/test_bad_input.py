"""Whatever is sent, the answer is an error in OpenAI's shape with the status that fits; nothing is recorded that was
not said, and the gateway lives on."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from typing import TYPE_CHECKING

import pytest

from tests.journeys.stage import Answer, hello, new_id
from tests.loopback import chat_stream
from tests.polling import until

if TYPE_CHECKING:
    from tests.journeys.raw import Raw
    from tests.journeys.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENV = {
    "GATEWAY_MAX_BODY_BYTES": "1MiB",
    "GATEWAY_MAX_DEPTH": "50",
    "GATEWAY_BODY_TIMEOUT_S": "1",
    "GATEWAY_KEEPALIVE_S": "1",
}
MIB = 1 << 20
CHAT = "/v1/chat/completions"
BYTES = ("Content-Type", "application/octet-stream")
JSON = {"Content-Type": "application/json"}
TALKS = (CHAT, "/v1/responses", "/chat")


async def post(stage: Stage, path: str, body: bytes, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await stage.ask(path, body, headers={**JSON, **named})


async def refused(stage: Stage, answer: Answer, status: int, code: str) -> str:
    """The message of a refusal that nobody but the caller and the log has heard of."""
    assert answer.status == status, answer
    assert answer.error["code"] == code
    assert answer.headers["x-request-id"] == answer.request_id
    assert answer.headers["x-should-retry"] == "false"
    assert stage.upstream.requests == []
    assert await stage.has_no_row(answer.request_id)
    assert (await stage.line(answer.request_id))["status"] == status
    return str(answer.error["message"])


# --- bodies -----------------------------------------------------------------------------------------------------------

NO_JSON = {
    "nothing": b"",
    "half an object": b'{"model": "m", "messages": [',
    "a missing value": b'{"model":}',
    "something behind": b'{"model":"m"} {"model":"m"}',
    "single quotes": b"{'model': 'm'}",
    "NaN": b'{"model":"m","temperature":NaN}',
    "broken UTF-8": b'{"model":"\xff\xfe"}',
    "UTF-16": '{"model":"m"}'.encode("utf-16"),
    "a control character": b'{"model":"a\x00b"}',
    "a list": b'[{"model":"m"}]',
    "a string": b'"model"',
    "null": b"null",
    "a form": b"model=m&messages=x",
}


@pytest.mark.parametrize("path", TALKS)
@pytest.mark.parametrize("name", NO_JSON)
async def test_a_body_that_is_no_json_object_is_a_400(stage: Stage, name: str, path: str) -> None:
    await refused(stage, await post(stage, path, NO_JSON[name]), 400, "malformed_body")


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":' + b"[" * 51 + b"]" * 51 + b"}",
        b'{"a":' * 60 + b"1" + b"}" * 60,
        b'{"messages":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
    ids=["lists", "objects", "very many lists", "very many objects"],
)
async def test_a_body_that_is_nested_too_deep_is_a_400(stage: Stage, body: bytes) -> None:
    message = await refused(stage, await post(stage, CHAT, body), 400, "body_too_deep")
    assert "deep" in message


async def test_as_deep_as_allowed_is_allowed(stage: Stage) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"deep":' + b"[" * 49 + b"]" * 49 + b"}"
    assert (await post(stage, CHAT, body)).status == 200


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/png", "json", "\xff"],
)
@pytest.mark.parametrize("path", TALKS)
async def test_a_body_that_is_said_to_be_no_json_is_a_415(stage: Stage, path: str, kind: str) -> None:
    body, request_id = json.dumps(hello()).encode(), new_id()
    async with await stage.raw() as raw:
        raw.ask("POST", path, [("Content-Type", kind), ("X-Request-Id", request_id)], body)
        answer = await whole(raw, request_id)
    await refused(stage, answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "header",
    [
        ("Content-Type", "application/json; charset=utf-8"),
        ("Content-Type", "APPLICATION/JSON"),
        ("Content-Type", "application/vnd.api+json"),
        ("Authorization", "Bearer sk-any"),  # a program may leave the type out
    ],
)
async def test_json_by_any_of_its_names_is_taken(stage: Stage, header: tuple[str, str]) -> None:
    async with await stage.raw() as raw:
        raw.ask("POST", CHAT, [header], json.dumps(hello()).encode())
        assert (await raw.answer()).status == 200


async def test_a_body_that_is_announced_too_large_is_a_413_before_it_comes(stage: Stage) -> None:
    request_id = new_id()
    async with await stage.raw() as raw:
        headers = [("Content-Length", "99999999"), ("X-Request-Id", request_id), *JSON.items()]
        raw.ask("POST", CHAT, headers)
        message = await refused(stage, await whole(raw, request_id), 413, "body_too_large")
    assert str(MIB) in message


async def test_a_body_that_grows_too_large_is_a_413(stage: Stage) -> None:
    request_id = new_id()
    async with await stage.raw() as raw:
        raw.ask("POST", CHAT, [("Transfer-Encoding", "chunked"), ("X-Request-Id", request_id), *JSON.items()])
        for _ in range(20):
            raw.send(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        await refused(stage, await whole(raw, request_id), 413, "body_too_large")


async def test_a_body_of_just_the_largest_size_is_taken(stage: Stage) -> None:
    body = json.dumps(hello()).encode()
    assert (await post(stage, CHAT, body + b" " * (MIB - len(body)))).status == 200
    assert (await post(stage, CHAT, body + b" " * (MIB - len(body) + 1))).status == 413


async def test_a_small_body_that_inflates_without_measure_is_a_413_and_costs_little(stage: Stage) -> None:
    bomb = gzip.compress(b" " * (200 * MIB), 1)
    assert len(bomb) < MIB
    before = stage.gateway.memory()
    answer = await post(stage, CHAT, bomb, Content_Encoding="gzip")
    await refused(stage, answer, 413, "body_too_large")
    assert stage.gateway.memory() - before < 16 * MIB


@pytest.mark.parametrize(
    ("coding", "body"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes), ("GZIP", gzip.compress)],
)
async def test_a_compressed_body_is_taken_and_sent_on_plain(stage: Stage, coding: str, body: type[bytes]) -> None:
    plain = json.dumps(hello("Gepackt")).encode()
    answer = await post(stage, CHAT, body(plain), Content_Encoding=coding)
    assert answer.status == 200
    (request,) = stage.upstream.requests
    assert request.body == plain
    assert request.header("content-encoding") is None
    assert (await stage.row(answer.request_id))["request"] == hello("Gepackt")


@pytest.mark.parametrize(
    ("coding", "body", "status", "code"),
    [
        ("gzip", b"this is no gzip", 400, "malformed_body"),
        ("gzip", gzip.compress(json.dumps(hello()).encode())[:-9], 400, "malformed_body"),
        ("gzip", gzip.compress(json.dumps(hello()).encode()) + gzip.compress(b" "), 400, "malformed_body"),
        ("deflate", zlib.compress(json.dumps(hello()).encode()) + b"junk", 400, "malformed_body"),
        ("deflate", b"\x78\x9c\x00", 400, "malformed_body"),
        ("br", b"\x0b\x02\x80{}\x03", 415, "unsupported_media_type"),
        ("gzip, gzip", b"x", 415, "unsupported_media_type"),
    ],
    ids=["no gzip", "gzip cut short", "two members", "junk behind", "deflate cut short", "brotli", "gzip twice"],
)
async def test_a_body_that_is_compressed_wrongly_is_refused(
    stage: Stage, coding: str, body: bytes, status: int, code: str
) -> None:
    await refused(stage, await post(stage, CHAT, body, Content_Encoding=coding), status, code)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model":5,"messages":[]}', "model"),
        (b'{"model":null,"messages":[]}', "model"),
        (b'{"model":"m","root_id":5}', "root_id"),
        (b'{"model":"m","root_id":{"a":1}}', "root_id"),
        (b'{"model":"m","convo_title":["x"]}', "convo_title"),
        (b'{"model":"m","convo_title":"' + b"x" * 600 + b'"}', "convo_title"),
    ],
)
async def test_a_member_of_the_wrong_type_is_named(stage: Stage, body: bytes, param: str) -> None:
    answer = await post(stage, CHAT, body)
    await refused(stage, answer, 400, "malformed_body")
    assert answer.error["param"] == param


async def test_what_the_model_minds_is_the_models_to_say(stage: Stage) -> None:
    answer = await post(stage, CHAT, b'{"model":"m"}')
    assert answer.status == 400
    assert answer.error["code"] == "invalid_messages"
    assert (await stage.row(answer.request_id))["outcome"] == "upstream_error"


@pytest.mark.stopwatch
async def test_a_body_that_drips_is_given_up_in_time(stage: Stage) -> None:
    request_id, began = new_id(), time.monotonic()
    async with await stage.raw() as raw:
        raw.ask("POST", CHAT, [("Content-Length", "100"), ("X-Request-Id", request_id), *JSON.items()])
        dripping = asyncio.create_task(drip(raw, b"{" + b" " * 99))
        answer = await whole(raw, request_id)
        assert 0.9 < time.monotonic() - began < 2.5
        dripping.cancel()
    await refused(stage, answer, 408, "body_too_slow")


@pytest.mark.stopwatch
async def test_a_head_that_drips_is_given_up_in_time(stage: Stage) -> None:
    began = time.monotonic()
    async with await stage.raw() as raw:
        dripping = asyncio.create_task(drip(raw, b"GET /healthz HTTP/1.1\r\n" + b"X-Slow: 1\r\n" * 20))
        assert await raw.is_closed()
        assert time.monotonic() - began < 5
        dripping.cancel()


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error_of_ours(stage: Stage) -> None:
    request_id = new_id()
    raw = await stage.raw()
    raw.ask("POST", CHAT, [("Content-Length", "1000"), ("X-Request-Id", request_id), *JSON.items()])
    raw.send(b'{"model":')
    await asyncio.sleep(0.1)
    await raw.close()
    await stage.line(request_id)
    assert await stage.has_no_row(request_id)


# --- everything else takes bodies as they are -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"{no json", b"", b"\xff\xfe", b"[" * 60_000], ids=["no JSON", "empty", "bytes", "deep"]
)
async def test_a_call_that_passes_through_passes_with_whatever_body(stage: Stage, body: bytes) -> None:
    answer = await post(stage, "/v1/echo", body)
    assert answer.status == 200
    assert answer.json()["size"] == len(body)
    row = await stage.row(answer.request_id)
    assert row["outcome"] == "complete"
    assert row["request_raw"] == (body or None)


async def test_an_upload_that_drips_too_slowly_is_given_up_and_recorded(stage: Stage) -> None:
    request_id = new_id()
    async with await stage.raw() as raw:
        raw.ask("POST", "/v1/echo", [("Content-Length", "1000"), ("X-Request-Id", request_id), BYTES])
        raw.send(b"abcd")
        answer = await whole(raw, request_id)
    assert answer.status == 408
    assert answer.error["code"] == "body_too_slow"
    row = await stage.row(request_id)
    assert row["outcome"] == "client_cancelled"
    assert row["request_size"] == 4


async def test_a_chat_whose_chunks_break_is_a_400(stage: Stage) -> None:
    request_id = new_id()
    async with await stage.raw() as raw:
        raw.ask("POST", CHAT, [("Transfer-Encoding", "chunked"), ("X-Request-Id", request_id), *JSON.items()])
        raw.send(b"4\r\n{   \r\n")
        await asyncio.sleep(0.1)
        raw.send(b"zz\r\nnonsense\r\n")
        await refused(stage, await whole(raw, request_id), 400, "malformed_request")
        assert await raw.is_closed()


async def test_an_upload_whose_chunks_break_is_ended_and_recorded(stage: Stage) -> None:
    request_id = new_id()
    async with await stage.raw() as raw:
        raw.ask("POST", "/v1/echo", [("Transfer-Encoding", "chunked"), ("X-Request-Id", request_id), BYTES])
        raw.send(b"4\r\nabcd\r\n")
        await until(lambda: bool(stage.upstream.requests and stage.upstream.requests[0].body_size == 4))
        raw.send(b"zz\r\nnonsense\r\n")
        answer = await whole(raw, request_id)
        assert answer.status == 400
        assert answer.error["code"] == "malformed_request"
    await stage.upstream.wait_closed(stage.upstream.requests[0])
    row = await stage.row(request_id)
    assert row["outcome"] == "client_cancelled"
    assert row["request_size"] == 4


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/v2/chat/completions",
        "//v1/chat/completions",
        "/chat/",
        "/static/../../etc/passwd",
        "/static/%2e%2e/x",
    ],
)
async def test_what_is_not_there_is_a_404(stage: Stage, path: str) -> None:
    request_id = new_id()
    async with await stage.raw() as raw:
        raw.ask("GET", path, [("X-Request-Id", request_id)])
        await refused(stage, await whole(raw, request_id), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/chat"), ("DELETE", "/chat"), ("POST", "/healthz"), ("PUT", "/"), ("GET", "/chat/x/stop")],
)
async def test_a_method_that_is_not_taken_is_a_405_that_says_which_are(stage: Stage, method: str, path: str) -> None:
    answer = await stage.ask(path, method=method)
    await refused(stage, answer, 405, "method_not_allowed")
    assert answer.headers["allow"]


@pytest.mark.parametrize("path", ["/v1/../healthz", "/v1/%2e%2e/admin", "/v1/a/../../../x", "/v1/.%2E/x"])
async def test_a_path_that_climbs_out_of_the_api_is_a_400(stage: Stage, path: str) -> None:
    request_id = new_id()
    async with await stage.raw() as raw:
        raw.ask("GET", path, [("X-Request-Id", request_id)])
        await refused(stage, await whole(raw, request_id), 400, "invalid_path")


async def test_a_target_in_its_absolute_form_is_the_path_in_it(stage: Stage) -> None:
    async with await stage.raw() as raw:
        raw.ask("GET", f"{stage.gateway.url}/v1/echo/here?x=1")
        answer = await whole(raw, "")
    assert answer.status == 200
    assert answer.json()["target"] == "/v1/echo/here?x=1"


# --- heads ------------------------------------------------------------------------------------------------------------


async def test_strange_bytes_in_headers_are_no_error(stage: Stage) -> None:
    body = json.dumps(hello()).encode()
    odd = ["X-Request-Id", "X-Conversation-Id", "Authorization", "User-Agent", "Cookie", "X-Odd"]
    async with await stage.raw() as raw:
        raw.ask("POST", CHAT, [*((name, "a\xffb\x80") for name in odd), *JSON.items()], body)
        answer = await whole(raw, "")
    assert answer.status == 200
    request_id = answer.headers["x-request-id"]
    assert request_id.isascii()
    row = await stage.row(request_id)
    assert row["outcome"] == "complete"
    assert row["root_gpt_id"] == r"a\udcffb\udc80"
    assert (await stage.line(request_id))["status"] == 200


NO_HTTP = {
    "garbage": b"GARBAGE\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 50 + b"\r\n\r\n",
    "another version": b"GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "a NUL in a header": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk-very-secret\x00\r\n\r\n",
    "a space before a colon": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization : Bearer sk-very-secret\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b\r\n Authorization: Bearer sk-very-secret\r\n\r\n",
    "two framings": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}{}{}",
    "a negative length": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n{}",
    "a length that is none": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x10\r\n\r\n{}",
    "chunks that are none": b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "an unknown framing": b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, cow\r\n\r\n0\r\n\r\n",
    "a path of bytes": b"GET /v1/\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a bare CR": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b\rAuthorization: Bearer sk-very-secret\r\n\r\n",
}
TOO_LARGE = {
    "a long header": b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer sk-very-secret" + b"x" * 40_000 + b"\r\n\r\n",
    "a long path": b"GET /sk-very-secret" + b"/x" * 30_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: h\r\n" + b"".join(b"X-%d: 1\r\n" % i for i in range(5_000)) + b"\r\n",
}


@pytest.mark.parametrize("name", [*NO_HTTP, *TOO_LARGE])
async def test_what_is_no_http_is_told_so_in_the_same_shape(stage: Stage, name: str) -> None:
    log_before = len(stage.gateway.log_path.read_text())
    async with await stage.raw() as raw:
        raw.send((NO_HTTP | TOO_LARGE)[name])
        answer = await whole(raw, "")
        assert answer.status == (431 if name in TOO_LARGE else 400)
        assert answer.error["type"] == "invalid_request_error"
        assert answer.error["code"] == ("head_too_large" if name in TOO_LARGE else "malformed_request")
        assert answer.headers["x-request-id"].startswith("req_")
        assert "very-secret" not in answer.body.decode()
        assert await raw.is_closed()
    assert stage.upstream.requests == []
    line = await stage.gateway.logged(lambda line: line.get("request_id") == answer.headers["x-request-id"])
    assert line["status"] == answer.status
    assert "very-secret" not in stage.gateway.log_path.read_text()[log_before:]


async def test_garbage_behind_a_good_request_spoils_only_itself(stage: Stage) -> None:
    async with await stage.raw() as raw:
        raw.post(CHAT, hello("Guten Tag", stream=True), new_id())
        stage.upstream.script(chat_stream("Guten Tag", pace=0.1))
        await stage.upstream.wait_for_requests(1)
        raw.send(b"\x00\x01GARBAGE\r\n\r\n")
        good, bad = await whole(raw, ""), await whole(raw, "")
    assert good.text == "Guten Tag"
    assert (bad.status, bad.error["code"]) == (400, "malformed_request")


async def test_a_connection_on_which_nothing_is_said_is_closed(stage: Stage) -> None:
    async with await stage.raw() as raw:
        assert await raw.is_closed()


async def whole(raw: Raw, request_id: str) -> Answer:
    """An answer that was read byte by byte."""
    head = await raw.answer()
    return Answer(head.status, dict(head.headers), await raw.body(), request_id)


async def drip(raw: Raw, data: bytes) -> None:
    for place in range(len(data)):
        raw.send(data[place : place + 1])
        await asyncio.sleep(0.1)
