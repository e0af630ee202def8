"""Which model a body asks for, in any form and size that is taken, before the upstream hears of it."""

from __future__ import annotations

import hashlib
import json
from contextlib import asynccontextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import FormData
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.http.bodies import model_in
from gateway.edge.http.multipart import AmbiguousForm, model_in_form
from gateway.errors import MalformedBody
from tests.edge.app import Answer, house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.edge.app import House

MIB = 1 << 20
BOUND: dict[str, Any] = {"GATEWAY_AUTH": "header, keys"}
JSON = {"Content-Type": "application/json"}
TYPE = "multipart/form-data; boundary=limit"


@asynccontextmanager
async def bound_to(model: str, folder: Path, dsn: str, **env: Any) -> AsyncIterator[tuple[House, dict[str, str]]]:
    """A house, and the headers of one who may use one model only."""
    async with house(folder, dsn, **BOUND, **env) as it:
        order = {"user": "carl", "name": "agent", "allowed_models": [model]}
        made = await it.ask("/admin/keys", order, by="root/admins")
        assert made.status == 201, made
        yield it, {"Authorization": f"Bearer {made.json()['value']}"}


async def post(it: House, path: str, data: Any, headers: dict[str, str]) -> Answer:
    data = BytesIO(data) if isinstance(data, bytes) else data
    async with it.client.post(path, data=data, headers=headers) as response:
        return Answer(response.status, response.headers, await response.read())


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 60_000):
        yield body[at : at + 60_000]


def padded(model: str, size: int) -> bytes:
    return json.dumps({"input": "x" * size, "model": model}).encode()


def form(*parts: tuple[str, bytes], end: bytes = b"--\r\n") -> bytes:
    said = b"".join(
        b"--limit\r\nContent-Disposition: form-data; name=%b\r\n\r\n%b\r\n" % (name.encode(), value)
        for name, value in parts
    )
    return said + b"--limit" + end


# --- JSON ---


async def test_c16_a_bound_keys_model_is_read_from_json_of_any_size_and_framing(tmp_path: Path, database: str) -> None:
    async with bound_to("a", tmp_path, database) as (it, key):
        bodies: list[tuple[Any, dict[str, str]]] = [
            (padded("a", 3 * MIB), {}),
            (in_pieces(padded("a", 100)), {}),
            (in_pieces(padded("a", 3 * MIB)), {}),
            (padded("a", 100), {"Content-Type": "application/vnd.api+json"}),
        ]
        for body, more in bodies:
            assert (await post(it, "/v1/embeddings", body, key | JSON | more)).status == 200
        sizes = [request.body_size for request in it.upstream.requests]
        assert sizes == [len(padded("a", size)) for size in (3 * MIB, 100, 3 * MIB, 100)]
        rows = await it.rows(4, "api_logs")
        assert [row["model"] for row in rows] == ["a"] * 4
        assert [row["request_size"] for row in rows] == [sizes[0], None, sizes[2], None]
        assert rows[0]["request_sha256"] == hashlib.sha256(padded("a", 3 * MIB)).hexdigest()
        assert rows[1]["request"] == json.loads(padded("a", 100))
        for body in (padded("b", 3 * MIB), in_pieces(padded("b", 100))):
            refused = await post(it, "/v1/embeddings", body, key | JSON)
            assert (refused.status, refused.code) == (403, "model_not_allowed")
        assert len(it.upstream.requests) == 4


async def test_c16_json_that_is_larger_than_what_is_read_is_refused(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, GATEWAY_MAX_BODY_BYTES="1MiB") as it:
        for body in (padded("a", 2 * MIB), in_pieces(padded("a", 2 * MIB))):
            answer = await post(it, "/v1/embeddings", body, JSON | {"X-User": "ann"})
            assert (answer.status, answer.code) == (413, "body_too_large")
        assert it.upstream.requests == []


# --- forms ---


