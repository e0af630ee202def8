"""`/docs` in a browser: Swagger UI under the page's policy, without requests to other hosts."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.edge.http.app_keys import PAGE
from gateway.edge.ops import docs, health, page
from gateway.edge.ops.openapi import document
from tests.page.browser_checks import expect
from tests.page.static_server import STATIC

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

# All tests share one browser, and therefore one event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def opened(browser: Browser, prefix: str = "", fragment: str = "", **options: Any) -> AsyncIterator[Page]:
    """The open docs. Fails at the end if there was a warning or a request to another host."""
    problems: list[str] = []
    hosts: set[str | None] = set()
    app = web.Application()
    app[PAGE] = STATIC
    app.router.add_get(f"{prefix}/docs", docs.page)
    app.router.add_get(f"{prefix}/openapi.json", docs.openapi)
    app.router.add_get(f"{prefix}/healthz", health.healthz)
    app.router.add_get(f"{prefix}/static/{{path:.+}}", page.asset)
    async with TestServer(app) as server:
        context = await browser.new_context(**options)
        shown = await context.new_page()
        shown.set_default_timeout(20_000)
        shown.on("pageerror", lambda fault: problems.append(str(fault)))
        shown.on("console", lambda line: problems.append(line.text) if line.type in ("error", "warning") else None)
        shown.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
        await shown.goto(f"{server.make_url(prefix)}/docs{fragment}")
        await shown.wait_for_selector(".opblock")
        yield shown
        await context.close()
    assert problems == []
    assert hosts == {"127.0.0.1"}


async def becomes(shown: Page, colour: str) -> None:
    """Waits for the background, which follows the system's theme with a delay."""
    await expect(shown.locator("body")).to_have_css("background-color", colour)


async def test_every_operation_is_shown(browser: Browser) -> None:
    async with opened(browser) as shown:
        assert await shown.title() == "API · LLM gateway"
        wanted = sum("operationId" in each for item in document()["paths"].values() for each in item.values())
        await expect(shown.locator(".opblock")).to_have_count(wanted)
        await expect(shown.locator(".errors-wrapper")).to_have_count(0)


@pytest.mark.parametrize("prefix", ["", "/behind/a/proxy"])
async def test_an_operation_can_be_tried_also_behind_a_path_prefix(browser: Browser, prefix: str) -> None:
    async with opened(browser, prefix, fragment="#/Health/isAlive") as shown:
        operation = shown.locator("#operations-Health-isAlive")
        await operation.locator(".execute").click()
        answer = operation.locator(".live-responses-table")
        await expect(answer.locator(".response-col_status").last).to_have_text("200")
        await expect(answer).to_contain_text('"status": "ok"')


async def test_a_typed_key_is_not_stored(browser: Browser) -> None:
    async with opened(browser) as shown:
        await shown.locator(".auth-wrapper .authorize").click()
        await shown.get_by_label("auth-bearer-value").fill("sk-gw-secret")
        await shown.locator(".auth-btn-wrapper .authorize").first.click()
        stored = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
        assert "secret" not in await shown.evaluate(stored)


async def test_the_theme_follows_the_system(browser: Browser) -> None:
    async with opened(browser, color_scheme="dark") as shown:
        await becomes(shown, "rgb(28, 32, 34)")
        await shown.emulate_media(color_scheme="light")
        await becomes(shown, "rgb(250, 250, 250)")
