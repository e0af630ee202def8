"""However a path is spelled, it is the guarded route that it names, or a 404: none of them passes as another."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.http.paths import GUARDED, canonical, lacks_prefix, passed_on
from gateway.errors import CallerError, NotFound
from tests.edge.app import house
from tests.journeys.raw import Raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.edge.app import House

BODY = b'{"model":"loopback-1","messages":[{"role":"user","content":"Hi"}],"input":"Hi"}'
VARIANTS = [
    "/v1/chat/completions/",
    "/v1//chat/completions",
    "/v1/./responses",
    "/v1/%2e/responses",
    "/v1/chat%2Fcompletions",
    "/v1/chat%252Fcompletions",
    "/v1/%63hat/completions",
    "/v1/%2563hat/completions",
    "/v1/Chat/Completions",
    "/v1/RESPONSES",
    "/v1/chat;a=b/completions;c",
    "/v1/chat\\completions",
    "/v1/chat%5Ccompletions",
    "/v1/responses%20",
    "/v1/responses.",
    "/v1/responses%3Fx",
    "/v1/responses%23x",
    "/v1/responses/%2f/",
    "/v1/re%C5%BFponses",  # a long s
    "/v1/chat%EF%BC%8Fcompletions",  # a full-width slash
    "/%761/chat/completions",
    "/%761//responses",
    "http://gateway.example/v1/chat/completions/",
    "/v1/chat/completions/?x=1",
]
NOWHERE = [
    "/v1/chat/completions%00",
    "/v1/chat%c0%afcompletions",  # an overlong slash
    "/v1/%ff/responses",
    "/v1/resp%E2%80%8Bonses",  # a zero-width space
    "/v1/v1/chat/completions",
    "/v1/engines/gpt-4/chat/completions",
    "/v1/openai/responses",
    "/v1/responses.json",
    "/v1/%25252563hat/completions",
    "/v1//models",
    "/v1/%u002fresponses",
    "/v1/models%",
    "/v1/./models",
    "/v1/x/%2E/models",
    "/v1/x%5Cmodels",
    "/%761/models",
    "/V1/models",
    "/V1/Chat/Completions",
    "//v1/chat/completions",
]


@asynccontextmanager
async def line_to(it: House) -> AsyncIterator[Raw]:
    raw = await Raw.to(it.client.port or 0)
    try:
        yield raw
    finally:
        await raw.close()


async def asked(it: House, method: str, target: str, *more: tuple[str, str], body: bytes = BODY) -> tuple[int, bytes]:
    async with line_to(it) as raw:
        named = [("X-User", "ann"), ("Content-Type", "application/json"), *more]
        raw.ask(method, target, named, body or None)
        head = await raw.answer()
        return head.status, await raw.body()


async def test_a3_a_path_variant_of_a_guarded_route_is_that_route(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        for target in VARIANTS:
            status, body = await asked(it, "POST", target)
            assert status == 200, (target, body)
        assert {request.path for request in it.upstream.requests} == {"/v1/chat/completions", "/v1/responses"}
        await it.rows(len(VARIANTS))
        assert await it.fetch("select * from llm_logs.api_logs") == []


async def test_a3_what_is_neither_a_route_nor_one_reading_is_a_404(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        for target in NOWHERE:
            status, body = await asked(it, "POST", target)
            assert (status, b'"not_found"' in body) == (404, True), (target, body)
        assert it.upstream.requests == []


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "PROPFIND", "GET"])
async def test_a3_no_other_method_takes_a_body_to_a_guarded_route(tmp_path: Path, database: str, method: str) -> None:
    async with house(tmp_path, database) as it:
        for target in ("/v1/chat/completions", "/v1/Responses/"):
            assert (await asked(it, method, target))[0] == 405
        assert it.upstream.requests == []


async def test_a3_no_header_turns_one_method_into_another(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
            await asked(it, "GET", "/v1/chat/completions", (name, "POST"), body=b"")
            assert it.upstream.requests[-1].method == "GET"
            assert it.upstream.requests[-1].header(name) is None


@pytest.mark.parametrize(
    "path", ["/v1/models/meta%2FLlama-3", "/v1/files/A;b", "/v1/files/f-1/content", "/v1/Models/", "/v1/responses/r_1"]
)
def test_other_paths_are_passed_on_as_they_are_written(path: str) -> None:
    assert passed_on(path) == path.removeprefix("/v1")


def spelled(letter: str) -> st.SearchStrategy[str]:
    once = f"%{ord(letter):02x}"
    forms = [letter, letter.upper(), once, once.upper(), once.replace("%", "%25")]
    forms += {"/": ["//", "/./", "\\", "/%2e/", ";x/", "%5c", "/;/", "%2F%2F"], "s": ["%C5%BF"]}.get(letter, [])
    return st.sampled_from(forms)


@given(
    st.data(), st.sampled_from(sorted(GUARDED)), st.sampled_from(["", "/", ";a=b", "%20", ".", "/%2e", "%3fx", "\\"])
)
def test_a3_no_spelling_of_a_guarded_route_passes_as_another(data: st.DataObject, path: str, end: str) -> None:
    written = "/v1" + "".join(data.draw(spelled(letter)) for letter in path) + end
    assert canonical(written) == f"/v1{path}"
    assert passed_on(written) == path


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?"), max_size=30))
def test_a3_whatever_passes_is_what_was_written_or_a_guarded_route(text: str) -> None:
    try:
        path = passed_on(f"/v1/{text}")
    except (NotFound, CallerError):
        return
    assert path in GUARDED or path == f"/{text}"


# --- what is asked for beside the API ---


async def test_c21_a_call_without_the_prefix_is_told_the_base_url(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        for path in ("/chat/completions", "/responses", "/models", "/embeddings", "/messages", "/images/generations"):
            for method in ("POST", "PUT") if path.startswith("/chat") else ("POST", "GET"):
                answer = await it.ask(path, method=method)
                assert (answer.status, answer.code) == (404, "not_found")
                base = answer.json()["error"]["message"].rpartition(" ")[2]
                assert urlsplit(base).port == it.client.port
                assert base.endswith("/v1")
                assert "Allow" not in answer.headers
        assert it.upstream.requests == []


async def test_c21_the_base_url_is_the_public_one_where_that_is_set(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, GATEWAY_PUBLIC_URL="https://llm.corp.example") as it:
        answer = await it.ask("/chat/completions", {})
        assert answer.json()["error"]["message"].endswith(" https://llm.corp.example/v1")


def test_c21_only_paths_of_the_api_are_told_so() -> None:
    assert lacks_prefix("/files/abc/content")
    assert not lacks_prefix("/filesystem")
    assert not lacks_prefix("/chat")


# --- another protocol ---


@pytest.mark.parametrize("target", ["/v1/responses", "/v1/chat/completions", "/v1/realtime?model=m", "/v1/Responses/"])
async def test_c15_a_websocket_is_refused_at_once_and_leaves_no_row(tmp_path: Path, database: str, target: str) -> None:
    wanted = [
        ("Connection", "Upgrade"),
        ("Upgrade", "WebSocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    async with house(tmp_path, database) as it:
        async with line_to(it) as raw:
            raw.ask("GET", target, [("X-User", "ann"), *wanted])
            head = await raw.answer()
            assert head.status == 426
            assert head.get("upgrade") == "HTTP/1.1"
            assert "upgrade" in (head.get("connection") or "").lower()
            assert head.get("x-should-retry") == "false"
            assert b'"websocket_not_served"' in await raw.body()
            assert await raw.is_closed()
        assert it.upstream.requests == []
        await it.chat()
        await it.rows(1)
        assert await it.fetch("select * from llm_logs.api_logs") == []