async def test_c16_a_bound_keys_model_is_read_from_a_form_wherever_it_stands(tmp_path: Path, database: str) -> None:
    sound = bytes(range(256)) * 8_000
    async with bound_to("whisper-1", tmp_path, database) as (it, key):
        for fields in (["model", "file"], ["file", "model"]):
            data = FormData()
            for name in fields:
                if name == "model":
                    data.add_field("model", "whisper-1")
                else:
                    data.add_field("file", BytesIO(sound), filename="a.mp3", content_type="audio/mpeg")
            answer = await post(it, "/v1/audio/transcriptions", data, key)
            assert (answer.status, answer.json()) == (200, {"text": f"{len(sound)} bytes of a.mp3"})
        rows = await it.rows(2, "api_logs")
        assert [(row["model"], row["request"]) for row in rows] == [("whisper-1", None)] * 2
        for row, request in zip(rows, it.upstream.requests, strict=True):
            assert (row["request_size"], row["request_sha256"]) == (request.body_size, request.body_sha256)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (form(('"model"', b"b")), 403, "model_not_allowed"),
        (form(('"file"', b"x")), 403, "model_not_allowed"),
        (form(('"model"', b"a"), ('"model"', b"b")), 400, "ambiguous_form"),
        (form(('"model"', b"a"), ('"MODEL"', b"b")), 400, "ambiguous_form"),
        (form(('"model"', b"a"), ('"model[]"', b"b")), 400, "ambiguous_form"),
        (form(('"model"', b"a"), ("model", b"b")), 400, "ambiguous_form"),
        (form(('"model"', b"a")).replace(b"\r\n", b"\n"), 400, "ambiguous_form"),
        (form(('"model"', b"a")) + form(('"model"', b"b")), 400, "ambiguous_form"),
        (b"preamble\r\n" + form(('"model"', b"a")), 400, "ambiguous_form"),
        (form(('"model"', b"a"), end=b""), 400, "ambiguous_form"),
        (form(('"x"', b"y\n--limit\nContent-Disposition: form-data; name=model\n\nb")), 400, "ambiguous_form"),
        (b"", 403, "model_not_allowed"),
    ],
)
async def test_c16_a_form_with_two_readings_never_reaches_the_upstream(
    tmp_path: Path, database: str, body: bytes, status: int, code: str
) -> None:
    async with bound_to("a", tmp_path, database) as (it, key):
        answer = await post(it, "/v1/audio/transcriptions", body, key | {"Content-Type": TYPE})
        assert (answer.status, answer.code) == (status, code)
        assert it.upstream.requests == []


async def test_c16_a_form_that_is_too_large_to_be_looked_at_is_told_so(tmp_path: Path, database: str) -> None:
    body = form(('"file"', b"x" * MIB), ('"model"', b"a"))
    async with bound_to("a", tmp_path, database, GATEWAY_MAX_BODY_BYTES="1MiB") as (it, key):
        answer = await post(it, "/v1/audio/transcriptions", body, key | {"Content-Type": TYPE})
        assert (answer.status, answer.code) == (403, "model_not_allowed")
        assert str(MIB) in answer.json()["error"]["message"]
        others = await post(it, "/v1/echo", body, {"Content-Type": TYPE, "X-User": "ann"})
        assert (others.status, others.json()["size"]) == (200, len(body))
        assert len(it.upstream.requests) == 1


async def test_c16_the_model_of_a_streamed_form_is_on_record_where_its_head_shows_it(
    tmp_path: Path, database: str
) -> None:
    early = form(('"model"', b"whisper-1"), ('"file"', b"x" * MIB))
    late = form(('"file"', b"x" * MIB), ('"model"', b"whisper-1"))
    async with house(tmp_path, database) as it:
        for body in (early, late, b"no form"):
            answer = await post(it, "/v1/echo", in_pieces(body), {"Content-Type": TYPE, "X-User": "ann"})
            assert answer.json()["sha256"] == hashlib.sha256(body).hexdigest()
        rows = await it.rows(3, "api_logs")
        assert [row["model"] for row in rows] == ["whisper-1", None, None]
        assert [row["request_size"] for row in rows] == [len(early), len(late), 7]


