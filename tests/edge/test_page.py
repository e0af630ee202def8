"""What the chat page is told by its gateway, and which pages elsewhere may call it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.edge.http.app_keys import PAGE, SETTINGS
from gateway.edge.http.cors import allow_origins
from gateway.edge.http.origin_check import OriginCheck
from gateway.edge.routes import routes
from gateway.errors import NotAllowed
from gateway.resources import resource_folder
from gateway.settings import SettingsError, load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ORIGIN = "https://chat.example"
ASKS = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
USE_CASE = {"name": "Translator", "prompt": "Translate.", "description": ""}


@asynccontextmanager
async def door(**environ: str) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """The routes with these settings, and nothing of the house behind them."""
    settings = load({"HOME": "/x", **environ})
    app = web.Application()
    app[SETTINGS], app[PAGE] = settings, resource_folder("static").resolve()
    app.add_routes(routes())
    allow_origins(app, settings.page.allowed_origins)
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_the_page_is_told_what_is_set_and_no_secret() -> None:
    cases = json.dumps([{"name": "Translator", "prompt": "Translate."}])
    environ = {"GATEWAY_USE_CASES": cases, "GATEWAY_POLICY_URL": "https://i.example/p", "OPENAI_API_KEY": "sk-secret"}
    async with door(**environ) as client:
        answer = await client.get("/page.json")
        said = await answer.json()
        assert (said["use_cases"], said["policy_url"], said["auth"]) == ([USE_CASE], "https://i.example/p", ["open"])
        assert "secret" not in await answer.text()


async def test_the_page_makes_no_markup_out_of_text_and_runs_no_script_of_others() -> None:
    async with door() as client:
        policy = (await client.get("/")).headers["Content-Security-Policy"]
        assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
        assert "script-src 'self'" in policy
        assert "connect-src 'self'" in policy
        assert "unsafe" not in policy


async def test_no_origin_may_call_unless_it_is_named() -> None:
    async with door() as client:
        answer = await client.options("/v1/models", headers=ASKS)
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_a_named_origin_may_call_and_sees_the_ids() -> None:
    async with door(GATEWAY_ALLOWED_ORIGINS=f"{ORIGIN}/, https://other.example:443") as client:
        for path in ("/v1/models", "/chat", "/history_v2", "/nowhere"):
            answer = await client.options(path, headers=ASKS)
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
            assert "Access-Control-Allow-Credentials" not in answer.headers
        answer = await client.get("/page.json", headers={"Origin": "https://other.example"})
        assert answer.headers["Access-Control-Allow-Origin"] == "https://other.example"
        assert "x-conversation-id" in answer.headers["Access-Control-Expose-Headers"]
        assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://chat.example", "https://chat.example.evil.example"]
)
async def test_an_origin_that_is_only_like_a_named_one_may_not(origin: str) -> None:
    async with door(GATEWAY_ALLOWED_ORIGINS=ORIGIN) as client:
        for answer in (
            await client.options("/chat", headers={**ASKS, "Origin": origin}),
            await client.get("/page.json", headers={"Origin": origin}),
        ):
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_named_origin_may_call_an_open_gateway_too() -> None:
    seen: list[str] = []

    async def ask(request: web.Request) -> web.Response:
        try:
            OriginCheck(load({"HOME": "/x", "GATEWAY_ALLOWED_ORIGINS": ORIGIN})).check(request)
            seen.append("let in")
        except NotAllowed as error:
            seen.append(error.code)
        return web.Response()

    app = web.Application()
    app.router.add_get("/", ask)
    async with TestClient(TestServer(app)) as client:
        for origin in (ORIGIN, "https://evil.example"):
            await client.get("/", headers={"Origin": origin})
    assert seen == ["let in", "cross_origin"]


@pytest.mark.parametrize(
    "given",
    [
        {"GATEWAY_ALLOWED_ORIGINS": "*"},
        {"GATEWAY_ALLOWED_ORIGINS": "https://a.example/path"},
        {"GATEWAY_ALLOWED_ORIGINS": "null"},
        {"GATEWAY_USE_CASES": "{}"},
        {"GATEWAY_USE_CASES": '[{"name": "x"}]'},
        {"GATEWAY_USE_CASES": '[{"name": "x", "prompt": "p", "other": "o"}]'},
        {"GATEWAY_USE_CASES": '[{"name": "x", "prompt": "p"}, {"name": "x", "prompt": "q"}]'},
        {"GATEWAY_POLICY_URL": "javascript:alert(1)"},
    ],
)
def test_what_the_page_cannot_be_set_to_is_a_fault(given: dict[str, str]) -> None:
    [name] = given
    with pytest.raises(SettingsError) as raised:
        load({"HOME": "/x", **given})
    assert name in raised.value.faults[0]