async def test_c16_a_body_of_two_types_is_refused(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        headers = [("X-User", "ann"), ("Content-Type", "application/json"), ("Content-Type", "multipart/form-data")]
        async with it.client.post("/v1/embeddings", data=padded("a", 10), headers=headers) as response:
            assert response.status == 400
        assert it.upstream.requests == []


NAMES = st.sampled_from(["file", "model", "prompt", "language", "a b", "ü"])


@given(st.lists(st.tuples(NAMES, st.binary(max_size=40)), max_size=5), st.integers(0, 400))
def test_c16_a_forms_model_is_the_one_that_it_names(parts: list[tuple[str, bytes]], cut: int) -> None:
    parts = [(name, value.replace(b"--limit", b"")) for name, value in parts]
    whole = form(*((f'"{name}"', value) for name, value in parts))
    models = [value for name, value in parts if name == "model"]
    try:
        wanted = models[0].decode() if len(models) == 1 else None
    except UnicodeDecodeError:
        wanted = None
    try:
        assert model_in_form(whole, TYPE) == wanted
    except AmbiguousForm:
        assert models
        assert wanted is None
    try:
        early = model_in_form(whole[:cut], TYPE, is_whole=False)
    except AmbiguousForm:
        return
    assert early is None or early.encode() in models


# --- one name, one value ---


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", b'{"model":"a","MODEL":"b","messages":[]}', "model"),
        ("/v1/chat/completions", b'{"model":"a","messages":[],"messages":[]}', "messages"),
        ("/v1/chat/completions", b'{"model":"a","stream":true,"Stream":false,"messages":[]}', "stream"),
        ("/v1/responses", b'{"stream_options":{"include_usage":1,"include_usage":2}}', "stream_options"),
        ("/v1/responses", rb'{"model":"a","mod\u0065l":"b","input":"x"}', "model"),
        ("/v1/responses", b'{"previous_response_id":"r","previous_response_id":"s"}', "previous_response_id"),
        ("/chat", b'{"model":"a","root_id":"x","root_id":"y","messages":[]}', "root_id"),
        ("/checkchat", b'{"model":"a","model":"b","messages":[]}', "model"),
        ("/image_gen", b'{"prompt":"cat","model":"a","Model":"b"}', "model"),
        ("/image_gen", b'{"prompt":"cat","prompt":"dog"}', "prompt"),
        ("/update_title", b'{"root_id":"x","convo_title":"a","convo_title":"b"}', "convo_title"),
        ("/v1/embeddings", b'{"model":"a","input":"x","model":"b"}', "model"),
        ("/v1/embeddings", b'{"model":"a","input":"x","MODEL":"b"}', "model"),
    ],
)
async def test_a4_a_body_with_two_readings_is_refused_at_every_door(
    tmp_path: Path, database: str, path: str, body: bytes, param: str
) -> None:
    async with house(tmp_path, database) as it:
        answer = await post(it, path, body, JSON | {"X-User": "ann"})
        assert (answer.status, answer.code) == (400, "ambiguous_member")
        assert answer.json()["error"]["param"] == param
        assert it.upstream.requests == []


def test_a4_the_model_of_a_body_that_cannot_be_read_is_not_known() -> None:
    assert model_in(b"[" * 60_000) is None
    assert model_in(b'{"model":"a"') is None
    assert model_in(b'["model"]') is None
    assert model_in(b'{"model":["a"]}') is None
    assert model_in(rb'{"x":"\ud800","model":"a"}') == "a"
    with pytest.raises(MalformedBody):
        model_in(b'{"model":"a","model":"a"}')


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"])
@pytest.mark.parametrize(
    "further",
    [
        {"models": ["b"]},
        {"models": ["a", "b"]},
        {"models": "b"},
        {"models": [{"model": "a"}]},
        {"fallbacks": ["b"]},
        {"fallbacks": [{"a": ["b"]}]},
    ],
)
async def test_a_key_for_one_model_gets_no_other_by_a_list_of_fallbacks(
    path: str, further: dict[str, Any], tmp_path: Path, database: str
) -> None:
    async with bound_to("a", tmp_path, database) as (it, carl):
        words = {"messages": [{"role": "user", "content": "Hi."}], "input": "Hi."}
        refused = await post(it, path, json.dumps({"model": "a", **words, **further}).encode(), carl | JSON)
        assert refused.status == 403, refused
        allowed = await post(it, path, json.dumps({"model": "a", "models": ["a"], **words}).encode(), carl | JSON)
        assert allowed.status == 200, allowed
        assert it.upstream.request_count == 1


WORDS: dict[str, Any] = {
    "model": "a",
    "messages": [{"role": "user", "content": "Hi."}],
    "input": "Hi.",
    "prompt": "Hi.",
}


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("POST", "/image_gen", {"models": ["b"]}),
        ("POST", "/v1/chat/completions?model=b", {}),
        ("POST", "/v1/responses?x=1;mod%65l=b", {}),
        ("POST", "/v1/embeddings?MODEL=b", {}),
        ("POST", "/chat?model=b", {}),
        ("POST", "/v1/engines/b/embeddings", {}),
        ("POST", "/v1/%65ngines/b/embeddings", {}),
        ("POST", "/v1/openai/deployments/b/embeddings", {}),
        ("POST", "/v1/models/b:generateContent", {}),
        ("POST", "/v1/batches", {"input_file_id": "file-1"}),
        ("POST", "/v1/messages/batches", {"requests": [{"params": {"model": "b"}}]}),
        ("POST", "/v1/realtime/client_secrets", {"session": {"model": "a"}}),
        ("POST", "/v1/embeddings", {"extra_body": {"model": "b"}}),
        ("POST", "/v1/chat/completions", {"extra_body": {"Model": "b"}}),
        ("POST", "/v1/chat/completions", {"extra_body": [{"fallbacks": ["b"]}]}),
        ("POST", "/v1/chat/completions", {"context_window_fallbacks": [{"a": ["b"]}]}),
        ("POST", "/v1/responses", {"tools": [{"type": "image_generation", "model": "b"}]}),
        ("GET", "/v1/embeddings", {"model": "b"}),
        ("DELETE", "/v1/embeddings", {"model": "b"}),
        ("OPTIONS", "/v1/embeddings", {"model": "b"}),
    ],
)
async def test_a_key_for_one_model_gets_no_other_beside_the_bodys_own(
    tmp_path: Path, database: str, method: str, path: str, more: dict[str, Any]
) -> None:
    async with bound_to("a", tmp_path, database) as (it, carl):
        refused = await it.ask(path, WORDS | more, by="", method=method, headers=carl)
        assert (refused.status, refused.code) == (403, "model_not_allowed")
        assert it.upstream.requests == []
        unbound = await it.ask(path, WORDS | more, method=method)
        assert unbound.status != 403, unbound
        assert it.upstream.request_count == 1


async def test_a_key_for_one_model_may_speak_of_others(tmp_path: Path, database: str) -> None:
    call = {"type": "tool_use", "id": "1", "name": "task", "input": {"model": "b"}}
    schema = {"type": "object", "properties": {"model": {"type": "string", "examples": [{"model": "b"}]}}}
    body = {
        **WORDS,
        "messages": [{"role": "assistant", "content": [call]}],
        "tools": [{"name": "task", "input_schema": schema}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
        "metadata": {"model": "b"},
    }
    async with bound_to("a", tmp_path, database) as (it, carl):
        for path in ("/v1/chat/completions?model=a", "/v1/responses", "/v1/embeddings?api-version=1", "/chat"):
            answer = await it.ask(path, body, by="", headers=carl)
            assert answer.status == 200, (path, answer)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ('multipart/form-data; x="; boundary=evil"; boundary=limit', ()),
        ("multipart/form-data; boundary*=utf-8''limit", ()),
        ("multipart/form-data; boundary*0=li; boundary*1=mit", ()),
        ("multipart/form-data; boundary=limit; x*0=a; x*=b", ()),
        (TYPE, (('"fallbacks"', b'["b"]'),)),
    ],
)
async def test_c16_a_form_whose_type_has_two_readings_never_reaches_the_upstream(
    tmp_path: Path, database: str, kind: str, more: tuple[tuple[str, bytes], ...]
) -> None:
    async with bound_to("a", tmp_path, database) as (it, key):
        body = form(('"model"', b"a"), *more)
        answer = await post(it, "/v1/audio/transcriptions", body, key | {"Content-Type": kind})
        assert (answer.status, answer.code) == (400, "ambiguous_form")
        assert it.upstream.requests == []
